"""INI104: a gain with nothing to make up for."""

from __future__ import annotations

from collections.abc import Iterator

from autoinit.checking._subject import Subject
from autoinit.checking._wording import feeds, number
from autoinit.checking.findings import Finding
from autoinit.checking.rules.registry import rule
from autoinit.checking.scale._finding import explained_by, scale_finding


@rule("INI104", "rectifier gain where no rectifier follows", "by consequence")
def gain_without_rectifier(subject: Subject) -> Iterator[Finding]:
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
    for deviation in explained_by(subject, "INI104"):
        gain = deviation.cause.gain if deviation.cause is not None else float("nan")
        fault = (
            f"The layer feeds {feeds(deviation.part)}, and the weight is {deviation.produced}: there is nothing that "
            f"its gain of {number(gain)} makes up for."
        )
        yield scale_finding(subject, deviation, fault)
