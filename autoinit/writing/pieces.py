"""What this process holds of each parameter: a tensor in memory, and which elements of the whole it is."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from autoinit.errors import ArgumentError, AutoinitError, PlanError, words_of
from autoinit.models import ModelView
from autoinit.tensors.boxes import Box, FlatRun, Region
from autoinit.tensors.placing import LocalLayout, box_of
from autoinit.tensors.sharding import is_sharded, local_piece


@dataclass(frozen=True, eq=False)
class LocalPiece:
    """A part of a tensor.

    Attributes:
        tensor: where its elements lie.
        region: which elements of the whole these are.
    """

    tensor: torch.Tensor
    region: Region

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole tensor."""
        return self.region.shape

    @property
    def part(self) -> Region | None:
        """The region; None where it is the whole."""
        return None if self.region.is_whole else self.region

    def row(self, number: int) -> torch.Tensor:
        """What is here of a row of the whole tensor: a view, empty where none of it is."""
        if isinstance(self.region, FlatRun):
            size = int(np.prod(self.shape[1:]))
            start, stop = np.clip([number * size, (number + 1) * size], self.region.start, self.region.stop)
            return self.tensor[start - self.region.start : stop - self.region.start]
        held = self.region.axes[0]
        if isinstance(held, slice):
            at = number - held.start if held.start <= number < held.stop else -1
        else:
            at = int(next(iter(np.flatnonzero(held == number)), -1))
        return self.tensor[at] if at >= 0 else self.tensor[:0]


@dataclass(frozen=True, eq=False)
class Pieces:
    """The pieces of a model's parameters that this process holds, each looked up when it is first asked for.

    Attributes:
        view: of the model.
        layout: what the caller tells of them.
    """

    view: ModelView
    layout: LocalLayout | None = None
    _found: dict[str, LocalPiece] = field(default_factory=dict, init=False, repr=False)

    @property
    def parted(self) -> bool:
        """Whether other processes may hold other pieces."""
        return self.view.sharded or self.layout is not None

    def of(self, name: str) -> LocalPiece:
        """The piece of a parameter, by its first name.

        Raises:
            PlanError: its placements do not fit what is here.
            ArgumentError: the layout failed, or gave something else than a region that fits the tensor.
        """
        if name not in self._found:
            self._found[name] = self._told(name, self.view.held[name])
        return self._found[name]

    def _told(self, name: str, held: torch.Tensor) -> LocalPiece:
        try:
            answer = self.layout(name, held.detach()) if self.layout is not None else None
        except AutoinitError:
            raise
        except Exception as error:
            failure = f"{type(error).__name__}: {words_of(error)}"
            raise ArgumentError(f"layout({name!r}, ...) failed: {failure}; nothing was written") from error
        if answer is None:
            return piece_of(name, held)
        tensor, region = answer if isinstance(answer, tuple) else (held, answer)
        if not (isinstance(tensor, torch.Tensor) and isinstance(region, Box | FlatRun)):
            raise ArgumentError(
                f"layout({name!r}, ...) gave {answer!r}; expected a Box, a FlatRun, a tensor and one of them, or None"
            )
        tensor = local_piece(tensor)
        if tuple(tensor.shape) != region.local_shape:
            raise ArgumentError(
                f"layout({name!r}, ...) gave {region}, which is held by a tensor of shape {region.local_shape}, but "
                f"the tensor has {tuple(tensor.shape)}"
            )
        return LocalPiece(tensor, region)


def piece_of(name: str, held: torch.Tensor) -> LocalPiece:
    """The piece of a parameter or buffer as it can be seen.

    Raises:
        PlanError: its placements do not fit what is here.
    """
    try:
        return LocalPiece(local_piece(held), box_of(held))
    except PlanError as error:
        raise PlanError(f"{name}: {error}") from None


def is_part(held: torch.Tensor, piece: LocalPiece) -> bool:
    """Whether other processes hold the rest of a tensor, or a copy."""
    return is_sharded(held) or not piece.region.is_whole
