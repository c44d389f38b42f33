"""The block of the design: He with the activation's slope for its first convolution, Xavier for its second."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import autoinit
from autoinit.resolving import resolve
from autoinit.tracing import trace
from autoinit.tracing.dataflow import TIERS, Tier
from tests.shared.models.residual_blocks import CHANNELS, HIDDEN, LAYERS, SPELLINGS, Activated, Block, build
from tests.truth import Row, rows_of
from tests.truth.rows import ADD, LRELU_02, activation

"""torch.compile's own, when it is first used."""

FIRST_GAIN = math.sqrt(2 / 1.04)
FIRST_FAN_IN, SECOND_FAN_IN, SECOND_FAN_OUT = 9 * CHANNELS, 9 * HIDDEN, 9 * CHANNELS

every_spelling = pytest.mark.parametrize("spelling", SPELLINGS)


def expected(spelling: str) -> dict[str, Row]:
    pairs = LAYERS.get(spelling, [("conv1", "conv2")])
    return {name: row for first, second in pairs for name, row in ((first, LRELU_02), (second, ADD))}


def image() -> torch.Tensor:
    return torch.linspace(-1, 1, 2 * CHANNELS * 64).view(2, CHANNELS, 8, 8)


@every_spelling
def test_every_spelling_computes_the_same(spelling: str):
    if spelling in {"shared_activation", "shared_block", "compiled"}:
        pytest.skip("two blocks in a row, or compiles when called")
    block, plain = build(spelling), Block()
    weights = [parameter.detach() for parameter in block.parameters() if parameter.dim() > 1]
    plain.load_state_dict(
        {
            "conv1.weight": weights[0],
            "conv2.weight": weights[1],
            "conv1.bias": torch.zeros(HIDDEN),
            "conv2.bias": torch.zeros(CHANNELS),
        }
    )
    with torch.no_grad():
        for parameter in block.parameters():
            if parameter.dim() == 1:
                parameter.zero_()
        sign = -1 if spelling == "subtraction" else 1
        torch.testing.assert_close(block(image()), sign * (plain(image()) - image()) + image())


@every_spelling
def test_without_an_input(spelling: str):
    assert rows_of(resolve(trace(build(spelling)))) == expected(spelling)


@every_spelling
def test_with_an_input(spelling: str):
    assert rows_of(resolve(trace(build(spelling), image()))) == expected(spelling)


@every_spelling
@pytest.mark.parametrize("tier", TIERS)
def test_each_tier(spelling: str, tier: Tier):
    found = trace(build(spelling), image() if tier == "exported" else None, tier=tier)
    assert found.tier == tier
    assert rows_of(resolve(found)) == expected(spelling)


@pytest.mark.parametrize("spelling", [name for name in SPELLINGS if name not in {"data_parallel", "compiled"}])
def test_exported_program(spelling: str):
    program = torch.export.export(build(spelling), (image(),))
    assert rows_of(resolve(trace(program))) == expected(spelling)


@every_spelling
def test_plan_by_closed_form(spelling: str):
    plan = autoinit.plan(build(spelling))
    for first, second in LAYERS.get(spelling, [("conv1", "conv2")]):
        he, xavier = plan[first], plan[second]
        assert (he.scheme, he.mode, he.fan_in) == ("he", "fan_in", FIRST_FAN_IN)
        assert he.gain == pytest.approx(FIRST_GAIN, rel=1e-6)
        assert he.std == pytest.approx(FIRST_GAIN / math.sqrt(FIRST_FAN_IN), rel=1e-6)
        assert (xavier.scheme, xavier.mode, xavier.gain) == ("xavier", "fan_avg", 1.0)
        assert (xavier.fan_in, xavier.fan_out) == (SECOND_FAN_IN, SECOND_FAN_OUT)
        assert xavier.std == pytest.approx(math.sqrt(2 / (SECOND_FAN_IN + SECOND_FAN_OUT)), rel=1e-12)


class DefaultSlope(Block):
    def __init__(self) -> None:
        super().__init__()
        self.act = nn.LeakyReLU()


OMITTED = {
    "functional": lambda: Activated(lambda out: F.leaky_relu(out)),
    "functional_underscore": lambda: Activated(lambda out: F.leaky_relu_(out)),
    "module": DefaultSlope,
}


@pytest.mark.parametrize("make", OMITTED.values(), ids=OMITTED)
@pytest.mark.parametrize("tier", ["symbolic", "recorded"])
def test_slope_omitted_is_one_hundredth(make, tier: str):
    rows = rows_of(resolve(trace(make(), tier=tier)))
    assert rows == {"conv1": activation("leaky_relu", negative_slope=0.01), "conv2": ADD}


@pytest.mark.parametrize("make", OMITTED.values(), ids=OMITTED)
def test_gain_with_the_slope_omitted(make):
    assert autoinit.plan(make())["conv1"].gain == pytest.approx(math.sqrt(2 / 1.0001), rel=1e-6)


def test_each_use_of_a_shared_block_is_listed():
    resolutions = {each.name: each for each in resolve(trace(build("shared_block"), image()))}
    assert len(resolutions["block.conv1"].uses) == 2
    assert len(resolutions["block.conv2"].uses) == 2
    assert resolutions["block.conv1"].biases == ("block.conv1.bias",)


def test_resolutions_come_in_order_of_the_dataflow():
    names = [each.name for each in resolve(trace(build("shared_activation"), image()))]
    assert names == ["first.conv1", "first.conv2", "second.conv1", "second.conv2"]
