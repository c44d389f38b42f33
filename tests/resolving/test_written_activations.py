"""Hard cases: activations of every make between two layers. `before` maps 6 features to 8, `after` 8 to 4.

Hand-written forms of the common ones, functions by name and learnable betas are in `test_composites`, fused gated units
in `test_slices`, `nn.PReLU` in `test_ops`.
"""

from __future__ import annotations

import functools
import math
import warnings
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoinit import plan
from tests.shared.written_nets import (
    UNRESOLVED,
    Layer,
    Net,
    assert_planned,
    gelu,
    he,
    linear,
    logistic,
    mixed,
    normed,
    relu,
    second_moment,
    sigmoid,
    silu,
    softmax,
    tanh,
)

FEATURES, HIDDEN, CLASSES = 6, 8, 4
AFTER = linear("output", HIDDEN, CLASSES)

ways = pytest.mark.parametrize("inputs", [None, (5, FEATURES)], ids=["no_input", "input"])


def between(function: Callable[..., Tensor], **parts: Any) -> Net:
    """`function(net, x)` between the two layers."""
    return Net(
        lambda net, x: net.after(function(net, net.before(x))),
        before=nn.Linear(FEATURES, HIDDEN),
        after=nn.Linear(HIDDEN, CLASSES),
        **parts,
    )


# Passed as an argument.


class Mlp(nn.Module):
    """An activation as timm's and transformers' layers take it: a function, a module, or a class."""

    def __init__(self, act: Any) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(FEATURES, HIDDEN), nn.Linear(HIDDEN, CLASSES)
        self.act = act() if isinstance(act, type) else act

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.act(self.before(x)))


LEAKY_03 = he("leaky_relu", (1 + 0.09) / 2, FEATURES, negative_slope=0.3)

PASSED: dict[str, tuple[Any, Layer]] = {
    "function": (F.gelu, gelu(FEATURES)),
    "getattr": (getattr(F, "re" + "lu"), relu(FEATURES)),
    "partial": (functools.partial(F.leaky_relu, negative_slope=0.3), LEAKY_03),
    "lambda": (lambda x: F.leaky_relu(x, 0.3), LEAKY_03),
    "module": (nn.SiLU(), silu(FEATURES)),
    "class": (nn.Tanh, tanh(FEATURES, HIDDEN)),
    "partial_class": (functools.partial(nn.LeakyReLU, 0.3)(), LEAKY_03),
    "torch_function": (torch.sigmoid, sigmoid(FEATURES, HIDDEN)),
}


@ways
@pytest.mark.parametrize("key", PASSED)
def test_an_activation_passed_as_an_argument(key: str, inputs: Any):
    act, layer = PASSED[key]
    assert_planned(Mlp(act), inputs, {"before": layer, "after": AFTER})


# Written as torch.autograd.Function.


