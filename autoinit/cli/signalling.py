"""`autoinit signal`."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from autoinit.checking.toml_tables import InputShape
from autoinit.cli._loading import Loading, loading_options
from autoinit.cli._options import (
    SPEC_HELP,
    example_inputs,
    given,
    inputs_for,
    options,
    plan_option,
    talking_options,
    without_values,
)
from autoinit.cli._showing import format_option, show, write, write_form
from autoinit.cli._talking import Talk, say
from autoinit.methods.table import RECIPE
from autoinit.plans.options import plan_options

if TYPE_CHECKING:
    from autoinit.loading import Loaded
    from autoinit.plans.plan import Plan
    from autoinit.reporting.signals.states import State
    from autoinit.signal import SignalReport

_PLANNING = plan_options()
_REFINING = [name for name in _PLANNING if name not in ("method", "seed")]
_path = click.Path(path_type=Path)
_measuring_options = options(
    click.option("--measure", is_flag=True, help="Measure it as well, in real forwards and backwards."),
    click.option(
        "--seeds", type=click.IntRange(1), default=1, show_default=True, help="Draws that --measure averages."
    ),
    plan_option(_PLANNING["seed"], "Base of all random numbers: inputs, and weights to measure.  [default: 0]"),
)
_planning_options = options(
    plan_option(
        _PLANNING["method"],
        "Show it before and after a plan by this method; the options up to --zeros refine the plan.",
    ),
    *(plan_option(_PLANNING[name]) for name in _REFINING),
)
_showing_options = options(
    click.option("--plot", type=_path, metavar="FILE", help="Plot it against depth: FILE.svg, FILE.png or FILE.pdf."),
    click.option(
        "--html", "page", type=_path, metavar="FILE", help="Write one page: graph, plot, table, the plan's evidence."
    ),
    format_option("signal", "How the signal is shown.", "table"),
    click.option("--output", "-o", type=_path, metavar="FILE", help="Write the table or JSON to a file."),
)


@click.command(epilog=SPEC_HELP, short_help="Show how the signal fares through a model.")
@click.argument("spec", metavar="SPEC")
@loading_options
@_measuring_options
@_planning_options
@_showing_options
@talking_options
def signal(
    spec: str,
    loading: Loading,
    measure: bool,
    seeds: int,
    seed: int | None,
    method: str | None,
    plot: Path | None,
    page: Path | None,
    form: str,
    output: Path | None,
    talk: Talk,
    **refining: Any,
) -> None:
    """Predict the second moments of signal and gradient at each layer, from the weights' scales alone.

    Needs no data and writes no weight. A layer keeps the signal where its q, the second moment of what it makes of it,
    is about 1. Where s/q, the correlation of two samples, comes to 1, the model can no longer tell its inputs apart.
    """
    method = method or (RECIPE if refining.get("recipe") else None)
    _require_use(click.get_current_context(), measure, plans=method is not None or refining.get("preset") is not None)
    loading.require_outputs([plot, page, output], spec)
    _require_plottable(plot)
    example_inputs(loading.shapes)  # refuses a dtype that there is not, before the model is loaded
    loaded = loading.load(spec, talk)
    look = _SignalCommand(
        loaded, given({"method": method, **refining}), loading.shapes, seeds if measure else 0, seed or 0, talk
    )
    with loaded.analysed():
        shown = look.states(plans=method is not None or "preset" in look.planning)
    if output is not None:
        write_form(output, "signal", shown, form, full=talk.full)
    elif not talk.quiet:
        show("signal", shown, form, full=talk.full)
    if plot is not None:
        with talk.stage(f"plotting {plot}"):
            write(plot, _plotted(shown, plot.suffix))
    if page is not None:
        from autoinit.reporting.pages.page import of_signal

        write(page, of_signal(shown, look.plan))
    if not talk.quiet:
        for written in filter(None, (output, plot, page)):
            say(f"wrote {written}")


@dataclass(frozen=True)
class _SignalCommand:
    """How the signal of a model is looked at.

    Attributes:
        planning: the plan's options.
        seeds: draws to measure; 0 does not measure.
    """

    loaded: Loaded
    planning: Mapping[str, Any]
    shapes: Sequence[InputShape]
    seeds: int
    seed: int
    talk: Talk

    def states(self, *, plans: bool) -> tuple[State, ...]:
        """The signal of the weights as they are; where they are planned, before and after."""
        from autoinit.reporting.signals.states import states

        before = self._reports(self.loaded.model, None)
        if not plans:
            return states(before)
        after = self._reports(self.loaded.model, self.plan)
        return states([*before, *after], ["before"] * len(before) + ["after"] * len(after))

    @cached_property
    def plan(self) -> Plan:
        """What each layer feeds and why; without a method, by the default one."""
        from autoinit import api

        with self.talk.stage(f"planning {self.loaded.name}"):
            inputs = inputs_for(self.planning, self.shapes)
            return api.plan(self.loaded.model, inputs, seed=self.seed, **self.planning)

    def _reports(self, model: Any, plan: Plan | None) -> list[SignalReport]:
        from autoinit.signal import measure, propagate

        inputs = without_values(example_inputs(self.shapes))
        which = "" if plan is None else ", as planned"
        with self.talk.stage(f"predicting the signal of {self.loaded.name}{which}"):
            if plan is None:
                found = [propagate(model, inputs, seed=self.seed)]
            else:
                found = [propagate(plan, inputs, model=model, seed=self.seed)]
        if self.seeds:
            with self.talk.stage(f"measuring the signal of {self.loaded.name}{which}"):
                if plan is not None:
                    model = copy.deepcopy(model)
                    plan.apply(model, self.seed, force=True)
                found.append(measure(model, inputs, seeds=self.seeds, seed=self.seed))
        said = plan.notes if plan is not None else ()
        return [replace(each, model=f"{each.model} ({self.loaded.name})", notes=(*each.notes, *said)) for each in found]


def _require_use(context: click.Context, measure: bool, *, plans: bool) -> None:
    """Refuse options that would do nothing."""

    def said(names: Sequence[str]) -> Iterator[str]:
        for name in names:
            if context.get_parameter_source(name) not in (ParameterSource.DEFAULT, None):
                yield f"--{name}"

    for option in said(["seeds"] if not measure else []):
        raise click.UsageError(f"{option} is for --measure; a prediction draws no weights")
    for option in said([] if plans else _REFINING):
        raise click.UsageError(
            f"{option} is for --method, --recipe or --preset, which plan; without it the weights are taken as they are"
        )


def _require_plottable(plot: Path | None) -> None:
    if plot is not None:
        from autoinit.reporting.signals.plotting import require_matplotlib, require_suffix

        require_suffix(plot)
        require_matplotlib()


def _plotted(shown: Sequence[State], suffix: str) -> bytes:
    from autoinit.reporting.signals.plotting import encoded, figure

    pairs = [(report, state.label) for state in shown for report in state.reports]
    return encoded(figure(*(report for report, _ in pairs), labels=[label for _, label in pairs]), suffix)
