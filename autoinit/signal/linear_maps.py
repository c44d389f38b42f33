"""Weight operations as mean-field theory sees them: which axes they sum over, and how windows spread the signal.

With independent zero-mean weights of variance v, an output's second moment is v times the sum, over the products that
enter it, of the inputs' second moments. Away from features that sum is a linear map of the second moments' profile over
positions: the same operation with one channel and all weights 1 (`Spread`). Its adjoint takes the gradient's profile
back. Padding, stride, dilation and output padding are thereby exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from autoinit.signal.fields import Axes
from autoinit.tracing.dataflow import Op, ParamUse

Spread = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class LinearMap:
    """One weight operation between two tensors, seen through views whose axes have one meaning each.

    opened, into: shape and meaning of the input's view. made, out: of the output's view. spread: from the profile of
    second moments over the input's view (features summed, their axis kept with size 1) to the output's.
    kept: by how much pairs of output positions are less correlated than pairs of input positions, since not all see
    their inputs through the same weights. kept_back: the same of the gradients of input positions.
    """

    opened: tuple[int, ...]
    into: Axes
    made: tuple[int, ...]
    out: Axes
    spread: Spread
    kept: float = 1.0
    kept_back: float = 1.0

    def features_in(self) -> int:
        """Inputs that one output sums at one kernel position."""
        return self.into.size(self.opened, "c")

    def features_out(self) -> int:
        """Outputs that one input reaches at one kernel position."""
        return self.out.size(self.made, "c")


class NoMapError(Exception):
    """The operation is not a linear map that is known here: it has to be run with weights."""


def linear_map(op: Op, use: ParamUse, x: torch.Tensor, shape: Sequence[int], samples: int) -> LinearMap:
    """How an operation maps `x` to an output of this shape.

    Args:
        op: a weight operation.
        use: its weight, with a layout.
        x: its input.
        shape: of its output.
        samples: of the model's input; axes that begin with a multiple of as many are split.

    Raises:
        NoMapError: none is known.
    """
    if use.layout is None:
        raise NoMapError("the weight's axes are not known")
    try:
        make = _MAPS[op.op]
    except KeyError:
        raise NoMapError(f"{op.op} has no rule") from None
    return make(op, use, tuple(x.shape), tuple(shape), samples)


def _identity(profile: torch.Tensor) -> torch.Tensor:
    return profile


def _sampled(shape: Sequence[int], letters: str, samples: int) -> tuple[list[int], str]:
    """Sizes and letters with the samples told from the positions.

    The axis that has as many elements as there are samples, the first where several do; else the first axis, split,
    where these divide it (windows of one image follow each other).
    """
    sizes = list(shape)
    places = [at for at, letter in enumerate(letters) if letter == "t"]
    at = next((at for at in places if sizes[at] == samples), None)
    if samples > 1 and at is not None:
        return sizes, f"{letters[:at]}b{letters[at + 1 :]}"
    if samples > 1 and places and places[0] == 0 and sizes[0] and sizes[0] % samples == 0:
        return [samples, sizes[0] // samples, *sizes[1:]], f"bt{letters[1:]}"
    return sizes, letters


def features_last(x: Sequence[int], features: int, samples: int) -> LinearMap:
    """Of inputs of this shape to so many features, as `F.linear` does."""
    sizes, letters = _sampled(x, "t" * (len(x) - 1) + "c", samples)
    axes = Axes(letters)
    return LinearMap(tuple(sizes), axes, (*sizes[:-1], features), axes, _identity)


def _linear(_op: Op, _use: ParamUse, x: tuple[int, ...], y: tuple[int, ...], samples: int) -> LinearMap:
    return features_last(x, y[-1], samples)


def _matmul(op: Op, use: ParamUse, x: tuple[int, ...], y: tuple[int, ...], samples: int) -> LinearMap:
    """`x @ W`, `W @ x` and their batched forms; axes that the weight has copies along are groups."""
    assert use.layout is not None
    copies = use.layout.axes.count("b")
    at = -1 if use.slot != "input" else -2
    if len(x) != len(y) or len(x) < 2 or copies > len(x) - 2:
        raise NoMapError(f"{op.op} of shapes {x} and {y}")
    letters = ["t"] * len(x)
    letters[at] = "c"
    for axis in range(len(x) - 2 - copies, len(x) - 2):
        letters[axis] = "g"
    opened, known = _sampled(x, "".join(letters), samples)
    made, _ = _sampled(y, "".join(letters), samples)
    if len(made) != len(opened):
        raise NoMapError(f"{op.op} of shapes {x} and {y}")
    return LinearMap(tuple(opened), Axes(known), tuple(made), Axes(known), _identity)


def _einsum(op: Op, use: ParamUse, x: tuple[int, ...], y: tuple[int, ...], samples: int) -> LinearMap:
    """Letters that the weight shares with the input alone are summed, those it shares with both are groups."""
    equation = op.constants.get("equation")
    if not isinstance(equation, str) or "->" not in equation or "." in equation:
        raise NoMapError("einsum without explicit letters")
    terms, _, output = equation.replace(" ", "").partition("->")
    operands = terms.split(",")
    if len(operands) != 2:
        raise NoMapError("einsum of more than two operands")
    weight = operands[int(use.slot.rpartition(".")[2])]
    given = operands[1 - int(use.slot.rpartition(".")[2])]
    if len(set(given)) != len(given) or len(set(output)) != len(output):
        raise NoMapError("einsum with a diagonal")
    rows = [letter for letter in given if letter not in weight]
    groups = [letter for letter in given if letter in weight and letter in output]
    if any(letter not in output for letter in rows):
        raise NoMapError("einsum that sums over rows")
    # Rows must come in the same order on both sides for one view to serve; einsum keeps it nearly always.
    if [letter for letter in output if letter in rows] != rows or [each for each in output if each in groups] != groups:
        raise NoMapError("einsum that reorders rows")

    def meaning(letters: str) -> str:
        return "".join("t" if each in rows else "g" if each in groups else "c" for each in letters)

    opened, into = _sampled(x, meaning(given), samples)
    made, out = _sampled(y, meaning(output), samples)
    rank_in = [size for size, letter in zip(opened, into, strict=True) if letter in "btg"]
    rank_out = [size for size, letter in zip(made, out, strict=True) if letter in "btg"]

    def spread(profile: torch.Tensor) -> torch.Tensor:
        assert rank_in == rank_out
        return profile.reshape([1 if letter == "c" else size for size, letter in zip(made, out, strict=True)])

    return LinearMap(tuple(opened), Axes(into), tuple(made), Axes(out), spread)


def _convolution(op: Op, use: ParamUse, x: tuple[int, ...], y: tuple[int, ...], samples: int) -> LinearMap:
    """Windows of positions; groups of channels never meet."""
    assert use.layout is not None
    dims = len(use.shape) - 2
    if len(x) != dims + 2:
        raise NoMapError(f"{op.op} of an input without a batch axis")
    groups = use.layout.groups
    kernel = tuple(size for size, letter in zip(use.shape, use.layout.axes, strict=True) if letter == "k")
    if len(kernel) != dims:
        raise NoMapError("the kernel's axes are not known")
    first = samples if samples > 1 and x[0] % samples == 0 else 1
    within = x[0] // first
    letters = Axes("btgc" + "t" * dims)
    opened = (first, within, groups, x[1] // groups, *x[2:])
    made = (first, within, groups, y[1] // groups, *y[2:])
    slide = _sliding(op.constants, kernel, y[2:], use.layout.transposed)

    def spread(profile: torch.Tensor) -> torch.Tensor:
        shape = profile.shape
        moved = slide(profile.reshape(-1, 1, *shape[4:]))
        return moved.reshape(*shape[:4], *moved.shape[2:])

    kept = _same_phase(op.constants, kernel, within * math.prod((y if use.layout.transposed else x)[2:]))
    both = (kept, 1.0) if use.layout.transposed else (1.0, kept)
    return LinearMap(opened, letters, made, letters, spread, *both)


def _same_phase(constants: Mapping[str, Any], kernel: tuple[int, ...], positions: int) -> float:
    """Correlation left between positions on the fine side of a strided convolution.

    A position's phase, its place modulo the stride, says which taps of the kernel reach it; positions of different
    phases meet different weights. With T taps at each of s phases along an axis, the covariance of two positions is
    proportional to T where their phases agree and is 0 elsewhere, the product of their deviations to sqrt(T T').
    Sums over all pairs of n positions, less each with itself, give the ratio.
    """
    dims = len(kernel)
    stride, dilation = _each(constants.get("stride", 1), dims), _each(constants.get("dilation", 1), dims)
    same = all_pairs = alone = 1.0
    for size, step, apart in zip(kernel, stride, dilation, strict=True):
        taps = [0] * step
        for tap in range(size):
            taps[tap * apart % step] += 1
        same *= size / step**2
        all_pairs *= (sum(map(math.sqrt, taps)) / step) ** 2
        alone *= size / step
    pairs = positions * all_pairs - alone
    return max(0.0, positions * same - alone) / pairs if pairs > 0 else 1.0


def _sliding(constants: Mapping[str, Any], kernel: tuple[int, ...], size: Sequence[int], transposed: bool) -> Spread:
    """A convolution of one channel by ones."""
    dims = len(kernel)
    ones = torch.ones(1, 1, *kernel)
    stride, dilation = _each(constants.get("stride", 1), dims), _each(constants.get("dilation", 1), dims)
    padding = constants.get("padding", 0)
    convolve = (torch.nn.functional.conv1d, torch.nn.functional.conv2d, torch.nn.functional.conv3d)[dims - 1]
    if isinstance(padding, str):
        return lambda profile: convolve(profile, ones, None, stride, padding, dilation)
    around = _each(padding, dims)
    if not transposed:
        mode = constants.get("padding_mode", "zeros")
        if mode not in ("zeros", None):
            ends = [each for each in reversed(around) for _ in range(2)]
            return lambda profile: convolve(
                torch.nn.functional.pad(profile, ends, mode=mode), ones, None, stride, 0, dilation
            )
        return lambda profile: convolve(profile, ones, None, stride, around, dilation)
    back = (
        torch.nn.functional.conv_transpose1d,
        torch.nn.functional.conv_transpose2d,
        torch.nn.functional.conv_transpose3d,
    )[dims - 1]

    def apart(profile: torch.Tensor) -> torch.Tensor:
        plain = [
            (n - 1) * s - 2 * p + d * (k - 1) + 1
            for n, s, p, d, k in zip(profile.shape[2:], stride, around, dilation, kernel, strict=True)
        ]
        extra = [wanted - given for wanted, given in zip(size, plain, strict=True)]
        return back(profile, ones, None, stride, around, extra, 1, dilation)

    return apart


def _each(value: Any, dims: int) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * dims
    given = tuple(value)
    return given * dims if len(given) == 1 else given


_MAPS: dict[str, Callable[[Op, ParamUse, tuple[int, ...], tuple[int, ...], int], LinearMap]] = {
    "linear": _linear,
    "grouped_mm": _linear,
    "matmul": _matmul,
    "addmm": _matmul,
    "einsum": _einsum,
    "convolution": _convolution,
    **{f"conv{dims}d": _convolution for dims in (1, 2, 3)},
    **{f"conv_transpose{dims}d": _convolution for dims in (1, 2, 3)},
}


def weight_rows(linear: LinearMap) -> int:
    """Output features of all groups together: rows of the weight."""
    return math.prod(size for size, letter in zip(linear.made, linear.out.letters, strict=True) if letter in "gc")
