"""INI109: a std that knows no fan."""

from __future__ import annotations

from autoinit.checking._wording import feeds, number
from autoinit.checking.scale.cases import Case
from autoinit.checking.scale.declaring import rule_of_scale
from autoinit.checking.scale.deviations import Deviation


def _is_a_number(case: Case) -> int | None:
    return case.faults if case.is_absolute else None


@rule_of_scale("INI109", "absolute std that ignores the fan", precedence=90, verdict=_is_a_number)
def absolute(deviation: Deviation) -> str:
    """The weight has a std that was chosen as a number, and its fan calls for another.

    ## What it is

    The weight was drawn with a round std (0.02, 0.01, ...) that depends neither on the fan nor on what the layer feeds.

    ## Why it matters

    Such a number is right for one width. 0.02 is Xavier for 2,500 features; at 64 features the layer passes on a
    fortieth of the signal's power. Published recipes with an absolute std (GPT-2, BERT, ViT, DCGAN) lean on norms and
    residual streams to make up for it.

    ## Example

        def init(module):
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)

    ## What to do

        nn.init.xavier_normal_(module.weight)          # or as the finding says

    If a published recipe is meant, declare it: `recipe = "gpt2"` in `[tool.autoinit]`.

    ## References

    Glorot & Bengio 2010, eq. 12; Radford et al. 2016 and 2019, for which 0.02 was tuned.
    """
    place = deviation.part.place
    return (
        f"The layer feeds {feeds(deviation.part)}, and has fan_in {number(place.fan_in)} and fan_out "
        f"{number(place.fan_out)}; the weight is {deviation.produced}, a std that depends on neither."
    )
