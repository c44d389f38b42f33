"""Every weight layer of eight transformers families resolves as derived by hand, with the fans of its geometry."""

from __future__ import annotations

import pytest

from autoinit import plan
from autoinit.plans.layers import LayerPlan
from tests.truth import Case
from tests.truth.checks import (
    assert_covers_every_parameter,
    assert_default_gives_the_truth,
    assert_recorded_gives_the_truth,
)
from tests.truth.transformers_tables import CASES, POSITIONAL, by_parameter

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)

FANS: dict[str, dict[str, tuple[float, ...]]] = {
    "gpt2": {
        "transformer.h.0.attn.c_attn": (48, 48, 48, 48, 48, 48),
        "transformer.h.0.mlp.c_fc": (48, 40),
        "transformer.h.0.mlp.c_proj": (40, 48),
        "transformer.wte": (48, 61),
    },
    "llama": {
        "model.layers.0.self_attn.q_proj": (48, 60),
        "model.layers.0.self_attn.k_proj": (48, 20),
        "model.layers.0.self_attn.o_proj": (60, 48),
        "model.layers.0.mlp.up_proj": (48, 36),
    },
    "t5": {
        "decoder.block.1.layer.1.EncDecAttention.q": (32, 36),
        "decoder.block.1.layer.1.EncDecAttention.o": (36, 32),
        "decoder.block.1.layer.2.DenseReluDense.wo": (40, 32),
        "shared": (32, 61),
    },
    "bert": {"bert.encoder.layer.1.output.dense": (40, 48), "cls.seq_relationship": (48, 2)},
    # a convolution's fan_out is divided by its stride
    "whisper": {"model.encoder.conv1": (6 * 3, 32 * 3), "model.encoder.conv2": (32 * 3, 32 * 3 / 2)},
    # 4 groups of 9 channels and 8 positions
    "wav2vec2_ctc": {
        "wav2vec2.feature_extractor.conv_layers.0.conv": (5, 16 * 5 / 3),
        POSITIONAL: (9 * 8, 9 * 8),
        "wav2vec2.feature_projection.projection": (20, 36),
    },
    "mamba": {
        "backbone.layers.1.mixer.in_proj": (24, 48, 24, 48),
        "backbone.layers.1.mixer.conv1d": (3, 3),
        "backbone.layers.1.mixer.x_proj": (48, 4, 48, 5, 48, 5),
        "backbone.layers.1.mixer.dt_proj": (4, 48),
        "backbone.layers.1.mixer.out_proj": (48, 24),
    },
    "mixtral_grouped_mm": {
        "model.layers.1.mlp.gate": (32, 3),
        "model.layers.1.mlp.experts.gate_up_proj": (32, 24, 32, 24),
        "model.layers.1.mlp.experts.down_proj": (24, 32),
    },
}
FANS["mixtral_eager"] = FANS["mixtral_grouped_mm"]
"""Of some layers of each: fan_in and fan_out of each slice in turn."""


def fans(layer: LayerPlan) -> tuple[float, ...]:
    return tuple(fan for part in layer.slices or (layer,) for fan in (part.fan_in, part.fan_out))


@every_case
def test_table_covers_every_parameter_of_two_or_more_dimensions(case: Case):
    assert_covers_every_parameter(by_parameter(case))


@every_case
def test_recorded_tier_gives_the_truth(case: Case):
    assert_recorded_gives_the_truth(case)


@every_case
def test_default_tier_gives_the_truth_without_an_input(case: Case):
    assert_default_gives_the_truth(case)


@pytest.mark.parametrize("case", [case for case in CASES if case.name in FANS], ids=lambda case: case.name)
def test_fans_are_those_of_the_geometry(case: Case):
    made = plan(case.build(), case.inputs())
    expected = {name: pytest.approx(pairs) for name, pairs in FANS[case.name].items()}
    assert {name: fans(made[name]) for name in expected} == expected
