"""Facts of parameters, by hand: roles, branches, attention, in several spellings and tiers."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import autoinit
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


def by_baddbmm(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """As with ALiBi: what is added to the product comes first."""
    places = torch.arange(5.0).expand(2, 5, 5)
    return torch.bmm(torch.baddbmm(places, q, k.mT, alpha=0.25).softmax(-1), v)


class Attention(nn.Module):
    def __init__(self, spelling: Any) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.spelling = spelling

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.spelling(self.q(x), self.k(x), self.v(x)))


@pytest.mark.parametrize("spelling", [by_sdpa, by_matmul, by_columns, by_einsum, by_baddbmm])
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


HEADS, HEAD_WIDTH = 4, WIDTH // 4


class HeadByHead(nn.Module):
    """A module for each head, as in teaching code."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.ModuleList([nn.Linear(WIDTH, HEAD_WIDTH) for _ in range(HEADS)]) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        heads = zip(self.q, self.k, self.v, strict=True)
        return torch.cat([(q(x) @ k(x).mT / 2).softmax(-1) @ v(x) for q, k, v in heads], dim=-1)


class InThreeAxes(nn.Module):
    """Weights of head, input and feature, by einsum."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Parameter(torch.ones(HEADS, WIDTH, HEAD_WIDTH)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (torch.einsum("btd,ndh->bnth", x, weight) for weight in (self.q, self.k, self.v))
        return torch.einsum("bnts,bnsh->bnth", torch.einsum("bnth,bnsh->bnts", q, k).softmax(-1), v)


class OverChannels(nn.Module):
    """Places on the last axis, 9 of them, as images have them."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Conv2d(WIDTH, WIDTH, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        image = x[:, :1, :, None, None].expand(-1, 1, -1, 3, 3).flatten(0, 1)
        q, k, v = (conv(image).unflatten(1, (HEADS, HEAD_WIDTH)).flatten(3) for conv in (self.q, self.k, self.v))
        return v @ (q.mT @ k).softmax(-1).mT


class Packed(nn.MultiheadAttention):
    def __init__(self) -> None:
        super().__init__(WIDTH, HEADS, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x, x, x)[0]


class Grouped(nn.Module):
    """Two heads of queries, and one of keys and values of another width, by torch's function."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(WIDTH, 8), nn.Linear(WIDTH, 4), nn.Linear(WIDTH, 4)

    def forward(self, x: Tensor) -> Tensor:
        q = self.q(x).unflatten(-1, (2, HEAD_WIDTH)).transpose(1, 2)
        k, v = (each(x)[:, None].expand(-1, 2, -1, -1) for each in (self.k, self.v))
        return F.scaled_dot_product_attention(q, k, v)


class InBatches(nn.Module):
    """Two heads in the batch, with what is added to the product of queries and keys first (BLOOM)."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(WIDTH, 2 * HEAD_WIDTH) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            each(x).unflatten(-1, (2, HEAD_WIDTH)).transpose(1, 2).flatten(0, 1) for each in (self.q, self.k, self.v)
        )
        return torch.bmm(torch.baddbmm(torch.arange(5.0).expand(4, 5, 5), q, k.mT).softmax(-1), v)


@pytest.mark.parametrize("build", [Grouped, InBatches, HeadByHead, InThreeAxes, OverChannels, Packed])
def test_the_width_of_a_head_is_what_queries_and_keys_are_summed_over(build):
    found = facts_of(build(), torch.ones(2, 5, WIDTH))
    told = {(each.attention, each.head_width) for parts in found.values() for each in parts if each.kind == "weight"}
    assert told - {("", 0)} == {(role, HEAD_WIDTH) for role in ("query", "key", "value")}


class Parallel(nn.Module):
    """Attention and MLP beside each other, added in one of several orders (GPT-J)."""

    def __init__(self, add: Any, blocks: int = 2) -> None:
        super().__init__()
        self.norm, self.add = nn.ModuleList([nn.LayerNorm(WIDTH) for _ in range(blocks)]), add
        self.attention = nn.ModuleList([Packed() for _ in range(blocks)])
        self.up = nn.ModuleList([nn.Linear(WIDTH, 32) for _ in range(blocks)])
        self.down = nn.ModuleList([nn.Linear(32, WIDTH) for _ in range(blocks)])
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        for norm, attention, up, down in zip(self.norm, self.attention, self.up, self.down, strict=True):
            h = norm(x)
            x = self.add(x, attention(h), down(F.gelu(up(h))))
        return self.head(x)


@pytest.mark.parametrize(
    "add",
    [
        lambda x, a, b: x + a + b,
        lambda x, a, b: x + (a + b),
        lambda x, a, b: (a + b) + x,
        lambda x, a, b: x + F.dropout(a + b, 0.1),
    ],
)
def test_parallel_branches_are_two_however_they_are_added(add):
    """Each spelling is the same function; packed queries, keys and values end no branch, what is behind them does."""
    found = facts_of(Parallel(add), torch.ones(2, 5, WIDTH))
    ends = {name: (each.branches, each.blocks) for name, (each, *_) in found.items() if each.ends_branch}
    names = [f"{kind}.{block}" for block in (0, 1) for kind in ("attention", "down")]
    expected = {f"{name}.out_proj.{what}" if "att" in name else f"{name}.{what}" for name in names
                for what in ("weight", "bias")}  # fmt: skip
    assert ends == dict.fromkeys(expected, (4, 2))


