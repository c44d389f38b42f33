"""INI401: forward signal vanishes or explodes on the way to an output."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from autoinit.checking._subject import Subject
from autoinit.checking.findings import Finding, Severity
from autoinit.checking.rules._depth import Direction, advice, described, heads, of_fixed_scale, unpredicted
from autoinit.checking.rules.registry import About, rule
from autoinit.ops import Role
from autoinit.signal.report import SignalReport, SignalRow
from autoinit.tracing.dataflow import Op

LEAST, MOST = 1e-6, 1e6
NEAR_ONE = (0.1, 10.0)
OVERFLOWING = 1e30
"""A second moment from which on the next sum of squares may exceed what a float holds."""


@rule("INI401", "forward signal vanishes or explodes", Severity.ERROR, About.DEPTH)
def look(subject: Subject) -> Iterator[Finding]:
    """The forward signal vanishes or explodes with depth, on the way to an output.

    ## What it is

    The second moment of the signal is predicted from the weights' present scales, layer by layer, for inputs of second
    moment 1. Somewhere it leaves 1e-6 to 1e6 and does not come back before an output; a norm would bring it back. What
    biases add is the same for every input: only what differs between two inputs counts as signal that is there.
    Shapes must be known for this: give `example_inputs`, or select the rule by name and an input is guessed.

    ## Why it matters

    Each layer multiplies the second moment by fan_in * var(w) * E phi'^2 or so. The number may look harmless: torch's
    default under a rectifier makes 1/6 of it, and 40 such layers make 1e-31. A network whose outputs do not depend on
    its inputs does not train; one whose outputs are a million times too large overflows at the first step.

    ## Example

        net = nn.Sequential(*(layer for _ in range(40) for layer in (nn.Linear(256, 256), nn.ReLU())))

    ## What to do

        autoinit(model)                             # the gain that each layer's nonlinearity calls for
        autoinit(model, method="signal")            # every pre-activation to second moment 1, over any depth
    Or put norms between the layers.

    ## References

    - He et al. 2015, section 2.2: [Delving Deep into Rectifiers](https://arxiv.org/abs/1502.01852)
    - Poole et al. 2016: [Exponential expressivity](https://arxiv.org/abs/1606.05340), eq. 3
    - Schoenholz et al. 2017: [Deep Information Propagation](https://arxiv.org/abs/1611.01232)
    """
    signal = subject.signal
    if signal is None:
        return
    differing = _flow(subject, signal, _differing(signal))
    first = differing.vanishing(LEAST)
    if first is not None:
        yield from _finding(subject, signal, differing, first, vanishes=True)
    moments = _flow(subject, signal, _moments(subject, signal))
    first = moments.exploding(MOST)
    if first is not None:
        yield from _finding(subject, signal, moments, first, vanishes=False)


def _rows(signal: SignalReport) -> Mapping[str, SignalRow]:
    return {each.name: each.row for each in signal.operations if each.row is not None}


def _moments(subject: Subject, signal: SignalReport) -> Mapping[str, float]:
    """Second moments; infinite from where they overflowed to zero."""
    found: dict[str, float] = {}
    for name, row in _rows(signal).items():
        before = subject.dataflow.by_name[name].operands.values()
        lost = row.q == 0 and any(found.get(each.name, 0.0) > OVERFLOWING for each in before)
        found[name] = math.inf if lost else row.q
    return found


def _differing(signal: SignalReport) -> Mapping[str, float]:
    """The part of each second moment in which two samples differ; of one sample, all of it."""
    rows = _rows(signal)
    if all(row.s is None for row in rows.values()):
        return {name: row.q for name, row in rows.items()}
    return {name: max(0.0, row.q - row.s) for name, row in rows.items() if row.s is not None}


def _flow(subject: Subject, signal: SignalReport, levels: Mapping[str, float]) -> Direction:
    graph, ops = subject.dataflow.graph, subject.dataflow.by_name
    blind = {ops[each.name] for each in signal.operations if each.role == Role.NORM.value and each.name not in levels}

    def before(op: Op) -> list[Op]:
        return [each for each in graph.predecessors(op) if each.signal]

    return Direction(
        order=[op for op in graph.nodes if op.signal],
        before=before,
        ends=[end for op in graph.nodes if op.op == "output" for end in before(op)],
        levels={ops[name]: level for name, level in levels.items()},
        opaque=unpredicted(subject, signal) | blind,
        heads=heads(subject),
        fixed=of_fixed_scale(subject),
    )


def _finding(subject: Subject, signal: SignalReport, flow: Direction, op: Op, *, vanishes: bool) -> Iterator[Finding]:
    low, high = NEAR_ONE

    def is_restoring(each: Op) -> bool:
        return each.role is Role.NORM and low <= flow.levels.get(each, 1.0) <= high

    way = flow.leaving(op, counts_own=True, stops=is_restoring)
    if way is None:
        return
    predicted = signal.by_operation[op.name]
    layer = subject.plan[predicted.layer or predicted.weights[-1]]
    moment = predicted.row.q if predicted.row is not None else way.level
    where = f"second moment {moment:.1e} here"
    if vanishes and way.level < moment / 2:
        where += f", of which {way.level:.1e} differs between inputs"
    effect = "hardly depend on the inputs" if vanishes else "are as large"
    words, fix = advice(way)
    yield Finding(
        code="INI401",
        severity=Severity.ERROR,
        layer=layer.name,
        param="",
        message=(
            f"{layer.name}: the forward signal {'vanishes' if vanishes else 'explodes'}: {where}, "
            f"{described(way)}; expected about 1 for inputs of second moment 1. It does not come back before the "
            f"outputs, which {effect}. {words}"
        ),
        fix=fix,
        location=subject.location(layer.param, layer.source),
    )
