"""Filling and measuring many tensors in threads, largest first."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch

from autoinit.tensors import elements, measuring
from autoinit.tensors.elements import Elements
from autoinit.tensors.measuring import Moments
from autoinit.tensors.parallel import Task, in_parallel
from autoinit.writing import sampling

CHUNK = sampling.CHUNK
SAMPLED = 1 << 16
"""About as many elements of a large weight are looked at before it is written."""


@dataclass(frozen=True, eq=False)
class Job:
    """One tensor to fill.

    Attributes:
        inline: whether to measure each part just after it is filled, and before: of large tensors a sample.
    """

    name: str
    tensor: torch.Tensor
    draw: sampling.Draw
    inline: bool = False

    @cached_property
    def held(self) -> Elements:
        """The tensor's elements."""
        return Elements(self.tensor)


@dataclass
class Progress:
    """What has been filled so far: names of tensors, and the pieces done of each."""

    pieces: dict[str, int]
    started: set[str] = field(default_factory=set)
    done: list[str] = field(default_factory=list)

    @property
    def complete(self) -> list[str]:
        """Tensors filled to the end."""
        return [name for name, count in self.pieces.items() if self.done.count(name) == count]

    @property
    def partial(self) -> list[str]:
        """Tensors begun and not finished."""
        return [name for name in self.started if self.done.count(name) < self.pieces[name]]


def measure_all(tensors: Mapping[str, torch.Tensor]) -> dict[str, Moments]:
    """Moments of many tensors; those on the meta device are left out."""
    parts: dict[str, dict[int, Moments]] = {name: {} for name, tensor in tensors.items() if not tensor.is_meta}
    times: dict[str, int] = {}
    tasks = []
    for name, found in parts.items():
        held = Elements(elements.any_order(elements.stored(tensors[name])))
        size = held.tensor.numel()
        times[name] = tensors[name].numel() // max(size, 1)
        for start in range(0, size, CHUNK):
            stop = min(start + CHUNK, size)
            tasks.append(Task(stop - start, partial(_measure, held, start, stop, found)))
    in_parallel(tasks)
    return {name: _total(found).repeated(times[name]) for name, found in parts.items()}


def fill_all(
    jobs: Iterable[Job], *, progress: Progress, stop: threading.Event
) -> tuple[dict[str, Moments], dict[str, Moments]]:
    """Fills many tensors, and tells the moments before and after of those that are measured inline.

    Once `stop` is set, no further piece is begun. `progress` is kept up to date.
    """
    before: dict[str, dict[int, Moments]] = {}
    after: dict[str, dict[int, Moments]] = {}
    tasks = []
    for job in jobs:
        if job.inline:
            before[job.name], after[job.name] = {}, {}
        for piece in job.draw.pieces:
            found = (before[job.name], after[job.name]) if job.inline else None
            tasks.append(Task(_size(job, piece), partial(_fill, job, piece, progress, found)))
    in_parallel(tasks, stop)
    return {n: _total(found) for n, found in before.items()}, {n: _total(found) for n, found in after.items()}


def _size(job: Job, piece: sampling.Piece) -> int:
    if isinstance(piece, sampling.Run):
        return piece.stop - piece.start
    return job.draw.numel // len(job.draw.pieces)


def _fill(
    job: Job,
    piece: sampling.Piece,
    progress: Progress,
    found: tuple[dict[int, Moments], dict[int, Moments]] | None,
) -> None:
    progress.started.add(job.name)
    run = piece if found is not None and isinstance(piece, sampling.Run) else None
    if found is not None and run is not None:
        found[0][run.start] = _before(job, run)
    sampling.fill_piece(job.held, job.draw, piece)
    if found is not None and run is not None:
        found[1][run.start] = measuring.moments(job.held, run.start, run.stop)
    progress.done.append(job.name)


def _before(job: Job, run: sampling.Run) -> Moments:
    if len(job.draw.pieces) == 1:
        return measuring.moments(job.held, run.start, run.stop)
    share = max(measuring.SHARE, job.draw.numel // SAMPLED)
    return measuring.sampled_moments(job.held, run.start, run.stop, share)


def _measure(held: Elements, start: int, stop: int, found: dict[int, Moments]) -> None:
    found[start] = measuring.moments(held, start, stop)


def _total(parts: dict[int, Moments]) -> Moments:
    return measuring.total(parts[start] for start in sorted(parts))
