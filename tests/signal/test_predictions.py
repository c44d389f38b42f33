"""Each rule against the real layer: moments, profiles, covariances and gradients, averaged over many draws of weights.

Errors allowed are five standard errors of the difference of two means, computed from the draws; nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoinit import Plan, plan
from autoinit.signal import propagate
from autoinit.signal.predicting.fields import Axes, covariance
from autoinit.signal.predicting.linear_maps import LinearMap, linear_map
from autoinit.signal.predicting.meanfield import drawn_output, unit_moment
from autoinit.tracing import trace
from autoinit.tracing.dataflow import Op
from tests.shared.small_nets import Skip

ERRORS = 5.0
DRAWS = 50
SIGMA = 0.7


class Uses(nn.Module):
    """A function of an input and one parameter."""

    def __init__(self, use: Callable[[Any, Tensor], Tensor], shape: tuple[int, ...]) -> None:
        super().__init__()
        self.w, self.use = nn.Parameter(torch.zeros(shape)), use

    def forward(self, x: Tensor) -> Tensor:
        return self.use(self, x)


@dataclass(frozen=True)
class Case:
    """A layer, its input's shape, and what the axes of the views of input and output mean, by hand."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    into: str
    opened: tuple[int, ...]
    out: str
    made: tuple[int, ...]
    pairs: bool = True
    """Whether the rule holds for correlated rows, too: not where experts, or mirrored borders, treat pairs unlike."""


def conv(kind: Any, i: int, o: int, k: Any, **options: Any) -> Callable[[], nn.Module]:
    return lambda: kind(i, o, k, bias=False, **options)


def uses(use: Callable[[Any, Tensor], Tensor], *shape: int) -> Callable[[], nn.Module]:
    return lambda: Uses(use, shape)


