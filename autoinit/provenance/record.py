"""recording: the block in which origins are noted, and the record that can be asked about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import _get_current_function_mode_stack

from autoinit.errors.arguments import require
from autoinit.provenance._building import Building
from autoinit.provenance._ledger import Ledger, WriteRecord
from autoinit.provenance._regions import StorageRegion
from autoinit.provenance._stack import site
from autoinit.provenance._watching import Watcher
from autoinit.provenance.origins import Origin
from autoinit.tracing.dataflow import SourceLine


class Recording:
    """What was noted of parameters and modules. It can be asked during the block and after it.

    No tensor and no module is kept alive. What other threads write, and what goes past torch's functions (NumPy arrays
    that share a tensor's memory), is not seen.
    """

    def __init__(self) -> None:
        self._ledger = Ledger()
        self._building = Building(self._ledger)

    def origin(self, tensor: torch.Tensor) -> Origin | None:
        """What last wrote all values of a parameter, and what was done to them since; None if that was not seen."""
        require("tensor", tensor, torch.Tensor, "a parameter")
        with torch._C.DisableTorchFunction():
            return self._ledger.origin(tensor)

    def built_at(self, module: nn.Module) -> SourceLine | None:
        """The line that constructed a module; None if that was not seen.

        For a module that registers nothing of its own (an activation), or is a copy, the line that put it in place.
        """
        require("module", module, nn.Module, "a module")
        line: SourceLine | None = self._building.modules.get(module)  # type: ignore[no-untyped-call]
        return line

    def registered_at(self, tensor: torch.Tensor) -> SourceLine | None:
        """The line that registered a parameter; None if a module of torch registered it, or it was not seen."""
        require("tensor", tensor, torch.Tensor, "a parameter")
        return self._building.registered_at(tensor)


@contextmanager
def recording() -> Iterator[Recording]:
    """Note in this block what writes each parameter, and where modules are constructed.

        with autoinit.recording() as log:
            model = build()
        log.origin(model.fc.weight)   # Origin("torch.nn.init.kaiming_uniform_", {"a": 2.236, ...}, ...)

    Only the calling thread is watched. Values drawn are the same as without.
    """
    record = Recording()
    with record._building.watching(), Watcher(record._ledger):
        yield record


def written(tensor: torch.Tensor, function: str, arguments: Mapping[str, Any]) -> None:
    """Tell the recordings of this thread that a function has written a tensor by means that they cannot see."""
    watchers = _watchers()
    if not watchers:
        return
    with torch._C.DisableTorchFunction():
        origin = Origin(function, dict(arguments), site(tensor).source)
        for mode in watchers:
            mode.ledger.note(tensor, WriteRecord(StorageRegion.of(tensor), origin))


def _watchers() -> list[Watcher]:
    modes = _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
    return [mode for mode in modes if isinstance(mode, Watcher)]
