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


class Attending(nn.Module):
    """One attention of 8 features and 2 heads, whose projections of queries, keys and values are one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.attention(x, x, x)[0])


def test_a_weight_whose_rows_start_apart_has_their_root_mean_square():
    """T5: queries have the variance 1 / (8 * 4), keys and values 1 / 8 (Raffel et al. 2020)."""
    layer = autoinit.plan(Attending(), torch.zeros(2, 5, 8), recipe="t5")["attention.in_proj_weight"]
    assert [part.std for part in layer.slices] == pytest.approx([32**-0.5, 8**-0.5, 8**-0.5])
    assert layer.std == pytest.approx(math.sqrt((1 / 32 + 2 / 8) / 3))


@pytest.mark.usefixtures("user_recipes")
def test_a_weight_of_several_distributions_or_of_a_mean_is_refused():
    @register_recipe("queries", source="a test")
    def queries(facts: Facts) -> Start | None:
        """Nothing for keys and values."""
        return normal(0.5) if facts.rows in ((), ((0, 8),)) else None

    @register_recipe("twos", source="a test")
    def twos(facts: Facts) -> Start | None:
        """All at 2."""
        return constant(2.0)

    rows = r"rows \(\(0, 8\),\): .*0\.5.*; rows \(\(8, 16\),\): nothing; rows \(\(16, 24\),\): nothing\. Expected one"
    with pytest.raises(ArgumentError, match=f"attention.in_proj_(weight|bias) would get {rows}"):
        autoinit.plan(Attending(), torch.zeros(2, 5, 8), recipe="queries")
    with pytest.raises(ArgumentError, match=r"would get rows all: .*2.* Expected one distribution of mean 0 for all"):
        autoinit.plan(nn.Linear(4, 4), recipe="twos")


@pytest.mark.parametrize("blocks", [1, 2])
def test_a_plan_says_which_weights_end_which_of_several_branches(blocks: int):
    class Stream(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.ends = nn.Embedding(9, 8), nn.ModuleList(nn.Linear(8, 8) for _ in range(blocks))
            self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 9, bias=False)
            self.head.weight = self.words.weight

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            h = self.words(ids)
            for end in self.ends:
                h = h + end(torch.relu(self.norm(h)))
            return self.head(self.norm(h))

    made = autoinit.plan(Stream(), torch.zeros(2, 5, dtype=torch.long), recipe="gpt2")
    said = [made[f"ends.{at}"].note for at in range(blocks)]
    assert said == ([""] if blocks == 1 else ["ends branch 1 of 2", "ends branch 2 of 2"])
    assert [each.note for each in made.layers if each.param == "words.weight"] == [
        "tied to an embedding, whose table it is too"
    ]


@pytest.mark.usefixtures("user_recipes")
def test_a_function_that_gives_no_start_is_refused():
    @register_recipe("odd", source="a test")
    def odd(_: Facts) -> Start | None:
        """A number in place of a distribution."""
        return 0.02  # type: ignore[return-value]

    with pytest.raises(ArgumentError, match=r"recipe odd: weight got 0.02; expected a Start"):
        autoinit.plan(nn.Linear(4, 4, bias=False), recipe="odd")
