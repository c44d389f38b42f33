"""Finding and CheckResult: what a check says, as immutable values that print themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from autoinit import formats
from autoinit._escaping import log_line
from autoinit.errors.arguments import member

if TYPE_CHECKING:
    from autoinit.plans.plan import Report
    from autoinit.tracing.dataflow import SourceLine


class Severity(str, Enum):
    """How grave a finding is, from the gravest on. Each equals its own text, so that `finding.severity == "error"`."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"

    @classmethod
    def of(cls, fail_level: str) -> Severity:
        """The severity that a text names, such as `warning`.

        Raises:
            ArgumentError: it names none.
        """
        return member("fail_level", fail_level, cls)

    @property
    def rank(self) -> int:
        """0 for the gravest: a key to sort by."""
        return tuple(Severity).index(self)

    def at_least(self, level: str) -> bool:
        """Whether it is as grave as a level, or graver."""
        return self.rank <= Severity(level).rank

    def __str__(self) -> str:
        return self.value

    def __repr__(self) -> str:
        return repr(self.value)

    def __hash__(self) -> int:
        return hash(self.value)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with the start of a model.

    Attributes:
        code: of the rule, permanent.
        severity: by consequence.
        layer: the layer's name as in the plan (a module's path for norms, a parameter's name elsewhere).
        param: the parameter's name, empty where the finding is not about one.
        message: value, expected, why it matters here and what to do, in one paragraph that begins with the layer's
            name.
        expected_std, actual_std: of the parameter's elements, or of the rows that the finding is about.
        rows: half-open runs of output rows that it is about; empty for the whole weight.
        recipe: what produced the weight, as far as it is known.
        fix: a line of code to paste; empty where there is none.
        location: the line that last wrote the weight, else the one that built or first used it.
    """

    code: str
    severity: Severity
    layer: str
    param: str
    message: str
    expected_std: float | None = None
    actual_std: float | None = None
    rows: tuple[tuple[int, int], ...] = ()
    recipe: str = ""
    fix: str = ""
    location: SourceLine | None = None

    @property
    def code_below(self) -> str:
        """The fix, where the message does not hold it already: to be shown below it."""
        return "" if self.fix in self.message else self.fix

    def __str__(self) -> str:
        place = f"{self.location}: " if self.location is not None else ""
        return log_line(f"{place}{self.code} {self.severity}: {self.message}")


@dataclass(frozen=True)
class Suppressed:
    """A finding that does not count.

    Attributes:
        by: `baseline`, or the ignore that matched, with its reason.
    """

    finding: Finding
    by: str


@dataclass(frozen=True)
class CheckResult(formats.Printable):
    """What a check of one model found.

    Attributes:
        model: its name: the spec, or the class.
        findings: in order of the dataflow, gravest first within a layer.
        suppressed: findings that the baseline or an ignore took out.
        unused_ignores: ignores that matched nothing.
        fail_level: findings at or above it make `ok` false.
        layers: how many weight layers had values to look at.
        recipe: the declared or recognised recipe that weights were held against, empty for the plan alone.
        notes: what a reader should know about tracing and loading.
        fixed: layers that `--fix` wrote.
        seconds: tracing, planning and checking.
        report: the plan by which the weights were judged, and their statistics; what a page shows beside the findings.
    """

    _kind = "check"

    model: str
    findings: tuple[Finding, ...]
    suppressed: tuple[Suppressed, ...] = ()
    unused_ignores: tuple[str, ...] = ()
    fail_level: Severity = Severity.ERROR
    layers: int = 0
    recipe: str = ""
    notes: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    seconds: float = 0.0
    report: Report | None = field(default=None, compare=False, repr=False)

    @property
    def ok(self) -> bool:
        """Whether no finding is at or above the fail level."""
        return not self.failing

    @property
    def failing(self) -> tuple[Finding, ...]:
        """The findings at or above the fail level."""
        return tuple(finding for finding in self.findings if Severity(finding.severity).at_least(self.fail_level))

    @property
    def counts(self) -> dict[str, int]:
        """How many findings there are of each severity."""
        return {level: sum(finding.severity == level for finding in self.findings) for level in Severity}

    def _as_kind(self) -> CheckRun:
        return CheckRun((self,))

    def to_html(self) -> str:
        """One self-contained page: the dataflow as a picture, the findings, the layers."""
        return self.to("html")

    def _repr_html_(self) -> str:
        shown: str = formats.tool("check in a notebook")(self)
        return shown


@dataclass(frozen=True)
class CheckFailure:
    """A model that could not be checked, and the one line that says why."""

    model: str
    error: str


@dataclass(frozen=True)
class CheckRun(formats.Printable):
    """The checks of one or several models, in one document.

    Attributes:
        results: of the models that could be checked.
        failures: those that could not.
        exit_zero: whether findings leave the exit status at 0.
        notes: about the run as a whole.
    """

    _kind = "check"

    results: tuple[CheckResult, ...]
    failures: tuple[CheckFailure, ...] = ()
    exit_zero: bool = False
    notes: tuple[str, ...] = field(default=())

    @property
    def exit_code(self) -> int:
        """0 clean, 1 findings at or above the fail level, 2 a model could not be checked."""
        if self.failures:
            return 2
        return 0 if self.exit_zero or all(result.ok for result in self.results) else 1

    @property
    def counts(self) -> Mapping[str, int]:
        """How many findings of each severity all models have together."""
        return {level: sum(result.counts[level] for result in self.results) for level in Severity}

    def to_text(self, *, full: bool = False) -> str:
        """As plain text."""
        return formats.text("check", self, "text", full=full)
