"""Work in threads: each task computes in one thread of its own."""

import threading

import pytest
import torch

from autoinit.tensors.parallel import WORTH_THREADS, Task, in_parallel


@pytest.fixture
def _three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_three_threads")
def test_a_task_has_one_thread_of_torch_and_leaves_the_number():
    """Each of three tasks waits for the others, so that three threads have one each; all tell what torch uses there."""
    together = threading.Barrier(3, timeout=60)
    seen: dict[int, int] = {}

    def work() -> None:
        together.wait()
        torch.ones(1 << 16).sum()
        seen[threading.get_ident()] = torch.get_num_threads()

    in_parallel([Task(WORTH_THREADS, work) for _ in range(3)])
    assert [*seen.values()] == [1, 1, 1]
    assert threading.get_ident() not in seen
    assert torch.get_num_threads() == 3
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [3]
