"""What an author has set is kept, with the reason: patterns, matrices that something else reads, scales of noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoinit import autoinit, check, plan
from autoinit.tensors.fixed_patterns import fixed_pattern

# Matrices that something else reads.


class WaveGlow(nn.Module):
    """An invertible 1x1 convolution, whose log-determinant is part of the loss."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, 1, bias=False)
        q, _ = torch.linalg.qr(torch.randn(width, width))
        self.conv.weight.data = q[:, :, None].contiguous()
        self.after = nn.Conv1d(width, width, 3, padding=1)

    def matrix(self) -> Tensor:
        return self.conv.weight.squeeze()

    def volume(self) -> Tensor:
        return torch.logdet(self.matrix())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.after(torch.relu(self.conv(x))), x.shape[0] * x.shape[2] * self.volume()


class Glow(WaveGlow):
    """As in Glow: `slogdet`, and a functional convolution."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        volume = torch.slogdet(self.matrix())[1] * x.shape[2]
        return self.after(torch.relu(F.conv1d(x, self.matrix()[:, :, None]))), volume


class Inverted(WaveGlow):
    def volume(self) -> Tensor:
        return torch.linalg.inv(self.matrix().double()).float().sum()


class Solved(WaveGlow):
    def volume(self) -> Tensor:
        return torch.linalg.solve(self.matrix(), torch.ones(8, 1, device=self.conv.weight.device))


class Method(WaveGlow):
    def volume(self) -> Tensor:
        return self.matrix().det().abs().log()


@pytest.mark.parametrize(
    ("build", "reader"),
    [(WaveGlow, "logdet"), (Glow, "slogdet"), (Inverted, "inv"), (Solved, "solve"), (Method, "det")],
)
@pytest.mark.parametrize("example", [None, (2, 8, 16)], ids=["guessed", "given"])
def test_a_matrix_that_is_read_for_its_own_sake_is_kept(build: Any, reader: str, example: Any):
    model = build()
    before = model.conv.weight.clone()
    done = autoinit(model, example, seed=0, verbose=False)
    layer = done.plan["conv"]
    assert layer.status == "kept"
    assert layer.note.startswith(f"{reader} reads it for its own sake: the author's intent")
    assert torch.equal(model.conv.weight, before)
    assert done.plan["after"].status == "planned"
    assert plan(build(), example, zeros="reset")["conv"].status == "planned"


class Decomposed(nn.Module):
    """Glow's invertible convolution as P L U: triangles with something added to each, as its authors store it."""

    def __init__(self, spelling: str) -> None:
        super().__init__()
        permutation, lower, upper = torch.linalg.lu(torch.linalg.qr(torch.randn(8, 8))[0])
        signs = upper.diag().sign()
        for name, held in (("p", permutation), ("signs", signs), ("eye", torch.eye(8))):
            self.register_buffer(name, held)
        self.register_buffer("below", torch.tril(torch.ones(8, 8), -1))
        self.register_buffer("above", torch.triu(torch.ones(8, 8), 1))
        self.lower, self.upper = nn.Parameter(lower), nn.Parameter(torch.triu(upper, 1))
        self.logs, self.spelling = nn.Parameter(upper.diag().abs().log()), spelling

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        diagonal = torch.diag(self.signs * self.logs.exp())
        if self.spelling == "masks":
            lower, upper = self.lower * self.below + self.eye, self.upper * self.above + diagonal
        else:
            lower, upper = torch.tril(self.lower, -1) + torch.eye(8), torch.triu(self.upper, 1).add(diagonal)
        weight = self.p @ lower @ upper
        return F.conv2d(x, weight[:, :, None, None]), self.logs.sum()


@pytest.mark.parametrize("example", [None, (2, 8, 4, 4)], ids=["guessed", "given"])
@pytest.mark.parametrize("spelling", ["masks", "triangles"])
def test_a_matrix_in_parts_to_which_others_are_added_is_left(spelling: str, example: Any):
    """What is added to a part does not scale with it. Signs beside exp(logs) are no noise that logs would scale."""
    model = Decomposed(spelling)
    made = plan(model, example)
    assert not made.layers
    notes = {each.name: each.note for each in made.others}
    assert "which is not proportional to it" in notes["lower"]
    assert "which is not proportional to it" in notes["upper"]
    assert "noise" not in notes["logs"]
    assert not [each for each in check(model, example).findings if each.severity != "info"]


# Patterns.


def set_to(layer: Any, weight: Tensor, bias: float | None = None) -> Any:
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.fill_(bias)
    return layer


def dirac(layer: Any) -> Any:
    nn.init.dirac_(layer.weight)
    return layer


def bilinear(channels: int, size: int) -> Tensor:
    """As fully convolutional networks set their upsampling: a triangle in both directions, channel by channel."""
    line = 1 - (torch.arange(size) - (size - 1) / 2).abs() / math.ceil(size / 2)
    weight = torch.zeros(channels, channels, size, size)
    weight[range(channels), range(channels)] = line[:, None] * line[None]
    return weight


