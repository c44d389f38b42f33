"""Text inside Markdown: escaped in this one place."""

from __future__ import annotations

import re

from autoinit._escaping import visible

_SIGNS = re.compile(r"([\\`*\[\]~#!]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
_CODE = re.compile(r"(`[^` ][^`]*`)")
_ADDRESS = re.compile(r"\b(https?|ftp)://|\bwww\.", re.IGNORECASE)
_BAR = r"\|"


def code(text: str) -> str:
    """A code span that holds any text."""
    text = visible(" ".join(text.split()))
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def prose(text: str) -> str:
    """Text on one line: its code spans stay, all else that Markdown would read as a sign is escaped.

    Where several backticks stand together a name has some, and none of them opens a span.
    """
    text = " ".join(text.split())
    if "``" in text:
        return _escaped(text)
    pieces = _CODE.split(text)
    return "".join(code(piece[1:-1]) if index % 2 else _escaped(piece) for index, piece in enumerate(pieces))


def cell(text: str) -> str:
    """What `code` or `prose` made, in a table."""
    return text.replace("|", _BAR)


def _escaped(text: str) -> str:
    """The text without signs, tags, mentions of people, and addresses that become links."""
    signs = _SIGNS.sub(r"\\\1", visible(text))
    signs = signs.replace("&", "&amp;").replace("<", "&lt;").replace("@", "&#64;")
    return _ADDRESS.sub(lambda found: found[0].replace(":", "&#58;").replace(".", "&#46;"), signs)
