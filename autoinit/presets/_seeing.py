"""What a graph shows of a model, as far as presets ask."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from autoinit.facts import draws
from autoinit.ops import Role, Trait, recurrent_gates
from autoinit.plans.layers import RowsPlan
from autoinit.plans.plan import Plan
from autoinit.resolving import Fed
from autoinit.resolving.residual import streams
from autoinit.theory.layouts import size
from autoinit.tracing.dataflow import Dataflow, Op

SHALLOW = 6
"""Layers: through more of them the library's default loses the signal."""
LARGE = 1 << 22
"""Elements: to draw an orthogonal weight of n x n takes about n^3 operations."""


@dataclass(frozen=True)
class Seen:
    """What a graph shows.

    Attributes:
        norms: whether it has a norm.
        branches: of its longest residual stream; 0 where no stream has two.
        bare: whether a weight gives what is added to a stream with no norm behind it.
        attends: whether it has attention.
        reads_tokens: whether rows of a table are looked up by what it is given.
        gated: whether it has a recurrent layer with gates.
        draws: whether it draws from a Gaussian whose mean or scale its weights give.
        frequency: what multiplies the argument of sin, where most layers feed that; else 0.
        dense: whether it gives as many numbers as it is given, or a map of an image's places.
        full: whether it gives as many numbers as it is given.
        places: whether it gives a map of an image's places.
        fits: whether up to six linear layers in a row give one number of numbers, as in a regression.
        acts: whether one of its outputs is one number and another several, as value and policy of an actor-critic.
        large: whether it has a weight of which an orthogonal one takes long to draw.
    """

    norms: bool = False
    branches: int = 0
    bare: bool = False
    attends: bool = False
    reads_tokens: bool = False
    gated: bool = False
    draws: bool = False
    frequency: float = 0.0
    dense: bool = False
    full: bool = False
    places: bool = False
    fits: bool = False
    acts: bool = False
    large: bool = False


def seen_in(dataflow: Dataflow, plan: Plan) -> Seen:
    """What the dataflow of a model shows.

    plan: by the plain method.
    """
    rows = [part for layer in plan.layers for part in (layer.slices or (layer,))]
    branches = max((len(each.branches) for each in streams(dataflow)), default=0)
    return Seen(
        norms=any(op.role is Role.NORM for op in dataflow.graph.nodes)
        or any(each.normalised for each in rows)
        or any(each.kind == "norm" for each in plan.others),
        branches=branches if branches > 1 else 0,
        bare=any(each.reason == "add" and not each.normalised for each in rows),
        attends=any(each.reason == "attention" for each in rows),
        reads_tokens=any(Trait.LOOKUP in op.traits for op in dataflow.graph.nodes),
        gated=any(recurrent_gates(op.op) > 1 for op in dataflow.graph.nodes),
        draws=draws(dataflow, _fed(plan)),
        frequency=_frequency(rows),
        fits=_fits(plan),
        acts=_acts(plan),
        large=any(math.prod(each.shape) > LARGE for each in plan.layers),
        **_outputs(dataflow, plan),
    )


def _outputs(dataflow: Dataflow, plan: Plan) -> dict[str, bool]:
    """Whether it gives a map or as many numbers as it is given, whether it is the latter, whether it is a map.

    Without shapes: whether a convolution gives its output, which is taken to be as large.
    """
    ends = [op for op in dataflow.graph.nodes if op.ends]
    made = [each.shape for end in ends for each in dataflow.graph.predecessors(end) if each.made and each.shape]
    words = _looked_up(dataflow)
    numbers = [op.shape for op in dataflow.graph.nodes if op.op == "input" and op.shape and op not in words]
    given = max(map(math.prod, numbers), default=math.inf)
    if not made:
        conv = any(each.reason == "output" and "k" in each.axes for each in plan.layers)
        return {"dense": conv, "full": conv, "places": conv}
    full = any(math.prod(each) >= given for each in made)
    places = any(len(each) > 3 and math.prod(each[2:]) > 1 for each in made)
    return {"dense": full or places, "full": full, "places": places}


def _looked_up(dataflow: Dataflow) -> set[Op]:
    """What leads to the rows that are taken of tables, with no weight in between: words, not numbers."""
    lookups = [op for op in dataflow.graph.nodes if Trait.LOOKUP in op.traits]
    found: set[Op] = set()
    while lookups:
        before = {each for each in dataflow.graph.predecessors(lookups.pop()) if not each.made} - found
        found |= before
        lookups += before
    return found


def _acts(plan: Plan) -> bool:
    """Whether linear layers that give one number and several are heads side by side."""
    heads = [each for each in plan.layers if each.reason in ("output", "softmax") and "k" not in each.axes]
    features = {size(each.axes, each.shape, "o") for each in heads}
    return 1 in features and len(features) > 1


def _fits(plan: Plan) -> bool:
    """Whether a few linear layers end in one number, and nothing but activations stands between them."""
    inner = [each for each in plan.layers if each.reason == "activation"]
    ends = [each for each in plan.layers if each.reason == "output"]
    linear = not any("k" in each.axes or each.slices for each in plan.layers)
    alone = len(ends) == 1 and len(inner) == len(plan.layers) - 1
    return linear and alone and len(plan.layers) <= SHALLOW and size(ends[0].axes, ends[0].shape, "o") == 1


def _fed(plan: Plan) -> Iterator[Fed]:
    for layer in plan.layers:
        yield from layer.slices
        for each in layer.alternatives or (layer,):
            yield Fed(each.nonlinearity, reason=each.reason, path=each.path)


def _frequency(rows: Sequence[RowsPlan]) -> float:
    """The number that multiplies the argument of most layers' sin: what their std makes up for."""
    bent = [each for each in rows if each.reason == "activation"]
    waves = [each for each in bent if each.nonlinearity == "sin"]
    if not waves or len(waves) <= len(bent) / 2:
        return 0.0
    return statistics.median(each.gain / math.sqrt(each.fan_in) / each.std for each in waves)
