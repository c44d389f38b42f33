"""INI105: the gain of another nonlinearity, or none."""

from __future__ import annotations

from collections.abc import Iterator

from autoinit.checking._subject import Subject
from autoinit.checking._wording import feeds, number
from autoinit.checking.findings import Finding
from autoinit.checking.rules.registry import rule
from autoinit.checking.scale._finding import explained_by, scale_finding


@rule("INI105", "rectifier gain or slope missing or wrong where one follows", "by consequence")
def wrong_gain(subject: Subject) -> Iterator[Finding]:
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
    for deviation in explained_by(subject, "INI105"):
        gain = deviation.cause.gain if deviation.cause is not None else float("nan")
        fault = (
            f"The layer feeds {feeds(deviation.part)}, which calls for a gain of {number(deviation.part.place.gain)}; "
            f"the weight is {deviation.produced}, with a gain of {number(gain)}."
        )
        yield scale_finding(subject, deviation, fault)
