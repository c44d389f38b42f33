"""INI501 and INI502: models that follow their base in another width, and the learning rates that they are given."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from autoinit import ArgumentError, autoinit, check, scaling
from tests.transfer.families import GPT, MLP, ResNet, TiedHead

IDS = torch.zeros(2, 5, dtype=torch.long)


def made(family, seed=0, inputs=None):
    autoinit(family, inputs, seed=seed, verbose=False, force=True)
    return family


def found(code, model, base, inputs=None, **options):
    result = check(model, inputs, base=base, select=[code], **options)
    return [each.layer for each in result.findings]


def test_ini501_names_the_head_of_a_wide_model_that_was_started_by_itself():
    """He's std falls as 1 / sqrt(fan_in) in every layer; a head's is to fall as 1 / fan_in: 4 = 2 times too large.

    Xavier's head: sqrt(2 / (16 + 5)) / 4 = 0.0772 is expected, sqrt(2 / (64 + 5)) = 0.170 is there.
    """
    result = check(made(MLP(64)), base=made(MLP(16)), select=["INI501"])
    assert [each.layer for each in result.findings] == ["head"]
    assert "0.25 times" in result.findings[0].message
    assert "(head: fan_in x 4)" in result.findings[0].message
    assert not result.ok


def test_ini501_names_one_std_for_every_width():
    """N(0, 0.02) at every width: hidden weights are to fall as 1 / 2, the head as 1 / 4."""

    def gpt2(width):
        model = GPT(width)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)
        return model

    named = found("INI501", gpt2(64), gpt2(16), IDS)
    assert named == [f"blocks.{block}.{part}" for block in (0, 1) for part in ("qkv", "out", "up", "down")] + ["head"]


def test_ini501_names_the_gain_before_a_tied_head():
    base = made(GPT(16, tied=TiedHead), inputs=IDS)
    model = GPT(64, tied=TiedHead)
    scaling(model, base, example_inputs=IDS).apply(model)
    assert found("INI501", model, base, IDS) == []
    nn.init.ones_(model.norm.weight)
    assert found("INI501", model, base, IDS) == ["norm.weight"]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("inputs", [None, (2, 3, 6, 6)], ids=["MLP", "ResNet"])
def test_ini501_passes_the_scaled_start(inputs, seed):
    family = MLP if inputs is None else ResNet
    base, model = made(family(16), seed, inputs), family(64)
    scaling(model, base, example_inputs=inputs).apply(model, seed=seed + 10)
    assert found("INI5", model, base, inputs) == []


def test_ini501_passes_what_the_base_says_nothing_of():
    assert found("INI501", made(MLP(64)), MLP(16).to("meta")) == []


def test_ini502_names_one_rate_for_all_parameters():
    model, base = MLP(64), MLP(16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    result = check(model, base=base, optimizer=optimizer, select=["INI502"])
    assert [each.layer for each in result.findings] == ["second", "third", "head"]
    assert "learning rate 0.003 of second.weight, expected 0.00075: 0.25 times the base model's 0.003" in (
        result.findings[0].message
    )


def test_ini502_names_what_other_rules_do_to_sgd():
    """Under SGD a hidden weight keeps its rate; input layers and biases want m times as much, the head 1 / m."""
    model, base = MLP(64), MLP(16)
    assert found("INI502", model, base, optimizer=torch.optim.SGD(model.parameters(), lr=0.1)) == [
        "first",
        "first.bias",
        "second.bias",
        "third.bias",
        "head",
    ]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_ini502_passes_the_groups(optimizer):
    model, base = MLP(64), MLP(16)
    groups = scaling(model, base, optimizer=optimizer).groups(model, lr=1e-2)
    made_of = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[optimizer]
    assert found("INI502", model, base, optimizer=made_of(groups)) == []
    if optimizer == "adamw":
        assert found("INI502", model, base, optimizer=groups) == []


def test_what_is_refused():
    model = MLP(64)
    with pytest.raises(ArgumentError, match=r"optimizer= is held against base="):
        check(model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    for wrong in (3, [{"lr": 1.0}], ["groups"]):
        with pytest.raises(ArgumentError, match=r"expected a torch\.optim\.Optimizer or its param groups"):
            check(model, base=MLP(16), optimizer=wrong)
    with pytest.raises(ArgumentError, match="a learning rate, `lr`, each"):
        check(model, base=MLP(16), optimizer=[{"params": list(model.parameters())}])
