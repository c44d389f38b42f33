"""Where modules are constructed and parameters registered, seen through torch's own registration hooks."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.utils.weak import WeakIdKeyDictionary

from autoinit.provenance.stack import Place, place, user_line


class Building:
    """Lines that constructed modules and registered parameters. Both are held weakly."""

    def __init__(self) -> None:
        self.modules = WeakIdKeyDictionary()
        self.parameters = WeakIdKeyDictionary()
        self._thread = threading.get_ident()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note what this thread constructs and registers."""
        handles = [
            register_module_parameter_registration_hook(self._parameter),
            register_module_module_registration_hook(self._module),
            register_module_buffer_registration_hook(self._buffer),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _parameter(self, module: nn.Module, _name: str, parameter: nn.Parameter) -> None:
        if threading.get_ident() != self._thread:
            return
        self._constructed(module)
        if parameter not in self.parameters:
            frame = _registering(sys._getframe(1))
            users = frame is not None and place(frame.f_code.co_filename) is Place.USER
            self.parameters[parameter] = user_line(frame) if users else None

    def _module(self, parent: nn.Module, _name: str, child: nn.Module | None) -> None:
        if threading.get_ident() != self._thread:
            return
        self._constructed(parent)
        if child is not None and child not in self.modules:
            self.modules[child] = user_line(sys._getframe(1))

    def _buffer(self, module: nn.Module, _name: str, _buffer: torch.Tensor) -> None:
        if threading.get_ident() == self._thread:
            self._constructed(module)

    def _constructed(self, module: nn.Module) -> None:
        """Note the line that constructs a module, if its `__init__` is running."""
        if module in self.modules:
            return
        frame: FrameType | None = sys._getframe(1)
        found: FrameType | None = None
        while frame is not None:
            if _constructs(frame, module):
                found = frame
            elif found is not None and place(frame.f_code.co_filename) is not Place.STANDARD:
                break
            frame = frame.f_back
        if found is not None:
            self.modules[module] = user_line(found.f_back)


def _constructs(frame: FrameType, module: nn.Module) -> bool:
    """Whether a frame is a call of `__init__` on this very module."""
    code = frame.f_code
    return code.co_name == "__init__" and code.co_argcount > 0 and frame.f_locals.get(code.co_varnames[0]) is module


def _registering(frame: FrameType | None) -> FrameType | None:
    """The innermost frame outside autoinit and the methods of `nn.Module`."""
    while frame is not None and place(frame.f_code.co_filename) in (Place.OWN, Place.MODULE):
        frame = frame.f_back
    return frame
