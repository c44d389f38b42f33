"""Noise in weights: `mu + sigma * eps`, whose sigma says how noisy the weight is (NoisyNet, Bayesian layers)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from autoinit.ops import Trait
from autoinit.tracing.dataflow import Op

SHAPED_ONLY = frozenset({"random", "constant"})
"""What takes of its operands their shapes alone."""
_STANDARD = frozenset({"randn", "randn_like"})
"""Calls that draw from the standard normal distribution."""
_SUMS = frozenset({"add", "sub", "addcmul", "addcdiv", "lerp"})


def scales_of_noise(chains: Mapping[Op, Collection[Op]]) -> set[Op]:
    """Of parameters that are added up, those that are multiplied by noise on the way; none, if all of them are.

    chains: for each parameter, the operations on its way.
    """
    noisy = {each for each, chain in chains.items() if any(scales_noise(op, {each, *chain}) for op in chain)}
    added = any(op.op in _SUMS for each in noisy for op in chains[each])
    return noisy if added and len(noisy) < len(chains) else set()


def scales_noise(op: Op, way: Collection[Op]) -> bool:
    """Whether an operation multiplies what comes by this way by noise."""
    if Trait.SCALING in op.traits:
        factors = list(op.operands.values())
    elif op.op in ("addcmul", "addcdiv"):
        factors = [op.operands[slot] for slot in ("tensor1", "tensor2") if slot in op.operands]
    elif op.op == "lerp":  # input + weight * (end - input)
        ends = [each for slot, each in op.operands.items() if slot != "weight"]
        return op.operands.get("weight") in way and any(map(_holds_noise, ends))
    else:
        return False
    return any(each in way for each in factors) and any(map(is_noise, factors))


def is_noise(op: Op) -> bool:
    """Whether it is random, or computed of a buffer that is no mask, and of no parameter."""
    drawn = False
    for each in _sources(op):
        if each.signal or each.op == "parameter":
            return False
        drawn = drawn or _is_drawn(each)
    return drawn


def is_gaussian(op: Op) -> bool:
    """Whether it is drawn from a normal distribution, or that times numbers; about 1 it would be dropout."""
    drawn = False
    for each in _sources(op):  # all of them only where none carries a signal: a deep network has many behind it
        if each.signal or Trait.ADDING in each.traits:
            return False
        drawn = drawn or is_normal(each)
    return drawn


def is_standard_normal(op: Op) -> bool:
    """Whether a call draws numbers of mean 0 and variance 1."""
    return op.op == "random" and op.call is not None and op.call.name in _STANDARD


def is_normal(op: Op) -> bool:
    """Whether it is drawn from a normal distribution here, whatever its mean and scale."""
    return op.op == "normal" or is_standard_normal(op)


def _holds_noise(op: Op) -> bool:
    """Whether noise is among what it is computed of."""
    return any(map(_is_drawn, _sources(op)))


def _sources(op: Op) -> Iterator[Op]:
    """The operation and all that it is computed of; what is drawn is so whatever it is shaped like."""
    waiting, seen = [op], {op}
    for here in waiting:
        yield here
        fresh = [each for each in here.operands.values() if each not in seen and here.op not in SHAPED_ONLY]
        waiting += fresh
        seen.update(fresh)


def _is_drawn(op: Op) -> bool:
    return op.op in ("random", "normal") or (op.op == "buffer" and not _may_be_fixed(op))


def _may_be_fixed(buffer: Op) -> bool:
    """Whether it is one number, once or again and again, all zeros and ones, or all signs."""
    value, rms = buffer.constants.get("value"), buffer.constants.get("rms")
    if not rms or not buffer.shape:
        return not buffer.shape
    if value is None:
        return True
    masks = value > 0 and abs(value - rms * rms) < 1e-6
    return bool(masks or abs(rms - 1) < 1e-6 or abs(abs(value) - rms) < 1e-6 * rms)
