"""Other sizes of arguments, after a failure that says which sizes do not go together."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from math import prod
from typing import Any

import torch

from autoinit.errors import words_of
from autoinit.tracing.inputs import Inputs

_MOST = 5  # changes of one call
_LARGEST = 1 << 16
_IMAGE = 4  # dimensions
_SMALLEST, _LARGEST_SIDE = 8, 1024
_EXTRA_TOKENS = (1, 0, 2)
"""Of a class, or of a class and a distillation, beside those of patches."""
_SIZES = r"(?:torch\.Size\()?[(\[]([\d, ]+)[\])]"
_ONE_WAY = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"cannot be multiplied \((?:\d+x)*(?P<found>\d+) and (?P<wanted>\d+)x",
        r"same reduction dim, but got \[(?:\d+, )*(?P<found>\d+)\] X \[(?P<wanted>\d+)",
        r"normalized_shape=\[(?P<wanted>\d+)\].*got input of size.*\b(?P<found>\d+)\]",
        r"to have (?P<wanted>\d+) channels, but got (?P<found>\d+) channels",
        r"key weights shape of \(\d+, (?P<found>\d+)\), but got torch\.Size\(\[\d+, (?P<wanted>\d+)\]",
        r"running_mean should contain (?P<found>\d+) elements not (?P<wanted>\d+)",
        r"input_size\W+[Ee]xpected:? (?P<wanted>\d+),? got:? (?P<found>\d+)",
        r"expecting embedding dimension of (?P<wanted>\d+), but got (?P<found>\d+)",
    )
)
"""What a weight takes is wanted."""
_EITHER_WAY = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"tensor a \((?P<found>\d+)\) must match the size of tensor b \((?P<wanted>\d+)\)",
        r"[Ee]xpected (?:size )?(?P<found>\d+)(?: in dimension \d+)? but got (?:size )?(?P<wanted>\d+) for tensor",
        r"expanded size of the tensor \((?P<found>\d+)\) must match the existing size \((?P<wanted>\d+)\)",
        r"batch2 tensor to be: \[\d+, (?P<wanted>\d+)\] but got: \[\d+, (?P<found>\d+)\]",
        r"has size (?P<wanted>\d+) for operand \d+ which does not broadcast with previously seen size (?P<found>\d+)",
    )
)
"""Two tensors are to be alike."""
_BROADCAST = (
    re.compile(rf"arg 0 with shape {_SIZES}.*arg 1 with shape {_SIZES}", re.DOTALL),
    re.compile(rf"argument at index 1 had {_SIZES}.*broadcastable to {_SIZES}", re.DOTALL),
)
_INVALID = re.compile(r"shape '\[([\d, ]+)\]' is invalid for input of size (\d+)")


@dataclass(frozen=True)
class Change:
    """Another size of an argument along an axis, and of others; of all arguments if `name` is empty."""

    name: str
    axis: int
    size: int
    others: tuple[tuple[int, int], ...] = ()

    def applied(self, name: str, value: Any) -> Any:
        """The argument's value with this size, its numbers repeated or cut off."""
        if self.name not in ("", name) or not isinstance(value, torch.Tensor):
            return value
        for axis, size in ((self.axis, self.size), *self.others):
            if value.dim() > axis:
                times = [1] * value.dim()
                times[axis] = -(-size // value.shape[axis])
                value = value.repeat(times).narrow(axis, 0, size)
        return value


def proposed(text: str, arguments: Mapping[str, Any]) -> Iterator[Change]:
    """Changes that a failure suggests: an argument that has the size that was found takes the one that was wanted."""
    if _forgets_samples(text):
        yield Change("", 0, 1)
    for is_size, wanted in _pairs(text):
        for name, value in arguments.items():
            if isinstance(value, torch.Tensor) and 0 < wanted <= _LARGEST and wanted not in value.shape[1:]:
                axes = range(value.dim() - 1, 0, -1) if value.is_floating_point() else range(1, min(value.dim(), 2))
                yield from (Change(name, axis, wanted) for axis in axes if value.shape[axis] == is_size)
    yield from _shares(text, arguments)
    yield from _patches(text, arguments)


def _patches(text: str, arguments: Mapping[str, Any]) -> Iterator[Change]:
    """Larger or smaller images, where they were cut into more or fewer patches than there are positions."""
    for (found, wanted), extra in itertools.product(_pairs(text), _EXTRA_TOKENS):
        for name, value in arguments.items():
            if isinstance(value, torch.Tensor) and value.dim() == _IMAGE and min(found, wanted) > extra:
                sides = [side * math.sqrt((wanted - extra) / (found - extra)) for side in value.shape[2:]]
                height, width = (round(side) for side in sides)
                if all(side == round(side) and _SMALLEST <= side <= _LARGEST_SIDE for side in sides):
                    yield Change(name, 2, height, ((3, width),))


def _shares(text: str, arguments: Mapping[str, Any]) -> Iterator[Change]:
    """Less of one argument, where several are joined and are too much together."""
    for pattern in _ONE_WAY[:2]:
        if found := pattern.search(text):
            wanted = int(found["wanted"])
            excess = int(found["found"]) - wanted
            for name, value in arguments.items():
                if excess > 0 and isinstance(value, torch.Tensor) and value.is_floating_point() and value.dim() > 1:
                    width, axis = value.shape[-1], value.dim() - 1
                    less = width - excess if width > excess else wanted // 2
                    if 0 < less < width <= wanted:
                        yield Change(name, axis, less)


def _forgets_samples(text: str) -> bool:
    """Whether a shape has as many numbers too many as there are samples."""
    found = _INVALID.search(text)
    sizes = _numbers(found[1]) if found else ()
    return found is not None and sizes[0] > 1 and prod(sizes) == sizes[0] * int(found[2])


def repairing(inputs: Inputs, names: Sequence[str], changes: tuple[Change, ...] = ()) -> Inputs:
    """The same arguments, positional ones of these names, with others of other sizes after a failure."""
    return replace(inputs, repaired=partial(_repaired, inputs, tuple(names), changes))


def _repaired(
    inputs: Inputs, names: tuple[str, ...], changes: tuple[Change, ...], error: BaseException
) -> Inputs | None:
    given = {**dict(zip(names, inputs.args, strict=False)), **inputs.kwargs}
    change = next_change(words_of(error), given, changes)
    if change is None:
        return None
    args = tuple(change.applied(name, value) for name, value in zip_longest(names, inputs.args, fillvalue=""))
    kwargs = {name: change.applied(name, value) for name, value in inputs.kwargs.items()}
    return repairing(replace(inputs, args=args[: len(inputs.args)], kwargs=kwargs), names, (*changes, change))


def next_change(text: str, arguments: Mapping[str, Any], changes: tuple[Change, ...]) -> Change | None:
    """The first change that a failure suggests and that was not made yet."""
    if len(changes) >= _MOST:
        return None
    return next((each for each in proposed(text, arguments) if each not in changes), None)


def _pairs(text: str) -> Iterator[tuple[int, int]]:
    """(found, wanted)."""
    for pattern in _ONE_WAY:
        if found := pattern.search(text):
            yield int(found["found"]), int(found["wanted"])
    for pattern in _EITHER_WAY:
        if found := pattern.search(text):
            sizes = int(found["found"]), int(found["wanted"])
            yield from (sizes, sizes[::-1])
    for pattern in _BROADCAST:
        if found := pattern.search(text):
            for sizes in zip(reversed(_numbers(found[1])), reversed(_numbers(found[2])), strict=False):
                if 1 not in sizes and sizes[0] != sizes[1]:
                    yield from (sizes, sizes[::-1])


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(each) for each in re.findall(r"\d+", text))
