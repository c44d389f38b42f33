"""Filling and measuring many tensors in threads, largest first."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial

import torch

from autoinit import flat, measuring, sampling
from autoinit.measuring import Moments, WeightStats

CHUNK = sampling.CHUNK
WORTH_SHARING = 1 << 15
"""Elements from which a task is given to a thread. Smaller ones hold the interpreter for most of their time."""
WORTH_THREADS = 4 * CHUNK
"""Elements, of all the tasks to be shared, below which starting threads costs more than it saves."""


@dataclass(frozen=True)
class Task:
    """A piece of work and the number of elements it goes through."""

    size: int
    work: Callable[[], None]


@dataclass(frozen=True, eq=False)
class Job:
    """One tensor to fill. inline: whether to measure each part just before and after it is filled."""

    name: str
    tensor: torch.Tensor
    draw: sampling.Draw
    inline: bool = False


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


def measure_all(tensors: Mapping[str, torch.Tensor]) -> dict[str, WeightStats]:
    """Statistics of many tensors; those on the meta device are left out."""
    parts: dict[str, dict[int, Moments]] = {name: {} for name, tensor in tensors.items() if not tensor.is_meta}
    tasks = []
    for name, found in parts.items():
        tensor = flat.any_order(tensors[name])
        for start in range(0, tensor.numel(), CHUNK):
            stop = min(start + CHUNK, tensor.numel())
            tasks.append(Task(stop - start, partial(_measure, tensor, start, stop, found)))
    in_parallel(tasks)
    return {name: _total(found) for name, found in parts.items()}


def fill_all(
    jobs: Iterable[Job], *, progress: Progress, stop: threading.Event
) -> tuple[dict[str, WeightStats], dict[str, WeightStats]]:
    """Fills many tensors, and tells the statistics before and after of those that are measured inline.

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


def in_parallel(tasks: Iterable[Task], stop: threading.Event | None = None) -> None:
    """Does the tasks in torch.get_num_threads() threads, each limited to one of its own.

    The first failure sets `stop`, lets the tasks that are under way finish, and is raised here.
    """
    stop = threading.Event() if stop is None else stop
    ordered = sorted(tasks, key=lambda task: -task.size)
    shared = deque(task for task in ordered if task.size >= WORTH_SHARING)
    threads = min(torch.get_num_threads(), len(shared))
    if threads > 1 and sum(task.size for task in shared) >= WORTH_THREADS:
        _share(shared, threads, stop)
        ordered = [task for task in ordered if task.size < WORTH_SHARING]
    with sampling.one_thread():
        _work(deque(ordered), stop)


def _share(queue: deque[Task], threads: int, stop: threading.Event) -> None:
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            futures = [pool.submit(_work, queue, stop) for _ in range(threads)]
            wait(futures)
    finally:
        # The workers' own limit has become the default of threads to come.
        torch.set_num_threads(before)
    for future in futures:
        future.result()


def _work(queue: deque[Task], stop: threading.Event) -> None:
    try:
        while queue and not stop.is_set():
            try:
                task = queue.popleft()
            except IndexError:
                return
            task.work()
    except BaseException:
        stop.set()
        raise


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
    if found is not None and isinstance(piece, sampling.Run):
        found[0][piece.start] = measuring.moments(job.tensor, piece.start, piece.stop)
    sampling.fill_piece(job.tensor, job.draw, piece)
    if found is not None and isinstance(piece, sampling.Run):
        found[1][piece.start] = measuring.moments(job.tensor, piece.start, piece.stop)
    progress.done.append(job.name)


def _measure(tensor: torch.Tensor, start: int, stop: int, found: dict[int, Moments]) -> None:
    found[start] = measuring.moments(tensor, start, stop)


def _total(parts: dict[int, Moments]) -> WeightStats:
    return sum((parts[start] for start in sorted(parts)), Moments()).stats()
