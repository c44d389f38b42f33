"""The one table of operations: canonical names, roles, and every spelling that means them.

`register_op` is the only way in, for the library's own entries and for a user's. A *spelling* is a module class, a
function object, a tensor method or attribute, or an ATen operator. Names given as strings are looked up in torch's
namespaces, with and without the trailing underscore of the in-place form.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from types import NoneType
from typing import Any

import torch
import torch.nn.functional
from torch import nn

from autoinit.errors import RegistrationError
from autoinit.errors.arguments import all_of, member, refusal, require, texts
from autoinit.ops.roles import Role, Trait
from autoinit.theory.activations import Fact
from autoinit.theory.layouts import Layout

REQUIRED = inspect.Parameter.empty


class Acts(str, Enum):
    """How an operation treats the elements of its operands."""

    ELEMENTWISE = "elementwise"
    """Each output element depends on the operands' elements at the same (broadcast) place."""
    REARRANGING = "rearranging"
    """Each output element is one of the operands' elements."""
    REDUCING = "reducing"
    """Sums, means and moments over axes."""
    MIXING = "mixing"
    """Anything else."""


@dataclass(frozen=True)
class WeightSlot:
    """A weight operand of an operation.

    Attributes:
        layout: gives the weight's layout from the operation's constants and the operand's shape.
        bias: the slots of the biases that go with it.
        gates: nonlinearity of each equal run of output rows, where the operation applies one itself (LSTM gates);
            `attention` for a projection into attention. Empty: the output of the operation decides.
        named_gates: what the gates of a recurrent operation are called, in the same order.
        of_state: whether it reads the state of a recurrent operation.
        features: the axes of the operation's output that hold the weight's output features, counted from the end, from
            the constants and the weight's shape.
        prefix: whether `slot` (and `bias`) stand for all names that continue with a layer's number (`weight_ih_l0`).
    """

    slot: str
    layout: Callable[[Mapping[str, Any], tuple[int, ...]], Layout]
    bias: tuple[str, ...] = ()
    gates: tuple[str, ...] = ()
    named_gates: tuple[str, ...] = ()
    of_state: bool = False
    features: Callable[[Mapping[str, Any], tuple[int, ...]], tuple[int, ...]] | None = None
    prefix: bool = False

    def named(self, slot: str) -> WeightSlot | None:
        """This slot under the name that a call gives it; None if the name is another's."""
        if slot == self.slot:
            return self
        if not self.prefix or not slot.startswith(f"{self.slot}_l"):
            return None
        ending = slot[len(self.slot) :]
        return replace(self, slot=slot, bias=tuple(name + ending for name in self.bias))


