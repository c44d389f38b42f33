"""Causes: which single fault explains a scale that is not the one called for.

Several recipes may fit a weight. Each is held against what the layer's place calls for, and the one that leaves the
fewest things wrong explains it: a wrong fan with the right gain rather than another gain over another fan. Among equals
the recipe that is more usual decides. Which fault it is, the rules of scale say: each declares its `Explanation`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from autoinit.checking._part import Part
from autoinit.checking.rules.registry import rules
from autoinit.checking.scale.cases import Case, Misfit
from autoinit.checking.scale.explanation import Explanation
from autoinit.recognising.recipes import Recipe

_UNEXPLAINED = 2
"""Things wrong with a recipe, of rows that stray from a published one, about which no rule speaks."""


def cause(misfit: Misfit, recipes: Sequence[Recipe]) -> tuple[str, Recipe | None]:
    """The code of the rule that explains a misfit, and the recipe by which it does.

    Args:
        misfit: rows whose std is not the one that they are held against.
        recipes: that could have produced them, the most usual first.
    """
    near = [each for each in recipes if misfit.named or misfit.strays or _near(misfit.part, each)]
    verdicts = [(*verdict, each) for each in near if (verdict := _verdict(Case(misfit, each))) is not None]
    if not verdicts:
        return _plain(misfit), None
    _, code, recipe = min(verdicts, key=lambda each: each[0])
    return code or _plain(misfit), recipe


def explanations() -> Mapping[str, Explanation]:
    """What each rule of scale explains, by its code, in order of precedence."""
    found = {code: rule.explanation for code, rule in rules().items() if rule.explanation is not None}
    return dict(sorted(found.items(), key=lambda each: each[1].precedence))


def _verdict(case: Case) -> tuple[int, str] | None:
    """How many things are wrong with a recipe, and the code of the rule that says so, if one does; None if none is."""
    said = []
    for code, each in explanations().items():
        explains = each.strays if case.misfit.strays else each.verdict
        if (faults := explains(case)) is not None:
            said.append((faults, code))
    if said:
        return min(said, key=lambda verdict: verdict[0])
    faults = _UNEXPLAINED if case.misfit.strays else case.faults
    return None if faults is None else (faults, "")


def _plain(misfit: Misfit) -> str:
    """The code of a rule that needs no recipe."""
    return next(code for code, each in explanations().items() if each.otherwise(misfit))


def _near(part: Part, recipe: Recipe) -> bool:
    """Whether a recipe is within four standard errors: further off it may be true, but explains little."""
    error = math.sqrt((max(3.0, part.portrait.kurtosis) - 1) / (4 * part.count))
    return recipe.std > 0 and abs(math.log(recipe.std / part.actual)) <= 4 * error + 0.01
