"""Odd arguments, paths and configuration files: one line on standard error, exit status 2, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from autoinit.cli import main

NET = "from torch import nn\n\ndef build(width=8):\n    return nn.Sequential(nn.Linear(6, 8), nn.ReLU())\n"
COMMANDS = ("report", "check", "signal")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    Path("loop").symlink_to("loop")
    os.mkfifo("pipe")
    return tmp_path


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments), prog_name="autoinit")
    assert result.exit_code == 2, result.output
    assert result.stdout == "" or arguments[0] == "check", result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert "unexpected" not in result.stderr
    assert "please report" not in result.stderr
    return result.stderr.removeprefix("error: ").rstrip("\n")


OPTIONS = {
    "a size of 5,000 digits": (["--input-shape", "9" * 5000], "is not a shape like 1,3,224,224"),
    "a size of 10^13": (["--input-shape", "2,10000000000000"], "20,000,000,000,000 elements, expected up to 8,589"),
    "a quantised dtype": (["--input-shape", "2,6:qint8"], "'qint8' is no dtype of an input; expected one of float32"),
    "weights that are a loop": (["--weights", "loop"], "loop cannot be read: Too many levels of symbolic links"),
    "weights that are a pipe": (["--weights", "pipe"], "pipe is no regular file"),
    "weights of no name": (["--weights", "a\0b"], "a␀b cannot be read: "),
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", OPTIONS)
def test_options(here, command, option):
    given, said = OPTIONS[option]
    assert said in refused(command, "net.py:build", *given)


@pytest.mark.parametrize("text", ["-" * 20000, "(" * 20000, "9" * 20000, "[" * 500], ids=["minus", "(", "9", "["])
def test_arguments_that_are_no_literals_are_texts(here, text):
    """`--arg width=TEXT` reaches the factory, however odd."""
    result = CliRunner().invoke(main, ["report", "net.py:build", "--arg", f"width={text}"])
    assert result.exit_code == 0, result.output


SPECS = {
    ":": "a factory is named",
    "..:x": "importing .. failed",
    "a\0b.pt": "embedded null",
    "loop": "symbolic links",
}


@pytest.mark.parametrize("spec", SPECS)
def test_specs(here, spec):
    assert SPECS[spec] in refused("report", spec)


OUTPUTS = {"a\0b": "no name of a file holds a null byte", "x" * 300: "File name too long", "loop": "cannot be written"}


@pytest.mark.parametrize("output", OUTPUTS, ids=["null byte", "long", "loop"])
def test_outputs(here, output):
    assert OUTPUTS[output] in refused("report", "net.py:build", "-o", output)


def deep(path: Path) -> None:
    path.write_text("[tool.autoinit]\nselect = " + "[" * 20000 + "]" * 20000)


def latin(path: Path) -> None:
    path.write_bytes(b'[tool.autoinit]\nrecipe = "\xe9"\n')


CONFIGURATIONS: dict[str, tuple[Callable[[Path], None], str]] = {
    "nested deeply": (deep, "nested too deep"),
    "not UTF-8": (latin, "not TOML"),
    "a pipe": (lambda path: os.mkfifo(path), "no regular file; expected TOML"),
    "a folder": (lambda path: path.mkdir(), "cannot be read: Is a directory"),
    "a loop": (lambda path: path.symlink_to(path), "symbolic links"),
}


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_configurations(here, kind):
    make, said = CONFIGURATIONS[kind]
    make(here / "odd.toml")
    assert said in refused("check", "--config", "odd.toml")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: os.mkfifo(path), "no regular file; expected a baseline"),
        (lambda path: path.write_text("[" * 100_000), "not a baseline of autoinit"),
        (lambda path: path.write_text('{"version": 1, "entries": ' + "[" * 100_000), "not a baseline of autoinit"),
        (lambda path: path.write_bytes(b'{"version": "\xff"}'), "not a baseline of autoinit"),
    ],
    ids=["a pipe", "nested", "nested entries", "not UTF-8"],
)
def test_baselines(here, make, said):
    make(here / "odd.json")
    Path("pyproject.toml").write_text('[tool.autoinit]\nmodels = ["net.py:build"]\nbaseline = "odd.json"\n')
    assert said in refused("check")


def test_names_that_are_not_utf8_are_files_as_any(here):
    """Python holds such bytes as half characters; the file is written, and its name is told with a sign for each."""
    os.mkdir(b"d\xff")
    output = os.fsdecode(b"d\xff/r\xff.txt")
    result = CliRunner().invoke(main, ["report", "net.py:build", "-o", output])
    assert result.exit_code == 0, result.output
    assert "relu" in Path(output).read_text()
    assert "d\ufffd/m\ufffd.pt: no such file" in refused("report", os.fsdecode(b"d\xff/m\xff.pt"))


def test_standard_output_that_cannot_be_written_is_one_line(here):
    """A full disk behind `>`."""
    import subprocess
    import sys

    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "autoinit", "report", "net.py:build"],
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=120,
            check=False,
        )
    said = done.stderr.decode()
    assert said.splitlines()[0] == "error: the output cannot be written: No space left on device"
    assert done.returncode != 0


ENDS = """
import sys
from torch import nn


class Own(BaseException):
    pass


class Halt(KeyboardInterrupt):
    pass


class Mute(BaseException):
    def __str__(self):
        raise SystemExit(0)


class Speechless(Exception):
    def __str__(self):
        raise RuntimeError("again")


def raising(error):
    def build():
        raise error

    return build


own, halt, mute, leave = raising(Own("x")), raising(Halt("y")), raising(Mute()), raising(SystemExit(0))
stop = raising(KeyboardInterrupt())


class Forward(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)

    def forward(self, x):
        sys.exit(0)


class Foreign(Forward):
    def forward(self, x):
        raise Own("forward")


class Wordless(Forward):
    def forward(self, x):
        raise Speechless
"""


@pytest.mark.parametrize(("name", "said"), {
    "own": "calling ends.py:own failed at ends.py:26: Own: x",
    "halt": "calling ends.py:halt failed at ends.py:26: Halt: y",
    "mute": "calling ends.py:mute failed at ends.py:26: Mute",
    "leave": "calling ends.py:leave failed at ends.py:26: SystemExit: 0",
    "Forward": "the model's code ended the command at ends.py:40: SystemExit: 0",
    "Foreign": "the model's code ended the command at ends.py:45: Own: forward",
}.items())  # fmt: skip
@pytest.mark.parametrize("command", COMMANDS)
def test_code_that_raises_what_is_no_exception_fails_like_any_other(here, command, name, said):
    """sys.exit(0) in forward ended the command with status 0 and no word."""
    Path("ends.py").write_text(ENDS)
    if command == "check":
        result = CliRunner().invoke(main, ["check", f"ends.py:{name}"])
        assert result.exit_code == 2
        assert said.rpartition("ends.py:")[2].split(": ", 1)[1] in result.stderr
    else:
        assert said in refused(command, f"ends.py:{name}").replace(f"{here}/", "")


def test_an_interrupt_of_a_factory_stays_one(here):
    Path("ends.py").write_text(ENDS)
    result = CliRunner().invoke(main, ["report", "ends.py:stop"])
    assert (result.exit_code, result.stderr.strip()) == (130, "error: interrupted")


def test_an_error_that_cannot_say_itself(here):
    Path("ends.py").write_text(ENDS)
    result = CliRunner().invoke(main, ["report", "ends.py:Wordless"])
    assert result.exit_code == 2
    assert "Speechless at ends.py:50" in result.stderr.replace(f"{here}/", "")
    assert "unexpected" not in result.stderr
