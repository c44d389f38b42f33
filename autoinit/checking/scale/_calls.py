"""Calls: the line of code that drew most weights of a kind, by what their values say together.

All layers of a kind are drawn by the same line of code as a rule. So the call that suits most of them better than the
plan, and all together beyond doubt, drew them: those, too, that are too small to tell alone.

How well a std suits a sample is the probability of the sample's shape under the distribution, times the density of
that std given the sample (a scale that nothing is known of beforehand; Jeffreys 1961). Of n uniform values the largest
tells nearly all: no bound below it could have drawn them, and one that is r times larger is r^n times less likely. Both
are known before a single value is drawn, so that the same code comes to the same call on every run. The logarithm of a
normal sample's std is nearly normal about that of the true one.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from autoinit.checking._part import Part
from autoinit.checking._subject import Subject
from autoinit.recognising.families import kurtosis_of
from autoinit.recognising.noise import TAIL
from autoinit.recognising.recipes import Recipe
from autoinit.recognising.recognition import PRECISION

EVIDENCE = -math.log(TAIL)
"""Logarithm of the odds from which on a call is taken for certain."""
OWN_LINE = EVIDENCE / 2
"""What it takes to say that one layer of a kind was drawn by a line of code of its own."""
UNLUCKY = 3.0
"""Standard deviations: one model in 700 is drawn further off, in one direction."""
TELLING = 3.0
"""Odds, as a logarithm, from which on rows speak for a call."""
_RULED_OUT = 1e9
"""In place of infinite odds, so that what else speaks for a call still counts."""
_CALLS = ("default", "kaiming", "xavier", "orthogonal", "absolute")
"""Kinds of recipes that are one call for all layers."""


def common_call(subject: Subject, part: Part) -> Recipe | None:
    """The recipe of rows, if it is that of the call that drew most layers of their kind, and the plan did not."""
    return subject.once(_common_calls).get(part)


def _common_calls(subject: Subject) -> Mapping[Part, Recipe]:
    drawn = [each for each in subject.parts if not each.fixed]
    named: dict[Part, Recipe] = {}
    for kind in (_weight, _operation):
        groups: dict[Hashable, list[Part]] = {}
        for part in drawn:
            groups.setdefault(kind(part), []).append(part)
        for parts in groups.values():
            named |= _named(parts, subject.tolerance)
    return named


def _weight(part: Part) -> Hashable:
    """Rows that one call draws: those of one weight."""
    return part.layer.name


def _operation(part: Part) -> Hashable:
    """Layers that one line of code draws: of one operation, and fused or not."""
    return part.layer.op, bool(part.rows)


def _named(parts: Sequence[Part], tolerance: float) -> Mapping[Part, Recipe]:
    """The recipes of parts of a kind that the call drew which drew most of them; empty if there is none.

    One layer alone shows no pattern, but for the constructor's, which draws all kinds. Where all samples pass as they
    are, there is nothing to explain.
    """
    if all(part.scales[0] / (1 + tolerance) <= part.actual <= part.scales[1] * (1 + tolerance) for part in parts):
        return {}
    kinds = _CALLS if len(parts) > 1 else ("default",)
    offers = {part: _Offers.to(part, kinds, tolerance) for part in parts}
    doubts: dict[Hashable, float] = {}
    for each in offers.values():
        doubts = {call: recipe.doubt for call, recipe in each.recipes.items()} | doubts
    suits = {call: sum(each.within(call) for each in offers.values()) - doubt for call, doubt in doubts.items()}
    best = max(suits, key=lambda call: (suits[call], -doubts[call], str(call)), default=None)
    drew = {part: each.recipes[best] for part, each in offers.items() if each.is_drawn_by(best)}
    gained = {part: each.gained(best) for part, each in offers.items()}
    clear = sum(gained[part] > TELLING for part in drew)
    if best is None or clear <= len(parts) - len(drew) or sum(gained.values()) - doubts[best] <= EVIDENCE:
        return {}
    return drew if _expected(drew, tolerance) - doubts[best] > EVIDENCE else {}


def _expected(drew: Mapping[Part, Recipe], tolerance: float) -> float:
    """The least evidence against the plan that draws of some recipes give, but for `UNLUCKY` ones.

    Of a normal std that is d standard errors off it is d^2 / 2 on average, with a standard deviation of d. What is
    named only on lucky draws is not named at all.
    """
    certain = squares = 0.0
    for part, recipe in drew.items():
        low, high = part.scales[0] / (1 + tolerance), part.scales[1] * (1 + tolerance)
        off = max(0.0, math.log(low / recipe.std), math.log(recipe.std / high))
        if recipe.distribution == "uniform":
            certain += off * part.portrait.peak(part.rows)[1]
        else:
            squares += (off / _error(part, recipe.distribution)) ** 2
    return certain + squares / 2 - UNLUCKY * math.sqrt(squares)


@dataclass(frozen=True, eq=False)
class _Offers:
    """What could have drawn some rows, and how well each suits them.

    Attributes:
        recipes: by call.
        suits: how well each does.
        planned: the same of the best std that passes.
    """

    recipes: Mapping[Hashable, Recipe]
    suits: Mapping[Hashable, float]
    planned: float

    @classmethod
    def to(cls, part: Part, kinds: Sequence[str], tolerance: float) -> _Offers:
        low, high = part.scales
        recipes = {_call(each): each for each in reversed(part.recognition.recipes) if each.kind in kinds}
        suits = {call: _suits(part, each.std, each.std, each.distribution) for call, each in recipes.items()}
        return cls(recipes, suits, _suits(part, low / (1 + tolerance), high * (1 + tolerance)))

    @cached_property
    def alone(self) -> float:
        """How well a line of code of its own suits: what suits best, less how unusual it is and that it is one more."""
        usual = (each - self.recipes[call].doubt for call, each in self.suits.items())
        return max(self.planned, *usual, -math.inf) - OWN_LINE

    def is_drawn_by(self, call: Hashable) -> bool:
        """Whether a call that drew others suits better than a line of code of its own."""
        return self.suits.get(call, -math.inf) > self.alone

    def within(self, call: Hashable) -> float:
        """How well these rows suit a model in which a call drew the layers of the kind."""
        return self.suits[call] if self.is_drawn_by(call) else self.alone

    def gained(self, call: Hashable) -> float:
        """How much better they suit that than a model in which the plan did.

        Rows that neither drew say nothing; those that the plan did speak against the call.
        """
        if self.is_drawn_by(call):
            return self.suits[call] - self.planned
        return self.alone - max(self.planned, self.alone)


def _suits(part: Part, low: float, high: float, distribution: str = "") -> float:
    """Logarithm of how well the most fitting std within a range suits the rows; by one distribution, or the best."""
    fit = part.portrait.fit(part.rows)
    odds: dict[str, float] = dict(zip(fit.likely, fit.odds, strict=True))
    if part.recognition.family == "orthogonal" or not odds:
        odds = {part.recognition.family: 0.0}
    chosen = {distribution: odds.get(distribution, 0.0)} if distribution else odds
    return max(each + _density(part, low, high, family) for family, each in chosen.items())


def _density(part: Part, low: float, high: float, family: str) -> float:
    """Logarithm of the density of the most fitting std within a range, on a logarithmic scale."""
    if family == "uniform":
        peak, count = part.portrait.peak(part.rows)
        least = peak / math.sqrt(3)
        if least > high * (1 + PRECISION):
            return -_RULED_OUT
        return math.log(count) - count * max(0.0, math.log(low / least) - PRECISION)
    error = _error(part, family)
    off = max(0.0, math.log(low / part.actual), math.log(part.actual / high)) / error
    return -off * off / 2 - math.log(error * math.sqrt(2 * math.pi))


def _error(part: Part, family: str) -> float:
    """The standard error of the logarithm of the rows' std; an orthogonal weight has that of low precision alone."""
    noise = 0.0 if family == "orthogonal" else (kurtosis_of(family) - 1) / (4 * part.count)
    return math.hypot(math.sqrt(noise), PRECISION / 5)


def _call(recipe: Recipe) -> Hashable:
    """What stands for the call that a recipe is, whatever layer it is made on."""
    if recipe.kind == "absolute":
        return recipe.name
    return recipe.kind, recipe.distribution, recipe.mode, recipe.nonlinearity, recipe.factor, recipe.corrected
