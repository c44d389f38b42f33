"""`autoinit check`."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autoinit.checking.configuration import Configuration, ModelEntry
from autoinit.checking.findings import CheckFailure, CheckRun, Severity
from autoinit.checking.selecting import Ignore
from autoinit.cli._group import wants_traceback
from autoinit.cli._loading import Loading, loading_options
from autoinit.cli._options import (
    WEIGHTS_HELP,
    base_options,
    example_inputs,
    options,
    quiet_option,
    traceback_option,
)
from autoinit.cli._showing import format_option, show, write_form
from autoinit.cli._talking import Talk, say
from autoinit.errors import AutoinitError, ConfigurationError

if TYPE_CHECKING:
    from autoinit.checking.baselines import Baseline
    from autoinit.cli._check_runs import Fixing

_EPILOG = (
    WEIGHTS_HELP
    + """
\b
Exit status: 0 clean, 1 findings at or above the fail level, 2 a model could not be checked.
"""
)
_STANDARD_OUTPUT = Path("-")


def _codes(context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> tuple[str, ...]:  # noqa: ARG001 - click's
    """`INI1,INI202`, repeatable."""
    return tuple(code.strip() for value in values for code in value.split(",") if code.strip())


def _layer_ignores(context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> tuple[Ignore, ...]:
    """`head.*:INI103,INI2`, repeatable."""
    found = []
    for value in values:
        layer, colon, codes = value.rpartition(":")
        if not colon or not layer.strip() or not (named := _codes(context, parameter, [codes])):
            raise click.BadParameter(f"{value!r} is not of the form LAYER:CODES, as head.*:INI103", context, parameter)
        found.append(Ignore(layer.strip(), named, "on the command line"))
    return tuple(found)


_path = click.Path(path_type=Path)
_selecting_options = options(
    click.option("--config", type=_path, metavar="FILE", help="Take [tool.autoinit] from this file."),
    click.option("--no-config", is_flag=True, help="Take no configuration, not that of a pyproject.toml either."),
    click.option("--select", multiple=True, callback=_codes, metavar="CODES", help="Only rules such as INI1,INI202."),
    click.option("--ignore", multiple=True, callback=_codes, metavar="CODES", help="Not rules such as INI2,INI103."),
    click.option(
        "--ignore-layer",
        "ignores",
        multiple=True,
        callback=_layer_ignores,
        metavar="LAYER:CODES",
        help="Not these rules at layers of this name, as head.*:INI103; repeatable.",
    ),
    click.option(
        "--fail-level",
        type=click.Choice([level.value for level in Severity]),
        help="What makes the check fail.  [default: error]",
    ),
    click.option("--recipe", help="A published recipe that the models follow; auto, or none.  [default: auto]"),
    click.option("--tolerance", type=float, help="How far a std may be off, beyond noise.  [default: 0.1]"),
    click.option("--exit-zero", is_flag=True, help="Findings leave the exit status at 0."),
)
_baseline_options = options(
    click.option("--baseline", type=_path, metavar="FILE", help="Known findings, which do not count."),
    click.option("--write-baseline", type=_path, metavar="FILE", help="Note all findings of this run as known."),
)
_fixing_options = options(
    click.option("--fix", is_flag=True, help="Initialise the layers with findings, and rewrite the weights' file."),
    click.option("--fix-to", type=_path, metavar="FILE", help="The same, into FILE.safetensors, .pt or .pth."),
    click.option("--seed", type=int, help="Base of all random numbers of --fix."),
)
_showing_options = options(
    format_option("check", "How findings are shown.  [default: text]"),
    click.option("--output", "-o", type=_path, metavar="FILE", help="Write the findings to a file; - writes none."),
    quiet_option,
    click.option("--verbose", "-v", is_flag=True, help="Show findings of level info, and how long each step took."),
    traceback_option,
)


@click.command(epilog=_EPILOG, short_help="Find layers that are initialised wrongly.")
@click.argument("specs", metavar="[SPEC]...", nargs=-1)
@loading_options
@_selecting_options
@base_options
@_baseline_options
@_fixing_options
@_showing_options
def check(
    specs: Sequence[str],
    loading: Loading,
    config: Path | None,
    no_config: bool,
    write_baseline: Path | None,
    exit_zero: bool,
    base: str | None,
    base_arguments: dict[str, Any],
    fix: bool,
    fix_to: Path | None,
    seed: int | None,
    quiet: bool,
    verbose: bool,
    form: str | None,
    **given: Any,
) -> int:
    """Hold the weights of models against what their dataflow calls for. Without SPEC, the models of [tool.autoinit]."""
    if config is not None and no_config:
        raise click.UsageError("--config and --no-config exclude each other")
    read = _read_configuration(config, no_config)
    chosen = read.overridden(models=specs, format=form, **given)
    if not chosen.models:
        place = f"{chosen.file} lists none" if chosen.file else "no pyproject.toml lists any"
        raise click.UsageError(f"name a model: {place} under [tool.autoinit] models")
    if seed is not None and not fix and fix_to is None:
        raise click.UsageError("--seed is for --fix and --fix-to; a check draws no random numbers")
    example_inputs(loading.shapes)
    entries = tuple(_with_options(entry, loading) for entry in chosen.models)
    output = None if chosen.output == _STANDARD_OUTPUT else chosen.output
    order = _Order(
        replace(chosen, models=entries, output=output),
        configured=tuple(entry.name for entry in read.models),
        write_baseline=write_baseline,
        fix=fix,
        fix_to=fix_to,
        seed=seed,
        exit_zero=exit_zero,
        base=(base, base_arguments) if base is not None else None,
    )
    talk = _CheckTalk(full=verbose, quiet=quiet, verbose=verbose)
    order.require_writable()
    run = order.carry_out(talk)
    _show(run, order.configuration, talk)
    return run.exit_code


@dataclass(frozen=True)
class _CheckTalk(Talk):
    """What a check says beside its result."""

    def failed(self, failure: CheckFailure, error: BaseException) -> None:
        """One line for a model that could not be checked."""
        if wants_traceback():
            traceback.print_exception(error)
        hint = "" if isinstance(error, AutoinitError) else " (--traceback shows where; please report it)"
        said = failure.error.removeprefix(f"{failure.model}:").strip()
        say(f"error: {failure.model}: {said}{hint}")


@dataclass(frozen=True)
class _Order:
    """What a command line asks for."""

    configuration: Configuration
    configured: tuple[str, ...]
    write_baseline: Path | None
    fix: bool
    fix_to: Path | None
    seed: int | None
    exit_zero: bool
    base: tuple[str, dict[str, Any]] | None

    def require_writable(self) -> None:
        """Refuse what could not be written in the end.

        Raises:
            ArgumentError: says why.
        """
        from autoinit import saving

        outputs = [each for each in (self.configuration.output, self.write_baseline, self.fix_to) if each is not None]
        saving.require_outputs(outputs, self._reads())
        if self.fix_to is not None and self.fix_to.suffix not in saving.SUFFIXES:
            raise click.UsageError(f"--fix-to {self.fix_to}: weights are written to {', '.join(saving.SUFFIXES)}")

    def carry_out(self, talk: _CheckTalk) -> CheckRun:
        """The run, its baseline and its repaired weights written."""
        from autoinit.checking.baselines import Baseline, read_baseline
        from autoinit.cli import _check_runs as running
        from autoinit.saving import replacing

        path = self.configuration.baseline
        reads = path is not None and self.write_baseline is None
        run = running.check_models(
            self.configuration,
            configured=self.configured,
            baseline=read_baseline(path) if reads and path is not None else Baseline(),
            fixing=self._fixing(),
            exit_zero=self.exit_zero,
            base=self.base,
            watcher=talk,
        )
        if self.write_baseline is None:
            return run
        baseline, run = running.noted(run, _earlier(self.write_baseline, talk), self.configured)
        with replacing(self.write_baseline) as temporary:
            temporary.write_text(baseline.to_json(), encoding="utf-8", errors="backslashreplace")
        talk.note(f"wrote {sum(entry.count for entry in baseline.entries)} findings to {self.write_baseline}")
        return run

    def _fixing(self) -> Fixing | None:
        from autoinit.cli._check_runs import Fixing

        return Fixing(self.fix_to, self.seed) if self.fix or self.fix_to is not None else None

    def _reads(self) -> Iterator[Path]:
        """Files that no output may replace."""
        if self.configuration.file is not None:
            yield self.configuration.file
        from autoinit.loading import files_read_for

        for entry in self.configuration.models:
            yield from files_read_for(entry.spec, entry.weights)
        if self.base is not None:
            yield from files_read_for(self.base[0], None)
        if self.configuration.baseline is not None and self.write_baseline is None:
            yield self.configuration.baseline


def _read_configuration(config: Path | None, no_config: bool) -> Configuration:
    from autoinit.checking.configuration import Configuration, load_configuration

    return Configuration(Path.cwd()) if no_config else load_configuration(config)


def _with_options(entry: ModelEntry, loading: Loading) -> ModelEntry:
    """A model with what the command line says about loading it."""
    return replace(
        entry,
        weights=Path(loading.weights) if loading.weights is not None else entry.weights,
        arguments={**entry.arguments, **loading.arguments},
        trust=loading.trust or entry.trust,
        max_size=loading.max_size if loading.max_size is not None else entry.max_size,
        input_shape=tuple(loading.shapes) or entry.input_shape,
    )


def _earlier(path: Path, talk: Talk) -> Baseline:
    """The baseline that is about to be replaced; none where the file is no baseline, which the user is warned of."""
    from autoinit.checking.baselines import Baseline, read_baseline

    if not os.path.exists(path):
        return Baseline()
    try:
        return read_baseline(path)
    except ConfigurationError as error:
        talk.note(f"nothing is kept of what stood there: {error}")
        return Baseline()


def _show(run: CheckRun, configuration: Configuration, talk: Talk) -> None:
    """Print the findings, or write them to the file that was asked for."""
    from autoinit.reporting.findings.summary import summary

    if configuration.output is not None:
        write_form(configuration.output, "check", run, configuration.format, full=talk.full)
        talk.note(f"wrote {configuration.output}: {summary(run)}")
    elif not talk.quiet:
        show("check", run, configuration.format, full=talk.full)
