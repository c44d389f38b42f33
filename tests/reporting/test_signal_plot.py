"""The plot of a signal: what is drawn, and what the file holds."""

import math
import sys
from itertools import pairwise
from xml.etree import ElementTree

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from torch import nn

from autoinit.errors import ArgumentError
from autoinit.reporting.signals.plotting import HUES, figure, spaced
from autoinit.signal import OperationSignal, SignalReport, SignalRow, propagate
from tests.shared.signal_reports import chain, layer, report, stream


def lines(axes, label):
    return [each for each in axes.lines if each.get_label() == label]


def line(axes, label):
    (found,) = lines(axes, label)
    return found


def drawn(axes, label):
    """The points of a line or of markers, nine digits of them."""
    return [(depth, float(f"{value:.9g}")) for depth, value in line(axes, label).get_xydata()]


def legend(made):
    return [text.get_text() for text in made.legends[0].get_texts()]


def overlapping(made):
    """Pairs of texts that lie on one another."""
    canvas = FigureCanvasAgg(made)
    canvas.draw()
    texts = [*made.legends[0].get_texts(), *made.texts]
    for axes in made.axes:
        texts += [*axes.texts, axes.title, axes.xaxis.label, axes.yaxis.label]
    for axis in (made.axes[0].yaxis, made.axes[1].yaxis, made.axes[1].xaxis):
        low, high = axis.get_view_interval()
        ticks = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
        texts += [label for at, label in ticks if low <= at <= high]
    boxes = [
        (text.get_text(), text.get_window_extent(canvas.get_renderer()))
        for text in texts
        if text.get_visible() and text.get_text()
    ]
    return [(one, other) for at, (one, box) in enumerate(boxes) for other, near in boxes[:at] if box.overlaps(near)]


def test_forward_above_backward_against_depth_on_log_axes():
    made = figure(chain((1, 0.01), (2, 0.1), (4, 1)))
    above, below = made.axes
    assert (above.get_yscale(), below.get_yscale()) == ("log", "log")
    assert drawn(above, "predicted pre-activations") == [(1, 1), (2, 2), (3, 4)]
    assert drawn(below, "predicted pre-activations") == [(1, 0.01), (2, 0.1), (3, 1)]
    assert made.get_suptitle() == "Net: second moment against depth"
    assert below.get_xlabel() == "depth: weight operations passed"


def test_predicted_is_a_line_and_measured_are_points_of_its_colour():
    made = figure(chain((1, 1), (2, 1)), chain((1.1, 1), (1.9, 1), kind="measured"))
    predicted = line(made.axes[0], "predicted pre-activations")
    measured = line(made.axes[0], "measured pre-activations")
    assert (predicted.get_linestyle(), predicted.get_marker()) == ("-", "")
    assert (measured.get_linestyle(), measured.get_marker()) == ("None", "o")
    assert [tuple(point) for point in measured.get_xydata()] == [(1, 1.1), (2, 1.9)]
    assert predicted.get_color() == measured.get_markerfacecolor() == HUES[0]
    assert legend(made) == ["pre-activations, predicted", "pre-activations, measured", "from 1/2 to 2"]


def test_states_have_colours_of_their_own_and_names_where_their_lines_end():
    before, after = chain((1, 1), (0.01, 1)), chain((1, 1), (1, 1))
    made = figure(
        before, chain((1, 1), (0.02, 1), kind="measured"), after, labels=["before", "before", "after"], title="A title"
    )
    above = made.axes[0]
    assert line(above, "before predicted pre-activations").get_color() == HUES[0]
    assert line(above, "before measured pre-activations").get_markerfacecolor() == HUES[0]
    assert line(above, "after predicted pre-activations").get_color() == HUES[1]
    assert {text.get_text(): to_hex(text.get_color()) for text in above.texts} == {"before": HUES[0], "after": HUES[1]}
    heights = {text.get_text(): text.xy[1] for text in above.texts}
    low, high = above.get_ylim()
    assert heights["before"] == pytest.approx(math.log(0.01 / low) / math.log(high / low))
    assert legend(made)[:2] == ["before", "after"]
    assert made.get_suptitle() == "A title"


