"""INI203: parameters beside the weights against the recipe that was declared."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import autoinit
from autoinit.checking.findings import Finding
from tests.shared.models.gpt2 import GPT2, FlashAttention, NewGELU

WORDS = torch.arange(16).reshape(2, 8)


def written(recipe: str = "gpt2") -> nn.Module:
    torch.manual_seed(0)
    model = GPT2(FlashAttention, NewGELU, width=256)
    autoinit.autoinit(model, WORDS, recipe=recipe, seed=0, zeros="reset", verbose=False)
    return model


def found(model: nn.Module, recipe: str = "gpt2") -> list[Finding]:
    return [each for each in autoinit.check(model, WORDS, recipe=recipe).findings if each.code == "INI203"]


def test_ini203_names_a_table_left_at_torchs_default():
    model = written()
    nn.init.normal_(model.wpe.weight)
    (finding,) = found(model)
    assert (finding.param, finding.severity, finding.expected_std) == ("wpe.weight", "warning", 0.02)
    assert "wpe.weight (position) has mean" in finding.message
    assert "expected normal, std 0.02 by the recipe gpt2" in finding.message
    assert finding.fix == "nn.init.normal_(model.wpe.weight, mean=0, std=0.02)"
    exec(finding.fix, {"nn": nn, "model": model})
    assert found(model) == []


def test_ini203_names_a_table_of_zeros_and_a_weight_that_is_to_be_zero():
    model = written("nanochat")
    with torch.no_grad():
        model.wte.weight.zero_()
        model.blocks[1].mlp.c_proj.weight.normal_(0, 0.02)
    told = {each.param: each.message for each in found(model, "nanochat")}
    assert set(told) == {"wte.weight", "blocks.1.mlp.c_proj.weight"}
    assert "is 0 throughout, expected normal, std 0.8" in told["wte.weight"]
    assert "expected 0 by the recipe nanochat" in told["blocks.1.mlp.c_proj.weight"]


def test_ini203_names_a_bias_that_the_recipe_draws_as_info():
    model = written("torch")
    nn.init.zeros_(model.blocks[0].mlp.c_fc.bias)
    (finding,) = found(model, "torch")
    assert (finding.param, finding.severity) == ("blocks.0.mlp.c_fc.bias", "info")


def frozen(model: nn.Module) -> None:
    model.wpe.weight.requires_grad_(False)
    nn.init.ones_(model.wpe.weight)


def padded(model: nn.Module) -> None:
    with torch.no_grad():
        model.wte.weight[:25] = 0


def biased(model: nn.Module) -> None:
    nn.init.ones_(model.blocks[0].mlp.c_fc.bias)


@pytest.mark.parametrize("change", [frozen, padded, biased])
def test_ini203_passes_what_is_frozen_rows_of_zeros_and_what_another_rule_names(change):
    model = written()
    change(model)
    assert found(model) == []


def test_ini203_passes_all_where_a_recipe_is_only_recognised():
    model = written()
    nn.init.normal_(model.wpe.weight)
    result = autoinit.check(model, WORDS)
    assert result.recipe == "gpt2 (recognised)"
    assert [each for each in result.findings if each.code == "INI203"] == []
