"""Plans: the standard deviation of every weight by closed form, what is left alone, and that nothing is lost."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from autoinit import ArgumentError, LayerPlan, LazyModuleError, Plan, PlanError, plan
from autoinit.plans.distributions import DISTRIBUTIONS

HE = math.sqrt(2)


def xavier(fan_in: float, fan_out: float) -> float:
    return math.sqrt(2 / (fan_in + fan_out))


class Called(nn.Module):
    """Modules and parameters, and a forward that is given."""

    def __init__(self, forward: Callable[[Any, Tensor], Any], **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.called = forward

    def forward(self, x: Tensor) -> Any:
        return self.called(self, x)


# A plan is a value.


def perceptron() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 4))


def test_a_plan_is_a_mapping_in_order():
    made = plan(perceptron())
    assert isinstance(made, Mapping)
    assert list(made) == ["0", "2", "4"]
    assert len(made) == 3
    assert [each.name for each in made.values()] == ["0", "2", "4"]
    assert made["2"] is made.layers[1]
    assert "2" in made
    assert "1" not in made
    assert made.parameters == 8 * 32 + 32 + 32 * 16 + 16 + 16 * 4 + 4
    assert made.model == "Sequential"
    assert made.tier == "symbolic"


def test_a_plan_is_frozen():
    made = plan(perceptron())
    for value in (made, made["0"]):
        with pytest.raises(AttributeError, match="cannot assign to field"):
            value.notes = ()  # type: ignore[misc]


def test_a_name_that_is_not_there():
    with pytest.raises(KeyError, match=r"no layer 'fc' in the plan of Sequential; it has 3"):
        plan(perceptron())["fc"]


def test_planning_writes_nothing():
    model = perceptron()
    before = [parameter.clone() for parameter in model.parameters()]
    plan(model)
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


# Standard deviations.


def test_he_tanh_and_head():
    made = plan(perceptron())
    assert made["0"].std == pytest.approx(HE / math.sqrt(8))
    assert (made["0"].scheme, made["0"].mode, made["0"].gain) == ("he", "fan_in", pytest.approx(HE))
    assert made["2"].std == pytest.approx(5 / 3 * xavier(32, 16))
    assert (made["2"].scheme, made["2"].mode, made["2"].gain) == ("xavier", "fan_avg", pytest.approx(5 / 3))
    assert made["4"].std == pytest.approx(xavier(16, 4))
    assert (made["4"].scheme, made["4"].mode, made["4"].gain) == ("xavier", "fan_avg", 1.0)


@pytest.mark.parametrize(
    ("mode", "fans"), [("fan_in", (8, 32, 16)), ("fan_out", (32, 16, 4)), ("fan_avg", (20, 24, 10))]
)
def test_one_mode_for_all(mode: Any, fans: tuple[float, ...]):
    made = plan(perceptron(), mode=mode)
    gains = (HE, 5 / 3, 1.0)
    assert [each.std for each in made.values()] == pytest.approx(
        [gain / math.sqrt(fan) for gain, fan in zip(gains, fans, strict=True)]
    )
    assert {each.mode for each in made.values()} == {mode}


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_the_distribution_does_not_change_the_std(distribution: Any):
    made = plan(perceptron(), distribution=distribution)
    assert {each.distribution for each in made.values()} == {distribution}
    assert made["0"].std == pytest.approx(HE / math.sqrt(8))


class Experts(nn.Module):
    """Four experts in one tensor, (expert, in, out)."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.randn(4, 6, 10))
        self.down = nn.Parameter(torch.randn(4, 10, 6))

    def forward(self, x: Tensor) -> Tensor:
        return torch.bmm(F.relu(torch.bmm(x, self.up)), self.down)


