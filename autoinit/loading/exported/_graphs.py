"""The graph of an exported program: a document of the schema -> a torch.fx.Graph that names tensors and operators."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
import torch.fx

from autoinit.loading.exported import _schema as schema
from autoinit.loading.exported._operators import operator_named
from autoinit.tracing.exported import is_block, place_of

_DTYPES = (
    "", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "complex32", "complex64",
    "complex128", "bool", "bfloat16",
)  # fmt: skip
_LATER_DTYPES = (
    "uint16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu", "uint32",
    "uint64",
)  # fmt: skip
_NUMBERED = {**dict(enumerate(_DTYPES)), **dict(enumerate(_LATER_DTYPES, start=28))}
_LAYOUTS = {1: "sparse_coo", 2: "sparse_csr", 3: "sparse_csc", 4: "sparse_bsr", 5: "sparse_bsc", 7: "strided"}
STRIDED = 7
_MEMORY_FORMATS = {1: "contiguous_format", 2: "channels_last", 3: "channels_last_3d", 4: "preserve_format"}


_T = TypeVar("_T")


class UnreadableError(ValueError):
    """The document is of the schema, and what it says cannot be. The message names what."""


def dtype_numbered(number: int) -> torch.dtype:
    """A dtype by the number that the schema gives it."""
    found = _numbered(number, _NUMBERED, "dtype")
    assert isinstance(found, torch.dtype)
    return found


def _numbered(number: int, names: Mapping[int, str], what: str) -> Any:
    name = names.get(number, "")
    if not name or not hasattr(torch, name):
        raise UnreadableError(f"{what} {number} is none that this torch knows")
    return getattr(torch, name)


def graph_of(module: schema.GraphModule, constants: Mapping[str, torch.Tensor]) -> torch.fx.Graph:
    """The graph with parameters, buffers and constants as attributes, and the user's inputs and outputs.

    constants: tensors that no state dict holds, which the attributes take along.

    Raises:
        UnreadableError: a value is used that nothing made, or made twice; or the graph needs an object of a class.
    """
    builder = _Builder(module.graph, torch.fx.Graph(), [])
    if len(module.graph.inputs) != len(module.signature.input_specs):
        raise UnreadableError(
            f"{len(module.graph.inputs)} inputs, and {len(module.signature.input_specs)} of them are described"
        )
    for index, (given, spec) in enumerate(zip(module.graph.inputs, module.signature.input_specs, strict=True)):
        builder.add_input(given, spec, index, constants)
    for node in module.graph.nodes:
        builder.add_node(node)
    builder.finish(module.signature.output_specs)
    return builder.graph


class _Builder:
    """The graph so far.

    Attributes:
        made: the node of each value, by the value's name.
    """

    def __init__(self, document: schema.Graph, graph: torch.fx.Graph, parts: list[torch.fx.Node]) -> None:
        self.graph = graph
        self.made: dict[str, torch.fx.Node] = {}
        self._metas = document.tensor_values
        self._parts = parts

    def add_input(
        self, given: schema.Argument, spec: schema.InputSpec, index: int, constants: Mapping[str, torch.Tensor]
    ) -> None:
        """A tensor of the model, or an input of the user's."""
        if given.kind == "as_custom_obj" or spec.kind == "custom_obj":
            raise UnreadableError(f"it needs an object of the class {given.value.class_fqn!r}")
        name = _name_in(given)
        held = _tensor_of(spec)
        if name is None:
            name = spec.value.name if spec.kind == "constant_input" else ""
            self.graph.create_node("placeholder", name or f"arg{index}", name=name or f"arg{index}")
        elif held is not None:
            known = {"constant": constants[held]} if held in constants else {}
            self._enter(name, self.graph.create_node("get_attr", held, name=name), {"module": "", **known})
        else:
            self._enter(name, self.graph.create_node("placeholder", name, name=name), {"module": ""})

    def add_node(self, node: schema.Node) -> None:
        """A call, and the parts of what it gives; of a block, its calls in place of it."""
        if is_block(node.target.rpartition(".")[2]):
            self._add_block(node)
            return
        args = tuple(self._value(each.arg) for each in node.inputs if each.kind == 1 or not each.name)
        kwargs = {each.name: self._value(each.arg) for each in node.inputs if each.kind != 1 and each.name}
        single = _single_output(node)
        name = node.name or single or _operator_name(node.target)  # torch 2.9 writes no name of a call with parts
        made = self.graph.create_node("call_function", operator_named(node.target), args, kwargs, name=name)
        place = place_of(_path(node.metadata), node.metadata.get("stack_trace"))
        if single:
            self._enter(single, made, place)
        else:
            made.meta = dict(place)
            outputs = node.outputs
            if len(outputs) == 1 and outputs[0].kind == "as_tensors":
                outputs = [schema.Argument(as_tensor=each) for each in outputs[0].value]
            self._add_parts(made, outputs, place)

    def _add_block(self, node: schema.Node) -> None:
        """The calls of a block, which names its values for itself."""
        given = [each.arg for each in node.inputs]
        at = next((at for at, each in enumerate(given) if each.kind == "as_graph"), None)
        if at is None:
            raise UnreadableError(f"{node.target} has no graph")
        document: schema.Graph = given[at].value.graph
        inside = _Builder(document, self.graph, self._parts)
        for name, operand in _paired(_names(document.inputs), given[at + 1 :], node.target):
            inside.made[name] = self._value(operand)
        for each in document.nodes:
            inside.add_node(each)
        for name, made in _paired(_names(node.outputs), _names(document.outputs), node.target):
            self._check_new(name)
            self.made[name] = inside._named(str(made))

    def _add_parts(self, whole: torch.fx.Node, outputs: Iterable[schema.Argument], place: dict[str, Any]) -> None:
        for index, output in enumerate(outputs):
            if output.kind == "as_none":
                continue
            name = _name_in(output)
            part = self.graph.create_node("call_function", operator.getitem, (whole, index), name=name)
            self._parts.append(part)
            if name is not None:
                self._enter(name, part, place)
            elif output.kind == "as_tensors":
                part.meta = dict(place)
                self._add_parts(part, [schema.Argument(as_tensor=each) for each in output.value], place)

    def finish(self, specs: Iterable[schema.OutputSpec]) -> None:
        """The outputs that are the user's; parts that nothing takes are left out, as export itself leaves them."""
        wanted = [each.value.arg for each in specs if each.kind in ("user_output", "loss_output")]
        names = [each.name if isinstance(each, schema.TensorArgument) else _name_in(each) for each in wanted]
        self.graph.output([self._named(name) for name in dict.fromkeys(names) if name is not None])
        for part in reversed(self._parts):
            if not part.users:
                self.graph.erase_node(part)

    def _enter(self, name: str, node: torch.fx.Node, place: dict[str, Any]) -> None:
        self._check_new(name)
        self.made[name] = node
        node.meta = dict(place)
        meta = self._metas.get(name)
        if meta is not None:
            sizes = [each.known for each in meta.sizes]
            if all(size is not None for size in sizes):
                node.meta |= {"shape": tuple(sizes), "dtype": dtype_numbered(meta.dtype)}

    def _check_new(self, name: str) -> None:
        if name in self.made:
            raise UnreadableError(f"the value {name!r} is made twice")

    def _named(self, name: str) -> torch.fx.Node:
        if name not in self.made:
            raise UnreadableError(f"the value {name!r} is used, and nothing made it before")
        return self.made[name]

    def _value(self, argument: schema.Argument) -> Any:
        """What a call is given."""
        kind, value = argument.kind, argument.value
        match kind:
            case "as_none":
                return None
            case "as_tensor":
                return self._named(value.name)
            case "as_tensors":
                return [self._named(each.name) for each in value]
            case "as_nested_tensors":
                return [[self._named(each.name) for each in inner] for inner in value]
            case "as_sym_int" | "as_sym_float" | "as_sym_bool" | "as_optional_tensor":
                return self._choice(value)
            case "as_sym_ints" | "as_sym_floats" | "as_sym_bools" | "as_optional_tensors":
                return [self._choice(each) for each in value]
            case "as_scalar_type":
                return dtype_numbered(value)
            case "as_memory_format":
                return _numbered(value, _MEMORY_FORMATS, "memory format")
            case "as_layout":
                return _numbered(value, _LAYOUTS, "layout")
            case "as_device":
                return _device(value)
            case "as_graph":
                return self._inner(value)
            case "as_operator":
                return operator_named(value)
            case "as_complex":
                return complex(_number(value.real), _number(value.imag))
            case "as_float":
                return _number(value)
            case "as_floats":
                return [_number(each) for each in value]
            case "as_float_lists":
                return [[_number(each) for each in inner] for inner in value]
            case "as_int_lists":
                return [tuple(each) for each in value]
            case "as_string_to_argument":
                return {key: self._value(each) for key, each in value.items()}
            case "as_custom_obj":
                raise UnreadableError(f"it needs an object of the class {value.class_fqn!r}")
        return list(value) if isinstance(value, list) else value

    def _choice(self, value: schema.OneOf) -> Any:
        """A value by its name, or the number itself."""
        match value.kind:
            case "as_none":
                return None
            case "as_name":
                return self._named(value.value)
            case "as_tensor":
                return self._named(value.value.name)
        return _number(value.value)

    def _inner(self, value: schema.GraphArgument) -> torch.fx.Node:
        """A graph that an operation calls: by its name, since what it does is not followed."""
        return self.graph.create_node("get_attr", value.name, name=value.name)


