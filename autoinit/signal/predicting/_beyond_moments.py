"""Where in a graph operations stand whose signal needs more than its moments."""

from __future__ import annotations

import networkx as nx

from autoinit.ops import Trait
from autoinit.tracing.dataflow import Dataflow, Op


def behind_inputs(dataflow: Dataflow) -> frozenset[Op]:
    """Operations whose values depend on the model's inputs; the others work on tables and coordinates."""
    return _reached(dataflow.graph, [op for op in dataflow.graph.nodes if op.op == "input"])


def before_windows(dataflow: Dataflow) -> frozenset[Op]:
    """Operations before one that reads neighbouring positions other than by weights: it matters how alike these are."""
    windowed = [op for op in dataflow.graph.nodes if Trait.WINDOWED in op.traits and _keeps_positions(op)]
    return _reached(dataflow.graph.reverse(copy=False), windowed)


def _reached(graph: nx.DiGraph[Op], starts: list[Op]) -> frozenset[Op]:
    return frozenset(node for layer in nx.bfs_layers(graph, starts) for node in layer) if starts else frozenset()


def _keeps_positions(op: Op) -> bool:
    """Whether more than one position is left; what reads all of them alike is not windowed."""
    return op.shape is None or len(op.shape) < 3 or any(size > 1 for size in op.shape[2:])
