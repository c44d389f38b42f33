"""Tensors on an accelerator, of which there is none here: a stand-in whose copies are done when they are waited for."""

import pytest
import torch

from autoinit.plans.distributions import DISTRIBUTIONS
from autoinit.tensors.boxes import Box
from autoinit.writing import _sending, sampling
from autoinit.writing._words import BLOCK
from autoinit.writing.sampling import fill

SHAPE = (700, 501)


class Accelerator:
    """Copies of a device that takes its time: each reads its source when an event that comes after it is waited for."""

    def __init__(self) -> None:
        self.begun: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.done = 0
        self.most = 0

    def start_copy(self, target: torch.Tensor, source: torch.Tensor, pinned: bool) -> None:
        """Only notes the copy where it may come back at once."""
        if not pinned:
            target.copy_(source)
            return
        self.begun.append((target, source))
        self.most = max(self.most, len(self.begun) - self.done)

    def arrival(self, _device: torch.device) -> "Arrival":
        """Of the copies so far."""
        return Arrival(self, len(self.begun))


class Arrival:
    """An event."""

    def __init__(self, device: Accelerator, count: int) -> None:
        self.device, self.count = device, count

    def synchronize(self) -> None:
        """Does the copies."""
        for target, source in self.device.begun[self.device.done : self.count]:
            target.copy_(source)
        self.device.done = max(self.device.done, self.count)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Accelerator:
    made = Accelerator()
    real = torch.empty

    def empty(*size: int, pin_memory: bool = False, **options: object) -> torch.Tensor:
        return real(*size, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(torch, "empty", empty)
    monkeypatch.setattr(_sending, "PINNING", ("cpu",))
    monkeypatch.setattr(_sending, "start_copy", made.start_copy)
    monkeypatch.setattr(_sending, "arrival", made.arrival)
    monkeypatch.setattr(sampling, "is_elsewhere", lambda tensor: True)
    return made


def on_the_cpu(shape: tuple[int, ...], dtype: torch.dtype, distribution: str, **options: object) -> torch.Tensor:
    """What it should be."""
    with pytest.MonkeyPatch.context() as plain:
        plain.setattr(sampling, "is_elsewhere", lambda tensor: False)
        tensor = torch.zeros(shape, dtype=dtype)
        fill(tensor, distribution=distribution, std=0.1, seed=2, name="w", **options)
        return tensor


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_it_gets_the_bits_of_the_cpu(device: Accelerator, distribution: str, dtype: torch.dtype):
    tensor = torch.zeros(SHAPE, dtype=dtype)
    fill(tensor, distribution=distribution, std=0.1, seed=2, name="w")
    assert torch.equal(tensor, on_the_cpu(SHAPE, dtype, distribution))
    assert device.done == len(device.begun)


def test_a_block_is_drawn_while_the_one_before_it_travels(device: Accelerator):
    """Rows that do not end with a block make up to three boxes of each; two blocks are under way at a time."""
    assert SHAPE[0] * SHAPE[1] > 5 * BLOCK
    fill(torch.zeros(SHAPE), distribution="normal", std=0.1, seed=2, name="w")
    assert 3 < device.most <= 6


def test_parts_and_other_memory_formats(device: Accelerator):
    box = Box((40, 30, 3, 3), [slice(10, 30), slice(None), slice(None), slice(None)])
    tensor = torch.zeros(box.local_shape).to(memory_format=torch.channels_last)
    fill(tensor, distribution="normal", std=0.1, seed=2, name="w", box=box)
    assert torch.equal(tensor, on_the_cpu((40, 30, 3, 3), torch.float32, "normal")[10:30])
    assert device.begun


def test_without_pinned_memory_copies_are_done_at_once(device: Accelerator, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_sending, "PINNING", ())
    tensor = torch.zeros(SHAPE)
    fill(tensor, distribution="normal", std=0.1, seed=2, name="w")
    assert torch.equal(tensor, on_the_cpu(SHAPE, torch.float32, "normal"))
    assert not device.begun


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_device(dtype: torch.dtype):
    tensor = torch.zeros(SHAPE, dtype=dtype, device="cuda")
    fill(tensor, distribution="normal", std=0.1, seed=2, name="w")
    assert torch.equal(tensor.cpu(), on_the_cpu(SHAPE, dtype, "normal"))


def test_where_a_tensor_is():
    assert not _sending.is_elsewhere(torch.zeros(2))
    assert not _sending.is_elsewhere(torch.zeros(2, device="meta"))
