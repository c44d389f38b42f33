"""Dataflow: what every traced graph becomes, whichever tier traced it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

import networkx as nx
import torch.fx

from autoinit import formats
from autoinit._escaping import log_line
from autoinit.ops.registry import REGISTRY, OpSpec
from autoinit.ops.roles import Role, Trait
from autoinit.theory.activations import Fact
from autoinit.theory.layouts import Layout
from autoinit.tracing.inputs import Inputs

OpGraph: TypeAlias = "nx.DiGraph[Op]"

Left = Literal["", "bent", "unsummed", "noise", "mixed"]


@dataclass(frozen=True)
class SourceLine:
    """A line of the user's code.

    Attributes:
        file: its path, as Python names it.
        line: its number, from 1.
        function: the function that it stands in.
    """

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class ParamUse:
    """One parameter entering one operation.

    Attributes:
        slot: the operand it enters as (`weight`, `bias`, `in_proj_weight`, `weight_ih_l0`, ...).
        name: its name, as `model.named_parameters()` gives it, wrappers seen through.
        shape: the parameter's shape.
        layout: what its axes mean to the operation; None where it is not a weight.
        transform: canonical names of the operations between the parameter and this operand, first to last.
        factor: by how much these multiply its std; 0 if they normalise it away, None if neither.
        left: why it is no weight to be scaled, although it stands in a weight's place: `bent` by a function that is not
            proportional to it; `unsummed`, since nothing is summed over it; `noise`, whose scale it is; `mixed` into a
            weight that does not tell its axes. Empty otherwise.
        modulated: whether a signal changes it on the way.
    """

    slot: str
    name: str
    shape: tuple[int, ...]
    layout: Layout | None = None
    transform: tuple[str, ...] = ()
    factor: float | None = 1.0
    left: Left = ""
    modulated: bool = False


def bare_name(target: Any) -> str:
    """What a call's target is called, whatever the namespace; empty if it has no name."""
    name = target if isinstance(target, str) else str(getattr(target, "__name__", ""))
    return name.partition(".")[0].removeprefix("_").removeprefix("linalg_")


@dataclass(frozen=True)
class Call:
    """How to call an operation again, on other values.

    Attributes:
        target: function or method name; None for a module of the table, which `spec.function` computes.
        args, kwargs: as called, with an `Op` in place of each tensor.
    """

    target: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    spec: OpSpec | None = None

    @property
    def name(self) -> str:
        """The bare name of the function or method: `sum` of `Tensor.sum`, `torch.sum` and `aten.sum.dim_IntList`."""
        return bare_name(self.target)


@dataclass(frozen=True, eq=False)
class Op:
    """One operation of the model; a node of `Dataflow.graph`.

    Attributes:
        name: unique in the graph; a module's path where the operation is the call of a module.
        op: canonical name.
        role: its role *here* (an `add` of a constant is transparent).
        module: path of the module whose forward called it ("" for the model itself).
        params: the parameters used.
        constants: arguments that are not tensors, by name.
        shape: of the output, when the tier knows it.
        source: the line that called it, when known.
        signal: whether its output carries the signal (depends on an input or left a weight operation).
        made: whether it carries a signal that a weight (or a table that is looked up) made, not inputs alone.
        operands: the operations whose outputs it takes, by slot.
        call: how to call it again.
        acts: how it treats elements (see `ops.Acts`).
        demodulated_by: the slot of the operand that takes away the scale of the weight behind another; empty if none.
    """

    name: str
    op: str
    role: Role
    module: str = ""
    params: tuple[ParamUse, ...] = ()
    constants: Mapping[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] | None = None
    source: SourceLine | None = None
    signal: bool = True
    made: bool = False
    operands: Mapping[str, Op] = field(default_factory=dict)
    call: Call | None = None
    acts: str = "mixing"
    demodulated_by: str = ""

    @cached_property
    def spec(self) -> OpSpec | None:
        """The entry of the table of operations; None for inputs, parameters, outputs and what the table lacks."""
        return REGISTRY.specs.get(self.op) if self.role is not Role.UNKNOWN else None

    @cached_property
    def facts(self) -> Fact:
        """What holds of a nonlinearity's function."""
        return self.spec.facts if self.spec is not None else Fact.NONE

    @cached_property
    def traits(self) -> Trait:
        """What holds of the operation beside its role."""
        return self.spec.traits if self.spec is not None else Trait.NONE

    @property
    def is_module(self) -> bool:
        """Whether it is the call of a module of the table."""
        return self.call is not None and self.call.target is None

    @property
    def added(self) -> Op | None:
        """The signal that a weight operation adds its product to (`addmm`), if it does."""
        bias = self.operands.get("bias") if self.role is Role.WEIGHT else None
        return bias if bias is not None and bias.signal else None

    @property
    def ends(self) -> bool:
        """Whether the signal ends here: at an output or a loss, not at a question such as a tensor's size."""
        return self.role is Role.SINK and self.signal

    def __repr__(self) -> str:
        return f"Op({self.name}: {self.op}, {self.role})"


