"""Facts of parameters, by hand: roles, branches, attention, in several spellings and tiers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoinit.facts import Facts, gather
from autoinit.resolving import resolve
from autoinit.tracing import trace

WIDTH = 16
WORDS = torch.arange(10).reshape(2, 5)


def facts_of(model: nn.Module, inputs: Any = None) -> dict[str, list[Facts]]:
    dataflow = trace(model, inputs)
    found: dict[str, list[Facts]] = {}
    for each in gather(dataflow, resolve(dataflow)):
        found.setdefault(each.param, []).append(each)
    return found


def kinds(model: nn.Module, inputs: Any = None) -> dict[str, str]:
    return {name: each[0].kind for name, each in facts_of(model, inputs).items()}


def by_sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v)


def by_matmul(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.mT / 4, dim=-1) @ v


def by_columns(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The softmax over the first axis of keys by queries."""
    return torch.softmax(k @ q.mT, dim=1).mT @ v


def by_einsum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.einsum("bqk,bkd->bqd", torch.einsum("bqd,bkd->bqk", q, k).softmax(-1), v)


class Attention(nn.Module):
    def __init__(self, spelling: Any) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.spelling = spelling

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.spelling(self.q(x), self.k(x), self.v(x)))


@pytest.mark.parametrize("spelling", [by_sdpa, by_matmul, by_columns, by_einsum])
def test_queries_keys_and_values_are_told_apart(spelling):
    found = facts_of(Attention(spelling), torch.ones(2, 5, WIDTH))
    told = {name: found[f"{name}.weight"][0].attention for name in ("q", "k", "v", "out")}
    assert told == {"q": "query", "k": "key", "v": "value", "out": ""}


def test_rows_of_a_packed_projection_are_told_apart():
    found = facts_of(nn.TransformerEncoderLayer(WIDTH, 2, 32, batch_first=True), torch.ones(2, 5, WIDTH))
    parts = found["self_attn.in_proj_weight"]
    assert [(each.rows, each.attention) for each in parts] == [
        (((0, 16),), "query"), (((16, 32),), "key"), (((32, 48),), "value"),
    ]  # fmt: skip


class Vision(nn.Module):
    """Two tokens, positions, a bias table by index, a layer scale, norms with gains used as 1 + w."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 4, 4)
        self.first, self.second = (nn.Parameter(torch.zeros(1, 1, WIDTH)) for _ in range(2))
        self.positions = nn.Parameter(torch.zeros(1, 6, WIDTH))
        self.table = nn.Parameter(torch.zeros(9, 1))
        self.register_buffer("index", torch.arange(36).remainder(9))
        self.gain, self.scale = nn.Parameter(torch.zeros(WIDTH)), nn.Parameter(torch.ones(WIDTH))
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.slope = nn.PReLU()
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).mT
        x = torch.cat([self.first.expand(len(x), -1, -1), self.second.expand(len(x), -1, -1), x], dim=1)
        x = x + self.positions
        normed = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * (1 + self.gain)
        q, k, v = self.qkv(normed).chunk(3, dim=-1)
        bias = self.table[self.index].view(6, 6)
        x = x + self.scale * self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=bias))
        return self.head(self.slope(x).mean(1))


def test_what_is_no_weight_is_told_by_what_it_does():
    found = {name: each[0] for name, each in facts_of(Vision(), torch.ones(1, 3, 8, 8)).items()}
    assert {name: each.kind for name, each in found.items()} == {
        "patches.weight": "weight", "patches.bias": "bias", "first": "token", "second": "token",
        "positions": "position", "table": "bias_table", "gain": "norm_gain", "scale": "layer_scale",
        "qkv.weight": "weight", "out.weight": "weight", "slope.weight": "slope", "head.weight": "weight",
        "head.bias": "bias",
    }  # fmt: skip
    assert (found["first"].order, found["second"].order) == (0, 1)
    assert found["gain"].neutral == 0  # used as 1 + gain
    assert found["patches.weight"].is_patch
    assert found["patches.weight"].reads_input
    assert found["head.weight"].is_head
    assert (found["out.weight"].branch, found["out.weight"].ends_branch, found["out.weight"].width) == (1, True, 16)
    assert found["table"].branch == 1


class Words(nn.Module):
    """Tokens, positions by their numbers, a tied head."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(20, WIDTH), nn.Embedding(8, WIDTH)
        self.body, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 20, bias=False)
        if tied:
            self.head.weight = self.words.weight

    def forward(self, words: Tensor) -> Tensor:
        x = self.words(words) + self.places(torch.arange(words.shape[1]))
        return self.head(torch.relu(self.body(x)))


@pytest.mark.parametrize("tied", [False, True])
def test_tables_are_told_by_whose_numbers_look_them_up(tied):
    found = {name: each[0] for name, each in facts_of(Words(tied), WORDS).items()}
    assert found["places.weight"].kind == "position"
    assert found["words.weight"].kind == ("weight" if tied else "embedding")
    assert found["words.weight" if tied else "head.weight"].tied == tied
    assert found["words.weight" if tied else "head.weight"].is_head


class Decoder(nn.Module):
    """An encoder of one branch; a decoder whose second branch attends to what it gives."""

    def __init__(self) -> None:
        super().__init__()
        names = ("encoded", "inner", "self_end", "q", "k", "v", "cross_end", "up", "down")
        for name in names:
            self.add_module(name, nn.Linear(WIDTH, WIDTH))
        self.source, self.target, self.head = nn.Embedding(20, WIDTH), nn.Embedding(20, WIDTH), nn.Linear(WIDTH, 20)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        memory = self.source(source)
        memory = memory + self.encoded(memory)
        x = self.target(target)
        x = x + self.self_end(torch.relu(self.inner(x)))
        x = x + self.cross_end(F.scaled_dot_product_attention(self.q(x), self.k(memory), self.v(memory)))
        x = x + self.down(torch.relu(self.up(x)))
        return self.head(x)


def test_branches_are_numbered_and_an_encoder_lies_on_none_of_its_decoders():
    found = {name: each[0] for name, each in facts_of(Decoder(), (WORDS, WORDS)).items()}

    def place(name: str) -> tuple[int, int, bool, int]:
        each = found[f"{name}.weight"]
        return each.branch, each.branches, each.ends_branch, each.branch_weights

    assert place("encoded") == (1, 1, True, 1)
    assert [place(name) for name in ("inner", "self_end")] == [(1, 3, False, 2), (1, 3, True, 2)]
    assert [place(name) for name in ("q", "k", "v")] == [(2, 3, False, 4)] * 3
    assert place("cross_end") == (2, 3, True, 4)
    assert place("down") == (3, 3, True, 2)
    assert place("head") == (0, 0, False, 0)
    assert [found[f"{name}.weight"].branch_attends for name in ("q", "down")] == [True, False]


@pytest.mark.parametrize("inputs", [None, torch.ones(1, 3, 8, 8)], ids=["symbolic", "recorded"])
def test_convolutions_by_kind_in_both_tiers(inputs):
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU(), nn.Conv2d(8, 4, 1),
    )  # fmt: skip
    found = {name: each[0] for name, each in facts_of(model, inputs).items()}
    assert [found[f"{at}.weight"].is_depthwise for at in (0, 3, 5)] == [False, True, False]
    assert [found[f"{at}.weight"].is_last for at in (0, 3, 5)] == [False, False, True]
    assert (found["1.weight"].kind, found["1.weight"].neutral, found["1.bias"].kind) == ("norm_gain", 1, "norm_shift")
    assert found["3.bias"].weight_shape == (8, 1, 3, 3)
