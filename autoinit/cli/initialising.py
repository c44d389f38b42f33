"""`autoinit report` and `autoinit apply`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autoinit.checking.configuration import InputShape
from autoinit.cli._options import (
    SPEC_HELP,
    given,
    inputs_for,
    loading_options,
    planning_options,
    talking_options,
)
from autoinit.cli._talking import Talk

if TYPE_CHECKING:
    from autoinit.loading import Loaded
    from autoinit.plans.report import Report


@click.command(epilog=SPEC_HELP, short_help="Report on models; writes no weight.")
@click.argument("specs", metavar="SPEC...", nargs=-1, required=True)
@loading_options
@planning_options
@click.option("--format", "form", type=click.Choice(["table", "json", "markdown"]), default="table", show_default=True)
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Write the report to a file.")
@talking_options
def report(
    specs: Sequence[str],
    weights: str | None,
    arguments: dict[str, Any],
    trust: bool,
    shapes: Sequence[InputShape],
    form: str,
    output: Path | None,
    full: bool,
    quiet: bool,
    verbose: bool,
    **planning: Any,
) -> None:
    """Report what each weight of a saved model feeds, how it should start, and how it does. Writes no weight."""
    talk = Talk(quiet, verbose)
    reports: list[Report] = []
    for spec in specs:
        loaded = _load(spec, weights, arguments, trust, talk)
        from autoinit import api

        with talk.stage(f"analysing {loaded.name}"):
            result = api.report(loaded.model, inputs_for(planning["method"], shapes), **given(planning))
        reports.append(_named(result, loaded))
    if output is not None:
        from autoinit.saving import replacing

        with replacing(output) as temporary:
            temporary.write_text(_formatted(reports, form, full), encoding="utf-8")
    elif not quiet and form == "table":
        _print_tables(reports, full)
    elif not quiet:
        click.echo(_formatted(reports, form, full), nl=False)


@click.command(epilog=SPEC_HELP, short_help="Initialise a model and write its weights.")
@click.argument("spec", metavar="SPEC")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="Where to: FILE.safetensors, FILE.pt or FILE.pth."
)
@click.option(
    "--in-place", is_flag=True, help="Allow the output to be the input, and take it for the output if none is given."
)
@loading_options
@planning_options
@click.option("--force", is_flag=True, help="Initialise a model that looks trained.")
@talking_options
def apply(
    spec: str,
    output: Path | None,
    in_place: bool,
    weights: str | None,
    arguments: dict[str, Any],
    trust: bool,
    shapes: Sequence[InputShape],
    full: bool,
    quiet: bool,
    verbose: bool,
    **planning: Any,
) -> None:
    """Initialise a model and write its weights to a file: whole, or not at all."""
    talk = Talk(quiet, verbose)
    if output is None and not in_place:
        raise click.UsageError("say where to write the weights: -o FILE.safetensors (or --in-place)")
    loaded = _load(spec, weights, arguments, trust, talk)
    target = output if output is not None else _input_of(loaded, spec)
    from autoinit import api, saving

    saving.check_output(target, loaded, in_place=in_place)
    with talk.stage(f"initialising {loaded.name}"):
        result = api.autoinit(loaded.model, inputs_for(planning["method"], shapes), verbose=False, **given(planning))
    with talk.stage(f"writing {target}"):
        saving.save(loaded, target)
    if not quiet:
        _print_tables([_named(result, loaded)], full)
        click.echo(f"wrote {target}", err=True)


def _load(spec: str, weights: str | None, arguments: dict[str, Any], trust: bool, talk: Talk) -> Loaded:
    with talk.stage(f"loading {spec}"):
        from autoinit.loading import load

        loaded = load(spec, weights_file=weights, arguments=arguments, trust=trust)
    for note in loaded.notes:
        talk.note(note)
    return loaded


def _input_of(loaded: Loaded, spec: str) -> Path:
    if not loaded.files:
        raise click.UsageError(f"--in-place: {spec} is not a file; name the output with -o FILE.safetensors")
    return loaded.files[-1].path


def _named(result: Report, loaded: Loaded) -> Report:
    """The report under the name that the user gave the model."""
    return replace(result, plan=replace(result.plan, model=f"{result.plan.model} ({loaded.name})"))


def _print_tables(reports: Sequence[Report], full: bool) -> None:
    for index, each in enumerate(reports):
        if index:
            click.echo()
        each.print(full=full)


def _formatted(reports: Sequence[Report], form: str, full: bool) -> str:
    """One document for all: JSON is an object for one model and an array for several."""
    if form == "markdown":
        return "\n".join(each.to_markdown() for each in reports)
    if form == "json":
        documents = [each.to_json() for each in reports]
        return (documents[0] if len(documents) == 1 else "[\n" + ",\n".join(documents) + "\n]") + "\n"
    from io import StringIO

    text = StringIO()
    for index, each in enumerate(reports):
        text.write("\n" if index else "")
        each.print(file=text, full=full)
    return text.getvalue()