def relu_of(function: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    return lambda model, x: F.relu(function(model, x))


WEIGHT = nn.Parameter

FANS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str, float, float]] = {
    "linear": (lambda: nn.Linear(5, 7), (2, 5), "0", 5, 7),
    "conv1d": (lambda: nn.Conv1d(5, 7, 3), (2, 5, 9), "0", 15, 21),
    "conv2d": (lambda: nn.Conv2d(5, 7, (3, 2)), (2, 5, 9, 9), "0", 30, 42),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2), (2, 2, 5, 5, 5), "0", 16, 24),
    "grouped": (lambda: nn.Conv2d(8, 12, 3, groups=4), (2, 8, 9, 9), "0", 18, 27),
    "depthwise": (lambda: nn.Conv2d(8, 8, 3, groups=8), (2, 8, 9, 9), "0", 9, 9),
    "strided": (lambda: nn.Conv2d(5, 8, 3, stride=2), (2, 5, 9, 9), "0", 45, 18),
    "patches": (lambda: nn.Conv2d(3, 16, 4, stride=4), (2, 3, 8, 8), "0", 48, 16),
    "strides": (lambda: nn.Conv2d(5, 8, 3, stride=(1, 3)), (2, 5, 9, 9), "0", 45, 24),
    "dilated": (lambda: nn.Conv2d(5, 8, 3, dilation=2), (2, 5, 9, 9), "0", 45, 72),
    "transposed": (lambda: nn.ConvTranspose2d(6, 10, 4, 2, 1), (2, 6, 4, 4), "0", 24, 160),
    "transposed_1d": (lambda: nn.ConvTranspose1d(6, 10, 4, 4), (2, 6, 4), "0", 6, 40),
    "transposed_grouped": (lambda: nn.ConvTranspose2d(6, 10, 4, 2, groups=2), (2, 6, 4, 4), "0", 12, 80),
    "functional_grouped": (
        lambda: Called(lambda m, x: F.conv2d(x, m.w, None, (2, 2), 1, 1, 4), w=WEIGHT(torch.randn(12, 2, 3, 3))),
        (2, 8, 9, 9), "0.w", 18, 27 / 4,
    ),
    "functional_transposed": (
        lambda: Called(lambda m, x: F.conv_transpose2d(x, m.w, stride=2), w=WEIGHT(torch.randn(6, 10, 4, 4))),
        (2, 6, 4, 4), "0.w", 24, 160,
    ),
    "matmul": (lambda: Called(lambda m, x: x @ m.w, w=WEIGHT(torch.randn(5, 7))), (2, 5), "0.w", 5, 7),
    "matmul_transposed": (lambda: Called(lambda m, x: x @ m.w.T, w=WEIGHT(torch.randn(7, 5))), (2, 5), "0.w", 5, 7),
    "from_the_left": (lambda: Called(lambda m, x: m.w @ x, w=WEIGHT(torch.randn(7, 5))), (5, 2), "0.w", 5, 7),
    "addmm": (
        lambda: Called(lambda m, x: torch.addmm(m.b, x, m.w), w=WEIGHT(torch.randn(5, 7)), b=WEIGHT(torch.zeros(7))),
        (2, 5), "0.w", 5, 7,
    ),
    "einsum": (
        lambda: Called(lambda m, x: torch.einsum("bnd,dhk->bnhk", x, m.w), w=WEIGHT(torch.randn(5, 2, 3))),
        (2, 4, 5), "0.w", 5, 6,
    ),
    "einsum_in": (
        lambda: Called(lambda m, x: torch.einsum("bnhk,hkd->bnd", x, m.w), w=WEIGHT(torch.randn(2, 3, 5))),
        (2, 4, 2, 3), "0.w", 6, 5,
    ),
    "tensordot": (
        lambda: Called(lambda m, x: torch.tensordot(x, m.w, dims=1), w=WEIGHT(torch.randn(5, 7))), (2, 5), "0.w", 5, 7
    ),
    "bilinear": (
        lambda: Called(lambda m, x: m.f(x, x), f=nn.Bilinear(3, 3, 7)), (2, 3), "0.f", 9, 7,
    ),
    "sliced_weight": (
        lambda: Called(lambda m, x: F.linear(x, m.w[:, :5]), w=WEIGHT(torch.randn(7, 9))), (2, 5), "0.w", 5, 7
    ),
    "viewed_weight": (
        lambda: Called(lambda m, x: F.linear(x, m.w.view(7, 5)), w=WEIGHT(torch.randn(7, 5, 1, 1))),
        (2, 5), "0.w", 5, 7,
    ),
}  # fmt: skip


@pytest.mark.parametrize("with_input", [False, True], ids=["no_input", "input"])
@pytest.mark.parametrize("key", FANS)
def test_fans(key: str, with_input: bool):
    """He before a relu: std = sqrt(2 / fan_in)."""
    build, shape, name, fan_in, fan_out = FANS[key]
    model = nn.Sequential(build(), nn.ReLU())
    made = plan(model, shape) if with_input or key in ("einsum", "einsum_in", "from_the_left") else plan(model)
    assert list(made) == [name]
    layer = made[name]
    assert (layer.nonlinearity, layer.reason, layer.status) == ("relu", "activation", "planned")
    assert (layer.fan_in, layer.fan_out) == (pytest.approx(fan_in), pytest.approx(fan_out))
    assert layer.std == pytest.approx(HE / math.sqrt(fan_in))
    assert plan(model, shape, mode="fan_out")[name].std == pytest.approx(HE / math.sqrt(fan_out))


