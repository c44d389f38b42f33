"""INI003: zeros that no gradient can leave."""

from __future__ import annotations

from collections.abc import Iterator

from autoinit.checking._dead import stuck_zeros
from autoinit.checking._subject import Subject
from autoinit.checking._wording import expression, number
from autoinit.checking.findings import Finding, Severity
from autoinit.checking.rules.registry import About, rule


@rule("INI003", "zero weight that no gradient can leave", Severity.ERROR, About.VALUES)
def stuck_zero(subject: Subject) -> Iterator[Finding]:
    """A zero weight stays zero for ever: no gradient can move it.

    ## What it is

    A weight that starts at zero leaves it in the first step if its input is not zero and a gradient reaches its
    output. Here that can never happen: both factors of a product are zero (LoRA's A and B, a zero gate on a zero
    branch), or a hidden layer is zero before a ReLU, whose derivative at zero is zero. Zeros that learn are never
    findings: the last layer of a residual branch, adaLN-zero, ControlNet's convolutions, LoRA's B beside a random A.

    ## Why it matters

    The branch does nothing, and training does not change that. The loss falls all the same, for the rest of the model
    learns; nobody sees that a part of it is dead.

    ## Example

        nn.init.zeros_(lora.A.weight)
        nn.init.zeros_(lora.B.weight)

    ## What to do

        nn.init.kaiming_uniform_(lora.A.weight, a=math.sqrt(5))
        nn.init.zeros_(lora.B.weight)

    ## References

    Hu et al. 2021, section 4.1 (one factor random, one zero); SAPT#11, cosmos-predict2.5#15; vision#5804 and DiT#82 for
    zeros that are meant.
    """
    stuck = stuck_zeros(subject.dataflow, subject.is_zero)
    cut_off = {each.group for each in stuck if each.cut_off}
    weights = {layer.param: layer for layer in subject.plan.layers}
    for each in stuck:
        if each.group in cut_off and not each.cut_off:
            continue
        layer = weights.get(each.param)
        if layer is not None and layer.status == "skipped":
            continue
        name = layer.name if layer is not None else each.param
        others = [other.param for other in stuck if other.group == each.group and other is not each]
        why = (
            "what it is multiplied with is zero"
            if not each.cut_off
            else "every way on leads through a zero factor or a rectifier at zero, which passes no gradient"
        )
        beside = f" Zero and stuck beside it: {', '.join(others[:3])}." if others else ""
        advice = (
            f"expected std {number(layer.std)}; give one factor values, and leave zero only the last"
            if layer is not None
            else "give one factor values, and leave zero only the last"
        )
        yield Finding(
            code="INI003",
            severity=Severity.ERROR,
            layer=name,
            param=each.param,
            message=f"{name}: all zero, and stays so: {why}.{beside} The branch never learns: {advice}.",
            expected_std=layer.std if layer is not None else None,
            actual_std=0.0,
            recipe="zeros",
            fix=f"nn.init.normal_({expression(each.param)}, std={layer.std:.4g})" if layer is not None else "",
            location=subject.location(each.param, str(each.op.source or "")),
        )
