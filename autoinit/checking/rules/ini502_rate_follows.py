"""INI502: learning rate that does not follow the base model."""

from __future__ import annotations

import math
from collections.abc import Iterator

from autoinit.checking._subject import Subject
from autoinit.checking._wording import number
from autoinit.checking.findings import Finding, Severity
from autoinit.checking.rules.registry import About, rule

_SAME = 0.01


@rule("INI502", "learning rate does not follow the base model", Severity.ERROR, About.WIDTH)
def look(subject: Subject) -> Iterator[Finding]:
    """A parameter's learning rate is not the base model's, scaled as the model has grown.

    ## What it is

    A base model and an optimizer (or its param groups) are given: `check(model, base=..., optimizer=...)`. The base
    model's rate is that of the parameters which keep it (tables, biases, norms, input layers under Adam); every other
    one is held against it, times what `autoinit.scaling` says.

    ## Why it matters

    An Adam step moves each element by the learning rate, and what a layer gives by the sum over its fan_in: with one
    rate for all, a hidden layer eight times as wide changes eight times as much.

    ## Example

        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)      # one rate for all widths

    ## What to do

        optimizer = torch.optim.AdamW(autoinit.scaling(model, base=base).groups(model, lr=3e-3, weight_decay=0.1))

    ## References

    - Yang et al. 2022: [Tensor Programs V](https://arxiv.org/abs/2203.03466), table 8
    """
    if subject.base is None or not subject.base.rates:
        return
    rate_of_base = subject.base.base_rate()
    for name, rate in subject.base.rates.items():
        scaled = subject.base.scaling[name]
        expected = (rate_of_base or 0.0) * scaled.lr
        if expected and not math.isclose(rate, expected, rel_tol=_SAME):
            layer = next((each for each in subject.plan.layers if each.param == name), None)
            shown = layer.name if layer is not None else name
            yield Finding(
                code="INI502",
                severity=Severity.ERROR,
                layer=shown,
                param=name,
                message=(
                    f"{shown}: learning rate {number(rate)} of {name}, expected {number(expected)}: "
                    f"{number(scaled.lr)} times the base model's {number(rate_of_base or 0.0)} ({scaled.kind}: "
                    f"{scaled.reason}). It does not follow."
                ),
                fix="optimizer = torch.optim.AdamW(autoinit.scaling(model, base=base).groups(model, lr=lr))",
                location=subject.location(name, layer.source if layer is not None else ""),
            )
