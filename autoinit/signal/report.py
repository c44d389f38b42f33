"""What a signal is like at each operation of a model: a value, made by `propagate` and `measure`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import IO, TYPE_CHECKING, Any

import msgspec

from autoinit import formats
from autoinit.errors.arguments import all_of, path_of, require, texts
from autoinit.plans.plan import Plan
from autoinit.tracing.flow import Flow

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

COLLAPSED = 0.99
"""The correlation s / q from which on two inputs count as indistinguishable."""


@dataclass(frozen=True)
class SignalRow:
    """Moments of one tensor, for one random feature.

    None where a moment is not known, or does not exist (p of a tensor with one position).

    Attributes:
        q: the second moment.
        p: the covariance between two positions of one sample, about zero.
        s: the same between two samples.
        mean: the average of all elements.
        grad: the second moment of the gradient of sum(output * e), e ~ N(0, 1).
    """

    q: float
    p: float | None = None
    s: float | None = None
    mean: float = 0.0
    grad: float | None = None

    @classmethod
    def average(cls, rows: Sequence[SignalRow]) -> SignalRow:
        """The mean of each moment over the rows in which it is known."""

        def mean(values: Iterator[float | None]) -> float | None:
            known = [each for each in values if each is not None]
            return sum(known) / len(known) if known else None

        return cls(
            mean(row.q for row in rows) or 0.0,
            mean(row.p for row in rows),
            mean(row.s for row in rows),
            mean(row.mean for row in rows) or 0.0,
            mean(row.grad for row in rows),
        )


@dataclass(frozen=True)
class OperationSignal:
    """One operation and what leaves it.

    Attributes:
        op: canonical name.
        role: its role.
        layer: the weight layer whose pre-activation it is.
        depth: weight operations on the longest way to it.
        stream: whether it is a sum of a residual stream.
        row: of several tensors together; None where it could not be computed, and note says why, or where no tensor has
            floating-point numbers.
        weights: every weight layer that it uses, several where its output is no pre-activation.
    """

    name: str
    op: str
    role: str
    module: str
    depth: int
    layer: str = ""
    stream: bool = False
    row: SignalRow | None = None
    note: str = ""
    weights: tuple[str, ...] = ()


@dataclass(frozen=True)
class SignalReport(Mapping[str, SignalRow]):
    """A mapping from weight-layer name to the `SignalRow` of its pre-activation.

    The pre-activation of a recurrent module's weight is its product at all steps, from the first with a state that is
    not zero.

    Attributes:
        kind: `predicted` or `measured`.
        operations: every operation that carries a signal, in order of call.
        outputs: the rows of the model's outputs.
        notes: assumptions, and what could not be computed; weight layers without a row are named there.
        flow: the operations and what they read, to be drawn.
    """

    kind: str
    model: str
    rows: Mapping[str, SignalRow]
    operations: tuple[OperationSignal, ...]
    outputs: tuple[SignalRow, ...]
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    flow: Flow | None = field(default=None, compare=False, repr=False)

    def __getitem__(self, name: str) -> SignalRow:
        try:
            return self.rows[name]
        except KeyError:
            raise KeyError(f"no layer {name!r} in the signal of {self.model}; it has {len(self.rows)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def by_operation(self) -> Mapping[str, OperationSignal]:
        """Operations by name."""
        return {each.name: each for each in self.operations}

    @property
    def collapse(self) -> OperationSignal | None:
        """The first pre-activation from which on two inputs stay indistinguishable (s / q at least 0.99)."""
        first: OperationSignal | None = None
        for each in self.operations:
            if not each.layer or each.row is None or each.row.s is None or each.row.q <= 0:
                continue
            first = (first or each) if each.row.s / each.row.q >= COLLAPSED else None
        return first

    @property
    def preserved(self) -> int:
        """How many weight layers have a pre-activation whose second moment is in [1/2, 2]."""
        return sum(0.5 <= row.q <= 2 for row in self.rows.values())

    @property
    def gradient_spread(self) -> float | None:
        """log10 of the largest over the smallest second moment of the weight layers' gradients, zeros left out."""
        found = [row.grad for row in self.rows.values() if row.grad is not None and row.grad > 0]
        return math.log10(max(found)) - math.log10(min(found)) if found else None

    def __str__(self) -> str:
        return formats.text("signal", self._beside(), "table")

    def print(self, file: IO[str] | None = None, console: Console | None = None, *, full: bool = False) -> None:
        """Print the table: coloured in a terminal, plain in a file or a pipe.

        Args:
            file: where to, standard output by default.
            console: a rich console to print on, in place of `file`.
            full: one row for each layer, also where a long model has many alike.
        """
        formats.show("signal", self._beside(), "table", file, console, full=full)

    def plot(
        self, path: str | Path | None = None, *, beside: Sequence[SignalReport] = (), labels: Sequence[str] = ()
    ) -> Figure:
        """Second moment against depth, forward and backward, as a matplotlib figure.

        Args:
            path: a file to write, its format by suffix: .svg, .png, .pdf.
            beside: reports to show as well: the measured one, or those before and after a plan.
            labels: one for each report; reports of one label share a colour, predicted as line, measured as points.

        Raises:
            ArgumentError: matplotlib is not installed, or the labels do not fit the reports.
        """
        target = path_of("path", path) if path is not None else None
        beside = all_of("beside", beside, SignalReport, "a sequence of SignalReport")
        made: Figure = formats.tool("figure")(self, *beside, labels=texts("labels", labels))
        if target is not None:
            formats.tool("save figure")(made, target)
        return made

    def to_html(
        self, *, beside: Sequence[SignalReport] = (), labels: Sequence[str] = (), plan: Plan | None = None
    ) -> str:
        """One self-contained page: the dataflow as a picture, the plot, the layers, a plan's evidence.

        Args:
            beside: as for `plot`.
            labels: as for `plot`.
            plan: says what each layer feeds and why.

        Raises:
            ArgumentError: the labels do not fit the reports.
        """
        require("plan", plan, (Plan, NoneType), "a Plan, or None")
        beside = all_of("beside", beside, SignalReport, "a sequence of SignalReport")
        page: str = formats.tool("page of signal")(self._beside(beside, texts("labels", labels)), plan)
        return page

    def _repr_html_(self) -> str:
        shown: str = formats.tool("signal in a notebook")(self)
        return shown

    def to_json(self) -> str:
        """The report as JSON."""
        document = {
            "version": 1,
            **{each.name: getattr(self, each.name) for each in fields(self) if each.name != "flow"},
        }
        return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()

    def _beside(self, others: Sequence[SignalReport] = (), labels: Sequence[str] = ()) -> Any:
        """The states of the weights that this report and others are of."""
        return formats.tool("states")([self, *others], labels)