def _tensor_of(spec: schema.InputSpec) -> str | None:
    """The name in the model of the tensor that an input stands for; None for an input of the user's."""
    match spec.kind:
        case "parameter":
            return str(spec.value.parameter_name)
        case "buffer":
            return str(spec.value.buffer_name)
        case "tensor_constant":
            return str(spec.value.tensor_constant_name)
    return None


def _name_in(argument: schema.Argument) -> str | None:
    """The name of the value that an input or output is; None for a number or nothing."""
    if argument.kind == "as_tensor":
        return str(argument.value.name)
    if argument.kind in ("as_sym_int", "as_sym_float", "as_sym_bool") and argument.value.kind == "as_name":
        return str(argument.value.value)
    return None


def _names(arguments: Iterable[schema.Argument]) -> list[str | None]:
    """The names of inputs or outputs, one for each; of a list of tensors, one for each of these."""
    found: list[str | None] = []
    for each in arguments:
        found += [tensor.name for tensor in each.value] if each.kind == "as_tensors" else [_name_in(each)]
    return found


def _paired(names: Sequence[str | None], others: Sequence[_T], target: str) -> Iterator[tuple[str, _T]]:
    """What a block is given, or gives, outside and inside; only that which has a name."""
    if len(names) != len(others):
        raise UnreadableError(f"{target} has {len(names)} values on one side of its graph, and {len(others)} beyond")
    return ((name, other) for name, other in zip(names, others, strict=True) if name is not None)


