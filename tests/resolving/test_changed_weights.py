"""Weights changed on the way from the parameter to the operation: what is planned, by which factor, and what is said.

The weight *in use* is to have the planned std, so the parameter gets that std over the factor of what lies between.
Every model ends in a relu with 6 inputs unless it says otherwise: HE = sqrt(2 / 6).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from autoinit import Plan, autoinit, check, plan, report
from tests.shared.written_nets import Net, numbers, xavier

HE = math.sqrt(2 / 6)


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0)))


def used_through(change: Callable[[Any], Tensor], **parts: Any) -> Net:
    """relu(linear(x, change(model))) with a weight (8, 6)."""
    return Net(lambda m, x: torch.relu(F.linear(x, change(m))), w=parameter(8, 6), **parts)


def outline(made: Plan) -> dict[str, tuple[str, str, str]]:
    return {name: (each.nonlinearity, each.reason, each.status) for name, each in made.items()}


PLANNED_RELU = ("relu", "activation", "planned")


def others(made: Plan) -> dict[str, str]:
    return {each.name: each.kind for each in made.others}


# Standardised and normalised: the parameter's scale does not matter.


class ScaledStandardised(nn.Conv2d):
    """NFNet's convolution: (w - mean) / sqrt(var * fan_in) * gain, one gain for each output (Brock et al. 2021)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gain = nn.Parameter(torch.ones(self.out_channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        fan_in = self.weight[0].numel()
        mean = self.weight.mean(dim=(1, 2, 3), keepdim=True)
        variance = self.weight.var(dim=(1, 2, 3), keepdim=True, unbiased=False)
        weight = (self.weight - mean) * torch.rsqrt(torch.clamp(variance * fan_in, min=1e-6)) * self.gain
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


def by_batch_norm(m: Any) -> Tensor:
    """timm's StdConv2d standardises by batch_norm over the reshaped weight."""
    return F.batch_norm(m.w.reshape(1, 8, -1), None, None, training=True, momentum=0.0).reshape_as(m.w)


NORMALISING: dict[str, Callable[[Any], Tensor]] = {
    "standardised": lambda m: (m.w - m.w.mean(1, keepdim=True)) / (m.w.std(1, keepdim=True) + 1e-8),
    "by_batch_norm": by_batch_norm,
    "unit_rows": lambda m: F.normalize(m.w, dim=1),
    "unit_rows_written": lambda m: m.w / m.w.norm(dim=1, keepdim=True),
    "signs": lambda m: m.w.sign(),
}


@pytest.mark.parametrize("key", NORMALISING)
def test_a_weight_whose_scale_is_taken_away(key: str):
    layer = plan(used_through(NORMALISING[key]), (2, 6))["w"]
    assert (layer.nonlinearity, layer.axes, layer.fan_in) == ("relu", "oi", 6)
    assert layer.std == pytest.approx(HE)
    assert "normalises its scale away" in layer.note


@pytest.mark.parametrize("inputs", [None, (2, 4, 8, 8)], ids=["no_input", "input"])
def test_scaled_weight_standardisation(inputs: Any):
    model = nn.Sequential(ScaledStandardised(4, 8, 3, padding=1), nn.ReLU(), ScaledStandardised(8, 3, 1))
    made = plan(model, inputs)
    assert [(each.nonlinearity, each.reason, each.fan_in) for each in made.values()] == [
        ("relu", "activation", 36),
        ("linear", "output", 8),
    ]
    assert all("normalises its scale away" in each.note for each in made.values())
    assert others(made) == {"0.gain": "other", "2.gain": "other"}


# Multiplied by something.

FACTORS: dict[str, tuple[Callable[[Any], Tensor], float]] = {
    "constant": (lambda m: m.w * 0.25, 0.25),
    "divided": (lambda m: m.w / 4, 0.25),
    "equalised": (lambda m: m.w * (1 / math.sqrt(m.w.shape[1])), 1 / math.sqrt(6)),
    "learned_gain": (lambda m: m.w * m.gain.view(-1, 1), 0.5),
    "exponent_of_a_gain": (lambda m: m.w * torch.exp(m.gain).view(-1, 1), math.exp(0.5)),
    "negated": (lambda m: -m.w, 1.0),
    "rows_reversed": (lambda m: m.w.flip(0), 1.0),
    "transposed_twice": (lambda m: m.w.t().contiguous().t(), 1.0),
    "cast": (lambda m: m.w.double().to(torch.float32), 1.0),
    "mask_of_ones": (lambda m: m.w * m.ones, 1.0),
    "permuted": (lambda m: m.w[torch.arange(7, -1, -1)], 1.0),
}


