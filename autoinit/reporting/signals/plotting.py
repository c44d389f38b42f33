"""Second moment against depth, drawn by matplotlib (the extra `plot`)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from autoinit.errors import ArgumentError
from autoinit.reporting.signals.states import SignalPoint, State, signal_points, states
from autoinit.signal.report import SignalReport, SignalRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

SUFFIXES = (".svg", ".png", ".pdf")
HUES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
"""Okabe and Ito's colours, told apart by colour-blind readers as well; one for each state, in order."""
_INK, _FAINT, _BAND_INK = "#333333", "#767676", "#9aa7b1"
_DASHES, _DOTS = (0, (5, 2)), (0, (1, 2))
_MANY = 150
_LARGEST = 1e300
_BAND = (0.5, 2.0)
_LEAST_DECADES = 2
_LABEL_HEIGHT = 0.085

Direction = Literal["q", "grad"]


def figure(*reports: SignalReport, labels: Sequence[str] = (), title: str | None = None) -> Figure:
    """Two panels over the number of weight operations passed: second moments of the signal and of its gradient.

    Weight layers' pre-activations are a solid line and circles, sums of residual streams a dashed line and diamonds;
    lines are predicted (the geometric mean where several stand at one depth, with their range as a shade), markers
    measured. What a log axis cannot hold stands at its edge: zeros as triangles at the bottom, overflow at the top.

    Args:
        reports: of one model.
        labels: one for each report; reports of one label share a colour. Without, the first prediction and the first
            measurement belong together, and so on.
        title: in place of the model's name.

    Raises:
        ArgumentError: matplotlib is not installed, or the labels do not fit the reports.
    """
    shown = states(reports, labels)
    require_matplotlib()
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    made = Figure(figsize=(8.5, 6.4), layout="constrained")
    above, below = made.subplots(2, 1, sharex=True)
    sums = any(place.stream for state in shown for report in state.reports for place in signal_points(report))
    panels = (
        _Panel(above, "q", "pre-activations" + (" and sums" if sums else "")),
        _Panel(below, "grad", "their gradients"),
    )
    drawn = [_Drawing(panel, state, hue) for panel in panels for state, hue in zip(shown, _hues(shown), strict=True)]
    for panel in panels:
        panel.prepare()
    for each in drawn:
        each.draw()
    for panel in panels:
        panel.finish([each for each in drawn if each.panel is panel])
    above.set_title("forward", loc="left", fontsize=10, color=_INK)
    below.set_title("backward", loc="left", fontsize=10, color=_INK)
    below.set_xlabel("depth: weight operations passed")
    below.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    deepest = max((place.depth for each in drawn for place in each.places), default=1)
    first = min((place.depth for each in drawn for place in each.places), default=1)
    side = max(0.5, 0.02 * deepest)
    below.set_xlim(first - side, deepest + side)
    made.suptitle(title or f"{shown[0].report.model}: second moment against depth", fontsize=12, color=_INK)
    _legend(made, shown, drawn)
    return made


def save(made: Figure, path: str | Path) -> None:
    """Write a figure, its format by suffix.

    Raises:
        ArgumentError: another suffix than .svg, .png or .pdf, or the file cannot be written.
    """
    target = Path(path)
    require_suffix(target)
    image = encoded(made, target.suffix)
    try:
        target.write_bytes(image)
    except OSError as error:
        raise ArgumentError(f"{target} cannot be written: {error.strerror or error}") from error


def encoded(made: Figure, suffix: str) -> bytes:
    """What a file of this suffix holds; the same figure gives the same bytes. Texts of an SVG stay texts."""
    from matplotlib import rc_context

    image = BytesIO()
    dates = {".svg": "Date", ".pdf": "CreationDate"}
    metadata = {dates[suffix]: None} if suffix in dates else {}
    with rc_context({"svg.hashsalt": "autoinit", "svg.fonttype": "none"}):
        made.savefig(image, format=suffix[1:], dpi=160, metadata=metadata)
    return image.getvalue()


def require_suffix(path: Path) -> None:
    """Refuse a file whose suffix names no format.

    Raises:
        ArgumentError: says which do.
    """
    if path.suffix not in SUFFIXES:
        found = repr(path.suffix) if path.suffix else "to a file without a suffix"
        raise ArgumentError(f"{path}: a plot is written to {', '.join(SUFFIXES)}, not {found}")


def require_matplotlib() -> None:
    """Refuse to plot without matplotlib.

    Raises:
        ArgumentError: says how to install it.
    """
    try:
        import matplotlib  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise ArgumentError(
            "a plot needs matplotlib, which is not installed: pip install torch-autoinit[plot]"
        ) from error


def _hues(shown: Sequence[State]) -> list[str]:
    return [HUES[index % len(HUES)] for index in range(len(shown))]


