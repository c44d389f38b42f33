"""Recipes that are written: GPT-2 by hand, from plan to file; what is kept; declarations; a user's own."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import autoinit
from autoinit import ArgumentError, Plan, PlanError, RegistrationError, register_recipe
from autoinit.cli import main
from autoinit.recipes import Facts, Start, constant, declared, normal, registry
from tests.shared.models.gpt2 import GPT2, FlashAttention, NewGELU

WORDS = torch.arange(16).reshape(2, 8)


def gpt2() -> nn.Module:
    """Two blocks of two branches: branch ends have 0.02 / sqrt(4)."""
    torch.manual_seed(0)
    return GPT2(FlashAttention, NewGELU, width=256)


def expected(name: str) -> tuple[float, float]:
    """The mean and the std that GPT-2's paper gives a parameter of this implementation."""
    if "ln" in name or name.endswith(".bias"):
        return (1.0 if name.endswith(".weight") else 0.0), 0.0
    return 0.0, 0.01 if name.endswith("c_proj.weight") else 0.02


def test_every_parameter_of_gpt2_is_written():
    """A sample's std has the standard error std / sqrt(2 n); five of them."""
    model = gpt2()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(3.0)
    report = autoinit.autoinit(model, WORDS, recipe="gpt2", seed=0, zeros="reset", force=True, verbose=False)
    assert report.plan.others == ()
    for name, parameter in model.named_parameters():
        mean, std = expected(name)
        if std == 0:
            assert bool((parameter == mean).all()), name
        else:
            assert parameter.std().item() == pytest.approx(std, rel=5 / math.sqrt(2 * parameter.numel())), name


def test_values_are_those_of_seed_and_name_and_the_plan_reads_back():
    first, second = gpt2(), gpt2()
    made = autoinit.plan(first, WORDS, recipe="gpt2")
    assert Plan.from_json(made.to_json()) == made
    made.apply(first, 7)
    Plan.from_json(made.to_json()).apply(second, 7)
    assert all(torch.equal(one, other) for one, other in zip(first.parameters(), second.parameters(), strict=True))
    made.apply(second, 8)
    assert not torch.equal(first.wte.weight, second.wte.weight)


def test_a_plan_needs_no_weights():
    with torch.device("meta"):
        empty = GPT2(FlashAttention, NewGELU, width=256)
    made, again = (autoinit.plan(each, WORDS, recipe="gpt2") for each in (empty, gpt2()))
    assert (made.layers, made.rest) == (again.layers, again.rest)


def test_check_is_clean_under_the_recipe_that_was_written():
    model = gpt2()
    autoinit.autoinit(model, WORDS, recipe="gpt2", seed=0, verbose=False)
    assert [str(each) for each in autoinit.check(model, WORDS, recipe="gpt2").findings if each.severity != "info"] == []


def test_skipped_frozen_and_zero_parameters_stay():
    model = gpt2()
    model.wpe.weight.requires_grad_(False)
    nn.init.zeros_(model.blocks[1].mlp.c_proj.weight)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    made = autoinit.plan(model, WORDS, recipe="gpt2", skip=("blocks.0.*",))
    made.apply(model, 0)
    same = {name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])}
    kept = {"wpe.weight", "blocks.1.mlp.c_proj.weight", *(name for name in before if name.startswith("blocks.0."))}
    assert kept <= same
    notes = {each.name: each.note for each in made.others}
    assert notes["wpe.weight"] == "frozen: requires_grad is False"
    assert notes["blocks.0.ln_1.weight"] == "skip='blocks.0.*'"
    assert made["blocks.1.mlp.c_proj"].status == "kept"


def test_a_plan_that_does_not_fit_writes_nothing():
    model, other = gpt2(), GPT2(FlashAttention, NewGELU, width=128)
    before = [each.clone() for each in other.parameters()]
    with pytest.raises(PlanError, match=r"planned for shape"):
        autoinit.plan(model, WORDS, recipe="gpt2").apply(other, 0)
    assert all(torch.equal(*pair) for pair in zip(before, other.parameters(), strict=True))


