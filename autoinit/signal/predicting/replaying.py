"""Running a traced model's operations again, with weight operations replaced by what a `Rule` makes of them."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import nn

from autoinit.errors import MemoryLimitError, words_of
from autoinit.ops import Role, Trait
from autoinit.signal.batches import tensors_in
from autoinit.signal.predicting._stand_ins import Values
from autoinit.signal.predicting.fields import second_moment
from autoinit.tensors.sharding import is_sharded
from autoinit.tracing.dataflow import Dataflow, Op
from autoinit.tracing.noise import is_standard_normal
from autoinit.tracing.rerunning import substitute
from autoinit.tracing.shadow import make_shadow

Rule = Callable[[Op, "Runner"], Any]


class UnknownValueError(Exception):
    """An operand could not be computed."""


class Runner:
    """Values of operations: those that carry a signal in order, all others when they are asked for.

    Attributes:
        weigh: computes a weight operation.
        seen: called with each value that carries a signal.
        watch: called with each operation that is done, while the values of its operands are still held.
        instead: computes these operations.
        failed: operations that could not be computed, and why.
    """

    def __init__(
        self,
        dataflow: Dataflow,
        values: Values,
        inputs: Mapping[str, Any],
        weigh: Rule,
        seen: Callable[[Op, Any], None],
        watch: Callable[[Op, Runner], None] | None = None,
        instead: Mapping[Op, Rule] = MappingProxyType({}),
    ) -> None:
        self.dataflow, self.values, self.inputs = dataflow, values, inputs
        self._weigh, self._seen, self._watch, self._instead = weigh, seen, watch, instead
        self._held: dict[Op, Any] = {}
        self._leaves: dict[str, nn.Module] = {}
        self._waiting: dict[Op, int] = {}
        self.failed: dict[Op, str] = {}

    def __getitem__(self, op: Op) -> Any:
        if op not in self._held:
            if op in self.failed:
                raise UnknownValueError(f"{op.name} is not known")
            self._held[op] = self._computed(op)
        return self._held[op]

    def get(self, op: Op) -> Any:
        """A value that is held now; None if there is none."""
        return self._held.get(op)

    def run(self) -> list[torch.Tensor]:
        """Compute every operation that carries a signal, and return the model's outputs that are tensors."""
        nodes = list(self.dataflow.graph.nodes)
        self._waiting = {op: self.dataflow.graph.out_degree(op) for op in nodes}
        outputs: list[torch.Tensor] = []
        for op in nodes:
            if op.op == "output":
                outputs = list(tensors_in(self._outputs(op)))
            elif op.signal:
                self._step(op)
        return outputs

    def _outputs(self, op: Op) -> list[Any]:
        return [self._held[each] for each in self.dataflow.graph.predecessors(op) if each in self._held]

    def _step(self, op: Op) -> None:
        try:
            value = self[op]
        except UnknownValueError:
            self.failed.setdefault(op, "")
        except MemoryLimitError:
            raise
        except Exception as error:  # noqa: BLE001 - any operation may fail on values; the report names it
            self.failed[op] = f"{type(error).__name__}: {' '.join(words_of(error).split())[:160]}"
        else:
            self._seen(op, value)
            if self._watch is not None:
                self._watch(op, self)
        for operand in dict.fromkeys(op.operands.values()):
            self._waiting[operand] -= 1
            if not self._waiting[operand] and operand.signal:
                self._held.pop(operand, None)
        if not self._waiting[op]:  # nothing reads it
            self._held.pop(op, None)

    def _computed(self, op: Op) -> Any:
        if op.op == "input":
            return self.inputs[op.name]
        if op.op in ("parameter", "buffer"):
            return self.values.of(op)
        if op.role is Role.WEIGHT or Trait.LOOKUP in op.traits:
            return self._weigh(op, self)
        return self._instead.get(op, _called)(op, self)

    def arguments(self, op: Op, known: Mapping[Op, Any] | None = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The operands of a call, as values; as those that are known, where any are given."""
        assert op.call is not None
        known = cast("Mapping[Op, Any]", self) if known is None else known
        args, kwargs = substitute(op.call.args, known), substitute(dict(op.call.kwargs), known)
        return tuple(map(_on_cpu, args)), {name: _on_cpu(value) for name, value in kwargs.items()}

    def call(
        self, op: Op, parameters: Mapping[str, torch.Tensor] | None = None, known: Mapping[Op, Any] | None = None
    ) -> Any:
        """The operation itself on its operands' values; never in place.

        parameters: for a module, in place of its own. known: values of operands, in place of those held here.
        """
        if op.call is None:
            raise UnknownValueError(f"{op.name} cannot be computed")
        args, kwargs = self.arguments(op, known)
        target = op.call.target
        if target is None and type(self.values.view.submodule(op.module)) is nn.Identity and len(args) == 1:
            return args[0]
        if target is None:
            leaf = self.leaf(op)
            return torch.func.functional_call(leaf, dict(parameters or {}), args, kwargs)
        if target is operator.setitem or target == "__setitem__":
            return _with_item(*args)
        if isinstance(target, str):
            return _method(target, args, kwargs)
        if "inplace" in kwargs:
            kwargs["inplace"] = False
        return target(*_unwritten(getattr(target, "__name__", ""), args), **kwargs)

    def leaf(self, op: Op) -> nn.Module:
        """A copy on the CPU of the module that an operation calls, in training mode."""
        if op.module not in self._leaves:
            leaf = self.values.view.submodule(op.module)
            made = make_shadow(leaf, "cpu").module
            for module in made.modules():
                module.training = True
                if isinstance(getattr(module, "inplace", None), bool):
                    module.__dict__["inplace"] = False
            reset = getattr(made, "reset_parameters", None)
            if callable(reset) and any(each.is_meta or is_sharded(each) for each in leaf.parameters()):
                reset()
            self._leaves[op.module] = made
        return self._leaves[op.module]


def _called(op: Op, run: Runner) -> Any:
    """What an operation gives; standard normal numbers, of which a surrogate has few, with second moment 1."""
    value = run.call(op)
    return value / second_moment(value) ** 0.5 if is_standard_normal(op) and value.numel() else value


def _on_cpu(value: Any) -> Any:
    if isinstance(value, torch.device) or (isinstance(value, str) and value.split(":")[0] in ("meta", "cuda")):
        return torch.device("cpu")
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(_on_cpu(each) for each in value)
    return value


def _unwritten(name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments with a copy of the one that a function of this name writes to."""
    in_place = (name.endswith("_") and not name.endswith("__")) or (
        name.startswith("__i") and name not in _NOT_IN_PLACE
    )
    if in_place and args and isinstance(args[0], torch.Tensor):
        return (args[0].clone(), *args[1:])
    return args


_NOT_IN_PLACE = frozenset({"__invert__", "__index__", "__int__"})


def _method(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    args = _unwritten(name, args)
    found = getattr(args[0], name)
    if not inspect.isroutine(found) and not callable(found):
        return found
    return found(*args[1:], **kwargs)


def fill(view: torch.Tensor, value: Any) -> None:
    """Write to a view; of an expanded axis, whose elements are one, to the first."""
    for axis, (size, stride) in enumerate(zip(view.shape, view.stride(), strict=True)):
        if size > 1 and stride == 0:
            view = view.narrow(axis, 0, 1)
            value = value.narrow(axis, 0, 1) if isinstance(value, torch.Tensor) else value
    view.copy_(value)


def _with_item(base: torch.Tensor, index: Any, value: Any) -> torch.Tensor:
    """The base with some of its elements written."""
    changed = base.clone(memory_format=torch.contiguous_format)
    view = index.of(changed) if hasattr(index, "of") else None
    if view is not None:
        fill(view, value.reshape(view.shape) if isinstance(value, torch.Tensor) else value)
    else:
        changed[index] = value
    return changed
