"""Reports of one model's signal, told apart: predicted and measured, before and after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from autoinit.errors import ArgumentError
from autoinit.signal.report import SignalReport, SignalRow


@dataclass(frozen=True)
class SignalPoint:
    """Where the signal was looked at: a weight layer's pre-activation, or a sum of a residual stream.

    Attributes:
        depth: weight operations passed on the longest way to it.
        module: whose forward called the operation.
    """

    name: str
    op: str
    depth: int
    stream: bool
    row: SignalRow | None
    note: str = ""
    module: str = ""


@dataclass(frozen=True)
class State:
    """The signal of a model whose weights are in one state, as `before` or `after`."""

    label: str = ""
    predicted: SignalReport | None = None
    measured: SignalReport | None = None

    @property
    def report(self) -> SignalReport:
        """What there is; the prediction, if there are both."""
        return self.reports[0]

    @cached_property
    def reports(self) -> tuple[SignalReport, ...]:
        """The prediction and the measurement, as far as there are."""
        return tuple(each for each in (self.predicted, self.measured) if each is not None)


def states(reports: Sequence[SignalReport], labels: Sequence[str] = ()) -> tuple[State, ...]:
    """Reports by state, in order of appearance.

    labels: one for each report; reports of one label belong together. Without, the first prediction belongs to the
    first measurement, the second to the second, and so on.

    Raises:
        ArgumentError: the labels do not fit the reports.
    """
    if not reports:
        raise ArgumentError("no SignalReport to show; expected at least one, as propagate(model) makes them")
    if labels and len(labels) != len(reports):
        raise ArgumentError(
            f"{len(labels)} labels for {len(reports)} reports: {', '.join(map(repr, labels))}; expected one for each, "
            "the same for a prediction and its measurement"
        )
    found: dict[str, State] = {}
    for report, label in zip(reports, labels or _numbers(reports), strict=True):
        known = found.get(label, State(label))
        if any(report.kind == each.kind for each in known.reports):
            raise ArgumentError(f"two {report.kind} reports with the label {label!r}; expected different labels")
        measured = report.kind == "measured"
        found[label] = replace(known, measured=report) if measured else replace(known, predicted=report)
    if not labels and len(found) == 1:
        return (replace(next(iter(found.values())), label=""),)
    return tuple(found.values())


def _numbers(reports: Sequence[SignalReport]) -> Iterator[str]:
    seen: Counter[str] = Counter()
    for report in reports:
        seen[report.kind] += 1
        yield str(seen[report.kind])


def signal_points(report: SignalReport) -> tuple[SignalPoint, ...]:
    """What a plot shows of a report, in order of call: every use of a weight, and every sum of a stream.

    A weight whose pre-activation no operation returns, as within attention, stands where its operation does.
    """
    shown = {each.layer for each in report.operations if each.layer}
    found = []
    for each in report.operations:
        if each.layer or each.stream:
            found.append(
                SignalPoint(each.layer or each.name, each.op, each.depth, each.stream, each.row, each.note, each.module)
            )
        for name in each.weights:
            if name not in shown and name in report.rows:
                shown.add(name)
                found.append(SignalPoint(name, each.op, each.depth, False, report.rows[name], each.note, each.module))
    return tuple(found)


@dataclass(frozen=True)
class LayerLine:
    """A weight layer in all states.

    Attributes:
        predicted, measured: one row for each state, or None.
    """

    name: str
    op: str
    depth: int
    predicted: tuple[SignalRow | None, ...]
    measured: tuple[SignalRow | None, ...]
    notes: tuple[str, ...] = ()


def layer_lines(shown: Sequence[State]) -> tuple[LayerLine, ...]:
    """The weight layers of all states, each once, in order of call."""
    seen: dict[str, SignalPoint] = {}
    notes: dict[str, dict[str, None]] = {}
    for state in shown:
        for report in state.reports:
            for place in signal_points(report):
                if not place.stream:
                    seen.setdefault(place.name, place)
                    notes.setdefault(place.name, {}).update({place.note: None} if place.note else {})
            for name, row in report.rows.items():
                seen.setdefault(name, SignalPoint(name, "", 0, False, row))
    return tuple(
        LayerLine(
            name,
            place.op,
            place.depth,
            tuple(_row(state.predicted, name) for state in shown),
            tuple(_row(state.measured, name) for state in shown),
            tuple(notes.get(name, ())),
        )
        for name, place in seen.items()
    )


def _row(report: SignalReport | None, name: str) -> SignalRow | None:
    return None if report is None else report.rows.get(name)


def ratio(part: float | None, whole: float | None) -> float | None:
    """A covariance over its second moment; None where there is none, or no signal."""
    return None if part is None or not whole else part / whole