def test_sums_of_a_stream_are_told_apart_from_pre_activations():
    operations = layer("a", 1, SignalRow(1)), stream("add", 1, SignalRow(2)), stream("add_1", 2, SignalRow(3))
    made = figure(report(*operations), report(*operations, kind="measured"))
    above = made.axes[0]
    assert drawn(above, "predicted sums") == [(1, 2), (2, 3)]
    assert line(above, "predicted sums").get_linestyle() == "--"
    assert line(above, "measured sums").get_marker() == "D"
    assert line(above, "measured sums").get_markerfacecolor() == "white"
    assert "sums of the residual stream, predicted" in legend(made)


def test_several_at_one_depth_are_their_geometric_mean_and_a_shade_of_their_range():
    made = figure(report(layer("a", 1, SignalRow(1)), layer("b", 2, SignalRow(0.5)), layer("c", 2, SignalRow(8))))
    above = made.axes[0]
    assert drawn(above, "predicted pre-activations") == [(1, 1), (2, 2)]
    (shade,) = above.collections
    vertices = shade.get_paths()[0].vertices
    assert {tuple(point) for point in vertices} == {(1, 1), (2, 0.5), (2, 8)}
    assert "range of several at one depth" in legend(made)


def test_the_band_from_one_half_to_two_is_in_the_forward_panel():
    above, below = figure(chain((100, 1), (200, 1))).axes
    (band,) = [each for each in above.patches if isinstance(each, Rectangle)]
    assert (band.get_y(), band.get_y() + band.get_height()) == (0.5, 2)
    assert above.get_ylim()[0] < 0.5
    assert not below.patches


def test_zeros_and_overflow_stand_at_the_edge_and_are_named():
    made = figure(chain((1, 0), (float("inf"), 1), (0, None), (float("nan"), 1)))
    above, below = made.axes
    low, high = above.get_ylim()
    assert drawn(above, "predicted pre-activations") == [(1, 1)]
    assert drawn(above, "zero") == [(3, pytest.approx(low))]
    assert drawn(above, "overflow") == [(2, pytest.approx(high))]
    assert drawn(below, "zero") == [(1, pytest.approx(below.get_ylim()[0]))]
    assert drawn(below, "predicted pre-activations") == [(2, 1), (4, 1)]
    assert legend(made)[-2:] == ["zero", "overflow"]


def test_where_inputs_become_indistinguishable():
    found = layer("a", 1, SignalRow(1, s=0.5)), layer("b", 2, SignalRow(1, s=0.995)), layer("c", 3, SignalRow(1, s=1))
    made = figure(report(*found))
    assert line(made.axes[0], "collapse").get_xdata() == [2, 2]
    assert not lines(made.axes[1], "collapse")
    assert "inputs look alike from here (s/q ≥ 0.99)" in legend(made)


def test_a_weight_within_another_operation_stands_where_that_does():
    rows = {"attention.in": SignalRow(0.25), "attention.out": SignalRow(1)}
    attention = OperationSignal(
        "attention", "multi_head_attention", "weight", "", 4, row=SignalRow(9), weights=(*rows,)
    )
    above = figure(SignalReport("predicted", "Net", rows, (attention,), ())).axes[0]
    assert drawn(above, "predicted pre-activations") == [(4, 0.5)]


def test_one_layer():
    made = figure(chain((0.3, 0.2)), chain((0.31, 0.2), kind="measured"))
    assert line(made.axes[0], "predicted pre-activations").get_marker() == "_"
    low, high = made.axes[1].get_ylim()
    assert high / low >= 99  # a difference that is small looks small
    assert overlapping(made) == []


