"""Fused projections: each run of output rows has an ending of its own. Rows are derived by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import autoinit
from autoinit.resolving import resolve
from autoinit.tracing import trace
from tests.shared.models.parted import (
    ALTERNATING,
    HALVES,
    HEAD,
    HEADS,
    HIDDEN,
    THIRDS,
    WIDTH,
    Attending,
    Gated,
    GatedConv,
    GatedLinearUnit,
    interleaved_by_feature,
    interleaved_by_head,
    shared_key_and_value,
)
from tests.truth import Row, rows_of
from tests.truth.rows import ATTENTION, GATE, GELU, OUTPUT, SIGMOID, SILU

SEQUENCE = torch.linspace(-1, 1, 2 * 5 * WIDTH).view(2, 5, WIDTH)
IMAGE = torch.linspace(-1, 1, 2 * WIDTH * 16).view(2, WIDTH, 4, 4)

FIRST, SECOND = ((0, HIDDEN),), ((HIDDEN, 2 * HIDDEN),)

JOINS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Row, Row]] = {
    "silu_of_first": (lambda first, second: F.silu(first) * second, SILU, GATE),
    "gelu_of_second": (lambda first, second: first * F.gelu(second), GATE, GELU),
    "sigmoid_of_second": (lambda first, second: first.mul(torch.sigmoid(second)), GATE, SIGMOID),
}

ways = pytest.mark.parametrize("with_input", [False, True], ids=["no_input", "input"])


def slices(model: nn.Module, inputs: Tensor | None) -> tuple[object, ...]:
    """The slices of the layer `fused`."""
    return rows_of(resolve(trace(model, inputs)))["fused"].slices


@ways
@pytest.mark.parametrize("join", JOINS)
@pytest.mark.parametrize("part", HALVES)
def test_gate_and_value(part: str, join: str, with_input: bool):
    function, first, second = JOINS[join]
    model = Gated(HALVES[part], function)
    rows = rows_of(resolve(trace(model, SEQUENCE if with_input else None)))
    assert set(rows) == {"fused", "down"}
    assert rows["fused"].slices == ((FIRST, first), (SECOND, second))
    assert rows["down"] == OUTPUT


@pytest.mark.parametrize("join", JOINS)
@pytest.mark.parametrize("part", HALVES)
def test_gate_and_value_of_an_exported_program(part: str, join: str):
    function, first, second = JOINS[join]
    program = torch.export.export(Gated(HALVES[part], function), (SEQUENCE,))
    assert slices(program, None) == ((FIRST, first), (SECOND, second))


@ways
@pytest.mark.parametrize(
    "glu", [F.glu, nn.GLU(), lambda x: F.glu(x, dim=-1)], ids=["functional", "module", "dimension_given"]
)
def test_glu_gates_with_its_second_half(glu, with_input: bool):
    found = slices(GatedLinearUnit(glu), SEQUENCE if with_input else None)
    assert found == ((FIRST, GATE), (SECOND, SIGMOID))


@ways
def test_channels_of_a_convolution(with_input: bool):
    assert slices(GatedConv(), IMAGE if with_input else None) == ((FIRST, GATE), (SECOND, SIGMOID))


@ways
def test_alternating_features_are_runs_of_one_row(with_input: bool):
    model = Gated(ALTERNATING, lambda first, second: F.silu(first) * second)
    even = tuple((row, row + 1) for row in (0, 2, 4, 6))
    odd = tuple((row, row + 1) for row in (1, 3, 5, 7))
    assert slices(model, SEQUENCE if with_input else None) == ((even, SILU), (odd, GATE))


@ways
@pytest.mark.parametrize("part", THIRDS)
def test_query_key_and_value_are_thirds(part: str, with_input: bool):
    model = Attending(3 * HEADS * HEAD, THIRDS[part])
    rows = rows_of(resolve(trace(model, SEQUENCE if with_input else None)))
    thirds = (((0, 6),), ((6, 12),), ((12, 18),))
    assert rows == {"fused": Row("linear", "attention", slices=tuple((r, ATTENTION) for r in thirds)), "out": OUTPUT}


@pytest.mark.parametrize("part", THIRDS)
def test_query_key_and_value_of_an_exported_program(part: str):
    program = torch.export.export(Attending(3 * HEADS * HEAD, THIRDS[part]), (SEQUENCE,))
    assert slices(program, None) == ((((0, 6),), ATTENTION), (((6, 12),), ATTENTION), (((12, 18),), ATTENTION))


@ways
def test_one_key_and_one_value_head_for_all_query_heads(with_input: bool):
    model = Attending((HEADS + 2) * HEAD, shared_key_and_value)
    runs = (((0, 6),), ((6, 9),), ((9, 12),))
    assert slices(model, SEQUENCE if with_input else None) == tuple((each, ATTENTION) for each in runs)


@ways
def test_interleaved_by_head(with_input: bool):
    model = Attending(3 * HEADS * HEAD, interleaved_by_head)
    runs = (((0, 3), (9, 12)), ((3, 6), (12, 15)), ((6, 9), (15, 18)))
    assert slices(model, SEQUENCE if with_input else None) == tuple((each, ATTENTION) for each in runs)


@ways
def test_interleaved_by_feature(with_input: bool):
    model = Attending(3 * HEADS * HEAD, interleaved_by_feature)
    runs = (
        ((0, 1), (3, 4), (6, 7), (9, 10), (12, 13), (15, 16)),
        ((1, 2), (4, 5), (7, 8), (10, 11), (13, 14), (16, 17)),
        ((2, 3), (5, 6), (8, 9), (11, 12), (14, 15), (17, 18)),
    )
    assert slices(model, SEQUENCE if with_input else None) == tuple((each, ATTENTION) for each in runs)


@ways
def test_slicing_positions_parts_nothing(with_input: bool):
    class LastToken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fused = nn.Linear(WIDTH, 8)
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.silu(self.fused(x)[:, -1]))

    assert rows_of(resolve(trace(LastToken(), SEQUENCE if with_input else None))) == {"fused": SILU, "head": OUTPUT}


def test_plan_gives_each_slice_its_own_fan():
    plan = autoinit.plan(Attending((HEADS + 2) * HEAD, shared_key_and_value), example_inputs=SEQUENCE)["fused"]
    assert [(part.rows, part.fan_in, part.fan_out) for part in plan.slices] == [
        (((0, 6),), 6.0, 6.0),
        (((6, 9),), 6.0, 3.0),
        (((9, 12),), 6.0, 3.0),
    ]
    assert [part.std for part in plan.slices] == pytest.approx([(1 / 6) ** 0.5, (2 / 9) ** 0.5, (2 / 9) ** 0.5])
    assert plan.std == pytest.approx(((6 / 6 + 3 * 2 / 9 + 3 * 2 / 9) / 12) ** 0.5)


def test_rows_that_part_beside_a_whole_that_does_not():
    """Half of the features feed the tanh, half the relu, and all of them a further layer: each half is mixed."""

    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            y = self.first(x)
            one, other = y.split([2, 4], -1)
            return self.second(y), torch.tanh(one), torch.relu(other)

    for inputs in ((3, 4), (3, 5, 4)):
        slices = autoinit.plan(Beside(), inputs)["first"].slices
        assert [(part.rows, part.nonlinearity, part.reason) for part in slices] == [
            (((0, 2),), "tanh", "mixed"), (((2, 6),), "relu", "mixed"),
        ]  # fmt: skip


JOINED_AGAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "split": lambda y: torch.cat(y.split([2, 4], -1), -1),
    "narrow": lambda y: torch.cat([y.narrow(-1, 0, 2), y.narrow(-1, 2, 4)], -1),
    "index": lambda y: torch.cat([y[..., 2:], y[..., :2]], -1),
}


@pytest.mark.parametrize("spelling", JOINED_AGAIN)
def test_parts_that_are_joined_again_beside_the_whole_are_no_slices(spelling: str):
    """All six features feed `second`, and the relu: no row parts from another, whatever cuts them."""

    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.third = nn.Linear(4, 6), nn.Linear(6, 2), nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            y = self.first(x)
            return self.second(JOINED_AGAIN[spelling](y)), self.third(torch.relu(y))

    first = autoinit.plan(Beside(), (3, 4))["first"]
    assert first.slices == ()
    assert {(each.nonlinearity, each.reason) for each in first.alternatives} == {
        ("relu", "activation"), ("linear", "weight"),
    }  # fmt: skip


@pytest.mark.parametrize("pool", [nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(2), nn.AdaptiveMaxPool2d(4)], ids=str)
@ways
def test_features_part_behind_a_join_with_what_was_pooled(pool: nn.Module, with_input: bool):
    """The first two of the four channels are `layer`'s and feed the tanh; the others are `beside`'s, and the relu's."""

    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.beside, self.pool = nn.Conv2d(2, 2, 1, 1), nn.Conv2d(2, 2, 1), pool

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            y = torch.cat([self.pool(self.layer(x)), self.pool(self.beside(x))], 1)
            first, second = y.chunk(2, 1)
            return torch.tanh(first), torch.relu(second)

    made = resolve(trace(Joined(), (1, 2, 8, 8)) if with_input else trace(Joined(), tier="symbolic"))
    answers = {each.name: (each.nonlinearity, each.alternatives) for each in made}
    assert answers == {"layer": ("tanh", ()), "beside": ("relu", ())}


