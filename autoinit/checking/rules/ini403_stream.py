"""INI403: residual stream grows with depth without normalisation."""

from __future__ import annotations

from collections.abc import Iterator

from autoinit.checking._subject import Subject
from autoinit.checking.findings import Finding, Severity
from autoinit.checking.rules.registry import About, rule
from autoinit.ops import Role
from autoinit.resolving.residual import Stream, streams
from autoinit.tracing.dataflow import Op

BRANCHES = 4
GROWTH = 10.0


@rule("INI403", "residual stream grows with depth without normalisation", Severity.WARNING, About.DEPTH)
def look(subject: Subject) -> Iterator[Finding]:
    """A residual stream grows with every branch, and no norm reads it at its end.

    ## What it is

    The second moment of a chain of sums is predicted from the weights' present scales. From the first to the last of
    at least four branches it grows by more than 10, and a way leads on to an output without a norm. Shapes must be
    known for this: give `example_inputs`, or select the rule by name and an input is guessed.

    ## Why it matters

    Each layer may be right, and keep the scale of what it reads: then every branch adds as much as there is, and the
    stream doubles with each. 30 blocks make 1e9. With norms in the branches it grows by one with each, and later
    branches count for little beside what is there.

    ## Example

        def forward(self, x):
            for block in self.blocks:                # 24 of them, each at He's gain
                x = x + block(x)
            return self.head(x)

    ## What to do

        autoinit(model, residual="depth")            # the last weight of each of L branches times 1 / sqrt(L)
    So the stream grows by e = 2.7 at most. Or end each branch in zeros, or put a norm behind the stream.

    ## References

    - Zhang et al. 2019: [Fixup Initialization](https://arxiv.org/abs/1901.09321)
    - De & Smith 2020: [Batch Normalization Biases Residual Blocks](https://arxiv.org/abs/2002.10444)
    - Radford et al. 2019 (GPT-2), section 2.3: residual weights scaled by 1 / sqrt(N)
    """
    long = [stream for stream in streams(subject.dataflow) if len(stream.branches) >= BRANCHES]
    if not long or subject.signal is None:
        return
    for stream in long:
        yield from _judged(subject, stream)


def _judged(subject: Subject, stream: Stream) -> Iterator[Finding]:
    first, last = _moment(subject, stream.branches[0].sum), _moment(subject, stream.branches[-1].sum)
    if first is None or last is None or not 0 < first * GROWTH < last or _is_normed(subject, stream.branches[-1].sum):
        return
    layer = next(layer for layer in subject.plan.layers if stream.branches[0].weights[0].name in layer.uses)
    branches = len(stream.branches)
    each = (last / first) ** (1 / (branches - 1))
    fix = 'autoinit(model, residual="depth")'
    yield Finding(
        code="INI403",
        severity=Severity.WARNING,
        layer=layer.name,
        param="",
        message=(
            f"{layer.name}: the residual stream whose first branch ends here grows over its {branches} branches from "
            f"second moment {first:.2g} to {last:.2g}, {each:.2g} times with each, expected {GROWTH:g} times in all "
            f"at most; no norm takes the scale away at its end. Scale what ends a branch by 1 / sqrt({stream.count}): "
            f"`{fix}`."
        ),
        fix=fix,
        location=subject.location(layer.param, layer.source),
    )


def _moment(subject: Subject, op: Op) -> float | None:
    assert subject.signal is not None
    predicted = subject.signal.by_operation.get(op.name)
    return predicted.row.q if predicted is not None and predicted.row is not None else None


def _is_normed(subject: Subject, op: Op) -> bool:
    """Whether every way to an output leads through a norm."""
    waiting, seen = [op], {op}
    while waiting:
        for after in subject.dataflow.graph.successors(waiting.pop()):
            if after.op == "output" or (after.role is Role.SINK and after.signal):
                return False
            if (
                after.signal
                and after not in seen
                and after.role is not Role.NORM
                and after not in subject.written_norms
            ):
                seen.add(after)
                waiting.append(after)
    return True
