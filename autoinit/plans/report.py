"""Report: a plan, the weights before and after, and how to read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import IO, TYPE_CHECKING

from autoinit.plans.plan import Plan
from autoinit.reporting import formats

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.text import Text

    from autoinit.tensors.measuring import WeightStats


@dataclass(frozen=True)
class Report:
    """What a model's weights were, what they are to be, and what they became.

    plan: what each weight is to become and why. before, after: statistics of the weights by layer name; `after` is
    None when nothing was written. seed: of the values written. seconds: tracing, planning, measuring and writing.

    `print(report)` shows plain text. `report.print()` shows the same with colour, as wide as the terminal;
    rich consoles and notebooks do so on their own.
    """

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
        return sum(prod(layer.shape) for layer in self.plan.layers if layer.status == "planned")

    def __str__(self) -> str:
        return self.to("table")

    def print(self, file: IO[str] | None = None, console: Console | None = None, *, full: bool = False) -> None:
        """Print the table: coloured in a terminal, plain in a file or a pipe.

        Args:
            file: where to, standard output by default.
            console: a rich console to print on, in place of `file`.
            full: one row for each layer, also where a long model has many equal ones.
        """
        formats.show("report", [self], "table", file, console, full=full)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        return formats.lines("report", [self], "table", options)

    def to(self, form: str) -> str:
        """The whole report in a format that `autoinit report --format` offers.

        Raises:
            ArgumentError: there is no such format.
        """
        return formats.text("report", [self], form)

    def to_json(self) -> str:
        """The whole report as JSON; `autoinit.reporting.jsons` documents the fields."""
        return self.to("json")

    def to_markdown(self) -> str:
        """The whole report as a Markdown document, one table row for each layer."""
        return self.to("markdown") + "\n"
