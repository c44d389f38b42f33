"""What several rules ask about a parameter: whose it is, what made it, and how to draw it anew."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

from autoinit.checking._subject import Subject
from autoinit.checking._wording import expression, initialise, number, quoted
from autoinit.checking.findings import Finding, Severity
from autoinit.plans.layers import LayerPlan
from autoinit.recognising.recognition import recognise
from autoinit.resolving.resolver import layer_name
from autoinit.tensors.measuring import WeightStats

COPYING = frozenset({"copy_", "load_state_dict"})
"""Functions that give a parameter values from elsewhere."""
ALLOCATING = frozenset({"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "to_empty"})
"""Functions that give a parameter memory and no values."""


def owner(subject: Subject, param: str) -> str:
    """The layer that a finding about a parameter goes under.

    That is the layer of the plan whose weight or bias it is, the module of a norm, or the parameter's own name, less a
    trailing `.weight`.
    """
    for layer in subject.plan.layers:
        if param == layer.param or param in layer.biases:
            return layer.name
    if any(op.role.value == "norm" for op, _ in subject.uses.get(param, ())):
        return param.rpartition(".")[0] or param
    return layer_name(param)


def written_by(subject: Subject, param: str) -> str:
    """The bare name of the function that gave a parameter its values; empty if that was not recorded.

    Empty too where something changed them in place afterwards.
    """
    origin = subject.origin(param)
    return origin.function.rpartition(".")[2] if origin is not None and not origin.then else ""


def recipe(subject: Subject, layer: LayerPlan) -> str:
    """What produced a weight: as recorded, else as its values tell."""
    origin = subject.origin(layer.param)
    return str(origin) if origin is not None else str(recognise(subject.portraits[layer.name], layer))


def of_weight(subject: Subject, layer: LayerPlan, code: str, message: str, fix: str, actual: float) -> Finding:
    """An error about the values of a layer's weight, whose std is `actual`."""
    return Finding(
        code=code,
        severity=Severity.ERROR,
        layer=layer.name,
        param=layer.param,
        message=message,
        expected_std=None if math.isnan(layer.std) else layer.std,
        actual_std=actual,
        recipe=recipe(subject, layer),
        fix=fix,
        location=subject.location(layer.param, layer.source),
    )


def independent(layer: LayerPlan, what: str = "values") -> str:
    """`independent values of std 0.05`; without a model no std is known."""
    return f"independent {what}" + ("" if math.isnan(layer.std) else f" of std {number(layer.std)}")


def redraw(subject: Subject, layer: LayerPlan) -> str:
    """A line of code that draws a weight anew."""
    part = next((part for part in subject.parts if part.layer is layer), None)
    return initialise(subject, part) if part is not None else f"autoinit(model, only={quoted(layer.name)})"


def anew(subject: Subject, param: str) -> str:
    """A line of code that writes any parameter: weights as planned, norms as the identity, the rest as is usual."""
    target = expression(param)
    for layer in subject.plan.layers:
        if param == layer.param:
            return redraw(subject, layer)
        if param in layer.biases:
            return f"nn.init.zeros_({target})"
    norms = [slot for op, slot in subject.uses.get(param, ()) if op.role.value == "norm"]
    if norms:
        return f"nn.init.{'ones' if 'weight' in norms else 'zeros'}_({target})"
    if subject.parameters[param].dim() < 2:
        factor = any(op.op == "mul" for op, _ in subject.uses.get(param, ()))
        return f"nn.init.{'ones' if factor else 'zeros'}_({target})"
    return f"nn.init.normal_({target}, std=0.02)"


def trainable(layer: LayerPlan) -> bool:
    """Whether a weight takes part in training, so that how it starts matters."""
    return layer.status in ("planned", "unresolved")


def all_stats(subject: Subject) -> Iterator[tuple[str, WeightStats]]:
    """(parameter, statistics) of every parameter with values: of weights as the forward reads them."""
    layers = {layer.param: layer.name for layer in subject.plan.layers}
    for param in subject.parameters:
        if param in subject.other_stats:
            yield param, subject.other_stats[param]
        elif layers.get(param) in subject.portraits:
            yield param, subject.portraits[layers[param]].stats


def buffers(subject: Subject, *leaves: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Floating-point buffers with values whose last name is one of these."""
    for name, buffer in subject.view.buffers.items():
        if name.rpartition(".")[2] in leaves and not buffer.is_meta:
            yield name, buffer


def pasted(fix: str) -> str:
    """Code inside a message; of several lines, where to find them."""
    return "as below." if "\n" in fix else f"`{fix}`."


def listed(names: Sequence[str], most: int = 3) -> str:
    """`a, b, c and 4 more`."""
    text = ", ".join(names[:most])
    return f"{text} and {len(names) - most} more" if len(names) > most else text
