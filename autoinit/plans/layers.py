"""LayerPlan: what one weight is to become and why, as an immutable value; its slices, and what is not planned."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from autoinit.plans.distributions import RecipeDistribution
from autoinit.plans.mirror import Mirror
from autoinit.resolving.resolution import Fed
from autoinit.theory.fans import Mode
from autoinit.theory.gains import Scheme
from autoinit.theory.layouts import size

Status = Literal["planned", "kept", "skipped", "unresolved"]


@dataclass(frozen=True)
class Scale:
    """How the std of output rows follows from what they feed.

    Attributes:
        scheme: He's or Xavier's.
        mode: the fan that it divides by.
        gain: of what the rows feed.
        fan_in, fan_out: by geometry; fan_out counts these rows only.
        std: of the parameter's elements, so that the weight in use has the scale that follows from gain and fans.
    """

    scheme: Scheme
    mode: Mode
    gain: float
    fan_in: float
    fan_out: float
    std: float


@dataclass(frozen=True)
class RowsPlan(Scale, Fed):
    """What a weight and a slice of it have in common: what the rows feed, and the std that follows."""

    def shared(self) -> dict[str, Any]:
        """These fields by name, for another plan of the same rows or of some of them."""
        return {each.name: getattr(self, each.name) for each in fields(RowsPlan)}


@dataclass(frozen=True)
class Alternative:
    """One of several things that a weight feeds."""

    nonlinearity: str
    reason: str
    params: Mapping[str, float] = field(default_factory=dict)
    path: tuple[str, ...] = ()


@dataclass(frozen=True)
class OutputRows:
    """Some of a weight's output features.

    Attributes:
        rows: half-open runs of indices on the weight's output axis (of all its `o` axes together, flattened).
    """

    rows: tuple[tuple[int, int], ...]

    @property
    def count(self) -> int:
        """How many rows there are."""
        return sum(stop - start for start, stop in self.rows)


@dataclass(frozen=True)
class SlicePlan(RowsPlan, OutputRows):
    """The plan for some of a weight's output features. The last base gives its fields first."""


def root_mean_square(slices: Sequence[SlicePlan]) -> float:
    """The std of a whole weight from those of its slices."""
    counts = [part.count for part in slices]
    return math.sqrt(sum(n * part.std**2 for n, part in zip(counts, slices, strict=True)) / sum(counts))


@dataclass(frozen=True)
class UsedWeight:
    """A weight, and the operation that uses it.

    Attributes:
        name: the layer's name: the weight's, less a trailing `.weight`.
        param: the weight's name in `named_parameters()`.
        shape: the weight's.
        axes: one letter for each of its dimensions (see `Layout`).
        op: the operation that uses it.
    """

    name: str
    param: str
    shape: tuple[int, ...]
    axes: str
    op: str

    def size(self, letter: str) -> int:
        """The product of the sizes of its axes of one letter (see `Layout`); 1 where it has none."""
        return size(self.axes, self.shape, letter)


@dataclass(frozen=True)
class LayerPlan(RowsPlan, UsedWeight):
    """What one weight is to become, and why. The last base gives its fields first.

    Attributes:
        distribution: that its values are drawn from.
        slices: one plan for each part of the output features that is treated on its own; then `std` is the root mean
            square over the whole weight and gain and fans are those of the first slice.
        status: `planned` (will be written), `kept` (the author's intent), `skipped` (the caller's), `unresolved`.
        note: why, for every status but `planned`; else what a reader should know.
        biases: parameters that become zero with it.
        uses: operations that use the weight, in order of call.
        alternatives: all that it feeds, where that is several things.
        reparam: how the weight is parametrised: empty (plain), `weight_norm`, `spectral_norm`, `parametrized`.
        source: file:line of its first use, when known.
        groups, stride_area: of a convolution: its groups and the product of its strides.
        mirror: how the weight is made where the plan is mirrored; None elsewhere.
    """

    distribution: RecipeDistribution
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
    """A parameter that the plan does not touch.

    Attributes:
        name, shape: its own.
        kind: what it is: `norm`, `embedding`, `bias`, `magnitude`, `weight`, `uncalled` or `other`.
        note: why it is left.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    note: str = ""


@dataclass(frozen=True)
class RestSlice(OutputRows):
    """Some elements of a bias, and how they start: like the others, but for std and mean."""

    std: float
    mean: float


@dataclass(frozen=True)
class RestPlan:
    """What a recipe gives a parameter that is no layer's weight: a bias, a norm's gain, an embedding.

    Attributes:
        name: in `named_parameters()`.
        kind: what it is (see `facts.Kind`).
        distribution, std, mean: of its elements; `constant` has std 0.
        slices: elements of a bias that start otherwise, such as those of an LSTM's forget gate.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    distribution: RecipeDistribution
    std: float
    mean: float = 0.0
    slices: tuple[RestSlice, ...] = ()
