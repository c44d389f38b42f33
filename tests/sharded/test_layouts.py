"""Pieces that plain tensors hold, told by `layout=`: as Megatron, ZeRO-3 and FSDP1 keep them, made by hand.

Each piece must hold the elements that one process writes there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from autoinit import ArgumentError, Box, FlatRun, Plan, PlanError, plan

HIDDEN = 10


class Net(nn.Module):
    """Two layers with an activation between; the first has a fused pair of outputs, of which one is a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(7, 2 * HIDDEN)
        self.down = nn.Linear(HIDDEN, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value, gate = self.up(x).chunk(2, dim=-1)
        return x + self.down(torch.relu(value) * torch.sigmoid(gate))


def whole(distribution: str = "normal") -> tuple[Plan, dict[str, torch.Tensor]]:
    """The plan, and what one process writes."""
    model = Net()
    made = plan(model, distribution=distribution, residual="depth")
    made.apply(model, seed=9)
    return made, {name: each.detach() for name, each in model.named_parameters()}


def holding(pieces: dict[str, torch.Tensor]) -> nn.Module:
    """A model that has these in place of its parameters."""
    model = Net()
    for name, piece in pieces.items():
        owner, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(owner), leaf, nn.Parameter(piece.clone()))
    return model


@pytest.mark.parametrize("distribution", ["normal", "uniform", "truncated_normal", "orthogonal"])
@pytest.mark.parametrize("rank", [0, 1])
def test_megatrons_columns_and_rows(distribution: str, rank: int) -> None:
    """Of each of the fused halves half of the rows, and of the second layer half of the columns."""
    made, right = whole(distribution)
    mine = [*range(5 * rank, 5 * rank + 5), *range(10 + 5 * rank, 15 + 5 * rank)]
    columns = slice(5 * rank, 5 * rank + 5)
    boxes = {
        "up.weight": Box((20, 7), [mine, slice(None)]),
        "up.bias": Box((20,), [mine]),
        "down.weight": Box((7, 10), [slice(None), columns]),
    }
    held = {"up.weight": torch.ones(10, 7), "up.bias": torch.ones(10), "down.weight": torch.ones(7, 5)}
    model = holding(held)
    made.apply(model, seed=9, layout=lambda name, tensor: boxes.get(name))
    assert torch.equal(model.up.weight, right["up.weight"][mine])
    assert torch.equal(model.down.weight, right["down.weight"][:, columns])
    assert not model.up.bias.any()
    assert not model.down.bias.any()