def test_experts():
    made = plan(Experts(), (4, 2, 6))
    assert (made["up"].axes, made["up"].fan_in, made["up"].fan_out) == ("bio", 6, 10)
    assert made["up"].std == pytest.approx(HE / math.sqrt(6))
    assert made["down"].std == pytest.approx(xavier(10, 6))


PIECES: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "chunk": lambda weight: weight.view(14, 5).chunk(2, 0),
    "split": lambda weight: weight.view(14, 5).split(7),
    "unbind": lambda weight: weight.unbind(0),
    "index": lambda weight: (weight[0], weight[1]),
    "slices": lambda weight: (weight.view(14, 5)[:7], weight.view(14, 5)[7:]),
    "select": lambda weight: (weight.select(0, 0), weight.select(0, 1)),
}


@pytest.mark.parametrize("with_input", [False, True], ids=["no_input", "input"])
@pytest.mark.parametrize("key", PIECES)
def test_a_weight_used_in_pieces(key: str, with_input: bool):
    """Two (7, 5) matrices in one parameter: each output sums 5 inputs."""

    def forward(model: Any, x: Tensor) -> Tensor:
        first, second = PIECES[key](model.w)
        return F.relu(F.linear(x, first)) + F.relu(F.linear(x, second))

    made = plan(Called(forward, w=WEIGHT(torch.randn(2, 7, 5))), (2, 5) if with_input else None)
    assert list(made) == ["w"]
    assert (made["w"].nonlinearity, made["w"].reason, made["w"].fan_in) == ("relu", "activation", 5)
    assert made["w"].std == pytest.approx(HE / math.sqrt(5))


# Tied weights.


def test_tied_linears():
    """One weight, used twice: it feeds a relu and the output, and is listed once."""
    model = Called(lambda m, x: m.b(F.relu(m.a(x))), a=nn.Linear(6, 6), b=nn.Linear(6, 6))
    model.b.weight = model.a.weight
    made = plan(model)
    assert list(made) == ["a"]
    assert made["a"].reason == "mixed"
    assert made["a"].std == pytest.approx(HE / math.sqrt(6))
    assert len(made["a"].uses) == 2
    assert {(each.nonlinearity, each.reason) for each in made["a"].alternatives} == {
        ("relu", "activation"),
        ("linear", "output"),
    }
    assert sorted(made["a"].biases) == ["a.bias", "b.bias"]


@pytest.mark.parametrize("head_first", [False, True], ids=["embedding_first", "head_first"])
def test_embedding_tied_to_head(head_first: bool):
    """The head is a weight layer (in 6, out 20); the table is the same parameter, and appears once."""

    class Language(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            if head_first:
                self.head = nn.Linear(6, 20, bias=False)
            self.embed = nn.Embedding(20, 6)
            if not head_first:
                self.head = nn.Linear(6, 20, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.embed(x))

    made = plan(Language(), torch.tensor([[1, 2]]))
    assert accounted(made) == {"head.weight" if head_first else "embed.weight": 1}
    assert made.parameters == 120
    (layer,) = made.values()
    assert layer.std == pytest.approx(xavier(6, 20))
    assert "embedding" in layer.note  # writing it also writes the table: the reader is told


def test_a_shared_module_with_different_consumers():
    model = Called(
        lambda m, x: m.last(F.silu(m.shared(x)) + m.shared(torch.tanh(m.shared(x)))),
        shared=nn.Linear(6, 6),
        last=nn.Linear(6, 2),
    )
    made = plan(model)
    assert list(made) == ["shared", "last"]
    assert made["shared"].reason == "mixed"
    assert {(each.nonlinearity, each.reason) for each in made["shared"].alternatives} == {
        ("silu", "activation"),
        ("tanh", "activation"),
        ("linear", "add"),
    }
    assert len(made["shared"].uses) == 3
    assert made["shared"].nonlinearity == "tanh"  # 5/3 = 1.6667 < silu's 1.6765


# What is left alone.


def test_frozen_weights():
    model = perceptron()
    model[2].weight.requires_grad_(False)
    made = plan(model)
    assert [each.status for each in made.values()] == ["planned", "skipped", "planned"]
    assert made["2"].note == "frozen: requires_grad is False"


def test_zero_weights():
    model = perceptron()
    nn.init.zeros_(model[4].weight)
    kept = plan(model)["4"]
    assert kept.status == "kept"
    assert "exactly zero" in kept.note
    reset = plan(model, zeros="reset")["4"]
    assert (reset.status, reset.note) == ("planned", "")
    assert reset.std == kept.std == pytest.approx(xavier(16, 4))


def test_one_number_that_is_not_zero_is_not_zero():
    model = perceptron()
    nn.init.zeros_(model[4].weight)
    with torch.no_grad():
        model[4].weight[3, 15] = 1e-30
    assert plan(model)["4"].status == "planned"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"skip": "2"}, ["planned", "skipped", "planned"]),
        ({"skip": ["0", "4"]}, ["skipped", "planned", "skipped"]),
        ({"skip": "[24]"}, ["planned", "skipped", "skipped"]),
        ({"only": "0"}, ["planned", "skipped", "skipped"]),
        ({"only": ("0", "2")}, ["planned", "planned", "skipped"]),
        ({"only": "*", "skip": "4"}, ["planned", "planned", "skipped"]),
    ],
    ids=str,
)
def test_globs(options: dict[str, Any], expected: list[str]):
    made = plan(perceptron(), **options)
    assert [each.status for each in made.values()] == expected
    assert all(each.note for each in made.values() if each.status == "skipped")


