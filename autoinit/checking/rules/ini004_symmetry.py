"""INI004: unbroken symmetry."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from autoinit.checking._in_use import mixed_weights, shifts
from autoinit.checking._subject import Subject
from autoinit.checking._wording import number
from autoinit.checking.findings import Finding, Severity
from autoinit.checking.rules._chance import NEVER, coincidence
from autoinit.checking.rules._lookup import independent, listed, of_weight, pasted, redraw, trainable
from autoinit.checking.rules.ini201_bias import default_bound
from autoinit.checking.rules.registry import About, rule
from autoinit.ops import Trait
from autoinit.plans.layers import LayerPlan
from autoinit.recognising.alone import EMBEDDING

ROUNDING = 1.005
"""By how much dtypes may round a bound up."""


@rule("INI004", "unbroken symmetry", Severity.ERROR, About.VALUES, undrawn=True, alone=Severity.WARNING)
def look(subject: Subject) -> Iterator[Finding]:
    """Several outputs of one layer start with the same weights on the same inputs.

    ## What it is

    A weight whose elements all have one value other than zero, or one that holds bit-identical filters: rows that see
    the same inputs and compute the same number. Equality that chance can explain (short rows, coarse dtypes) does not
    count, and neither do zeros, layers with one output per group (depthwise convolutions), filters that pixel shuffle
    interleaves (ICNR), tables that are embeddings too, and frozen weights. Nor does a constant weight in an output
    layer or beside distinct biases that are not torch's default, or one that is mixed with others (NoisyLinear).

    ## Why it matters

    Identical units receive identical inputs, and where what they feed is alike too, identical gradients: they stay
    one unit. A constant weight has rank one: it passes a single feature on, however wide the layer is. Random
    weights exist to break this symmetry.

    ## Example

        nn.init.constant_(layer.weight, 0.01)
        conv.weight.data[:] = conv.weight.data[0]

    ## What to do

        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")   # or: autoinit(model)

    ## References

    - Goodfellow, Bengio & Courville 2016, *Deep Learning*, section 8.4: initial parameters must break symmetry
      between units
    - Aitken et al. 2017, "Checkerboard artifact free sub-pixel convolution", arXiv:1707.02937 (ICNR, the exception)
    """
    for layer in subject.plan.layers:
        if not trainable(layer) or layer.name not in subject.portraits:
            continue
        stats = subject.portraits[layer.name].stats
        alike = _outputs_alike(subject, layer)
        if stats.nonfinite or alike < 2:
            continue
        if stats.minimum == stats.maximum:
            if stats.maximum != 0 and not (_is_output(subject, layer) or _tells_apart(subject, layer)):
                yield _constant(subject, layer, alike)
        elif pairs := tuple(_twins(subject, layer)):
            yield _identical(subject, layer, pairs)


def _outputs_alike(subject: Subject, layer: LayerPlan) -> int:
    """How many outputs of one copy see the same inputs."""
    layout = subject.resolutions[layer.name].layout
    outputs = layer.size("o")
    return outputs if layout.transposed else outputs // layout.groups


def _is_output(subject: Subject, layer: LayerPlan) -> bool:
    """Whether no weight comes behind: each output has a target, and so a gradient, of its own, as in a head of zeros.

    An operation with several weights (LSTM, attention) has some behind others.
    """
    ops = [subject.dataflow.by_name[name] for name in layer.uses]
    alone = all(sum(use.layout is not None for use in op.params) == 1 for op in ops)
    return bool(ops) and alone and all(name in subject.surroundings["final"] for name in layer.uses)


def _tells_apart(subject: Subject, layer: LayerPlan) -> bool:
    """Whether the outputs of a constant weight differ: by biases set on purpose, or what the weight is mixed with."""
    bound = default_bound(layer) * ROUNDING
    biases = (each for each in shifts(subject, layer) if each.numel() == layer.size("o"))
    if any(float(each.abs().max()) > bound and 2 * torch.unique(each).numel() > each.numel() for each in biases):
        return True
    mixed = list(mixed_weights(subject, layer))
    return bool(mixed) and not any(each is None or _repeats(each) for each in mixed)


def _repeats(weight: torch.Tensor) -> bool:
    """Whether all slices along some axis are equal, as those of a constant weight's outputs are on whichever it is."""
    axes = (axis for axis, size in enumerate(weight.shape) if size > 1)
    return any(bool((weight == weight.narrow(axis, 0, 1)).all()) for axis in axes)


