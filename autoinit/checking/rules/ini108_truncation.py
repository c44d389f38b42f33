"""INI108: a std lost to truncation."""

from __future__ import annotations

from collections.abc import Iterator

from autoinit.checking._subject import Subject
from autoinit.checking.findings import Finding
from autoinit.checking.rules.registry import rule
from autoinit.checking.scale._finding import explained_by, scale_finding


@rule("INI108", "truncation shrank the std", "info")
def truncation(subject: Subject) -> Iterator[Finding]:
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
    for deviation in explained_by(subject, "INI108"):
        fault = f"The weight is {deviation.produced}: cut at two sigma, a normal keeps 0.88 of its nominal std."
        yield scale_finding(subject, deviation, fault, severity="info")
