"""The roles that an operation can play on the walk from a weight to what it feeds, and what else is asked of it."""

from __future__ import annotations

from enum import Enum, Flag, auto


class Role(str, Enum):
    """What an operation does to the walk.

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


class Trait(Flag):
    """What rooms ask of an operation beside its role, whatever its name."""

    NONE = 0
    NEUTRAL = auto()
    """Gives the values of its operand as they are (dropout in expectation)."""
    JOINING = auto()
    """Sets its operands side by side."""
    CHOOSING = auto()
    """Takes each element from one of its operands: curved where it chooses between functions of one tensor."""
    RANKING = auto()
    """Only the rank or the sign of its operands' values goes on."""
    SUMMING = auto()
    """Adds elements up, so that a number that multiplies the result may make up for their count."""
    STANDARDISING = auto()
    """A norm whose output has second moment 1, but for its gain and bias."""
    ADDING = auto()
    """Adds one operand to the other, or takes it away."""
    SCALING = auto()
    """Multiplies or divides one operand by the other."""
    WINDOWED = auto()
    """Reads neighbouring positions other than by weights; features do not mix."""
    LOOKUP = auto()
    """Looks up rows of a table that it holds, by their numbers."""
    RECURRENT = auto()
    """Goes through a sequence, or one step of it, with weights for what comes in and for its state."""
    CHANNELWISE = auto()
    """A norm of each channel by itself."""
    OVER_SAMPLES = auto()
    """A norm whose moments are those of a batch of samples."""