class Clamped(torch.autograd.Function):
    """A relu with a constant of its own, in the old style."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.slope = slope
        return torch.where(x > 0, x, slope * x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return gradient * torch.where(x > 0, 1.0, ctx.slope), None


class SetUp(torch.autograd.Function):
    """The new style: the context is filled apart."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return F.silu(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class Spike(torch.autograd.Function):
    """A step with a surrogate gradient: E[phi^2] = P(z > 0.5)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (x > 0.5).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class Bessel(torch.autograd.Function):
    """Calls what the table does not know."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class Outside(torch.autograd.Function):
    """Leaves torch."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.from_numpy(np.tanh(x.detach().numpy()))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


@ways
def test_an_autograd_function_with_an_argument(inputs: Any):
    layer = he("leaky_relu", (1 + 0.04) / 2, FEATURES, negative_slope=0.2)
    assert_planned(between(lambda _net, x: Clamped.apply(x, 0.2)), inputs, {"before": layer, "after": AFTER})


@ways
def test_an_autograd_function_in_the_new_style(inputs: Any):
    assert_planned(between(lambda _net, x: SetUp.apply(x)), inputs, {"before": silu(FEATURES), "after": AFTER})


@ways
def test_an_autograd_function_of_unknown_content(inputs: Any):
    """The layer before it is unresolved and says why; the layer after it is as ever."""
    made = assert_planned(
        between(lambda _net, x: F.relu(Bessel.apply(x))), inputs, {"before": UNRESOLVED, "after": AFTER}
    )
    assert "bessel_j0" in made["before"].note
    assert any("bessel_j0" in each for each in made.unsupported)


@ways
def test_an_autograd_function_that_leaves_torch(inputs: Any):
    """What numpy does cannot be seen: the layer before it is not planned, and a note says so."""
    made = plan(between(lambda _net, x: F.relu(Outside.apply(x))), inputs)
    assert made["before"].status != "planned"
    assert made["before"].note
    assert made["after"].std == pytest.approx(AFTER.std)


# Learnable.

ALPHA = nn.Parameter


def snake(net: Any, x: Tensor) -> Tensor:
    return x + (1 / net.alpha) * torch.sin(net.alpha * x) ** 2


def stable_snake(net: Any, x: Tensor) -> Tensor:
    return x + (net.alpha + 1e-9).reciprocal() * torch.sin(net.alpha * x).pow(2)


@ways
@pytest.mark.parametrize("function", [snake, stable_snake], ids=["plain", "stable"])
@pytest.mark.parametrize("shape", [(1,), (HIDDEN,)], ids=["one", "channels"])
def test_snake_with_a_learnable_frequency(function: Callable[..., Tensor], shape: tuple[int, ...], inputs: Any):
    """x + sin^2(2 x) / 2 (Ziyin et al. 2020)."""
    moment = second_moment(lambda z: z + math.sin(2 * z) ** 2 / 2)
    model = between(function, alpha=ALPHA(torch.full(shape, 2.0)))
    assert_planned(model, inputs, {"before": he("custom", moment, FEATURES), "after": AFTER})


MOVED: dict[str, Callable[..., Tensor]] = {
    "unsqueezed": lambda net, x: stable_snake(Namespace(alpha=net.alpha.unsqueeze(0).unsqueeze(-1)), x),
    "viewed": lambda net, x: snake(Namespace(alpha=net.alpha.view(1, -1, 1)), x),
    "indexed": lambda net, x: snake(Namespace(alpha=net.alpha[None, :, None]), x),
    "logarithm": lambda net, x: snake(Namespace(alpha=torch.exp(net.alpha.view(1, -1, 1) * 0 + math.log(2.0))), x),
}


@pytest.mark.parametrize("inputs", [None, (2, 3, 9)], ids=["no_input", "input"])
@pytest.mark.parametrize("key", MOVED)
def test_snake_with_a_frequency_for_each_channel(key: str, inputs: Any):
    """As vocoders write it, the frequencies laid along the channels."""
    model = Net(
        lambda net, x: net.after(MOVED[key](net, net.before(x))),
        before=nn.Conv1d(3, HIDDEN, 3, padding=1),
        after=nn.Conv1d(HIDDEN, CLASSES, 1),
        alpha=ALPHA(torch.full((HIDDEN,), 2.0)),
    )
    moment = second_moment(lambda z: z + math.sin(2 * z) ** 2 / 2)
    assert_planned(model, inputs, {"before": he("custom", moment, 9), "after": AFTER})


def alpha_first(x: Tensor, alpha: Tensor) -> Tensor:
    return x + (alpha + 1e-9).reciprocal() * torch.sin(alpha * x).pow(2)


def alpha_second(x: Tensor, alpha: Tensor) -> Tensor:
    return x + torch.sin(alpha * x).pow(2) * (alpha + 1e-9).reciprocal()


with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # scripting is deprecated, and models still do it
    scripted_snake = torch.jit.script(alpha_first)
    loaded_snake = torch.jit.script(alpha_second)
    del loaded_snake._torchdynamo_inline


@ways
def test_a_scripted_function(inputs: Any):
    """Its Python is there: x + sin(2 x)^2 / 2, as the snakes above, by quadrature."""
    model = between(lambda net, x: scripted_snake(x, net.alpha), alpha=ALPHA(torch.full((HIDDEN,), 2.0)))
    moment = second_moment(lambda z: z + math.sin(2 * z) ** 2 / 2)
    assert_planned(model, inputs, {"before": he("custom", moment, FEATURES), "after": AFTER})


@ways
def test_a_scripted_function_without_python(inputs: Any):
    """As of a file that was loaded: the layer before it is unresolved, and it is named."""
    model = between(lambda net, x: loaded_snake(x, net.alpha), alpha=ALPHA(torch.full((HIDDEN,), 2.0)))
    made = assert_planned(model, inputs, {"before": UNRESOLVED, "after": AFTER})
    assert "alpha_second (a function of TorchScript)" in made["before"].note
    assert made.unsupported


SLOPED: dict[str, Callable[..., Tensor]] = {
    "where": lambda net, x: torch.where(x > 0, x, net.slope * x),
    "two_relus": lambda net, x: F.relu(x) - net.slope * F.relu(-x),
    "two_clamps": lambda net, x: x.clamp(min=0) + net.slope * x.clamp(max=0),
    "maximum": lambda net, x: torch.maximum(x, net.slope * x),
}


@ways
@pytest.mark.parametrize("shape", [(1,), (HIDDEN,)], ids=["one", "channels"])
@pytest.mark.parametrize("key", SLOPED)
def test_a_learnable_slope_written_out(key: str, shape: tuple[int, ...], inputs: Any):
    model = between(SLOPED[key], slope=ALPHA(torch.full(shape, 0.1)))
    layer = he("leaky_relu", (1 + 0.01) / 2, FEATURES, negative_slope=0.1)
    assert_planned(model, inputs, {"before": layer, "after": AFTER})


@ways
def test_slopes_by_the_function(inputs: Any):
    """`F.prelu` with one slope for each channel: E[phi^2] = (1 + mean a^2) / 2, here mean a^2 = (0.01 + 0.09) / 2."""
    slopes = torch.tensor([0.1, 0.3]).repeat(HIDDEN // 2)
    model = between(lambda net, x: F.prelu(x, net.slopes), slopes=ALPHA(slopes))
    layer = he("prelu", (1 + 0.05) / 2, FEATURES, weight=math.sqrt(0.05))
    assert_planned(model, inputs, {"before": layer, "after": AFTER})


@ways
def test_a_learnable_scale_and_shift_around_a_squared_relu(inputs: Any):
    """StarReLU, s relu(x)^2 + b: scales and shifts do not change what it is; E[relu^4] = 3/2, and s counts."""
    model = between(
        lambda net, x: net.scale * F.relu(x) ** 2 + net.shift,
        scale=ALPHA(torch.full((1,), 0.8944)),
        shift=ALPHA(torch.full((1,), -0.4472)),
    )
    assert_planned(model, inputs, {"before": he("squared_relu", 1.5 * 0.8944**2, FEATURES), "after": AFTER})


@ways
def test_a_learnable_elu(inputs: Any):
    """relu(x) + a (exp(min(x, 0)) - 1)."""
    model = between(
        lambda net, x: F.relu(x) + net.alpha * (torch.exp(x.clamp(max=0)) - 1), alpha=ALPHA(torch.full((1,), 0.5))
    )
    moment = second_moment(lambda z: max(z, 0.0) + 0.5 * math.expm1(min(z, 0.0)), 0.0)
    assert_planned(model, inputs, {"before": he("elu", moment, FEATURES, alpha=0.5), "after": AFTER})


def test_a_learnable_curve_of_unknown_value():
    """On meta the slopes have no value. With any in their place relu(x) - a relu(-x) would be taken for another
    function, with 1 for the identity: it stays open, and the note names the parameter.
    """
    with torch.device("meta"):
        model = between(SLOPED["two_relus"], slope=ALPHA(torch.empty(HIDDEN)))
    made = assert_planned(model, (5, FEATURES), {"before": UNRESOLVED, "after": AFTER})
    assert "slope" in made["before"].note


@ways
def test_acon(inputs: Any):
    """(p1 - p2) x sigmoid(b (p1 - p2) x) + p2 x, p1 = 1.2, p2 = -0.2, b = 1 (Ma et al. 2021)."""

    def acon(net: Any, x: Tensor) -> Tensor:
        difference = (net.p1 - net.p2) * x
        return difference * torch.sigmoid(net.beta * difference) + net.p2 * x

    parts = {name: ALPHA(torch.full((1, HIDDEN), value)) for name, value in (("p1", 1.2), ("p2", -0.2), ("beta", 1.0))}
    moment = second_moment(lambda z: 1.4 * z * logistic(1.4 * z) - 0.2 * z)
    model = between(acon, **parts)
    assert_planned(model, inputs, {"before": he("custom", moment, FEATURES), "after": AFTER})


def test_memory_without_values_is_no_constant():
    """`torch.empty` has whatever values were there: nothing is computed from them."""
    model = between(lambda _net, x: x * torch.sigmoid(x + torch.empty(1)))
    made = plan(model, (5, FEATURES))
    assert "silu" not in {each.nonlinearity for each in (made["before"], *made["before"].alternatives)}


# Rare but published.

CUSTOM: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[float], float], tuple[float, ...]]] = {
    "hard_mish": (lambda x: x / 2 * torch.clamp(x + 2, 0, 2), lambda z: z / 2 * min(max(z + 2, 0), 2), (-2.0, 0.0)),
    "squareplus": (lambda x: x / 2 + torch.sqrt(x * x / 4 + 1), lambda z: (z + math.sqrt(z * z + 4)) / 2, ()),
    "lisht": (lambda x: x * torch.tanh(x), lambda z: z * math.tanh(z), ()),
    "logish": (lambda x: x * torch.log(1 + torch.sigmoid(x)), lambda z: z * math.log1p(logistic(z)), ()),
    "bent_identity": (
        lambda x: (torch.sqrt(x**2 + 1) - 1) / 2 + x,
        lambda z: (math.sqrt(z * z + 1) - 1) / 2 + z,
        (),
    ),
    "clamp_from_above": (lambda x: x.clamp(max=1.0), lambda z: min(z, 1.0), (1.0,)),
    "clamp_below_minus_one": (lambda x: torch.clamp(x, min=-1.0), lambda z: max(z, -1.0), (-1.0,)),
}


@ways
@pytest.mark.parametrize("key", CUSTOM)
def test_a_custom_activation(key: str, inputs: Any):
    function, phi, kinks = CUSTOM[key]
    std = 1 / math.sqrt(second_moment(phi, *kinks) * FEATURES)
    made = plan(between(lambda _net, x: function(x)), inputs)
    assert (made["before"].reason, made["before"].scheme, made["before"].status) == ("activation", "he", "planned")
    assert made["before"].std == pytest.approx(std, rel=1e-6)
    assert made["after"].std == pytest.approx(AFTER.std)


HARD_TANH = second_moment(lambda z: min(max(z, -1.0), 1.0), -1.0, 1.0)

PIECES: dict[str, Callable[[Tensor], Tensor]] = {
    "relus": lambda x: F.relu(x + 1) - F.relu(x - 1) - 1,
    "minimum_of_maximum": lambda x: torch.minimum(torch.maximum(x, torch.tensor(-1.0)), torch.tensor(1.0)),
    "absolutes": lambda x: ((x + 1).abs() - (x - 1).abs()) / 2,
    "two_clamps": lambda x: x.clamp(min=-1).clamp(max=1),
    "where": lambda x: torch.where(x > 1, 1.0, torch.where(x < -1, -1.0, x)),
}


@ways
@pytest.mark.parametrize("key", PIECES)
def test_pieces_of_a_hard_tanh(key: str, inputs: Any):
    layer = he("hardtanh", HARD_TANH, FEATURES, min_val=-1.0, max_val=1.0)
    assert_planned(between(lambda _net, x: PIECES[key](x)), inputs, {"before": layer, "after": AFTER})


# Several tensors.

GATES: dict[str, tuple[Callable[[Tensor], Tensor], Layer]] = {
    "glu": (torch.sigmoid, sigmoid(FEATURES, HIDDEN)),
    "reglu": (F.relu, relu(FEATURES)),
    "geglu": (F.gelu, gelu(FEATURES)),
    "swiglu": (F.silu, silu(FEATURES)),
    "bilinear": (lambda x: x, linear("gate", FEATURES, HIDDEN)),
}


@ways
@pytest.mark.parametrize("key", GATES)
def test_gated_units_of_two_projections(key: str, inputs: Any):
    """`down(act(gate(x)) * up(x))` (Shazeer 2020): the value is multiplied, the gate goes into the activation."""
    act, gate = GATES[key]
    model = Net(
        lambda net, x: net.down(act(net.gate(x)) * net.up(x)),
        gate=nn.Linear(FEATURES, HIDDEN),
        up=nn.Linear(FEATURES, HIDDEN),
        down=nn.Linear(HIDDEN, CLASSES),
    )
    assert_planned(model, inputs, {"gate": gate, "up": linear("gate", FEATURES, HIDDEN), "down": AFTER})


CRELUS: dict[str, Callable[[Tensor], Tensor]] = {
    "relus_joined": lambda x: torch.cat([F.relu(x), F.relu(-x)], dim=-1),
    "relu_of_both": lambda x: F.relu(torch.cat([x, -x], dim=-1)),
    "clamps": lambda x: torch.cat((x.clamp(min=0), (-x).clamp(min=0)), -1),
}


@ways
@pytest.mark.parametrize("key", CRELUS)
def test_crelu(key: str, inputs: Any):
    """relu(x) beside relu(-x): -x is as Gaussian as x, so both are relus to the layer."""
    model = Net(
        lambda net, x: net.after(CRELUS[key](net.before(x))),
        before=nn.Linear(FEATURES, HIDDEN),
        after=nn.Linear(2 * HIDDEN, CLASSES),
    )
    after = linear("output", 2 * HIDDEN, CLASSES)
    assert_planned(model, inputs, {"before": relu(FEATURES), "after": after})


MAXOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "max_values": lambda x: x.view(-1, HIDDEN, 2).max(dim=-1).values,
    "max_item": lambda x: x.unflatten(-1, (HIDDEN, 2)).max(-1)[0],
    "amax": lambda x: x.reshape(-1, HIDDEN, 2).amax(-1),
    "max_pool": lambda x: F.max_pool1d(x.unsqueeze(1), 2).squeeze(1),
}


@ways
@pytest.mark.parametrize("key", MAXOUTS)
def test_maxout(key: str, inputs: Any):
    """Pooling over pieces of the features: it passes, as other pooling does."""
    model = Net(
        lambda net, x: net.after(MAXOUTS[key](net.before(x))),
        before=nn.Linear(FEATURES, 2 * HIDDEN),
        after=nn.Linear(HIDDEN, CLASSES),
    )
    assert_planned(model, inputs, {"before": linear("weight", FEATURES, 2 * HIDDEN), "after": AFTER})


JOINS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "maximum": torch.maximum,
    "max": torch.max,
    "stack": lambda left, right: torch.stack((left, right)).amax(0),
}


@ways
@pytest.mark.parametrize("key", JOINS)
def test_maxout_of_two_layers(key: str, inputs: Any):
    model = Net(
        lambda net, x: net.after(JOINS[key](net.left(x), net.right(x))),
        left=nn.Linear(FEATURES, HIDDEN),
        right=nn.Linear(FEATURES, HIDDEN),
        after=nn.Linear(HIDDEN, CLASSES),
    )
    piece = linear("weight", FEATURES, HIDDEN)
    assert_planned(model, inputs, {"left": piece, "right": piece, "after": AFTER})


@pytest.mark.parametrize("inputs", [None, (2, 3, 8, 8)], ids=["no_input", "input"])
def test_funnel_activation(inputs: Any):
    """max(x, norm(depthwise(x))) (Ma et al. 2020): the first convolution feeds the depthwise one and, past the maximum,
    the last; neither has a nonlinearity of one tensor.
    """
    model = Net(
        lambda net, x: net.last(torch.max(y := net.first(x), net.norm(net.funnel(y)))),
        first=nn.Conv2d(3, 4, 3, padding=1),
        funnel=nn.Conv2d(4, 4, 3, padding=1, groups=4),
        norm=nn.BatchNorm2d(4),
        last=nn.Conv2d(4, 2, 1),
    )
    assert_planned(
        model,
        inputs,
        {
            "first": linear("weight", 27, 36),
            "funnel": normed(linear("weight", 9, 9)),
            "last": linear("output", 4, 2),
        },
    )


GUMBELS: dict[str, Callable[[Tensor], Tensor]] = {
    "function": lambda x: F.gumbel_softmax(x, tau=0.5),
    "hard": lambda x: F.gumbel_softmax(x, tau=0.5, hard=True, dim=-1),
    "written_out": lambda x: torch.softmax((x - torch.log(-torch.log(torch.rand_like(x)))) / 0.5, dim=-1),
    "exponential": lambda x: ((x - torch.empty_like(x).exponential_().log()) / 0.5).softmax(-1),
}


@ways
@pytest.mark.parametrize("key", GUMBELS)
def test_gumbel_softmax(key: str, inputs: Any):
    """Noise is no signal, so that its addition does not hide the softmax."""
    model = between(lambda _net, x: GUMBELS[key](x))
    assert_planned(model, inputs, {"before": softmax(FEATURES, HIDDEN), "after": AFTER})


# Beside another reader: the stem of a residual block whose norm or activation is written out.

NORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "rms": lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6),
    "rms_of_product": lambda x: x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6),
    "length": lambda x: x / x.norm(dim=-1, keepdim=True),
    "length_as": lambda x: x / x.norm(dim=-1, keepdim=True).clamp_min(1e-12).expand_as(x),
    "layer": lambda x: (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True, unbiased=False) + 1e-5),
    "layer_of_centred": lambda x: (y := x - x.mean(-1, True)) * torch.rsqrt(y.pow(2).mean(-1, True) + 1e-5),
}


def stem_of_a_block(function: Callable[[Tensor], Tensor]) -> Net:
    """`x + branch(function(x))` and a head."""
    return Net(
        lambda net, x: net.after((y := net.before(x)) + net.branch(function(y))),
        before=nn.Linear(FEATURES, HIDDEN),
        branch=nn.Linear(HIDDEN, HIDDEN),
        after=nn.Linear(HIDDEN, CLASSES),
    )


@ways
@pytest.mark.parametrize("key", NORMS)
def test_a_written_norm_beside_a_skip(key: str, inputs: Any):
    """The stem feeds the skip's sum and, past the norm, the branch: linear both ways."""
    expected = {
        "before": linear("add", FEATURES, HIDDEN),
        "branch": linear("add", HIDDEN, HIDDEN),
        "after": AFTER,
    }
    made = assert_planned(stem_of_a_block(NORMS[key]), inputs, expected)
    assert {each.reason for each in made["before"].alternatives} == {"weight", "add"}