@pytest.mark.parametrize("key", FACTORS)
def test_a_weight_that_is_multiplied(key: str):
    change, factor = FACTORS[key]
    model = used_through(change, gain=nn.Parameter(torch.full((8,), 0.5)), ones=torch.ones(8, 6))
    made = plan(model, (2, 6))
    assert outline(made) == {"w": PLANNED_RELU}
    layer = made["w"]
    assert (layer.axes, layer.fan_in, layer.fan_out) == ("oi", 6, 8)
    assert layer.std == pytest.approx(HE / factor, rel=1e-4)
    assert ("multiplies its std" in layer.note) is (factor != 1)


def test_a_pruning_mask():
    """Half the weights are masked: an output sums 3 products, so std is sqrt(2 / 3), as of fan_in 3."""
    made = plan(used_through(lambda m: m.w * m.mask, mask=(torch.arange(48) % 2).float().view(8, 6)), (2, 6))
    assert made["w"].std == pytest.approx(math.sqrt(2 / 3), rel=1e-4)


def pruned() -> nn.Module:
    """prune.* holds `weight_orig` and a mask, and computes `weight` in a hook."""
    from torch.nn.utils import prune

    layer = nn.Linear(6, 8)
    prune.random_unstructured(layer, "weight", amount=0.5)
    return nn.Sequential(nn.Linear(6, 6), layer, nn.ReLU())


def test_torch_s_own_pruning_is_told():
    made = plan(pruned(), (2, 6))
    assert made["0"].reason == "weight"
    assert "1.weight_orig" in {each.param for each in made.values()}


def test_torch_s_own_pruning():
    layer = plan(pruned(), (2, 6))["1"]
    assert (layer.param, layer.nonlinearity, layer.status, layer.fan_in) == ("1.weight_orig", "relu", "planned", 6)


# Quantisation-aware training: fake quantisers keep the scale; rounding by hand is told where it does not.


class Rounded(torch.autograd.Function):
    """Rounds to steps of the weight's largest value; the gradient passes straight through."""

    @staticmethod
    def forward(ctx: Any, w: Tensor) -> Tensor:
        step = w.abs().max() / 127
        return torch.round(w / step) * step

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


def straight_through(m: Any) -> Tensor:
    step = m.w.abs().max() / 127
    return m.w + (torch.round(m.w / step) * step - m.w).detach()


def per_channel(m: Any) -> Tensor:
    zeros = torch.zeros(8, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(m.w, torch.full((8,), 0.01), zeros, 0, -128, 127)


QUANTISING: dict[str, Callable[[Any], Tensor]] = {
    "per_tensor": lambda m: torch.fake_quantize_per_tensor_affine(m.w, 0.01, 0, -128, 127),
    "per_channel": per_channel,
    "straight_through": straight_through,
    "autograd_function": lambda m: Rounded.apply(m.w),
}


@pytest.mark.parametrize("key", QUANTISING)
def test_a_fake_quantiser_keeps_the_scale(key: str):
    """127 steps of the largest value: the error is under 1 % of the std."""
    made = plan(used_through(QUANTISING[key]), (2, 6))
    assert outline(made) == {"w": PLANNED_RELU}
    assert made["w"].std == pytest.approx(HE, rel=0.01)


def test_one_bit_weights():
    """sign(w) * mean(abs(w)): of a normal weight, E|w| = sqrt(2 / pi) of its std."""
    made = plan(used_through(lambda m: m.w + (m.w.sign() * m.w.abs().mean() - m.w).detach()), (2, 6))
    assert outline(made) == {"w": PLANNED_RELU}
    assert made["w"].std == pytest.approx(HE / math.sqrt(2 / math.pi), rel=0.25)  # of 48 numbers
    assert "multiplies its std by" in made["w"].note


def test_a_fixed_step_of_rounding_is_told():
    """What rounding to steps of 1/4 does to a scale depends on the scale."""
    made = plan(used_through(lambda m: m.w + (torch.round(m.w * 4) / 4 - m.w).detach()), (2, 6))
    assert outline(made) == {"w": PLANNED_RELU}
    assert made["w"].std == pytest.approx(HE)
    assert "whose effect on its scale is unknown" in made["w"].note


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_quantisation_aware_modules_of_torch():
    from torch.ao import quantization

    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 5)).train()
    model.qconfig = quantization.get_default_qat_qconfig("fbgemm")
    prepared = quantization.prepare_qat(copy.deepcopy(model))
    made = plan(prepared, (2, 3, 6, 6))
    assert outline(made) == {"0": PLANNED_RELU, "3": ("linear", "output", "planned")}
    assert (made["0"].fan_in, made["3"].fan_in) == (27, 128)
    assert made["0"].std == pytest.approx(math.sqrt(2 / 27), rel=1e-4)


