"""What torch.export.save writes, as closed types: a document that holds anything else is refused.

Follows version 8 of torch's schema (torch/_export/serde/schema.py). A tagged union is an object with exactly one of
its fields. Nothing here is looked up, imported or evaluated: names are identifiers, sizes are read by `sizes`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from autoinit.loading.exported import _sizes as sizes

MAJOR, NEWEST_MINOR = 8, 20
"""The version of the schema: torch 2.13 to 2.15 write 8.20."""

Name = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\Z", max_length=1000)]
"""A value of the graph."""
MaybeName = Annotated[str, Meta(pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?\Z", max_length=1000)]
Target = Annotated[str, Meta(pattern=r"^[A-Za-z_#][A-Za-z0-9_:]*(\.[A-Za-z_][A-Za-z0-9_]*)*\Z", max_length=1000)]
"""What a node calls."""
TensorName = Annotated[str, Meta(min_length=1, max_length=1000)]
"""A parameter, buffer or constant, by its path in the model."""
Float = float | Literal["Infinity", "-Infinity", "NaN"]
"""JSON has no infinities: they are written as words."""
Count = Annotated[int, Meta(ge=0, le=2**62)]


class Strict(Struct, frozen=True, forbid_unknown_fields=True):
    """An object with these fields and no others."""


class OneOf(Strict, frozen=True):
    """A tagged union: an object with exactly one of its fields."""

    def __post_init__(self) -> None:
        given = [name for name in self.__struct_fields__ if getattr(self, name) is not UNSET]
        if len(given) != 1:
            raise ValueError(f"expected one of {', '.join(self.__struct_fields__)}, found {len(given)}")

    @property
    def kind(self) -> str:
        """The name of the field that is there."""
        return next(name for name in self.__struct_fields__ if getattr(self, name) is not UNSET)

    @property
    def value(self) -> Any:
        """Its value."""
        return getattr(self, self.kind)


class Device(Strict, frozen=True):
    type: Annotated[str, Meta(pattern=r"^[a-z]+\Z", max_length=40)]
    index: int | None = None


class SymExprHint(OneOf, frozen=True):
    as_int: int | UnsetType = UNSET
    as_bool: bool | UnsetType = UNSET
    as_float: Float | UnsetType = UNSET


class SymExpr(Strict, frozen=True):
    expr_str: str
    hint: SymExprHint | None = None

    def __post_init__(self) -> None:
        sizes.value_of(self.expr_str)


class SymInt(OneOf, frozen=True):
    as_expr: SymExpr | UnsetType = UNSET
    as_int: int | UnsetType = UNSET

    @property
    def known(self) -> int | None:
        """The number; None where it depends on a symbol."""
        if isinstance(self.as_expr, SymExpr):
            return sizes.value_of(self.as_expr.expr_str)
        assert isinstance(self.as_int, int)
        return self.as_int


class SymFloat(OneOf, frozen=True):
    as_expr: SymExpr | UnsetType = UNSET
    as_float: Float | UnsetType = UNSET


class SymBool(OneOf, frozen=True):
    as_expr: SymExpr | UnsetType = UNSET
    as_bool: bool | UnsetType = UNSET


class TensorMeta(Strict, frozen=True):
    dtype: Count
    sizes: list[SymInt]
    requires_grad: bool
    device: Device
    strides: list[SymInt]
    storage_offset: SymInt
    layout: Count


class SymIntArgument(OneOf, frozen=True):
    as_name: Name | UnsetType = UNSET
    as_int: int | UnsetType = UNSET


class SymFloatArgument(OneOf, frozen=True):
    as_name: Name | UnsetType = UNSET
    as_float: Float | UnsetType = UNSET


class SymBoolArgument(OneOf, frozen=True):
    as_name: Name | UnsetType = UNSET
    as_bool: bool | UnsetType = UNSET


class TensorArgument(Strict, frozen=True):
    name: Name


class TokenArgument(Strict, frozen=True):
    name: Name


class OptionalTensorArgument(OneOf, frozen=True):
    as_tensor: TensorArgument | UnsetType = UNSET
    as_none: bool | UnsetType = UNSET


class GraphArgument(Strict, frozen=True):
    name: Name
    graph: Graph


class CustomObjArgument(Strict, frozen=True):
    name: str
    class_fqn: str


class ComplexValue(Strict, frozen=True):
    real: Float
    imag: Float


class Argument(OneOf, frozen=True):
    as_none: bool | UnsetType = UNSET
    as_tensor: TensorArgument | UnsetType = UNSET
    as_tensors: list[TensorArgument] | UnsetType = UNSET
    as_int: int | UnsetType = UNSET
    as_ints: list[int] | UnsetType = UNSET
    as_float: Float | UnsetType = UNSET
    as_floats: list[Float] | UnsetType = UNSET
    as_string: str | UnsetType = UNSET
    as_strings: list[str] | UnsetType = UNSET
    as_sym_int: SymIntArgument | UnsetType = UNSET
    as_sym_ints: list[SymIntArgument] | UnsetType = UNSET
    as_scalar_type: Count | UnsetType = UNSET
    as_memory_format: Count | UnsetType = UNSET
    as_layout: Count | UnsetType = UNSET
    as_device: Device | UnsetType = UNSET
    as_bool: bool | UnsetType = UNSET
    as_bools: list[bool] | UnsetType = UNSET
    as_sym_bool: SymBoolArgument | UnsetType = UNSET
    as_sym_bools: list[SymBoolArgument] | UnsetType = UNSET
    as_graph: GraphArgument | UnsetType = UNSET
    as_optional_tensors: list[OptionalTensorArgument] | UnsetType = UNSET
    as_custom_obj: CustomObjArgument | UnsetType = UNSET
    as_operator: Target | UnsetType = UNSET
    as_sym_float: SymFloatArgument | UnsetType = UNSET
    as_sym_floats: list[SymFloatArgument] | UnsetType = UNSET
    as_optional_tensor: OptionalTensorArgument | UnsetType = UNSET
    as_complex: ComplexValue | UnsetType = UNSET
    as_nested_tensors: list[list[TensorArgument]] | UnsetType = UNSET
    as_int_lists: list[list[int]] | UnsetType = UNSET
    as_string_to_argument: dict[str, Argument] | UnsetType = UNSET
    as_float_lists: list[list[Float]] | UnsetType = UNSET


class NamedArgument(Strict, frozen=True):
    name: MaybeName
    arg: Argument
    kind: Literal[0, 1, 2] | None = None


class Node(Strict, frozen=True):
    target: Target
    inputs: list[NamedArgument]
    outputs: list[Argument]
    metadata: dict[str, str]
    is_hop_single_tensor_return: bool | None = None
    name: Name | None = None


class Graph(Strict, frozen=True):
    inputs: list[Argument]
    outputs: list[Argument]
    nodes: list[Node]
    tensor_values: dict[Name, TensorMeta]
    sym_int_values: dict[Name, SymInt]
    sym_bool_values: dict[Name, SymBool]
    is_single_tensor_return: bool = False
    custom_obj_values: dict[str, CustomObjArgument] = {}
    sym_float_values: dict[Name, SymFloat] = {}


class UserInputSpec(Strict, frozen=True):
    arg: Argument


class ConstantValue(OneOf, frozen=True):
    as_none: bool | UnsetType = UNSET
    as_int: int | UnsetType = UNSET
    as_float: Float | UnsetType = UNSET
    as_string: str | UnsetType = UNSET
    as_bool: bool | UnsetType = UNSET


class ConstantInputSpec(Strict, frozen=True):
    name: MaybeName
    value: ConstantValue


class ParameterSpec(Strict, frozen=True):
    arg: TensorArgument
    parameter_name: TensorName


class BufferSpec(Strict, frozen=True):
    arg: TensorArgument
    buffer_name: TensorName
    persistent: bool


class TensorConstantSpec(Strict, frozen=True):
    arg: TensorArgument
    tensor_constant_name: TensorName


class CustomObjSpec(Strict, frozen=True):
    arg: CustomObjArgument
    custom_obj_name: str


class TokenSpec(Strict, frozen=True):
    arg: TokenArgument


class InputSpec(OneOf, frozen=True):
    user_input: UserInputSpec | UnsetType = UNSET
    parameter: ParameterSpec | UnsetType = UNSET
    buffer: BufferSpec | UnsetType = UNSET
    tensor_constant: TensorConstantSpec | UnsetType = UNSET
    custom_obj: CustomObjSpec | UnsetType = UNSET
    token: TokenSpec | UnsetType = UNSET
    constant_input: ConstantInputSpec | UnsetType = UNSET


class UserOutputSpec(Strict, frozen=True):
    arg: Argument


class LossOutputSpec(Strict, frozen=True):
    arg: TensorArgument


class BufferMutationSpec(Strict, frozen=True):
    arg: TensorArgument
    buffer_name: TensorName


class ParameterMutationSpec(Strict, frozen=True):
    arg: TensorArgument
    parameter_name: TensorName


class GradientToParameterSpec(Strict, frozen=True):
    arg: TensorArgument
    parameter_name: TensorName


class UserInputSpecOfOutput(Strict, frozen=True):
    arg: TensorArgument
    user_input_name: Name


class OutputSpec(OneOf, frozen=True):
    user_output: UserOutputSpec | UnsetType = UNSET
    loss_output: LossOutputSpec | UnsetType = UNSET
    buffer_mutation: BufferMutationSpec | UnsetType = UNSET
    gradient_to_parameter: GradientToParameterSpec | UnsetType = UNSET
    gradient_to_user_input: UserInputSpecOfOutput | UnsetType = UNSET
    user_input_mutation: UserInputSpecOfOutput | UnsetType = UNSET
    token: TokenSpec | UnsetType = UNSET
    parameter_mutation: ParameterMutationSpec | UnsetType = UNSET


class GraphSignature(Strict, frozen=True):
    input_specs: list[InputSpec]
    output_specs: list[OutputSpec]


class RangeConstraint(Strict, frozen=True):
    min_val: int | None
    max_val: int | None


class ModuleCallSignature(Strict, frozen=True):
    """in_spec, out_spec: how arguments are nested. They are not read: the graph has one input for each tensor."""

    inputs: list[Argument]
    outputs: list[Argument]
    in_spec: str
    out_spec: str
    forward_arg_names: list[str] | None = None


class ModuleCallEntry(Strict, frozen=True):
    fqn: str
    signature: ModuleCallSignature | None = None


class NamedTupleDef(Strict, frozen=True):
    field_names: list[str]


class GraphModule(Strict, frozen=True):
    graph: Graph
    signature: GraphSignature
    module_call_graph: list[ModuleCallEntry]
    metadata: dict[str, str] = {}
    treespec_namedtuple_fields: dict[str, NamedTupleDef] = {}


class SchemaVersion(Strict, frozen=True):
    major: int
    minor: int


class ExportedProgram(Strict, frozen=True):
    """The document in `models/NAME.json`.

    Attributes:
        guards_code: Python that torch would run; it is not read.
    """

    graph_module: GraphModule
    opset_version: dict[str, int]
    range_constraints: dict[str, RangeConstraint]
    schema_version: SchemaVersion
    verifiers: list[str] = []
    torch_version: str = "<=2.4"
    guards_code: list[str] = []


class Version(Struct, frozen=True):
    """The document, of which the version alone is read: what else it may hold depends on that."""

    schema_version: SchemaVersion


class PayloadMeta(Strict, frozen=True):
    path_name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_]+\Z", max_length=200)]
    is_param: bool
    use_pickle: bool
    tensor_meta: TensorMeta | None


class PayloadConfig(Strict, frozen=True):
    """Which record holds the bytes of which tensor."""

    config: dict[TensorName, PayloadMeta]