@ways
def test_two_written_norms_of_one_tensor(inputs: Any):
    """Parallel branches with a norm each, and the skip."""
    model = Net(
        lambda net, x: net.after(
            (y := net.before(x)) + net.left(NORMS["rms"](y)) + net.right(F.relu(NORMS["layer"](y)))
        ),
        before=nn.Linear(FEATURES, HIDDEN),
        left=nn.Linear(HIDDEN, HIDDEN),
        right=nn.Linear(HIDDEN, HIDDEN),
        after=nn.Linear(HIDDEN, CLASSES),
    )
    expected = {
        "before": mixed(relu(FEATURES)),
        "left": linear("add", HIDDEN, HIDDEN),
        "right": linear("add", HIDDEN, HIDDEN),
        "after": AFTER,
    }
    made = assert_planned(model, inputs, expected)
    assert {(each.nonlinearity, each.reason) for each in made["before"].alternatives} == {
        ("relu", "activation"),
        ("linear", "weight"),
        ("linear", "add"),
    }


SINGLE_FILE: dict[str, tuple[Callable[[Tensor], Tensor], Layer]] = {
    "tanh": (lambda x: 2 * torch.sigmoid(2 * x) - 1, tanh(FEATURES, HIDDEN)),
    "sigmoid": (lambda x: 1 / (1 + torch.exp(-x)), sigmoid(FEATURES, HIDDEN)),
    "relu6": (
        lambda x: F.relu(x).clamp(max=6),
        he("relu6", second_moment(lambda z: min(max(z, 0.0), 6.0), 0.0, 6.0), FEATURES),
    ),
    "hardtanh": (
        lambda x: x.clamp(min=-1).clamp(max=1),
        he("hardtanh", HARD_TANH, FEATURES, min_val=-1.0, max_val=1.0),
    ),
    "softmax": (lambda x: (e := x.exp()) / e.sum(-1, keepdim=True), softmax(FEATURES, HIDDEN)),
}