@pytest.mark.parametrize("distribution", ["normal", "uniform", "truncated_normal", "orthogonal"])
@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_flat_runs(distribution: str, processes: int) -> None:
    """A flattened parameter, padded and cut evenly: the tensor is kept elsewhere, as ZeRO-3 does."""
    made, right = whole(distribution)
    for rank in range(processes):
        model = holding({name: torch.empty(0) for name in right})
        kept: dict[str, torch.Tensor] = {}

        def layout(name: str, tensor: torch.Tensor) -> tuple[torch.Tensor, FlatRun]:
            size = right[name].numel()
            share = -(-size // processes)
            start, stop = min(rank * share, size), min((rank + 1) * share, size)  # noqa: B023 - called at once
            padded = kept.setdefault(name, torch.full((share,), 7.0))  # noqa: B023
            return padded[: stop - start], FlatRun(tuple(right[name].shape), start, stop)

        made.apply(model, seed=9, layout=layout)
        for name, piece in kept.items():
            share = piece.numel()
            expected = right[name].flatten()[rank * share : (rank + 1) * share]
            assert torch.equal(piece[: expected.numel()], expected)
            assert (piece[expected.numel() :] == 7).all()  # padding is nobody's


class Paired(nn.Module):
    """Convolutions in pairs, a depthwise one that passes them on, and a gate of two weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.depthwise = nn.Conv1d(3, 8, 3), nn.Conv1d(8, 8, 3, groups=8)
        self.value, self.gate, self.last = nn.Conv1d(8, 6, 1), nn.Conv1d(8, 6, 1), nn.Conv1d(6, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.depthwise(torch.relu(self.first(x)))
        return self.last(self.value(x) * torch.sigmoid(self.gate(x)))


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_pieces_of_mirrored_weights(rank: int) -> None:
    """Each process draws the whole matrix and keeps its run: pairs lie in different processes."""
    alone, model = Paired(), Paired()
    made = plan(alone, torch.zeros(4, 3, 16), method="mirrored")
    assert made["depthwise"].mirror.copies
    made.apply(alone, seed=9)
    runs = {}
    for name, whole_one in alone.named_parameters():
        size, owner = whole_one.numel(), model.get_submodule(name.rpartition(".")[0])
        runs[name] = FlatRun(tuple(whole_one.shape), rank * size // 3, (rank + 1) * size // 3)
        setattr(owner, name.rpartition(".")[2], nn.Parameter(torch.full((runs[name].stop - runs[name].start,), 7.0)))
    made.apply(model, seed=9, layout=lambda name, _: runs[name])
    for name, whole_one in alone.named_parameters():
        assert torch.equal(model.get_parameter(name), whole_one.flatten()[runs[name].start : runs[name].stop])


def test_a_run_that_is_the_parameter_itself() -> None:
    """FSDP1 with `use_orig_params`: a parameter is the run of it that is here."""
    made, right = whole()
    model = holding({"up.weight": torch.ones(33)})
    made.apply(model, seed=9, layout=lambda name, _: FlatRun((20, 7), 50, 83) if name == "up.weight" else None)
    assert torch.equal(model.up.weight, right["up.weight"].flatten()[50:83])
    assert torch.equal(model.down.weight, right["down.weight"])


def test_padding_rows_of_a_piece_stay() -> None:
    """A head tied to an embedding whose row 4 (elements 20 to 25 of 8 x 5) is padding; elements 10 to 26 are here."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(8, 5, padding_idx=4)
            self.head = nn.Linear(5, 8, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.head(torch.tanh(self.embedding(tokens)))

    model = Tied()
    made = plan(model, torch.zeros(1, 2, dtype=torch.long))
    alone = copy.deepcopy(model)
    made.apply(alone, seed=1)
    model.embedding.weight = model.head.weight = nn.Parameter(torch.full((16,), 3.0))
    made.apply(model, seed=1, layout=lambda name, _: FlatRun((8, 5), 10, 26))
    expected = alone.head.weight.detach().flatten()[10:26].clone()
    expected[10:15] = 3.0
    assert torch.equal(model.head.weight, expected)


def test_signs_of_training_are_found_in_pieces() -> None:
    """Each row of the flat run has a scale of its own."""
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    made = plan(model)
    pieces = {f"{each}.weight": torch.randn(32, 64) * torch.linspace(0.1, 3, 32)[:, None] for each in (0, 2)}
    for name, piece in pieces.items():
        model.get_submodule(name[0]).weight = nn.Parameter(piece.flatten()[5:])
    layout = {name: FlatRun((64, 64), 5, 2048) for name in pieces}
    with pytest.raises(Exception, match="none of the 2 weights sampled fits a known initialisation"):
        made.apply(model, seed=1, layout=lambda name, _: layout.get(name))


@pytest.mark.parametrize(
    ("told", "error", "match"),
    [
        ("all of it", ArgumentError, r"layout\('up.weight', ...\) gave 'all of it'; expected a Box, a FlatRun"),
        (FlatRun((20, 7), 0, 9), ArgumentError, r"held by a tensor of shape \(9,\), but the tensor has \(20, 7\)"),
        (
            Box((30, 7), [slice(5, 25), slice(None)]),
            PlanError,
            r"planned for shape \(20, 7\), but up.weight has \(30, 7\)",
        ),
    ],
)
def test_what_a_layout_may_not_say(told: object, error: type[Exception], match: str) -> None:
    made, _ = whole()
    model = Net()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(error, match=match):
        made.apply(model, seed=9, layout=lambda name, _: told if name == "up.weight" else None)
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())


class _SpeechlessError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("again")


def _raising(error: Exception) -> Callable[[str, torch.Tensor], object]:
    def layout(name: str, _: torch.Tensor) -> object:
        if name == "up.weight":
            raise error
        return None

    return layout


@pytest.mark.parametrize(
    ("layout", "match"),
    [
        (_raising(KeyError("rank")), r"layout\('up.weight', ...\) failed: KeyError: 'rank'; nothing was written"),
        (_raising(_SpeechlessError()), r"layout\('up.weight', ...\) failed: _SpeechlessError: ; nothing"),
        (lambda name, _: Box((3, 3), [(0,), (5,)]), r"layout\('up.weight', ...\) failed: IndexError: "),
        (lambda: None, "expected a function to be called with 2 arguments"),
        (5, "layout=5: expected a function"),
    ],
)
def test_a_layout_that_fails(layout: Any, match: str) -> None:
    """Its own errors came through raw, also those of regions that it makes wrongly."""
    made, _ = whole()
    model = Net()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ArgumentError, match=match):
        made.apply(model, seed=9, layout=layout)
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