@pytest.mark.parametrize("option", ["only", "skip"])
def test_a_glob_that_matches_nothing(option: str):
    with pytest.raises(ArgumentError, match=rf"{option}='head\*' matches none of the 3 layers \(0, 2, 4"):
        plan(perceptron(), **{option: "head*"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "fan_max"}, r"mode='fan_max': expected one of 'fan_in', 'fan_out', 'fan_avg'"),
        ({"distribution": "cauchy"}, r"distribution='cauchy': expected one of 'normal', 'uniform'"),
        ({"residual": "width"}, r"residual='width': expected one of 'keep', 'depth'"),
        ({"zeros": "drop"}, r"zeros='drop': expected one of 'keep', 'reset'"),
        ({"method": "magic"}, r"method='magic': expected one of 'nonlinearity'"),
    ],
    ids=["mode", "distribution", "residual", "zeros", "method"],
)
def test_arguments_without_meaning(options: dict[str, Any], message: str):
    with pytest.raises(ArgumentError, match=message):
        plan(perceptron(), **options)


def test_unused_and_uncalled():
    """`side` runs, but nothing comes of it; `spare` never runs."""

    def forward(model: Any, x: Tensor) -> Tensor:
        model.side(x)
        return model.main(x)

    model = Called(forward, main=nn.Linear(4, 3), side=nn.Linear(4, 2), spare=nn.Linear(4, 1))
    made = plan(model)
    assert made["side"].status == "skipped"
    assert "unused" in made["side"].note
    assert "spare" not in made
    assert {each.name: each.kind for each in made.others}["spare.weight"] == "uncalled"
    assert accounted(made) == {"main.weight": 1, "side.weight": 1, "spare.weight": 1}


def test_lazy_models_are_refused():
    with pytest.raises(LazyModuleError, match=r"run one forward first"):
        plan(nn.Sequential(nn.LazyLinear(3)))


def test_an_unresolved_layer_is_not_planned():
    made = plan(Called(lambda m, x: m.b(torch.log(m.a(x))), a=nn.Linear(4, 4), b=nn.Linear(4, 2)))
    assert (made["a"].status, made["a"].reason) == ("unresolved", "unresolved")
    assert made["a"].note
    assert made["b"].status == "planned"


def test_an_unknown_operation_is_listed():
    made = plan(Called(lambda m, x: m.b(torch.cov(m.a(x).T)), a=nn.Linear(4, 4), b=nn.Linear(4, 2)))
    assert made["a"].status == "unresolved"
    assert len(made.unsupported) == 1
    assert "cov" in made.unsupported[0]
    assert __file__ in made.unsupported[0]


# Parametrised weights: named as the user knows the layer, planned as if they were plain.