_GROUPED = torch.tensor([2, 5, 6], dtype=torch.int32)
SAMPLES = 3
LINEAR = {
    "linear": Case(lambda: nn.Linear(8, 6, bias=False), (3, 8), "bc", (3, 8), "bc", (3, 6)),
    "linear_tokens": Case(lambda: nn.Linear(8, 6, bias=False), (3, 5, 8), "btc", (3, 5, 8), "btc", (3, 5, 6)),
    "linear_windows": Case(
        lambda: nn.Sequential(nn.Flatten(0, 1), nn.Linear(8, 6, bias=False)),
        (3, 4, 5, 8), "bttc", (3, 4, 5, 8), "bttc", (3, 4, 5, 6),
    ),
    "tokens_first": Case(
        lambda: nn.Sequential(Transposed(), nn.Linear(8, 6, bias=False)), (3, 5, 8),
        "tbc", (5, 3, 8), "tbc", (5, 3, 6),
    ),
    "right": Case(uses(lambda m, x: x @ m.w, 8, 6), (3, 5, 8), "btc", (3, 5, 8), "btc", (3, 5, 6)),
    "left": Case(uses(lambda m, x: m.w @ x, 6, 8), (3, 8, 5), "bct", (3, 8, 5), "bct", (3, 6, 5)),
    "left_plain": Case(uses(lambda m, x: m.w.mm(x), 6, 8), (8, 5), "ct", (8, 5), "ct", (6, 5)),
    "right_transposed": Case(uses(lambda m, x: x @ m.w.t(), 6, 8), (3, 8), "bc", (3, 8), "bc", (3, 6)),
    "copies": Case(uses(lambda m, x: x @ m.w, 4, 8, 6), (3, 4, 5, 8), "bgtc", (3, 4, 5, 8), "bgtc", (3, 4, 5, 6)),
    "copies_left": Case(uses(lambda m, x: m.w @ x, 4, 6, 8), (3, 4, 8, 5), "bgct", (3, 4, 8, 5), "bgct", (3, 4, 6, 5)),
    "experts": Case(
        uses(lambda m, x: torch.bmm(x.transpose(0, 1), m.w), 4, 8, 6), (3, 4, 8),
        "gbc", (4, 3, 8), "gbc", (4, 3, 6),
    ),
    "addmm": Case(uses(lambda m, x: torch.addmm(torch.zeros(6), x, m.w), 8, 6), (3, 8), "bc", (3, 8), "bc", (3, 6)),
    "addmm_left": Case(
        uses(lambda m, x: torch.addmm(torch.zeros(5), m.w, x), 6, 8), (8, 5), "ct", (8, 5), "ct", (6, 5)
    ),
    "addmm_alpha": Case(
        uses(lambda m, x: torch.addmm(torch.zeros(6), x, m.w, alpha=2), 8, 6), (3, 8), "bc", (3, 8), "bc", (3, 6)
    ),
    "baddbmm": Case(
        uses(lambda m, x: torch.baddbmm(torch.zeros(1), x.transpose(0, 1), m.w), 4, 8, 6), (3, 4, 8),
        "gbc", (4, 3, 8), "gbc", (4, 3, 6),
    ),
    "einsum": Case(
        uses(lambda m, x: torch.einsum("bti,io->bto", x, m.w), 8, 6), (3, 5, 8),
        "btc", (3, 5, 8), "btc", (3, 5, 6),
    ),
    "einsum_image": Case(
        uses(lambda m, x: torch.einsum("bchw,oc->bohw", x, m.w), 6, 8), (3, 8, 2, 4),
        "bctt", (3, 8, 2, 4), "bctt", (3, 6, 2, 4),
    ),
    "einsum_heads_made": Case(
        uses(lambda m, x: torch.einsum("btc,chd->bthd", x, m.w), 8, 2, 3), (3, 5, 8),
        "btc", (3, 5, 8), "btcc", (3, 5, 2, 3),
    ),
    "einsum_heads_joined": Case(
        uses(lambda m, x: torch.einsum("bthd,hdc->btc", x, m.w), 2, 4, 6), (3, 5, 2, 4),
        "btcc", (3, 5, 2, 4), "btc", (3, 5, 6),
    ),
    "einsum_heads_apart": Case(
        uses(lambda m, x: torch.einsum("bthd,hde->bthe", x, m.w), 2, 4, 6), (3, 5, 2, 4),
        "btgc", (3, 5, 2, 4), "btgc", (3, 5, 2, 6),
    ),
    "einsum_groups_moved": Case(
        uses(lambda m, x: torch.einsum("bthd,hde->bhte", x, m.w), 2, 4, 6), (3, 5, 2, 4),
        "btgc", (3, 5, 2, 4), "bgtc", (3, 2, 5, 6),
    ),
    "einsum_rows_moved": Case(
        uses(lambda m, x: torch.einsum("bti,io->tbo", x, m.w), 8, 6), (3, 5, 8),
        "btc", (3, 5, 8), "tbc", (5, 3, 6),
    ),
    "einsum_weight_first": Case(
        uses(lambda m, x: torch.einsum("oi,bti->bto", m.w, x), 6, 8), (3, 5, 8),
        "btc", (3, 5, 8), "btc", (3, 5, 6),
    ),
    "grouped_mm": Case(
        uses(lambda m, x: torch._grouped_mm(x, m.w, _GROUPED), 3, 16, 8), (6, 16),
        "bc", (6, 16), "bc", (6, 8), pairs=False,
    ),
}  # fmt: skip


class Transposed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(0, 1)


