"""A signal in words: which reports belong together, what they come to, and the table."""

import io
import math

import pytest
import torch
from rich.console import Console
from torch import nn

from autoinit.errors import ArgumentError
from autoinit.reporting.signals.states import layer_lines, signal_points, states
from autoinit.reporting.signals.table import render
from autoinit.reporting.signals.totals import totals
from autoinit.signal import SignalRow, propagate
from tests.shared.signal_reports import chain, layer, report, stream


def test_a_prediction_and_a_measurement_belong_together():
    predicted, measured = chain((1, 1)), chain((2, 1), kind="measured")
    (state,) = states([measured, predicted])
    assert (state.label, state.predicted, state.measured) == ("", predicted, measured)
    assert state.report is predicted


def test_the_second_of_a_kind_is_another_state():
    first, second = states([chain((1, 1)), chain((2, 1)), chain((3, 1), kind="measured")])
    assert (first.label, second.label) == ("1", "2")
    assert first.measured is not None
    assert second.measured is None


def test_labels_say_what_belongs_together():
    shown = states([chain((1, 1)), chain((2, 1)), chain((3, 1), kind="measured")], ["before", "after", "after"])
    assert [(each.label, each.measured is not None) for each in shown] == [("before", False), ("after", True)]


@pytest.mark.parametrize(
    ("count", "labels", "said"),
    [
        (0, [], r"no SignalReport to show; expected at least one"),
        (2, ["before"], r"1 labels for 2 reports: 'before'; expected one for each"),
        (2, ["same", "same"], r"two predicted reports with the label 'same'; expected different labels"),
    ],
)
def test_labels_that_do_not_fit(count, labels, said):
    with pytest.raises(ArgumentError, match=said):
        states([chain((1, 1))] * count, labels)


def test_layers_of_all_states_are_listed_once_in_order_of_call():
    one = report(layer("a", 1, SignalRow(1)), layer("b", 2, None, "not computed"), stream("add", 2, SignalRow(3)))
    other = report(layer("b", 2, SignalRow(4)), layer("a", 1, SignalRow(2)), kind="measured")
    first, second = layer_lines(states([one, other]))
    assert (first.name, first.depth, first.predicted, first.measured) == ("a", 1, (SignalRow(1),), (SignalRow(2),))
    assert (second.name, second.predicted, second.measured) == ("b", (None,), (SignalRow(4),))
    assert second.notes == ("not computed",)


def test_totals():
    found = report(
        layer("a", 1, SignalRow(0.5, s=0.2, grad=0)),
        layer("b", 2, SignalRow(2, s=1.99, grad=1e-3)),
        layer("c", 3, SignalRow(2.1, s=2.1, grad=10)),
        outputs=[SignalRow(2.1), SignalRow(0.3333)],
    )
    assert dict(totals(found)) == {
        "layers with q in [1/2, 2]": "2 of 3 (67%)",
        "inputs look alike from": "b (depth 2)",
        "q of the output": "2.1, 0.333",
        "log10 max/min of grad": "4.00; none at all in 1 layer",
    }


def test_totals_of_a_model_without_layers():
    assert dict(totals(report())) == {
        "layers with q in [1/2, 2]": "0 of 0",
        "inputs look alike from": "nowhere",
        "q of the output": "not known",
        "log10 max/min of grad": "not known",
    }


def text(shown, width=100, **options):
    return [line.plain for line in render(shown, width, **options)]


def test_the_table():
    found = report(
        layer("embed", 1, SignalRow(1, s=0.25, grad=0.125)),
        layer("head", 2, SignalRow(0.004, p=0.001, s=0.002, grad=1)),
        outputs=[SignalRow(0.004)],
        notes=["input guessed"],
    )
    assert str(found).splitlines() == [
        "autoinit signal  Net: predicted",
        "",
        "layer  op          q    p/q    s/q   grad",
        "-----------------------------------------",
        "embed  linear      1      -  0.250  0.125",
        "head   linear  0.004  0.250  0.500      1",
        "q: second moment of the layer's output, before its nonlinearity; p/q: correlation of two positions;",
        "s/q: correlation of two samples; grad: second moment of its gradient",
        "",
        "Note: input guessed",
        "layers with q in [1/2, 2]  1 of 2 (50%)",
        "inputs look alike from     nowhere",
        "q of the output            0.004",
        "log10 max/min of grad      0.90",
        "time                       250 ms",
    ]


def test_measured_stands_beside_predicted():
    lines = text(states([chain((1, 0.5)), chain((1.25, 0.75), kind="measured")]))
    assert lines[2].split() == ["layer", "op", "q", "q", "measured", "grad", "grad", "measured"]
    assert lines[4].split() == ["0", "linear", "1", "1.25", "0.5", "0.75"]
    assert any(line.split() == ["predicted", "measured"] for line in lines)