def test_reports_say_what_else_is_written():
    text = str(autoinit.report(gpt2(), WORDS, recipe="gpt2"))
    assert "recipe gpt2" in text
    tables = "embedding 1 (normal of std 0.02), position 1 (normal of std 0.02)"
    rest = f"{tables}, norm gain 5 (1), norm shift 5 (0), bias 8 (0)"
    assert f"By the recipe, too: {rest}." in " ".join(text.split())


FACTORY = """
from torch import nn
def build():
    return nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.Linear(64, 4))
"""


def test_commands_write_and_document_recipes(tmp_path: Path):
    (tmp_path / "net.py").write_text(FACTORY)
    run = CliRunner()
    out = str(tmp_path / "out.safetensors")
    made = run.invoke(
        main, ["apply", f"{tmp_path / 'net.py'}:build", "--recipe", "gpt2(0.05)", "--seed", "0", "-o", out]
    )
    assert made.exit_code == 0, made.output
    from safetensors.torch import load_file

    assert load_file(out)["0.weight"].std().item() == pytest.approx(0.05, rel=5 / math.sqrt(2 * 64 * 64))
    assert "Radford et al. 2019" in run.invoke(main, ["recipes"]).output
    assert "Argument: `std`" in run.invoke(main, ["explain", "gpt2"]).output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpt9", "no recipe 'gpt9'; did you mean gpt2"),
        ("gpt2(", "expected a name such as gpt2"),
        ("gpt2(*[1])", "expected a name such as gpt2"),
        ("gpt2(**{})", "expected a name such as gpt2"),
        ("gpt2(open('x'))", "expected a name such as gpt2"),
        ("gpt2.std", "expected a name such as gpt2"),
        ("gpt2(1, 2)", r"too many positional arguments; expected gpt2\(std=0.02\)"),
        ("gpt2(s=1)", r"unexpected keyword argument 's'; expected gpt2\(std=0.02\)"),
        ("gpt2(0)", "std=0; expected a positive number"),
        ("gpt2(True)", "std=True; expected a positive number"),
        ("gpt2(1e999)", "std=inf; expected a positive number"),
        ("x" * 300, "300 characters; expected a name such as gpt2"),
    ],
)
def test_wrong_declarations_are_one_line(text: str, message: str):
    with pytest.raises(ArgumentError, match=message) as caught:
        declared(text)
    assert "\n" not in str(caught.value)


@pytest.fixture
def user_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.table()
    monkeypatch.setattr(registry, "_found", dict(registry._found))


@pytest.mark.usefixtures("user_recipes")
def test_a_user_registers_a_function():
    @register_recipe("ours", source="a test")
    def ours(facts: Facts, std: float = 0.5) -> Start | None:
        """Heads alone, and biases at 2."""
        if facts.kind == "bias":
            return constant(2.0)
        return normal(std) if facts.is_head else None

    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    before = model[0].weight.clone()
    report = autoinit.autoinit(model, recipe="ours(std=0.25)", seed=0, verbose=False)
    assert report.plan.recipe == "ours(std=0.25)"
    assert torch.equal(before, model[0].weight)
    assert report.plan["0"].note == "the recipe ours(std=0.25) says nothing of it"
    assert model[2].weight.std().item() == pytest.approx(0.25, rel=5 / math.sqrt(2 * 64 * 64))
    assert bool((model[0].bias == 2).all())
    with pytest.raises(RegistrationError, match="recipe ours: the name belongs to one already"):
        register_recipe("ours", source="again")(ours)
    with pytest.raises(RegistrationError, match="recipe theirs has no source"):
        register_recipe("theirs", source="")(ours)
    with pytest.raises(RegistrationError, match="recipe 'auto': expected lower-case letters"):
        register_recipe("auto", source="a test")(ours)


@pytest.mark.usefixtures("user_recipes")
def test_a_function_that_gives_no_start_is_refused():
    @register_recipe("odd", source="a test")
    def odd(_: Facts) -> Start | None:
        """A number in place of a distribution."""
        return 0.02  # type: ignore[return-value]

    with pytest.raises(ArgumentError, match=r"recipe odd: weight got 0.02; expected a Start"):
        autoinit.plan(nn.Linear(4, 4, bias=False), recipe="odd")