# Parametrised by torch.nn.utils.


class Halved(nn.Module):
    def forward(self, w: Tensor) -> Tensor:
        return w / 2

    def right_inverse(self, w: Tensor) -> Tensor:
        return 2 * w


def parametrised(layer: nn.Module) -> nn.Module:
    return parametrize.register_parametrization(layer, "weight", Halved())


WRAPPED: dict[str, tuple[Callable[[nn.Module], nn.Module], str]] = {
    "weight_norm": (parametrizations.weight_norm, "weight_norm"),
    "spectral_norm": (parametrizations.spectral_norm, "spectral_norm"),
    "old_weight_norm": (nn.utils.weight_norm, "weight_norm"),
    "old_spectral_norm": (nn.utils.spectral_norm, "spectral_norm"),
    "own": (parametrised, "parametrized"),
}

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], float]] = {
    "conv": (lambda: nn.Conv2d(6, 8, 3), (2, 6, 5, 5), 54),
    "conv_transpose": (lambda: nn.ConvTranspose2d(6, 8, 4, 2), (2, 6, 5, 5), 6 * 16 / 4),
    "linear": (lambda: nn.Linear(6, 8), (2, 6), 6),
}


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize("inputs", [False, True], ids=["no_input", "input"])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("wrap", WRAPPED)
def test_norms_and_parametrizations(wrap: str, layer: str, inputs: bool):
    """The weight in use has the fans of its layer; the std is planned for it, not for the parts it is made of."""
    build, shape, fan_in = LAYERS[layer]
    function, kind = WRAPPED[wrap]
    made = plan(nn.Sequential(function(build()), nn.ReLU()), shape if inputs else None)
    assert outline(made) == {"0": PLANNED_RELU}
    assert (made["0"].reparam, made["0"].fan_in) == (kind, fan_in)
    assert made["0"].std == pytest.approx(math.sqrt(2 / fan_in))


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, nn.utils.weight_norm, parametrised])
def test_the_weight_in_use_gets_the_planned_std(wrap: Callable[[nn.Module], nn.Module]):
    """4096 numbers: a std within 4 / sqrt(2 * 4096) = 4.4 %."""
    model = nn.Sequential(wrap(nn.Linear(64, 64)), nn.ReLU())
    autoinit(model, seed=0, verbose=False)
    assert float(model[0].weight.detach().std()) == pytest.approx(math.sqrt(2 / 64), rel=0.044)


# Low rank.