@ways
@pytest.mark.parametrize("key", SINGLE_FILE)
def test_a_written_activation_beside_a_skip(key: str, inputs: Any):
    """As alone, and mixed with the skip's sum."""
    function, layer = SINGLE_FILE[key]
    made = assert_planned(
        stem_of_a_block(function),
        inputs,
        {"before": mixed(layer), "branch": linear("add", HIDDEN, HIDDEN), "after": AFTER},
    )
    assert len(made["before"].alternatives) == 2


WRITTEN_INTO: dict[str, Callable[[Tensor], Tensor]] = {
    "zeros_of_its_shape": lambda z: z.new_zeros(z.shape).add_(F.relu(z)),
    "a_new_tensor": lambda z: z.new(z.size()).zero_().copy_(F.relu(z)),
    "augmented": lambda z: torch.zeros(z.shape).__iadd__(z.clamp(min=0)),
    "step_of_another_dtype": lambda z: torch.heaviside(z, torch.zeros(())) * z,
    "lerp_by_a_mask": lambda z: torch.lerp(torch.zeros_like(z), z, (z > 0).float()),
    "maximum_of_a_shape": lambda z: torch.maximum(z, torch.full(z.shape, 0.0)),
}


@pytest.mark.parametrize("key", WRITTEN_INTO)
def test_a_rectifier_beside_constants_of_the_model_s_shape(key: str):
    """relu(z), whatever it is written into: constants of z's shape, or of another dtype, stand for their one number."""
    made = {"before": relu(FEATURES), "after": AFTER}
    assert_planned(between(lambda _, z: WRITTEN_INTO[key](z)), (5, FEATURES), made)


