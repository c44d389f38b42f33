"""Answers to what a forward asks of tensors on meta, where that follows from the inputs and buffers alone.

A mask's `.all()`, the length of a sequence, the places where an index is not padding: such values decide the way
through forward, and depend on no weight. They are computed again on the real inputs, from what was recorded.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.fx

MOST_ELEMENTS = 1 << 24
"""Larger tensors are not computed only to answer a question."""
ASKING = frozenset(
    {"item", "tolist", "numpy", "__bool__", "__int__", "__float__", "__index__", "__complex__", "__contains__"}
)
"""Methods whose result is a value and no tensor."""


class UnknownError(Exception):
    """The value depends on a weight, or on an input that has none."""


NO_ANSWER = (UnknownError, RuntimeError, TypeError, ValueError, LookupError, AttributeError)
"""What computing a value again can raise: then there is no answer, and the question fails as torch has it fail."""


class Answers:
    """Real values of recorded nodes."""

    def __init__(self, buffers: Mapping[str, torch.Tensor]) -> None:
        """buffers: of the model itself, by name; they are not written to."""
        self._known: dict[torch.fx.Node, Any] = {}
        self._buffers = buffers

    def tell(self, node: torch.fx.Node, value: torch.Tensor) -> None:
        """The real value of an input; one on meta has none."""
        if not value.is_meta:
            self._known[node] = value.detach()

    def ask(self, node: torch.fx.Node, method: str, *arguments: Any) -> Any:
        """What a method of a tensor gives.

        Raises:
            UnknownError: the tensor's value does not follow from the inputs alone.
        """
        return getattr(self._value(node), method)(*arguments)

    def compute(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        """What a call gives, with its tensors on meta: for results whose shape depends on values.

        Raises:
            UnknownError: its operands do not follow from the inputs alone.
        """
        with torch._C.DisableTorchFunction(), torch.no_grad():
            result = self._called(kind, target, self._values(args), self._values(kwargs))
        return _mapped(result, lambda tensor: tensor.to("meta"))

    def _value(self, node: torch.fx.Node) -> Any:
        """The value, after those of all nodes that it takes: not by recursion, which long chains would exhaust."""
        waiting = [node]
        while waiting:
            here = waiting[-1]
            if here not in self._known and (missing := [n for n in here.all_input_nodes if n not in self._known]):
                waiting += missing
                continue
            waiting.pop()
            if here not in self._known:
                self._known[here] = self._computed(here)
        return self._known[node]

    def _computed(self, node: torch.fx.Node) -> Any:
        constant = node.meta.get("constant")
        held = constant if constant is not None else self._buffers.get(str(node.target))
        if node.op == "get_attr" and isinstance(held, torch.Tensor) and not held.is_meta:
            return held.detach().cpu()
        if node.op not in ("call_function", "call_method"):
            raise UnknownError(f"{node.name} has no value")
        with torch._C.DisableTorchFunction(), torch.no_grad():
            return self._called(node.op, node.target, self._values(node.args), self._values(node.kwargs))

    def _called(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        if target is operator.setitem or target == "__setitem__":
            changed = args[0].clone()
            view = args[1].of(changed) if hasattr(args[1], "of") else None
            if view is not None:
                view.copy_(args[2])
            else:
                changed[args[1]] = args[2]
            return changed
        name = target if isinstance(target, str) else getattr(target, "__name__", "")
        if args and isinstance(args[0], torch.Tensor) and name.endswith("_") and not name.endswith("__"):
            args = (args[0].clone(), *args[1:])
        on_cpu = {key: _off_meta(value) for key, value in kwargs.items()}
        with torch.device("cpu"):
            if kind == "call_method":
                return getattr(args[0], target)(*map(_off_meta, args[1:]), **on_cpu)
            return target(*map(_off_meta, args), **on_cpu)

    def _values(self, value: Any) -> Any:
        return torch.fx.node.map_arg(value, self._bounded)

    def _bounded(self, node: torch.fx.Node) -> Any:
        value = self._value(node)
        if isinstance(value, torch.Tensor) and value.numel() > MOST_ELEMENTS:
            raise UnknownError(f"{node.name} has {value.numel()} elements")
        return value


def _off_meta(value: Any) -> Any:
    return torch.device("cpu") if isinstance(value, torch.device) or value == "meta" else value


def _mapped(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, tuple | list):
        return type(value)(_mapped(each, change) for each in value)
    if isinstance(value, Mapping):
        return {key: _mapped(each, change) for key, each in value.items()}
    return value
