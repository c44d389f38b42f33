"""`autoinit demo` and `autoinit completion`."""

from __future__ import annotations

from pathlib import Path

import click

_COMPLETE_VARIABLE = "_AUTOINIT_COMPLETE"


@click.command(short_help="See it at work on a small network.")
@click.option("--html", "page", type=click.Path(path_type=Path), metavar="FILE", help="Write the report as a page too.")
def demo(page: Path | None) -> None:
    """Show what autoinit does to a small residual network, against torch's default and a Kaiming loop."""
    from autoinit.demo import run

    run(page=page)


@click.command(short_help="Print a shell's completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the shell's completion script: eval "$(autoinit completion bash)"."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"this version of click has no completion for {shell}")
    click.echo(kind(context.find_root().command, {}, "autoinit", _COMPLETE_VARIABLE).source())
