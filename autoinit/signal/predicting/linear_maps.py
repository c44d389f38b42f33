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
from functools import lru_cache
from typing import Any

import torch
from torch.nn import functional

from autoinit.signal.predicting.fields import Axes
from autoinit.tracing.dataflow import Op, ParamUse

Spread = Callable[[torch.Tensor], torch.Tensor]
Mixed = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
EPSILON = 1e-6
MOST_PRODUCTS = 1 << 28
SMALL = 32
"""Products per output up to which weights are drawn, as for windows of one feature: too few for a Gaussian field."""
FEWEST_MIXED = 16
"""Of a convolution with drawn weights: products that it may take, and channels that are mixed all the same."""


@dataclass(frozen=True)
class LinearMap:
    """One weight operation between two tensors, seen through views whose axes have one meaning each.

    Attributes:
        opened, into: shape and meaning of the input's view.
        made, out: of the output's view.
        spread: from the profile of second moments over the input's view (features summed, their axis kept with size 1)
            to the output's; samples and groups may be of size 1 there, too.
        kept: by how much pairs of output positions are less correlated than pairs of input positions, since not all see
            their inputs through the same weights.
        kept_back: the same of the gradients of input positions.
        mixed: of a convolution, the output's view for weights drawn from N(0, 1): it tells how alike neighbours are,
            and positions near a border, up to scale.
        stands_in, stands_out: how many of the layer's features each of the input's, and of the output's, stands for.
    """

    opened: tuple[int, ...]
    into: Axes
    made: tuple[int, ...]
    out: Axes
    spread: Spread
    kept: float = 1.0
    kept_back: float = 1.0
    mixed: Mixed | None = None
    stands_in: float = 1.0
    stands_out: float = 1.0

    def features_in(self) -> int:
        """Inputs that one output sums at one kernel position."""
        return round(self.into.size(self.opened, "c") * self.stands_in)

    def features_out(self) -> int:
        """Outputs that one input enters at one kernel position."""
        return round(self.out.size(self.made, "c") * self.stands_out)


class NoMapError(Exception):
    """The operation is not a linear map that is known here: it has to be run with weights."""


def linear_map(
    op: Op, use: ParamUse, x: torch.Tensor, shape: Sequence[int], samples: int, padding_mode: str = "zeros"
) -> LinearMap:
    """How an operation maps `x` to an output of this shape.

    Args:
        op: a weight operation.
        use: its weight, with a layout.
        x: its input.
        shape: of its output.
        samples: of the model's input; axes that begin with a multiple of as many are split.
        padding_mode: of a convolution's module.

    Raises:
        NoMapError: none is known.
    """
    if use.layout is None:
        raise NoMapError("the weight's axes are not known")
    try:
        make = _MAPS[op.op]
    except KeyError:
        raise NoMapError(f"{op.op} has no rule") from None
    if make is _convolution:
        return _convolution(op, use, tuple(x.shape), tuple(shape), samples, padding_mode)
    return make(op, use, tuple(x.shape), tuple(shape), samples)


def _identity(profile: torch.Tensor) -> torch.Tensor:
    return profile


