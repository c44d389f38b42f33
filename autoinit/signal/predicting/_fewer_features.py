"""Hidden features that no moment needs: of a wide layer some hundreds stand for all.

Between weights, features that are only acted on element by element are exchangeable: each has the same distribution,
over the draw of the weights. A mean over some of them is as true as one over all, with more scatter; only the fan_in
behind them has to be kept as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import networkx as nx

from autoinit.ops import Role
from autoinit.signal.predicting._beyond_moments import behind_inputs
from autoinit.signal.predicting.linear_maps import SMALL
from autoinit.tracing.dataflow import Dataflow, Op, ParamUse

MOST_ELEMENTS = 1 << 19
"""Elements of a hidden layer's output up to which all of its features are drawn."""
FEWEST = 256
"""Features that are drawn at least: their second moment is then known to sqrt(2 / 256), 9 %, in each single row."""


def fewer_features(dataflow: Dataflow, whole: Callable[[ParamUse], bool]) -> Mapping[Op, int]:
    """For operations on wide hidden layers, so many features as are enough for their moments.

    A group of operations that share features is left as it is where one of them does more than act on each element by
    itself, or has numbers of its own for each feature.

    whole: says of which weights all features are needed.
    """
    fed = behind_inputs(dataflow)
    maps = {op for op in dataflow.graph.nodes if op in fed and _maps_features(op, whole)}
    shared: nx.Graph[Op] = nx.Graph()
    shared.add_nodes_from(op for op in dataflow.graph.nodes if op.signal and _enough(op))
    shared.add_edges_from(
        (op, each) for op in shared if op not in maps for each in op.operands.values() if each in shared
    )
    found: dict[Op, int] = {}
    for group in nx.connected_components(shared):
        if len({op.shape for op in group}) == 1 and all(_is_free(op, dataflow, group, maps) for op in group):
            found.update((op, _enough(op)) for op in group)
    return found


def notes_on_fewer(fewer: Mapping[Op, int]) -> tuple[str, ...]:
    """What to say of operations that draw some of their features."""
    widest = max(fewer, key=lambda op: (op.shape or (0,))[-1], default=None)
    if widest is None or widest.shape is None:
        return ()
    many = f"{fewer[widest]} of {widest.shape[-1]}"
    return (f"{len(fewer)} operations on wide layers draw some features, which stand for all ({widest.name}: {many})",)


def _enough(op: Op) -> int:
    """How many features are enough for an operation's output; 0 where all are few."""
    if op.shape is None or len(op.shape) < 2:
        return 0
    number = max(FEWEST, MOST_ELEMENTS // max(1, math.prod(op.shape[:-1])))
    return number if number < op.shape[-1] else 0


def _is_free(op: Op, dataflow: Dataflow, group: set[Op], maps: set[Op]) -> bool:
    """Whether nothing that makes an output, or reads it, depends on the number of its features."""
    if op not in maps and not _is_elementwise(op, group):
        return False
    return all(
        after.op == "output" or (after.operands.get("input") is op if after in maps else after in group)
        for after in dataflow.graph.successors(op)
    )


def _is_elementwise(op: Op, group: set[Op]) -> bool:
    others = [each for each in op.operands.values() if each not in group]
    return op.acts == "elementwise" and not op.params and all(each.shape == () for each in others)


def _maps_features(op: Op, whole: Callable[[ParamUse], bool]) -> bool:
    """Whether it is a linear layer over the last axis of its input, whose weight nothing is done to."""
    uses = [use for use in op.params if use.layout is not None]
    if op.op != "linear" or op.role is not Role.WEIGHT or len(uses) != 1 or op.added is not None:
        return False
    use = uses[0]
    return not use.transform and use.factor == 1.0 and use.shape[-1] > SMALL and not whole(use)
