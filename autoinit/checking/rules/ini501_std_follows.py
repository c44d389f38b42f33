"""INI501: std that does not follow the base model."""

from __future__ import annotations

import math
from collections.abc import Iterator

from autoinit.checking._subject import Subject
from autoinit.checking._wording import number
from autoinit.checking.findings import Finding, Severity
from autoinit.checking.rules.registry import About, rule

_NOISE = 6.0
"""Standard errors of a sample's std that count as chance."""


@rule("INI501", "std does not follow the base model", Severity.ERROR, About.WIDTH)
def look(subject: Subject) -> Iterator[Finding]:
    """A weight's std is not that of the base model, scaled as the model has grown.

    ## What it is

    A base model is given (`check(model, base=...)`, `--base`): the narrow one on which the learning rate was tuned.
    The std of each weight is held against that of its counterpart, times what `autoinit.scaling` says: for a weight
    between hidden features 1 / sqrt(m) where the width has grown by m, for a head 1 / m, for a table 1. So are gains
    that the rules change: of the norm before a tied head, of a norm that ends one of more branches.

    ## Why it matters

    Only if every weight follows does the learning rate of the small model fit the large one. The most frequent
    oversight is the head: a std of 1 / sqrt(fan_in) makes its outputs change more in each step, the wider the model.

    ## Example

        base, model = make_model(256), make_model(4096)
        autoinit(base), autoinit(model)                      # both with 1 / sqrt(fan_in): the head does not follow

    ## What to do

        autoinit.scaling(model, base=base).apply(model)

    ## References

    - Yang et al. 2022: [Tensor Programs V](https://arxiv.org/abs/2203.03466), table 8
    - Yang, Simon & Bernstein 2023: [A Spectral Condition for Feature Learning](https://arxiv.org/abs/2310.17813)
    """
    if subject.base is None:
        return
    layers = {layer.param: layer for layer in subject.plan.layers}
    for name, scaled in subject.base.scaling.items():
        expected = subject.base.expected(name)
        layer = layers.get(name)
        if expected is None or (layer is None and scaled.std_scale == 1) or (layer is not None and layer.reparam):
            continue
        actual, count = _measured(subject, name)
        if actual is None or actual == 0:  # an author's zero follows from nothing
            continue
        noise = _NOISE * subject.base.noise(name, count) if layer is not None else 0.0
        ratio = actual / expected
        if abs(math.log(ratio)) > math.log(1 + subject.tolerance) + noise:
            shown = layer.name if layer is not None else name
            yield Finding(
                code="INI501",
                severity=Severity.ERROR,
                layer=shown,
                param=name,
                message=(
                    f"{shown}: std {number(actual)}, expected {number(expected)}: {number(scaled.std_scale)} times the "
                    f"{number(expected / scaled.std_scale)} of the base model ({scaled.kind}: {scaled.reason}). It "
                    f"does not follow."
                ),
                fix="autoinit.scaling(model, base=base).apply(model)",
                location=subject.location(name, layer.source if layer is not None else ""),
            )


def _measured(subject: Subject, name: str) -> tuple[float | None, int]:
    """Root mean square and count of a parameter's elements."""
    portraits = {layer.param: subject.portraits.get(layer.name) for layer in subject.plan.layers}
    portrait = portraits.get(name)
    stats = portrait.stats if portrait is not None else subject.other_stats.get(name)
    if stats is None:
        return None, 1
    return math.hypot(stats.std, stats.mean), stats.numel