class Picked(nn.Module):
    """Six features on the first axis; of other axes places are picked by an input, then the features part in halves."""

    def __init__(self, pick: Callable[[Tensor, Tensor], Tensor], axis: int) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 6)
        self.pick, self.axis = pick, axis

    def forward(self, x: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        first, second = self.pick(self.layer(x).permute(2, 0, 1), places).split(3, dim=self.axis)
        return torch.relu(first), torch.tanh(second)


@pytest.mark.parametrize(
    ("pick", "axis"),
    [
        (lambda h, places: h[..., places], 0),
        (lambda h, places: h[None, :, :, places], 1),
        (lambda h, places: h[:, places, places], 0),
        (lambda h, places: h[:, None, places], 0),
    ],
    ids=["behind an ellipsis", "beside a new axis", "on two axes at once", "behind a new axis"],
)
def test_features_part_behind_places_that_an_input_picks(pick: Callable[[Tensor, Tensor], Tensor], axis: int):
    """Whichever places of the other axes are picked, features 0 to 2 feed the ReLU and 3 to 5 the tanh."""
    inputs = (torch.randn(7, 9, 4), torch.tensor([3, 0, 6, 2, 2]))
    (row,) = rows_of(resolve(trace(Picked(pick, axis), inputs))).values()
    assert [(runs, part.nonlinearity) for runs, part in row.slices] == [(((0, 3),), "relu"), (((3, 6),), "tanh")]


def test_features_that_an_input_picks_part_nowhere():
    """Which of the six features come to the ReLU is not known before the inputs are."""

    class Chosen(Picked):
        def forward(self, x: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
            first, second = self.layer(x)[places, :, places.clamp(max=5)].split(3)
            return torch.relu(first), torch.tanh(second)

    inputs = (torch.randn(7, 9, 4), torch.tensor([3, 0, 6, 2, 2, 1]))
    (found,) = resolve(trace(Chosen(lambda h, _: h, 0), inputs))
    assert (found.slices, {each.nonlinearity for each in found.alternatives}) == ((), {"relu", "tanh"})


@ways
def test_features_of_a_weight_on_the_left_stand_on_the_axis_before_the_last(with_input: bool):
    """W x, with x of (samples, inputs, positions): rows 0 to 2 feed the ReLU, rows 3 to 5 the tanh."""

    class Left(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(6, 4))

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            first, second = torch.matmul(self.weight, x).split(3, dim=-2)
            return torch.relu(first), torch.tanh(second)

    (row,) = rows_of(resolve(trace(Left(), (5, 4, 7) if with_input else None, tier="recorded"))).values()
    assert [(runs, part.nonlinearity) for runs, part in row.slices] == [(((0, 3),), "relu"), (((3, 6),), "tanh")]
