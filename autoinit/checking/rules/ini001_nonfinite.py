"""INI001: non-finite weight."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from autoinit.checking._subject import Subject
from autoinit.checking._wording import expression
from autoinit.checking.findings import Finding, Severity
from autoinit.checking.rules._lookup import all_stats, anew, buffers, owner, pasted
from autoinit.checking.rules.ini002_uninitialised import extreme
from autoinit.checking.rules.registry import About, rule
from autoinit.tensors.measuring import WeightStats, weight_stats


@rule("INI001", "non-finite weight", Severity.ERROR, About.VALUES, undrawn=True, echoes=True, alone=Severity.ERROR)
def look(subject: Subject) -> Iterator[Finding]:
    """A parameter, or a norm's running statistic, holds NaN or infinity.

    ## What it is

    Weights, biases, norm gains, embeddings and every other floating-point parameter are looked at as the forward
    reads them, and so are `running_mean` and `running_var`. Elements that are NaN or infinite are counted.

    ## Why it matters

    One NaN makes every output that depends on it NaN, and the first backward pass carries it to every parameter
    before it. Training does not recover. The usual causes: memory that was allocated and never written; a weight_norm
    whose direction is zero (0 / 0); a std computed as `1 / sqrt(0)`; a value beyond 65504 cast to float16.

    ## Example

        layer = nn.Linear(512, 512, device="meta")
        layer = layer.to_empty(device="cpu")        # whatever the memory held, NaN patterns included

    ## What to do

        layer = layer.to_empty(device="cpu")
        layer.reset_parameters()                    # or, for a whole model: autoinit(model)

    ## References

    - torch.nn.Module.to_empty: "moves the parameters and buffers to the specified device without copying storage",
      https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html
    - huggingface/transformers#35437: missing weights left uninitialised
    """
    for param, stats in all_stats(subject):
        if stats.nonfinite:
            yield _finding(subject, param, stats, anew(subject, param))
    for name, buffer in buffers(subject, "running_mean", "running_var"):
        found = weight_stats(buffer)
        if found is not None and found.nonfinite:
            path = name.rpartition(".")[0]
            yield _finding(subject, name, found, f"{expression(path)}.reset_running_stats()", path)


def _finding(subject: Subject, param: str, stats: WeightStats, fix: str, layer: str = "") -> Finding:
    layer = layer or owner(subject, param)
    remark = ""
    if (why := extreme(stats)) is not None:
        remark = f" The finite rest looks like uninitialised memory: {why}."
    return Finding(
        code="INI001",
        severity=Severity.ERROR,
        layer=layer,
        param=param,
        message=(
            f"{layer}: {stats.nonfinite} of {stats.numel} elements of {param} are {_kinds(subject, param)}, "
            f"expected none: every output that depends on them is NaN, and so is every gradient.{remark} Write "
            f"it anew: {pasted(fix)}"
        ),
        fix=fix,
        location=subject.location(param),
    )


def _kinds(subject: Subject, param: str) -> str:
    """What the elements are: the parameter may itself be finite and its effective weight not."""
    tensor = subject.parameters.get(param)
    if tensor is None:
        return "NaN or infinite"
    nans, infinite = int(torch.isnan(tensor).sum()), int(torch.isinf(tensor).sum())
    if nans and infinite:
        return f"not finite ({nans} NaN, {infinite} infinite)"
    if nans or infinite:
        return "NaN" if nans else "infinite"
    return "NaN or infinite as the forward reads it"
