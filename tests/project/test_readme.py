"""README.md says what is so: its blocks run, in order, and print what stands below them; its tables hold.

`python -m tests.test_readme` writes what they print into it anew; read the difference before it is kept.
"""

import contextlib
import difflib
import inspect
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

import autoinit
from autoinit import cli
from autoinit.checking import configuration
from autoinit.checking.recipes import names
from autoinit.checking.recipes.models import MODELS
from autoinit.checking.rules.registry import rules
from autoinit.formats import FORMATS
from autoinit.ops import REGISTRY, Role

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE_NAME = re.compile(r"# (\w+\.(?:py|toml))\n")
_COMMAND = re.compile(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
_DURATION = re.compile(r"\b\d+(\.\d)? m?s$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block. shown: the text of the `text` block that follows it, if one does."""

    language: str
    text: str
    line: int
    shown: str | None


def blocks() -> list[Block]:
    found = list(_FENCE.finditer(TEXT))
    after = [*found[1:], None]
    return [
        Block(
            match[1],
            match[2],
            TEXT.count("\n", 0, match.start()) + 1,
            following[2] if following is not None and following[1] == "text" else None,
        )
        for match, following in zip(found, after, strict=True)
    ]


def section(title: str) -> str:
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def table(head: str) -> list[list[str]]:
    """The cells, row by row, of the table whose head begins with this one."""
    found = re.search(rf"^\| {head} \|.*\n\|[-:|]+\n((?:\|.*\n)+)", TEXT, re.MULTILINE)
    assert found is not None, f"README has no table that begins with {head!r}"
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in found[1].splitlines()]


@pytest.fixture
def apart(tmp_path, monkeypatch):
    """An empty directory, no terminal, and operations and random state that the rest of the tests do not see."""
    monkeypatch.chdir(tmp_path)
    for name in ("COLUMNS", "FORCE_COLOR", "AUTOINIT_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    for tables in ("specs", "_modules", "_functions", "_names"):
        monkeypatch.setattr(REGISTRY, tables, dict(getattr(REGISTRY, tables)))
    monkeypatch.syspath_prepend(tmp_path)
    with torch.random.fork_rng(devices=[]):
        yield tmp_path
    for module in ("nets", "fixed"):
        sys.modules.pop(module, None)


def run_command(command: str) -> tuple[str, int]:
    """What `autoinit ...` prints on both streams, and its exit status."""
    printed = io.StringIO()
    status = 0
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            cli.main(shlex.split(command)[1:], prog_name="autoinit")
        except SystemExit as end:
            status = int(end.code or 0)
    return printed.getvalue(), status


def run_commands(text: str) -> Iterator[tuple[str, str]]:
    """Runs a `console` block; yields what is shown below each command and what it printed.

    Commands must succeed; where one does not, `echo $?` must show it.
    """
    commands = _COMMAND.findall(text)
    after = [*commands[1:], ("", "")]
    printed, status = "", 0
    for (command, shown), (following, _) in zip(commands, after, strict=True):
        if command == "echo $?":
            yield shown, f"{status}\n"
            continue
        assert command.startswith("autoinit "), command
        printed, status = run_command(command)
        assert status == 0 or following == "echo $?", f"{command}: {printed}"
        yield shown, printed


def play(directory: Path) -> Iterator[tuple[Block, str | None, str]]:
    """Runs every block; yields it, what is shown as its output or that of one of its commands, and what it printed."""
    namespace: dict[str, object] = {"__name__": "readme"}
    for block in blocks():
        name = _FILE_NAME.match(block.text)
        if name:
            (directory / name[1]).write_text(block.text, encoding="utf-8")
        if block.language == "python":
            printed = io.StringIO()
            code = compile("\n" * block.line + block.text, str(ROOT / "README.md"), "exec")
            with contextlib.redirect_stdout(printed):
                exec(code, namespace)
            yield block, block.shown, printed.getvalue()
        elif block.language == "console":
            for shown, output in run_commands(block.text):
                yield block, shown or None, output


def comparable(text: str) -> list[str]:
    return [line.rstrip() for line in _DURATION.sub("TIME", text).splitlines()]


def test_every_block_runs_and_prints_what_is_shown(apart):
    played = list(play(apart))
    differences = [
        "\n".join(difflib.unified_diff(comparable(shown), comparable(printed), f"README.md:{block.line}", "printed"))
        for block, shown, printed in played
        if shown is not None and comparable(shown) != comparable(printed)
    ]
    assert not differences, "\n\n".join(differences)
    assert sum(shown is not None for _, shown, _ in played) >= 8


def test_every_block_is_of_a_kind_that_is_tested():
    assert {block.language for block in blocks()} == {"python", "text", "console", "sh", "toml", "yaml"}
    before = [block.language for block in blocks()]
    assert all(before[at - 1] == "python" for at, language in enumerate(before) if language == "text")


def test_set_up_is_two_commands_of_one_line_each_under_the_constraints():
    commands = re.findall(r"^```sh\n(.*?)^```$", section("Set up"), re.MULTILINE | re.DOTALL)
    assert len(commands) == 2
    for command in commands:
        assert command.count("\n") == 1
        assert "python3 -m venv .venv" in command
        assert "-c constraints.txt" in command
    assert "autoinit demo" in commands[0]
    assert "[test,dev]" in commands[1]
    assert "pytest" in commands[1]
    assert TEXT.count("```sh\n") == 2


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


FANS = {row[0]: row for row in table("layer")}


@pytest.mark.parametrize("layer", FANS)
def test_fan_table(layer):
    code = re.match(r"`(.+?)`", layer)
    module = Product(512, 128) if layer.startswith("`x @ W`") else eval(code[1], {"nn": nn})
    planned = next(iter(autoinit.plan(Called(module)).values()))
    part = planned.slices[0] if planned.slices else planned
    weight = dict(module.named_parameters())[planned.param.removeprefix("layer.")]
    torchs = nn.init._calculate_fan_in_and_fan_out(weight)
    assert [int(cell) for cell in FANS[layer][1:5]] == [part.fan_in, part.fan_out, *torchs]


@pytest.mark.parametrize(("name", "shown"), table("nonlinearity"))
def test_gain_table(name, shown):
    assert f"{autoinit.gain(name.strip('`')):.4f}" == shown


def test_role_table_names_every_role_that_a_walk_can_meet():
    assert {row[0] for row in table("role")} == {str(role) for role in Role} - {"source", "unknown"}


def test_argument_table_names_every_argument_of_plan():
    named = {name for row in table("argument") for name in re.findall(r"`(\w+)`", row[0])}
    assert named == set(inspect.signature(autoinit.plan).parameters) - {"model"}


def test_links_lead_somewhere():
    links = set(re.findall(r"\]\(([^)]+)\)", TEXT))
    assert links
    titles = {f"#{title.lower().replace(' ', '-')}" for title in re.findall(r"^##+ (.+)$", TEXT, re.MULTILINE)}
    assert all(link in titles if link.startswith("#") else (ROOT / link).exists() for link in links)


def test_rule_table_is_the_table_of_rules():
    assert table("code") == [[rule.code, rule.name, rule.severity] for rule in rules().values()]


def test_recipe_table_names_every_recipe():
    rows = {row[0].strip("`"): row[2] for row in table("recipe")}
    assert tuple(rows) == names()
    assert {name for name, known in rows.items() if known} == {each.name for each in MODELS if each.trait is not None}


def test_format_table_is_the_table_of_formats():
    assert table("format") == [[f"`{name}`", form.help] for name, form in FORMATS["check"].items()]


OPTIONS = {option for parameter in cli.main.commands["check"].params for option in parameter.opts}


def test_key_table_names_every_key_and_its_option():
    rows = table("key")
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


YAML = [block for block in blocks() if block.language == "yaml"]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("block", YAML, ids=lambda block: f"line {block.line}")
def test_workflows_give_options_and_inputs_that_exist(block):
    document = yaml.safe_load(block.text)
    commands = [text for text in strings(document) if text.startswith("autoinit ")]
    for command in commands:
        cli.main.commands["check"].make_context("check", shlex.split(command)[2:])
    steps = [step for step in document.get("steps", ()) if step.get("uses", "").startswith("OWNER/")]
    for step in steps:
        assert set(step["with"]) <= set(ACTION["inputs"])
        for argument in step["with"]["args"].splitlines():
            assert argument.partition("=")[0] in OPTIONS
    assert commands or steps


def test_the_test_that_is_shown_passes(apart, assert_well_initialized):
    files = {name[1]: block.text for block in blocks() if (name := _FILE_NAME.match(block.text))}
    for name in ("nets.py", "fixed.py"):
        (apart / name).write_text(files[name], encoding="utf-8")
    namespace: dict[str, object] = {"__name__": "test_nets"}
    exec(files["test_nets.py"], namespace)
    namespace["test_initialization"](assert_well_initialized)


def rewritten(directory: Path) -> str:
    """README.md with what its blocks print now. Where only times differ it stays."""
    text = TEXT
    for block, shown, printed in play(directory):
        if shown is None or comparable(shown) == comparable(printed):
            continue
        at = text.index(shown, text.index(block.text.partition(shown)[0]))
        text = text[:at] + printed + text[at + len(shown) :]
    return text


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        sys.path.insert(0, place)
        (ROOT / "README.md").write_text(rewritten(Path(place)), encoding="utf-8")
        os.chdir(ROOT)