class LowRankAdapter(nn.Module):
    """y = W x + s B A x, W frozen, B zero at the start (Hu et al. 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(6, 8).requires_grad_(requires_grad=False)
        self.a = nn.Linear(6, 2, bias=False)
        self.b = nn.Linear(2, 8, bias=False)
        nn.init.zeros_(self.b.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + 2.0 * self.b(self.a(x))


def test_lora_beside_a_frozen_layer():
    made = plan(nn.Sequential(LowRankAdapter(), nn.ReLU()), (2, 6))
    assert outline(made) == {
        "0.base": ("linear", "add", "skipped"),
        "0.a": ("linear", "weight", "planned"),
        "0.b": ("linear", "add", "kept"),
    }
    assert "frozen" in made["0.base"].note
    assert "exactly zero" in made["0.b"].note
    assert made["0.a"].std == pytest.approx(xavier(6, 2))


def test_lora_stays_as_it_was():
    model = nn.Sequential(LowRankAdapter(), nn.ReLU())
    frozen = model[0].base.weight.detach().clone()
    autoinit(model, seed=0, verbose=False)
    assert torch.equal(model[0].base.weight, frozen)
    assert not model[0].b.weight.any()


def test_lora_in_the_weight():
    """W + B A with B = 0: W is planned as if it stood alone; A and B are listed."""
    model = used_through(
        lambda m: m.w + 2.0 * (m.up @ m.down), up=nn.Parameter(torch.zeros(8, 2)), down=parameter(2, 6)
    )
    made = plan(model, (2, 6))
    assert outline(made) == {"w": PLANNED_RELU}
    assert made["w"].std == pytest.approx(HE, rel=1e-6)
    assert others(made) == {"up": "other", "down": "other"}


class LowRank(nn.Module):
    """LoRA as a parametrization: W + B A."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = parameter(2, 6), nn.Parameter(torch.zeros(8, 2))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.b @ self.a


@pytest.mark.parametrize("inputs", [None, (2, 6)], ids=["no_input", "input"])
@pytest.mark.parametrize("frozen", [False, True])
def test_lora_as_a_parametrization(inputs: Any, frozen: bool):
    """Its factors are in use, as those that stand in the forward are; the model has no weight that is not reached."""
    layer = nn.Linear(6, 8).requires_grad_(not frozen)
    parametrize.register_parametrization(layer, "weight", LowRank())
    made = plan(nn.Sequential(layer, nn.ReLU()), inputs)
    assert [each.status for each in made.layers] == ["skipped" if frozen else "planned"]
    factors = {each.name: (each.kind, each.note) for each in made.others if each.name[-1] in "ab"}
    told = "left as it is: a parametrization computes a weight with it"
    assert factors == {f"0.parametrizations.weight.0.{factor}": ("other", told) for factor in "ab"}
    assert made.warnings == ()


def test_dora():
    """m (W + B A) / |W + B A|: magnitude and direction (Liu et al. 2024). The direction has no scale."""

    def forward(m: Any) -> Tensor:
        direction = m.w + m.up @ m.down
        return m.magnitude * direction / direction.norm(dim=1, keepdim=True)

    up, magnitude = nn.Parameter(torch.zeros(8, 2)), nn.Parameter(torch.ones(8, 1))
    made = plan(used_through(forward, up=up, down=parameter(2, 6), magnitude=magnitude), (2, 6))
    assert outline(made) == {"w": PLANNED_RELU}
    assert "normalises its scale away" in made["w"].note
    assert others(made) == {"up": "other", "down": "other", "magnitude": "other"}


def test_two_thin_products():
    """x A B: A feeds B; B feeds the relu and sums over the rank."""
    made = plan(Net(lambda m, x: torch.relu(x @ m.a @ m.b), a=parameter(6, 2), b=parameter(2, 8)), (2, 6))
    assert outline(made) == {"a": ("linear", "weight", "planned"), "b": PLANNED_RELU}
    assert (made["a"].std, made["b"].std) == (pytest.approx(xavier(6, 2)), pytest.approx(1.0))


MADE_OF_PARTS: dict[str, Callable[[Any], Tensor]] = {
    "product": lambda m: m.b @ m.a,
    "einsum": lambda m: torch.einsum("or,ri->oi", m.b, m.a),
    "kronecker": lambda m: torch.kron(m.b.view(4, 4), m.a.view(2, 6)[:, :3]).view(-1, 6),
}


@pytest.mark.parametrize("inputs", [None, (2, 6)], ids=["no_input", "input"])
@pytest.mark.parametrize("key", MADE_OF_PARTS)
def test_a_weight_made_of_others_is_not_guessed(key: str, inputs: Any):
    """linear(x, B A): no element of A or B is an element of the matrix in use. Both are listed as unresolved, and the
    layer before feeds a weight, not what follows."""
    parts = {"a": parameter(2, 6), "b": parameter(8, 2), "before": nn.Linear(6, 6)}
    model = Net(lambda m, x: torch.relu(F.linear(m.before(x), MADE_OF_PARTS[key](m))), **parts)
    made = plan(model, inputs)
    assert outline(made) == {
        "before": ("linear", "weight", "planned"),
        "a": ("linear", "unresolved", "unresolved"),
        "b": ("linear", "unresolved", "unresolved"),
    }
    assert made["a"].note.startswith("its axes could not be followed to linear")