INTO_OUT: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "function": lambda z, out: torch.clamp(z, min=0, out=out),
    "product": lambda z, out: torch.mul(F.relu(z), 1.0, out=out),
    "where": lambda z, out: torch.where(z > 0, z, torch.zeros_like(z), out=out),
}


@ways
@pytest.mark.parametrize("key", INTO_OUT)
def test_a_rectifier_that_is_written_to_out(key: str, inputs: Any):
    """`torch.clamp(z, min=0, out=y)`, whose result nobody takes: what reads y reads relu(z)."""

    def written(_: Any, z: Tensor) -> Tensor:
        out = torch.empty_like(z)
        INTO_OUT[key](z, out)
        return out

    with torch.no_grad():
        assert_planned(between(written), inputs, {"before": relu(FEATURES), "after": AFTER})


@ways
def test_an_activation_of_some_of_the_features(inputs: Any):
    """A third layer reads the raw features as well: relu and linear disagree."""
    model = Net(
        lambda net, x: (net.after(F.relu(y := net.before(x))), net.beside(y)),
        before=nn.Linear(FEATURES, HIDDEN),
        after=nn.Linear(HIDDEN, CLASSES),
        beside=nn.Linear(HIDDEN, CLASSES),
    )
    assert_planned(model, inputs, {"before": mixed(relu(FEATURES)), "after": AFTER, "beside": AFTER})