@dataclass
class _Panel:
    """One direction of the signal."""

    axes: Axes
    direction: Direction
    what: str
    deepest: int = 1

    def value(self, row: SignalRow | None) -> float | None:
        """The second moment in this direction; None where it is not known."""
        found = None if row is None else row.q if self.direction == "q" else row.grad
        return None if found is None or math.isnan(found) else found

    def prepare(self) -> None:
        """Axes before anything is drawn on them."""
        self.axes.set_yscale("log")
        self.axes.set_ylabel(f"second moment of\n{self.what}")
        self.axes.grid(True, which="major", color="#e4e4e4", linewidth=0.7)
        self.axes.set_axisbelow(True)
        self.axes.spines[["top", "right"]].set_visible(False)
        for spine in self.axes.spines.values():
            spine.set_color("#b0b0b0")
        self.axes.tick_params(colors=_INK, which="both", length=3, width=0.7)
        if self.direction == "q":
            self.axes.axhspan(*_BAND, color=_BAND_INK, alpha=0.22, linewidth=0, zorder=0.5, label="[1/2, 2]")
            self.axes.axhline(1, color=_BAND_INK, linewidth=0.8, zorder=0.6)

    def finish(self, drawn: Sequence[_Drawing]) -> None:
        """Limits that hold all that is drawn, and what stands at them."""
        from matplotlib.ticker import LogLocator, NullFormatter

        values = [value for each in drawn for value in each.values]
        low, high = min(values, default=1.0), max(values, default=1.0)
        if self.direction == "q":
            low, high = min(low, _BAND[0]), max(high, _BAND[1])
        decades = math.log10(high) - math.log10(low)
        margin = 10 ** max(0.06 * decades, (_LEAST_DECADES - decades) / 2)
        self.axes.set_ylim(max(low / margin, 1e-306), min(high * margin, 1e306))
        self.axes.yaxis.set_major_locator(LogLocator(numticks=8))
        if decades > 6:
            self.axes.minorticks_off()
        else:
            self.axes.yaxis.set_minor_formatter(NullFormatter())
        if not values:
            self.axes.text(0.5, 0.5, "not known", transform=self.axes.transAxes, ha="center", color=_FAINT)
        for each in drawn:
            each.mark_edges()
        _name_ends(self.axes, drawn)


class _Drawing:
    """One state in one panel."""

    def __init__(self, panel: _Panel, state: State, hue: str) -> None:
        self.panel, self.state, self.hue = panel, state, hue
        self.places = [place for report in state.reports for place in signal_points(report)]
        self._found = {report.kind: self._finite(signal_points(report)) for report in state.reports}
        self.values = [value for found in self._found.values() for _, value in found]
        self.shaded = False
        self.edges: set[str] = set()

    def _finite(self, seen: Sequence[SignalPoint]) -> list[tuple[SignalPoint, float]]:
        found = [(place, self.panel.value(place.row)) for place in seen]
        return [(place, value) for place, value in found if value is not None and 0 < value < _LARGEST]

    def points(self, kind: str, *, stream: bool) -> list[tuple[int, float]]:
        """Depth and second moment of all places of one sort."""
        return [(place.depth, value) for place, value in self._found.get(kind, ()) if place.stream is stream]

    def draw(self) -> None:
        """Lines, shades and points."""
        for stream in (False, True):
            self._line(self.points("predicted", stream=stream), stream)
            self._points(self.points("measured", stream=stream), stream)
        collapse = self.state.report.collapse
        if self.panel.direction == "q" and collapse is not None:
            self.panel.axes.axvline(
                collapse.depth, color=self.hue, linestyle=_DOTS, linewidth=1.4, zorder=1, label="collapse"
            )

    def _line(self, points: Sequence[tuple[int, float]], stream: bool) -> None:
        if not points:
            return
        by_depth: dict[int, list[float]] = defaultdict(list)
        for depth, value in points:
            by_depth[depth].append(value)
        depths = sorted(by_depth)
        means = [math.exp(sum(map(math.log, by_depth[depth])) / len(by_depth[depth])) for depth in depths]
        axes, style = self.panel.axes, _DASHES if stream else "-"
        label = f"{self.state.label} predicted {_sort(stream)}".strip()
        width, order = (1.3 if stream else 1.8), (5 if len(points) > _MANY else 3)
        axes.plot(depths, means, color=self.hue, linestyle=style, linewidth=width, zorder=order, label=label,
                  marker="_" if len(depths) == 1 else "", markersize=16, markeredgewidth=1.8)  # fmt: skip
        if any(len(values) > 1 for values in by_depth.values()):
            self.shaded = True
            low, high = [min(by_depth[each]) for each in depths], [max(by_depth[each]) for each in depths]
            axes.fill_between(depths, low, high, color=self.hue, alpha=0.13, linewidth=0, zorder=1.5)

    def _points(self, points: Sequence[tuple[int, float]], stream: bool) -> None:
        if not points:
            return
        many = len(points) > _MANY
        self.panel.axes.plot(
            [depth for depth, _ in points],
            [value for _, value in points],
            linestyle="none",
            marker="D" if stream else "o",
            markersize=2.6 if many else 4.4 if stream else 5,
            markerfacecolor="white" if stream else self.hue,
            markeredgecolor=self.hue if stream else "white",
            markeredgewidth=(0.4 if stream else 0) if many else (0.9 if stream else 0.6),
            alpha=0.45 if many else 1,
            zorder=4,
            label=f"{self.state.label} measured {_sort(stream)}".strip(),
        )

    def mark_edges(self) -> None:
        """Zeros and overflow, at the edge of the axis where they would be."""
        low, high = self.panel.axes.get_ylim()
        known = [(place.depth, self.panel.value(place.row)) for place in self.places]
        for marker, edge, depths in (
            ("v", low, [depth for depth, value in known if value == 0]),
            ("^", high, [depth for depth, value in known if value is not None and value >= _LARGEST]),
        ):
            if depths:
                self.edges.add(marker)
                size, edge_width = (2.5, 0) if len(depths) > _MANY else (6, 0.5)
                label = f"{self.state.label} {'zero' if marker == 'v' else 'overflow'}".strip()
                self.panel.axes.plot(
                    depths, [edge] * len(depths), linestyle="none", marker=marker, markersize=size, color=self.hue,
                    markeredgecolor="white", markeredgewidth=edge_width, clip_on=False, zorder=6, label=label,
                )  # fmt: skip


