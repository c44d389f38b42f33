"""Names as people see them: no character of a name does anything to a terminal or a log."""

from __future__ import annotations

_PICTURES = {**{code: chr(0x2400 + code) for code in range(32)}, 127: "\u2421"}
"""Unicode's own pictures of the control characters."""
_COMMANDS = {":": "\ua789", "#": "\uff03"}
"""Letters that look like the first of `::error` and `##[group]`, which CI systems obey at the start of a line."""


def visible(text: str) -> str:
    """The text with a sign in place of each character that is not one: controls, newlines, marks of direction.

    It keeps its length, so that styles and columns stay in place.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _PICTURES.get(ord(each), "\ufffd") for each in text)


def log_line(text: str) -> str:
    """A line for a terminal or a log: visible, and no command of a CI system."""
    shown = visible(text)
    start = shown.lstrip(" ")
    if not start.startswith(("::", "##")):
        return shown
    at = len(shown) - len(start)
    return shown[:at] + _COMMANDS[start[0]] + shown[at + 1 :]
