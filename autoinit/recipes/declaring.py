"""Recipes as they are declared: `gpt2`, `trunc_normal(0.02)`, `kaiming(fan_out, relu)`, `llama(depth='layer')`."""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, get_args, get_origin

from autoinit.errors import ArgumentError
from autoinit.errors.arguments import require
from autoinit.errors.calling import calling
from autoinit.facts import Facts
from autoinit.recipes.registry import RecipeEntry, Rule, Stds, entry
from autoinit.recipes.starts import Start

_LONGEST = 200
"""Characters of a declaration."""


@dataclass(frozen=True)
class DeclaredRecipe:
    """A recipe with its arguments.

    Attributes:
        entry: of the table.
        text: as it was declared.
        rule, variants: the entry's, its arguments filled in.
    """

    entry: RecipeEntry
    text: str
    rule: Rule = field(repr=False, compare=False)
    variants: Stds | None = field(default=None, repr=False, compare=False)

    def start(self, facts: Facts) -> Start | None:
        """How a parameter starts; None where the recipe says nothing about it.

        Raises:
            ArgumentError: the rule gives something else.
            CallbackError: it fails.
        """
        with calling(f"recipe {self.text} for {facts.param}"):
            made = self.rule(facts)
        if made is not None and not isinstance(made, Start):
            raise ArgumentError(
                f"recipe {self.text}: {facts.param} got {made!r}; expected a Start (normal(0.02), constant(0)) or None"
            )
        return made

    def stds(self, facts: Facts) -> tuple[float, ...]:
        """Every std that is right for a weight: the recipe's first, and those of published code that differs."""
        made = self.start(facts)
        own = () if made is None or made.std == 0 else (made.std,)
        with calling(f"variants= of recipe {self.text} for {facts.param}"):
            return tuple(dict.fromkeys(own + (self.variants(facts) if self.variants is not None else ())))

    def bounds(self, facts: Facts) -> tuple[float, float] | None:
        """The least and the greatest std that are right, where the recipe fixes none."""
        within = self.entry.within
        with calling(f"within= of recipe {self.text} for {facts.param}"):
            return within(facts) if within is not None else None

    def __str__(self) -> str:
        return f"{self.text} ({self.entry.source})"


def declared(text: str) -> DeclaredRecipe:
    """The recipe that a text names. Its arguments are literals; words may stand without quotes.

    Raises:
        ArgumentError: it is no such text, there is no such recipe, or it takes other arguments.
    """
    require("recipe", text, str, "the name of a recipe, such as gpt2 or trunc_normal(0.02)")
    name, given, named = _parsed(text)
    known = entry(name)
    bound = _bound(known, text, given, named)
    arguments = ", ".join([*map(_shown, given), *(f"{key}={_shown(value)}" for key, value in named.items())])
    return DeclaredRecipe(
        known,
        f"{known.name}({arguments})" if arguments else known.name,
        partial(known.rule, **bound),
        None if known.variants is None else _filled_in(known.variants, bound),
    )


def _filled_in(variants: Stds, bound: Mapping[str, Any]) -> Stds:
    """The variants with those of the recipe's arguments that they ask for."""
    asked = inspect.signature(variants).parameters
    return partial(variants, **{name: value for name, value in bound.items() if name in asked})


def _parsed(text: str) -> tuple[str, Sequence[Any], Mapping[str, Any]]:
    """The name, the arguments by position, and those by name."""
    if len(text) > _LONGEST:
        raise ArgumentError(f"recipe {text[:40]!r}...: {len(text)} characters; expected a name such as gpt2")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        if isinstance(tree, ast.Name):
            return tree.id, (), {}
        if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name):
            raise ValueError
        named = {each.arg: _literal(each.value) for each in tree.keywords if each.arg is not None}
        if len(named) != len(tree.keywords):
            raise ValueError
        return tree.func.id, tuple(map(_literal, tree.args)), named
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise ArgumentError(
            f"recipe {text!r}: expected a name such as gpt2, or a name with numbers and words: trunc_normal(0.02), "
            f"llama(depth='layer')"
        ) from None


def _literal(node: ast.expr) -> Any:
    return node.id if isinstance(node, ast.Name) else ast.literal_eval(node)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _bound(known: RecipeEntry, text: str, given: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments by name, each of the type that the recipe asks for."""
    parameters = {each.name: each for each in known.arguments}
    try:
        bound = inspect.Signature(list(parameters.values())).bind(*given, **named).arguments
    except TypeError as error:
        taken = ", ".join(map(_signature, parameters.values()))
        expected = f"{known.name}({taken})" if taken else f"no arguments, as {known.name} takes none"
        raise ArgumentError(f"recipe {text!r}: {error}; expected {expected}") from None
    return {name: _checked(text, parameters[name], value) for name, value in bound.items()}


def _signature(parameter: inspect.Parameter) -> str:
    return parameter.name if parameter.default is parameter.empty else f"{parameter.name}={parameter.default!r}"


def _checked(text: str, parameter: inspect.Parameter, value: Any) -> Any:
    """A value of the parameter's type: a positive number for `float`, a positive whole one for `int`, a choice."""
    kind = parameter.annotation
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ArgumentError(
                f"recipe {text!r}: {parameter.name}={value!r}; expected one of {', '.join(map(repr, get_args(kind)))}"
            )
    elif kind in (float, int):
        number = isinstance(value, kind if kind is int else (int, float)) and not isinstance(value, bool)
        if not number or not 0 < value < math.inf:
            whole = "whole " if kind is int else ""
            raise ArgumentError(f"recipe {text!r}: {parameter.name}={value!r}; expected a positive {whole}number")
    elif kind is bool:
        if not isinstance(value, bool):
            raise ArgumentError(f"recipe {text!r}: {parameter.name}={value!r}; expected True or False")
    elif kind is str and not isinstance(value, str):
        raise ArgumentError(f"recipe {text!r}: {parameter.name}={value!r}; expected a word")
    return value