def test_a_decoder_that_reads_an_encoder_by_packed_attention_does_not_hold_it():
    """Two encoder blocks of two branches, two decoder blocks of three."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of nested tensors
        model = nn.Transformer(WIDTH, 2, 2, 2, 32, batch_first=True, norm_first=True)
    words = torch.ones(2, 5, WIDTH)
    found = facts_of(model, (words, words))
    told = {name: (each.branch, each.branches) for name, (each, *_) in found.items() if each.ends_branch}
    assert told["encoder.layers.1.linear2.weight"] == (4, 4)
    assert told["encoder.layers.0.self_attn.out_proj.weight"] == (1, 4)
    assert told["decoder.layers.0.multihead_attn.out_proj.weight"] == (2, 6)
    assert told["decoder.layers.1.linear2.weight"] == (6, 6)
    assert "encoder.layers.0.self_attn.in_proj_weight" not in told


class WrittenNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.weight


class NormedSums(nn.Module):
    """Three blocks whose sums are normalised."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.norms = nn.ModuleList([norm(WIDTH) for _ in range(3)])
        self.up, self.down = (nn.ModuleList([nn.Linear(WIDTH, WIDTH) for _ in range(3)]) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for norm, up, down in zip(self.norms, self.up, self.down, strict=True):
            x = norm(x + down(F.gelu(up(x))))
        return x


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm, WrittenNorm])
def test_a_norm_of_the_sum_ends_a_stream_written_out_or_not(norm):
    found = facts_of(NormedSums(norm), torch.ones(2, 5, WIDTH))
    assert {each.branches for name, (each, *_) in found.items() if name.startswith("down")} == {1}
    made = autoinit.plan(NormedSums(norm), torch.ones(2, 5, WIDTH), recipe="llama(depth=model)")
    assert made["down.2"].std == pytest.approx(0.02 / 2**0.5)  # one block


class Conditioned(nn.Module):
    """Blocks that a vector modulates: it comes from beside the stream, in the first block and in the second."""

    def __init__(self) -> None:
        super().__init__()
        self.condition = nn.Linear(WIDTH, WIDTH)
        self.modulation = nn.ModuleList([nn.Linear(WIDTH, 3 * WIDTH) for _ in range(2)])
        self.up, self.down = (nn.ModuleList([nn.Linear(WIDTH, WIDTH) for _ in range(2)]) for _ in range(2))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        c = F.silu(self.condition(c))
        for modulation, up, down in zip(self.modulation, self.up, self.down, strict=True):
            shift, scale, gate = modulation(c).chunk(3, dim=-1)
            x = x + gate * down(F.gelu(up(F.layer_norm(x, (WIDTH,)) * (1 + scale) + shift)))
        return x


def test_what_modulates_a_branch_ends_none():
    found = facts_of(Conditioned(), (torch.ones(2, WIDTH), torch.ones(2, WIDTH)))
    ends = {name for name, (each, *_) in found.items() if each.ends_branch}
    assert ends == {f"down.{block}.{what}" for block in (0, 1) for what in ("weight", "bias")}
    weights = {found[f"up.{block}.weight"][0].branch_weights for block in (0, 1)}
    assert weights == {3}


class Scaled(nn.Module):
    """Branches whose scale is added in one operation, and positions by numbers of the input's shape."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places, self.kinds = nn.Embedding(9, WIDTH), nn.Embedding(9, WIDTH), nn.Embedding(2, WIDTH)
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.scales = nn.ParameterList([nn.Parameter(torch.ones(WIDTH)) for _ in range(2)])

    def forward(self, words: Tensor, kinds: Tensor) -> Tensor:
        places = torch.arange(words.shape[1]).expand_as(words)
        x = self.words(words) + self.places(places) + self.kinds(kinds)
        x = torch.addcmul(x, self.scales[0], self.first(F.layer_norm(x, (WIDTH,))))
        return torch.addcmul(x, self.second(F.layer_norm(x, (WIDTH,))), self.scales[1])


def test_scales_in_a_fused_sum_and_places_of_another_tensors_shape():
    words = torch.arange(8).reshape(2, 4)
    found = kinds(Scaled(), (words, words % 2))
    tables = {"words.weight": "embedding", "places.weight": "position", "kinds.weight": "embedding"}
    assert {name: found[name] for name in tables} == tables
    assert {found["scales.0"], found["scales.1"]} == {"layer_scale"}


class EqualisedHead(nn.Module):
    """One output, whose weight is multiplied by a number as it is used."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * 0.25)


def test_a_scaled_weight_of_one_output_is_no_convolution():
    (found,) = facts_of(EqualisedHead(), torch.ones(2, WIDTH))["weight"]
    assert (found.layout.axes, found.is_conv, found.fan_in, found.fan_out) == ("oi", False, WIDTH, 1)
