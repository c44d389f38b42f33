"""Weights that are standardised or normalised on their way: their predicted signal, and what rules say of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from autoinit import autoinit
from autoinit.checking.checker import check
from autoinit.models import ModelView
from autoinit.signal import measure, propagate
from autoinit.writing.reparametrised import effective_weight

WIDTH = 96
INPUT = (16, WIDTH)

old = pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")


class Standardised(nn.Linear):
    """Rows of mean zero and, times sqrt(fan_in), of std `gain`: every layer multiplies second moments by gain^2."""

    def __init__(self, gain: float, std: float) -> None:
        super().__init__(WIDTH, WIDTH, bias=False)
        self.gain = gain
        nn.init.normal_(self.weight, std=std)

    def forward(self, x: Tensor) -> Tensor:
        centred = self.weight - self.weight.mean(1, keepdim=True)
        return functional.linear(x, centred / centred.std(1, keepdim=True) * self.gain / WIDTH**0.5)


class StandardisedConv(nn.Conv2d):
    """The same by batch_norm of the weight, as in ScaledStdConv2d (Brock et al. 2021)."""

    def __init__(self, gain: float, std: float) -> None:
        super().__init__(32, 32, 3, padding=1, bias=False)
        self.gain = gain
        nn.init.normal_(self.weight, std=std)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.weight.reshape(1, len(self.weight), -1)
        scaled = functional.batch_norm(rows, None, None, training=True, eps=1e-12) * self.gain / rows.shape[2] ** 0.5
        return functional.conv2d(x, scaled.reshape_as(self.weight), padding=1)


class Projection(nn.Module):
    """A linear map by a function: what a parametrization does to its weight is seen by the tracing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight)


def with_norms(wrap: Callable[..., nn.Module], make: Callable[[], nn.Module], norm: float) -> nn.Module:
    """A layer under weight_norm, g of which is `norm`: it multiplies second moments by norm^2."""
    module = wrap(make())
    g = next(value for name, value in module.named_parameters() if name.endswith(("original0", "weight_g")))
    nn.init.constant_(g, norm)
    return module


def linear() -> nn.Module:
    return nn.Linear(WIDTH, WIDTH, bias=False)


def chain(depth: int, make: Callable[[], nn.Module], act: Callable[[], nn.Module] = nn.Identity) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(each for _ in range(depth) for each in (make(), act())))


def by_code(model: nn.Module, inputs: Any = INPUT) -> dict[str, Any]:
    return {each.code: each for each in check(model, inputs, select=["INI4"]).findings}


WRAPPED = [
    pytest.param(partial(with_norms, parametrizations.weight_norm, linear), id="weight_norm"),
    pytest.param(partial(with_norms, parametrizations.weight_norm, Projection), id="weight_norm_of_a_function"),
    pytest.param(partial(with_norms, nn.utils.weight_norm, linear), id="old_weight_norm", marks=old),
]


