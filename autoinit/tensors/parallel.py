"""Work on tensors in threads: torch and numpy let go of the interpreter while they compute."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from autoinit.tensors.process_state import alone, surely
from autoinit.tensors.progress import Tell, counted

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
    with alone():
        threads, default = torch.get_num_threads(), _default()
        try:
            _set_own(1, default)
            yield
        finally:
            surely(lambda: _set_own(threads, default))


def _default() -> int:
    """The number of threads that torch uses in a thread that starts now."""
    found: list[int] = []
    _in_another_thread(lambda: found.append(torch.get_num_threads()))
    return found[0]


def _set_own(threads: int, default: int) -> None:
    """Sets the number for this thread; torch makes it that of threads to come too, which is taken back.

    A thread takes that of all when it is first asked, or first computes: asked before, it keeps its own.
    """
    torch.get_num_threads()
    torch.set_num_threads(threads)
    _in_another_thread(lambda: torch.set_num_threads(default))


def _in_another_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def in_parallel(tasks: Iterable[Task], stop: threading.Event | None = None) -> None:
    """Does the tasks in torch.get_num_threads() threads, each limited to one of its own.

    The first failure sets `stop`, lets the tasks that are under way finish, and is raised here.
    """
    with alone():
        _in_parallel(tasks, threading.Event() if stop is None else stop)


def _in_parallel(tasks: Iterable[Task], stop: threading.Event) -> None:
    ordered = sorted(tasks, key=lambda task: -task.size)
    advance = counted(sum(task.size for task in ordered))
    shared = deque(task for task in ordered if task.size >= WORTH_SHARING)
    threads = min(torch.get_num_threads(), len(shared))
    if threads > 1 and sum(task.size for task in shared) >= WORTH_THREADS:
        _share(shared, threads, stop, advance)
        ordered = [task for task in ordered if task.size < WORTH_SHARING]
    with one_thread():
        _work(deque(ordered), stop, advance)


def _share(queue: deque[Task], threads: int, stop: threading.Event, advance: Tell) -> None:
    with ThreadPoolExecutor(threads, initializer=_set_own, initargs=(1, _default())) as pool:
        futures = [pool.submit(_work, queue, stop, advance) for _ in range(threads)]
        wait(futures)
    for future in futures:
        future.result()


def _work(queue: deque[Task], stop: threading.Event, advance: Tell) -> None:
    try:
        while queue and not stop.is_set():
            try:
                task = queue.popleft()
            except IndexError:
                return
            task.work()
            advance(task.size)
    except BaseException:
        stop.set()
        raise
