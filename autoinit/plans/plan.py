"""Plan: the weights' future, as an immutable, printable value. Made by `planning`, written by `applying`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import msgspec

from autoinit.errors import ArgumentError, PlanError
from autoinit.models import Model, ModelView
from autoinit.plans.distributions import Distribution
from autoinit.plans.mirror import Mirror
from autoinit.plans.options import PlanOptions, Residual
from autoinit.theory.fans import Mode
from autoinit.theory.gains import Scheme

if TYPE_CHECKING:
    from autoinit.plans.report import Report

Status = Literal["planned", "kept", "skipped", "unresolved"]


@dataclass(frozen=True)
class Alternative:
    """One of several things that a weight feeds."""

    nonlinearity: str
    reason: str
    params: Mapping[str, float] = field(default_factory=dict)
    path: tuple[str, ...] = ()


@dataclass(frozen=True)
class SlicePlan:
    """The plan for some of a weight's output features.

    rows: half-open runs of indices on the weight's output axis (of all its `o` axes together, flattened).
    The other fields are `LayerPlan`'s, for these rows alone; fan_out counts these rows only.
    """

    rows: tuple[tuple[int, int], ...]
    nonlinearity: str
    params: Mapping[str, float]
    reason: str
    path: tuple[str, ...]
    normalised: bool
    scheme: Scheme
    mode: Mode
    gain: float
    fan_in: float
    fan_out: float
    std: float


@dataclass(frozen=True)
class LayerPlan:
    """What one weight is to become, and why.

    name: the layer's name: the weight's, less a trailing `.weight`. param: the weight's name in
    `named_parameters()`. shape: the weight's. axes: one letter for each of its dimensions (see `Layout`).
    op: the operation that uses it. nonlinearity, params: what it feeds. reason, path, alternatives: the evidence.
    scheme, mode, gain, fan_in, fan_out: where std comes from. std: of the
    parameter's elements, so that the weight in use has the scale that follows from gain and fans.
    slices: one plan for each part of the output features that is treated on its own; then `std` is the root mean
    square over the whole weight and gain and fans are those of the first slice.
    status: `planned` (will be written), `kept` (the author's intent), `skipped` (the caller's), `unresolved`.
    note: why, for every status but `planned`; else what a reader should know.
    biases: parameters that become zero with it. uses: operations that use the weight, in order of call.
    reparam: how the weight is parametrised: `` (plain), `weight_norm`, `spectral_norm`, `parametrized`.
    source: file:line of its first use, when known.
    groups, stride_area: of a convolution: its groups and the product of its strides.
    mirror: how the weight is made where the plan is mirrored; None elsewhere.
    """

    name: str
    param: str
    shape: tuple[int, ...]
    axes: str
    op: str
    nonlinearity: str
    params: Mapping[str, float]
    reason: str
    path: tuple[str, ...]
    normalised: bool
    scheme: Scheme
    mode: Mode
    gain: float
    fan_in: float
    fan_out: float
    std: float
    distribution: Distribution
    slices: tuple[SlicePlan, ...] = ()
    status: Status = "planned"
    note: str = ""
    biases: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    reparam: str = ""
    source: str = ""
    groups: int = 1
    stride_area: int = 1
    mirror: Mirror | None = None


@dataclass(frozen=True)
class OtherParameter:
    """A parameter that no plan touches: what it is (`norm`, `embedding`, `bias`, `uncalled`, `other`) and why."""

    name: str
    shape: tuple[int, ...]
    kind: str
    note: str = ""


@dataclass(frozen=True)
class Plan(Mapping[str, LayerPlan]):
    """A mapping from layer name to `LayerPlan`, in order of the dataflow.

    model: class name. tier: how it was traced. method, residual: how the scales were chosen.
    others: every parameter that is not a planned weight or its bias. unsupported: operations that the table does
    not know. notes: about the whole model.
    """

    layers: tuple[LayerPlan, ...]
    model: str
    parameters: int
    tier: str
    method: str = "nonlinearity"
    residual: Residual = "keep"
    others: tuple[OtherParameter, ...] = ()
    unsupported: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

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

    def apply(self, model: Model, seed: int | None = None, *, force: bool = False) -> Report:
        """Write the planned weights, and zeros into their biases; all or nothing.

        Args:
            model: the model that was planned, or another with the same weights.
            seed: the values are a function of (seed, parameter name, shape) alone. None takes a seed from torch's
                default generator.
            force: write although the model looks trained.

        Raises:
            PlanError: the plan does not fit the model; nothing was written.
            TrainedModelError: the model looks trained; nothing was written.
        """
        from autoinit.plans.report import Report
        from autoinit.writing.applying import write

        written = write(self, ModelView.of(model), seed, force=force)
        noted = replace(self, notes=(*self.notes, *written.notes))
        return Report(noted, written.before, written.after, written.seed, self.seconds + written.seconds)

    def to_json(self) -> str:
        """The plan as JSON; `Plan.from_json` reads it back."""
        document = {"version": _VERSION, **{name: getattr(self, name) for name in _names(Plan)}}
        return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Plan:
        """Read a plan written by `to_json`.

        Raises:
            PlanError: the text is no plan, or of another version; says where and what was expected.
        """
        try:
            document = msgspec.json.decode(text, type=_Document)
            PlanOptions(method=document.method)  # refuses one that there is not
        except (msgspec.MsgspecError, ArgumentError) as error:
            raise PlanError(f"not a plan: {error}. Expected the output of Plan.to_json().") from None
        if document.version != _VERSION:
            raise PlanError(f"plan version {document.version}; this release reads version {_VERSION}")
        return cls(**{name: getattr(document, name) for name in _names(Plan)})


ALL_ZERO = "exactly zero, as all weights of the model are: memory that nothing has written"
"""The note of a layer that is planned although it is zero."""
_LISTED = 12


def _some(names: Sequence[str]) -> str:
    more = len(names) - _LISTED
    return f"{', '.join(names[:_LISTED])}{f' and {more} more' if more > 0 else ''}"


_VERSION = 1


def _names(kind: type) -> list[str]:
    return [each.name for each in fields(kind)]


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON form of a plan."""

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