LENDING = frozenset({"cast", "view", "expand", "output_in_place"})
"""Operations to which what comes beside their input lends its type or its shape, and no signal."""


def only_steers(op: Op, slot: str) -> bool:
    """Whether an operand says only which elements, shape or type (an index, `other` of view_as), or demodulates."""
    if op.op == "cast" or (op.acts == "rearranging" and Trait.JOINING not in op.traits):
        return slot != "input"
    if slot == op.demodulated_by:
        return True
    return op.spec is not None and slot in op.spec.steered_by


@dataclass(frozen=True)
class Unsupported:
    """An operation that the table does not know.

    Attributes:
        op: its name, as it is called.
        name: of the operation in the graph.
        module: path of the module whose forward called it.
        source: the line that called it, when known.
    """

    op: str
    name: str
    module: str
    source: SourceLine | None = None


Tier = Literal["symbolic", "recorded", "exported"]


@dataclass(frozen=True)
class TierFacts:
    """A way to read a model.

    Attributes:
        help: how it reads.
        knows_shapes: whether operations have the shape of their output.
        follows_views: whether what is written through a view reaches the uses of the tensor beneath without more ado.
    """

    help: str
    knows_shapes: bool = False
    follows_views: bool = False


TIERS: Mapping[Tier, TierFacts] = {
    "symbolic": TierFacts("forward is traced with proxies, which needs no input"),
    "recorded": TierFacts("forward runs, and what it calls is written down", knows_shapes=True, follows_views=True),
    "exported": TierFacts("the graph of an exported program is taken"),
}
"""Every tier; what each tries to read a model stands in `tiers`."""


@dataclass(frozen=True)
class Dataflow:
    """The operations of a model and what flows between them.

    Attributes:
        graph: nodes are `Op` records; an edge u -> v means that v takes u's output, `slots` on the edge says as which
            operands.
        tier: how it was read, one of `TIERS`.
        fx: the `torch.fx.Graph` it was read from.
        unsupported: operations with no known role.
        uncalled: weights (parameters of two or more dimensions) that no operation used.
        notes: what a reader of the report should know about the tracing.
        guess: the inputs that it was recorded on, where these were guessed.
    """

    graph: OpGraph
    tier: Tier
    fx: torch.fx.Graph
    unsupported: tuple[Unsupported, ...] = ()
    uncalled: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    guess: Inputs | None = field(default=None, repr=False)

    @property
    def knows_shapes(self) -> bool:
        """Whether operations have the shape of their output."""
        return TIERS[self.tier].knows_shapes

    @cached_property
    def by_name(self) -> dict[str, Op]:
        """Operations by name."""
        return {op.name: op for op in self.graph.nodes}

    def to_html(self) -> str:
        """One self-contained page: the dataflow as a picture, what each weight feeds, and the walk that shows it."""
        page: str = formats.tool("page of dataflow")(self, formats.tool("resolutions")(self))
        return page

    def _repr_html_(self) -> str:
        shown: str = formats.tool("page in a notebook")(self.to_html(), "Dataflow")
        return shown

    def __str__(self) -> str:
        lines = [f"Dataflow ({self.tier}): {self.graph.number_of_nodes()} operations"]
        for op in self.graph.nodes:
            feeds = ", ".join(after.name for after in self.graph.successors(op)) or "-"
            weights = "".join(f" [{use.name}]" for use in op.params if use.layout is not None)
            lines.append(f"  {op.name}: {op.op} ({op.role}){weights} -> {feeds}")
        lines += [f"  unsupported: {each.op} at {each.name}" for each in self.unsupported]
        return "\n".join(map(log_line, lines))