def image(
    make: Callable[[], nn.Module], size: tuple[int, ...], after: tuple[int, ...],
    *, i: int = 8, o: int = 6, g: int = 1, pairs: bool = True,
) -> Case:  # fmt: skip
    letters = "btgc" + "t" * len(size)
    opened, made = (SAMPLES, 1, g, i // g, *size), (SAMPLES, 1, g, o // g, *after)
    return Case(make, (SAMPLES, i, *size), letters, opened, letters, made, pairs)


def same(i: int, o: int, k: Any, **options: Any) -> Callable[[], nn.Module]:
    return uses(lambda m, x: F.conv2d(x, m.w, padding="same", **options), o, i, k, k)


CONVOLUTIONS = {
    "conv1d": image(conv(nn.Conv1d, 8, 6, 3), (7,), (5,)),
    "conv1d_padded": image(conv(nn.Conv1d, 8, 6, 3, padding=2), (5,), (7,)),
    "conv2d": image(conv(nn.Conv2d, 8, 6, 3), (5, 6), (3, 4)),
    "conv2d_padded": image(conv(nn.Conv2d, 8, 6, 3, padding=1), (4, 4), (4, 4)),
    "conv2d_same": image(conv(nn.Conv2d, 8, 6, 3, padding="same"), (4, 4), (4, 4)),
    "conv2d_same_even_kernel": image(same(8, 6, 2), (4, 4), (4, 4)),
    "conv2d_reflect": image(
        conv(nn.Conv2d, 8, 6, 3, padding=1, padding_mode="reflect"), (4, 4), (4, 4), pairs=False
    ),
    "conv2d_circular": image(
        conv(nn.Conv2d, 8, 6, (3, 5), padding=(1, 2), padding_mode="circular"), (4, 5), (4, 5), pairs=False
    ),
    "conv2d_replicate": image(
        conv(nn.Conv2d, 8, 6, (1, 5), padding=(0, 2), padding_mode="replicate"), (4, 5), (4, 5), pairs=False
    ),
    "conv2d_stride": image(conv(nn.Conv2d, 8, 6, 3, stride=2), (7, 9), (3, 4)),
    "conv2d_patches": image(conv(nn.Conv2d, 8, 6, 2, stride=2), (4, 6), (2, 3)),
    "conv2d_stride_padded": image(conv(nn.Conv2d, 8, 6, (3, 2), stride=(2, 1), padding=(1, 0)), (6, 5), (3, 4)),
    "conv2d_pointwise_stride": image(conv(nn.Conv2d, 16, 12, 1, stride=2), (5, 5), (3, 3), i=16, o=12),
    "conv2d_dilated": image(conv(nn.Conv2d, 8, 6, 3, dilation=2, padding=1), (6, 6), (4, 4)),
    "conv2d_groups": image(conv(nn.Conv2d, 16, 12, 3, groups=4), (5, 5), (3, 3), i=16, o=12, g=4),
    "conv2d_depthwise": image(conv(nn.Conv2d, 6, 12, 3, groups=6), (5, 5), (3, 3), i=6, o=12, g=6),
    "conv3d": image(conv(nn.Conv3d, 8, 6, 2, padding=(1, 0, 0)), (2, 3, 3), (3, 2, 2)),
    "transposed1d": image(conv(nn.ConvTranspose1d, 8, 6, 4, stride=2, padding=1), (6,), (12,)),
    "transposed2d": image(conv(nn.ConvTranspose2d, 8, 6, 2, stride=2), (3, 3), (6, 6)),
    "transposed2d_gan": image(conv(nn.ConvTranspose2d, 8, 6, 4, stride=2, padding=1), (4, 4), (8, 8)),
    "transposed2d_output_padding": image(
        conv(nn.ConvTranspose2d, 8, 6, 3, stride=2, padding=1, output_padding=1), (4, 4), (8, 8)
    ),
    "transposed2d_groups": image(
        conv(nn.ConvTranspose2d, 16, 12, 3, stride=3, groups=4), (2, 3), (6, 9), i=16, o=12, g=4
    ),
    "transposed2d_dilated": image(
        conv(nn.ConvTranspose2d, 8, 6, 2, stride=2, dilation=3), (3, 3), (8, 8)
    ),
    "transposed3d": image(conv(nn.ConvTranspose3d, 8, 6, 2, stride=(2, 1, 1)), (2, 2, 2), (4, 3, 3)),
}  # fmt: skip
CASES = {**LINEAR, **CONVOLUTIONS}


def flat_rows(shape: tuple[int, ...], letters: str, generator: torch.Generator, *, correlated: bool) -> Tensor:
    """Rows of second moment 1 each, independent or correlated between samples and between positions."""

    def part(kinds: str) -> Tensor:
        sizes = [size if letter in kinds else 1 for size, letter in zip(shape, letters, strict=True)]
        return torch.randn(sizes, generator=generator)

    x = part("btgc")
    if correlated:
        x = x + part("gc") + part("bgc") + part("tgc")
    features = [at for at, letter in enumerate(letters) if letter == "c"]
    return x / x.square().mean(dim=features, keepdim=True).sqrt()


def moved(x: Tensor, name: str) -> Tensor:
    """The model's input, given the input of the weight operation, in whose view it was made."""
    if name == "linear_windows":
        return x.unflatten(0, (SAMPLES, -1))
    return x.transpose(0, 1) if name in ("tokens_first", "experts", "baddbmm") else x


class Means:
    """Running means, and their standard errors."""

    def __init__(self) -> None:
        self.taken: list[Tensor] = []

    def add(self, *numbers: Tensor | float) -> None:
        self.taken.append(torch.cat([torch.as_tensor(each, dtype=torch.float64).flatten() for each in numbers]))

    def of(self) -> tuple[Tensor, Tensor]:
        drawn = torch.stack(self.taken)
        return drawn.mean(0), drawn.std(0) / math.sqrt(len(drawn))


def assert_agree(first: Means, second: Means, errors: float = ERRORS) -> None:
    (a, sa), (b, sb) = first.of(), second.of()
    allowed = errors * (sa.square() + sb.square()).sqrt() + 1e-5 * (a.abs() + b.abs())
    worst = ((a - b).abs() / allowed).argmax()
    assert bool(((a - b).abs() <= allowed).all()), (int(worst), float(a[worst]), float(b[worst]), float(allowed[worst]))


def moments(view: Tensor, letters: str, *, pairs: bool) -> list[Tensor | float]:
    """The profile over positions, and the covariances: those of different positions where they are exact."""
    axes = Axes(letters)
    rows = [at for at, letter in enumerate(letters) if letter in "bgc"]
    found = covariance(view.detach(), axes)
    return [view.detach().square().mean(dim=rows), found.sample, *((found.position, found.apart) if pairs else ())]


@cache
def prepared(name: str) -> tuple[Case, nn.Module, Op, LinearMap]:
    """The layer, its one weight operation, and the rule's view of it."""
    case = CASES[name]
    model = case.make()
    dataflow = trace(model, torch.zeros(case.shape), tier="recorded")
    (op,) = [op for op in dataflow.graph.nodes if any(use.layout is not None for use in op.params)]
    use = next(use for use in op.params if use.layout is not None)
    (read,) = [each for slot, each in op.operands.items() if each.signal and slot != "bias"]
    assert read.shape is not None
    assert op.shape is not None
    mode = getattr(model, "padding_mode", "zeros")
    return case, model, op, linear_map(op, use, torch.zeros(read.shape), op.shape, case.shape[0], mode)


@pytest.mark.parametrize("name", CASES)
def test_views_have_the_axes_that_the_operation_has(name: str) -> None:
    case, _, _, linear = prepared(name)
    assert (linear.into.letters, linear.out.letters) == (case.into, case.out)
    assert (linear.opened, linear.made) == (case.opened, case.made)


@pytest.mark.parametrize("name", CASES)
def test_a_rule_is_the_layer_on_average(name: str) -> None:
    """Forward and backward: profiles of second moments, and covariances of rows."""
    case, model, op, linear = prepared(name)
    (weight,) = model.parameters()
    generator = torch.Generator().manual_seed(1)
    real, real_back, rule, rule_back = Means(), Means(), Means(), Means()
    for _ in range(DRAWS):
        view = flat_rows(case.opened, case.into, generator, correlated=case.pairs)
        seen = view.reshape(_seen(case, op)).requires_grad_()
        given = moved(seen, name)
        with torch.no_grad():
            weight.normal_(std=SIGMA, generator=generator)
        y = model(given)
        gradient = flat_rows(case.made, case.out, generator, correlated=case.pairs).reshape(y.shape)
        (back,) = torch.autograd.grad(y, seen, gradient)
        real.add(*moments(y.reshape(case.made), case.out, pairs=case.pairs))
        real_back.add(*moments(back.reshape(case.opened), case.into, pairs=case.pairs))
        again = seen.detach().requires_grad_()
        drawn = drawn_output(again, linear, torch.tensor(SIGMA), tuple(y.shape), generator)
        (back,) = torch.autograd.grad(drawn, again, gradient)
        rule.add(*moments(drawn.reshape(case.made), case.out, pairs=case.pairs))
        rule_back.add(*moments(back.reshape(case.opened), case.into, pairs=case.pairs))
        assert float(drawn.detach().square().mean()) == pytest.approx(unit_moment(seen, linear) * SIGMA**2, rel=1e-4)
    assert_agree(real, rule)
    assert_agree(real_back, rule_back)


def _seen(case: Case, op: Op) -> tuple[int, ...]:
    (read,) = [each for slot, each in op.operands.items() if each.signal and slot != "bias"]
    assert read.shape is not None
    return read.shape


# Whole models: predicted from a plan, against the same plan applied with many seeds.


class Squeeze(nn.Module):
    """A squeeze-and-excitation gate."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(width, width // 2, 1), nn.Conv2d(width // 2, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))


class Joined(nn.Module):
    """Two branches of different widths and scales, concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(8, 32, 3, padding=1), nn.Conv2d(8, 64, 1)
        self.c = nn.Conv2d(96, 32, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.cat([F.relu(self.a(x)), torch.tanh(self.b(x))], 1))


class Attention(nn.Module):
    """Self-attention with fused queries, keys and values: torch's own, or written out."""

    def __init__(self, *, written: bool, causal: bool) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(64, 192), nn.Linear(64, 64)
        self.written, self.causal = written, causal

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, t, 3, 4, 16).permute(2, 0, 3, 1, 4)
        if self.written:
            logits = q @ k.transpose(-1, -2) / math.sqrt(16)
            if self.causal:
                logits = logits.masked_fill(torch.ones(t, t).tril() == 0, float("-inf"))
            y = logits.softmax(-1) @ v
        else:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(y.transpose(1, 2).reshape(b, t, 64))


