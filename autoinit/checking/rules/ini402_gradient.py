"""INI402: gradient vanishes or explodes on the way to a layer."""

from __future__ import annotations

import math
from collections.abc import Iterator

from autoinit.checking._subject import Subject
from autoinit.checking.findings import Finding, Severity
from autoinit.checking.rules._depth import Direction, advice, described, heads, of_fixed_scale, unpredicted
from autoinit.checking.rules.registry import About, rule
from autoinit.ops import Trait
from autoinit.signal.report import SignalReport
from autoinit.tracing.dataflow import Op

LEAST, MOST = 1e-8, 1e8
FEW = 16
"""Values of a feature over a batch below which a batch norm takes away gradients that it would not in training: of n
values it keeps a share of 1 - 2 / n."""


@rule("INI402", "gradient vanishes or explodes", Severity.ERROR, About.DEPTH, gradients=True)
def look(subject: Subject) -> Iterator[Finding]:
    """The gradient vanishes or explodes with depth, on the way back to a layer.

    ## What it is

    The second moment of the gradient is predicted for noise at the outputs, from the weights' present scales. The
    energy of a gradient, its second moment times the number of elements, is compared with that at the outputs.
    Somewhere it leaves 1e-8 to 1e8, and does not come back on the way to the inputs. Shapes must be known for this:
    give `example_inputs`, or select the rule by name and an input is guessed.
    Nothing is said of what lies behind a batch norm over fewer than 16 values, which takes gradients away by itself.

    ## Why it matters

    One learning rate serves all layers. Layers behind this point get steps that are 10,000 times too short or too
    long: they stay what they were drawn, or they are destroyed. Adaptive steps hide the size, but not the rounding.

    ## Example

        net = nn.Sequential(*(layer for _ in range(20) for layer in (nn.Linear(256, 256), nn.Sigmoid())))
        # sigmoid' is at most 1/4: each layer makes at most 1/16 of the energy, unless the weights make up for it

    ## What to do

        autoinit(model)                             # the gain that each layer's nonlinearity calls for
        autoinit(model, method="signal")            # by the predicted signal, where depth or width varies
    A sigmoid loses the gradient with depth whatever the scale: put norms between, add skip connections, or take a
    nonlinearity that is zero at zero.

    ## References

    - Glorot & Bengio 2010, section 4: [Understanding the difficulty](https://proceedings.mlr.press/v9/glorot10a.html)
    - He et al. 2015, section 2.2, backward case
    - Schoenholz et al. 2017: [Deep Information Propagation](https://arxiv.org/abs/1611.01232), section 4
    """
    signal = subject.signal
    if signal is None:
        return
    flow = _flow(subject, signal)
    for first, verb in ((flow.vanishing(LEAST), "vanishes"), (flow.exploding(MOST), "explodes")):
        if first is not None:
            yield from _finding(subject, signal, flow, first, verb)


def _flow(subject: Subject, signal: SignalReport) -> Direction:
    """The gradients' way, from outputs to inputs; levels are energies, that of the largest output's being 1."""
    graph, ops = subject.dataflow.graph, subject.dataflow.by_name
    energies = {
        op: each.row.grad * math.prod(op.shape)
        for each in signal.operations
        if each.row is not None and each.row.grad is not None and (op := ops[each.name]).shape is not None
    }
    outputs = [end for op in graph.nodes if op.op == "output" for end in graph.predecessors(op) if end in energies]
    largest = max((energies[op] for op in outputs), default=0.0)

    def after(op: Op) -> list[Op]:
        return [each for each in graph.successors(op) if each.signal and each.op != "output"]

    return Direction(
        order=[op for op in reversed(list(graph.nodes)) if op.signal],
        before=after,
        ends=_beginnings(subject, energies),
        levels={op: energy / largest for op, energy in energies.items()} if largest > 0 else {},
        opaque=unpredicted(subject, signal) | {op for op in graph.nodes if _is_over_few(op)},
        heads=heads(subject),
        fixed=of_fixed_scale(subject),
    )


def _is_over_few(op: Op) -> bool:
    """Whether an operation normalises each feature over so few values that it tells of the input's size alone."""
    return Trait.OVER_SAMPLES in op.traits and op.shape is not None and math.prod(op.shape) < FEW * op.shape[1]


def _beginnings(subject: Subject, energies: dict[Op, float]) -> list[Op]:
    """Operations with a gradient that none before them has: the inputs, or what is looked up by them."""
    graph = subject.dataflow.graph
    behind: set[Op] = set()
    found = []
    for op in graph.nodes:
        if any(each in behind for each in graph.predecessors(op)):
            behind.add(op)
        elif op in energies:
            behind.add(op)
            found.append(op)
    return found


def _finding(subject: Subject, signal: SignalReport, flow: Direction, op: Op, verb: str) -> Iterator[Finding]:
    way = flow.leaving(op, counts_own=False, stops=lambda _: False)
    if way is None:
        return
    predicted = signal.by_operation[op.name]
    layer = subject.plan[predicted.layer or predicted.weights[-1]]
    effect = "what they were drawn" if verb == "vanishes" else "no longer than a step or two"
    words, fix = advice(way)
    yield Finding(
        code="INI402",
        severity=Severity.ERROR,
        layer=layer.name,
        param="",
        message=(
            f"{layer.name}: the gradient {verb} on the way here: {way.level:.1e} times its energy at the outputs, "
            f"{described(way)}; expected about 1. It does not come back towards the inputs, and the layers from here "
            f"to the inputs stay {effect}. {words}"
        ),
        fix=fix,
        location=subject.location(layer.param, layer.source),
    )