def test_before_stands_beside_after():
    shown = states([chain((0.01, 0.5)), chain((1, 0.75))], ["before", "after"])
    lines = text(shown)
    assert lines[0] == "autoinit signal  Net: before (predicted), after (predicted)"
    assert lines[2].split() == ["layer", "op", "q", "before", "q", "after", "grad", "before", "grad", "after"]
    assert lines[4].split() == ["0", "linear", "0.01", "1", "0.5", "0.75"]


def full_states():
    row = SignalRow(1.0123, p=0.5123, s=0.25123, grad=0.125123)
    reports = [report(layer("some.layer.of.the.model", 1, row), kind=kind) for kind in ("predicted", "measured")] * 2
    return states(reports, ["before", "before", "after", "after"])


@pytest.mark.parametrize("width", [80, 100, 200])
def test_columns_give_way_where_there_is_no_room_and_are_named(width):
    lines = text(full_states(), width)
    assert max(map(len, lines)) <= width
    said = [line for line in lines if line.startswith("No room for")]
    assert bool(said) == (width < 200)
    assert all("p/q before" in line for line in said)
    heads = next(line for line in lines if line.startswith("layer ")).split()
    assert any(line.startswith("No room for op,") for line in said) == ("op" not in heads)
    assert ("op" in heads) == (width > 80)


class Stream(nn.Module):
    """Adds up a branch with GELU's tanh form written out, and rotated features."""

    def __init__(self):
        super().__init__()
        self.first, self.up, self.down = nn.Linear(8, 8), nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x):
        h = self.first(x)
        u = self.up(h)
        u = 0.5 * u * (1 + torch.tanh(0.8 * (u + 0.044715 * u**3)))
        u = u * 0.6 + torch.roll(u, 1, -1) * 0.8
        h = h + self.down(u)
        return h + x


def test_sums_of_a_stream_are_those_of_what_different_layers_make():
    (state,) = states([propagate(Stream(), (4, 8))])
    sums = [place for place in signal_points(state.report) if place.stream]
    assert [place.depth for place in sums] == [3, 3]
    assert sum(each.role == "add" for each in state.report.operations) == 4


def test_correlations_have_three_decimals():
    rows = [SignalRow(2, s=-1e-6), SignalRow(2, s=2), SignalRow(2, s=math.nan), SignalRow(2, s=-0.5)]
    lines = text(states([report(*(layer(str(at), at, row) for at, row in enumerate(rows, 1)))]))
    assert [line.split()[3] for line in lines[4:8]] == ["0.000", "1.000", "nan", "-0.250"]


def test_numbers_stay_on_one_line_as_long_as_columns_can_give_way():
    layers = [
        layer(f"blocks.{at}.fc", at + 1, SignalRow(0.0123 + at, s=0.001 * at, grad=0.000111 * (1 + at)))
        for at in range(70)
    ]
    lines = text(states([report(*layers), report(*layers, kind="measured")]), 80)
    (line,) = [line for line in lines if line.startswith("blocks")]
    assert [part for part in line.split() if ".." in part] == ["0.012..69", "0.012..69", "0.00011..0.0078"]


def test_many_layers_that_are_alike_but_for_their_numbers_share_a_row():
    layers = [layer(f"blocks.{at}.fc", at + 1, SignalRow(2.0**-at)) for at in range(70)]
    lines = text(states([report(*layers)]))
    (row,) = [line for line in lines if line.startswith("blocks")]
    assert row.split() == ["blocks.{0-69}.fc", "x70", "linear", "1.7e-21..1"]
    assert sum(".fc" in line for line in text(states([report(*layers)]), full=True)) == 70


def test_many_layers_stand_under_the_module_that_they_share():
    layers = [layer(f"blocks.{at}.{name}", 2 * at + 1, SignalRow(1)) for at in range(15) for name in ("fc1", "fc2")]
    lines = text(states([report(*layers)]))
    at = lines.index("blocks.7")
    assert [line.split() for line in lines[at : at + 4]] == [
        ["blocks.7"],
        ["fc1", "linear", "1"],
        ["fc2", "linear", "1"],
        ["blocks.8"],
    ]


@pytest.mark.parametrize(("value", "shown"), [(math.inf, "inf"), (math.nan, "nan"), (0.0, "0")])
def test_numbers_that_are_none(value, shown):
    assert text(states([chain((value, None))]))[4].split() == ["0", "linear", shown]


def test_notes_of_a_layer_stand_below_it():
    lines = text(states([report(layer("a", 1, None, "no kernel for this type"))]))
    assert lines[4].split() == ["a", "linear"]
    assert lines[5] == "    no kernel for this type"


def test_printing_to_a_terminal_and_to_a_file():
    file = io.StringIO()
    chain((1, 1)).print(file)
    assert "\x1b" not in file.getvalue()
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    chain((0.001, 1)).print(console=console)
    assert "\x1b[1;31m0.001" in console.file.getvalue()
