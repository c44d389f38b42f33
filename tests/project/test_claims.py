"""The benchmark that holds public models against the recipe that they claim."""

from __future__ import annotations

import importlib
import shlex
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from autoinit.cli import main

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SMALL = {"num_hidden_layers": 1, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 128}


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("_claims")


def test_a_claim_that_fails_is_told_with_a_command_that_shows_it(claims: ModuleType):
    """transformers zeroes DeiT's tokens and positions after it has drawn them with 0.02."""
    pytest.importorskip("transformers", reason="there is none for Python 3.10")
    claim = claims.Claim("hf:deit", "bert", "a test", SMALL)
    found = {each["parameters"]: (each["is"], each["expected"]) for each in claims.strays(claim)}
    names = ("cls_token", "distillation_token", "position_embeddings")
    assert found == {f"embeddings.{name}": ("std 0", 0.02) for name in names}
    program, *arguments = shlex.split(claim.command)
    assert program == "autoinit"
    shown = CliRunner().invoke(main, arguments).output
    assert all(f"embeddings.{name}" in shown for name in names)


def test_every_claim_has_a_recipe_and_a_reason(claims: ModuleType):
    from autoinit.recipes import declared

    assert {claim.spec.partition(":")[0] for claim in claims.CLAIMS} == {"hf", "torchvision", "timm"}
    assert all(declared(claim.recipe).text == claim.recipe and claim.why for claim in claims.CLAIMS)