class Torchs(nn.Module):
    """`nn.MultiheadAttention` between two linear layers."""

    def __init__(self, *, batch_first: bool, masked: bool) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(64, 64), nn.Linear(64, 64)
        self.attention, self.masked = nn.MultiheadAttention(64, 4, batch_first=batch_first), masked

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        tokens = x.shape[1 if self.attention.batch_first else 0]
        mask = torch.ones(tokens, tokens).triu(1).bool() if self.masked else None
        return self.after(self.attention(x, x, x, attn_mask=mask)[0])


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm = nn.Embedding(50, 64), nn.LayerNorm(64)
        self.up, self.head = nn.Linear(64, 64), nn.Linear(64, 50)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(F.gelu(self.up(self.norm(self.table(ids)))))


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(64, 128), nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.glu(self.up(x), -1))


class Shared(nn.Module):
    """One weight, used three times."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(64, 64), nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = torch.relu(self.a(x))
        return self.b(x)


def chain(*layers: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*layers)


def same3(i: int, o: int, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(i, o, 3, padding=1, **options)


IMAGE, VECTOR, SEQUENCE = (4, 8, 8, 8), (8, 64), (4, 9, 64)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "padded_then_globally_pooled": (
        chain(
            same3(8, 48), nn.ReLU(), same3(48, 48), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 32)
        ), IMAGE,
    ),
    "batch_norm_and_strides": (
        chain(
            same3(8, 48), nn.BatchNorm2d(48), nn.ReLU(), same3(48, 48, stride=2), nn.BatchNorm2d(48), nn.ReLU(),
            same3(48, 48), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 32),
        ), IMAGE,
    ),
    "group_norm_and_max_pool": (
        chain(same3(8, 48), nn.GroupNorm(4, 48), nn.GELU(), nn.MaxPool2d(2), same3(48, 48), nn.Tanh(), same3(48, 8)),
        IMAGE,
    ),
    "average_pool": (
        chain(same3(8, 48), nn.ReLU(), nn.AvgPool2d(2), same3(48, 48), nn.ReLU(), nn.AvgPool2d(4), nn.Flatten(),
              nn.Linear(48, 32)), IMAGE,
    ),
    "depthwise": (
        chain(nn.Conv2d(8, 64, 1), nn.ReLU6(), same3(64, 64, groups=64), nn.ReLU6(), nn.Conv2d(64, 32, 1),
              nn.BatchNorm2d(32), nn.Conv2d(32, 8, 1)), IMAGE,
    ),
    "instance_norm": (chain(same3(8, 48), nn.InstanceNorm2d(48), nn.SiLU(), nn.Conv2d(48, 32, 1)), IMAGE),
    "upsampled": (
        chain(nn.ConvTranspose2d(16, 48, 4, 1, 0), nn.BatchNorm2d(48), nn.ReLU(),
              nn.ConvTranspose2d(48, 48, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(48, 8, 3, 2, 1)), (8, 16, 1, 1),
    ),
    "squeezed": (chain(same3(8, 48), nn.ReLU(), Squeeze(48), nn.Conv2d(48, 32, 3)), IMAGE),
    "joined": (Joined, IMAGE),
    "residual": (chain(nn.Linear(64, 64), Skip(chain(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))()),
                       nn.Linear(64, 32)), VECTOR),
    "dropout": (chain(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 64)), VECTOR),
    "attention": (chain(nn.LayerNorm(64), Attention(written=False, causal=False), nn.Linear(64, 64)), SEQUENCE),
    "causal_attention": (chain(nn.LayerNorm(64), Attention(written=False, causal=True), nn.Linear(64, 64)), SEQUENCE),
    "written_causal_attention": (
        chain(nn.LayerNorm(64), Attention(written=True, causal=True), nn.Linear(64, 64)), SEQUENCE
    ),
    "torchs_attention": (lambda: Torchs(batch_first=True, masked=False), SEQUENCE),
    "torchs_attention_masked": (lambda: Torchs(batch_first=True, masked=True), SEQUENCE),
    "torchs_attention_tokens_first": (lambda: Torchs(batch_first=False, masked=False), (9, 4, 64)),
    "tokens": (Tokens, (4, 9)),
    "gated": (Gated, VECTOR),
    "shared": (Shared, VECTOR),
}  # fmt: skip
SEEDS, SURROGATES = 12, 4


def really(model: nn.Module, made: Plan, shape: tuple[int, ...], seed: int) -> dict[str, list[Tensor]]:
    """Second moments of each layer's output, and of its gradient, of all uses together: one forward and backward."""
    made.apply(model, seed, force=True)
    torch.manual_seed(1000 + seed)
    outputs: dict[str, list[Tensor]] = {}
    hooks = [
        module.register_forward_hook(lambda _m, _i, y, name=name: outputs.setdefault(name, []).append(_retained(y)))
        for name, module in model.named_modules()
        if name in made and isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)) and "attention" not in name
    ]
    y = model.train()(torch.randint(0, 50, shape) if len(shape) == 2 and shape[1] < 10 else torch.randn(shape))
    y.backward(torch.randn_like(y))
    for hook in hooks:
        hook.remove()
    return outputs


