"""INI006: outliers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from autoinit.checking._subject import Subject
from autoinit.checking._wording import number
from autoinit.checking.findings import Finding, Severity
from autoinit.checking.rules._lookup import all_stats, anew, owner, pasted, written_by
from autoinit.checking.rules.ini002_uninitialised import extreme
from autoinit.checking.rules.registry import About, rule
from autoinit.tensors.measuring import WeightStats

FACTOR = 2.0
"""So many times the largest magnitude of independent normal numbers is no accident: it is below once in n^3 draws."""
FEWEST = 256
"""Elements, of which fewer say nothing."""
LONGEST_ROW = 32
"""Elements from which on a row's own median tells its scale."""
TO_SIGMA = 0.67449
"""The median magnitude of N(0, 1)."""
CUTTING = ("trunc_normal_", "clamp_", "clamp")


@dataclass(frozen=True)
class _Outliers:
    """Elements far beyond the others.

    Attributes:
        count: how many.
        total: elements.
        peak: the largest magnitude.
        sigma: the scale of the others.
        bounds: the values that all of them share; empty where they differ.
    """

    count: int
    total: int
    peak: float
    sigma: float
    bounds: tuple[float, ...]


@rule("INI006", "outliers", Severity.WARNING, About.VALUES, alone=Severity.WARNING)
def look(subject: Subject) -> Iterator[Finding]:
    """A few elements are far beyond what the distribution of the others can give.

    ## What it is

    The largest of n independent normal numbers is about sigma sqrt(2 ln n), 5.3 sigma for a million; of uniform or
    truncated ones it is less. Elements beyond twice that are named, with sigma taken from the median magnitude of the
    whole, of their row and of their column, so that rows of another scale are no outliers. Parameters of two or more
    axes and at least 256 elements, fresh from their initialisation; training makes outliers of its own. Of mirrored
    weights (`autoinit explain mirrored`) most elements are zero by design, and none is named.

    ## Why it matters

    One weight at 100 sigma outweighs the thousand others of its neuron: the unit reads one input alone. Norms hide it
    from the mean, weight decay takes thousands of steps to remove it, and in low precision there are many: `torch`'s
    old `trunc_normal_`, kept in timm, draws by the inverse of the error function, which is infinite where the uniform
    number is rounded to the end of its interval, and clamps what comes out to the absolute bounds of -2 and 2. In
    bfloat16 that is one element in five hundred.

    ## Example

        timm.layers.trunc_normal_(weight, std=0.02)                  # three of 28 million at -2.0; in bfloat16 0.2 %

    ## What to do

        nn.init.trunc_normal_(weight, std=0.02, a=-0.04, b=0.04)     # bounds in sigma; torch redraws since 2.13
        autoinit(model, recipe="trunc_normal(0.02)")                 # or draw in float32, then cast

    ## References

    - pytorch/pytorch#145498, pytorch/torchtitan#2269: values pile up at the bound in bfloat16
    - huggingface/pytorch-image-models#1286: the bounds are absolute, not in sigma
    """
    mirrored = {layer.param for layer in subject.plan.layers if layer.mirror is not None}
    for param, stats in all_stats(subject):
        parameter = subject.parameters[param]
        if (
            param in mirrored
            or parameter.dim() < 2
            or stats.numel < FEWEST
            or stats.nonfinite
            or parameter.is_meta
            or extreme(stats)
        ):
            continue
        if max(-stats.minimum, stats.maximum) > _limit(stats.numel) * math.hypot(stats.std, stats.mean):
            found = _outliers(parameter.detach())
            if found is not None:
                yield _finding(subject, param, found, stats)


def _limit(count: int) -> float:
    return FACTOR * math.sqrt(2 * math.log(count))


def _outliers(weight: torch.Tensor) -> _Outliers | None:
    """The elements beyond the limit in the whole, in their row and in their column; None if there are none."""
    matrix = weight.flatten(1).to("cpu", torch.float32)
    magnitudes = matrix.abs()
    filled = magnitudes[magnitudes > 0]
    if not filled.numel():
        return None
    sigma = float(filled.median()) / TO_SIGMA
    limit = _limit(matrix.numel())
    beyond = magnitudes > limit * sigma
    for axis in (0, 1):
        if matrix.shape[1 - axis] >= LONGEST_ROW:
            beyond &= magnitudes > limit / TO_SIGMA * magnitudes.median(1 - axis, keepdim=True).values
    values = matrix[beyond]
    if not values.numel():
        return None
    shared = torch.unique(values)
    bounds = tuple(shared.tolist()) if len(shared) <= 2 and len(torch.unique(shared.abs())) == 1 else ()
    return _Outliers(values.numel(), matrix.numel(), float(values.abs().max()), sigma, bounds)


def _finding(subject: Subject, param: str, found: _Outliers, stats: WeightStats) -> Finding:
    layer, fix = owner(subject, param), anew(subject, param)
    many = f"{found.count} of {found.total} elements" if found.count > 1 else f"one of {found.total} elements"
    expected = number(found.sigma * math.sqrt(2 * math.log(found.total)))
    origin = subject.origin(param)
    return Finding(
        code="INI006",
        severity=Severity.WARNING,
        layer=layer,
        param=param,
        message=(
            f"{layer}: {param} has {many} up to {number(found.peak)}, {number(found.peak / found.sigma)} times the "
            f"sigma of the others ({number(found.sigma)}); expected none beyond about {expected}. "
            f"{_cause(subject, param, found)} Draw it anew: {pasted(fix)}"
        ),
        expected_std=found.sigma,
        actual_std=stats.std,
        recipe=str(origin) if origin is not None else "",
        fix=fix,
        location=subject.location(param),
    )


def _cause(subject: Subject, param: str, found: _Outliers) -> str:
    """What made them: as recorded, or as their common value tells."""
    function = written_by(subject, param)
    bounds = " and ".join(number(each) for each in found.bounds)
    if found.bounds and (function in CUTTING or not function):
        recorded = f"{function} has written it, and all" if function else "All"
        return (
            f"{recorded} of them are {bounds}: a bound, to which draws are clamped that are infinite for want of "
            f"precision, as in timm's trunc_normal_."
        )
    return f"{function} has written it." if function else "They may come from a spoilt file or a stray write."
