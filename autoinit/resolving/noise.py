"""A weight's noise as a layer of its own.

`F.linear(x, mu) + F.linear(x, sigma * eps)` is one layer, whose weight is mu + sigma * eps.
"""

from __future__ import annotations

from collections.abc import Iterator

from autoinit.ops import Role, Trait
from autoinit.tracing.dataflow import Dataflow, Op
from autoinit.tracing.noise import is_noise, scales_noise


def noise_layers(dataflow: Dataflow) -> dict[Op, Op]:
    """For each sum of a layer and its weight's noise: the operation that the noise enters by."""
    found = {}
    for op in dataflow.graph.nodes:
        operands = list(op.operands.values())
        if op.role is not Role.ADD or Trait.ADDING not in op.traits or op.op == "rsub" or len(operands) != 2:
            continue
        for plain, noisy in (operands, operands[::-1]):
            layer, noise = _layer(plain), _layer(noisy)
            if layer is None or noise is None or _is_noisy(layer, plain) or not _is_noisy(noise, noisy):
                continue
            if _input(layer) is _input(noise) is not None:
                found[op] = noise
    return found


def _layer(op: Op) -> Op | None:
    """The weight operation whose output comes here, moved and scaled at most."""
    while op.role is Role.TRANSPARENT:
        signals = _signals(op)
        if len(signals) != 1:
            return None
        (op,) = signals
    return op if op.role is Role.WEIGHT else None


def _is_noisy(layer: Op, end: Op) -> bool:
    """Whether noise multiplies all of a layer's weight; or its input, and its output on the way to `end`."""
    weights = [each for slot, each in layer.operands.items() if not each.signal and not slot.startswith("bias")]
    if any(_is_multiplied(each) for each in weights):
        return True
    taken = _signals(layer)
    return len(taken) == 1 and _is_times_noise(taken[0]) and _is_times_noise(end)


def _is_multiplied(weight: Op) -> bool:
    before = list(_before(weight))
    return any(scales_noise(op, before) for op in before)


def _before(op: Op) -> Iterator[Op]:
    waiting, seen = [op], {op}
    for here in waiting:
        yield here
        fresh = [each for each in here.operands.values() if each not in seen]
        waiting += fresh
        seen.update(fresh)


def _input(layer: Op) -> Op | None:
    """What comes into a layer, before noise multiplies it."""
    signals = _signals(layer)
    while len(signals) == 1 and _is_times_noise(signals[0]):
        signals = _signals(signals[0])
    return signals[0] if len(signals) == 1 else None


def _is_times_noise(op: Op) -> bool:
    return op.op == "mul" and len(_signals(op)) == 1 and any(map(is_noise, op.operands.values()))


def _signals(op: Op) -> list[Op]:
    return [each for each in op.operands.values() if each.signal]
