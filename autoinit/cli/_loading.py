"""Options of how a model is loaded, as one value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autoinit.checking.toml_tables import InputShape, parse_shape
from autoinit.cli._options import as_one, key_values, read_bytes

if TYPE_CHECKING:
    from autoinit.cli._talking import Talk
    from autoinit.loading import Loaded


@dataclass(frozen=True)
class Loading:
    """How a command loads a model; None, or nothing, where the options say nothing.

    Attributes:
        weights: a file to load into it.
        arguments: of its factory.
        trust: whether its files may run code.
        max_size: how many bytes its files may unpack to.
        shapes: of its example inputs.
    """

    weights: str | None
    arguments: dict[str, Any]
    trust: bool
    max_size: int | None
    shapes: Sequence[InputShape]

    def load(self, spec: str, talk: Talk, **more: Any) -> Loaded:
        """Load a model, and say what a user should know of how. `more`: as for `autoinit.loading.load`."""
        with talk.stage(f"loading {spec}"):
            from autoinit.loading import load

            loaded = load(
                spec,
                weights_file=self.weights,
                arguments=self.arguments,
                trust=self.trust,
                max_size=self.max_size,
                **more,
            )
        for each in loaded.notes:
            talk.note(each)
        return loaded

    def require_outputs(self, outputs: Iterable[Path | None], *specs: str) -> None:
        """Refuse an output that cannot be written, or that is a file which loading a spec reads.

        Raises:
            ArgumentError: says why.
        """
        wanted = [each for each in outputs if each is not None]
        if wanted:
            from autoinit.loading import files_read_for
            from autoinit.saving import require_outputs

            require_outputs(wanted, [path for spec in specs for path in files_read_for(spec, self.weights)])


def _shapes(context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> list[InputShape]:
    shapes = []
    for value in values:
        shape = parse_shape(value)
        if shape is None:
            raise click.BadParameter(f"{value!r} is not a shape like 1,3,224,224 or 1,128:int64", context, parameter)
        shapes.append(shape)
    return shapes


loading_options = as_one(
    "loading",
    Loading,
    click.option("--weights", metavar="FILE", help="State dict (.safetensors, .pt) to load into the model."),
    click.option(
        "--arg",
        "arguments",
        multiple=True,
        callback=key_values,
        metavar="KEY=VALUE",
        help="Argument of the factory; repeatable.",
    ),
    click.option("--trust", is_flag=True, help="Let model files run code. Only for files whose origin you know."),
    click.option(
        "--max-size",
        callback=read_bytes,
        metavar="BYTES",
        help="How much a model file may unpack to, and work on its model take; four times its own size unless said.",
    ),
    click.option(
        "--input-shape",
        "shapes",
        multiple=True,
        callback=_shapes,
        metavar="SIZES[:DTYPE]",
        help="Shape of an example input, such as 1,3,224,224 or 1,128:int64; repeat it for several inputs.",
    ),
)
