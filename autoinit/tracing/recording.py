"""The recorded tier: run forward once under a torch function mode, and write down what it calls.

It follows the Python that really runs: control flow, loops, shapes. Modules that the table knows are leaves, as in the
symbolic tier; everything else is seen call by call.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from autoinit.tracing._calls import SILENT, has_tensor, is_placed, overwritten, spelling, tensors_of
from autoinit.tracing._hidden_calls import following_maps, opening_scripts
from autoinit.tracing._kernels import called_on_meta, run
from autoinit.tracing._known_values import ASKING, NO_ANSWER, Answers
from autoinit.tracing._leaves import is_leaf
from autoinit.tracing._run_limits import RunCost
from autoinit.tracing._sources import current_line


@dataclass(frozen=True)
class Strided:
    """The index of a view in the tensor it views."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    def of(self, base: torch.Tensor) -> torch.Tensor:
        """The same view of another (contiguous) tensor."""
        return base.as_strided(self.size, self.stride, self.offset)


class Recorder(TorchFunctionMode):
    """Writes a `torch.fx.Graph` of the torch functions that run while it is active.

    constants: tensors that are neither parameters nor buffers nor made while recording, by the names given to them.
    failed: path of the innermost module that an exception came from.

    module: what to run, a shadow. values: the parameters and buffers of the model itself, which the shadow's may lack.
    as_assumed: where a condition depends on weights (see `Answers`). cost: what a real run may cost.
    """

    def __init__(
        self,
        module: nn.Module,
        values: Mapping[str, torch.Tensor] | None = None,
        as_assumed: int | None = None,
        cost: RunCost | None = None,
    ) -> None:
        super().__init__()
        self.cost = cost
        self.graph = torch.fx.Graph()
        self.module = module
        self.stack: list[str] = [""]
        self.failed = ""
        self._error: Exception | None = None
        self.constants: dict[str, torch.Tensor] = {}
        self._nodes = WeakIdKeyDictionary()
        self._aliases = WeakIdKeyDictionary()  # a parameter's `data` -> the parameter
        self._written_parameters = WeakIdKeyDictionary()
        self.answers = Answers(values or {}, as_assumed)
        self._names: dict[int, str] = {}
        for name, parameter in module.named_parameters():
            self._names.setdefault(id(parameter), name)
        for name, buffer in module.named_buffers():
            self._names.setdefault(id(buffer), name)

    def run(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], real: tuple[Any, Mapping[str, Any]] = ((), {})
    ) -> torch.fx.Graph:
        """Call the module and return the graph.

        real: the same arguments with values, where the module runs on meta and they have some.
        """
        for position, value in enumerate(args):
            self._place(value, f"arg{position}", real[0][position] if real[0] else None)
        for name, value in kwargs.items():
            self._place(value, name, real[1].get(name))
        self._wrap_forwards()
        with following_maps(self), opening_scripts(self), self:
            result = tensors_of(self.module(*args, **kwargs))
        self.graph.output(self._written(result))
        return self.graph

    def _place(self, value: Any, name: str, real: Any) -> None:
        if isinstance(value, torch.Tensor):
            node = self.graph.placeholder(name)
            self._note(value, node)
            node.meta["sparse"] = value.layout is not torch.strided
            if isinstance(real, torch.Tensor):
                self.answers.tell(node, real)
        elif isinstance(value, (list, tuple)):
            for position, item in enumerate(value):
                self._place(item, f"{name}_{position}", real[position] if real is not None else None)
        elif isinstance(value, Mapping):
            for key, item in value.items():
                self._place(item, f"{name}_{key}", real[key] if real is not None else None)

    def _wrap_forwards(self) -> None:
        """Replace each forward of the (shadow) module by one that keeps the stack and records leaves."""
        for name, module in self.module.named_modules():
            forward = module.forward
            leaf = self._leaf(name, module, forward) if is_leaf(module) else None
            module.__dict__["forward"] = leaf or self._scope(name, forward)

    def _blame(self, name: str, error: Exception) -> None:
        """Remember the innermost module that an exception left."""
        if error is not self._error:
            self._error, self.failed = error, name

    def _scope(self, name: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.stack.append(name)
            try:
                return forward(*args, **kwargs)
            except Exception as error:
                self._blame(name, error)
                raise
            finally:
                self.stack.pop()

        return call

    def _leaf(self, name: str, module: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        opened = self._scope(name, forward)
        own = dict(module._parameters)

        def call(*args: Any, **kwargs: Any) -> Any:
            changed = any(each in self._written_parameters for each in own.values() if each is not None)
            if changed or any(module._parameters.get(each) is not held for each, held in own.items()):
                return opened(*args, **kwargs)  # other tensors stand in for its parameters: see what is done with them
            self.stack.append(name)
            try:
                with torch._C.DisableTorchFunction():
                    written = self._written(args), self._written(kwargs)
                    result = called_on_meta(module, args) if not kwargs else None
                    if result is None:
                        result = forward(*args, **kwargs)
                    if self.cost is not None:
                        self.cost.after(module, result)
                    self._record("call_module", name, *written, result)
            except Exception as error:
                self._blame(name, error)
                raise
            finally:
                self.stack.pop()
            return result

        return call

    def __torch_function__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the function; if tensors come out (or one is written to), write it down."""
        kwargs = kwargs or {}
        kind, target, operands = spelling(func, args)
        spelled = target
        if kind == "property" and target in SILENT:
            return func(*args, **kwargs)
        if target in ASKING and isinstance(args[0], torch.Tensor) and args[0].is_meta:
            return self._asked(func, target, args, kwargs)
        written = self._written(operands), self._written(kwargs)
        if kind == "property":
            kind, target, written = "call_function", getattr, ((written[0][0], target), {})
        result = self._result(func, args, kwargs, (kind, target, *written))
        self._alias(result, spelled, args[0] if args else None)
        if target is getattr:
            self._record(kind, target, *written, result)
        elif target is operator.setitem and func.__self__.__name__ == "data":
            self._overwrite(args[0], self._node(args[1]))
        elif target in ("__setitem__", "copy_") or has_tensor(result):
            writes = target == "__setitem__"
            self._record(kind, target, *written, args[0] if writes else result)
            changed = args[0] if args and isinstance(args[0], torch.Tensor) else None
            if changed is not None and (writes or result is changed):
                self._write_through(changed)
        elif changing := overwritten(func, args, kwargs):
            node = self._create(kind, target, *written)
            for each in changing:
                self._note(each, node)
        return result

    def _asked(self, func: Any, method: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The value that a tensor on meta would have, if it follows from the inputs; else torch's own failure."""
        try:
            return self.answers.ask(self._node(args[0]), method, *args[1:])
        except NO_ANSWER:
            return func(*args, **kwargs)

    def _result(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], written: Any) -> Any:
        """What a function gives; where meta cannot tell the shape, what it gives for real or assumed values."""
        if self.cost is not None:
            self.cost.before(getattr(func, "__name__", ""), args)
        try:
            return run(func, args, kwargs)
        except (NotImplementedError, RuntimeError) as error:
            if not any(isinstance(each, torch.Tensor) and each.is_meta for each in (*args, *kwargs.values())):
                raise
            if written[1] == "__setitem__" and is_placed(args[1]):
                return None  # wherever it is written to, no shape changes
            node = self._create(*written)
            try:
                return self.answers.compute(node)
            except NO_ANSWER:
                raise error from None
            finally:
                self.graph.erase_node(node)

    def _alias(self, result: Any, method: Any, operand: Any) -> None:
        """Remember whose numbers a tensor shares that torch does not call a view."""
        if method in ("data", "detach") and isinstance(operand, torch.Tensor) and isinstance(result, torch.Tensor):
            self._aliases[result] = operand

    def _overwrite(self, tensor: torch.Tensor, node: torch.fx.Node) -> None:
        """From now on a tensor is what a node gives; and so is the parameter whose numbers it shares."""
        self._note(tensor, node)
        if isinstance(tensor, nn.Parameter):
            self._written_parameters[tensor] = True
        if tensor in self._aliases:
            self._overwrite(self._aliases[tensor], node)

    def _write_through(self, view: torch.Tensor) -> None:
        """What was written to a view is in its base as well."""
        written = self._nodes[view]
        self._overwrite(view, written)
        base = view._base if view._is_view() else None
        if base is None or base not in self._nodes:
            return
        if view.numel() == base.numel():
            node = self._create("call_method", "reshape", (written, tuple(base.shape)), {})
        else:
            where = Strided(tuple(view.shape), view.stride(), int(view.storage_offset()))
            node = self._create("call_function", operator.setitem, (self._nodes[base], where, written), {})
        self._overwrite(base, node)

    def _create(self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.fx.Node:
        node = self.graph.create_node(kind, target, args, kwargs)
        node.meta["module"] = self.stack[-1]
        node.meta["source"] = current_line()
        return node

    def derive(self, tensor: torch.Tensor, method: str, operand: torch.Tensor, *args: Any) -> None:
        """Note that a tensor is what a method of another gives, where no call says so."""
        self._note(tensor, self._create("call_method", method, (self._node(operand), *args), {}))

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a function and note it as one call, whatever it calls itself."""
        written = self._written(args), self._written(kwargs)
        with torch._C.DisableTorchFunction():
            result = function(*args, **kwargs)
        self._record("call_function", function, *written, result)
        return result

    def _record(self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        self._note(result, self._create(kind, target, args, kwargs))

    def _note(self, result: Any, node: torch.fx.Node) -> None:
        """Remember which node made each tensor of a result."""
        if isinstance(result, torch.Tensor):
            self._nodes[result] = node
            node.meta["shape"] = tuple(result.shape)
            node.meta["dtype"] = result.dtype
        elif isinstance(result, (list, tuple)):
            for position, item in enumerate(result):
                self._note_item(item, node, position)
        elif isinstance(result, Mapping):
            for key, item in result.items():
                self._note_item(item, node, key)

    def _note_item(self, item: Any, node: torch.fx.Node, key: Any) -> None:
        if has_tensor(item):
            self._note(item, self._create("call_function", operator.getitem, (node, key), {}))

    def _node(self, tensor: torch.Tensor) -> torch.fx.Node:
        if tensor in self._nodes:
            known: torch.fx.Node = self._nodes[tensor]
            return known
        name = self._names.get(id(tensor))
        if name is None:
            name = f"_tensor{len(self.constants)}"
            self.constants[name] = tensor
        node = self._create("get_attr", name, (), {})
        node.meta["constant"] = self.constants.get(name)
        self._note(tensor, node)
        return node

    def _written(self, value: Any) -> Any:
        """The value with tensors replaced by their nodes."""
        if isinstance(value, torch.Tensor):
            return self._node(value)
        if isinstance(value, tuple):
            return tuple(map(self._written, value))
        if isinstance(value, list):
            return list(map(self._written, value))
        if isinstance(value, Mapping):
            return {key: self._written(item) for key, item in value.items()}
        if isinstance(value, slice):
            return slice(self._written(value.start), self._written(value.stop), self._written(value.step))
        return value
