"""The options of a plan and its methods: functions, commands and documents all have what the tables have."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_args

import click
import pytest
import torch
from torch import nn

import autoinit
from autoinit.cli import main
from autoinit.errors import ArgumentError
from autoinit.methods.table import MEANINGS, METHODS, Method
from autoinit.planning import plan_dataflow
from autoinit.plans.distributions import DISTRIBUTIONS, Distribution
from autoinit.plans.mirror import TAPS, Taps
from autoinit.plans.options import (
    HEADS,
    PRESETS,
    RESIDUALS,
    ZEROS,
    Heads,
    PlanArguments,
    PlanOptions,
    Preset,
    Residual,
    Zeros,
    plan_options,
)
from autoinit.theory.fans import MODES, Mode

FUNCTIONS = (autoinit.plan, autoinit.report, autoinit.autoinit)
COMMANDS = ("report", "apply", "signal")
CHOICES: Mapping[str, Mapping[Any, Any]] = {
    "method": METHODS, "residual": RESIDUALS, "heads": HEADS, "mode": MODES, "distribution": DISTRIBUTIONS,
    "taps": TAPS, "zeros": ZEROS, "preset": PRESETS,
}  # fmt: skip


def test_arguments_and_options_are_the_same():
    assert PlanArguments.__required_keys__ == frozenset()
    assert PlanArguments.__optional_keys__ == {each.name for each in fields(PlanOptions)} == set(plan_options())


@pytest.mark.parametrize(
    ("names", "table"),
    [
        (Mode, MODES),
        (Distribution, DISTRIBUTIONS),
        (Residual, RESIDUALS),
        (Heads, HEADS),
        (Preset, PRESETS),
        (Zeros, ZEROS),
        (Taps, TAPS),
    ],
)
def test_types_name_what_tables_hold(names: Any, table: Mapping[Any, Any]):
    assert get_args(names) == tuple(table)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda each: each.__name__)
def test_functions_say_their_options(function: Any):
    shown = inspect.signature(function).parameters
    defaults = {each.name: each.default for each in fields(PlanOptions)}
    assert {name: shown[name].default for name in defaults} == defaults
    assert all(shown[name].kind is inspect.Parameter.KEYWORD_ONLY for name in defaults)
    assert not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in shown.values())
    document = inspect.getdoc(function) or ""
    assert "**options" not in document
    for name in defaults:
        entry = re.search(rf"^    {name}: (.*?)\n(?:\n|    \w+: )", document, re.MULTILINE | re.DOTALL)
        assert entry is not None
        assert re.findall(r"`(\w+)`: ", entry[1]) == list(CHOICES.get(name, ()))


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_have_the_options_and_choices_of_the_functions(command: str):
    shown = {each.name: each for each in main.commands[command].params}
    for name, option in plan_options().items():
        assert shown[name].opts == [f"--{name}"]
        assert shown[name].multiple == option.several == (name in ("only", "skip"))
        kind = shown[name].type
        assert (list(kind.choices) if isinstance(kind, click.Choice) else []) == list(CHOICES.get(name, ()))
    assert shown["seed"].type is click.INT


def test_an_unknown_option_is_refused_with_the_nearest():
    with pytest.raises(TypeError, match=r"'distributoin': did you mean distribution\? expected one of method, "):
        autoinit.plan(nn.Linear(2, 2), distributoin="normal")


# Methods. A weight of 64 inputs, before a ReLU, that reads numbers of second moment 1.

EXPECTED_STDS = {"nonlinearity": math.sqrt(2 / 64), "signal": math.sqrt(1 / 64), "data": math.sqrt(1 / 64),
                 "mirrored": math.sqrt(1 / 64), "recipe": 0.02}  # fmt: skip
"""He's; that for which a sum of 64 products with numbers of second moment 1 has second moment 1 itself; GPT-2's."""


def test_every_method_has_a_case():
    assert set(EXPECTED_STDS) == set(METHODS)
    assert all(name == each.name and each.help for name, each in METHODS.items())


@pytest.mark.parametrize("method", METHODS)
def test_a_method_by_hand(method: str):
    """The batch's columns are orthogonal, of second moment 1 exactly, so that the chance left is that of the weights:
    the sum of squares of 64 * 512 drawn numbers is off by sqrt(2 / 32768) of itself, 0.8 %."""
    model = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 4))
    batch = torch.linalg.qr(torch.randn(256, 64, generator=torch.Generator().manual_seed(0)))[0] * 16
    made = autoinit.plan(model, batch, method=method, recipe="gpt2" if method == "recipe" else "")
    assert made.method == method
    assert made["0"].std == pytest.approx(EXPECTED_STDS[method], rel=0.03)
    assert autoinit.Plan.from_json(made.to_json()).method == method


def test_a_recipe_chooses_its_method_and_refuses_another():
    model = nn.Linear(64, 64)
    assert autoinit.plan(model, recipe="gpt2").method == "recipe"
    with pytest.raises(ArgumentError, match="recipe='gpt2' has no meaning for method='signal': leave one out"):
        autoinit.plan(model, recipe="gpt2", method="signal")
    with pytest.raises(ArgumentError, match="method='recipe' without a recipe: expected recipe='gpt2' or another"):
        autoinit.plan(model, method="recipe")
    with pytest.raises(ArgumentError, match="distribution='uniform' has no meaning for method='recipe'"):
        autoinit.plan(model, recipe="gpt2", distribution="uniform")


def halved(view: Any, dataflow: Any, options: PlanOptions, _example_inputs: Any) -> autoinit.Plan:
    """The method of the tests below."""
    return plan_dataflow(dataflow, view, options)


@pytest.fixture
def halved_method(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method that draws uniformly by default and has no use for a mode."""
    method = Method(
        "halved", "for a test", f"{__name__}:halved", refuses={"mode": "its fans are fixed"},
        defaults={"distribution": "uniform"},
    )  # fmt: skip
    monkeypatch.setitem(METHODS, "halved", method)
    monkeypatch.setitem(MEANINGS, "halved", method.help)


@pytest.mark.usefixtures("halved_method")
def test_a_method_has_defaults_of_its_own_that_the_caller_overrides():
    model = nn.Linear(4, 4)
    assert autoinit.plan(model, method="halved")["weight"].distribution == "uniform"
    assert autoinit.plan(model, method="halved", distribution="normal")["weight"].distribution == "normal"
    assert autoinit.plan(model)["weight"].distribution == "normal"


@pytest.mark.usefixtures("halved_method")
def test_a_method_refuses_an_option_without_meaning_for_it():
    with pytest.raises(ArgumentError, match=r"mode='fan_out' has no meaning for method='halved': its fans are fixed"):
        autoinit.plan(nn.Linear(4, 4), method="halved", mode="fan_out")
    assert autoinit.plan(nn.Linear(4, 4), method="halved", mode=None).method == "halved"