# Joined at run time.


def test_weights_concatenated_for_one_product():
    """linear(x, cat([q, k])): each keeps its fans."""

    def forward(m: Any, x: Tensor) -> Tensor:
        return torch.relu(F.linear(x, torch.cat([m.q.weight, m.k.weight])))

    made = plan(Net(forward, q=nn.Linear(6, 4), k=nn.Linear(6, 3)), (2, 6))
    assert outline(made) == {"q": PLANNED_RELU, "k": PLANNED_RELU}
    assert [(each.axes, each.fan_in, each.fan_out) for each in made.values()] == [("oi", 6, 4), ("oi", 6, 3)]


def test_weights_stacked_for_one_product():
    """Experts as modules, stacked for bmm."""

    def forward(m: Any, x: Tensor) -> Tensor:
        return torch.relu(torch.bmm(x, torch.stack([each.weight for each in m.experts]).transpose(1, 2)))

    made = plan(Net(forward, experts=nn.ModuleList(nn.Linear(6, 8) for _ in range(3))), (3, 2, 6))
    assert outline(made) == {f"experts.{n}": PLANNED_RELU for n in range(3)}
    assert {(each.axes, each.fan_in, each.fan_out) for each in made.values()} == {("oi", 6, 8)}


@pytest.mark.parametrize(
    "join",
    [lambda m: torch.cat([m.q.weight, m.k.weight]), lambda m: torch.stack([m.q.weight, m.k.weight]).flatten(0, 1)],
    ids=["cat", "stack"],
)
def test_joined_weights_are_not_lost(join: Callable[[Any], Tensor]):
    """Whatever is known of them: they are layers, and what feeds them feeds a weight."""
    parts = {"before": nn.Linear(6, 6), "q": nn.Linear(6, 4), "k": nn.Linear(6, 4)}
    made = plan(Net(lambda m, x: torch.relu(F.linear(m.before(x), join(m))), **parts), (2, 6))
    assert list(made) == ["before", "q", "k"]
    assert made["before"].reason == "weight"


# Branches that become one kernel.