def blur(channels: int) -> Tensor:
    line = torch.tensor([1.0, 2.0, 1.0]) / 4
    return (line[:, None] * line[None]).expand(channels, 1, 3, 3)


LAYERS: dict[str, tuple[Callable[[], Any], str]] = {
    "identity": (lambda: set_to(nn.Linear(6, 6), torch.eye(6), 0.5), "an identity"),
    "wide identity": (lambda: set_to(nn.Linear(6, 9), torch.eye(9, 6)), "an identity"),
    "scaled identity": (lambda: set_to(nn.Linear(6, 6), 0.1 * torch.eye(6)), "an identity"),
    "permutation": (lambda: set_to(nn.Linear(6, 6), torch.eye(6)[[3, 1, 0, 2, 5, 4]]), "an identity"),
    "1x1": (lambda: set_to(nn.Conv1d(6, 6, 1), torch.eye(6)[:, :, None], -1.0), "an identity"),
    "dirac": (lambda: dirac(nn.Conv2d(6, 6, 3, padding=1)), "a Dirac kernel"),
    "dirac 1d": (lambda: dirac(nn.Conv1d(6, 8, 5)), "a Dirac kernel"),
    "average": (
        lambda: set_to(nn.Conv2d(4, 4, 3, groups=4), torch.full((4, 1, 3, 3), 1 / 9)), "an averaging kernel",
    ),
    "mean of all": (lambda: set_to(nn.Linear(6, 1), torch.full((1, 6), 1 / 6)), "an average"),
    "bilinear": (lambda: set_to(nn.ConvTranspose2d(5, 5, 4, 2), bilinear(5, 4)), "an interpolating kernel"),
    "depthwise bilinear": (
        lambda: set_to(nn.ConvTranspose2d(5, 5, 4, 2, groups=5), bilinear(5, 4)[:, :1][[0]].expand(5, 1, 4, 4)),
        "an interpolating kernel",
    ),
    "one channel": (lambda: set_to(nn.ConvTranspose2d(1, 1, 4, 2), bilinear(1, 4)), "an interpolating kernel"),
    "blur": (lambda: set_to(nn.Conv2d(6, 6, 3, groups=6), blur(6)), "an interpolating kernel"),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_a_weight_that_follows_from_a_pattern_is_kept_with_its_bias(name: str):
    build, why = LAYERS[name]
    layer = build()
    weight, bias = layer.weight.clone(), layer.bias.clone()
    model = nn.Sequential(layer, nn.ReLU())
    dims = layer.weight.dim() - 2
    channels = getattr(layer, "in_channels", getattr(layer, "in_features", 0))
    done = autoinit(model, (2, channels, *(8,) * dims), seed=0, verbose=False)
    assert done.plan["0"].status == "kept"
    assert done.plan["0"].note.startswith(why)
    assert "the author's intent" in done.plan["0"].note
    assert torch.equal(layer.weight, weight)
    assert torch.equal(layer.bias, bias)


@pytest.mark.parametrize(
    ("weight", "axes", "what"),
    [
        (torch.full((6, 1), 1 / 6), "io", "an average"),
        (torch.full((1, 6), 1 / 6), "io", ""),
        (torch.eye(6, 9), "io", "an identity"),
        (torch.tensor([[0.5, 0.0, 0.0], [0.5, 0.0, 0.0]]), "io", ""),
    ],
    ids=["mean of all", "copies of one", "wide identity", "one column"],
)
def test_patterns_of_a_weight_whose_inputs_come_first(weight: Tensor, axes: str, what: str):
    """x @ W: rows are inputs. Six outputs that copy one input are no average of anything."""
    assert fixed_pattern(weight, axes) == what


FRESH: dict[str, Callable[[], Any]] = {
    "drawn": lambda: nn.Linear(6, 6),
    "orthogonal": lambda: set_to(nn.Linear(6, 6), nn.init.orthogonal_(torch.empty(6, 6))),
    "sparse": lambda: set_to(nn.Linear(6, 6), nn.init.sparse_(torch.empty(6, 6), 0.5)),
    "one kernel of many inputs": lambda: set_to(nn.Conv2d(1, 4, 3), blur(4)),
    "constant": lambda: set_to(nn.Linear(6, 6), torch.full((6, 6), 0.1)),
    "depthwise": lambda: nn.Conv2d(4, 4, 3, groups=4),
    "one drawn kernel": lambda: nn.Conv2d(1, 1, 3),
    "one column": lambda: set_to(nn.Linear(6, 6), torch.eye(6)[[0] * 6]),
}


@pytest.mark.parametrize("name", FRESH)
def test_what_follows_from_no_pattern(name: str):
    """Drawn weights, and faults that a check names: equal filters of the same inputs, a constant."""
    torch.manual_seed(0)
    layer = FRESH[name]()
    axes = "oi" if layer.weight.dim() == 2 else "oikk"
    assert fixed_pattern(layer.weight, axes, getattr(layer, "groups", 1)) == ""


def test_a_weight_on_meta_follows_from_no_pattern():
    assert fixed_pattern(torch.empty(4, 4, device="meta"), "oi") == ""


# Scales of noise.


class Noisy(nn.Linear):
    """As in NoisyNet: `mu + sigma * eps`, eps a buffer."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.sigma = nn.Parameter(torch.full((outputs, inputs), 0.5 / math.sqrt(inputs)))
        self.register_buffer("eps", torch.randn(outputs, inputs))

    def noise(self) -> Tensor:
        return self.sigma * self.eps

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight + self.noise(), self.bias)


class Fresh(Noisy):
    """Noise drawn in each forward, as in Bayesian layers."""

    def noise(self) -> Tensor:
        return self.sigma * torch.randn_like(self.sigma)


class Factorised(Noisy):
    def noise(self) -> Tensor:
        outer = torch.outer(torch.randn(self.out_features), torch.randn(self.in_features)).to(self.sigma.device)
        return outer * self.sigma


@pytest.mark.parametrize("kind", [Noisy, Fresh, Factorised])
@pytest.mark.parametrize("width", [8, 128], ids=["small", "large"])
def test_the_scale_of_noise_is_not_rewritten(kind: Any, width: int):
    """mu is before a ReLU: sqrt(2 / width). sigma, 0.5 / sqrt(width) everywhere, stays, and is no layer."""
    model = nn.Sequential(kind(width, 16), nn.ReLU(), nn.Linear(16, 2))
    before = model[0].sigma.clone()
    made = autoinit(model, (4, width), seed=0, verbose=False).plan
    assert {layer.param for layer in made.layers} == {"0.weight", "2.weight"}
    assert made["0"].std == pytest.approx(math.sqrt(2 / width))
    assert torch.equal(model[0].sigma, before)
    assert "it scales the noise" in next(each.note for each in made.others if each.name == "0.sigma")


def test_a_mask_is_no_noise():
    """`w + v * mask`: both are weights."""

    class Added(nn.Linear):
        def __init__(self) -> None:
            super().__init__(8, 8)
            self.v = nn.Parameter(torch.randn(8, 8))
            self.register_buffer("mask", (torch.arange(64) % 2).float().view(8, 8))

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.weight + self.v * self.mask)

    made = plan(nn.Sequential(Added(), nn.ReLU()), (2, 8))
    assert {layer.param for layer in made.layers} == {"0.weight", "0.v"}


# All zero.


def test_a_model_of_zeros_is_no_intent():
    """As `to_empty` leaves it on fresh pages: planned, and the first thing that is said."""
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    made = plan(model, (2, 8))
    assert [layer.status for layer in made.layers] == ["planned", "planned"]
    assert made.warnings[0].startswith("all 2 weights of the model are exactly zero, as fresh memory is after to_empty")
    assert "Warning: all 2 weights" in " ".join(str(autoinit(model, (2, 8), seed=0, verbose=False)).splitlines()[:4])
    assert float(model[0].weight.detach().std()) == pytest.approx(0.5, rel=0.3)


def test_some_zeros_are():
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
    nn.init.zeros_(model[2].weight)
    made = plan(model, (2, 8))
    assert [layer.status for layer in made.layers] == ["planned", "kept"]
    assert made.warnings == ()


def test_no_finding_says_that_what_is_kept_is_wrong():
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), set_to(nn.Linear(32, 32), torch.eye(32), 0.0))
    autoinit(model, (2, 8), seed=0, verbose=False)
    assert check(model, (64, 8)).ok


# What another operation reads.

READING: dict[str, Callable[[Tensor], Tensor]] = {
    "inv": torch.linalg.inv,
    "inverse": torch.inverse,
    "inverse_method": lambda w: w.inverse(),
    "pinv": torch.linalg.pinv,
    "matrix_exp": torch.matrix_exp,
    "qr": lambda w: torch.linalg.qr(w)[0],
}


@pytest.mark.parametrize("key", READING)
def test_a_matrix_that_enters_by_another_s_values_is_left_with_the_reason(key: str):
    class Entering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.w = nn.Linear(8, 8), nn.Parameter(torch.randn(8, 8))

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.first(x)) @ READING[key](self.w)

    made = plan(Entering(), (2, 8))
    assert {layer.name: layer.nonlinearity for layer in made.layers} == {"first": "relu"}
    (other,) = made.others
    assert other.note == f"{key.removesuffix('_method')} reads it for its own sake"


def test_the_inverse_of_a_signal_is_no_logical_operation():
    """It is not in the table, which the plan says; `~mask` is."""
    made = plan(Inverting(), (8, 8))
    assert made["first"].status == "unresolved"
    assert "linalg_inv" in made["first"].note
    assert made["second"].nonlinearity == "relu"


class Inverting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.linalg.inv(self.first(x)), F.relu(self.second(x)).masked_fill(~(x > 0), 0.0)


@pytest.mark.parametrize(("count", "status"), [(1, "kept"), (2, "planned")])
def test_zeros_in_every_one_of_several_weights_are_nobodys_intent(count: int, status: str):
    layers = [nn.Linear(4, 4) for _ in range(count)]
    for layer in layers:
        nn.init.zeros_(layer.weight)
    made = plan(nn.Sequential(*layers), (2, 4))
    assert [each.status for each in made.layers] == [status] * count
