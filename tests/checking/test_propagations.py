"""How often `check` propagates a signal, forward alone or backward too, and with how many samples: by counting."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoinit.checking import _signals as signals
from autoinit.checking.checker import check
from autoinit.errors import TraceError
from autoinit.signal.predicting.propagating import Propagation

WIDTH = 32
SHAPE = (4, WIDTH)
RECIPE = f"normal({1e-3 * WIDTH**-0.5:.4g})"


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """For each propagation so far, the samples of its inputs."""
    made: list[int] = []

    class Counted(Propagation):
        def report(self, **given: Any) -> Any:
            made.append(self.samples)
            return super().report(**given)

    monkeypatch.setattr(signals, "Propagation", Counted)
    return made


@pytest.fixture
def backwards(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each propagation so far, whether it went backward."""
    made: list[bool] = []

    class Counted(Propagation):
        def report(self, *, backward: bool, **given: Any) -> Any:
            made.append(backward)
            return super().report(backward=backward, **given)

    monkeypatch.setattr(signals, "Propagation", Counted)
    return made


def layer(std: float) -> nn.Linear:
    made = nn.Linear(WIDTH, WIDTH, bias=False)
    nn.init.normal_(made.weight, std=std)
    return made


def plain() -> nn.Module:
    """Layers as they should be."""
    torch.manual_seed(0)
    return nn.Sequential(layer((2 / WIDTH) ** 0.5), nn.ReLU(), layer((1 / WIDTH) ** 0.5))


def weak_before_norm() -> nn.Module:
    """A weight a thousandth of what it should be, in front of a norm whose eps decides what that does."""
    torch.manual_seed(0)
    return nn.Sequential(layer(1e-3 * (1 / WIDTH) ** 0.5), nn.LayerNorm(WIDTH), layer((1 / WIDTH) ** 0.5))


class Streams(nn.Module):
    """x + W x, six times."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(layer((1 / WIDTH) ** 0.5) for _ in range(6))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        return x


@pytest.mark.parametrize(
    ("model", "options", "expected"),
    [
        pytest.param(plain, {}, [True], id="all_rules"),
        pytest.param(plain, {"select": ["INI4"]}, [True], id="all_about_depth"),
        pytest.param(plain, {"select": ["INI402"]}, [True], id="gradient_alone"),
        pytest.param(plain, {"ignore": ["INI402"]}, [False], id="without_gradient"),
        pytest.param(plain, {"select": ["INI401"]}, [False], id="forward_alone"),
        pytest.param(plain, {"ignore": ["INI4"]}, [], id="nothing_about_depth"),
        pytest.param(plain, {"select": ["INI1", "INI2"]}, [], id="other_rules"),
        pytest.param(plain, {"select": ["INI403"]}, [], id="no_stream"),
        pytest.param(Streams, {"select": ["INI403"]}, [False], id="stream"),
        pytest.param(weak_before_norm, {}, [True], id="severity_and_all_rules"),
        pytest.param(weak_before_norm, {"ignore": ["INI4"]}, [False], id="severity"),
        pytest.param(weak_before_norm, {"ignore": ["INI4", "INI1"]}, [], id="severity_of_nothing_asked"),
        pytest.param(weak_before_norm, {"select": ["INI0", "INI2"]}, [], id="severity_of_nothing_selected"),
        pytest.param(weak_before_norm, {"ignore": ["INI4"], "recipe": RECIPE}, [], id="severity_by_recipe"),
    ],
)
def test_propagations(model: Any, options: dict[str, Any], expected: list[bool], backwards: list[bool]) -> None:
    check(model(), SHAPE, **options)
    assert backwards == expected


def test_no_propagation_without_shapes(backwards: list[bool]) -> None:
    check(weak_before_norm())
    assert backwards == []


class Stubborn(nn.Module):
    """Takes one batch size alone."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(WIDTH, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.reshape(64, WIDTH))


class Two(nn.Module):
    """Adds two inputs; the second may be one for all samples."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(WIDTH, 4)

    def forward(self, x: Tensor, bias: Any) -> Tensor:
        return self.fc(x) + (bias if isinstance(bias, Tensor) else bias["bias"])


@pytest.mark.parametrize(
    ("model", "inputs", "expected"),
    [
        pytest.param(plain, (64, WIDTH), 16, id="many"),
        pytest.param(plain, (16, WIDTH), 16, id="few"),
        pytest.param(plain, {"input": torch.zeros(64, WIDTH)}, 16, id="by_name"),
        pytest.param(Two, ((64, WIDTH), (64, 4)), 16, id="two_alike"),
        pytest.param(Two, ((64, WIDTH), (1, 4)), 64, id="one_for_all"),
        pytest.param(Two, ((64, WIDTH), {"bias": torch.zeros(64, 4)}), 64, id="nested"),
        pytest.param(Stubborn, (64, WIDTH), 64, id="no_other_batch"),
    ],
)
def test_a_large_batch_is_cut_where_that_is_clear(model: Any, inputs: Any, expected: int, samples: list[int]) -> None:
    check(model(), inputs)
    assert samples == [expected]


def test_an_input_that_does_not_fit_is_told_as_given() -> None:
    with pytest.raises(TraceError, match="64"):
        check(plain(), (64, WIDTH + 1))