def _twins(subject: Subject, layer: LayerPlan) -> Iterator[tuple[int, int]]:
    """Pairs of outputs (of one copy) that see the same inputs, go the same way, and are equal beyond chance."""
    pairs = subject.portraits[layer.name].twins
    looked_up = any(Trait.LOOKUP in op.traits for op, _ in subject.uses.get(layer.param, ()))
    embedded = looked_up or (not layer.uses and EMBEDDING in layer.note)
    if not pairs or layer.reparam == "parametrized" or embedded:
        return
    alike = _outputs_alike(subject, layer)
    outputs = subject.portraits[layer.name].power.shape[1]
    block, mixed = _interleaved(subject, layer), list(mixed_weights(subject, layer))
    rows = _rows(subject.parameters[layer.param].detach(), layer.axes)
    expected: dict[int, float] = {}
    for one, other in pairs:
        first, second = one % outputs, other % outputs
        if one // outputs != other // outputs or first // alike != second // alike:
            continue
        if _slice_of(layer, first) != _slice_of(layer, second) or (block > 1 and first // block == second // block):
            continue
        if mixed and not any(each is None or _equal_somewhere(each, first, second) for each in mixed):
            continue
        if one not in expected:
            expected[one] = coincidence(rows[one], len(rows) * (alike - 1))
        if expected[one] < NEVER:
            yield first, second


def _equal_somewhere(weight: torch.Tensor, one: int, other: int) -> bool:
    """Whether two slices along some axis are equal: a weight may arrive transposed."""
    axes = (axis for axis, size in enumerate(weight.shape) if size > max(one, other))
    found = [torch.equal(weight.select(axis, one), weight.select(axis, other)) for axis in axes]
    return any(found) or not found


def _rows(weight: torch.Tensor, axes: str) -> torch.Tensor:
    """The weight as (copies and outputs, width)."""
    order = [axis for letter in "boik" for axis, each in enumerate(axes) if each == letter]
    leading = sum(each in "bo" for each in axes)
    turned = weight.permute(order)
    return turned.reshape(math.prod(turned.shape[:leading]), -1)


def _slice_of(layer: LayerPlan, row: int) -> int:
    """The slice of the plan that an output row belongs to."""
    runs = ((number, run) for number, part in enumerate(layer.slices) for run in part.rows)
    return next((number for number, (start, stop) in runs if start <= row < stop), -1)


def _interleaved(subject: Subject, layer: LayerPlan) -> int:
    """How many consecutive outputs pixel shuffle makes one channel of; 1 without it."""
    for name in layer.path:
        op = subject.dataflow.by_name.get(name)
        if op is not None and op.op == "pixel_shuffle":
            return int(op.constants["upscale_factor"]) ** 2
    return 1


def _constant(subject: Subject, layer: LayerPlan, alike: int) -> Finding:
    stats, fix = subject.portraits[layer.name].stats, redraw(subject, layer)
    but = " but for their biases" if any(torch.unique(each).numel() > 1 for each in shifts(subject, layer)) else ""
    message = (
        f"{layer.name}: all {stats.numel} weights are {number(stats.mean)}, expected {independent(layer)}: "
        f"the {alike} outputs that see the same inputs compute the same number{but}, one "
        f"feature in place of {alike}. Draw it: {pasted(fix)}"
    )
    return of_weight(subject, layer, "INI004", message, fix, 0.0)


def _identical(subject: Subject, layer: LayerPlan, pairs: tuple[tuple[int, int], ...]) -> Finding:
    portrait, fix = subject.portraits[layer.name], redraw(subject, layer)
    outputs = listed([f"{one} and {other}" for one, other in pairs])
    message = (
        f"{layer.name}: filters that see the same inputs are bit-identical (outputs {outputs}; {portrait.width} "
        f"weights each), expected {independent(layer)}: they compute the same feature "
        f"twice, and what treats them alike trains them alike. Draw the weight anew: {pasted(fix)}"
    )
    return of_weight(subject, layer, "INI004", message, fix, portrait.rms())
