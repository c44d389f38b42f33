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

from autoinit.provenance._ledger import Ledger, WriteRecord
from autoinit.provenance._regions import StorageRegion
from autoinit.provenance._stack import CodeOwner, code_owner, loading, site, user_line
from autoinit.provenance.origins import Origin
from autoinit.tracing.dataflow import SourceLine


class Building:
    """Lines that constructed modules and registered parameters.

    Modules are held weakly. Parameters are not held at all, for torch swaps no tensors that are weakly referred to:
    they are known by their modules and names.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.modules = WeakIdKeyDictionary()
        self._registered = WeakIdKeyDictionary()
        self._ledger = ledger
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

    def registered_at(self, parameter: torch.Tensor) -> SourceLine | None:
        """The user's line that first registered a parameter."""
        for module, lines in self._registered.items():  # type: ignore[no-untyped-call]
            for name, line in lines.items():
                if module._parameters.get(name) is parameter:
                    found: SourceLine | None = line
                    return found
        return None

    def _parameter(self, module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        if threading.get_ident() != self._thread:
            return
        self._constructed(module)
        if loading():
            with torch._C.DisableTorchFunction():
                by = site(parameter)
                self._ledger.note(
                    parameter, WriteRecord(StorageRegion.of(parameter), Origin(by.function, source=by.source))
                )
        elif module._parameters.get(name) is not parameter:
            frame = _registering(sys._getframe(1))
            users = frame is not None and code_owner(frame.f_code.co_filename) is CodeOwner.USER
            lines = self._registered.setdefault(module, {})  # type: ignore[no-untyped-call]
            lines[name] = user_line(frame) if users else None

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
            elif found is not None and code_owner(frame.f_code.co_filename) is not CodeOwner.STANDARD:
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
    while frame is not None and code_owner(frame.f_code.co_filename) in (CodeOwner.OWN, CodeOwner.MODULE):
        frame = frame.f_back
    return frame
