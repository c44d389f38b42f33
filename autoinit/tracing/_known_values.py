"""Answers to what a forward asks of tensors on meta.

A mask's `.all()`, the length of a sequence, the places where an index is not padding: where such values follow from
the inputs alone, or from parameters alone, they are computed again from what was recorded. What follows from a layer's
output has no value on meta: see `assuming`.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any

import torch
import torch.fx

from autoinit.tracing._assumed_values import Assumed, Assumption, Standing, assumption, called, filled
from autoinit.tracing._overwriting import writes
from autoinit.tracing.dataflow import SourceLine
from autoinit.tracing.rerunning import with_item

MOST_ELEMENTS = 1 << 24
"""Larger tensors are not computed only to answer a question."""
MOST_DECISIONS = 500
"""At one place: a loop that waits for a condition to turn would never end."""
ASKING = frozenset(
    {
        "item",
        "tolist",
        "numpy",
        "__bool__",
        "__int__",
        "__float__",
        "__index__",
        "__complex__",
        "__contains__",
        "__format__",
    }
)
"""Methods whose result is a value and no tensor."""


class UnknownError(Exception):
    """The value depends on a weight, or on an input that has none."""


NO_ANSWER = (UnknownError, RuntimeError, TypeError, ValueError, LookupError, AttributeError)
"""What computing a value again can raise: then there is no answer, and the question fails as torch has it fail."""

_FROM_INPUTS, _FROM_PARAMETERS = 1, 2
_LIKE = frozenset(
    {"zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "randint_like"}
    | {"new_zeros", "new_ones", "new_full", "new_empty", "new_tensor"}
)
"""Calls that take of their first operand only what it is, not what it holds."""
_AS = frozenset({"expand_as", "view_as", "reshape_as", "type_as", "to"})
"""Calls that take of their second operand only what it is."""


class Answers:
    """Real values of recorded nodes.

    Attributes:
        assumed: what had to be assumed.
        undecided: whether a condition was met for which nothing may be assumed.
    """

    def __init__(self, values: Mapping[str, torch.Tensor], as_assumed: int | None = None) -> None:
        """values: parameters and buffers by name, which are not written to.

        as_assumed: how many times, at each place, a condition that depends on weights goes as what is assumed of its
        operands has it, before it goes the other way; None: such a condition has no answer.
        """
        self.assumed = Assumed()
        self.undecided = False
        self._as_assumed = as_assumed
        self._decisions: Counter[SourceLine | None] = Counter()
        self._held = values
        self._known: dict[torch.fx.Node, Any] = {}
        self._standings: dict[torch.fx.Node, tuple[Standing, int]] = {}
        self._assumptions: dict[torch.fx.Node, Assumption] = {}

    def tell(self, node: torch.fx.Node, value: torch.Tensor) -> None:
        """The real value of an input; one on meta has none."""
        if not value.is_meta:
            self._known[node] = value.detach()
            self._standings[node] = (Standing.KNOWN, _FROM_INPUTS)

    def ask(self, node: torch.fx.Node, method: str, *arguments: Any) -> Any:
        """What a method of a tensor gives.

        Raises:
            UnknownError: the tensor has no value, and none may be assumed.
        """
        standing = self._standing(node)
        if standing > Standing.KNOWN and (
            method == "__bool__" or (node.meta["dtype"] is torch.bool and method == "item")
        ):
            return self._decided(node, standing)
        if standing is not Standing.OPEN:
            return getattr(self._value(node), method)(*arguments)
        if arguments:
            raise UnknownError(f"{node.name} depends on weights")
        self.assumed.add(node, "1")
        return getattr(filled(node, 1), method)()

    def _decided(self, node: torch.fx.Node, standing: Standing) -> bool:
        """Which way a condition goes that depends on weights."""
        source = node.meta["source"]
        if self._as_assumed is None or self._decisions[source] == MOST_DECISIONS:
            self.undecided = True
            raise UnknownError(f"{node.name} depends on weights")
        assumed = standing is Standing.OPEN or bool(self._value(node))
        answer = assumed is (self._decisions[source] < self._as_assumed)
        self._decisions[source] += 1
        self.assumed.add(node, str(answer).lower())
        return answer

    def compute(self, node: torch.fx.Node) -> Any:
        """What a call gives, with its tensors on meta: for results whose shape depends on values.

        Raises:
            UnknownError: its operands have no values, and none may be assumed.
        """
        if self._standing(node) is not Standing.OPEN:
            result = self._value(node)
        elif called(node) in ("getitem", "__getitem__"):
            result = self._picked(node)
        else:
            try:
                result = self._sized(node)
            except NO_ANSWER:
                result = self._selected(node)
        return _mapped(result, lambda tensor: tensor.to("meta"))

    def _picked(self, node: torch.fx.Node) -> Any:
        """`x[places]`, where only the places have values."""
        operand, index = node.args
        if not isinstance(operand, torch.fx.Node):
            raise UnknownError(f"{node.name} is taken of no tensor")
        places = tuple(_places(index if isinstance(index, tuple) else (index,), self._bounded))
        with torch._C.DisableTorchFunction():
            return torch.empty(operand.meta["shape"], dtype=operand.meta["dtype"], device="meta")[places]

    def _sized(self, node: torch.fx.Node) -> Any:
        """A call on meta that takes sizes from tensors, given the sizes as numbers."""

        def given(operand: torch.fx.Node) -> Any:
            if self._standing(operand) is Standing.OPEN:
                return torch.empty(operand.meta["shape"], dtype=operand.meta["dtype"], device="meta")
            value = self._bounded(operand)
            if not isinstance(value, torch.Tensor):
                raise UnknownError(f"{operand.name} is no tensor")
            return value.to("meta") if value.dim() else value.item()

        args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), given)
        with torch._C.DisableTorchFunction(), torch.no_grad():
            return _call(node, args, kwargs, "meta")

    def _selected(self, node: torch.fx.Node) -> Any:
        """A call that failed on meta for what it takes besides its first operand."""
        operand, *others = node.args
        if not isinstance(operand, torch.fx.Node) or len(node.all_input_nodes) == 1:
            raise UnknownError(f"{node.name} depends on weights")
        if torch.Size(operand.meta["shape"]).numel() > MOST_ELEMENTS:
            raise UnknownError(f"{operand.name} is too large")
        args = (filled(operand, 0), *self._values(tuple(others)))
        with torch._C.DisableTorchFunction(), torch.no_grad():
            return _call(node, args, self._values(node.kwargs))

    def _standing(self, node: torch.fx.Node) -> Standing:
        """What it takes to tell the node's value."""
        for here in _before(node, _needed, self._standings):
            self._standings[here] = self._judged(here)
        return self._standings[node][0]

    def _judged(self, node: torch.fx.Node) -> tuple[Standing, int]:
        """What it takes, from what its operands take; and whether it comes from inputs, from parameters or both."""
        if node.op == "get_attr":
            held = self._constant(node)
            known = Standing.OPEN if held is None or held.is_meta else Standing.KNOWN
            standing, origin = known, _FROM_PARAMETERS if isinstance(held, torch.nn.Parameter) else 0
        elif node.op in ("call_function", "call_method"):
            found = [self._standings[each] for each in _needed(node)]
            standing = max((each for each, _ in found), default=Standing.KNOWN)
            origin = _FROM_INPUTS * any(each & _FROM_INPUTS for _, each in found)
            origin |= _FROM_PARAMETERS * any(each & _FROM_PARAMETERS for _, each in found)
            if origin == _FROM_INPUTS | _FROM_PARAMETERS:  # to compute it would be to run the model
                standing = Standing.OPEN
        else:
            standing, origin = Standing.OPEN, 0
        taken = assumption(node, standing)
        if taken is None:
            return standing, origin
        self._assumptions[node] = taken
        return taken.standing, 0

    def _constant(self, node: torch.fx.Node) -> torch.Tensor | None:
        """A parameter, buffer or constant that was met."""
        constant = node.meta.get("constant")
        return constant if constant is not None else self._held.get(str(node.target))

    def _value(self, node: torch.fx.Node) -> Any:
        for here in _before(node, self._asked_for, self._known):
            self._known[here] = self._computed(here)
        return self._known[node]

    def _asked_for(self, node: torch.fx.Node) -> Iterable[torch.fx.Node]:
        return () if node in self._assumptions else _needed(node)

    def _computed(self, node: torch.fx.Node) -> Any:
        if self._standing(node) is Standing.OPEN:
            raise UnknownError(f"{node.name} depends on weights")
        if node not in self._assumptions and (held := self._constant(node)) is not None:
            return held.detach().cpu()
        with torch._C.DisableTorchFunction(), torch.no_grad():
            if (taken := self._assumptions.get(node)) is not None:
                return self._granted(node, taken)
            needed = set(_needed(node))
            args, kwargs = torch.fx.node.map_arg(
                (node.args, node.kwargs), lambda each: self._bounded(each) if each in needed else filled(each, 0)
            )
            return _call(node, args, kwargs)

    def _granted(self, node: torch.fx.Node, taken: Assumption) -> Any:
        self.assumed.add(node, taken.words)
        if taken.result is not None:
            return taken.result(node)
        assert taken.operand is not None
        return _call(node, (taken.operand(node), *self._values(node.args[1:])), node.kwargs)

    def _values(self, value: Any) -> Any:
        return torch.fx.node.map_arg(value, self._bounded)

    def _bounded(self, node: torch.fx.Node) -> Any:
        value = self._value(node)
        if isinstance(value, torch.Tensor) and value.numel() > MOST_ELEMENTS:
            raise UnknownError(f"{node.name} has {value.numel()} elements")
        return value


