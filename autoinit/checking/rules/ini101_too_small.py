"""INI101: a std that is too small."""

from __future__ import annotations

from collections.abc import Iterator

from autoinit.checking._dead import silent_tables
from autoinit.checking._subject import Subject
from autoinit.checking._wording import expression, feeds, number
from autoinit.checking.findings import Finding, Severity
from autoinit.checking.scale.cases import Misfit
from autoinit.checking.scale.declaring import rule_of_scale
from autoinit.checking.scale.deviations import Deviation


def _is_too_small(misfit: Misfit) -> bool:
    return misfit.ratio < 1


def _silent_tables(subject: Subject) -> Iterator[Finding]:
    """Embedding tables that are zero, and the only signal that something behind them gets."""
    for param, hungry in silent_tables(subject.dataflow, subject.is_zero):
        dim = subject.parameters[param].shape[-1]
        name = param.removesuffix(".weight")
        yield Finding(
            code="INI101",
            severity=Severity.ERROR,
            layer=name,
            param=param,
            message=(
                f"{name}: the embedding is zero everywhere, expected std {number(dim**-0.5)}, 1 / sqrt({dim}). It is "
                f"the only signal that {hungry.name} gets, so that the output does not depend on the input. "
                f"Initialise it, and zero the padding row alone."
            ),
            expected_std=dim**-0.5,
            actual_std=0.0,
            recipe="zeros",
            fix=f"nn.init.normal_({expression(param)}, std={dim**-0.5:.4g})",
            location=subject.location(param, str(hungry.source or "")),
        )


@rule_of_scale(
    "INI101", "std too small for what the layer feeds", precedence=70, otherwise=_is_too_small, also=_silent_tables
)
def too_small(deviation: Deviation) -> str:
    """The weight is drawn too narrow for what the layer feeds, and no more special rule explains why.

    ## What it is

    The std of the weight (or of some of its rows) is below the one called for, gain / sqrt(fan), by more than the
    tolerance and the sampling error of its size. An embedding table that is zero and the only signal behind it is the
    extreme case.

    ## Why it matters

    A layer whose std is r times too small passes on r² of the signal's power. Layers multiply: ten layers at 0.7 times
    leave 0.7^20, less than a thousandth. Where a norm follows, the scale does no harm to the forward signal: info. In a
    branch beside a skip connection it only weakens the branch.

    ## Example

        nn.init.normal_(layer.weight, std=1 / layer.in_features)   # the root was forgotten

    ## What to do

        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")   # or as the finding says

    ## References

    Glorot & Bengio 2010, eq. 12; He et al. 2015, eq. 10.
    """
    return f"The layer feeds {feeds(deviation.part)}; the weight is {deviation.produced}."
