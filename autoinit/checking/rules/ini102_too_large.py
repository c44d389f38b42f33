"""INI102: a std that is too large."""

from __future__ import annotations

from autoinit.checking._wording import feeds, number
from autoinit.checking.scale.cases import Misfit
from autoinit.checking.scale.declaring import rule_of_scale
from autoinit.checking.scale.deviations import Deviation

SPIKE, FEW = 1e-4, 16
"""A larger share of elements at the very bound, and more of them, are no accident of sampling."""


def _is_too_large(misfit: Misfit) -> bool:
    return misfit.ratio > 1


@rule_of_scale("INI102", "std too large for what the layer feeds", precedence=80, otherwise=_is_too_large)
def too_large(deviation: Deviation) -> str:
    """The weight is drawn too wide for what the layer feeds, and no more special rule explains why.

    ## What it is

    The std of the weight (or of some of its rows) is above the one called for, gain / sqrt(fan), by more than the
    tolerance and the sampling error of its size.

    ## Why it matters

    A layer whose std is r times too large multiplies the signal's power by r², and layers multiply: activations
    saturate, logits start confident and wrong, losses start as NaN. Where a norm follows, the scale does no harm to
    the forward signal: info.

    ## Example

        nn.init.normal_(layer.weight, std=layer.in_features ** -0.25)   # the root was taken twice
        nn.init.trunc_normal_(layer.weight.bfloat16(), std=0.01)   # low precision: values pile up at the bounds +-2

    ## What to do

        nn.init.xavier_normal_(layer.weight)   # or as the finding says; draw in float32, then cast

    ## References

    Glorot & Bengio 2010, eq. 12; He et al. 2015, eq. 10; pytorch#145498 (truncation in bfloat16).
    """
    portrait = deviation.part.portrait
    fault = f"The layer feeds {feeds(deviation.part)}; the weight is {deviation.produced}."
    if portrait.at_bound > max(SPIKE, FEW / portrait.stats.numel):
        peak = max(abs(portrait.stats.minimum), abs(portrait.stats.maximum))
        fault += (
            f" {portrait.at_bound:.1%} of the elements sit exactly at the bound {number(peak)}, as truncation in low "
            f"precision leaves them: draw in float32, then cast."
        )
    return fault
