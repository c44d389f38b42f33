"""True fans: how many products enter one output and how many leave one input, by geometry.

Let every weight have mean 0 and variance v, independent of the signal. An output that sums n products of a weight and
an input of second moment q has variance n v q; n is fan_in. The gradient of an input that reaches m outputs, each
through one weight, has variance m v times the outputs' gradient's; m is fan_out (Glorot & Bengio 2010, eq. 5 and 6;
He et al. 2015, section 2.2). `torch.nn.init` reads both from the tensor's shape alone, which is right for plain
linear layers and for fan_in of convolutions; `fans` counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from autoinit.errors import ArgumentError
from autoinit.theory.layouts import Layout, size

Mode = Literal["fan_in", "fan_out", "fan_avg"]
MODES: Mapping[Mode, str] = {
    "fan_in": "keeps the forward signal (He et al. 2015, eq. 10)",
    "fan_out": "keeps the gradient (He et al. 2015, eq. 14)",
    "fan_avg": "the compromise of both (Glorot & Bengio 2010, eq. 12)",
}
"""The fans that a std may be computed from, and what each is for. A mode is the attribute of `Fans` of its name."""


@dataclass(frozen=True)
class Fans:
    """Products per output (fan_in) and per input (fan_out), averaged over positions, so not always whole."""

    fan_in: float
    fan_out: float

    @property
    def fan_avg(self) -> float:
        """The mean of both."""
        return (self.fan_in + self.fan_out) / 2

    @property
    def by_mode(self) -> dict[Mode, float]:
        """The fan of each mode."""
        return {mode: getattr(self, mode) for mode in MODES}


def fans(layout: Layout, shape: Sequence[int], rows: Sequence[tuple[int, int]] = ()) -> Fans:
    """The fans of a weight of this shape and layout.

    Write O, I, K for the products of the sizes of the tensor's `o`, `i` and `k` axes, g for groups, s for the stride
    area. `b` axes (experts, heads with matrices of their own) are independent copies and count for nothing.

    - **Linear** (`oi`), `x @ W` (`io`), einsum (`ioo`, `iio`, ...), stacked experts (`bio`): an output sums all I
      inputs, an input reaches all O outputs. fan_in = I, fan_out = O.
    - **Bilinear** (`oii`): linear in the in1 * in2 products of its two inputs. fan_in = in1 * in2 and, for the
      gradient of such a product, fan_out = out; the gradient of an element of input 1 sums in2 of these (of
      input 2, in1).
    - **Convolution** (`oik..`, I = in / g, O = out): an output at one position sums a window of K positions over the
      in / g channels of its group. An input is read by the out / g channels of its group; the windows start at every
      stride-th position, so K / s of them, on average over positions, hold it.
      fan_in = I K, fan_out = (O / g) K / s.
    - **Transposed convolution** (`iok..`, I = in, O = out / g): the same sum with input and output exchanged. An
      input writes to K positions of the out / g channels of its group; an output position receives, on average, K / s
      positions of in / g channels. fan_in = (I / g) K / s, fan_out = O K.

    - **A slice** has its rows in place of the outputs. Of a convolution with groups it has only the groups that its
      rows lie in: a depthwise one cut in two is two depthwise convolutions.

    Averages over positions are away from the borders, where padding takes products away.

    Args:
        layout: what the axes mean.
        shape: of the weight tensor.
        rows: for a slice of the weight: half-open runs of output features that belong to it (indices of all its `o`
            axes together; of a transposed convolution, of the operation's output).

    Raises:
        ArgumentError: layout, shape and rows do not fit each other.
    """
    _require_fit(layout, shape)
    inputs, outputs, positions = (size(layout.axes, shape, axis) for axis in "iok")
    of_group = outputs if layout.transposed else outputs // layout.groups
    reached = _of_each_group(rows, of_group, layout.groups) if rows else of_group
    if layout.transposed:
        return Fans(inputs * positions / (layout.groups * layout.stride_area), float(reached * positions))
    return Fans(float(inputs * positions), reached * positions / layout.stride_area)


def _of_each_group(rows: Sequence[tuple[int, int]], of_group: int, groups: int) -> float:
    """How many of these rows an input reaches, on average over the groups that they lie in."""
    last = of_group * groups
    if not all(0 <= start < stop <= last for start, stop in rows):
        raise ArgumentError(f"rows={list(rows)} of a weight with {last} output rows; expected runs within 0 to {last}")
    covered = {group for start, stop in rows for group in range(start // of_group, -(-stop // of_group))}
    return sum(stop - start for start, stop in rows) / len(covered)


def _require_fit(layout: Layout, shape: Sequence[int]) -> None:
    shape = tuple(shape)
    unknown = sorted(set(layout.axes) - set("oikb"))
    if unknown:
        raise ArgumentError(f"layout {layout.axes!r} has unknown axes {', '.join(unknown)}; expected letters of 'oikb'")
    if len(layout.axes) != len(shape):
        raise ArgumentError(
            f"layout {layout.axes!r} describes {len(layout.axes)} axes, the weight has shape {shape}; "
            "expected one letter for each dimension"
        )
    if any(each < 0 for each in shape):
        raise ArgumentError(f"shape {shape} has a negative size")
    if layout.groups < 1 or layout.stride_area < 1:
        raise ArgumentError(
            f"layout has groups={layout.groups} and stride_area={layout.stride_area}; expected at least 1 each"
        )
    grouped = "i" if layout.transposed else "o"
    features = size(layout.axes, shape, grouped)
    if features % layout.groups:
        raise ArgumentError(
            f"{layout.groups} groups do not divide the {features} features on axis "
            f"{grouped!r} of a weight of shape {shape}"
        )