def _retained(y: Tensor) -> Tensor:
    y.retain_grad()
    return y


@pytest.mark.parametrize("name", NETWORKS)
def test_a_model_is_predicted(name: str) -> None:
    """Second moments of pre-activations and of their gradients agree within the scatter of seeds."""
    make, shape = NETWORKS[name]
    model = make()
    example = torch.zeros(shape, dtype=torch.long if name == "tokens" else torch.float32)
    given = torch.randint(0, 50, shape) if name == "tokens" else example
    made = plan(model, example)
    real: dict[str, Means] = {}
    rule: dict[str, Means] = {}
    for seed in range(SEEDS):
        for layer, outputs in really(model, made, shape, seed).items():
            grads = [y.grad.square().mean() for y in outputs if y.grad is not None]
            squares = [y.detach().square().mean() for y in outputs]
            real.setdefault(layer, Means()).add(torch.stack(squares).mean(), torch.stack(grads).mean())
    for seed in range(SURROGATES):
        report = propagate(made, given, model=model, seed=seed)
        for layer in real:
            row = report[layer]
            assert row.grad is not None
            rule.setdefault(layer, Means()).add(row.q, row.grad)
    assert real
    for layer in real:
        assert_agree(real[layer], rule[layer])


def test_attention_between_three_signals_has_all_rows() -> None:
    """Batch first, with weights: torch views its projections in another order than those of one signal. An output of
    weights of variance 1 / 16, over 16 features, has the second moment of what it reads, and that is a mean of values:
    less than 1."""

    class Between(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.keys = nn.Linear(16, 16)
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, self.keys(x).relu(), x)[0]

    report = propagate(Between(), torch.zeros(4, 5, 16))
    assert set(report) == {"keys", "attention.in_proj_weight", "attention.out_proj"}
    assert 0 < report["attention.out_proj"].q < 1


def test_biases_of_torch_s_attention_count() -> None:
    """Queries, keys and values 1 + 0.25 each; a bias of the output stays on top of it."""
    model = nn.MultiheadAttention(64, 4, batch_first=True)
    with torch.no_grad():
        model.in_proj_weight.copy_(torch.randn(192, 64) / 8)
        model.in_proj_bias.fill_(0.5)
        model.out_proj.weight.zero_()
        model.out_proj.bias.fill_(2.0)

    class Itself(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = model

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x)[0]

    report = propagate(Itself(), torch.zeros(SEQUENCE), backward=False)
    weight = float(model.in_proj_weight.detach().square().mean()) * 64
    assert report["attention.in_proj_weight"].q == pytest.approx(weight + 0.25, rel=0.05)
    assert report["attention.out_proj"].q == pytest.approx(4, rel=1e-4)
