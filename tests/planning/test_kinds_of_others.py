"""What the parameters are that no plan touches: gains and biases of norms are listed as norms, however written."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoinit import plan
from tests.truth.transformers_tables import CASES

WIDTH = 16
EPS = 1e-6


def llama(x: Tensor, gain: Tensor) -> Tensor:
    kept = x.dtype
    x = x.to(torch.float32)
    x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS)
    return gain * x.to(kept)


def t5(x: Tensor, gain: Tensor) -> Tensor:
    x = x * torch.rsqrt(x.to(torch.float32).pow(2).mean(-1, keepdim=True) + EPS)
    if gain.dtype in (torch.float16, torch.bfloat16):
        x = x.to(gain.dtype)
    return gain * x


def gemma(x: Tensor, gain: Tensor) -> Tensor:
    normed = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + EPS)
    return (normed * (1.0 + gain.float())).type_as(x)


def inside(x: Tensor, gain: Tensor) -> Tensor:
    """Annotated Transformer's LayerNorm: the gain stands before the division."""
    return gain * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + EPS)


def normalize(x: Tensor, gain: Tensor) -> Tensor:
    return F.normalize(x, dim=-1) * WIDTH**0.5 * gain


def bare(x: Tensor, gain: Tensor) -> Tensor:
    return F.layer_norm(x, (WIDTH,)) * gain


def by_einsum(x: Tensor, gain: Tensor) -> Tensor:
    normed = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS)
    return torch.einsum("...d,d->...d", normed, gain)


def by_addcmul(x: Tensor, gain: Tensor) -> Tensor:
    """n (1 + gain)."""
    normed = F.layer_norm(x, (WIDTH,))
    return torch.addcmul(normed, normed, gain)


def scaled(x: Tensor, gain: Tensor) -> Tensor:
    return x * gain


def scaled_before(x: Tensor, gain: Tensor) -> Tensor:
    return F.layer_norm(x * gain, (WIDTH,))


def affine_before(x: Tensor, gain: Tensor) -> Tensor:
    """What the torch norm gives has its gain already: another factor is a layer scale."""
    return F.layer_norm(x, (WIDTH,), torch.ones(WIDTH), torch.zeros(WIDTH)) * gain


def curved_between(x: Tensor, gain: Tensor) -> Tensor:
    return F.layer_norm(x, (WIDTH,)).tanh() * gain


class Block(nn.Module):
    """A residual block with a norm first, so that the norm is not all that takes the stream."""

    def __init__(self, norm: Callable[[Tensor, Tensor], Tensor], skip: bool) -> None:
        super().__init__()
        self.norm, self.skip = norm, skip
        self.gain = nn.Parameter(torch.ones(WIDTH))
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        after = self.linear(self.norm(x, self.gain))
        return x + after if self.skip else after


def kinds(model: nn.Module, given: object) -> dict[str, str]:
    return {other.name: other.kind for other in plan(model, given).others}


@pytest.mark.parametrize("with_input", [True, False], ids=["input", "no_input"])
@pytest.mark.parametrize("skip", [True, False], ids=["skip", "plain"])
@pytest.mark.parametrize("norm", [llama, t5, gemma, inside, normalize, bare, by_einsum, by_addcmul])
def test_the_gain_of_a_written_norm(norm: Callable[[Tensor, Tensor], Tensor], skip: bool, with_input: bool):
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), Block(norm, skip), nn.Linear(WIDTH, 3))
    assert kinds(model, (2, 3, WIDTH) if with_input else None)["1.gain"] == "norm"


@pytest.mark.parametrize("skip", [True, False], ids=["skip", "plain"])
@pytest.mark.parametrize("factor", [scaled, scaled_before, affine_before, curved_between])
def test_another_factor_is_no_norm_s(factor: Callable[[Tensor, Tensor], Tensor], skip: bool):
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), Block(factor, skip), nn.Linear(WIDTH, 3))
    assert kinds(model, (2, 3, WIDTH))["1.gain"] == "other"


def test_one_number_behind_a_norm_is_no_gain():
    block = Block(bare, skip=False)
    block.gain = nn.Parameter(torch.ones(1))
    assert kinds(nn.Sequential(nn.Linear(WIDTH, WIDTH), block, nn.Linear(WIDTH, 3)), (2, 3, WIDTH))["1.gain"] == "other"


class Shifted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.gain = nn.Parameter(torch.ones(WIDTH))
        self.bias = nn.Parameter(torch.zeros(WIDTH))
        self.positions = nn.Parameter(torch.zeros(3, WIDTH))
        self.scale = nn.Parameter(torch.ones(1))
        self.last = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        normed = bare(self.linear(x), self.gain)
        return self.last(torch.relu((normed + self.bias) * self.scale) + torch.relu(normed + self.positions))


def test_a_bias_that_follows_a_norm_is_one_of_one_axis():
    """A table of positions that is added has two axes; a single number is a scale."""
    found = kinds(Shifted(), (2, 3, WIDTH))
    assert (found["gain"], found["bias"], found["positions"], found["scale"]) == ("norm", "norm", "other", "other")


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_the_norms_of_transformers(name: str):
    """Their parameters are named `...norm.weight`, the only ones of one axis in these models."""
    case = next(case for case in CASES if case.name == name)
    model = case.build()
    found = kinds(model, case.inputs())
    norms = [each for each, parameter in model.named_parameters() if parameter.dim() == 1]
    assert norms
    assert {each: found[each] for each in norms} == dict.fromkeys(norms, "norm")


class Everything(nn.Module):
    """Parameters of every kind, held by modules and bare."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.norm, self.linear = nn.Embedding(11, 8), nn.LayerNorm(8), nn.Linear(8, 8)
        self.lstm, self.attention = nn.LSTM(8, 8, batch_first=True), nn.MultiheadAttention(8, 2, batch_first=True)
        self.table, self.positions, self.unused = (nn.Parameter(torch.randn(size, 8)) for size in (11, 5, 3))
        self.gain, self.shift, self.bias = (nn.Parameter(torch.randn(8)) for _ in range(3))
        self.weight = nn.Parameter(torch.randn(8, 8))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids) + F.embedding(ids, self.table) + self.positions
        x = self.norm(x) + F.layer_norm(x, (8,), self.gain, self.shift)
        x = self.linear(x) + F.linear(x, self.weight, self.bias)
        x = x + self.lstm(x)[0]
        return x + self.attention(x, x, x)[0]


def test_what_parameters_are_that_are_no_weights():
    """Read off the forward above. Biases are listed since their layers are skipped, and so stay as they are."""
    others = plan(Everything(), torch.zeros(2, 5, dtype=torch.int64), skip="*").others
    assert {each.name: each.kind for each in others} == {
        "embedding.weight": "embedding", "table": "embedding", "positions": "other", "unused": "uncalled",
        "norm.weight": "norm", "norm.bias": "norm", "gain": "norm", "shift": "norm",
        "linear.bias": "bias", "bias": "bias", "lstm.bias_ih_l0": "bias", "lstm.bias_hh_l0": "bias",
        "attention.in_proj_bias": "bias", "attention.out_proj.bias": "bias",
    }  # fmt: skip
