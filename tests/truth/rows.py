"""What a truth table says of one weight layer, and the few rows that most layers share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from autoinit.resolving.resolution import Ending, Resolution

Runs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Row:
    """What a weight, or some of its output rows, feeds.

    slices: (runs of output rows, what they feed), in order of the first row.
    """

    nonlinearity: str
    reason: str
    params: Mapping[str, float] = field(default_factory=dict)
    normalised: bool = False
    slices: tuple[tuple[Runs, Row], ...] = ()


def normed(row: Row) -> Row:
    """The same, with a norm on the way."""
    return replace(row, normalised=True)


def activation(name: str, **params: float) -> Row:
    return Row(name, "activation", params)


def linear(reason: str) -> Row:
    return Row("linear", reason)


RELU, RELU6 = activation("relu"), activation("relu6")
GELU, SILU = activation("gelu"), activation("silu")
SIGMOID, TANH = activation("sigmoid"), activation("tanh")
HARDSWISH, HARDSIGMOID = activation("hardswish"), activation("hardsigmoid")
LRELU_02 = activation("leaky_relu", negative_slope=0.2)
ADD, WEIGHT, GATE = linear("add"), linear("weight"), linear("gate")
ATTENTION, OUTPUT = linear("attention"), linear("output")
SOFTMAX = Row("softmax", "softmax")

WEIGHT_AND_ADD = WEIGHT
"""Read by the next layer and, equally near, by an addition: of equal reasons the first in order of call stands."""


def parted(whole: Row, *parts: tuple[int, Row]) -> Row:
    """A layer whose output features part into consecutive runs: (number of rows, what they feed)."""
    slices: list[tuple[Runs, Row]] = []
    start = 0
    for count, row in parts:
        slices.append((((start, start + count),), row))
        start += count
    return replace(whole, slices=tuple(slices))


def fused_qkv(width: int) -> Row:
    """Query, key and value in one matrix, `width` rows each."""
    return parted(ATTENTION, (width, ATTENTION), (width, ATTENTION), (width, ATTENTION))


def lstm_gates(hidden: int) -> Row:
    """Input, forget, cell and output gate. Of sigmoid (gain 1) and tanh (gain 5/3) the smaller gain stands."""
    gates = [(hidden, row) for row in (SIGMOID, SIGMOID, TANH, SIGMOID)]
    return parted(Row("sigmoid", "mixed"), *gates)


def gru_gates(hidden: int, *, state: bool) -> Row:
    """Reset, update and new gate; the state's part of the new one is multiplied by the reset gate first."""
    return parted(Row("sigmoid", "mixed"), (hidden, SIGMOID), (hidden, SIGMOID), (hidden, GATE if state else TANH))


def rows_of(resolutions: Iterable[Resolution]) -> dict[str, Row]:
    """Resolutions in the form of a truth table; parameters rounded to six decimals."""
    rows: dict[str, Row] = {}
    for resolution in resolutions:
        assert resolution.name not in rows, f"{resolution.name} is resolved twice"
        slices = [(part.rows, _row(part.ending)) for part in sorted(resolution.slices, key=lambda part: part.rows)]
        rows[resolution.name] = replace(_row(resolution.ending), slices=tuple(slices))
    return rows


def _row(ending: Ending) -> Row:
    params = {name: round(float(value), 6) for name, value in ending.params.items()}
    return Row(ending.nonlinearity, str(ending.reason), params, ending.normalised)
