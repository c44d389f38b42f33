"""Weights whose scale no value of their parameter changes: spectral_norm, old and new, and parametrizations like it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, spectral_norm

from autoinit import report
from autoinit.checking.checker import check
from autoinit.models import ModelView
from autoinit.writing.reparametrised import effective_weight

Wrap = Callable[[nn.Module], nn.Module]


class Times(nn.Module):
    """A parametrization that multiplies."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, weight: Tensor) -> Tensor:
        return self.factor * weight

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight / self.factor


class UnitFrobenius(nn.Module):
    """A parametrization that gives the whole matrix norm 1."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight / weight.norm()

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight


def old(module: nn.Module) -> nn.Module:
    return spectral_norm(module)


def new(module: nn.Module) -> nn.Module:
    return parametrizations.spectral_norm(module)


def new_doubled(module: nn.Module) -> nn.Module:
    parametrize.register_parametrization(new(module), "weight", Times(2.0))
    return module


def orthogonal(module: nn.Module) -> nn.Module:
    return parametrizations.orthogonal(module)


def own(module: nn.Module) -> nn.Module:
    parametrize.register_parametrization(module, "weight", UnitFrobenius())
    return module


def stack(wrap: Wrap) -> nn.Sequential:
    """Linear layers of 64 features, torch's default before it is wrapped, and a critic's single output."""
    torch.manual_seed(0)
    hidden = [each for _ in range(2) for each in (wrap(nn.Linear(64, 64, bias=False)), nn.ReLU())]
    return nn.Sequential(*hidden, wrap(nn.Linear(64, 1, bias=False)))


def scale_findings(model: nn.Module) -> list[str]:
    return [str(each) for each in check(model, (8, 64), select=["INI1"]).findings]


@pytest.mark.parametrize("wrap", [old, new, new_doubled, orthogonal, own])
def test_no_rule_of_scale_speaks_where_the_scale_is_not_the_parameter_s(wrap: Wrap) -> None:
    """He's std for 64 inputs is sqrt(2 / 64) = 0.177.

    A square matrix of spectral norm 1 has an rms of about 1 / (2 sqrt(64)) = 0.0625, an orthogonal one 1 / 8, one of
    Frobenius norm 1 has 1 / 64: all wrong, and no value written could mend them.
    """
    assert scale_findings(stack(wrap)) == []


def test_rules_of_scale_speak_where_a_parametrization_passes_the_scale_on() -> None:
    """Registered, it leaves the weight at torch's default: std 1 / sqrt(3 * 64) = 0.072, in place of 0.177."""

    def quartered(module: nn.Module) -> nn.Module:
        parametrize.register_parametrization(module, "weight", Times(0.25))
        return module

    assert len([each for each in scale_findings(stack(quartered)) if "error" in each.lower()]) >= 2


class AtMostOne(Times):
    """A parametrization that refuses large values."""

    def forward(self, weight: Tensor) -> Tensor:
        if weight.abs().max() > 1:
            raise ValueError("too large")
        return weight


def test_a_parametrization_that_refuses_twice_the_values_is_taken_to_pass_scales_on() -> None:
    """U(-0.9, 0.9) has std 0.9 / sqrt(3) = 0.52 in place of He's 0.177."""

    def bounded(module: nn.Module) -> nn.Module:
        nn.init.uniform_(module.get_parameter("weight"), -0.9, 0.9)
        parametrize.register_parametrization(module, "weight", AtMostOne(1.0))
        return module

    assert len(scale_findings(stack(bounded))) == 3


@pytest.mark.parametrize("wrap", [old, new])
@pytest.mark.parametrize("shape", [(64, 1), (1, 64)], ids=["one output", "one input"])
def test_the_std_of_one_row_or_column_is_that_of_a_unit_vector(wrap: Wrap, shape: tuple[int, int]) -> None:
    """The spectral norm of one row is its length: the rms of 64 elements of length 1 is 1 / sqrt(64) = 1 / 8."""
    for seed in range(5):
        torch.manual_seed(seed)
        view = ModelView.of(wrap(nn.Linear(*shape, bias=False)))
        weight = effective_weight(view, view.storage(next(iter(view.parameters))))
        assert weight is not None
        assert weight.square().mean().sqrt().item() == pytest.approx(1 / 8, rel=1e-3)


@pytest.mark.parametrize("wrap", [old, new, new_doubled])
def test_reading_moves_no_vector_of_the_power_iteration(wrap: Wrap) -> None:
    model = stack(wrap)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    check(model, (8, 64))
    report(model, (8, 64))
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
