"""INI106: a fan that counts the wrong connections."""

from __future__ import annotations

import math

from autoinit.checking._wording import number
from autoinit.checking.scale.cases import Case, same
from autoinit.checking.scale.declaring import rule_of_scale
from autoinit.checking.scale.deviations import Deviation


def _counts_wrongly(case: Case) -> int | None:
    return case.faults if case.blames_fan else None


def _counts_wrongly_for_recipe(case: Case) -> int | None:
    """Whether the recipe's gain over the root of the true fan_in is what the published one asks for."""
    gain, fan_in = case.recipe.gain, case.part.place.fan_in
    return 1 if case.recipe.mode and same(gain / math.sqrt(fan_in), case.misfit.expected) else None


@rule_of_scale("INI106", "wrong fan", precedence=30, verdict=_counts_wrongly, strays=_counts_wrongly_for_recipe)
def wrong_fan(deviation: Deviation) -> str:
    """The gain is right, but the fan that it is divided by counts the wrong connections.

    ## What it is

    The std is the gain over the root of another number than the layer's fan: the fan that torch reads from the shape
    of a transposed convolution's weight, the fan_out of a grouped convolution without its groups, `weight.shape[0]`
    of a weight stored the other way round, or fan_out where fan_in keeps the forward signal.

    ## Why it matters

    The error is the root of the ratio of the two numbers: sqrt(groups) for a depthwise convolution, sqrt(out / in)
    for a head.

    ## Example

        fan_in = layer.weight.shape[0]                      # of nn.Linear that is out_features
        nn.init.kaiming_normal_(depthwise.weight, mode="fan_out", nonlinearity="relu")   # ignores groups

    ## What to do

        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")      # fan_in
        nn.init.normal_(deconv.weight, std=...)                          # as the finding says

    ## References

    He et al. 2015, section 2.2; pytorch#23854 (groups), #30079 (transposed convolutions); pytorch-image-models#84.
    """
    place, cause = deviation.part.place, deviation.cause
    assert cause is not None
    used = (cause.gain / cause.std) ** 2
    right = (place.gain / place.std) ** 2
    return (
        f"The weight is {deviation.produced}: its fan counts as {number(used)}, and is {number(right)} "
        f"(fan_in {number(place.fan_in)}, fan_out {number(place.fan_out)})."
    )