def _needed(node: torch.fx.Node) -> Iterable[torch.fx.Node]:
    """The operands whose values the call's value follows from."""
    name = called(node)
    if name in _LIKE or name in _AS:
        kept = node.args[1:] if name in _LIKE else node.args[:1]
        found: dict[torch.fx.Node, None] = {}
        torch.fx.node.map_arg((kept, node.kwargs), found.setdefault)
        return found
    return node.all_input_nodes


def _before(
    node: torch.fx.Node, operands: Callable[[torch.fx.Node], Iterable[torch.fx.Node]], done: Container[torch.fx.Node]
) -> Iterator[torch.fx.Node]:
    """The node after its operands, theirs before them, without those that are done when their turn comes."""
    waiting = [node]
    while waiting:
        here = waiting[-1]
        missing = [each for each in operands(here) if each not in done] if here not in done else []
        if missing:
            waiting += missing
            continue
        waiting.pop()
        if here not in done:
            yield here


def _places(index: tuple[Any, ...], value: Callable[[torch.fx.Node], torch.Tensor]) -> Iterator[Any]:
    """An index of a tensor on meta: with places for masks, and numbers for tensors of none."""
    for each in index:
        if isinstance(each, slice):
            yield slice(*(int(value(part)) if isinstance(part, torch.fx.Node) else part for part in _parts(each)))
        elif not isinstance(each, torch.fx.Node):
            yield each
        elif (held := value(each)).dtype is torch.bool:
            yield from (places.to("meta") for places in held.nonzero(as_tuple=True))
        else:
            yield held.to("meta") if held.dim() else int(held)


def _parts(index: slice) -> tuple[Any, Any, Any]:
    return index.start, index.stop, index.step


def _call(node: torch.fx.Node, args: Any, kwargs: Any, device: str = "cpu") -> Any:
    """Call it again, on values that are left as they are."""
    target = node.target
    if target is operator.setitem or target == "__setitem__":
        return with_item(*args)
    if args and isinstance(args[0], torch.Tensor) and writes(node, {}):
        args = (args[0].clone(), *args[1:])
    args, kwargs = [_on(device, each) for each in args], {key: _on(device, value) for key, value in kwargs.items()}
    with torch.device(device):
        if isinstance(target, str):
            return getattr(args[0], target)(*args[1:], **kwargs)
        assert callable(target)
        return target(*args, **kwargs)


def _on(device: str, value: Any) -> Any:
    """An argument, with the device that it may name in place of meta."""
    return torch.device(device) if isinstance(value, (torch.device, str)) and str(value) == "meta" else value


def _mapped(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_mapped(each, change) for each in value))
    if isinstance(value, tuple | list):
        return type(value)(_mapped(each, change) for each in value)
    if isinstance(value, Mapping):
        return {key: _mapped(each, change) for key, each in value.items()}
    return value
