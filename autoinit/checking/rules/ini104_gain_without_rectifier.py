"""INI104: a gain with nothing to make up for."""

from __future__ import annotations

from autoinit.checking._wording import feeds, number
from autoinit.checking.scale.cases import Case
from autoinit.checking.scale.declaring import rule_of_scale
from autoinit.checking.scale.deviations import Deviation

LARGEST_GAIN = 2.0
"""No nonlinearity in use calls for a larger gain."""


def _has_gain_for_nothing(case: Case) -> int | None:
    needs_none = case.part.place.scheme != "he" and 1 < case.gain_over_expected <= LARGEST_GAIN
    return case.faults if needs_none and case.blames_gain else None


@rule_of_scale("INI104", "rectifier gain where no rectifier follows", precedence=50, verdict=_has_gain_for_nothing)
def gain_without_rectifier(deviation: Deviation) -> str:
    """The weight has a rectifier's gain, but what follows is an addition, attention, a gate or a head.

    ## What it is

    The std is that of `kaiming_*` for relu or leaky_relu (or another gain above 1), and the dataflow shows no such
    nonlinearity behind the layer: it feeds a sum, a product, another weight, softmax or the output.

    ## Why it matters

    The gain makes up for the power that a rectifier takes away. With nothing to make up for, it doubles the power: a
    residual branch adds twice its share to the stream, logits start too confident.

    ## Example

        class Block(nn.Module):
            def forward(self, x):
                return self.conv2(F.relu(self.conv1(x))) + x     # conv2 feeds the addition

        nn.init.kaiming_normal_(block.conv2.weight, nonlinearity="relu")

    ## What to do

        nn.init.xavier_normal_(block.conv2.weight)

    ## References

    He et al. 2015, section 2.2; Glorot & Bengio 2010, eq. 12; nfnets-pytorch#30, ml-agents#4649.
    """
    assert deviation.cause is not None
    return (
        f"The layer feeds {feeds(deviation.part)}, and the weight is {deviation.produced}: there is nothing that its "
        f"gain of {number(deviation.cause.gain)} makes up for."
    )
