"""INI203: parameter not as the recipe has it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from autoinit.checking._subject import Subject
from autoinit.checking._wording import expression, number
from autoinit.checking.findings import Finding, Severity
from autoinit.checking.rules._lookup import owner, pasted
from autoinit.checking.rules.registry import About, rule
from autoinit.facts import Facts
from autoinit.recipes import Start
from autoinit.recognising.noise import spread
from autoinit.theory.state_spaces import LONGEST, SHORTEST, log_counts

DEFAULT_STD = 1.0
"""Of torch's embeddings."""
_QUIET = ("bias", "norm_gain", "norm_shift", "slope")
"""What moves little: a stray one is worth a line, no more."""


@rule("INI203", "parameter not as the recipe has it", Severity.WARNING, About.START)
def look(subject: Subject) -> Iterator[Finding]:
    """A parameter beside the weights starts otherwise than the declared recipe says.

    ## What it is

    Under `recipe = "gpt2"` or `--recipe gpt2`: embeddings, positions, tokens, bias tables, layer scales, biases, norms
    and slopes whose values are not such as the recipe draws, beyond noise and the tolerance; and weights that the
    recipe sets to zero and that are not. Level warning where the values are what a constructor left: one value
    throughout, or a std of 1; level info for another scale, which may be another version of the recipe, and for biases,
    norms and slopes. Nothing is said where a recipe is only recognised, of frozen parameters, and of biases and norms
    that the recipe leaves at zero and at identity: these are INI201's and INI202's.

    ## Why it matters

    Recipes are written by the names of parameters, and what no name matches stays at torch's default, or at whatever
    its constructor gave: position tables at zero, tokens zeroed after they were drawn, embeddings of std 1 under
    weights of 0.02. No loss curve says so.

    ## Example

        nn.init.trunc_normal_(self.cls_token, std=0.02)
        self.cls_token.data.zero_()                       # in a hook that zeroes what it takes for buffers

    ## What to do

        nn.init.normal_(model.cls_token, std=0.02)
        autoinit(model, recipe="bert")                    # or write all that the recipe speaks of

    ## References

    - `autoinit explain RECIPE`: what each recipe says, and its source
    """
    if subject.published is None or not subject.declared:
        return
    recipe = subject.published.recipe
    for (param, rows), facts in subject.facts.items():
        parameter = subject.parameters.get(param)
        if parameter is None or parameter.is_meta or not parameter.requires_grad or not parameter.numel():
            continue
        if rows and facts.is_weight:  # a rule of scale judges it
            continue
        start = recipe.start(facts)
        if start is None or not _is_ours(facts, start) or not parameter.is_floating_point():
            continue
        values = parameter.detach()
        here = torch.cat([values[begin:end] for begin, end in rows]) if rows else values
        strays = _stray(here.to(torch.float64), start, subject.tolerance)
        if strays:
            yield _finding(subject, facts, start, strays)


def _is_ours(facts: Facts, start: Start) -> bool:
    """Whether no other rule judges it: weights by scale, and the usual starts of biases and norms."""
    if facts.is_weight:
        return start.distribution == "constant"
    usual = facts.kind == "bias" or facts.kind in ("norm_gain", "norm_shift")
    return not (usual and start.distribution == "constant" and start.mean == facts.neutral)


def _stray(values: torch.Tensor, start: Start, tolerance: float) -> str:
    """What the values are, where they are not such as the recipe draws; rows of zeros, as of padding, do not count."""
    expected = _certain(values, start)
    if expected is not None:
        return "" if bool(torch.isclose(values, expected, rtol=1e-5, atol=1e-7).all()) else _told(values)
    if values.dim() > 1 and start.mean == 0:
        rows = values.flatten(1)
        values = rows[rows.any(1)] if bool(rows.any()) else rows
    actual = float((values - start.mean).square().mean().sqrt())
    less, more = spread(values.numel())
    fits = start.std * less / (1 + tolerance) <= actual <= start.std * more * (1 + tolerance)
    return "" if fits else _told(values)


def _certain(values: torch.Tensor, start: Start) -> torch.Tensor | None:
    """What the values must be where none is drawn."""
    if start.distribution == "constant":
        return torch.full_like(values, start.mean)
    return values.new_tensor(log_counts(values.shape[-1])) if start.distribution == "log_counts" else None


def _told(values: torch.Tensor) -> str:
    if bool((values == values.flatten()[0]).all()):
        return f"is {number(float(values.flatten()[0]))} throughout"
    return f"has mean {number(float(values.mean()))} and std {number(float(values.std(correction=0)))}"


def _finding(subject: Subject, facts: Facts, start: Start, strays: str) -> Finding:
    assert subject.published is not None
    param = facts.param
    layer, fix, origin = owner(subject, param), _fix(param, start, facts), subject.origin(param)
    return Finding(
        code="INI203",
        severity=Severity.WARNING if _is_left(subject, facts) else Severity.INFO,
        layer=layer,
        param=param,
        message=(
            f"{layer}: {param} ({facts.kind.replace('_', ' ')}) {strays}, expected {start} by the recipe "
            f"{subject.published.name}. Set: {pasted(fix)}"
        ),
        expected_std=start.std,
        recipe=str(origin) if origin is not None else "",
        fix=fix,
        location=subject.location(param),
    )


def _is_left(subject: Subject, facts: Facts) -> bool:
    """Whether the values are what a constructor left: one throughout, or torch's default of embeddings."""
    values = subject.parameters[facts.param].detach().to(torch.float64)
    std = float(values.std(correction=0))
    return facts.kind not in _QUIET and (std == 0 or math.isclose(std, DEFAULT_STD, rel_tol=0.05))


def _fix(param: str, start: Start, facts: Facts) -> str:
    target = expression(param)
    if start.distribution == "log_counts":
        return f"{target}.data.copy_(torch.arange(1, {facts.shape[-1] + 1}).log())"
    if start.distribution == "step_bias":
        least, most = math.log(SHORTEST), math.log(LONGEST)
        return f"{target}.data.uniform_({least:.4g}, {most:.4g}).exp_().expm1_().log_()"
    if start.distribution == "constant":
        return f"nn.init.constant_({target}, {start.mean:g})"
    if start.distribution == "uniform":
        bound = math.sqrt(3) * start.std
        return f"nn.init.uniform_({target}, {-bound:.4g}, {bound:.4g})"
    return f"nn.init.normal_({target}, mean={start.mean:g}, std={start.std:.4g})"
