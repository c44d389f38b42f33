"""Surroundings: where in the network a wrong scale does less harm than elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import permutations

from autoinit.checking._dead import starving, zero_values
from autoinit.ops import Fact, Role
from autoinit.tracing.dataflow import Dataflow, Op


def surroundings(
    dataflow: Dataflow, is_zero: Callable[[str], bool], norms: Mapping[Op, Iterable[Op]]
) -> Mapping[str, frozenset[str]]:
    """Names of the operations in each kind of place; the kinds are fields of `Part`.

    skipped_over: on a branch beside a skip connection.
    renormalised: a norm takes the scale away further on, with nothing between but what passes a scale on unchanged.
    faded: the same for a signal that is too small, which nonlinearities with a slope at zero pass on nearly unchanged.
    gated: all ways lead to a bounded nonlinearity whose value multiplies a signal.
    muted: all ways lead through weights or factors inside the network that are zero.
    starved: what comes in is zero, since a weight before it is.
    final: no weight comes behind, and the signal goes on: to an output, a loss, or where values are drawn by it.

    Args:
        dataflow: of the model.
        is_zero: whether a parameter, by name, is zero everywhere.
        norms: those that are written out, with their operations.
    """
    last, normalising = _last(dataflow), {op for ops in norms.values() for op in ops}
    vanishing = zero_values(dataflow, is_zero)

    def is_norm(op: Op) -> bool:
        return op.role is Role.NORM or op in normalising

    def silences(op: Op) -> bool:
        held = [use for use in op.params if use.layout is not None]
        return op not in last and (op in vanishing or (len(held) == 1 and is_zero(held[0].name)))

    found = {
        "renormalised": _leading_to(dataflow, is_norm, _passes_scale),
        "faded": _leading_to(dataflow, is_norm, lambda op: _passes_scale(op) or Fact.HOMOGENEOUS_NEAR_ZERO in op.facts),
        "gated": _leading_to(dataflow, lambda op: _is_gate(dataflow, op), _passes_to_gate),
        "muted": _leading_to(dataflow, silences, lambda op: not op.ends and op.role is not Role.UNKNOWN),
        "final": last,
    }
    beside = {op for op in vanishing if _has_zero_beside(op, vanishing, is_zero)}
    found["muted"] = (found["muted"] - vanishing) | beside
    named = {kind: frozenset(op.name for op in ops) for kind, ops in found.items()}
    return {"skipped_over": _inside_branches(dataflow), "starved": starving(dataflow, vanishing), **named}


def _has_zero_beside(op: Op, vanishing: set[Op], is_zero: Callable[[str], bool]) -> bool:
    """Whether an operation gives zero since one of its weights is, though another and what comes in are not."""
    held = [use for use in op.params if use.layout is not None]
    starved = any(each in vanishing for each in op.operands.values() if each.signal)
    return not starved and not all(is_zero(use.name) for use in held)


def _inside_branches(dataflow: Dataflow) -> frozenset[str]:
    """Operations on a branch beside a skip connection.

    At a sum, an operand is the skip if another one starts from it: everything computed in between on the way to the
    other operand is the branch.
    """
    order = {op: number for number, op in enumerate(dataflow.graph.nodes)}
    found: set[str] = set()
    for op in dataflow.graph.nodes:
        operands = {each for each in op.operands.values() if each.signal}
        if op.role is Role.ADD and len(operands) > 1:
            for skip, end in permutations(operands, 2):
                for start in {skip, _behind(skip)}:
                    found |= _between(start, end, order)
    return frozenset(found)


def _last(dataflow: Dataflow) -> set[Op]:
    """The operations whose result goes on, and on no way through a weight.

    What is drawn from a distribution, or asked of it (arguments are compared with their bounds), is no signal any more.
    """
    found: set[Op] = set()
    for op in reversed(list(dataflow.graph.nodes)):
        after = list(dataflow.graph.successors(op))
        signals = [each for each in after if each.signal]
        if after and all(each.ends or (each.role is not Role.WEIGHT and each in found) for each in signals):
            found.add(op)
    return found


def _leading_to(dataflow: Dataflow, ends: Callable[[Op], bool], passes: Callable[[Op], bool]) -> set[Op]:
    """The operations from which every way on comes to one that ends it, through such as let it pass."""
    found: set[Op] = set()
    for op in reversed(list(dataflow.graph.nodes)):
        after = [each for each in dataflow.graph.successors(op) if each.signal]
        if after and all(ends(each) or (passes(each) and each in found) for each in after):
            found.add(op)
    return found


def _passes_scale(op: Op) -> bool:
    return op.role in (Role.TRANSPARENT, Role.SPLIT, Role.WEIGHT, Role.ADD) or Fact.HOMOGENEOUS in op.facts


def _is_gate(dataflow: Dataflow, op: Op) -> bool:
    """Whether a bounded value goes on to nothing but products."""
    if Fact.BOUNDED not in op.facts:
        return False
    waiting, products = [op], 0
    while waiting:
        for each in dataflow.graph.successors(waiting.pop()):
            if each.role is Role.PRODUCT or _multiplies_inputs(each):
                products += 1
            elif each.role is Role.TRANSPARENT:
                waiting.append(each)
            elif each.signal:
                return False
    return products > 0


def _multiplies_inputs(op: Op) -> bool:
    """Whether a product is passed since no weight made the other factor."""
    return (
        op.spec is not None and op.spec.role is Role.PRODUCT and sum(each.signal for each in op.operands.values()) > 1
    )


def _passes_to_gate(op: Op) -> bool:
    return op.role in (Role.TRANSPARENT, Role.SPLIT, Role.WEIGHT, Role.NORM, Role.NONLINEARITY)


def _behind(op: Op) -> Op:
    """Back through operations that only pass the signal on."""
    while op.role is Role.TRANSPARENT:
        carrying = [each for each in op.operands.values() if each.signal]
        if len(carrying) != 1:
            break
        op = carrying[0]
    return op


def _between(start: Op, end: Op, order: dict[Op, int]) -> set[str]:
    """Operations after `start` on the way back from `end`; empty if that does not come to `start`."""
    found: set[str] = set()
    waiting, reached = [end], False
    while waiting:
        op = waiting.pop()
        if op is start:
            reached = True
        elif op.name not in found and order[op] > order[start]:
            found.add(op.name)
            waiting.extend(op.operands.values())
    return found if reached else set()
