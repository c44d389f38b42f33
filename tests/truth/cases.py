"""A model with its truth table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from tests.truth.rows import Row


@dataclass(frozen=True)
class Case:
    """A model whose every weight layer is known.

    build: makes the model. inputs: makes its positional arguments. table: what every weight layer feeds.
    others: parameters of two or more dimensions that are not weight layers (position tables, layer scales).
    symbolic: whether tracing without running it must work. exported: whether it is also tested through
    `torch.export`, which is slow.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Any, ...]]
    table: Callable[[], Mapping[str, Row]]
    others: tuple[str, ...] = ()
    symbolic: bool = False
    exported: bool = False