class Symmetric(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight.triu() + weight.triu(1).transpose(-1, -2)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight.triu()


def symmetric(layer: nn.Module) -> nn.Module:
    return parametrize.register_parametrization(layer, "weight", Symmetric())


PARAMETRISED: dict[str, tuple[Callable[[nn.Module], nn.Module], str, str]] = {
    "new_weight_norm": (parametrizations.weight_norm, "0.parametrizations.weight.original1", "weight_norm"),
    "spectral_norm": (parametrizations.spectral_norm, "0.parametrizations.weight.original", "spectral_norm"),
    "custom": (symmetric, "0.parametrizations.weight.original", "parametrized"),
    "old_spectral_norm": (nn.utils.spectral_norm, "0.weight_orig", "spectral_norm"),
}


@pytest.mark.parametrize("with_input", [False, True], ids=["no_input", "input"])
@pytest.mark.parametrize("key", PARAMETRISED)
def test_parametrised(key: str, with_input: bool):
    wrap, param, kind = PARAMETRISED[key]
    model = nn.Sequential(wrap(nn.Linear(6, 6)), nn.ReLU(), nn.Linear(6, 2))
    made = plan(model, (2, 6)) if with_input else plan(model)
    assert list(made) == ["0", "2"]
    layer = made["0"]
    assert (layer.param, layer.reparam, layer.status) == (param, kind, "planned")
    assert layer.std == pytest.approx(HE / math.sqrt(6))
    assert layer.biases == ("0.bias",)
    counts = accounted(made)
    assert set(counts) == {name for name, each in model.named_parameters() if each.dim() >= 2}
    assert set(counts.values()) == {1}


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
def test_old_weight_norm():
    model = nn.Sequential(nn.utils.weight_norm(nn.Linear(6, 4)), nn.ReLU())
    made = plan(model)
    assert (made["0"].param, made["0"].reparam) == ("0.weight_v", "weight_norm")
    assert made["0"].std == pytest.approx(HE / math.sqrt(6))
    assert set(accounted(made)) == {"0.weight_v", "0.weight_g"}


# Models without values, and plans as text.


@pytest.mark.parametrize("inputs", [None, (2, 8)], ids=["no_input", "input"])
def test_a_model_on_meta(inputs: Any):
    with torch.device("meta"):
        model = perceptron()
    assert [each.std for each in plan(model, inputs).values()] == [each.std for each in plan(perceptron()).values()]
    assert all(each.is_meta for each in model.parameters())


def test_a_large_model_on_meta():
    """A weight of 64 GB costs nothing."""
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(131072, 131072), nn.GELU(), nn.Linear(131072, 1))
    made = plan(model)
    assert made["0"].gain == pytest.approx(1.5335, abs=1e-4)
    assert made["0"].std == pytest.approx(made["0"].gain / math.sqrt(131072))


def fused() -> nn.Module:
    return nn.MultiheadAttention(8, 2)


def attention(model: Any, x: Tensor) -> Tensor:
    return model.attention(x, x, x)[0]


def rich_plan() -> Plan:
    """Slices, alternatives, parameters, kept and skipped layers, others, notes."""
    model = Called(
        lambda m, x: m.head(F.leaky_relu(m.twice(attention(m, m.twice(x))), 0.2)),
        attention=fused(),
        twice=nn.Linear(8, 8),
        head=nn.Linear(8, 3),
        spare=nn.Linear(2, 2),
    )
    model.twice.register_forward_hook(lambda *_: None)
    nn.init.zeros_(model.head.weight)
    return plan(model, (2, 5, 8), skip="twice", residual="depth", distribution="uniform")


def test_json_round_trip():
    made = rich_plan()
    assert any(each.slices for each in made.values())
    assert any(each.alternatives for each in made.values())
    assert made.others
    assert made.notes
    again = Plan.from_json(made.to_json())
    assert again == made
    assert again.to_json() == made.to_json()
    assert list(again) == list(made)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-20], r"not a plan: "),
        (lambda text: "", r"not a plan: "),
        (lambda text: "[]", r"not a plan: .*Expected `object`, got `array`.* Expected the output of Plan.to_json"),
        (lambda text: text.replace('"version": 1', '"version": 99'), r"plan version 99; this release reads"),
        (lambda text: text.replace('"std"', '"sd"', 1), r"not a plan: .*\$\.layers\[0\]"),
        (lambda text: text.replace('"uniform"', '"cauchy"', 1), r"not a plan: Invalid enum value 'cauchy'"),
        (lambda text: json.dumps({**json.loads(text), "more": 1}), r"not a plan: .*unknown field `more`"),
        (lambda text: json.dumps({**json.loads(text), "tier": 3}), r"not a plan: Expected `str`, got `int`"),
        (lambda text: json.dumps({**json.loads(text), "method": "unit"}), r"not a plan: method='unit': expected one"),
        (lambda text: json.dumps({**json.loads(text), "residual": "wide"}), r"not a plan: Invalid enum value 'wide'"),
    ],
    ids=["truncated", "empty", "array", "version", "missing", "distribution", "unknown", "type", "method", "residual"],
)  # fmt: skip
def test_bad_json(change: Callable[[str], str], message: str):
    with pytest.raises(PlanError, match=message):
        Plan.from_json(change(rich_plan().to_json()))


