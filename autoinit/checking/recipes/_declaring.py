"""Recipes by name: `gpt2`, `normal(0.02)`, `kaiming(fan_out, relu)`."""

from __future__ import annotations

import difflib
import re

from autoinit.checking.recipes._published import Published
from autoinit.checking.recipes.initialisers import INITIALISERS
from autoinit.checking.recipes.models import MODELS
from autoinit.errors import ArgumentError

_FORM = re.compile(r"\s*([A-Za-z]\w*)\s*(?:\((.*)\))?\s*")


def names() -> tuple[str, ...]:
    """Every name that can be declared, without arguments."""
    return (*INITIALISERS, *(each.name for each in MODELS))


def example(name: str) -> str:
    """How a recipe is declared: its name, with arguments where it takes some."""
    return INITIALISERS[name].example if name in INITIALISERS else name


def declared(text: str) -> Published:
    """The recipe that a text names: `gpt2`, `xavier`, `trunc_normal(0.02)`, `kaiming(fan_out, relu)`.

    Raises:
        ArgumentError: there is no such recipe, or it takes other arguments.
    """
    form = _FORM.fullmatch(text)
    name = form[1].lower() if form else text.strip()
    arguments = tuple(each.strip() for each in form[2].split(",")) if form and form[2] and form[2].strip() else ()
    if form and name in INITIALISERS:
        return INITIALISERS[name].make(arguments)
    for each in MODELS:
        if form and each.name == name:
            if arguments:
                raise ArgumentError(f"recipe {text!r}: {name} takes no arguments")
            return each
    raise ArgumentError(_unknown(text, name))


def _unknown(text: str, name: str) -> str:
    close = difflib.get_close_matches(name.partition("(")[0].lower(), names(), n=2)
    hint = f"did you mean {' or '.join(map(example, close))}? " if close else ""
    return f"no recipe {text!r}; {hint}Known are {', '.join(map(example, names()))}."