class RepVGG(nn.Module):
    """3x3 with norm + 1x1 with norm + norm, then relu: the form that is trained (Ding et al. 2021)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.three, self.three_norm = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.one, self.one_norm = nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width)
        self.identity = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.three_norm(self.three(x)) + self.one_norm(self.one(x)) + self.identity(x))


@pytest.mark.parametrize("inputs", [None, (2, 3, 8, 8)], ids=["no_input", "input"])
def test_branches_before_they_are_merged(inputs: Any):
    """Every branch is normed and summed: linear, normalised, whatever follows the sum."""
    made = plan(nn.Sequential(nn.Conv2d(3, 4, 3), RepVGG(4), RepVGG(4)), inputs)
    for name in ("1.three", "1.one", "2.three", "2.one"):
        layer = made[name]
        assert (layer.nonlinearity, layer.reason, layer.normalised) == ("linear", "add", True)
        area = 9 if name.endswith("three") else 1
        assert layer.std == pytest.approx(xavier(4 * area, 4 * area))


def test_mobile_one_before_it_is_merged():
    """Several 3x3 branches, a 1x1, a norm: a sum in a loop, starting from zero."""

    def forward(m: Any, x: Tensor) -> Tensor:
        out = 0
        for conv, norm in zip(m.convs, m.norms, strict=True):
            out = out + norm(conv(x))
        return F.gelu(out + m.skip(x))

    convs = nn.ModuleList(nn.Conv2d(4, 4, k, padding=k // 2, groups=4, bias=False) for k in (3, 3, 1))
    norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(3))
    made = plan(Net(forward, convs=convs, norms=norms, skip=nn.BatchNorm2d(4)), (2, 4, 8, 8))
    assert outline(made) == {f"convs.{n}": ("linear", "add", "planned") for n in range(3)}
    assert [each.std for each in made.values()] == [pytest.approx(xavier(k, k)) for k in (9, 9, 1)]


def test_branches_after_they_are_merged():
    """One kernel: it feeds the relu."""
    made = plan(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3)), (2, 4, 8, 8))
    assert outline(made) == {"0": PLANNED_RELU, "2": ("linear", "output", "planned")}


def test_kernels_merged_at_each_step():
    """conv(x, W3 + pad(W1)): the kernel of the operation is the 3x3; the 1x1 is listed, not guessed."""

    def forward(m: Any, x: Tensor) -> Tensor:
        return torch.relu(F.conv2d(x, m.three.weight + F.pad(m.one.weight, [1, 1, 1, 1]), padding=1))

    made = plan(Net(forward, three=nn.Conv2d(4, 8, 3, bias=False), one=nn.Conv2d(4, 8, 1, bias=False)), (2, 4, 6, 6))
    assert outline(made) == {"three": PLANNED_RELU}
    assert "through add" in made["three"].note
    assert made["three"].std == pytest.approx(math.sqrt(2 / 36), rel=0.05)
    assert others(made) == {"one.weight": "other"}


# Shared.


@pytest.mark.parametrize(
    "head", [lambda m, h: F.linear(h, m.table.weight), lambda m, h: h @ m.table.weight.t()], ids=["linear", "product"]
)
@pytest.mark.parametrize("with_input", [False, True], ids=["no_input", "input"])
def test_a_head_tied_to_the_embedding_by_use(head: Callable[[Any, Tensor], Tensor], with_input: bool):
    """(11, 6) read as (out, in): 6 inputs, 11 classes; writing it writes the table too, which is said."""
    model = Net(lambda m, ids: head(m, m.body(m.table(ids))), table=nn.Embedding(11, 6), body=nn.Linear(6, 6))
    ids = torch.tensor([[1, 2, 3]])
    made = plan(model, (ids,) if with_input else None)
    assert outline(made) == {"body": ("linear", "weight", "planned"), "table": ("linear", "output", "planned")}
    assert (made["table"].axes, made["table"].fan_in, made["table"].fan_out) == ("oi", 6, 11)
    assert "tied to an embedding" in made["table"].note


def test_an_autoencoder_with_one_weight():
    """W encodes (6 -> 4, relu), its transpose decodes (4 -> 6, output): both are told, the rectifier's gain stands."""
    made = plan(Net(lambda m, x: F.linear(torch.relu(F.linear(x, m.w)), m.w.t()), w=parameter(4, 6)), (2, 6))
    layer = made["w"]
    assert (layer.nonlinearity, layer.reason, layer.fan_in, len(layer.uses)) == ("relu", "mixed", 6, 2)
    assert {(each.nonlinearity, each.reason) for each in layer.alternatives} == {
        ("relu", "activation"),
        ("linear", "output"),
    }


def test_one_weight_for_consumers_of_all_kinds():
    """One matrix before a tanh, in a gate and at the output: one row, three alternatives."""

    def forward(m: Any, x: Tensor) -> Tensor:
        h = torch.tanh(m.first(x))
        return m.third(h * m.second(h))

    model = Net(forward, first=nn.Linear(6, 6), second=nn.Linear(6, 6), third=nn.Linear(6, 6))
    model.second.weight = model.third.weight = model.first.weight
    (layer,) = plan(model, (2, 6)).values()
    assert (layer.name, layer.nonlinearity, layer.reason) == ("first", "tanh", "mixed")
    assert {each.reason for each in layer.alternatives} == {"activation", "gate", "output"}
    assert layer.biases == ("first.bias", "second.bias", "third.bias")
    assert layer.std == pytest.approx(xavier(6, 6, 5 / 3))


# Made by another layer.


def test_a_weight_that_a_layer_makes_from_a_code():
    """The maker's output multiplies the signal: linear, and its own fans. The code is no weight."""
    model = Net(lambda m, x: F.linear(torch.relu(m.first(x)), m.maker(m.code).view(4, 6)),
                first=nn.Linear(6, 6), maker=nn.Linear(3, 24), code=parameter(1, 3))  # fmt: skip
    made = plan(model, (2, 6))
    assert outline(made)["first"] == PLANNED_RELU
    assert (made["maker"].nonlinearity, made["maker"].fan_in, made["maker"].fan_out) == ("linear", 3, 24)
    assert made["maker"].std == pytest.approx(xavier(3, 24))
    assert others(made) == {"code": "other"}


