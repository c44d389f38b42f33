"""CONTRIBUTING.md, read as what it promises."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).parents[2]
_ROW = re.compile(r"^\| an? ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


def guide() -> dict[str, tuple[str, str]]:
    """What may be added, and for each where to edit and where to test."""
    return {what: (edit, test) for what, edit, test in _ROW.findall((ROOT / "CONTRIBUTING.md").read_text("utf-8"))}


def paths(text: str) -> list[str]:
    """The files that a cell names; `*` stands for any."""
    return re.findall(r"`((?:autoinit|tests|docs)/[\w*/.]+)`", text)


def promised(what: str, touched: list[str]) -> bool:
    """Whether the guide names every file that was touched to add something."""
    return all(any(fnmatchcase(file, pattern) for pattern in paths(guide()[what][0])) for file in touched)
