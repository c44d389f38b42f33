"""Work on tensors in threads: torch and numpy let go of the interpreter while they compute."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass

import torch

WORTH_SHARING = 1 << 15
"""Elements from which a task is given to a thread. Smaller ones hold the interpreter for most of their time."""
WORTH_THREADS = 1 << 21
"""Elements, of all the tasks to be shared, below which starting threads costs more than it saves."""


@dataclass(frozen=True)
class Task:
    """A piece of work and the number of elements it goes through."""

    size: int
    work: Callable[[], None]


@contextmanager
def one_thread() -> Iterator[None]:
    """Makes torch use one thread here: factorisations give other last digits under another number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


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
    with one_thread():
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
