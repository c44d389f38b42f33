"""What the rules cannot see in the weights: numbers in forward that change with the width."""

from __future__ import annotations

import math
from collections.abc import Iterator

from autoinit.ops import Role
from autoinit.tracing.dataflow import Op
from autoinit.transfer.facts import ModelFacts


def pitfalls(model: ModelFacts, base: ModelFacts | None) -> tuple[str, ...]:
    """What a user should know before training with the rules, a sentence each, once each."""
    found = _between_models(model, base) if base is not None else _within(model)
    return tuple(dict.fromkeys(found))


def _between_models(model: ModelFacts, base: ModelFacts) -> Iterator[str]:
    """Numbers that an operation has in one model and its namesake another one in the other."""
    theirs = base.dataflow.by_name
    for name, op in model.dataflow.by_name.items():
        other = theirs.get(name)
        if other is None or other.op != op.op:
            continue
        sizes = _compared_sizes(op), _compared_sizes(other)
        if all(sizes) and sizes[0] != sizes[1]:
            yield (
                f"attention at {op.source or name}: queries and keys have {sizes[0]} features, {sizes[1]} in the base "
                f"model, and logits are divided by the square root of that. Let the number of heads grow in its place, "
                f"or divide by the number itself; nothing is corrected"
            )
        for mine, number in _numbers(op):
            before = dict(_numbers(other)).get(mine)
            if before is not None and not math.isclose(number, before, rel_tol=1e-6) and before != 0:
                yield (
                    f"{op.op} at {op.source or name}: its number is {number:.4g}, {before:.4g} in the base model: it "
                    f"changes with the width by {number / before:.3g}, beside what the multipliers do"
                )


def _within(model: ModelFacts) -> Iterator[str]:
    """Numbers that are powers of a table's features: an embedding times sqrt(d), a tied head over sqrt(d)."""
    widths = {facts.features for facts in model.parameters.values() if facts.what == "embedding" or facts.tied}
    for name, op in model.dataflow.by_name.items():
        for _, number in _numbers(op):
            for width in widths:
                if width > 1 and any(
                    math.isclose(abs(number), width**power, rel_tol=1e-4) for power in (0.5, -0.5, -1)
                ):
                    yield (
                        f"{op.op} at {op.source or name}: its number, {number:.4g}, looks like a power of {width}, the "
                        f"features of a table: it would change with the width, beside what the multipliers do"
                    )


def _numbers(op: Op) -> Iterator[tuple[str, float]]:
    """The numbers that a signal is multiplied or divided by."""
    if (
        op.signal
        and op.role in (Role.TRANSPARENT, Role.PRODUCT)
        and op.op in ("mul", "div", "scaled_dot_product_attention")
    ):
        for slot, value in op.constants.items():
            if isinstance(value, float | int) and not isinstance(value, bool) and slot in ("other", "input", "scale"):
                yield slot, float(value)


def _compared_sizes(op: Op) -> int:
    """Of attention in one operation without a scale of its own, the features of a query; 0 where they are not known."""
    query = op.operands.get("input")
    if op.op != "scaled_dot_product_attention" or op.constants.get("scale") is not None or query is None:
        return 0
    return query.shape[-1] if query.shape else 0
