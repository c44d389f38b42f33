"""Docstrings as mkdocstrings must read them: their own, and one name an entry."""

from __future__ import annotations

import inspect
import re
from typing import Any

import griffe

_SEVERAL = re.compile(r"^( +)(\w+(?:, \w+)+): (.*(?:\n\1 +.*)*)", re.MULTILINE)
"""An entry of Args or Attributes that stands for several names: `groups, stride_area: of a convolution`."""


class Docstrings(griffe.Extension):
    """Values have no docstring of their type; `a, b: text` is an entry for a and one for b."""

    def on_attribute_instance(self, *, node: Any, attr: griffe.Attribute, **_: Any) -> None:
        """What inspection finds at a value is what its class says: `str` says what a string is."""
        value = getattr(node, "obj", None)
        if attr.docstring is not None and attr.docstring.value == inspect.getdoc(type(value)):
            attr.docstring = None

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Entries for several names are taken apart."""
        if obj.docstring is not None:
            obj.docstring.value = _SEVERAL.sub(_apart, obj.docstring.value)


def _apart(entry: re.Match[str]) -> str:
    return "\n".join(f"{entry[1]}{name}: {entry[3]}" for name in entry[2].split(", "))