def _sort(stream: bool) -> str:
    return "sums" if stream else "pre-activations"


def _name_ends(axes: Axes, drawn: Sequence[_Drawing]) -> None:
    """Each state's name where its line ends, no two on one another."""
    ends = []
    for each in drawn:
        points = each.points("predicted", stream=False) or each.points("measured", stream=False)
        if points and each.state.label:
            ends.append((max(points)[1], each))
    ends.sort(key=lambda end: end[0])
    low, high = (math.log10(limit) for limit in axes.get_ylim())
    heights = spaced([(math.log10(value) - low) / (high - low) for value, _ in ends], _LABEL_HEIGHT)
    for (_, each), height in zip(ends, heights, strict=True):
        axes.annotate(
            each.state.label, (1, height), xycoords="axes fraction", xytext=(4, 0), textcoords="offset points",
            va="center", fontsize=9, color=each.hue, fontweight="bold", annotation_clip=False,
        )  # fmt: skip


def spaced(wanted: Sequence[float], gap: float) -> list[float]:
    """Places in [0, 1] near those wanted, which ascend, at least `gap` from one another if there is room.

    Neighbours that come too near share a block, centred on the mean of what they want.
    """
    blocks: list[list[float]] = []
    for place in wanted:
        blocks.append([place])
        while len(blocks) > 1 and _start(blocks[-1], gap) < _start(blocks[-2], gap) + gap * len(blocks[-2]):
            last = blocks.pop()
            blocks[-1] += last
    return [_start(block, gap) + gap * index for block in blocks for index in range(len(block))]


def _start(block: Sequence[float], gap: float) -> float:
    """Where a block of labels begins."""
    extent = gap * (len(block) - 1)
    return min(max(0.0, sum(block) / len(block) - extent / 2), max(0.0, 1 - extent))


def _legend(made: Figure, shown: Sequence[State], drawn: Sequence[_Drawing]) -> None:
    """What lines and markers mean; only those that are there."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Line2D | Patch] = []
    if len(shown) > 1:
        for state, hue in zip(shown, _hues(shown), strict=True):
            handles.append(Line2D([], [], color=hue, linewidth=4, label=state.label))
    for stream, words in ((False, "pre-activations"), (True, "sums of the residual stream")):
        if any(each.points("predicted", stream=stream) for each in drawn):
            handles.append(
                Line2D([], [], color=_INK, linestyle=_DASHES if stream else "-", label=f"{words}, predicted")
            )
        if any(each.points("measured", stream=stream) for each in drawn):
            face = "white" if stream else _INK
            label = f"{words}, measured"
            handles.append(
                Line2D([], [], linestyle="none", marker="D" if stream else "o", markersize=5, markeredgecolor=_INK,
                       markerfacecolor=face, label=label)
            )  # fmt: skip
    if any(each.shaded for each in drawn):
        handles.append(Patch(color=HUES[0], alpha=0.2, linewidth=0, label="range of several at one depth"))
    handles.append(Patch(color=_BAND_INK, alpha=0.35, linewidth=0, label="from 1/2 to 2"))
    if any(state.report.collapse is not None for state in shown):
        handles.append(Line2D([], [], color=_INK, linestyle=_DOTS, label="inputs look alike from here (s/q ≥ 0.99)"))
    for marker, words in (("v", "zero"), ("^", "overflow")):
        if any(marker in each.edges for each in drawn):
            handles.append(Line2D([], [], linestyle="none", marker=marker, color=_INK, label=words))
    made.legend(
        handles=handles, loc="outside lower center", ncols=3, fontsize=8.5, frameon=False, labelcolor=_INK,
        handlelength=2.2, columnspacing=1.8,
    )  # fmt: skip
