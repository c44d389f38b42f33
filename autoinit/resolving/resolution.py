"""Resolution: what a weight feeds, and the evidence for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

import torch

from autoinit._escaping import log_line
from autoinit.theory.layouts import Layout
from autoinit.tracing.dataflow import SourceLine


class Reason(str, Enum):
    """Why a weight has the nonlinearity it has."""

    ACTIVATION = "activation"
    ADD = "add"
    GATE = "gate"
    WEIGHT = "weight"
    ATTENTION = "attention"
    SOFTMAX = "softmax"
    OUTPUT = "output"
    MIXED = "mixed"
    UNUSED = "unused"
    UNRESOLVED = "unresolved"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Fed:
    """What output rows of a weight feed, and the evidence.

    Attributes:
        nonlinearity: torch.nn.functional's name, `linear` for none, `custom` for a function without one.
        params: its parameters (`negative_slope`, `alpha`, ...).
        reason: why it is this one (see `Reason`).
        path: names of the operations walked, the last one being where the walk ended.
        normalised: whether a norm lies on the way.
    """

    nonlinearity: str
    params: Mapping[str, float] = field(default_factory=dict, kw_only=True)
    reason: str
    path: tuple[str, ...] = field(default=(), kw_only=True)
    normalised: bool = field(default=False, kw_only=True)


PENALTY = "a power that is only summed up and returned"
"""The note of an ending that does not count where the layer feeds something else: a penalty, a divergence."""


@dataclass(frozen=True)
class Ending(Fed):
    """Where one walk from a weight ended.

    Attributes:
        gain: 1 / sqrt(E[phi(z)^2]) or the table's constant.
        note: what a reader should know about this ending.
        before, behind: numbers that multiply the nonlinearity's argument, and what it gives on the way to a weight.
        function: the nonlinearity itself, of a one-dimensional tensor; None where there is none.
    """

    reason: Reason
    gain: float = 1.0
    note: str = ""
    before: float = 1.0
    behind: float = 1.0
    function: Callable[[torch.Tensor], torch.Tensor] | None = field(default=None, compare=False, repr=False)

    @property
    def scale(self) -> float:
        """The gain over the numbers around the nonlinearity: times 1 / sqrt(fan), it gives its argument variance 1 and
        its result second moment 1.
        """
        return self.gain / (self.before * self.behind)

    def behind_step(self, via: tuple[str, ...], *, normalised: bool, factor: float, keeps: bool) -> Ending:
        """This ending, one step further away.

        via: the operations stepped over. normalised: whether one of them is a norm, behind which no number counts.
        factor: by how much they multiply the signal. keeps: whether they keep its scale otherwise; else the numbers
        behind them make up for it.
        """
        before, behind = (self.before if keeps else 1.0) * factor, self.behind
        if normalised or self.normalised or self.reason is not Reason.ACTIVATION:
            before = behind = 1.0
        return replace(
            self,
            path=via + self.path,
            normalised=normalised or self.normalised,
            before=before,
            behind=behind,
        )


@dataclass(frozen=True)
class SliceResolution:
    """The resolution of some of a weight's output features.

    Attributes:
        rows: half-open runs of indices on the weight's output axis (of all its `o` axes together, flattened).
    """

    rows: tuple[tuple[int, int], ...]
    ending: Ending
    alternatives: tuple[Ending, ...] = ()


@dataclass(frozen=True)
class Resolution:
    """What one weight feeds, all its uses taken together.

    Attributes:
        name: the layer's name: the weight's, less a trailing `.weight`.
        param: the weight's name.
        op: the canonical operation that uses it.
        shape, layout: its geometry.
        ending: the combined ending (reason `mixed` when the ways disagree).
        alternatives: every distinct ending found, when there is more than one.
        slices: one entry for each part of the output features that is treated on its own; empty when all are alike.
        biases: names of the parameters that enter the same operations as bias.
        uses: names of the operations that use it.
        source: the line of the first use.
        transform: operations between the parameter and the operation (`transpose`, `weight_norm`, ...).
        factor: by how much these multiply the parameter's std; 0 if they normalise it away, None if neither.
        input_factor: the numbers that multiply the operation's input, as they would multiply the weight.
        modulated: whether a signal changes the weight on the way.
    """

    name: str
    param: str
    op: str
    shape: tuple[int, ...]
    layout: Layout
    ending: Ending
    alternatives: tuple[Ending, ...]
    slices: tuple[SliceResolution, ...]
    biases: tuple[str, ...]
    uses: tuple[str, ...]
    source: SourceLine | None
    transform: tuple[str, ...]
    factor: float | None
    input_factor: float
    modulated: bool

    @property
    def nonlinearity(self) -> str:
        """The nonlinearity that the weight feeds; `linear` for none."""
        return self.ending.nonlinearity

    @property
    def params(self) -> Mapping[str, float]:
        """Parameters of the nonlinearity."""
        return self.ending.params

    @property
    def reason(self) -> Reason:
        """Why."""
        return self.ending.reason

    @property
    def path(self) -> tuple[str, ...]:
        """The operations walked."""
        return self.ending.path

    @property
    def normalised(self) -> bool:
        """Whether a norm lies between the weight and what it feeds."""
        return self.ending.normalised

    def __str__(self) -> str:
        params = ", ".join(f"{key}={value:g}" for key, value in self.params.items())
        phi = f"{self.nonlinearity}({params})" if params else self.nonlinearity
        return log_line(f"{self.name}: {self.op} -> {phi} ({self.reason}) via {' > '.join(self.path)}")
