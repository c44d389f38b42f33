"""INI108: a std lost to truncation."""

from __future__ import annotations

from autoinit.checking.findings import Severity
from autoinit.checking.scale.cases import Case, same
from autoinit.checking.scale.declaring import rule_of_scale
from autoinit.checking.scale.deviations import Deviation
from autoinit.theory.truncation import TRUNCATED_STD


def _lost_its_tails(case: Case) -> int | None:
    recipe = case.recipe
    return 0 if not recipe.corrected and same(recipe.std, TRUNCATED_STD * case.part.place.std) else None


@rule_of_scale("INI108", "truncation shrank the std", precedence=60, verdict=_lost_its_tails, severity=Severity.INFO)
def truncation(deviation: Deviation) -> str:
    """The weight was drawn for the right std, and cutting the tails then made it narrower.

    ## What it is

    A normal distribution cut at two sigma has 0.88 times its nominal std. `nn.init.trunc_normal_(std=s, a=-2s, b=2s)`
    does not make up for that.

    ## Why it matters

    12 % in std are 23 % in power for each layer. By itself that is little; it adds up over depth.

    ## Example

        std = math.sqrt(2 / fan_in)
        nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)

    ## What to do

        std = math.sqrt(2 / fan_in) / 0.8796
        nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)

    ## References

    The variance of a truncated normal: 1 - 2 c phi(c) / (2 Phi(c) - 1) with c = 2; pytorch-image-models#1286 (bounds
    are absolute, not in sigma).
    """
    return f"The weight is {deviation.produced}: cut at two sigma, a normal keeps 0.88 of its nominal std."
