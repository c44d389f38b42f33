"""The symbolic tier: `torch.fx.Tracer` with the table's modules as leaves. Needs no input."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch.fx
from torch import nn
from torch.fx import _symbolic_trace as fx
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from autoinit.models.walking import modules_by_path
from autoinit.tensors.process_state import surely
from autoinit.tracing._hidden_calls import opening_scripts
from autoinit.tracing._leaves import is_leaf
from autoinit.tracing._open_calls import is_open
from autoinit.tracing._overwriting import writes
from autoinit.tracing._sources import current_line


class LeavesOpenError(Exception):
    """A call whose meaning depends on shapes, or that the table does not know: a recording can tell more."""


class UnreadableForwardError(Exception):
    """The arguments of the model's forward cannot be known."""


class _Proxy(torch.fx.Proxy):
    """A proxy that notes `weight.data = values` as a write."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "data" and isinstance(value, torch.fx.Proxy):
            self.tracer.create_proxy("call_method", "copy_", (self, value), {})
        else:
            super().__setattr__(name, value)


def _tracing_flag() -> tuple[Any, str]:
    """Where torch.fx notes that it traces: newer versions for this thread alone."""
    local = getattr(fx, "_is_fx_tracing_tls", None)
    return (fx, "_is_fx_tracing_flag") if local is None else (local, "flag")


@contextmanager
def _all_taken_back() -> Iterator[None]:
    """Takes back what torch.fx replaces, also where an interrupt hits it while it takes that back itself."""
    prior = fx.CURRENT_PATCHER, nn.Module.__call__, nn.Module.__getattr__
    holder, flag = _tracing_flag()
    tracing = getattr(holder, flag, False)

    def take_back() -> None:
        patcher = fx.CURRENT_PATCHER
        if patcher is not None and patcher is not prior[0]:
            for each in patcher.patches_made:
                with suppress(KeyError):  # it was taken back already
                    each.revert()
        setattr(holder, flag, tracing)
        fx.CURRENT_PATCHER, nn.Module.__call__, nn.Module.__getattr__ = prior  # type: ignore[method-assign]

    try:
        yield
    finally:
        surely(take_back)


class ShadowTracer(torch.fx.Tracer):
    """Sees the table's modules whole, and leaves alone what other threads call in the meantime.

    torch.fx traces by replacing `nn.Module.__call__` for the whole process.

    Attributes:
        every: whether a proxy stands for each argument of forward, also for those that have a default.
    """

    def __init__(self, *, every: bool = True) -> None:
        super().__init__()
        self.every = every

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> torch.fx.Graph:
        """Trace the forward of a module."""
        self._thread = threading.get_ident()
        with opening_scripts(), _all_taken_back():
            return super().trace(root, concrete_args)

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> Any:  # noqa: ARG002 - fx's
        """Proxies for the arguments of the forward that the module has, be it its class's or its own."""
        forward = self.root.forward
        kinds = inspect.Parameter
        parameters = _arguments(forward)
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for name, each in parameters.items():
            variable = each.kind in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD)
            if variable or (each.default is not each.empty and not self.every):
                continue
            proxy = self.create_proxy("placeholder", name, (), {})
            if each.kind is kinds.KEYWORD_ONLY:
                kwargs[name] = proxy
            else:
                args.append(proxy)
        return lambda: forward(*args, **kwargs), []

    def proxy(self, node: torch.fx.Node) -> torch.fx.Proxy:
        """What stands for a node while forward runs."""
        return _Proxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002 - fx's signature
        """Leaves are what the table knows."""
        return is_leaf(m)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call a module, traced if it is this thread that calls it."""
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return self.called(m, forward, args, kwargs)

    def called(self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a module of the traced one."""
        return super().call_module(m, forward, args, kwargs)


