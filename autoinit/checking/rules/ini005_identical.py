"""INI005: layers bit-identical."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from autoinit.checking._subject import Subject
from autoinit.checking._wording import quoted
from autoinit.checking.findings import Finding, Severity
from autoinit.checking.rules._chance import NEVER, coincidence, grain, repetition
from autoinit.checking.rules._lookup import COPYING, independent, listed, of_weight, pasted, trainable, written_by
from autoinit.checking.rules.registry import About, rule
from autoinit.plans.layers import LayerPlan

SAMPLE = 4096
"""Elements that are looked at to tell random values from a pattern."""
FEWEST = 8
"""A weight with fewer elements that are not zero cannot be told apart from a pattern."""


@rule("INI005", "layers bit-identical", Severity.ERROR, About.VALUES, alone=Severity.WARNING)
def look(subject: Subject) -> Iterator[Finding]:
    """Two layers that should have been drawn apart start with the same values, bit for bit.

    ## What it is

    Weights of different layers (not tied: different parameters) that are equal in every bit, or copies inside one
    stacked weight (experts, ensemble members) that are. Zeros, constants, the identity and deterministic patterns
    (interpolation kernels, Fourier features) may repeat, and so may a frozen copy (a momentum encoder, an EMA
    teacher). A copy that the record shows to be written by `copy_` or `load_state_dict` is deliberate: level info.

    ## Why it matters

    `copy.deepcopy` copies values. Members of an ensemble that start equal and see the same data stay equal: one
    model at several times the price. Experts that start equal differ only by what the router sends them. Twin
    critics that start equal give no minimum to take. Layers in series are not independent, as every formula for
    their scale assumes.

    ## Example

        layer = nn.TransformerEncoderLayer(d_model=512, nhead=8)
        encoder = nn.TransformerEncoder(layer, num_layers=6)         # six deep copies of one draw
        ensemble = nn.ModuleList(copy.deepcopy(net) for _ in range(5))

    ## What to do

        autoinit(model)                                              # draws every weight by its own name
        ensemble = nn.ModuleList(make_net() for _ in range(5))       # or build each one

    ## References

    - pytorch/pytorch#72253, pytorch/pytorch#86274: nn.TransformerEncoder's layers start identical
    - cares_reinforcement_learning#223: ensemble members start identical
    - Lakshminarayanan et al. 2017, "Simple and scalable predictive uncertainty estimation using deep ensembles",
      arXiv:1612.01474: random initialisation is what makes the members differ
    """
    for group in _groups(subject):
        yield _layers(subject, group)
    for layer in subject.plan.layers:
        if trainable(layer) and layer.name in subject.portraits and "b" in layer.axes:
            same = _identical_copies(subject, layer)
            if len(same) > 1:
                yield _copies(subject, layer, same)


def _groups(subject: Subject) -> Iterator[list[LayerPlan]]:
    """Trainable layers, in order, whose weights are equal and drawn at random."""
    equal: dict[tuple[object, ...], list[LayerPlan]] = {}
    for layer in subject.plan.layers:
        if trainable(layer) and layer.name in subject.portraits:
            portrait = subject.portraits[layer.name]
            sums = (layer.shape, portrait.stats.minimum, portrait.stats.maximum)
            equal.setdefault(sums, []).append(layer)
    for group in equal.values():
        group = _apart(subject, group) if len(group) > 1 else group
        if len(group) > 1 and _drawn(subject, group[0], len(group)):
            yield group


def _apart(subject: Subject, group: Sequence[LayerPlan]) -> list[LayerPlan]:
    """Those equal to the first in every bit, each memory once: parameters that share one are tied."""
    tensors = {layer.name: subject.parameters[layer.param].detach() for layer in group}
    distinct = {tensors[layer.name].data_ptr(): layer for layer in reversed(group)}
    first = tensors[group[0].name]
    return [
        layer
        for layer in group
        if distinct[tensors[layer.name].data_ptr()] is layer and torch.equal(tensors[layer.name], first)
    ]


def _drawn(subject: Subject, layer: LayerPlan, number_alike: int) -> bool:
    """Whether a weight's values are random ones, of which chance gives no second set."""
    portrait = subject.portraits[layer.name]
    if portrait.stats.nonfinite or portrait.stats.minimum == portrait.stats.maximum or portrait.identity:
        return False
    values = subject.parameters[layer.param].detach().flatten()
    values = values[:: max(1, values.numel() // SAMPLE)]
    return _random(values, number_alike)


def _random(values: torch.Tensor, number_alike: int) -> bool:
    """Whether values (less zeros) repeat no more than random ones of their precision, and too many for chance."""
    values = values[values != 0]
    size = values.numel()
    if size < FEWEST:
        return False
    pairs = size * (size - 1) / 2
    patterned = repetition(values.abs()) > 4 * grain(values) + 4 / pairs
    return not patterned and coincidence(values, math.comb(number_alike, 2)) < NEVER


def _identical_copies(subject: Subject, layer: LayerPlan) -> list[int]:
    """Copies along the `b` axes that are equal to the first of the twins, it included."""
    portrait = subject.portraits[layer.name]
    outputs = portrait.power.shape[1]
    across = [(one, other) for one, other in portrait.twins if one // outputs != other // outputs]
    first = next((one // outputs for one, other in across if one % outputs == other % outputs), None)
    if first is None:
        return []
    copies = _stacked(subject.parameters[layer.param].detach(), layer.axes)
    if not _random(copies[first].flatten()[:SAMPLE], len(copies)):
        return []
    return [number for number, copy in enumerate(copies) if torch.equal(copy, copies[first])]


def _stacked(weight: torch.Tensor, axes: str) -> torch.Tensor:
    """The weight with its copies on the first axis."""
    order = sorted(range(len(axes)), key=lambda axis: axes[axis] != "b")
    return weight.permute(order).flatten(0, axes.count("b") - 1)


def _layers(subject: Subject, group: Sequence[LayerPlan]) -> Finding:
    first, second, *rest = group
    copied = next((function for each in group if (function := written_by(subject, each.param)) in COPYING), "")
    names = ", ".join(quoted(each.name) for each in group[1:])
    fix = f"autoinit(model, only={f'[{names}]' if rest else names})"
    more = f", and so {_are(rest)} {listed([each.name for each in rest])}" if rest else ""
    advice = (
        f"{copied} wrote it, so it may be meant; if it is not, draw them apart: {pasted(fix)}"
        if copied
        else f"copies of one draw learn the same where they see the same, and in series they are not the independent "
        f"layers that scales are planned for. Call reset_parameters() on each, build each anew, or: {pasted(fix)}"
    )
    message = (
        f"{second.name}: bit-identical to {first.name}{more} ({len(group)} weights of shape "
        f"{tuple(second.shape)}), expected {independent(second, 'draws')}: {advice}"
    )
    found = of_weight(subject, second, "INI005", message, fix, subject.portraits[second.name].rms())
    return replace(found, severity=Severity.INFO) if copied else found


def _are(rest: Sequence[LayerPlan]) -> str:
    return "are" if len(rest) > 1 else "is"


def _copies(subject: Subject, layer: LayerPlan, same: Sequence[int]) -> Finding:
    fix, total = f"autoinit(model, only={quoted(layer.name)})", layer.size("b")
    message = (
        f"{layer.name}: copies {listed([str(each) for each in same])} of the {total} in {layer.param} are "
        f"bit-identical, expected {independent(layer, 'draws')}: experts or members that start "
        f"equal learn the same. Draw them apart: {pasted(fix)}"
    )
    return of_weight(subject, layer, "INI005", message, fix, subject.portraits[layer.name].rms())
