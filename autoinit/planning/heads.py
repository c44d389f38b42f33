"""`with_heads`: a plan whose heads start smaller than their place calls for, or at zero.

What a head gives goes on inside the model where it is the mean or the scale of a draw. Methods that follow the signal
ask `head_factors`, so that what reads the draw is planned for heads as they will be.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from math import isclose
from typing import TYPE_CHECKING

from autoinit.facts import head_rows, looked_up
from autoinit.facts.parameter import Rows
from autoinit.plans.layers import LayerPlan, root_mean_square
from autoinit.plans.options import HEAD_FACTORS, Heads
from autoinit.resolving import resolve

if TYPE_CHECKING:
    from autoinit.plans.plan import Plan
    from autoinit.tracing.dataflow import Dataflow


def with_heads(plan: Plan, dataflow: Dataflow, heads: Heads) -> Plan:
    """The plan, its heads scaled. Whatever method found the stds, nothing else of it changes.

    A head that is an embedding's table too is left, and so is one whose scale no value can change (spectral_norm); a
    parametrised weight, whose direction at zero is undefined, is scaled in place of zero. Their notes say so.

    Args:
        plan: of the dataflow.
        dataflow: of the model.
        heads: how heads start.
    """
    if heads == "xavier":
        return plan
    found = head_rows(dataflow, resolve(dataflow))
    tables = looked_up(dataflow)
    layers = tuple(
        _scaled(layer, found[layer.param], heads, tied=layer.param in tables)
        if layer.param in found and layer.status == "planned"
        else layer
        for layer in plan.layers
    )
    notes = plan.notes
    if not any(layer.param in found for layer in plan.layers):
        notes = (*notes, f"heads={heads!r} found no head: no weight is the last on its way to an output or a loss")
    return replace(plan, layers=layers, heads=heads, notes=notes)


def head_factors(plan: Plan, dataflow: Dataflow, heads: Heads) -> dict[str, Mapping[Rows, float]]:
    """By parameter and rows, by what `with_heads` will multiply a plan's stds; `()` stands for all rows."""
    found: dict[str, Mapping[Rows, float]] = {}
    for before, after in zip(plan.layers, with_heads(plan, dataflow, heads).layers, strict=True):
        if not before.std:
            continue
        factors = {one.rows: two.std / one.std for one, two in zip(before.slices, after.slices, strict=True)}
        alike = all(isclose(each, after.std / before.std) for each in factors.values())
        if before.std != after.std:
            found[before.param] = {(): after.std / before.std} if alike else factors
    return found


def _scaled(layer: LayerPlan, rows: Collection[Rows], heads: Heads, *, tied: bool) -> LayerPlan:
    """A head's layer; `rows` are those of the head."""
    whole = () in rows or all(part.rows in rows for part in layer.slices)
    if left := _left(layer, tied=tied, whole=whole):
        return _noted(layer, f"a head, {left}: its std is left")
    factor, instead = HEAD_FACTORS[heads], ""
    if factor == 0 and layer.reparam:
        factor, instead = HEAD_FACTORS["small"], f", since {layer.reparam} has no zero"
    parts = tuple(replace(part, std=part.std * factor) if whole or part.rows in rows else part for part in layer.slices)
    std = layer.std * factor if whole else root_mean_square(parts)
    where = "" if whole else f", in {len(rows)} of its {len(parts)} parts"
    made = replace(layer, slices=parts, std=std)
    if whole and factor == 0:
        made = replace(made, distribution="constant", mirror=None)
    elif layer.mirror is not None:
        made = replace(made, mirror=replace(layer.mirror, scale=layer.mirror.scale * factor))
    return _noted(made, f"a head: {f'std / {1 / factor:g}' if factor else 'starts at zero'}{instead}{where}")


def _left(layer: LayerPlan, *, tied: bool, whole: bool) -> str:
    """Why a head is not scaled; empty if it is."""
    if tied:
        return "and an embedding's table"
    if layer.reparam == "spectral_norm":
        return "whose scale spectral_norm fixes"
    return "" if whole or layer.mirror is None else "mirrored together with rows that are none"


def _noted(layer: LayerPlan, note: str) -> LayerPlan:
    return replace(layer, note="; ".join(filter(None, (layer.note, note))))
