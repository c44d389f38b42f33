"""Docstrings as mkdocstrings must read them: their own, one name an entry, and what bases say of their attributes."""

from __future__ import annotations

import inspect
import re
from typing import Any

import griffe

_SEVERAL = re.compile(r"^( +)(\w+(?:, \w+)+): (.*(?:\n\1 +.*)*)", re.MULTILINE)
"""An entry of Args or Attributes that stands for several names: `groups, stride_area: of a convolution`."""
_ATTRIBUTES = "Attributes:\n"


class Docstrings(griffe.Extension):
    """Values have no docstring of their type; `a, b: text` is an entry for a and one for b."""

    def on_attribute_instance(self, *, node: Any, attr: griffe.Attribute, **_: Any) -> None:
        """What inspection finds at a value is what its class says: `str` says what a string is."""
        value = getattr(node, "obj", None)
        if attr.docstring is not None and attr.docstring.value == inspect.getdoc(type(value)):
            attr.docstring = None

    def on_instance(self, *, node: Any, obj: griffe.Object, **_: Any) -> None:
        """Entries for several names are taken apart, and attributes of bases stand with the class."""
        if obj.docstring is not None:
            above = _of_bases(node.obj) if obj.is_class and hasattr(node, "obj") else ""
            text = obj.docstring.value
            if above and _ATTRIBUTES not in text:
                text += f"\n\n{_ATTRIBUTES}"
            obj.docstring.value = _SEVERAL.sub(_apart, text.replace(_ATTRIBUTES, _ATTRIBUTES + above, 1))


def _of_bases(cls: type) -> str:
    """The entries of Attributes of a class's bases in this package, the last base first, as dataclasses have them."""
    texts = (
        inspect.getdoc(base) or "" for base in reversed(cls.__mro__[1:]) if base.__module__.startswith("autoinit.")
    )
    return "".join(f"{text.partition(_ATTRIBUTES)[2].rstrip()}\n" for text in texts if _ATTRIBUTES in text)


def _apart(entry: re.Match[str]) -> str:
    return "\n".join(f"{entry[1]}{name}: {entry[3]}" for name in entry[2].split(", "))
