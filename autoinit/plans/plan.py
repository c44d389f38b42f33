"""Plan: the weights' future, and Report: what became of them. Immutable, printable; made by `planning`, `writing`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from math import prod
from typing import IO, TYPE_CHECKING

import msgspec

from autoinit import formats
from autoinit.errors import ArgumentError, PlanError
from autoinit.errors.arguments import one_of, require, require_call
from autoinit.models import Model, ModelView
from autoinit.models.wrappers import resharded
from autoinit.plans.how import How, Rest
from autoinit.plans.layers import LayerPlan, OtherParameter, RestPlan
from autoinit.plans.options import Heads, PlanOptions, Residual
from autoinit.tensors.measuring import WeightStats
from autoinit.tensors.placing import LocalLayout
from autoinit.tracing.flow import Flow

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Plan(Mapping[str, LayerPlan]):
    """A mapping from layer name to `LayerPlan`, in order of the dataflow.

    Attributes:
        model: class name.
        tier: how it was traced.
        method, residual, heads, recipe: how the scales were chosen.
        preset: the preset that chose what was not given, and which row of its table; empty where none did.
        rest: parameters that are no layer's weight, and that the recipe writes.
        others: every parameter that the plan does not touch.
        unsupported: operations that the table does not know.
        notes: about the whole model.
        flow: the operations that it was made of, to be drawn; none in a plan that was read from JSON.
    """

    layers: tuple[LayerPlan, ...]
    model: str
    parameters: int
    tier: str
    method: str = "nonlinearity"
    residual: Residual = "keep"
    heads: Heads = "xavier"
    recipe: str = ""
    preset: str = ""
    rest: tuple[RestPlan, ...] = ()
    others: tuple[OtherParameter, ...] = ()
    unsupported: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    flow: Flow | None = field(default=None, compare=False, repr=False)

    @property
    def later(self) -> dict[str, str]:
        """What was chosen by options that are younger than the JSON's version, by name; only what is not the default.

        So a reader that refuses what it does not know still reads plans that do without them.
        """
        return {name: value for name in LATER if (value := getattr(self, name)) != getattr(Plan, name)}

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know before anything else: that little of the model is planned, and why."""
        unreached = [each.name for each in self.others if each.kind == "uncalled" and len(each.shape) > 1]
        reached = len(self.layers) + sum(each.kind != "uncalled" and len(each.shape) > 1 for each in self.others)
        found = []
        if self.layers and all(layer.note == ALL_ZERO for layer in self.layers):
            found.append(
                f"all {len(self.layers)} weights of the model are exactly zero, as fresh memory is after to_empty: no "
                f"author's intent. They are planned; norms, embeddings and other parameters, which may be as empty, "
                f"are not: reset them, or load a state_dict"
            )
        if len(unreached) > reached:
            found.append(
                f"forward reaches only {reached} of {reached + len(unreached)} weights; not planned, and not written "
                f"by apply: {_some(unreached)}. Pass example_inputs=... that bring in the rest, by name where they are "
                f"optional"
            )
        return tuple(found)

    @cached_property
    def _by_name(self) -> dict[str, LayerPlan]:
        return {layer.name: layer for layer in self.layers}

    def __getitem__(self, name: str) -> LayerPlan:
        try:
            return self._by_name[name]
        except KeyError:
            raise KeyError(f"no layer {name!r} in the plan of {self.model}; it has {len(self.layers)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self.layers)

    def apply(
        self,
        model: Model,
        seed: int | None = None,
        *,
        force: bool = False,
        rest: Rest = "keep",
        partial: bool = False,
        report: bool = True,
        layout: LocalLayout | None = None,
    ) -> Report:
        """Write the planned weights, zeros into their biases, and what else a recipe speaks of; all or nothing.

        Of a model that is parted among processes (FSDP2, tensor parallel, ...) each process writes its own pieces, and
        all must call this: one small gather tells the seed and what stands against writing, so that all raise or none,
        another the statistics. With a seed and `report=False` there is none.

        Args:
            model: the model that was planned, or another with the same weights.
            seed: the values are a function of (seed, parameter name, global shape) alone. None takes a seed from
                torch's default generator, that of the first process.
            force: write although the model looks trained.
            rest: what becomes of what the plan does not write, such as norms and embeddings: `keep`, or `reset`, by
                each module's own `reset_parameters`. After `to_empty` it is rubbish. What has no such method, and
                buffers that a constructor fills, are named in the report's notes.
            partial: write the layers that the model has, as a stage of a pipeline, and pass over the others.
            report: measure the weights before and after. Without, the report has no statistics.
            layout: `layout(name, tensor)` tells what of a parameter is here, where the tensor does not (Megatron,
                ZeRO-3, FSDP1): a `Box` or `FlatRun`, or the tensor in which it lies and one of them, or None.

        Raises:
            PlanError: the plan does not fit the model; nothing was written.
            TrainedModelError: the model looks trained; nothing was written.
            ArgumentError: an argument has no meaning; nothing was written.
            ApplyError: writing failed.
        """
        from autoinit.writing.applying import applied

        one_of("rest", rest, ("keep", "reset"))
        for name, flag in (("force", force), ("partial", partial), ("report", report)):
            require(name, flag, bool, "True or False")
        if layout is not None:
            require_call("layout", layout, "name", "tensor")
        how = How(report, force, rest, partial, layout)
        resharded(model)
        return applied(self, ModelView.of(model), seed, how)

    def to_json(self) -> str:
        """The plan as JSON; `Plan.from_json` reads it back."""
        held = {name: getattr(self, name) for name in _names(Plan) if name not in LATER or name in self.later}
        document = {"version": _VERSION, **held, "warnings": self.warnings}
        return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()

    def to_html(self) -> str:
        """One self-contained page: the dataflow as a picture, the layers, the notes."""
        page: str = formats.tool("page of plan")(self)
        return page

    def __str__(self) -> str:
        return str(self._as_report())

    def print(self, file: IO[str] | None = None, console: Console | None = None, *, full: bool = False) -> None:
        """Print the table for people, as `Report.print` does; nothing is known of the weights before."""
        self._as_report().print(file, console, full=full)

    def _repr_html_(self) -> str:
        shown: str = formats.tool("report in a notebook")(self._as_report())
        return shown

    def _as_report(self) -> Report:
        return Report(self, {}, seconds=self.seconds)

    @classmethod
    def from_json(cls, text: str | bytes) -> Plan:
        """Read a plan written by `to_json`.

        Raises:
            PlanError: the text is no plan, or of another version; says where and what was expected.
        """
        require("text", text, (str, bytes), "what Plan.to_json gave")
        try:
            document = msgspec.json.decode(text.encode() if isinstance(text, str) else text, type=_PlanDocument)
            PlanOptions(method=document.method)  # refuses one that there is not
        except (msgspec.MsgspecError, ArgumentError, UnicodeError) as error:
            raise PlanError(f"not a plan: {error}. Expected the output of Plan.to_json().") from None
        if document.version != _VERSION:
            raise PlanError(f"plan version {document.version}; this release reads version {_VERSION}")
        return cls(**{name: getattr(document, name) for name in _names(Plan)})


@dataclass(frozen=True)
class Report(formats.Printable):
    """What a model's weights were, what they are to be, and what they became.

    Attributes:
        plan: what each weight is to become and why.
        before, after: statistics of the weights by layer name; `after` is None when nothing was written.
        seed: of the values written.
        seconds: tracing, planning, measuring and writing.
    """

    _kind = "report"

    plan: Plan
    before: Mapping[str, WeightStats]
    after: Mapping[str, WeightStats] | None = None
    seed: int | None = None
    seconds: float = 0.0

    @property
    def weights_written(self) -> int:
        """How many numbers were written, biases aside."""
        if self.after is None:
            return 0
        written = [layer.shape for layer in self.plan.layers if layer.status == "planned"]
        return sum(map(prod, (*written, *(each.shape for each in self.plan.rest))))

    def _as_kind(self) -> list[Report]:
        return [self]

    def to_markdown(self) -> str:
        """The whole report as a Markdown document, one table row for each layer."""
        return self.to("markdown") + "\n"

    def to_html(self) -> str:
        """One self-contained page: the dataflow as a picture, the layers, the notes."""
        return self.to("html")

    def _repr_html_(self) -> str:
        shown: str = formats.tool("report in a notebook")(self)
        return shown


ALL_ZERO = "exactly zero, as all weights of the model are: memory that nothing has written"
"""The note of a layer that is planned although it is zero."""
_LISTED = 12


def _some(names: Sequence[str]) -> str:
    more = len(names) - _LISTED
    return f"{', '.join(names[:_LISTED])}{f' and {more} more' if more > 0 else ''}"


_VERSION = 1
LATER = ("heads", "preset")
"""Fields that are younger than that version."""


def _names(kind: type) -> list[str]:
    return [each.name for each in fields(kind) if each.name != "flow"]


class _PlanDocument(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON form of a plan. Its warnings follow from the rest."""

    version: int
    layers: tuple[LayerPlan, ...]
    model: str
    parameters: int
    tier: str
    method: str
    residual: Residual
    others: tuple[OtherParameter, ...]
    unsupported: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float
    heads: Heads = "xavier"
    recipe: str = ""
    preset: str = ""
    rest: tuple[RestPlan, ...] = ()
    warnings: tuple[str, ...] = ()
