"""The way back: copies of what is about to be written, and interrupts that wait until it is."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import torch


class Undo:
    """Copies of what is about to be written, and the way back. Does nothing unless enabled."""

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self._tensors: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._buffers: list[tuple[torch.nn.Module, str, torch.Tensor | None]] = []
        self._attributes: list[tuple[torch.nn.Module, str, Any]] = []

    def tensor(self, tensor: torch.Tensor) -> None:
        if self.enabled:
            self._tensors.append((tensor, tensor.detach().clone()))

    def buffer(self, module: torch.nn.Module, name: str) -> None:
        old = module._buffers[name]
        self._buffers.append((module, name, old))
        if old is not None:
            self.tensor(old)

    def attribute(self, module: torch.nn.Module, name: str) -> None:
        self._attributes.append((module, name, getattr(module, name)))

    def restore(self) -> None:
        if not self.enabled:
            return
        for module, name, buffer in self._buffers:
            module._buffers[name] = buffer
        for tensor, copy in self._tensors:
            tensor.detach().copy_(copy)
        for module, name, value in self._attributes:
            setattr(module, name, value)


class Held:
    """Ctrl-C (SIGINT) held back while a model is written, and gradients switched off. Both can be released twice.

    Python delivers it to the main thread alone; elsewhere none is held.

    Attributes:
        received: whether one came.
        stop: set then.
    """

    def __init__(self, stop: threading.Event | None) -> None:
        self._stop = stop
        self._gradients = torch.is_grad_enabled()
        self._previous = signal.getsignal(signal.SIGINT)
        main = threading.current_thread() is threading.main_thread()
        self._holds = main and callable(self._previous)
        self._received: list[tuple[int, FrameType | None]] = []

    @property
    def received(self) -> bool:
        return bool(self._received)

    def hold(self) -> None:
        if self._holds:
            signal.signal(signal.SIGINT, self._note)
        torch.set_grad_enabled(False)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received.append((number, frame))
        if self._stop is not None:
            self._stop.set()

    def release(self) -> None:
        if self._holds:
            signal.signal(signal.SIGINT, self._previous)
        torch.set_grad_enabled(self._gradients)

    def deliver(self) -> None:
        """Let the first interrupt that was held back take effect."""
        if self._received and callable(self._previous):
            self._previous(*self._received[0])
