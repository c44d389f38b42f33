"""What the norm that a weight feeds makes of the signal: whether it restores the scale, or its eps outweighs it."""

from __future__ import annotations

from typing import NamedTuple

from autoinit.checking._part import Part
from autoinit.checking._subject import Subject
from autoinit.ops import Role
from autoinit.tracing.dataflow import Op


class Normed(NamedTuple):
    """What a norm makes of the signal.

    Attributes:
        q: the second moment behind it.
        asked: that which its gain and bias ask for.
    """

    norm: str
    q: float
    asked: float

    @property
    def outweighed(self) -> bool:
        """Whether the norm's eps outweighs the signal, so that it does not restore the scale."""
        return self.q < self.asked / 2


def normed(subject: Subject, part: Part) -> Normed | None:
    """What the norm that a part of a weight feeds makes of the signal; None where that is not known."""
    ops = (subject.dataflow.by_name.get(name) for name in part.place.path)
    norm = next((op for op in ops if op is not None and op.role is Role.NORM), None)
    if norm is None or subject.signal is None:
        return None
    predicted = subject.signal.by_operation.get(norm.name)
    asked = _asked(subject, norm)
    if predicted is None or predicted.row is None or asked is None:
        return None
    return Normed(norm.name, predicted.row.q, asked)


def _asked(subject: Subject, norm: Op) -> float | None:
    """The second moment of an output of a norm whose eps counts for nothing; None where that is not known."""
    if norm.op == "normalize":
        return _of_unit_length(norm)
    names = {use.slot: use.name for use in norm.params}
    names |= {slot: use.name for slot, operand in norm.operands.items() for use in operand.params}
    held = {slot: subject.parameters[name].detach().float() for slot, name in names.items()}
    gain = float(held["weight"].square().mean()) if "weight" in held else 1.0
    return gain + (float(held["bias"].square().mean()) if "bias" in held else 0.0)


def _of_unit_length(norm: Op) -> float | None:
    """The same of vectors of Euclidean length 1: C of them have mean square 1 / C, and what follows may scale them."""
    axis = norm.constants.get("dim")
    if norm.shape is None or norm.constants.get("p") != 2 or not isinstance(axis, int):
        return None
    return 1 / norm.shape[axis]
