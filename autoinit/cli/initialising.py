"""`autoinit report` and `autoinit apply`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autoinit.cli._loading import Loading, loading_options
from autoinit.cli._options import (
    SPEC_HELP,
    WEIGHTS_HELP,
    given,
    inputs_for,
    planning_options,
    read_bytes,
    talking_options,
)
from autoinit.cli._showing import format_option, show, write_form
from autoinit.cli._talking import Talk, say

if TYPE_CHECKING:
    from autoinit.loading import Loaded
    from autoinit.plans.plan import Report
    from autoinit.recognising.alone import WeightsReport

_path = click.Path(path_type=Path)


@click.command(epilog=WEIGHTS_HELP, short_help="Report on models; writes no weight.")
@click.argument("specs", metavar="SPEC...", nargs=-1, required=True)
@loading_options
@planning_options
@format_option("report", "How the reports are shown.", "table")
@click.option("--output", "-o", type=_path, metavar="FILE", help="Write the report to a file.")
@click.option("--html", "page", type=_path, metavar="FILE", help="Write one page as well: graph, table, notes.")
@talking_options
def report(
    specs: Sequence[str],
    loading: Loading,
    form: str,
    output: Path | None,
    page: Path | None,
    talk: Talk,
    **planning: Any,
) -> None:
    """Report what each weight of a saved model feeds, how it should start, and how it does. Writes no weight."""
    loading.require_outputs([output, page], *specs)
    reports: list[Report | WeightsReport] = []
    for spec in specs:
        loaded = loading.load(spec, talk, alone=True)
        from autoinit import api

        with talk.stage(f"analysing {loaded.name}"), loaded.analysed():
            result = api.report(loaded.model, inputs_for(planning, loading.shapes), **given(planning))
        reports.append(_named(result, loaded))
    if output is not None:
        write_form(output, "report", reports, form, full=talk.full)
    elif not talk.quiet:
        show("report", reports, form, full=talk.full)
    if page is not None:
        write_form(page, "report", reports, "html")
        talk.note(f"wrote {page}")


@click.command(epilog=SPEC_HELP, short_help="Initialise a model and write its weights.")
@click.argument("spec", metavar="SPEC")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="Where to: FILE.safetensors, FILE.pt or FILE.pth; or a new DIRECTORY, for models of any size.",
)
@click.option(
    "--shard-size",
    callback=read_bytes,
    metavar="BYTES",
    help="How much one file of a DIRECTORY holds at most, such as 5GB.  [default: 5GB]",
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
    shard_size: int | None,
    in_place: bool,
    loading: Loading,
    talk: Talk,
    **planning: Any,
) -> None:
    """Initialise a model and write its weights to a file or directory: whole, or not at all.

    For a directory the model is built without memory, where its code allows, and written shard by shard.
    """
    if output is None and not in_place:
        raise click.UsageError("say where to write the weights: -o FILE.safetensors (or --in-place)")
    if output is not None and _is_directory(output, shard_size):
        if in_place:
            raise click.UsageError(f"--in-place: {output} is a directory, which holds no input")
        from autoinit import checkpoints

        checkpoints.check_directory(output)
        loaded = loading.load(spec, talk, meta=True)
        with talk.stage(f"writing {output}"), loaded.analysed():
            result = checkpoints.write(
                loaded, output, inputs_for(planning, loading.shapes), **given({"shard_size": shard_size, **planning})
            )
        _tell(result, loaded, output, talk)
        return
    loaded = loading.load(spec, talk)
    target = output if output is not None else _input_of(loaded, spec)
    from autoinit import api, saving

    saving.check_output(target, loaded, in_place=in_place)
    with talk.stage(f"initialising {loaded.name}"), loaded.analysed():
        result = api.autoinit(loaded.model, inputs_for(planning, loading.shapes), verbose=False, **given(planning))
    with talk.stage(f"writing {target}"):
        saving.save(loaded, target)
    _tell(result, loaded, target, talk)


def _is_directory(output: Path, shard_size: int | None) -> bool:
    """Whether weights go to a directory: one that is there, or that has no suffix, or whose files have a size."""
    from autoinit.saving import SUFFIXES

    if shard_size is None:
        return os.path.isdir(output) or not (output.suffix or os.path.isfile(output))
    if output.suffix in SUFFIXES or os.path.isfile(output):
        raise click.UsageError(f"--shard-size: {output} is one file; name a directory")
    if shard_size == 0:
        raise click.UsageError("--shard-size: a file holds more than 0 bytes, such as 5GB")
    return True


def _tell(result: Report, loaded: Loaded, target: Path, talk: Talk) -> None:
    if not talk.quiet:
        show("report", [_named(result, loaded)], "table", full=talk.full)
        say(f"wrote {target}")


def _input_of(loaded: Loaded, spec: str) -> Path:
    if not loaded.files:
        raise click.UsageError(f"--in-place: {spec} is not a file; name the output with -o FILE.safetensors")
    return loaded.files[-1].path


def _named(result: Report | WeightsReport, loaded: Loaded) -> Report | WeightsReport:
    """The report under the name that the user gave the model."""
    from autoinit.recognising.alone import WeightsReport

    if isinstance(result, WeightsReport):
        return replace(result, name=loaded.name)
    return replace(result, plan=replace(result.plan, model=f"{result.plan.model} ({loaded.name})"))
