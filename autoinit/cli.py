"""The command line. torch and the rest of the package are imported by the commands that need them."""

from __future__ import annotations

import ast
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from autoinit._version import __version__
from autoinit.errors import AutoinitError

if TYPE_CHECKING:
    from autoinit.loading import Loaded
    from autoinit.reports import Report

_SPEC_HELP = """\b
SPEC is one of
  FILE.pt, FILE.pth        a model that torch.save wrote
  FILE.pt2                 a program that torch.export.save wrote
  PACKAGE.MODULE:FACTORY   a function, class or model in importable code
  FILE.py:FACTORY          the same in a file
  timm:NAME, torchvision:NAME, hf:DIRECTORY_OR_MODEL_TYPE
"""
_COMPLETE_VARIABLE = "_AUTOINIT_COMPLETE"
_INTERRUPTED = 130

_Input = tuple[tuple[int, ...], str]
_F = TypeVar("_F", bound=Callable[..., Any])


class _Commands(click.Group):
    """A group whose failures are a message on standard error: one line, but for the account of a failed trace."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command and exit: 0 done, 2 usage, loading or tracing failed."""
        extra["standalone_mode"] = False
        try:
            code = super().main(*args, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            sys.exit(2)
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx is not None else "autoinit"
            _fail(f"{error.format_message()} (see `{command} --help`)")
        except click.ClickException as error:
            _fail(error.format_message())
        except click.Abort:
            click.echo("error: interrupted", err=True)
            sys.exit(_INTERRUPTED)
        except Exception as error:
            if _wants_traceback():
                raise
            if isinstance(error, AutoinitError):
                _fail(str(error))
            _fail(f"unexpected {type(error).__name__}: {error} (AUTOINIT_DEBUG=1 shows where; please report it)")
        sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> None:
    click.echo("error: " + "\n  ".join(line.strip() for line in message.strip().splitlines()), err=True)
    sys.exit(2)


def _wants_traceback() -> bool:
    return os.environ.get("AUTOINIT_DEBUG", "") not in ("", "0")


def _show_traceback(context: click.Context, parameter: click.Parameter, value: bool) -> None:  # noqa: ARG001 - click's
    if value:
        os.environ["AUTOINIT_DEBUG"] = "1"


def _key_values(context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> dict[str, Any]:
    """`key=value`, the value a Python literal, else a string."""
    arguments: dict[str, Any] = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals or not key.isidentifier():
            raise click.BadParameter(f"{value!r} is not of the form key=value", context, parameter)
        try:
            arguments[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            arguments[key] = text
    return arguments


def _sizes(context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> list[_Input]:
    """`1,3,224,224`, or with a dtype `1,128:int64`."""
    inputs = []
    for value in values:
        sizes, _, dtype = value.partition(":")
        if not all(size.strip().isdecimal() and int(size) > 0 for size in sizes.split(",")):
            raise click.BadParameter(f"{value!r} is not a shape like 1,3,224,224 or 1,128:int64", context, parameter)
        inputs.append((tuple(int(size) for size in sizes.split(",")), dtype))
    return inputs


@dataclass(frozen=True)
class _Talk:
    """What a command says beside its result, on standard error."""

    quiet: bool
    verbose: bool

    @contextlib.contextmanager
    def stage(self, doing: str) -> Iterator[None]:
        """A spinner while the block runs, if someone is watching; with `verbose`, how long it took."""
        from rich.console import Console

        console = Console(stderr=True, highlight=False)
        start = time.perf_counter()
        if console.is_terminal and not self.quiet:
            with console.status(f"{doing} ..."):
                yield
        else:
            yield
        if self.verbose:
            click.echo(f"{doing}: {time.perf_counter() - start:.2f} s", err=True)

    def note(self, text: str) -> None:
        """Say something that the reader of the result should know."""
        if not self.quiet:
            click.echo(f"note: {text}", err=True)


def _options(*options: Callable[[_F], _F]) -> Callable[[_F], _F]:
    def decorate(command: _F) -> _F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_loading_options = _options(
    click.option("--weights", metavar="FILE", help="State dict (.safetensors, .pt) to load into the model."),
    click.option(
        "--arg",
        "arguments",
        multiple=True,
        callback=_key_values,
        metavar="KEY=VALUE",
        help="Argument of the factory; repeatable.",
    ),
    click.option("--trust", is_flag=True, help="Let model files run code. Only for files whose origin you know."),
    click.option(
        "--input-shape",
        "shapes",
        multiple=True,
        callback=_sizes,
        metavar="SIZES[:DTYPE]",
        help="Shape of an example input, such as 1,3,224,224 or 1,128:int64; repeat it for several inputs.",
    ),
)
_planning_options = _options(
    click.option("--only", multiple=True, metavar="GLOB", help="Only layers of this name; repeatable."),
    click.option("--skip", multiple=True, metavar="GLOB", help="Leave layers of this name alone; repeatable."),
    click.option("--method", type=click.Choice(["nonlinearity"]), default="nonlinearity", show_default=True),
    click.option("--residual", type=click.Choice(["keep", "depth"]), default="keep", show_default=True),
    click.option("--mode", type=click.Choice(["fan_in", "fan_out", "fan_avg"]), help="One fan for all layers."),
    click.option(
        "--distribution",
        type=click.Choice(["normal", "uniform", "truncated_normal", "orthogonal"]),
        default="normal",
        show_default=True,
    ),
    click.option("--zeros", type=click.Choice(["keep", "reset"]), default="keep", show_default=True),
)
_talking_options = _options(
    click.option("--all", "full", is_flag=True, help="A row for each layer, also where many are equal."),
    click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors."),
    click.option("--verbose", "-v", is_flag=True, help="Say how long each step took."),
    click.option(
        "--traceback", is_flag=True, expose_value=False, callback=_show_traceback, help="Show where errors come from."
    ),
)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="autoinit")
def main() -> None:
    """Computes from a PyTorch model's dataflow how each weight should start, sets it, and says why."""


@main.command(epilog=_SPEC_HELP, short_help="Report on models; writes no weight.")
@click.argument("specs", metavar="SPEC...", nargs=-1, required=True)
@_loading_options
@_planning_options
@click.option("--format", "form", type=click.Choice(["table", "json", "markdown"]), default="table", show_default=True)
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Write the report to a file.")
@_talking_options
def report(
    specs: Sequence[str],
    weights: str | None,
    arguments: dict[str, Any],
    trust: bool,
    shapes: Sequence[_Input],
    form: str,
    output: Path | None,
    full: bool,
    quiet: bool,
    verbose: bool,
    **planning: Any,
) -> None:
    """Report what each weight of a saved model feeds, how it should start, and how it does. Writes no weight."""
    talk = _Talk(quiet, verbose)
    reports: list[Report] = []
    for spec in specs:
        loaded = _load(spec, weights, arguments, trust, talk)
        from autoinit import api

        with talk.stage(f"analysing {loaded.name}"):
            result = api.report(loaded.model, _example_inputs(shapes), **_chosen(planning))
        reports.append(_named(result, loaded))
    if output is not None:
        from autoinit.saving import replacing

        with replacing(output) as temporary:
            temporary.write_text(_formatted(reports, form, full), encoding="utf-8")
    elif not quiet and form == "table":
        _print_tables(reports, full)
    elif not quiet:
        click.echo(_formatted(reports, form, full), nl=False)


@main.command(epilog=_SPEC_HELP, short_help="Initialise a model and write its weights.")
@click.argument("spec", metavar="SPEC")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="Where to: FILE.safetensors, FILE.pt or FILE.pth."
)
@click.option(
    "--in-place", is_flag=True, help="Allow the output to be the input, and take it for the output if none is given."
)
@_loading_options
@_planning_options
@click.option("--seed", type=int, help="Base of all random numbers; the same seed gives the same weights.")
@click.option("--force", is_flag=True, help="Initialise a model that looks trained.")
@_talking_options
def apply(
    spec: str,
    output: Path | None,
    in_place: bool,
    weights: str | None,
    arguments: dict[str, Any],
    trust: bool,
    shapes: Sequence[_Input],
    full: bool,
    quiet: bool,
    verbose: bool,
    **planning: Any,
) -> None:
    """Initialise a model and write its weights to a file: whole, or not at all."""
    talk = _Talk(quiet, verbose)
    if output is None and not in_place:
        raise click.UsageError("say where to write the weights: -o FILE.safetensors (or --in-place)")
    loaded = _load(spec, weights, arguments, trust, talk)
    target = output if output is not None else _input_of(loaded, spec)
    from autoinit import api, saving

    saving.check_output(target, loaded, in_place=in_place)
    with talk.stage(f"initialising {loaded.name}"):
        result = api.autoinit(loaded.model, _example_inputs(shapes), verbose=False, **_chosen(planning))
    with talk.stage(f"writing {target}"):
        saving.save(loaded, target)
    if not quiet:
        _print_tables([_named(result, loaded)], full)
        click.echo(f"wrote {target}", err=True)


@main.command(short_help="See it at work on a small network.")
def demo() -> None:
    """Show what autoinit does to a small residual network, against torch's default and a Kaiming loop."""
    from autoinit.demo import run

    run()


@main.command(short_help="Print a shell's completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the shell's completion script: eval "$(autoinit completion bash)"."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"this version of click has no completion for {shell}")
    click.echo(kind(main, {}, "autoinit", _COMPLETE_VARIABLE).source())


def _load(spec: str, weights: str | None, arguments: dict[str, Any], trust: bool, talk: _Talk) -> Loaded:
    with talk.stage(f"loading {spec}"):
        from autoinit.loading import load

        loaded = load(spec, weights_file=weights, arguments=arguments, trust=trust)
    for note in loaded.notes:
        talk.note(note)
    return loaded


def _example_inputs(shapes: Sequence[_Input]) -> Any:
    """One shape as it is, so that the model's first layer decides the dtype; otherwise tensors of zeros."""
    if not shapes:
        return None
    if len(shapes) == 1 and not shapes[0][1]:
        return shapes[0][0]
    import torch

    tensors = []
    for shape, name in shapes:
        dtype = getattr(torch, name, None) if name else torch.float32
        if not isinstance(dtype, torch.dtype):
            raise click.UsageError(f"--input-shape: torch has no dtype {name!r}; try float32 or int64")
        tensors.append(torch.zeros(shape, dtype=dtype))
    return tuple(tensors)


def _chosen(planning: dict[str, Any]) -> dict[str, Any]:
    """Options that say something: those left open keep the API's own default."""
    return {name: value for name, value in planning.items() if value is not None and value != ()}


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
