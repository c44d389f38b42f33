"""Weights that something changes between the parameter and its use: pruning, masks written in forward; and spellings
that were unknown: functions of TorchScript, `Tensor.new`, `angle`, emptied parameters of ZeRO-3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

from autoinit import TraceError, autoinit, check, plan, register_op, report
from autoinit.ops import REGISTRY
from autoinit.signal import measure
from autoinit.tracing import trace

# torch.nn.utils.prune


def pruned(by: Callable[[nn.Module], Any]) -> nn.Module:
    model = nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
    by(model[0])
    return model


def half_the_inputs(layer: nn.Module) -> None:
    mask = torch.ones(64, 128)
    mask[:, ::2] = 0
    prune.custom_from_mask(layer, "weight", mask)


def twice(layer: nn.Module) -> None:
    """A quarter goes, then a third of the rest: half is left."""
    prune.random_unstructured(layer, "weight", 0.25)
    prune.random_unstructured(layer, "weight", 1 / 3)


PRUNINGS: list[Callable[[nn.Module], Any]] = [
    half_the_inputs,
    lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    lambda layer: prune.random_unstructured(layer, "weight", 0.5),
    lambda layer: prune.ln_structured(layer, "weight", 0.5, n=2, dim=1),
    twice,
]


@pytest.mark.parametrize("by", PRUNINGS, ids=["inputs", "l1", "random", "structured", "twice"])
@pytest.mark.parametrize("example", [None, (4, 128)], ids=["guessed", "given"])
def test_half_of_the_inputs_pruned(by: Any, example: Any):
    """64 of 128 inputs are left before a ReLU: std sqrt(2 / 64) = 0.176777; the head, 64 -> 10, sqrt(2 / 74)."""
    model = pruned(by)
    made = plan(model, example)
    assert made["0"].std == pytest.approx(math.sqrt(2 / 64), rel=1e-3)
    assert (made["0"].nonlinearity, made["0"].status, made["0"].param) == ("relu", "planned", "0.weight_orig")
    assert made["2"].std == pytest.approx(math.sqrt(2 / 74))


def test_a_pruned_model_is_written_and_keeps_its_mask():
    """What is left has std sqrt(2 / 64), within five standard errors of 4096 numbers."""
    model = pruned(half_the_inputs)
    autoinit(model, seed=0, verbose=False)
    model(torch.zeros(1, 128))
    weight = model[0].weight.detach()
    assert not weight[:, ::2].any()
    assert float(weight[:, 1::2].std()) == pytest.approx(math.sqrt(2 / 64), rel=5 / math.sqrt(2 * 4096))
    assert measure(model, torch.randn(64, 128))["0"].q == pytest.approx(2, rel=0.2)
    assert not [each for each in check(model, (64, 128)).findings if each.severity != "info"]


# Masks that forward writes into the weight.


class Masked(nn.Conv2d):
    """As in PixelCNN: the taps at and after the middle (A), or after it (B), are cut off before each use."""

    def __init__(self, kind: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_buffer("mask", torch.ones_like(self.weight))
        middle = self.weight.shape[2] // 2
        self.mask[:, :, middle, middle + (kind == "B") :] = 0
        self.mask[:, :, middle + 1 :] = 0


class TimesEquals(Masked):
    def forward(self, x: Tensor) -> Tensor:
        self.weight.data *= self.mask
        return super().forward(x)


class MulInPlace(Masked):
    """As in CompressAI."""

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data.mul_(self.mask)
        return F.conv2d(x, self.weight, self.bias, padding=self.padding)


class Assigned(Masked):
    def forward(self, x: Tensor) -> Tensor:
        self.weight.data = self.weight.data * self.mask
        return F.conv2d(x, self.weight, self.bias, padding=self.padding)


class WithoutGradients(Masked):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.weight *= self.mask
        return super().forward(x)


class Detached(Masked):
    def forward(self, x: Tensor) -> Tensor:
        self.weight.detach().mul_(self.mask)
        return super().forward(x)


class Outside(nn.Module):
    """A plain convolution whose weight the module around it masks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        made = Masked(*args, **kwargs)
        self.conv = nn.Conv2d(*args[1:], **kwargs)
        self.register_buffer("mask", made.mask)

    def forward(self, x: Tensor) -> Tensor:
        self.conv.weight.data *= self.mask
        return self.conv(x)


