"""The roles that an operation can play on the walk from a weight to what it feeds."""

from __future__ import annotations

from enum import Enum


class Role(str, Enum):
    """What an operation does to the walk (`DESIGN`: roles of operations).

    The value of each member is its name in reports and JSON.
    """

    WEIGHT = "weight"
    """A parameter enters here: the walk ends, linear, reason `weight`."""
    NONLINEARITY = "nonlinearity"
    """The walk ends with this nonlinearity."""
    TRANSPARENT = "transparent"
    """The walk passes."""
    NORM = "norm"
    """The walk passes and the layer is marked `normalised`."""
    ADD = "add"
    """A sum of two signals: the walk ends, linear, reason `add`."""
    PRODUCT = "product"
    """A product of two signals: the walk ends, linear, reason `gate` or `attention`."""
    SPLIT = "split"
    """The features part: one walk per piece."""
    SINK = "sink"
    """Output or loss, or an operation whose result carries no signal (argmax, comparison, size)."""
    SOURCE = "source"
    """Makes a tensor that does not continue its operands' signal: input, constant, random, table look-up."""
    UNKNOWN = "unknown"
    """Not in the table: the walk ends, reason `unresolved`, and the operation is listed as unsupported."""

    def __str__(self) -> str:
        return self.value
