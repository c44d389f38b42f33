"""The table of recipes. `register_recipe` is the only way in, for the files of this room and for a user's functions."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from autoinit.errors import ArgumentError, RegistrationError
from autoinit.facts import Facts
from autoinit.recipes.starts import Start

Rule: TypeAlias = Callable[..., Start | None]
"""From the facts of a parameter, and the recipe's arguments, to how it starts; None where nothing is said of it."""
Stds: TypeAlias = Callable[[Facts], tuple[float, ...]]
Range: TypeAlias = Callable[[Facts], "tuple[float, float] | None"]
_R = TypeVar("_R", bound=Rule)


@dataclass(frozen=True)
class RecipeEntry:
    """A recipe before it is given arguments.

    Attributes:
        name: as it is declared: `gpt2`, `normal`.
        source: the paper with its section or equation, or the public code that documents it.
        rule: its first parameter takes the facts, the others are the recipe's arguments.
        document: what it is, as Markdown: the rule's docstring.
        example: how it is declared.
        variants: stds of weights that published code of the recipe has as well: they are written by no one, and no
            fault.
        within: the least and the greatest std that are as good, where the recipe fixes none; it decides alone.
        writes: empty; else why nothing can be written by it, and what to use.
    """

    name: str
    source: str
    rule: Rule
    document: str
    example: str
    variants: Stds | None = None
    within: Range | None = None
    writes: str = ""

    @property
    def arguments(self) -> tuple[inspect.Parameter, ...]:
        """The recipe's arguments, without the facts."""
        return tuple(inspect.signature(self.rule, eval_str=True).parameters.values())[1:]


def register_recipe(
    name: str,
    *,
    source: str,
    example: str = "",
    variants: Stds | None = None,
    within: Range | None = None,
    writes: str = "",
) -> Callable[[_R], _R]:
    """Makes a function from a parameter's facts to its distribution a recipe.

        >>> from autoinit import register_recipe
        >>> from autoinit.recipes import Facts, Start, normal
        >>> @register_recipe("ours", source="our paper, section 3")
        ... def ours(facts: Facts, std: float = 0.02) -> Start | None:
        ...     '''Every weight N(0, std^2), branch ends by their number.'''
        ...     if not facts.is_weight:
        ...         return None
        ...     return normal(std / facts.branches**0.5 if facts.ends_branch else std)

    Args:
        name: lower-case letters, digits and underscores, as in `autoinit(model, recipe="ours(0.01)")`.
        source: see `RecipeEntry`, as for the next four.
        example: how it is declared.
        variants: further stds that are no fault.
        within: bounds of the std, where the recipe fixes none.
        writes: why it cannot be written.

    Raises:
        RegistrationError: the name is taken or malformed, the source is empty, or the function has no docstring.
    """

    def register(rule: _R) -> _R:
        document = inspect.getdoc(rule)
        if not name.isidentifier() or name != name.lower() or name in _RESERVED:
            raise RegistrationError(f"recipe {name!r}: expected lower-case letters, digits and underscores")
        if name in _found:
            raise RegistrationError(f"recipe {name}: the name belongs to one already ({_found[name].source})")
        if not document or not source:
            what = "docstring: expected the recipe's document" if source else "source: expected a paper or public code"
            raise RegistrationError(f"recipe {name} has no {what}")
        _found[name] = RecipeEntry(name, source, rule, document, example or name, variants, within, writes)
        return rule

    return register


_found: dict[str, RecipeEntry] = {}
_RESERVED = ("auto", "none")
"""What `check` calls its own ways to find a recipe."""
_TABLES = ("declaring", "registry", "starts")


def table() -> Mapping[str, RecipeEntry]:
    """Every recipe by its name, in order of names."""
    package = importlib.import_module(__package__)
    for module in pkgutil.iter_modules(package.__path__):
        if module.name not in _TABLES:
            importlib.import_module(f"{__package__}.{module.name}")
    return dict(sorted(_found.items()))


def entry(name: str) -> RecipeEntry:
    """The recipe of a name, in any case.

    Raises:
        ArgumentError: there is none.
    """
    known = table()
    if name.lower() not in known:
        close = difflib.get_close_matches(name.lower(), known, n=2)
        hint = f"did you mean {' or '.join(known[each].example for each in close)}? " if close else ""
        raise ArgumentError(
            f"no recipe {name!r}; {hint}Known are {', '.join(each.example for each in known.values())}."
        )
    return known[name.lower()]