@pytest.mark.parametrize("kind", [TimesEquals, MulInPlace, Assigned, WithoutGradients, Detached, Outside])
@pytest.mark.parametrize("example", [None, (2, 1, 16, 16)], ids=["guessed", "given"])
def test_taps_that_forward_masks_do_not_count(kind: Any, example: Any):
    """A 7x7 of kind A keeps 3 * 7 + 3 = 24 taps: sqrt(2 / 24) = 0.288675 before the ReLU.

    A 3x3 of kind B keeps 3 + 2 = 5 of 9, of 32 -> 16 channels, to the output: sqrt(2 / (160 + 80)) = 0.091287.
    """
    model = nn.Sequential(kind("A", 1, 32, 7, padding=3), nn.ReLU(), kind("B", 32, 16, 3, padding=1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made = plan(model, example)
    assert [layer.std for layer in made.layers] == pytest.approx([0.288675, 0.091287], rel=1e-3)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_part_of_the_data_that_is_zeroed():
    """`weight.data[:, ::2] = 0` leaves 4 of 8 inputs; the plan says that it cannot tell by how much it scales."""

    class Cut(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            self.weight.data[:, ::2] = 0
            return super().forward(x)

    layer = plan(nn.Sequential(Cut(8, 8), nn.ReLU()), (2, 8))["0"]
    assert layer.nonlinearity == "relu"
    assert layer.note.startswith("reaches linear through")


# Spellings.


def script(function: Any) -> Any:
    return torch.jit.script(function)


def gated(x: Tensor, y: Tensor) -> Tensor:
    return torch.tanh(x) * torch.sigmoid(y)


def swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


class Scripted(nn.Module):
    """Functions of TorchScript, as WaveGlow's and EfficientNet's."""

    def __init__(self, gate: Any, act: Any) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 4)
        self.gate, self.act = gate, act

    def forward(self, x: Tensor) -> Tensor:
        return self.d(self.act(self.c(self.gate(self.a(x), self.b(x)))))


ACTIVATIONS = {"a": "tanh", "b": "sigmoid", "c": "silu", "d": "linear"}


@pytest.mark.parametrize("tier", ["symbolic", "recorded"])
@pytest.mark.parametrize("by", ["script", "trace"])
def test_the_python_of_a_function_of_torchscript_is_read(tier: Any, by: str):
    one, two = torch.ones(2, 16), torch.ones(2, 16)
    if by == "script":
        model = Scripted(torch.jit.script(gated), torch.jit.script(swish))
    else:
        model = Scripted(torch.jit.trace(gated, (one, two)), torch.jit.trace(swish, (one,)))
    from autoinit.resolving import resolve

    assert {each.name: each.nonlinearity for each in resolve(trace(model, tier=tier))} == ACTIVATIONS
    assert torch.equal(model.act(one), swish(one))


def test_one_without_python_is_named_and_can_be_described():
    """The advice must help: the function that it names can be registered."""
    scripted = torch.jit.script(swish)
    del scripted._torchdynamo_inline
    model = nn.Sequential(nn.Linear(8, 8), nn.Identity(), nn.Linear(8, 4))
    first, last = model[0], model[2]
    model.forward = lambda x: last(scripted(first(x)))
    note = plan(model, (2, 8))["0"].note
    assert "swish (a function of TorchScript)" in note
    assert "register_op" in note
    register_op("scripted_swish", "nonlinearity", functions=scripted, function=swish)
    try:
        assert plan(model, (2, 8))["0"].nonlinearity in ("scripted_swish", "silu")
    finally:
        REGISTRY.specs.pop("scripted_swish")
        REGISTRY._functions.pop(scripted)


def test_new_makes_a_constant():
    """`x.new(n, 8)` beside the input changes nothing: Linear(8, 16) before a ReLU, sqrt(2 / 8) = 0.5."""

    class New(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = nn.Linear(8, 16)

        def forward(self, x: Tensor) -> Tensor:
            noise = x.new(x.shape[0], 8).fill_(0.0) + x.new(8).zero_()
            return torch.relu(self.lin(x + noise))

    made = plan(New(), (2, 8))
    assert made.unsupported == ()
    assert made["lin"].std == pytest.approx(0.5)


def test_angle_is_known():
    """Of a real number, the angle is 0 or pi: E[angle(z)^2] = pi^2 / 2, the gain sqrt(2) / pi = 0.450158."""

    class Phase(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin, self.out = nn.Linear(8, 16), nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(torch.angle(self.lin(x)))

    made = plan(Phase(), (2, 8))
    assert made.unsupported == ()
    assert made["lin"].gain == pytest.approx(math.sqrt(2) / math.pi, rel=1e-4)


def test_scaled_addmm_is_addmm():
    """In torch from 2.14 on: `beta * input + alpha * scaled_mm(mat1, mat2)`."""
    assert REGISTRY.of_name("scaled_addmm") is REGISTRY.specs["addmm"]


# Parameters without elements.


class Sharded(nn.Module):
    """As DeepSpeed's ZeRO-3 leaves a model: shape (0,), the true one in `ds_shape`."""

    def __init__(self, ds_shape: bool = True) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 4)
        for parameter in self.parameters():
            if ds_shape:
                parameter.ds_shape = parameter.shape
            parameter.data = torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(x)))


@pytest.mark.parametrize("use", [plan, report, check, autoinit, trace])
@pytest.mark.parametrize("example", [None, (2, 8)], ids=["guessed", "given"])
def test_emptied_parameters_are_named(use: Any, example: Any):
    says = r"4 parameters hold no elements here \(a\.weight of shape \(16, 8\), a\.bias of shape \(16,\).*ZeRO-3"
    with pytest.raises(TraceError, match=says):
        use(Sharded(), example)


def test_emptied_parameters_of_another_engine_are_named():
    with pytest.raises(TraceError, match=r"2 parameters hold no elements here \(a\.weight of shape \(0,\), b\.weight"):
        plan(Sharded(ds_shape=False))


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_a_parameter_that_is_meant_to_be_empty_is_none_of_these():
    assert plan(nn.Sequential(nn.Linear(8, 0), nn.Linear(0, 4)), (2, 8))["0"].status == "skipped"