# Nothing is lost: every parameter of two or more dimensions is in `layers` or `others`, once.


def accounted(made: Plan) -> dict[str, int]:
    """How often each parameter of two or more dimensions is listed."""
    names = [each.param for each in made.layers] + [each.name for each in made.others if len(each.shape) >= 2]
    return {name: names.count(name) for name in names}


class Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.positions = nn.Parameter(torch.randn(1, 5, 8))
        self.scale = nn.Parameter(torch.ones(8, 1))
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 11)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.embed(x) + self.positions[:, : x.shape[1]]) @ torch.diag(self.scale[:, 0]))


class LowRank(nn.Module):
    """W + B A, as LoRA adds it to the weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 6))
        self.a = nn.Parameter(torch.randn(2, 6))
        self.b = nn.Parameter(torch.zeros(8, 2))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(F.linear(x, self.weight + self.b @ self.a))


class LowRankBeside(LowRank):
    """W x + B (A x), as LoRA adds it to the output."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(F.linear(x, self.weight) + F.linear(F.linear(x, self.a), self.b))


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 6))
        self.register_buffer("mask", torch.ones(8, 6).tril())

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(F.linear(x, self.weight * self.mask))


class Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        mean = weight.mean((1, 2, 3), keepdim=True)
        deviation = weight.std((1, 2, 3), keepdim=True) + 1e-5
        return F.relu(F.conv2d(x, (weight - mean) / deviation, self.bias, self.stride, self.padding))


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    return model


MODELS: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "perceptron": (perceptron, (2, 8)),
    "transformer": (Positions, torch.tensor([[1, 2, 3, 4, 5]])),
    "low_rank": (LowRank, (2, 6)),
    "low_rank_beside": (LowRankBeside, (2, 6)),
    "masked": (Masked, (2, 6)),
    "standardised": (lambda: Standardised(3, 4, 3), (2, 3, 8, 8)),
    "experts": (Experts, (4, 2, 6)),
    "recurrent": (lambda: nn.LSTM(5, 4, num_layers=2, bidirectional=True, proj_size=3), (7, 2, 5)),
    "recurrent_cell": (lambda: nn.GRUCell(5, 4), (2, 5)),
    "tied": (tied, (2, 4)),
    "bilinear": (lambda: Called(lambda m, x: m.f(x, x), f=nn.Bilinear(3, 3, 7)), (2, 3)),
    "attention": (lambda: Called(attention, attention=nn.MultiheadAttention(8, 2, kdim=8, vdim=8)), (2, 5, 8)),
    "spectral": (lambda: nn.Sequential(parametrizations.spectral_norm(nn.Conv2d(3, 4, 3))), (2, 3, 8, 8)),
    "orthogonal": (lambda: nn.Sequential(parametrizations.orthogonal(nn.Linear(4, 4))), (2, 4)),
    "hypernetwork": (
        lambda: Called(lambda m, x: F.linear(x, m.made.weight.view(3, 4)), made=nn.Linear(3, 4)), (2, 4)
    ),
}  # fmt: skip


@pytest.mark.parametrize("with_input", [False, True], ids=["no_input", "input"])
@pytest.mark.parametrize("key", MODELS)
def test_every_parameter_is_listed_once(key: str, with_input: bool):
    build, inputs = MODELS[key]
    model = build()
    made = plan(model, inputs if with_input or key in ("transformer", "experts", "attention", "recurrent") else None)
    expected = {name for name, each in model.named_parameters() if each.dim() >= 2}
    assert accounted(made) == dict.fromkeys(expected, 1)
    biases = {bias for each in made.layers for bias in each.biases if each.status == "planned"}
    small = {each.name for each in made.others if len(each.shape) < 2}
    flat = {name for name, each in model.named_parameters() if each.dim() < 2}
    assert biases | small == flat
    assert biases & small == set()


def test_low_rank_update_of_a_weight():
    """The weight reaches the layer through a sum, which is said; its update, zero by intent, is left as it is."""
    made = plan(LowRank())
    assert [each.param for each in made.values() if each.status == "planned"] == ["weight"]
    assert (made["weight"].nonlinearity, made["weight"].status) == ("relu", "planned")
    assert "add" in made["weight"].note
    assert made["weight"].std == pytest.approx(HE / math.sqrt(6))


def test_low_rank_update_beside():
    made = plan(LowRankBeside())
    assert (made["weight"].nonlinearity, made["weight"].reason) == ("linear", "add")
    assert (made["a"].nonlinearity, made["a"].reason) == ("linear", "weight")
    assert (made["b"].reason, made["b"].status) == ("add", "kept")


