"""INI105: the gain of another nonlinearity, or none."""

from __future__ import annotations

import math

from autoinit.checking._wording import feeds, number
from autoinit.checking.scale.cases import SAME, Case, Misfit
from autoinit.checking.scale.declaring import rule_of_scale
from autoinit.checking.scale.deviations import Deviation


def _has_another_gain(case: Case) -> int | None:
    return case.faults if case.part.place.scheme == "he" and case.blames_gain else None


def _is_between_slopes(misfit: Misfit) -> bool:
    """Whether the std is that of a rectifier with some slope between 0 and 1."""
    place = misfit.part.place
    slope_one, slope_zero = (gain / math.sqrt(place.fan_in) for gain in (1.0, math.sqrt(2)))
    inside = slope_one / (1 + SAME) < misfit.part.actual < slope_zero * (1 + SAME)
    return place.scheme == "he" and place.mode == "fan_in" and inside and not misfit.strays


@rule_of_scale(
    "INI105",
    "rectifier gain or slope missing or wrong where one follows",
    precedence=40,
    verdict=_has_another_gain,
    otherwise=_is_between_slopes,
)
def wrong_gain(deviation: Deviation) -> str:
    """A nonlinearity follows, and the weight has the gain of another one, or none.

    ## What it is

    The fan is right and the gain is not that of the nonlinearity that the dataflow shows: Xavier before a ReLU, the
    slope of another LeakyReLU, relu's gain before SiLU, a gain passed where `kaiming_*` takes the slope `a`.

    ## Why it matters

    gain² is what the activation takes from the signal's power. Without it, each ReLU layer halves the signal; thirty of
    them leave a billionth (He et al. 2015, figure 3).

    ## Example

        gain = nn.init.calculate_gain("relu")
        nn.init.kaiming_normal_(layer.weight, a=gain)    # `a` is the slope: this gives sqrt(2 / (1 + gain²))

    ## What to do

        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    ## References

    He et al. 2015, eq. 10, 14 and 15; progressive_growing_of_gans#29; pytorch#24991, #53694.
    """
    place, cause = deviation.part.place, deviation.cause
    gain = cause.gain if cause is not None and cause.mode else deviation.actual * math.sqrt(place.fan_in)
    return (
        f"The layer feeds {feeds(deviation.part)}, which calls for a gain of {number(place.gain)}; "
        f"the weight is {deviation.produced}, with a gain of {number(gain)}."
    )
