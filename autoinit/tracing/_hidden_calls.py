"""Calls that no torch function mode sees, handed to a recorder all the same.

Under `torch.vmap`, a tensor stands for one sample of a batch: torch wraps it and unwraps it where no torch function is
called. A function of TorchScript runs outside Python: the Python that it was made of runs in its place; where there is
none, as in a file that was loaded, it is one call of unknown content.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch


class Told(Protocol):
    """A recorder that can be handed what it does not see."""

    def derive(self, tensor: torch.Tensor, method: str, operand: torch.Tensor, *args: Any) -> None:
        """Note that a tensor is what a method of another gives."""

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a function and note it as one call."""


@contextmanager
def following_maps(recorder: Told) -> Iterator[None]:
    """Tell the recorder that a wrapped tensor is a sample, and that an unwrapped one is samples side by side."""
    vmap: Any = sys.modules.get("torch._functorch.vmap")
    if vmap is None:
        yield
        return
    add, remove = vmap._add_batch_dim, vmap._remove_batch_dim

    def add_batch_dim(batch: torch.Tensor, dim: int, level: int) -> torch.Tensor:
        sample: torch.Tensor = add(batch, dim, level)
        recorder.derive(sample, "select", batch, dim, 0)
        return sample

    def remove_batch_dim(sample: torch.Tensor, level: int, size: int, dim: int) -> torch.Tensor:
        batch: torch.Tensor = remove(sample, level, size, dim)
        recorder.derive(batch, "unsqueeze", sample, dim)
        recorder.derive(batch, "expand", batch, tuple(batch.shape))
        return batch

    vmap._add_batch_dim, vmap._remove_batch_dim = add_batch_dim, remove_batch_dim
    try:
        yield
    finally:
        vmap._add_batch_dim, vmap._remove_batch_dim = add, remove


class ScriptCall:
    """A function of TorchScript that has no Python, under the names that torch.fx asks for."""

    def __init__(self, script: Any) -> None:
        self.script = script
        self.__name__ = self.__qualname__ = str(script.name)
        self.__module__ = "torch.jit"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _run_script(self.script, *args, **kwargs)

    def __str__(self) -> str:
        return f"{self.__name__} (a function of TorchScript)"


_run_script: Callable[..., Any] = torch.jit.ScriptFunction.__call__


@contextmanager
def opening_scripts(recorder: Told | None = None) -> Iterator[None]:
    """Run the Python that functions of TorchScript were made of. Tell the recorder of a call of one that has none."""
    kind: Any = torch.jit.ScriptFunction

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        python = getattr(self, "_torchdynamo_inline", None)
        if python is not None:
            return python(*args, **kwargs)
        named = ScriptCall(self)
        return named(*args, **kwargs) if recorder is None else recorder.call(named, args, kwargs)

    kind.__call__ = call
    try:
        yield
    finally:
        kind.__call__ = _run_script
