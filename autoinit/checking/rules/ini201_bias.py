"""INI201: bias not zero."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from autoinit.checking._subject import Subject
from autoinit.checking._wording import expression, number
from autoinit.checking.findings import Finding, Severity
from autoinit.checking.rules._lookup import pasted
from autoinit.checking.rules.ini002_uninitialised import extreme
from autoinit.checking.rules.registry import About, rule
from autoinit.ops import Role, recurrent_gates
from autoinit.plans.layers import LayerPlan

ONE_STD = 1.0
"""The std of a pre-activation of a planned layer, for an input of second moment 1 and no gain."""
NEGLIGIBLE = 1e-4
"""Of one std: biases as small as the N(0, 1e-6) of vision transformers are as good as zero."""
_SETTING = ("sigmoid", "softplus")
"""What gates and rates are made with: a bias sets where they start (chrono initialisation, a state space's step)."""
SIGMAS = 5.0
"""Standard errors within which a root mean square is that of torch's default."""


@dataclass(frozen=True, eq=False)
class _Bias:
    """A bias and the layer whose planned weight it belongs to.

    Attributes:
        rest: its values, less the runs that are a documented prior.
        moving: the largest magnitude of those that move a pre-activation which is to have mean zero.
    """

    layer: LayerPlan
    param: str
    rest: torch.Tensor
    moving: float

    @property
    def peak(self) -> float:
        return float(self.rest.abs().max())

    @property
    def rms(self) -> float:
        return float(self.rest.square().mean().sqrt())

    @property
    def constant(self) -> float | None:
        """The value that all have; None if they differ."""
        value = float(self.rest[0])
        return value if bool((self.rest == self.rest[0]).all()) else None


@rule("INI201", "bias not zero", Severity.INFO, About.START)
def look(subject: Subject) -> Iterator[Finding]:
    """A bias of a layer whose weight is drawn starts elsewhere than at zero.

    ## What it is

    The biases of layers with a trainable, non-zero weight. Level info, and `torch's default` where the values are
    those of U(-1, 1) / sqrt(fan_in). Level warning where a bias moves what the layer gives by more than one standard
    deviation (a value beyond 1), or where a prior for sigmoid sits on an output that has none while the head that
    feeds sigmoid has a zero bias. Output layers may hold priors from data: level info.

    Nothing is said of biases below 1e-4, nor of constant ones on rows that feed sigmoid: the forget gate's 1, a gate's
    opening, a class prior log(pi / (1 - pi)). Biases of norms are INI202's; those of frozen, zero and skipped layers
    are left out.

    ## Why it matters

    Gains are derived for pre-activations of mean zero. A bias of one standard deviation makes most units of a ReLU
    layer always on or always off. A small random bias is harmless, but adds a variance that no formula counts.

    ## Example

        nn.init.constant_(regression_head.bias, -math.log(99))       # meant for the classification head
        nn.init.normal_(layer.bias, std=2.0)

    ## What to do

        nn.init.constant_(classification_head.bias, -math.log(99))   # feeds sigmoid: starts at probability 0.01
        nn.init.zeros_(regression_head.bias)
        nn.init.zeros_(layer.bias)

    ## References

    - He et al. 2015, arXiv:1502.01852: biases start at zero
    - Lin et al. 2017, "Focal loss for dense object detection", arXiv:1708.02002, section 4.1: the prior on the head
    - Jozefowicz et al. 2015, "An empirical exploration of recurrent network architectures": forget gate bias 1
    - Tallec & Ollivier 2018, "Can recurrent neural networks warp time?", arXiv:1804.11188: log-uniform gate biases
    - Srivastava et al. 2015, "Highway networks", arXiv:1505.00387: negative gate biases
    - [torch.nn.Linear](https://pytorch.org/docs/stable/generated/torch.nn.Linear.html): the default
    """
    seen: set[str] = set()
    for layer in subject.plan.layers:
        for param in layer.biases if layer.status == "planned" else ():
            parameter = subject.parameters.get(param)
            if param in seen or parameter is None or not parameter.requires_grad or param not in subject.other_stats:
                continue
            seen.add(param)
            stats = subject.other_stats[param]
            if stats.nonfinite or extreme(stats) or stats.minimum == 0 == stats.maximum:
                continue
            found = _bias(layer, param, parameter)
            if found.rest.numel() and found.peak > NEGLIGIBLE:
                yield _finding(subject, found)


def _bias(layer: LayerPlan, param: str, parameter: torch.Tensor) -> _Bias:
    """The bias, its rows parted by what they feed and less those that are a prior: sigmoid's, of one value."""
    values = parameter.detach().flatten().to("cpu", torch.float64)
    feeding = [(part.rows, part.nonlinearity) for part in layer.slices]
    if not feeding or sum(stop - start for rows, _ in feeding for start, stop in rows) != values.numel():
        feeding = [(((0, values.numel()),), layer.nonlinearity)]
    rest, moving = [values[:0]], 0.0
    for rows, nonlinearity in feeding:
        piece = torch.cat([values[start:stop] for start, stop in rows])
        if nonlinearity != "sigmoid" or bool((piece != piece[0]).any()):
            rest.append(piece)
        if nonlinearity not in _SETTING:
            moving = max(moving, float(piece.abs().max()))
    return _Bias(layer, param, torch.cat(rest), moving)


@dataclass(frozen=True)
class _Verdict:
    """What is to be said of a bias.

    Attributes:
        why: what it does here and what to do.
        recipe: what produced it.
        fix: more lines than writing zeros.
    """

    severity: Severity
    why: str
    recipe: str = ""
    fix: str = ""


def _finding(subject: Subject, bias: _Bias) -> Finding:
    layer, verdict = bias.layer, _verdict(subject, bias)
    fix = f"nn.init.zeros_({expression(bias.param)}){verdict.fix}"
    constant, origin = bias.constant, subject.origin(bias.param)
    value = (
        f"is {number(constant)}"
        if constant is not None
        else f"goes from {number(float(bias.rest.min()))} to {number(float(bias.rest.max()))} (rms {number(bias.rms)})"
    )
    return Finding(
        code="INI201",
        severity=verdict.severity,
        layer=layer.name,
        param=bias.param,
        message=f"{layer.name}: {bias.param} {value}, expected 0: {verdict.why}: {pasted(fix)}",
        expected_std=0.0,
        actual_std=bias.rms,
        recipe=verdict.recipe or (str(origin) if origin is not None else ""),
        fix=fix,
        location=subject.location(bias.param, layer.source),
    )


def _verdict(subject: Subject, bias: _Bias) -> _Verdict:
    bound = default_bound(bias.layer)
    if _is_default(bias, bound):
        why = f"torch's default, within +-{number(bound)}. Small, but no formula counts it. Write zeros"
        return _Verdict(Severity.INFO, why, "uniform(+-1/sqrt(fan_in)), torch's default")
    if bias.layer.reason in ("output", "softmax") or _gives_output(subject, bias.layer):
        return _verdict_on_head(subject, bias)
    if bias.layer.normalised:
        return _Verdict(Severity.INFO, "the norm that follows takes out what it can of it. Write zeros")
    if bias.moving > ONE_STD:
        why = (
            f"it moves the pre-activation, whose planned std is about 1, by up to {number(bias.moving)}, so that units "
            f"start always on, always off or saturated. Write zeros"
        )
        return _Verdict(Severity.WARNING, why)
    if bias.peak > ONE_STD:
        why = "right if it is to set how far gates open or how fast states decay, else write zeros"
        return _Verdict(Severity.INFO, why)
    return _Verdict(Severity.INFO, "less than one std of the pre-activation, but no formula counts it. Write zeros")


def _verdict_on_head(subject: Subject, bias: _Bias) -> _Verdict:
    constant = bias.constant
    if constant is None or constant >= 0:
        return _Verdict(Severity.INFO, "right if it is a prior taken from the data, else an offset to remove")
    prior = number(1 / (1 + math.exp(-constant)))
    head = _unprimed_head(subject, bias.layer) if constant < -ONE_STD else None
    if head is None:
        why = f"right for the logits of classes of probability {prior}, else an offset to remove"
        return _Verdict(Severity.INFO, why)
    why = (
        f"a prior for sigmoid (probability {prior}) belongs on {head.name}, which feeds one and whose bias is 0; this "
        f"output feeds none and starts off by {number(-constant)}. Swap them"
    )
    return _Verdict(Severity.WARNING, why, fix=f"\nnn.init.constant_({expression(head.biases[0])}, {constant:.4g})")


def default_bound(layer: LayerPlan) -> float:
    """The bound of torch's default: 1 / sqrt(fan_in) as torch reads it, 1 / sqrt(hidden) for recurrent layers."""
    if recurrent_gates(layer.op):
        return 1 / math.sqrt(layer.shape[0] // max(1, len(layer.slices)))
    shape = layer.shape[1:] if layer.op != "bilinear" else layer.shape[1:2]
    return 1 / math.sqrt(math.prod(shape))


def _is_default(bias: _Bias, bound: float) -> bool:
    """Whether the values could be uniform draws within the bound; the rms of n has relative error 1 / sqrt(5 n)."""
    size = bias.rest.numel()
    if bias.peak > bound * 1.005 or (bias.constant is not None and size > 1):
        return False
    return abs(bias.rms * math.sqrt(3) / bound - 1) <= SIGMAS / math.sqrt(5 * size)


def _unprimed_head(subject: Subject, but: LayerPlan) -> LayerPlan | None:
    """A layer whose sigmoid is given out and whose bias is zero."""
    for layer in subject.plan.layers:
        stats = [subject.other_stats[each] for each in layer.biases if each in subject.other_stats]
        zero = bool(stats) and all(each.minimum == 0 == each.maximum for each in stats)
        if layer is not but and zero and layer.nonlinearity == "sigmoid" and _gives_output(subject, layer):
            return layer
    return None


def _gives_output(subject: Subject, layer: LayerPlan) -> bool:
    """Whether the nonlinearity that the layer feeds goes on to an output with only transparent operations between."""
    start = subject.dataflow.by_name.get(layer.path[-1]) if layer.reason == "activation" else None
    if start is not None and start.role is Role.WEIGHT:  # a gate inside a recurrent layer
        return False
    waiting = [start] if start is not None else []
    seen = set(waiting)
    while waiting:
        op = waiting.pop()
        if op.ends:
            return True
        if op is start or op.role in (Role.TRANSPARENT, Role.SPLIT):
            unseen = [each for each in subject.dataflow.graph.successors(op) if each not in seen]
            seen.update(unseen)
            waiting += unseen
    return False