def test_a_masked_weight():
    layer = plan(Masked())["weight"]
    assert (layer.nonlinearity, layer.fan_in) == ("relu", 6)
    assert "mul" in layer.note


def test_weight_standardisation():
    layer = (
        plan(Standardised(3, 4, 3))[""] if "" in plan(Standardised(3, 4, 3)) else plan(Standardised(3, 4, 3))["weight"]
    )
    assert (layer.nonlinearity, layer.fan_in, layer.axes) == ("relu", 27, "oikk")
    assert "div" in layer.note


# residual="depth".


def factors(model: nn.Module, inputs: Any = None) -> dict[str, float]:
    """How much smaller each std is with residual="depth"."""
    plain, scaled = plan(model, inputs), plan(model, inputs, residual="depth")
    assert list(plain) == list(scaled)
    return {name: scaled[name].std / plain[name].std for name in plain}


class Block(nn.Module):
    """x + down(relu(up(norm(x))))."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.relu(self.up(self.norm(x))))


@pytest.mark.parametrize("stem", [False, True], ids=["bare", "stem"])
@pytest.mark.parametrize("with_input", [False, True], ids=["no_input", "input"])
@pytest.mark.parametrize("count", range(2, 7))
def test_depth_of_a_chain_of_blocks(count: int, with_input: bool, stem: bool):
    ends = [nn.Linear(8, 8)] if stem else []
    model = nn.Sequential(*ends, *(Block() for _ in range(count)), nn.LayerNorm(8), nn.Linear(8, 3))
    expected = {name: 1 / math.sqrt(count) if name.endswith("down") else 1.0 for name in plan(model)}
    assert sum(factor < 1 for factor in expected.values()) == count
    assert factors(model, (2, 8) if with_input else None) == pytest.approx(expected)


def test_one_block_is_no_depth():
    assert set(factors(nn.Sequential(Block(), nn.Linear(8, 2))).values()) == {1.0}


class Attending(nn.Module):
    """A transformer block with a pre-norm: two branches into one stream."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.qkv, self.proj = nn.Linear(8, 24), nn.Linear(8, 8)
        self.up, self.down = nn.Linear(8, 32), nn.Linear(32, 8)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        x = x + F.dropout(self.proj(F.scaled_dot_product_attention(q, k, v)), 0.1)
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class AttentionBlocks(nn.Module):
    """Token and position embeddings, then blocks of torch's own attention."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(9, 8), nn.Embedding(5, 8)
        self.blocks = nn.ModuleList(nn.MultiheadAttention(8, 2, batch_first=True) for _ in range(count))

    def forward(self, ids):
        x = self.tokens(ids) + self.positions(torch.arange(5))
        for block in self.blocks:
            x = x + block(x, x, x, need_weights=False)[0]
        return x


def test_depth_scales_the_last_weight_of_an_attention_and_counts_no_embeddings():
    made = factors(AttentionBlocks(3), torch.zeros(2, 5, dtype=torch.int64))
    expected = {f"blocks.{block}.out_proj": 1 / math.sqrt(3) for block in range(3)}
    assert {name: each for name, each in made.items() if each != 1} == pytest.approx(expected)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_depth_of_a_transformer(count: int):
    """L = 2 * blocks (GPT-2 scales the same weights by the same factor)."""
    model = nn.Sequential(nn.Embedding(7, 8), *(Attending() for _ in range(count)), nn.LayerNorm(8), nn.Linear(8, 7))
    made = factors(model, torch.tensor([[1, 2, 3]]))
    ends = {name for name in made if name.endswith(("proj", "down"))}
    assert len(ends) == 2 * count
    assert made == pytest.approx({name: 1 / math.sqrt(2 * count) if name in ends else 1.0 for name in made})
    assert f"one of {2 * count} branches" in plan(model, torch.tensor([[1]]), residual="depth")["1.proj"].note


class Stage(nn.Module):
    """A block of a ResNet: two convolutions, a shortcut, projected where the width changes, and a relu at the end."""

    def __init__(self, width: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        same = width == out and stride == 1
        self.short = None if same else nn.Sequential(nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.short is None else self.short(x)))


def test_depth_of_a_resnet():
    """Each stage is one stream: three blocks and the stem's width, then one projected and two plain."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(),
        Stage(4, 4), Stage(4, 4), Stage(4, 4),
        Stage(4, 8, 2), Stage(8, 8),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2),
    )  # fmt: skip
    made = factors(model)
    expected = dict.fromkeys(made, 1.0)
    expected |= {f"{number}.conv2": 1 / math.sqrt(3) for number in (2, 3, 4)}
    expected |= {f"{number}.conv2": 1 / math.sqrt(2) for number in (5, 6)}
    assert made == pytest.approx(expected)


