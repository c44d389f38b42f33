"""What is asked of the makers of arguments."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch

from autoinit.tracing.guessing._resizing import Change
from autoinit.tracing.guessing._settings import Settings
from autoinit.tracing.guessing._subject import GuessedModel
from autoinit.tracing.inputs import floats

BATCH = 2
LENGTH = 8
"""Tokens of a row, and steps of a sequence, where nothing says how many."""

Made = Sequence[Any]
"""What an argument may be, most likely first: shapes of floating-point tensors, or values. Empty: not known."""


_MOST_REAL = 1 << 24  # elements


def numbers(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Gaussian numbers; a very large tensor has no values, and is on meta."""
    return floats(shape, dtype) if prod(shape) <= _MOST_REAL else torch.empty(shape, dtype=dtype, device="meta")


@dataclass(frozen=True)
class Request:
    """One call of a model's forward that arguments are made for.

    Attributes:
        choice: which of what an argument may be, the last one where there are fewer: of the arguments whose name has
            `varied`; the first one of the others.
        special: how many placeholder tokens the whole batch must have for an image, say ({"image": 576}).
        given: the arguments made so far.
        changes: other sizes, after failures.
        seen: what calls were made, so that none is made again after another's failure.
        axes: how many axes arguments with so many axes are to have in their place, where they can.
    """

    subject: GuessedModel
    choice: int = 0
    varied: re.Pattern[str] = re.compile("")
    special: Mapping[str, int] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    axes: Mapping[int, int] = field(default_factory=dict)
    seen: set[Any] = field(default_factory=set, repr=False, compare=False)

    @property
    def settings(self) -> Settings:
        """The model's configuration."""
        return self.subject.settings
