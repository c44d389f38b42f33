"""Gates that a pair of units takes off: u g(v) with g(v) + g(-v) = 1, as that of GLU.

A pair of units (u, v) and (-u, -v), read with opposite signs, gives u g(v) + u g(-v) = u; so it does with an odd
function of u in place of u, as in tanh(u) sigmoid(v). u and v are rows of one weight, or made by weights of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from autoinit.methods._partners import Numbers
from autoinit.ops import Role
from autoinit.resolving import Ending, Reason, Resolution
from autoinit.theory.mirrored import is_odd
from autoinit.theory.pointwise import evaluate
from autoinit.tracing import Dataflow, Op

Feeds = Callable[[Op], list[Ending]]
"""Every ending of the walks from an operation."""
Part = Literal["", "gated", "gates"]
"""What a weight gives to a product: what is gated, or what gates it; nothing."""
Products = Mapping[Op, Op]
"""Products of two signals one of which is a gate, and the operation that ends it."""


def gated_products(dataflow: Dataflow, feeds: Feeds) -> Products:
    """The products of what two weights, or sums of what weights make, give, one of them through such a function."""
    found: dict[Op, Op] = {}
    if not any(map(_is_product, dataflow.graph.nodes)):
        return found
    for op in dataflow.graph.nodes:
        endings = feeds(op) if op.role in (Role.WEIGHT, Role.ADD) else []
        if len(endings) == 1 and _halves(endings[0]):
            end = dataflow.by_name[endings[0].path[-1]]
            product = product_behind(end, dataflow)
            if product is not None:
                found[product] = end
    return found


def product_behind(end: Op, dataflow: Dataflow) -> Op | None:
    """The product of two signals that alone reads an operation."""
    after = list(dataflow.graph.successors(end))
    return after[0] if len(after) == 1 and _is_product(after[0]) else None


def part_of_product(ending: Ending, dataflow: Dataflow, products: Products) -> tuple[Part, Op | None]:
    """What an ending of a walk is to a product with a gate, and the product."""
    if not ending.path:
        return "", None
    end = dataflow.by_name[ending.path[-1]]
    if ending.reason is Reason.GATE and end in products:
        return "gated", end
    product = product_behind(end, dataflow) if ending.reason is Reason.ACTIVATION else None
    if product is None or product not in products:
        return "", None
    if products[product] is end:
        return "gates", product
    return ("gated", product) if _is_odd(ending) else ("", None)


def gate_in_one(resolution: Resolution, dataflow: Dataflow) -> tuple[Ending, Op, int] | None:
    """Of a weight whose one half is gated by the other: the ending of what is gated, the product, and the distance in
    features from what is gated to its gates.
    """
    gating = next((each for each in resolution.slices if _halves(each.ending)), None)
    gated = next((each for each in resolution.slices if each is not gating), None)
    if len(resolution.slices) != 2 or gated is None or gating is None or gated.alternatives or gating.alternatives:
        return None
    end, gate = (dataflow.by_name[each.ending.path[-1]] for each in (gated, gating))
    if gated.ending.reason is Reason.GATE:
        product = end
    elif _is_odd(gated.ending) and (behind := product_behind(end, dataflow)) is product_behind(gate, dataflow):
        if behind is None:
            return None
        product = behind
    else:
        return None
    rows, gates = (np.concatenate([np.arange(*run) for run in each.rows]) for each in (gated, gating))
    distance = int(gates[0] - rows[0])
    taking_turns = np.array_equal(rows, gated_rows(len(rows), distance)) and np.array_equal(gates, rows + distance)
    return (gated.ending, product, distance) if taking_turns else None


def gated_rows(features: int, distance: int) -> Numbers:
    """The rows of what is gated, where runs of |distance| rows of it and of its gates take turns: the two halves of a
    weight, or every other row. A negative distance has the gates first.
    """
    turn, place = np.divmod(np.arange(features), abs(distance))
    found: Numbers = turn * 2 * abs(distance) + place + max(0, -distance)
    return found


def _is_product(op: Op) -> bool:
    return op.role is Role.PRODUCT and op.acts == "elementwise" and len({*op.operands.values()}) == 2


def _halves(ending: Ending) -> bool:
    """Whether a walk ends at a nonlinearity g with g(z) + g(-z) = 1."""
    if ending.reason is not Reason.ACTIVATION or ending.function is None:
        return False
    points = np.linspace(-4.0, 4.0, 81)
    both = evaluate(ending.function, points, "gate") + evaluate(ending.function, -points, "gate")
    return bool(np.allclose(both, 1.0, atol=1e-6))


def _is_odd(ending: Ending) -> bool:
    return ending.reason is Reason.ACTIVATION and ending.function is not None and is_odd(ending.function, "gated")
