"""The table of recipes. `register_recipe` is the only way in, for the files of `published` and for users' functions."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

from autoinit.errors import ArgumentError, RegistrationError
from autoinit.errors.arguments import require, shown
from autoinit.facts import Facts
from autoinit.recipes.starts import Start

Rule: TypeAlias = Callable[..., Start | None]
"""From the facts of a parameter, and the recipe's arguments, to how it starts; None where nothing is said of it."""
Stds: TypeAlias = Callable[..., tuple[float, ...]]
Range: TypeAlias = Callable[[Facts], "tuple[float, float] | None"]
_R = TypeVar("_R", bound=Rule)


class Measured(Protocol):
    """Rows of a weight with values, as recognition sees them."""

    @property
    def facts(self) -> Facts:
        """Of these rows."""

    @property
    def actual(self) -> float:
        """Root mean square of their elements."""

    @property
    def normalised(self) -> bool:
        """Whether a norm takes the scale away, of what they give or of the weight itself."""

    @property
    def renormalised(self) -> bool:
        """Whether every way behind them leads to a norm."""

    @property
    def skipped_over(self) -> bool:
        """Whether they lie beside a skip connection."""

    @property
    def centred(self) -> bool:
        """Whether it is weight standardisation that normalises the weight."""


@dataclass(frozen=True)
class Mark:
    """What a model must show, beside its weights, before it is taken to follow a recipe unasked.

    Attributes:
        shown: whether all its weights together show it.
        precedence: recipes are tried in this order.
        uniform: whether most of the recipe's weights are drawn from uniform distributions.
        declared: the recipe with the arguments that are meant; its name where it needs none.
    """

    shown: Callable[[Sequence[Measured]], bool]
    precedence: int
    uniform: bool = False
    declared: str = ""


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
        mark: how a model that follows it is recognised; None where weights alone are no evidence, as of a single normal
            distribution or a framework's default.
    """

    name: str
    source: str
    rule: Rule
    document: str
    example: str
    variants: Stds | None = None
    within: Range | None = None
    writes: str = ""
    mark: Mark | None = None

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
    mark: Mark | None = None,
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
        source: see `RecipeEntry`, as for the next five.
        example: how it is declared.
        variants: further stds that are no fault.
        within: bounds of the std, where the recipe fixes none.
        writes: why it cannot be written.
        mark: how it is recognised.

    Raises:
        RegistrationError: the name is taken or malformed, the source is empty, or the function has no docstring.
        ArgumentError: name or source is no text.
    """
    for what, given in (("name", name), ("source", source), ("example", example), ("writes", writes)):
        require(what, given, str, "a text")

    def register(rule: _R) -> _R:
        document = inspect.getdoc(rule)
        if not name.isidentifier() or name != name.lower() or name in _RESERVED:
            raise RegistrationError(f"recipe {name!r}: expected lower-case letters, digits and underscores")
        if name in _found:
            raise RegistrationError(f"recipe {name}: the name belongs to one already ({_found[name].source})")
        if not document or not source:
            what = "docstring: expected the recipe's document" if source else "source: expected a paper or public code"
            raise RegistrationError(f"recipe {name} has no {what}")
        _found[name] = RecipeEntry(name, source, rule, document, example or name, variants, within, writes, mark)
        return rule

    return register


_found: dict[str, RecipeEntry] = {}
_RESERVED = ("auto", "none")
"""What `check` calls its own ways to find a recipe."""


def table() -> Mapping[str, RecipeEntry]:
    """Every recipe by its name, in order of names."""
    package = importlib.import_module(f"{__package__}.published")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return dict(sorted(_found.items()))


def marked() -> Mapping[str, Mark]:
    """The marks of the recipes that have one, in the order in which they are tried."""
    found = {name: each.mark for name, each in table().items() if each.mark is not None}
    return dict(sorted(found.items(), key=lambda pair: pair[1].precedence))


def entry(name: str) -> RecipeEntry:
    """The recipe of a name, in any case.

    Raises:
        ArgumentError: there is none.
    """
    require("name", name, str, "the name of a recipe, such as gpt2")
    known = table()
    if name.lower() not in known:
        close = difflib.get_close_matches(name.lower(), known, n=2)
        hint = f"did you mean {' or '.join(known[each].example for each in close)}? " if close else ""
        raise ArgumentError(
            f"no recipe {shown(name)}; {hint}Known are {', '.join(each.example for each in known.values())}."
        )
    return known[name.lower()]