def test_depth_of_parallel_branches():
    """`x + attention(n) + mlp(n)`: two branches a block."""

    class Parallel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(8)
            self.first, self.up, self.down = nn.Linear(8, 8), nn.Linear(8, 16), nn.Linear(16, 8)

        def forward(self, x: Tensor) -> Tensor:
            y = self.norm(x)
            return x + self.first(y) + self.down(F.gelu(self.up(y)))

    made = factors(nn.Sequential(Parallel(), Parallel(), nn.Linear(8, 2)))
    assert made == pytest.approx({name: 0.5 if name.endswith(("first", "down")) else 1.0 for name in made})


def test_depth_in_place():
    class InPlace(Block):
        def forward(self, x: Tensor) -> Tensor:
            y = self.down(F.relu(self.up(self.norm(x))))
            y += x
            return y

    made = factors(nn.Sequential(nn.Linear(8, 8), InPlace(), InPlace(), InPlace(), nn.Linear(8, 2)))
    assert made == pytest.approx({name: 1 / math.sqrt(3) if name.endswith("down") else 1.0 for name in made})


def test_depth_with_layer_scale():
    """A learnable scale on the branch changes nothing in the graph's terms."""

    class Scaled(Block):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.full((8,), 1e-4))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.scale * self.down(F.relu(self.up(self.norm(x))))

    made = factors(nn.Sequential(Scaled(), Scaled(), nn.Linear(8, 2)))
    assert made == pytest.approx({name: 1 / math.sqrt(2) if name.endswith("down") else 1.0 for name in made})


def test_depth_of_a_chain_of_sums_that_is_no_stream():
    """Sums of two projections, each feeding the next layer: no stream runs through."""
    pair = lambda: Called(lambda m, x: F.relu(m.a(x) + m.b(x)), a=nn.Linear(8, 8), b=nn.Linear(8, 8))  # noqa: E731
    assert set(factors(nn.Sequential(pair(), pair(), pair())).values()) == {1.0}


def test_a_layer_plan_is_complete():
    layer = plan(nn.Sequential(nn.Linear(8, 32), nn.LeakyReLU(0.2)))["0"]
    assert isinstance(layer, LayerPlan)
    assert (layer.name, layer.param, layer.shape, layer.axes, layer.op) == ("0", "0.weight", (32, 8), "oi", "linear")
    assert (layer.nonlinearity, dict(layer.params), layer.reason) == (
        "leaky_relu",
        {"negative_slope": 0.2},
        "activation",
    )
    assert (layer.biases, layer.normalised, layer.slices, layer.note) == (("0.bias",), False, (), "")
    assert layer.std == pytest.approx(math.sqrt(2 / 1.04 / 8))


# What a plan takes for granted is said.


class LearnableSwish(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.beta * x)


@pytest.mark.parametrize(
    ("activation", "said"),
    [
        (LearnableSwish, "the value of 1.beta is not known: 1 taken"),
        (nn.PReLU, "the value of 1.weight is not known: 0.25, the default, taken"),
    ],
    ids=["swish", "prelu"],
)
def test_a_value_that_is_not_there_is_assumed_aloud(activation: Callable[[], nn.Module], said: str):
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(6, 6), activation())
    assert said in plan(model)["0"].note
    assert plan(nn.Sequential(nn.Linear(6, 6), activation()))["0"].note == ""


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors is a no-op:UserWarning")
def test_an_empty_weight_is_called_empty():
    layer = plan(nn.Sequential(nn.Linear(4, 0)))["0"]
    assert (layer.status, layer.note) == ("skipped", "empty: it has no elements")


@pytest.mark.parametrize("inputs", [None, (2, 6)], ids=["no_input", "input"])
def test_the_callers_default_device_makes_no_difference(inputs: Any):
    """Planning inside `with torch.device("meta")`: composites, norms and slices are computed all the same."""

    class Parted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(6, 16), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            a, b = self.up(x).chunk(2, -1)
            y = a * torch.sigmoid(a) * b
            return self.down(y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6))

    with torch.device("meta"):
        made = plan(Parted(), inputs)
    silu, gate = made["up"].slices
    assert (silu.nonlinearity, silu.rows) == ("silu", ((0, 8),))
    assert (gate.nonlinearity, gate.reason, gate.rows) == ("linear", "gate", ((8, 16),))
    assert torch.get_default_device().type == "cpu"
