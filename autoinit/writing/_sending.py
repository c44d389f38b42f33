"""Values on their way to an accelerator: a block is drawn while the one before it travels."""

from __future__ import annotations

import torch

from autoinit.tensors import elements

PINNING = ("cuda", "xpu")
"""Kinds of devices that read pinned memory of the host while the host goes on. To others a block is copied at once."""


def is_elsewhere(tensor: torch.Tensor) -> bool:
    """Whether a tensor's memory is not the host's."""
    return tensor.device.type not in ("cpu", "meta")


class Sender:
    """Sends blocks of values to a tensor elsewhere, through two buffers that take turns.

    Values are cast to the tensor's dtype here, so that they are the same bits as on the CPU.
    """

    def __init__(self, tensor: torch.Tensor, size: int) -> None:
        """Makes buffers for blocks of so many elements at most."""
        self._target = tensor.detach()
        self._pinned = tensor.device.type in PINNING
        self._buffers = [torch.empty(size, dtype=tensor.dtype, pin_memory=self._pinned) for _ in range(2)]
        self._arrivals: list[torch.Event | None] = [None, None]
        self._turn = 0

    def send(self, start: int, values: elements.Floats) -> None:
        """Starts to copy values into the elements from `start` on. They may be overwritten at once."""
        self._turn = 1 - self._turn
        self._wait(self._turn)
        buffer = self._buffers[self._turn][: values.size]
        buffer.copy_(torch.from_numpy(values))
        for index, begin, end in elements.boxes(tuple(self._target.shape), start, start + values.size):
            box = self._target[index]
            start_copy(box, buffer[begin - start : end - start].view(box.shape), self._pinned)
        self._arrivals[self._turn] = arrival(self._target.device) if self._pinned else None

    def finish(self) -> None:
        """Waits until all that was sent has arrived."""
        self._wait(0)
        self._wait(1)

    def _wait(self, turn: int) -> None:
        event = self._arrivals[turn]
        if event is not None:
            event.synchronize()
        self._arrivals[turn] = None


def start_copy(target: torch.Tensor, source: torch.Tensor, pinned: bool) -> None:
    """Copies, and comes back before the copy is done where the source is pinned."""
    target.copy_(source, non_blocking=pinned)


def arrival(device: torch.device) -> torch.Event:
    """An event that comes when the copies begun so far are done."""
    event = torch.Event(device)
    event.record()
    return event