@pytest.mark.parametrize("norm", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("wrap", WRAPPED)
def test_weight_norm_counts_by_its_g(wrap: Callable[[float], nn.Module], norm: float) -> None:
    """Sum over fan_in of w^2 = g^2, whatever v."""
    (row,) = propagate(nn.Sequential(wrap(norm)), INPUT).rows.values()
    assert row.q == pytest.approx(norm**2, rel=0.1)


@pytest.mark.parametrize("scale", [0.01, 10.0])
def test_spectral_norm_takes_the_scale_away(scale: float) -> None:
    """All singular values of scale * I are the same: the weight is the identity."""
    module = linear()
    with torch.no_grad():
        module.weight.copy_(scale * torch.eye(WIDTH))
    (row,) = propagate(nn.Sequential(parametrizations.spectral_norm(module)), INPUT).rows.values()
    assert row.q == pytest.approx(1.0, rel=0.1)


def test_an_orthogonal_parametrization_keeps_the_signal() -> None:
    (row,) = propagate(nn.Sequential(parametrizations.orthogonal(linear())), INPUT).rows.values()
    assert row.q == pytest.approx(1.0, rel=0.1)


def test_a_normed_embedding_gives_rows_of_its_norm() -> None:
    """Rows of norm 3 over 64 features: second moment 9 / 64."""
    table = parametrizations.weight_norm(nn.Embedding(50, 64))
    nn.init.constant_(table.parametrizations.weight.original0, 3.0)
    model = nn.Sequential(table, nn.Linear(64, 8))
    report = propagate(model, torch.arange(40).reshape(4, 10))
    row = report.by_operation["0"].row
    assert row is not None
    assert row.q == pytest.approx(9 / 64, rel=0.1)


@pytest.mark.parametrize(
    ("make", "inputs"),
    [
        pytest.param(partial(Standardised, 1.4, 0.1), INPUT, id="linear"),
        pytest.param(partial(Standardised, 0.7, 0.1), INPUT, id="weak_linear"),
        pytest.param(partial(StandardisedConv, 1.7, 0.1), (4, 32, 12, 12), id="conv"),
        pytest.param(lambda: parametrizations.spectral_norm(linear()), INPUT, id="spectral_norm"),
    ],
)
def test_predictions_hold_for_normalised_weights(make: Callable[[], nn.Module], inputs: tuple[int, ...]) -> None:
    """Against one draw; finite width alone makes tens of percent over six layers."""
    model = chain(6, make, nn.ReLU)
    predicted = propagate(model, inputs)
    measured = measure(model, torch.randn(inputs, generator=torch.Generator().manual_seed(1)))
    for name, row in predicted.rows.items():
        assert row.q == pytest.approx(measured.rows[name].q, rel=0.4)
        assert row.grad == pytest.approx(measured.rows[name].grad, rel=0.5)


@pytest.mark.parametrize("make", [Standardised, StandardisedConv])
@pytest.mark.parametrize("std", [1e-4, 1.0])
def test_ini401_names_standardised_weights_without_a_gain(make: Callable[..., nn.Module], std: float) -> None:
    """0.2 each, whatever the std: 0.2^8 = 2.6e-6, 0.2^9 = 5.1e-7; the gradient 0.2^12 = 4.1e-9, of 20 layers at 7."""
    inputs = INPUT if make is Standardised else (4, 32, 12, 12)
    found = by_code(chain(20, partial(make, 0.2**0.5, std)), inputs)
    assert {code: each.layer for code, each in found.items()} == {"INI401": "16", "INI402": "14"}
    for each in found.values():
        assert "no values change their scale: multiply them by another gain" in each.message
        assert each.fix == ""


def test_ini401_names_standardised_weights_with_too_large_a_gain() -> None:
    """5^8 = 3.9e5, 5^9 = 2.0e6."""
    found = by_code(chain(14, partial(Standardised, 5.0**0.5, 0.1)))
    assert found["INI401"].layer == "16"
    assert "explodes" in found["INI401"].message


@pytest.mark.parametrize("make", [Standardised, StandardisedConv])
@pytest.mark.parametrize("std", [1e-4, 1.0])
def test_standardised_weights_with_the_right_gain_have_no_finding(make: Callable[..., nn.Module], std: float) -> None:
    """Each layer in front of a rectifier makes 2 * 1/2; less its mean the rectified signal has (1 - 1/pi) of that."""
    inputs = INPUT if make is Standardised else (4, 32, 12, 12)
    gain = (2 / (1 - 1 / torch.pi)) ** 0.5
    assert by_code(chain(20, partial(make, gain, std), nn.ReLU), inputs) == {}


@pytest.mark.parametrize("wrap", WRAPPED)
def test_ini401_and_ini402_name_weight_norms_and_say_what_to_set(wrap: Callable[[float], nn.Module]) -> None:
    """As for standardised weights; but a plan writes g."""
    model = chain(20, partial(wrap, 0.2**0.5))
    found = by_code(model)
    assert {code: each.layer.rsplit(".")[0] for code, each in found.items()} == {"INI401": "16", "INI402": "14"}
    for each in found.values():
        assert each.fix == 'autoinit(model, method="signal")'
    autoinit(model, method="signal", seed=0, verbose=False)
    assert by_code(model) == {}


def test_ini401_names_spectral_norms_over_depth() -> None:
    """About 1 / (sqrt(out) + sqrt(in))^2 of variance and a rectifier's half: an eighth with each layer."""
    found = by_code(chain(12, lambda: parametrizations.spectral_norm(linear()), nn.ReLU))
    assert found["INI401"].fix == ""
    assert "vanishes" in found["INI401"].message


def test_the_hook_of_spectral_norm_is_read_as_it_settles() -> None:
    """Its vectors are random until the first forward; then the weight is divided by its largest singular value."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.utils.spectral_norm(nn.Linear(96, 64)))
    view = ModelView.of(model)
    read = effective_weight(view, view.storage("0.weight_orig"))
    assert read is not None
    assert float(torch.linalg.svdvals(read)[0]) == pytest.approx(1, rel=0.05)