TABLES: dict[str, Callable[[Any], Tensor]] = {
    "index": lambda m: m.w[m.at],
    "index_select": lambda m: m.w.index_select(0, m.at.flatten()).view(4, 4, 6),
    "along the last axis": lambda m: m.w.T.index_select(1, m.at.flatten()).unflatten(1, (4, 4)).permute(1, 2, 0),
    "keywords": lambda m: torch.index_select(m.w, dim=-2, index=m.at.reshape(-1)).reshape(4, 4, -1),
}


@pytest.mark.parametrize("spelling", TABLES)
def test_rows_of_a_table_by_relative_position(spelling: str):
    """sum_c q_c R[i - j + 3, c]: of a table (7, 6), whose rows are chosen, the 6 columns are summed."""
    at = torch.arange(4)[:, None] - torch.arange(4)[None] + 3
    net = Net(lambda m, x: torch.relu(torch.einsum("bqc,qkc->bqk", x, TABLES[spelling](m))), w=parameter(7, 6), at=at)
    made = plan(net, (2, 4, 6))
    assert outline(made)["w"] == PLANNED_RELU
    assert made["w"].std == pytest.approx(HE)


# Complex.


def test_a_complex_weight_is_told():
    """Plans are of real numbers: a complex weight is skipped with the reason."""
    weight = nn.Parameter(torch.randn(6, 8, dtype=torch.cfloat))
    made = plan(Net(lambda m, x: torch.relu((x.to(torch.cfloat) @ m.w).real), w=weight), (2, 6))
    assert (made["w"].status, made["w"].fan_in) == ("skipped", 6)
    assert "complex64" in made["w"].note


def test_a_complex_weight_is_looked_at_without_a_warning_of_torch():
    """1j * w is not zero though its real part is; it has no std on the line of real numbers."""
    weight = nn.Parameter(1j * torch.randn(6, 8).to(torch.cfloat))
    model = Net(
        lambda m, x: m.last(torch.relu((x.to(torch.cfloat) @ m.w).imag)), w=weight, last=nn.Linear(8, 3, bias=False)
    )
    checked = check(model, (2, 6))
    assert not checked.findings
    assert any("1 weight has no real values to look at" in note for note in checked.notes)
    made = autoinit(model, (2, 6))
    assert made.plan["w"].status == "skipped"
    assert set(made.before) == set(made.after) == {"last"}


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda m: torch.view_as_complex(m.w), {"w": parameter(6, 8, 2)}),
        (lambda m: torch.complex(m.w, m.v), {"w": parameter(6, 8), "v": parameter(6, 8)}),
    ],
    ids=["pairs", "two_parts"],
)
def test_a_complex_weight_of_real_parts_is_not_guessed(change: Callable[[Any], Tensor], parts: dict[str, Any]):
    def forward(m: Any, x: Tensor) -> Tensor:
        return torch.relu((m.before(x).to(torch.cfloat) @ change(m)).real)

    made = plan(Net(forward, before=nn.Linear(6, 6), **parts), (2, 6))
    assert made["before"].reason == "weight"
    assert {name for name, each in made.items() if each.status == "unresolved"} == set(parts)


# Ensembles.


def test_an_ensemble_by_vmap():
    """Members stacked along a new first axis; the members count for nothing."""
    members = [nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)) for _ in range(4)]
    stacked, _ = torch.func.stack_module_state(members)
    base = copy.deepcopy(members[0]).to("meta")

    def forward(m: Any, x: Tensor) -> Tensor:
        state = {name.replace("_", "."): each for name, each in m.state.items()}
        return torch.vmap(lambda s: torch.func.functional_call(base, s, (x,)))(state)

    state = nn.ParameterDict({name.replace(".", "_"): nn.Parameter(each.detach()) for name, each in stacked.items()})
    model = Net(forward, state=state)
    made = plan(model, numbers(2, 6))
    assert outline(made) == {"state.0_weight": PLANNED_RELU, "state.2_weight": ("linear", "output", "planned")}
    assert [(each.axes, each.fan_in) for each in made.values()] == [("boi", 6), ("boi", 8)]


