"""README.md says what is so: its blocks run, in order, and print what stands below them; its tables hold."""

import contextlib
import difflib
import inspect
import io
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

import autoinit
from autoinit import cli
from autoinit.ops import REGISTRY, Role

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE_NAME = re.compile(r"# (\w+\.py)\n")
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
    with torch.random.fork_rng(devices=[]):
        yield tmp_path


def run_command(command: str) -> str:
    """What `autoinit ...` prints on both streams; it must succeed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            cli.main(shlex.split(command)[1:], prog_name="autoinit")
        except SystemExit as end:
            assert end.code == 0, f"{command}: {printed.getvalue()}"  # noqa: PT017 - its absence is no error
    return printed.getvalue()


def play(directory: Path) -> Iterator[tuple[int, str | None, str]]:
    """Runs every block; yields its line, what is shown as its output, and what it printed."""
    namespace: dict[str, object] = {"__name__": "readme"}
    for block in blocks():
        if block.language == "python":
            name = _FILE_NAME.match(block.text)
            if name:
                (directory / name[1]).write_text(block.text, encoding="utf-8")
            printed = io.StringIO()
            code = compile("\n" * block.line + block.text, str(ROOT / "README.md"), "exec")
            with contextlib.redirect_stdout(printed):
                exec(code, namespace)
            yield block.line, block.shown, printed.getvalue()
        elif block.language == "console":
            for command, shown in _COMMAND.findall(block.text):
                assert command.startswith("autoinit "), command
                yield block.line, shown or None, run_command(command)


def comparable(text: str) -> list[str]:
    return [line.rstrip() for line in _DURATION.sub("TIME", text).splitlines()]


def test_every_block_runs_and_prints_what_is_shown(apart):
    played = list(play(apart))
    differences = [
        "\n".join(difflib.unified_diff(comparable(shown), comparable(printed), f"README.md:{line}", "printed"))
        for line, shown, printed in played
        if shown is not None and comparable(shown) != comparable(printed)
    ]
    assert not differences, "\n\n".join(differences)
    assert sum(shown is not None for _, shown, _ in played) >= 8


def test_every_block_is_of_a_kind_that_is_tested():
    assert {block.language for block in blocks()} == {"python", "text", "console", "sh"}
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
    assert named == set(inspect.signature(autoinit.plan).parameters) - {"model", "method"}


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert links
    assert all((ROOT / link).exists() for link in links)
