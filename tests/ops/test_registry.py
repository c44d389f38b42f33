"""How the table of operations reads a call: arguments by name, weights by the name that a call gives them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from autoinit import plan
from autoinit.ops import REGISTRY, OpSpec, Role, Trait, WeightSlot
from autoinit.ops.registry import REQUIRED, Registry
from autoinit.theory.layouts import Layout

LINEAR = WeightSlot("weight", lambda *_: Layout("oi"), ("bias",))
LAYERED = WeightSlot("weight_ih", lambda *_: Layout("oi"), ("bias_ih",), prefix=True)


def test_a_slot_is_its_own_name_alone():
    assert LINEAR.named("weight") is LINEAR
    for other in ("weight_l0", "weight_l", "bias", "wei"):
        assert LINEAR.named(other) is None, other


def test_a_slot_of_layers_takes_their_number_to_its_biases():
    """As torch names them: `weight_ih_l0`, backward `weight_ih_l1_reverse`."""
    for ending in ("_l0", "_l11", "_l1_reverse"):
        named = LAYERED.named(f"weight_ih{ending}")
        assert named is not None
        assert (named.slot, named.bias) == (f"weight_ih{ending}", (f"bias_ih{ending}",))
    assert LAYERED.named("weight_hh_l0") is None
    assert LAYERED.named("weight_ih_0") is None


def test_arguments_by_name():
    """Defaults fill in, what is required does not; what is too much is numbered from 0."""
    spec = OpSpec("mine", Role.TRANSPARENT, (("input", REQUIRED), ("dim", 0), ("keepdim", False)))
    assert spec.bind((), {}) == {"dim": 0, "keepdim": False}
    assert spec.bind((1, 2, True, "a", "b"), {}) == {
        "input": 1, "dim": 2, "keepdim": True, "extra0": "a", "extra1": "b",
    }  # fmt: skip
    assert spec.bind((1,), {"keepdim": True}) == {"input": 1, "dim": 0, "keepdim": True}


def test_arguments_that_take_all_that_are_left():
    """`block_diag(a, b)`, and the list that others give in one."""
    spec = OpSpec("mine", Role.TRANSPARENT, (("input", REQUIRED), ("tensors", REQUIRED)), variadic="tensors")
    assert spec.bind((1, 2, 3), {}) == {"input": 1, "tensors": (2, 3)}
    assert spec.bind((1, [2, 3]), {}) == {"input": 1, "tensors": [2, 3]}
    assert spec.bind((1, 2), {}) == {"input": 1, "tensors": (2,)}


def test_an_operation_that_says_nothing_more_is_one_tensor_of_unchosen_values():
    spec = OpSpec("mine", Role.TRANSPARENT)
    assert (spec.several, spec.ranks, spec.each, spec.carries) == (False, False, False, None)


@pytest.mark.parametrize(("threshold", "name"), [(0.0, "relu"), (0.5, "threshold")])
def test_a_threshold_at_zero_is_a_relu(threshold: float, name: str):
    layer = plan(nn.Sequential(nn.Linear(4, 4), nn.Threshold(threshold, 0.0)), (2, 4))["0"]
    assert layer.nonlinearity == name


def test_unflatten_as_a_module_is_called_again_with_its_own_sizes():
    """Six features as two of three: the first three feed the tanh, the last three the relu."""

    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.halves = nn.Linear(4, 6), nn.Unflatten(-1, (2, 3))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            first, second = self.halves(self.layer(x)).unbind(-2)
            return torch.tanh(first), torch.relu(second)

    assert REGISTRY.of_module(nn.Unflatten(-1, (2, 3))) is REGISTRY.specs["unflatten"]
    layer = plan(Halves(), (2, 4))["layer"]
    assert [(part.rows, part.nonlinearity) for part in layer.slices] == [(((0, 3),), "tanh"), (((3, 6),), "relu")]


def test_the_features_of_conv_tbc_are_its_last_axis():
    """Time, batch, channels."""

    class Sequences(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.randn(3, 4, 6)), nn.Parameter(torch.zeros(6))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            first, second = torch.conv_tbc(x, self.weight, self.bias).split([2, 4], -1)
            return torch.tanh(first), torch.relu(second)

    layer = plan(Sequences(), (7, 2, 4))["weight"]
    assert [(part.rows, part.nonlinearity) for part in layer.slices] == [(((0, 2),), "tanh"), (((2, 6),), "relu")]


def test_an_operator_is_found_by_its_words():
    """As a file that is read without importing anything names it."""
    registry = Registry()
    spec = registry.add(OpSpec("mine", Role.TRANSPARENT), functions=(torch.ops.aten.special_i0e.default,))
    assert registry.of_operator("aten", "special_i0e") is spec
    assert registry.of_function(torch.ops.aten.special_i0e) is spec
    assert registry.of_operator("other", "special_i0e") is None


@pytest.mark.parametrize("kind", [nn.RNN, nn.RNNCell])
@pytest.mark.parametrize("nonlinearity", ["relu", "tanh"])
def test_a_plain_recurrent_layer_feeds_the_nonlinearity_it_names(kind: type[nn.Module], nonlinearity: str):
    made = plan(kind(4, 6, nonlinearity=nonlinearity), (3, 4) if kind is nn.RNNCell else (3, 5, 4))
    assert {layer.nonlinearity for layer in made.layers} == {nonlinearity}
    assert len(made.layers) == 2


def test_no_trait_is_none_of_the_traits():
    assert not Trait.NONE
    assert all((Trait.NONE | each) == each and not each & Trait.NONE for each in Trait if each)


def slots(name: str, constants: dict[str, Any]) -> dict[str, WeightSlot]:
    weights = REGISTRY.specs[name].weights
    assert weights is not None
    return {each.slot: each for each in weights(constants)}


@pytest.mark.parametrize(
    ("dims", "shape", "first", "second"),
    [
        (1, (3, 4), "oi", "io"),
        (2, (3, 4, 5), "oii", "iio"),
        (([0], [1]), (3, 4), "io", "oi"),
        (([-1], [0]), (3, 4), "oi", "io"),
    ],
)
def test_a_weight_on_either_side_of_tensordot(dims: Any, shape: tuple[int, ...], first: str, second: str):
    """A number of dims sums the last axes of the first operand and the first ones of the second; lists name both."""
    found = list(slots("tensordot", {"dims": dims}).values())
    assert [each.layout({}, shape).axes for each in found] == [first, second]


def test_weights_of_a_functional_lstm_stand_in_one_list():
    """As torch flattens them: w_ih, w_hh, b_ih, b_hh of each layer, and of each direction of it; two without biases."""
    constants = {"num_layers": 2, "bidirectional": False}
    biased = slots("lstm", {**constants, "has_biases": True})
    flat = {name: each.bias for name, each in biased.items() if name.startswith("params")}
    assert flat == {
        "params.0": ("params.2",), "params.1": ("params.3",), "params.4": ("params.6",), "params.5": ("params.7",),
    }  # fmt: skip
    bare = slots("lstm", {**constants, "bidirectional": True, "has_biases": False})
    flat = {name: each.bias for name, each in bare.items() if name.startswith("params")}
    assert flat == {f"params.{number}": () for number in range(8)}


def test_a_vector_is_summed_over():
    """x @ v, of 8 features: fan_in 8."""

    class Scores(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vector = nn.Parameter(torch.randn(8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.vector

    layer = plan(Scores(), (2, 8))["vector"]
    assert (layer.axes, layer.fan_in) == ("i", 8)