def test_no_layer():
    made = figure(report())
    assert [text.get_text() for axes in made.axes for text in axes.texts] == ["not known", "not known"]
    assert overlapping(made) == []


def test_a_thousand_layers_over_three_hundred_decades():
    moments = [(10.0 ** (-0.15 * at), 10.0 ** (-0.3 * (999 - at))) for at in range(1000)]
    made = figure(chain(*moments), chain(*moments, kind="measured"))
    above, below = made.axes
    assert len(drawn(above, "predicted pre-activations")) == 1000
    assert line(above, "predicted pre-activations").zorder > line(above, "measured pre-activations").zorder
    assert below.get_ylim()[0] < 10.0 ** (-0.3 * 999) < 1 < below.get_ylim()[1]
    assert overlapping(made) == []


def test_no_text_lies_on_another():
    alike = [chain((1, 1), (1.02**at, 1)) for at in range(4)]
    made = figure(*alike, labels=["as constructed", "He everywhere", "method signal", "method data"])
    assert overlapping(made) == []


@pytest.mark.parametrize(
    ("wanted", "placed"),
    [
        ([], []),
        ([0.3, 0.8], [0.3, 0.8]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.98, 0.99], [0.9, 1.0]),
        ([0.0, 0.01, 0.25], [0.0, 0.1, 0.25]),
    ],
)
def test_labels_keep_their_distance(wanted, placed):
    assert spaced(wanted, 0.1) == pytest.approx(placed)


@given(st.lists(st.floats(0, 1), max_size=10))
def test_labels_keep_their_distance_wherever_they_want_to_be(wanted):
    placed = spaced(sorted(wanted), 0.1)
    assert len(placed) == len(wanted)
    assert all(after - before >= 0.1 - 1e-9 for before, after in pairwise(placed))
    assert all(-1e-9 <= each <= 1 + 1e-9 for each in placed)


def test_a_real_residual_network():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(16, 32), nn.Linear(32, 16)

        def forward(self, x):
            return x + self.second(torch.relu(self.first(x)))

    torch.manual_seed(0)
    made = propagate(nn.Sequential(Block(), Block())).plot()
    assert [x for x, _ in drawn(made.axes[0], "predicted pre-activations")] == [1, 2, 3, 4]
    assert [x for x, _ in drawn(made.axes[0], "predicted sums")] == [2, 4]


def test_svg(tmp_path):
    file = tmp_path / "signal.svg"
    chain((1, 1), (2, 1), model="A<B & 'C\"").plot(
        file, beside=[chain((1, 1), (2, 1))], labels=["<before>", "after & so on"]
    )
    texts = {
        "".join(each.itertext()).strip() for each in ElementTree.parse(file).iter("{http://www.w3.org/2000/svg}text")
    }
    assert {"A<B & 'C\": second moment against depth", "<before>", "after & so on"} <= texts


@pytest.mark.parametrize(("suffix", "head"), [(".svg", b"<?xml"), (".png", b"\x89PNG"), (".pdf", b"%PDF")])
def test_the_same_figure_gives_the_same_file(tmp_path, suffix, head):
    one, other = tmp_path / f"one{suffix}", tmp_path / f"other{suffix}"
    for file in (one, str(other)):
        chain((1, 1), (2, 1)).plot(file)
    assert one.read_bytes().startswith(head)
    assert one.read_bytes() == other.read_bytes()


def test_a_suffix_that_names_no_format(tmp_path):
    with pytest.raises(ArgumentError, match=r"signal\.gif: a plot is written to \.svg, \.png, \.pdf, not '\.gif'"):
        chain((1, 1)).plot(tmp_path / "signal.gif")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(ArgumentError, match=r"signal\.svg cannot be written: No such file or directory"):
        chain((1, 1)).plot(tmp_path / "nowhere" / "signal.svg")


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ArgumentError, match=r"pip install torch-autoinit\[plot\]"):
        chain((1, 1)).plot()