def _sampled(shape: Sequence[int], letters: str, samples: int) -> tuple[list[int], str]:
    """Sizes and letters with samples and positions apart.

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
    alpha = op.constants.get("alpha", 1)
    if not isinstance(alpha, (int, float)):
        raise NoMapError(f"{op.op} with an alpha that is not known")
    spread = _identity if alpha == 1 else lambda profile: profile * alpha**2
    return LinearMap(tuple(opened), Axes(known), tuple(made), Axes(known), spread)


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
    alone = {letter for letter, size in zip(given, x, strict=True) if size == 1 and letter not in output}
    rows = [letter for letter in given if letter not in weight and letter not in alone]
    groups = [letter for letter in given if letter in weight and letter in output]
    if any(letter not in output for letter in rows):
        raise NoMapError("einsum that sums over rows")

    def meaning(letters: str) -> str:
        return "".join("t" if each in rows else "g" if each in groups else "c" for each in letters)

    opened, into = _sampled(x, meaning(given), samples)
    made, out = _sampled(y, meaning(output), samples)
    before, after = _row_names(given, x, opened, into), _row_names(output, y, made, out)
    if sorted(before) != sorted(after):
        raise NoMapError("einsum whose samples cannot be told apart from its positions")

    def spread(profile: torch.Tensor) -> torch.Tensor:
        rows_only = profile.reshape([size for size, letter in zip(profile.shape, into, strict=True) if letter != "c"])
        moved = rows_only.permute([before.index(each) for each in after])
        sizes = iter(moved.shape)
        return moved.reshape([1 if letter == "c" else next(sizes) for letter in out])

    return LinearMap(tuple(opened), Axes(into), tuple(made), Axes(out), spread)


def _row_names(letters: str, shape: Sequence[int], sizes: Sequence[int], kinds: str) -> list[str]:
    """Names for the axes of a view that are no features: letter and kind, since samples may be split off a letter."""
    named = [letters[0], *letters] if len(sizes) > len(shape) else list(letters)
    return [f"{letter}{kind}" for letter, kind in zip(named, kinds, strict=True) if kind != "c"]


def _convolution(
    op: Op, use: ParamUse, x: tuple[int, ...], y: tuple[int, ...], samples: int, mode: str = "zeros"
) -> LinearMap:
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
    windows = _Windows.of(op.constants, kernel, mode)
    slide = windows.sliding(y[2:], use.layout.transposed)

    def spread(profile: torch.Tensor) -> torch.Tensor:
        shape = profile.shape
        moved = slide(profile.reshape(-1, 1, *shape[4:]))
        return moved.reshape(*shape[:4], *moved.shape[2:])

    fine, coarse = (y, x) if use.layout.transposed else (x, y)
    on_coarse, on_fine = windows.kept(fine[2:], coarse[2:], within)
    kept = (on_fine, on_coarse) if use.layout.transposed else (on_coarse, on_fine)
    if use.layout.transposed:
        return LinearMap(opened, letters, made, letters, spread, *kept)

    def mixed(view: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return windows.drawn(view.flatten(0, 1), made, generator)

    return LinearMap(opened, letters, made, letters, spread, *kept, mixed)


@dataclass(frozen=True)
class _Windows:
    """The geometry of a convolution: for each axis of positions, sizes and what is added before and after."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    around: tuple[tuple[int, int], ...]
    mode: str

    @staticmethod
    def of(constants: Mapping[str, Any], kernel: tuple[int, ...], mode: str) -> _Windows:
        dims = len(kernel)
        stride, dilation = _each(constants.get("stride", 1), dims), _each(constants.get("dilation", 1), dims)
        padding = constants.get("padding", 0)
        if padding == "same":
            missing = [apart * (size - 1) for apart, size in zip(dilation, kernel, strict=True)]
            around = tuple((each // 2, each - each // 2) for each in missing)
        else:
            around = tuple((each, each) for each in _each(0 if padding == "valid" else padding, dims))
        return _Windows(kernel, stride, dilation, around, mode)

    def sliding(self, size: Sequence[int], transposed: bool) -> Spread:
        """The convolution of one channel by ones, to outputs of this size."""
        ones = torch.ones(1, 1, *self.kernel)
        if transposed:
            return lambda profile: self._apart(profile, ones, size)
        convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[len(self.kernel) - 1]
        ends = self._ends()
        mode = "constant" if self.mode == "zeros" else self.mode
        return lambda profile: convolve(
            functional.pad(profile, ends, mode=mode), ones, None, self.stride, 0, self.dilation
        )

    def drawn(self, x: torch.Tensor, made: Sequence[int], generator: torch.Generator) -> torch.Tensor:
        """The convolution with weights from N(0, 1), of the first channels alone where all would take too long.

        Each output's weights have the same norm, as they have where many are summed.

        x: (samples, groups, channels, positions...). made: the output's view.
        """
        groups, channels = x.shape[1:3]
        affordable = MOST_PRODUCTS // (math.prod(made) * math.prod(self.kernel))
        mixed = min(channels, max(FEWEST_MIXED, affordable))
        x = x[:, :, :mixed].flatten(1, 2)
        weight = torch.empty(groups * made[3], mixed, *self.kernel).normal_(generator=generator)
        weight /= weight.square().mean(dim=tuple(range(1, weight.dim())), keepdim=True).sqrt().clamp_min_(EPSILON)
        convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[len(self.kernel) - 1]
        mode = "constant" if self.mode == "zeros" else self.mode
        padded = functional.pad(x, self._ends(), mode=mode)
        return convolve(padded, weight, None, self.stride, 0, self.dilation, groups).reshape(tuple(made))

    def _ends(self) -> list[int]:
        return [end for pair in reversed(self.around) for end in pair]

    def _apart(self, profile: torch.Tensor, ones: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        dims = len(self.kernel)
        padding = tuple(before for before, _ in self.around)
        plain = [
            (n - 1) * s - 2 * p + d * (k - 1) + 1
            for n, s, p, d, k in zip(profile.shape[2:], self.stride, padding, self.dilation, self.kernel, strict=True)
        ]
        extra = [wanted - given for wanted, given in zip(size, plain, strict=True)]
        convolve = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)[dims - 1]
        return convolve(profile, ones, None, self.stride, padding, extra, 1, self.dilation)

    def kept(self, fine: Sequence[int], coarse: Sequence[int], within: int) -> tuple[float, float]:
        """Correlation between positions that is left on the coarse and on the fine side.

        Two positions meet the same weights only through the taps that both have: near a border padded by zeros, and on
        the fine side of a stride, they have different ones. Where inputs have equal second moments and covariances p,
        the covariance of two positions is p times the number of taps that they share, while the deviations are the
        roots of their numbers of taps. Summed over all pairs, less each position with itself: (sum over taps of the
        square of the number of positions that have it - n) / ((sum over positions of the root of the number of their
        taps)^2 - n), n being the number of taps of all positions together. All sums are products over the axes.

        within: positions on an axis that the windows do not cover.
        """
        shared, links, on_coarse, on_fine = float(within**2), float(within), float(within), float(within)
        for axis, (before, after) in enumerate(self.around):
            whole = self.mode != "zeros"
            on_axis = _taps(
                fine[axis] + (before + after if whole else 0), coarse[axis], self.kernel[axis], self.stride[axis],
                0 if whole else before, self.dilation[axis],
            )  # fmt: skip
            shared, links = shared * on_axis[0], links * on_axis[1]
            on_coarse, on_fine = on_coarse * on_axis[2], on_fine * on_axis[3]
        return _ratio(shared - links, on_coarse**2 - links), _ratio(shared - links, on_fine**2 - links)


def _ratio(part: float, whole: float) -> float:
    """The share of pairs; 1 where there are none."""
    return max(0.0, part) / whole if whole > EPSILON else 1.0


@lru_cache(maxsize=1024)
def _taps(fine: int, coarse: int, kernel: int, stride: int, before: int, dilation: int) -> tuple[float, ...]:
    """Along one axis: sums of squared positions per tap, of links, and of roots of taps per position on either side."""
    of_coarse, of_fine, shared = [0] * coarse, [0] * fine, 0
    for tap in range(kernel):
        places = [at for at in range(coarse) if 0 <= at * stride - before + tap * dilation < fine]
        shared += len(places) ** 2
        for at in places:
            of_coarse[at] += 1
            of_fine[at * stride - before + tap * dilation] += 1
    return shared, sum(of_coarse), sum(map(math.sqrt, of_coarse)), sum(map(math.sqrt, of_fine))


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
    "weighted_sum": _einsum,
    "convolution": _convolution,
    **{f"conv{dims}d": _convolution for dims in (1, 2, 3)},
    **{f"conv_transpose{dims}d": _convolution for dims in (1, 2, 3)},
}