@dataclass(frozen=True)
class OpSpec:
    """One canonical operation.

    Attributes:
        name: canonical name.
        role: what it does to a walk.
        arguments: names and defaults, in the order of the functional form.
        variadic: the argument that takes all that are left (`*tensors`); empty for none.
        acts: how it treats elements.
        function: computes it, from tensors and keyword arguments; for a nonlinearity, phi.
        weights: how its parameters enter, as a function of its constants; None for an operation without weights.
        carries: whether the output carries a signal; None: as the operands do.
        variant: names another canonical operation that a call with these arguments really is.
        several: whether it returns a tuple of different things rather than pieces of one.
        ranks: whether the values decide which of them come out (topk, sort); the second thing returned is their places.
        attributes: module attributes that bear another name than the argument.
        passes: the operands of a product that it is linear in; none named: all.
        each: whether each of its outputs belongs to the operand in the same place.
        facts: what holds of a nonlinearity's function.
        traits: what holds of the operation beside its role.
        steered_by: operands that say only which elements go where, or how much each counts (a mask, boxes, targets).
    """

    name: str
    role: Role
    arguments: tuple[tuple[str, Any], ...] = ()
    variadic: str = ""
    acts: Acts = Acts.MIXING
    function: Callable[..., Any] | None = None
    weights: Callable[[Mapping[str, Any]], tuple[WeightSlot, ...]] | None = None
    carries: bool | None = None
    variant: Callable[[Mapping[str, Any]], str | None] | None = None
    several: bool = False
    ranks: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict)
    passes: tuple[str, ...] = ()
    each: bool = False
    facts: Fact = Fact.NONE
    traits: Trait = Trait.NONE
    steered_by: tuple[str, ...] = ()

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments by name, defaults filled in. Operands past the known ones are named `extra0`, `extra1`, ..."""
        bound = {name: default for name, default in self.arguments if default is not REQUIRED}
        for position, value in enumerate(args):
            if position >= len(self.arguments):
                bound[f"extra{position - len(self.arguments)}"] = value
            elif self.arguments[position][0] == self.variadic:
                rest = tuple(args[position:])
                bound[self.variadic] = rest[0] if len(rest) == 1 and isinstance(rest[0], (list, tuple)) else rest
                break
            else:
                bound[self.arguments[position][0]] = value
        for name, value in kwargs.items():
            bound[_ALIASES.get(name, name)] = value
        return bound


_ALIASES = {"axis": "dim", "x": "input", "x1": "input", "x2": "other", "keepdims": "keepdim", "self": "input"}

_NAMESPACES: tuple[Any, ...] = (
    torch,
    torch.nn.functional,
    torch._C._nn,
    torch.Tensor,
    operator,
    torch.special,
    torch.linalg,
    torch.fft,
    torch._C._VariableFunctions,
    torch._VF,
)


class NamedOperator:
    """An operator that a file names and that this process may not have: known by its name, and never called.

    Attributes:
        space, name, overload: as in `torch.ops.SPACE.NAME.OVERLOAD`.
    """

    def __init__(self, space: str, name: str, overload: str = "default") -> None:
        self.space, self.name = space, name
        self.__module__ = f"torch._ops.{space}"
        self.__name__ = f"{name}.{overload}"

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        """Refuses: there is nothing to call."""
        raise TypeError(f"torch.ops.{self.space}.{self.name} is known by its name alone")


class Registry:
    """Operations by canonical name and by spelling."""

    def __init__(self) -> None:
        self.specs: dict[str, OpSpec] = {}
        self._modules: dict[type[nn.Module], OpSpec] = {}
        self._functions: dict[Any, OpSpec] = {}
        self._names: dict[str, OpSpec] = {}

    def add(
        self,
        spec: OpSpec,
        *,
        modules: Iterable[type[nn.Module]] = (),
        functions: Iterable[Any] = (),
        names: Iterable[str] = (),
        replace: bool = False,
    ) -> OpSpec:
        """Enter a spec with its spellings; refuses what is already there unless `replace`."""
        modules, functions, names = tuple(modules), [_packet(each) for each in functions], tuple(names)
        forms = [form for name in names for form in (name, f"{name}_")]
        for form in forms:
            if "::" not in form:
                functions += [found for space in _NAMESPACES if (found := _lookup(space, form)) is not None]
        if not replace:
            self._refuse_duplicates(spec, modules, functions, names)
        self.specs[spec.name] = spec
        self._modules.update(dict.fromkeys(modules, spec))
        self._functions.update(dict.fromkeys(functions, spec))
        self._names.update(dict.fromkeys(forms, spec))
        operators = [each for each in functions if isinstance(each, torch._ops.OpOverloadPacket)]
        self._names.update({str(each).replace(".", "::", 1): spec for each in operators})
        return spec

    def _refuse_duplicates(
        self, spec: OpSpec, modules: Iterable[Any], functions: Iterable[Any], names: Iterable[str]
    ) -> None:
        if spec.name in self.specs:
            raise RegistrationError(
                f"operation {spec.name!r} is registered already, with role {self.specs[spec.name].role}: "
                f"choose another name, or pass replace=True to take its place"
            )
        tables: tuple[tuple[Iterable[Any], Mapping[Any, OpSpec]], ...] = (
            (modules, self._modules),
            (functions, self._functions),
            (names, self._names),
        )
        for spellings, table in tables:
            for spelling in spellings:
                if spelling in table:
                    raise RegistrationError(
                        f"{spelling!r}, given for operation {spec.name!r}, is a spelling of "
                        f"{table[spelling].name!r} already: leave it out, or pass replace=True to take it over"
                    )

    def of_module(self, module: nn.Module) -> OpSpec | None:
        """The spec of a leaf module: its class is registered, or is the parametrized form of a registered one."""
        kind = type(module)
        if kind not in self._modules and hasattr(module, "parametrizations"):
            kind = kind.__bases__[0]
        return self._modules.get(kind)

    def of_function(self, function: Any) -> OpSpec | None:
        """The spec of a function object or ATen operator."""
        if isinstance(function, NamedOperator):
            return self.of_operator(function.space, function.name)
        function = _packet(function)
        try:
            found = self._functions.get(function)
        except TypeError:
            return None
        if found is None and isinstance(function, torch._ops.OpOverloadPacket):
            space, _, name = str(function).partition(".")
            return self.of_operator(space, name)
        return found

    def of_operator(self, space: str, name: str) -> OpSpec | None:
        """The spec of `torch.ops.SPACE.NAME`, by these words alone: nothing is looked up in torch."""
        found = self._names.get(f"{space}::{name}")
        return found if found is not None or space != "aten" else self._names.get(name)

    def of_name(self, name: str) -> OpSpec | None:
        """The spec of a tensor method or attribute."""
        return self._names.get(name)


def _lookup(space: Any, name: str) -> Any | None:
    found = getattr(space, name, None)
    return found if callable(found) or hasattr(found, "__get__") else None


def _packet(function: Any) -> Any:
    """The operator that an overload, or the object that `torch.library.custom_op` returns, belongs to."""
    function = getattr(function, "_opoverload", function)
    return function.overloadpacket if isinstance(function, torch._ops.OpOverload) else function


REGISTRY = Registry()


def parse_arguments(signature: str) -> tuple[tuple[str, Any], ...]:
    """Names and defaults from the text of a signature: `"input, dim=-1"`."""
    if not signature:
        return ()
    try:
        parsed = inspect.signature(eval(f"lambda {signature}: None", {}, {}))
    except (SyntaxError, ValueError) as error:  # the latter of what is no text that can be encoded
        raise RegistrationError(f"signature {signature!r} is not a Python argument list: {error}") from None
    return tuple((name, parameter.default) for name, parameter in parsed.parameters.items())


def _variadic(signature: str) -> str:
    return next((part.strip()[1:] for part in signature.split(",") if part.strip().startswith("*")), "")


def register_op(
    name: str,
    role: Role | str,
    *,
    modules: type[nn.Module] | Iterable[type[nn.Module]] = (),
    functions: Callable[..., Any] | Iterable[Any] = (),
    names: str | Iterable[str] = (),
    signature: str = "input",
    function: Callable[..., Any] | None = None,
    acts: Acts | str | None = None,
    weights: Callable[[Mapping[str, Any]], tuple[WeightSlot, ...]] | None = None,
    carries: bool | None = None,
    variant: Callable[[Mapping[str, Any]], str | None] | None = None,
    several: bool = False,
    ranks: bool = False,
    attributes: Mapping[str, str] | None = None,
    passes: Iterable[str] = (),
    each: bool = False,
    facts: Fact = Fact.NONE,
    traits: Trait = Trait.NONE,
    steered_by: Iterable[str] = (),
    replace: bool = False,
) -> OpSpec:
    """Add an operation to the table.

    Args:
        name: canonical name; for a nonlinearity, the name that reports give it.
        role: what it does to the walk, a `Role` or its value (`"nonlinearity"`, `"transparent"`, ...).
        modules: module classes whose call is this operation; they become leaves of the trace.
        functions: functions and custom operators (`torch.ops.mylib.myop`) that are this operation.
        names: names to look up in torch, torch.nn.functional, torch.Tensor, operator, ..., and as tensor methods
            and ATen operators, in-place forms included. `"space::name"` means that custom operator alone.
        signature: arguments of the functional form with their defaults, `"input, alpha=1.0"`. A module's
            attributes of the same names give its constants.
        function: computes it: `function(input, **constants)`. A nonlinearity needs it for its gain.
        acts: how it treats elements; elementwise for a nonlinearity, mixing otherwise.
        weights: for weight operations, the operands that are weights.
        carries: False if the output carries no signal, True if it does whatever the operands; default as they do.
        variant: for overloaded spellings, names the operation that a call with these arguments is.
        several: True if it returns a tuple of different things (output and state) rather than pieces of one tensor.
        ranks: True if the values decide which of them come out, and their places come with them (topk, sort).
        attributes: module attributes that bear another name than the argument: `{"alpha": "_alpha"}`.
        passes: for a product, the operands that it is linear in, where it is not linear in all of them: beside what
            no weight made, these pass.
        each: True if it takes several tensors and returns as many, each of which belongs to the one in its place.
        facts: what holds of a nonlinearity's function, whatever its constants: checks ask for it.
        traits: what holds of it beside its role.
        steered_by: operands that say only which elements go where, or how much each counts: walks do not enter by them.
        replace: take over names and spellings that are registered already.

    Returns:
        The entry.

    Raises:
        RegistrationError: the name or a spelling is taken, or a nonlinearity comes without `function`.
        ArgumentError: an argument is of another type.
    """
    require("name", name, str, "a text")
    require("signature", signature, str, 'the text of a signature, such as "input, alpha=1.0"')
    names = texts("names", names)
    modules = all_of("modules", [modules] if isinstance(modules, type) else modules, type, "classes of modules")
    functions = all_of("functions", [functions] if callable(functions) else functions, object, "functions")
    try:
        set(functions)
    except TypeError:
        raise refusal("functions", functions, "functions") from None
    if function is not None and not callable(function):
        raise refusal("function", function, "a function, or None")
    require("attributes", attributes, (Mapping, NoneType), "a mapping from argument to attribute")
    for what, flag in (("several", several), ("ranks", ranks), ("each", each), ("replace", replace)):
        require(what, flag, bool, "True or False")
    role = member("role", role, Role)
    if role is Role.NONLINEARITY and function is None:
        raise RegistrationError(
            f"nonlinearity {name!r} needs function=, called as function(input, **constants), to compute its gain"
        )
    default = Acts.ELEMENTWISE if role is Role.NONLINEARITY else Acts.MIXING
    spec = OpSpec(
        name=name,
        role=role,
        arguments=parse_arguments(signature),
        variadic=_variadic(signature),
        acts=member("acts", acts, Acts) if acts is not None else default,
        function=function,
        weights=weights,
        carries=carries,
        variant=variant,
        several=several,
        ranks=ranks,
        attributes=dict(attributes or {}),
        passes=texts("passes", passes),
        each=each,
        facts=facts,
        traits=traits,
        steered_by=texts("steered_by", steered_by),
    )
    return REGISTRY.add(
        spec,
        modules=modules,
        functions=functions,
        names=names,
        replace=replace,
    )
