"""Statistics of many tensors at once."""

from __future__ import annotations

import torch

from autoinit.writing._filling import measure_all


def test_statistics_of_tensors_of_every_size():
    """An empty tensor has no element, an expanded one as many as it shows, one on meta none to look at."""
    tensors = {
        "plain": torch.tensor([[1.0, -1.0], [3.0, 0.0]]),
        "empty": torch.empty(0, 3),
        "expanded": torch.tensor([2.0, 4.0]).expand(50, 2),
        "meta": torch.empty(4, device="meta"),
    }
    found = {name: moments.stats() for name, moments in measure_all(tensors).items()}
    assert {name: stats.numel for name, stats in found.items()} == {"plain": 4, "empty": 0, "expanded": 100}
    assert (found["plain"].mean, found["plain"].minimum, found["plain"].maximum, found["plain"].zeros) == (
        0.75, -1.0, 3.0, 0.25,
    )  # fmt: skip
    assert (found["expanded"].mean, found["expanded"].std) == (3.0, 1.0)


def test_a_tensor_that_is_read_in_several_pieces():
    """More than two million elements: each row has one -1 more than ones, and so a mean of -1 over its length."""
    tensor = torch.ones(3, 700_001)
    tensor[:, ::2] = -1.0
    found = measure_all({"large": tensor})["large"].stats()
    assert found.numel == 2_100_003
    assert abs(found.mean + 3 / 2_100_003) < 1e-12
    assert abs(found.std - 1) < 1e-6
