"""README.md and the manual say what is so: blocks run and print what stands below them, tables hold, links lead on."""

import difflib
import re
import shlex
import sys
from collections.abc import Iterator

import pytest
import torch
import yaml
from torch import nn

import autoinit
from autoinit import cli, recipes
from autoinit.checking import configuration
from autoinit.checking.rules.registry import rules
from autoinit.ops import REGISTRY, Role
from tests.project.examples import PAGES, ROOT, Block, blocks, comparable, play, read

EVERY_BLOCK = [block for page in PAGES for block in blocks(page)]


def table(page: str, head: str) -> list[list[str]]:
    """The cells, row by row, of the table whose head begins with this one."""
    found = re.search(rf"^\| {head} \|.*\n\|[-:|]+\n((?:\|.*\n)+)", read(page), re.MULTILINE)
    assert found is not None, f"{page} has no table that begins with {head!r}"
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in found[1].splitlines()]


@pytest.fixture
def apart(tmp_path, monkeypatch):
    """An empty directory, no terminal; operations, recipes and random state that the rest of the tests do not see."""
    monkeypatch.chdir(tmp_path)
    for name in ("COLUMNS", "FORCE_COLOR", "AUTOINIT_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    for tables in ("specs", "_modules", "_functions", "_names"):
        monkeypatch.setattr(REGISTRY, tables, dict(getattr(REGISTRY, tables)))
    monkeypatch.setattr("autoinit.recipes.registry._found", dict(recipes.table()))
    monkeypatch.syspath_prepend(tmp_path)
    with torch.random.fork_rng(devices=[]):
        yield tmp_path
    for module in {block.file.removesuffix(".py") for block in EVERY_BLOCK if block.file}:
        sys.modules.pop(module, None)


@pytest.mark.parametrize(
    "page", sorted({block.page for block in EVERY_BLOCK if block.language in ("python", "console")})
)
def test_every_block_runs_and_prints_what_is_shown(page, apart):
    differences = [
        "\n".join(difflib.unified_diff(comparable(shown), comparable(printed), str(block), "printed"))
        for block, shown, printed in play(page, apart)
        if shown is not None and comparable(shown) != comparable(printed)
    ]
    assert not differences, "\n\n".join(differences)


def test_many_blocks_show_what_they_print():
    assert sum(block.shown is not None or "\n$ " in f"\n{block.text}" for block in EVERY_BLOCK) >= 15


def test_every_block_is_of_a_kind_that_is_tested():
    assert {block.language for block in EVERY_BLOCK} == {"python", "text", "console", "sh", "toml", "yaml"}
    for page in PAGES:
        before = [block.language for block in blocks(page)]
        assert all(before[at - 1] == "python" for at, language in enumerate(before) if language == "text")


def test_readme_is_short():
    assert len(read("README.md").splitlines()) <= 250


def test_set_up_is_two_commands_of_one_line_each_under_the_constraints():
    section = read("README.md").partition("\n## Set up\n")[2].partition("\n## ")[0]
    commands = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert len(commands) == 2
    for command in commands:
        assert command.count("\n") == 1
        assert "python3 -m venv .venv" in command
        assert "-c constraints.txt" in command
    assert "autoinit demo" in commands[0]
    assert "[test,dev]" in commands[1]
    assert "pytest" in commands[1]
    assert read("README.md").count("```sh\n") == 2


class Called(nn.Module):
    """Calls the layer as it wants to be called."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x, x, x)[0] if isinstance(self.layer, nn.MultiheadAttention) else self.layer(x)


class Product(nn.Module):
    def __init__(self, *shape):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(*shape))

    def forward(self, x):
        return x @ self.weight


FANS = {row[0]: row for row in table("how-it-decides.md", "layer")}


@pytest.mark.parametrize("layer", FANS)
def test_fan_table(layer):
    code = re.match(r"`(.+?)`", layer)
    module = Product(512, 128) if layer.startswith("`x @ W`") else eval(code[1], {"nn": nn})
    planned = next(iter(autoinit.plan(Called(module)).values()))
    part = planned.slices[0] if planned.slices else planned
    weight = dict(module.named_parameters())[planned.param.removeprefix("layer.")]
    torchs = nn.init._calculate_fan_in_and_fan_out(weight)
    assert [int(cell) for cell in FANS[layer][1:5]] == [part.fan_in, part.fan_out, *torchs]


def test_role_table_names_every_role_that_a_walk_can_meet():
    assert {row[0] for row in table("how-it-decides.md", "role")} == {str(role) for role in Role} - {
        "source",
        "unknown",
    }


def test_reason_table_names_every_reason():
    rows = table("how-it-decides.md", "reason")
    assert sorted(row[0].strip("`") for row in rows) == sorted(str(reason) for reason in autoinit.Reason)


def test_every_group_of_rules_is_told():
    assert [row[0] for row in table("rules.md", "codes")] == sorted({f"{code[:5]}x" for code in rules()})


def test_links_of_readme_lead_to_files():
    """It is read where there is no site, so a link goes to a file of the repository or to a heading of its own."""
    text = read("README.md")
    links = set(re.findall(r"\]\(([^)]+)\)", text))
    titles = {f"#{title.lower().replace(' ', '-')}" for title in re.findall(r"^##+ (.+)$", text, re.MULTILINE)}
    assert links
    assert all(link in titles if link.startswith("#") else (ROOT / link).exists() for link in links)


OPTIONS = {option for parameter in cli.main.commands["check"].params for option in parameter.opts}


def test_key_table_names_every_key_and_its_option():
    rows = table("checking.md", "key")
    assert [name for row in rows for name in re.findall(r"`([\w-]+)`", row[0])] == list(configuration._KEYS)
    inner = {row[0].strip("`"): set(re.findall(r"`([\w-]+)`", row[1])) for row in rows}
    assert inner["models"] == set(configuration._MODEL_KEYS)
    assert inner["ignores"] == set(configuration._IGNORE_KEYS)
    assert {option for row in rows for option in re.findall(r"--[a-z-]+", row[2])} <= OPTIONS


def strings(value: object) -> Iterator[str]:
    """Every string in a YAML document."""
    if isinstance(value, dict):
        value = [*value.values()]
    for each in value if isinstance(value, list) else ():
        yield from strings(each)
    if isinstance(value, str):
        yield value


YAML = [block for block in EVERY_BLOCK if block.language == "yaml"]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("block", YAML, ids=str)
def test_workflows_give_options_and_inputs_that_exist(block: Block):
    document = yaml.safe_load(block.text)
    commands = [text for text in strings(document) if text.startswith("autoinit ")]
    for command in commands:
        cli.main.commands["check"].make_context("check", shlex.split(command)[2:])
    jobs = document.get("jobs", {}).values()
    steps = [step for job in jobs for step in job["steps"] if step.get("uses", "").startswith("OWNER/")]
    for step in steps:
        assert set(step["with"]) <= set(ACTION["inputs"])
        for argument in step["with"]["args"].splitlines():
            assert argument.partition("=")[0] in OPTIONS
    assert commands or steps


def test_the_test_that_is_shown_passes(apart, assert_well_initialized):
    files = {block.file: block.text for block in blocks("checking.md") if block.file}
    for name in ("nets.py", "fixed.py"):
        (apart / name).write_text(files[name], encoding="utf-8")
    namespace: dict[str, object] = {"__name__": "test_nets"}
    exec(files["test_nets.py"], namespace)
    namespace["test_initialization"](assert_well_initialized)
