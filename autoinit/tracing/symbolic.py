"""The symbolic tier: `torch.fx.Tracer` with the table's modules as leaves. Needs no input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.fx
from torch import nn

from autoinit.ops import REGISTRY
from autoinit.tracing.sources import current_line


class SymbolicTracer(torch.fx.Tracer):
    """Stops at the modules that the table knows, and notes module and source line of every node."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = [""]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Leaves are what the table knows."""
        return REGISTRY.of_module(m) is not None

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Keep the module path while the module runs."""
        self.stack.append(self.path_of_module(m))
        try:
            return super().call_module(m, forward, args, kwargs)
        finally:
            self.stack.pop()

    def create_node(self, kind: str, *args: Any, **kwargs: Any) -> torch.fx.Node:
        """Note where the node comes from."""
        node = super().create_node(kind, *args, **kwargs)
        node.meta["module"] = self.stack[-1]
        node.meta["source"] = current_line()
        return node


def trace_symbolic(module: nn.Module) -> tuple[torch.fx.Graph, SymbolicTracer]:
    """Graph of the module's forward, traced with proxies.

    Raises whatever the model's own code raises when it is given proxies.
    """
    tracer = SymbolicTracer()
    return tracer.trace(module), tracer