def _arguments(forward: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The arguments of a forward as they are passed; of one that passes on all that it gets, those of what it wraps."""
    hiding = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for follows in (False, True):
        parameters = inspect.signature(forward, follow_wrapped=follows).parameters
        if not parameters or any(each.kind not in hiding for each in parameters.values()):
            return parameters
    raise UnreadableForwardError(
        "the arguments of forward cannot be known, since a decorator hides them behind *args, **kwargs"
    )


class SymbolicTracer(ShadowTracer):
    """Stops at the modules that the table knows, and notes module and source line of every node.

    Attributes:
        strict: raise LeavesOpenError at the first call that a recording could tell more about.
    """

    def __init__(self, module: nn.Module, strict: bool, *, every: bool = True) -> None:
        super().__init__(every=every)
        self.strict = strict
        self.stack: list[str] = [""]
        self.failed = ""
        self._error: Exception | None = None
        self._names: dict[int, str] = {}
        for path, each in modules_by_path(module).items():
            for leaf, parameter in each._parameters.items():
                self._names.setdefault(id(parameter), f"{path}.{leaf}" if path else leaf)
        self._written: set[str] = set()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """A module whose parameters were written to before is opened, so that it is seen using what was written."""
        written = self._written and any(self._names.get(id(each)) in self._written for each in m.parameters())
        return not written and super().is_leaf_module(m, module_qualified_name)

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> torch.fx.Graph:
        """Trace the forward of a module."""
        with _Proxying(self):
            return super().trace(root, concrete_args)

    def proxied(self, value: Any) -> Any:
        """A parameter's proxy, whichever way the parameter was come by; anything else as it is."""
        name = self._names.get(id(value)) if isinstance(value, nn.Parameter) else None
        return value if name is None else self.create_proxy("get_attr", name, (), {})

    def called(self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Keep the module path while the module runs."""
        self.stack.append(self.path_of_module(m))
        try:
            return super().called(m, forward, args, kwargs)
        except Exception as error:
            if error is not self._error:
                self._error, self.failed = error, self.stack[-1]
            raise
        finally:
            self.stack.pop()

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:  # noqa: ARG002 - too
        """Parameters become proxies; found by identity, where fx searches the whole model each time."""
        name = self._names.get(id(attr_val)) if isinstance(attr_val, nn.Parameter) else None
        if name is None:
            return attr_val
        if name not in parameter_proxy_cache:
            parameter_proxy_cache[name] = self.create_proxy("get_attr", name, (), {})
        return parameter_proxy_cache[name]

    def create_arg(self, a: Any) -> Any:
        """Parameters passed as they are, found by identity too."""
        if type(a) is _Proxy:
            return a.node
        name = self._names.get(id(a)) if isinstance(a, nn.Parameter) else None
        return self.create_node("get_attr", name, (), {}) if name is not None else super().create_arg(a)

    def create_node(self, kind: str, *args: Any, **kwargs: Any) -> torch.fx.Node:
        """Note where the node comes from."""
        if self.strict and is_open(kind, args[0], args[1] if len(args) > 1 else (), self.root):
            raise LeavesOpenError(f"{args[0]} may part the features, or is unknown")
        node = super().create_node(kind, *args, **kwargs)
        node.meta["module"] = self.stack[-1]
        node.meta["source"] = current_line()
        if kind == "call_method" and writes(node, {}):
            self._written |= _parameter_behind(node)
            if self.strict and self._written:
                raise LeavesOpenError(f"{', '.join(self._written)} is written to: a recording sees by what")
        if kind == "get_attr" and isinstance(constant := self.root.__dict__.get(str(args[0])), torch.Tensor):
            node.meta["constant"] = constant
        return node


_WITHOUT_PARAMETERS = frozenset({_Proxy, torch.Tensor, int, float, bool, str, type(None), torch.dtype})


class _Proxying(TorchFunctionMode):
    """Calls on parameters themselves (from `dict(self.named_parameters())`, say) are traced as those on proxies are."""

    def __init__(self, tracer: SymbolicTracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call it; with proxies in place of parameters, unless it only asks for a size or the like."""
        kwargs = kwargs or {}
        if all(type(each) in _WITHOUT_PARAMETERS for each in (*args, *kwargs.values())):
            return func(*args, **kwargs)
        held = [each for each in tree_leaves((args, kwargs)) if isinstance(each, (torch.Tensor, torch.fx.Proxy))]
        if not any(isinstance(each, nn.Parameter) for each in held):
            return func(*args, **kwargs)
        if func.__name__ == "__set__" and isinstance(args[1], torch.fx.Proxy):  # `weight.data = ...`
            return self.tracer.create_proxy("call_method", "copy_", (self.tracer.proxied(args[0]), args[1]), {})
        if not any(isinstance(each, torch.fx.Proxy) for each in held):
            result = func(*args, **kwargs)
            if not any(isinstance(each, torch.Tensor) for each in tree_leaves(result)):
                return result
        args, named = tree_map(self.tracer.proxied, (args, dict(kwargs or {})))
        if func.__name__ == "__get__":
            return getattr(args[0], func.__self__.__name__)
        return torch.fx.Proxy.__torch_function__(func, types, args, named)


def _parameter_behind(node: torch.fx.Node) -> set[str]:
    """The parameter that a node writes to: itself, its `data` or a view of it."""
    here: Any = node
    while isinstance(here, torch.fx.Node) and here.op != "get_attr":
        here = here.args[0] if here.args else None
    return {str(here.target)} if isinstance(here, torch.fx.Node) else set()
