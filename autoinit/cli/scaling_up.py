"""`autoinit scaling`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from autoinit.cli._loading import Loading, loading_options
from autoinit.cli._options import (
    SPEC_HELP,
    base_options,
    example_inputs,
    options,
    talking_options,
    without_values,
)
from autoinit.cli._showing import format_option, show, write_form
from autoinit.cli._talking import Talk, say
from autoinit.transfer.rules import OPTIMIZERS

_scaling_options = options(
    click.option("--width", type=float, help="In place of a base: how many times wider the model is."),
    click.option(
        "--optimizer", type=click.Choice([*OPTIMIZERS]), default="adamw", show_default=True, help="Whose rules."
    ),
    click.option("--depth", type=float, default=1.0, show_default=True, help="alpha: branches start at m_L^-alpha."),
    format_option("scaling", "How the scaling is shown.", "table"),
    click.option("--output", "-o", type=click.Path(path_type=Path), metavar="FILE", help="Write it to a file."),
)


@click.command(epilog=SPEC_HELP, short_help="Show how starts and learning rates follow a narrower model.")
@click.argument("spec", metavar="SPEC")
@loading_options
@base_options
@_scaling_options
@talking_options
def scaling(
    spec: str,
    loading: Loading,
    base: str | None,
    base_arguments: dict[str, Any],
    width: float | None,
    optimizer: Any,
    depth: float,
    form: str,
    output: Path | None,
    talk: Talk,
) -> None:
    """Show for each parameter of a model its std at the start, and the multipliers of learning rate, weight decay, eps.

    With them, what was tuned on the base model (`--base`, or a model `--width` times narrower) holds. Writes no weight.
    """
    if (base is None) == (width is None):
        raise click.UsageError("say what the model has grown from: --base SPEC, or --width TIMES")
    loading.require_outputs([output], spec, *([base] if base else []))
    inputs = without_values(example_inputs(loading.shapes))
    loaded = loading.load(spec, talk)
    small = None
    if base is not None:
        small = replace(loading, weights=None, arguments=base_arguments).load(base, talk)
    from autoinit.transfer.making import scaling as scale

    with talk.stage(f"scaling {loaded.name}"), loaded.analysed():
        made = scale(
            loaded.model,
            small.model if small is not None else None,
            width=width,
            optimizer=optimizer,
            depth=depth,
            example_inputs=inputs,
        )
    if output is not None:
        write_form(output, "scaling", made, form, full=talk.full)
        if not talk.quiet:
            say(f"wrote {output}")
    elif not talk.quiet:
        show("scaling", made, form, full=talk.full)
