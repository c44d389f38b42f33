"""The examples of README.md and of the manual's pages: blocks that run, and what stands below them.

A page runs by itself: in an empty directory, in order, in one namespace. A block that begins with `# NAME.py` or
`# NAME.toml` is such a file as well.

`python -m tests.project.examples PAGE...` writes what they print into pages anew; read the difference.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autoinit import cli

ROOT = Path(__file__).parents[2]
PAGES = {"README.md": ROOT / "README.md"} | {path.name: path for path in sorted((ROOT / "docs").glob("*.md"))}

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE_NAME = re.compile(r"# (\w+\.(?:py|toml))\n")
_COMMAND = re.compile(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
_DURATION = re.compile(r" +\d+(\.\d)? m?s(?=$|  )", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block. shown: the text of the `text` block that follows it, if one does."""

    page: str
    language: str
    text: str
    line: int
    shown: str | None

    @property
    def file(self) -> str | None:
        """The name of the file that it is, if it is one."""
        name = _FILE_NAME.match(self.text)
        return name[1] if name else None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def read(page: str) -> str:
    """The text of a page."""
    return PAGES[page].read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page."""
    text = read(page)
    found = list(_FENCE.finditer(text))
    after = [*found[1:], None][: len(found)]
    return [
        Block(
            page,
            match[1],
            match[2],
            text.count("\n", 0, match.start()) + 1,
            following[2] if following is not None and following[1] == "text" else None,
        )
        for match, following in zip(found, after, strict=True)
    ]


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


def play(page: str, directory: Path) -> Iterator[tuple[Block, str | None, str]]:
    """Runs every block; yields it, what is shown as its output or that of one of its commands, and what it printed."""
    namespace: dict[str, object] = {"__name__": "manual"}
    for block in blocks(page):
        if block.file:
            (directory / block.file).write_text(block.text, encoding="utf-8")
        if block.language == "python":
            printed = io.StringIO()
            code = compile("\n" * block.line + block.text, str(PAGES[page]), "exec")
            with contextlib.redirect_stdout(printed):
                exec(code, namespace)
            yield block, block.shown, printed.getvalue()
        elif block.language == "console":
            for shown, output in run_commands(block.text):
                yield block, shown or None, output


def comparable(text: str) -> list[str]:
    """The lines of an output without what differs from run to run."""
    return [line.rstrip() for line in _DURATION.sub(" TIME", text).splitlines()]


def rewritten(page: str, directory: Path) -> str:
    """A page with what its blocks print now. Where only times differ it stays."""
    text = read(page)
    for block, shown, printed in play(page, directory):
        if shown is None or comparable(shown) == comparable(printed):
            continue
        at = text.index(shown, text.index(block.text.partition(shown)[0]))
        text = text[:at] + printed + text[at + len(shown) :]
    return text


def _rewrite(page: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        sys.path.insert(0, place)
        text = rewritten(page, Path(place))
        PAGES[page].write_text(text, encoding="utf-8")
        os.chdir(ROOT)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        _rewrite(name)
