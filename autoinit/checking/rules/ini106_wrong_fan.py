"""INI106: a fan that counts the wrong connections."""

from __future__ import annotations

from collections.abc import Iterator

from autoinit.checking._subject import Subject
from autoinit.checking._wording import number
from autoinit.checking.findings import Finding
from autoinit.checking.rules.registry import rule
from autoinit.checking.scale._finding import explained_by, scale_finding


@rule("INI106", "wrong fan", "by consequence")
def wrong_fan(subject: Subject) -> Iterator[Finding]:
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
    for deviation in explained_by(subject, "INI106"):
        place, cause = deviation.part.place, deviation.cause
        assert cause is not None
        used = (cause.gain / cause.std) ** 2
        right = (place.gain / place.std) ** 2
        fault = (
            f"The weight is {deviation.produced}: its fan counts as {number(used)}, and is {number(right)} "
            f"(fan_in {number(place.fan_in)}, fan_out {number(place.fan_out)})."
        )
        yield scale_finding(subject, deviation, fault)
