"""INI006: elements far beyond the others, their cause, and what is none."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import autoinit
from autoinit.checking.findings import Finding


def found(model: nn.Module, **arguments: object) -> list[Finding]:
    return [each for each in autoinit.check(model, **arguments).findings if each.code == "INI006"]


def drawn(std: float = 0.02) -> nn.Linear:
    torch.manual_seed(0)
    layer = nn.Linear(256, 256)
    nn.init.normal_(layer.weight, std=std)
    return layer


def test_ini006_names_single_elements_at_a_bound_and_their_cause():
    """Three of 65,536 at -2, 100 sigma, where normal numbers end at about 0.02 sqrt(2 ln 65536) = 0.0942."""
    layer = drawn()
    with torch.no_grad():
        layer.weight[[3, 70, 200], [5, 9, 13]] = -2.0
    (finding,) = found(layer)
    assert finding.severity == "warning"
    assert "has 3 of 65536 elements up to 2, 99.5 times the sigma of the others" in finding.message
    assert "expected none beyond about 0.094" in finding.message
    assert "All of them are -2: a bound" in finding.message
    assert finding.expected_std == pytest.approx(0.02, rel=0.02)


def test_ini006_names_what_low_precision_makes_of_the_inverse_error_function():
    """timm's and torch's old way: uniform numbers, erfinv, clamp to -2 and 2; bfloat16 has 256 numbers below 1, so that
    about one draw in 500 is rounded to an end, where erfinv is infinite."""
    torch.manual_seed(0)
    layer = nn.Linear(256, 256, dtype=torch.bfloat16)
    with torch.no_grad():
        layer.weight.uniform_(-1, 1).erfinv_().mul_(0.02 * math.sqrt(2)).clamp_(-2, 2)
    share = (layer.weight.abs() == 2).float().mean().item()
    assert 0.0005 < share < 0.01
    (finding,) = found(layer)
    assert "All of them are -2" in finding.message


def test_ini006_names_the_function_that_wrote_them():
    with autoinit.recording() as recorded:
        layer = nn.Linear(256, 256)
        nn.init.trunc_normal_(layer.weight, std=0.02)
    with torch.no_grad(), torch._C.DisableTorchFunction():
        layer.weight.data[0, 0] = 2.0
    (finding,) = found(layer, provenance=recorded)
    assert "trunc_normal_ has written it, and all of them are 2: a bound" in finding.message


@pytest.mark.parametrize(("value", "named"), [(2.5 * 4.71, True), (1.5 * 4.71, False)])
def test_ini006_names_what_is_beyond_twice_the_largest_of_normal_numbers(value: float, named: bool):
    """sqrt(2 ln 65536) = 4.71 sigma."""
    layer = drawn(1.0)
    with torch.no_grad():
        layer.weight[7, 7] = value
    assert bool(found(layer)) == named


def rows_of_another_scale(weight: torch.Tensor) -> None:
    nn.init.normal_(weight, std=0.02)
    weight[:4].mul_(100)


def columns_of_another_scale(weight: torch.Tensor) -> None:
    nn.init.normal_(weight, std=0.02)
    weight[:, :4].mul_(100)


def mostly_zero(weight: torch.Tensor) -> None:
    nn.init.sparse_(weight, sparsity=0.99)


@pytest.mark.parametrize(
    "write",
    [nn.init.normal_, nn.init.uniform_, nn.init.orthogonal_, nn.init.trunc_normal_, nn.init.zeros_, nn.init.eye_,
     rows_of_another_scale, columns_of_another_scale, mostly_zero],
)  # fmt: skip
def test_ini006_passes_every_initialiser_and_rows_and_columns_of_another_scale(write):
    layer = drawn()
    with torch.no_grad():
        write(layer.weight)
    assert found(layer) == []


def test_ini006_passes_depthwise_kernels_and_short_weights():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(64, 64, 3, groups=64), nn.ReLU(), nn.Conv2d(64, 2, 1))
    assert found(model) == []