def _single_output(node: schema.Node) -> str | None:
    """The name of the one value that a call gives; None where it gives several, a tuple of one, or nothing."""
    if len(node.outputs) != 1 or node.is_hop_single_tensor_return is False:
        return None
    return _name_in(node.outputs[0])


def _operator_name(target: str) -> str | None:
    """`split` of `torch.ops.aten.split.Tensor`, as torch names a call after what it calls."""
    parts = target.split(".")
    return parts[3] if target.startswith("torch.ops.") and len(parts) > 3 else None


def _path(metadata: Mapping[str, str]) -> str:
    """The path of the innermost module in `key,path,class;key,path,class`; commas in brackets are a path's own."""
    parts = list(_parts(metadata.get("nn_module_stack", "").rpartition(";")[2]))
    return parts[1] if len(parts) == 3 else ""


def _parts(text: str) -> Iterator[str]:
    start = depth = 0
    for at, character in enumerate(text):
        depth += (character in "[(") - (character in ")]")
        if character == "," and depth == 0:
            yield text[start:at]
            start = at + 1
    yield text[start:]


def _device(device: schema.Device) -> torch.device:
    try:
        return torch.device(device.type, device.index) if device.index is not None else torch.device(device.type)
    except RuntimeError:
        raise UnreadableError(f"the device {device.type!r} is none that this torch knows") from None


def _number(value: float | str) -> Any:
    return {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}[value] if isinstance(value, str) else value