def test_an_ensemble_by_functional_call():
    """One module, called with parameters that another holds."""
    base = nn.Linear(6, 8)

    def forward(m: Any, x: Tensor) -> Tensor:
        return torch.relu(torch.func.functional_call(m.base, {"weight": m.w, "bias": m.b}, (x,)))

    made = plan(Net(forward, base=base, w=parameter(8, 6), b=nn.Parameter(torch.zeros(8))), (2, 6))
    assert made["w"].nonlinearity == "relu"
    assert made["w"].fan_in == 6


AS_ANOTHER: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "view_as": lambda w, other: w.view_as(other),
    "reshape_as": lambda w, other: w.reshape_as(other),
    "expand_as": lambda w, other: w.expand_as(other),
    "type_as": lambda w, other: w.type_as(other),
    "to": lambda w, other: w.to(other),
}


@pytest.mark.parametrize("tier", ["symbolic", "recorded"])
@pytest.mark.parametrize("key", AS_ANOTHER)
def test_a_weight_in_the_shape_of_another(key: str, tier: str):
    """The other parameter only lends its shape: 6 inputs before a ReLU, sqrt(2 / 6)."""
    model = Net(
        lambda net, x: F.relu(F.linear(x, AS_ANOTHER[key](net.w, net.other))),
        w=nn.Parameter(torch.randn(8, 6)),
        other=nn.Parameter(torch.randn(8, 6)),
    )
    made = plan(model, None if tier == "symbolic" else (numbers(2, 6),))
    assert {layer.name: layer.std for layer in made.layers} == {"w": pytest.approx(math.sqrt(2 / 6))}
    assert [(each.name, each.kind) for each in made.others] == [("other", "other")]


class Symmetric(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.triu() + x.triu(1).mT


PARAMETRISED: dict[str, Callable[[nn.Linear], nn.Module]] = {
    "weight_norm": nn.utils.parametrizations.weight_norm,
    "spectral_norm": nn.utils.parametrizations.spectral_norm,
    "orthogonal": nn.utils.parametrizations.orthogonal,
    "symmetric": lambda layer: nn.utils.parametrize.register_parametrization(layer, "weight", Symmetric()),
}


@pytest.mark.parametrize("key", PARAMETRISED)
def test_an_exported_program_with_a_parametrised_weight(key: str):
    """No module computes its weight: nothing is said of its values, and the next layer is judged as ever."""
    model = nn.Sequential(PARAMETRISED[key](nn.Linear(8, 8)), nn.ReLU(), nn.Linear(8, 3)).eval()
    with torch.no_grad():
        model[2].weight.mul_(100)
    program = torch.export.export(model, (numbers(2, 8),))
    assert "2" in str(report(program))
    errors = [(each.code, each.layer) for each in check(program).findings if each.severity == "error"]
    assert errors == [("INI102", "2")]


def test_a_symmetric_weight_in_an_exported_program():
    """Each output sums 8 products, as of any (8, 8) weight."""
    model = nn.Sequential(PARAMETRISED["symmetric"](nn.Linear(8, 8)), nn.ReLU()).eval()
    layer = plan(torch.export.export(model, (numbers(2, 8),)))["0"]
    assert (layer.axes, layer.nonlinearity, layer.fan_in) == ("oi", "relu", 8)


CUT: dict[str, tuple[Callable[[Any], Tensor], float]] = {
    "masked_fill": (lambda m: m.w.masked_fill(m.mask, 0.0), 1 / 2),
    "where": (lambda m: torch.where(m.mask, m.w, 0.0), 1 / 2),
    "multiplied": (lambda m: m.w * m.mask, 1 / 2),
    "lower": (lambda m: torch.tril(m.w), 33 / 48),
    "upper": (lambda m: m.w.triu(1), 15 / 48),
}


@pytest.mark.parametrize("key", CUT)
def test_the_share_that_a_mask_leaves(key: str):
    """Of 8 * 6 elements half, or those on one side of the diagonal, are left: the others make up for their power."""
    change, share = CUT[key]
    layer = plan(used_through(change, mask=torch.arange(6).expand(8, 6) % 2 == 0), (numbers(2, 6),))["w"]
    assert layer.std == pytest.approx(HE / math.sqrt(share), rel=1e-4)
