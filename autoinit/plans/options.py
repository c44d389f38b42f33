"""What a caller may choose of a plan. Functions, commands, errors and documents read each option here.

To add an option: its field in `PlanOptions`, its key in `PlanArguments`, and the code that heeds it.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, Literal, TypedDict, TypeVar, cast, get_args, get_type_hints

from autoinit.errors.arguments import one_of, texts
from autoinit.plans.distributions import DISTRIBUTIONS, Distribution
from autoinit.plans.mirror import TAPS, Taps
from autoinit.theory.fans import MODES, Mode

Residual = Literal["keep", "depth"]
RESIDUALS: Mapping[Residual, str] = {
    "keep": "each branch has the std of its place",
    "depth": "the last weight of each of the L branches that add into one residual stream is scaled by 1 / sqrt(L)",
}
Heads = Literal["xavier", "small", "zero"]
HEADS: Mapping[Heads, str] = {
    "xavier": "each has the std of its place",
    "small": "a tenth of that, so that the output begins near what it is without evidence",
    "zero": "zero, so that it begins there",
}
HEAD_FACTORS: Mapping[Heads, float] = {"xavier": 1.0, "small": 0.1, "zero": 0.0}
"""By what the stds of heads are multiplied."""
Preset = Literal["none", "train"]
PRESETS: Mapping[Preset, str] = {
    "none": "it keeps its default",
    "train": "for the best start of training (`autoinit explain train`)",
}
Zeros = Literal["keep", "reset"]
ZEROS: Mapping[Zeros, str] = {
    "keep": "they stay, as the author's intent",
    "reset": "they are planned like others",
}


def _methods() -> Mapping[str, str]:
    """The methods, whose table stands above this room."""
    return cast("Mapping[str, str]", pkgutil.resolve_name("autoinit.methods.table:MEANINGS"))


def _distributions() -> Mapping[Distribution, str]:
    return {name: row.help for name, row in DISTRIBUTIONS.items()}


def _about(help: str, choices: Callable[[], Mapping[Any, str]] = dict, metavar: str | None = None) -> dict[str, Any]:
    return {"help": help, "choices": choices, "metavar": metavar}


@dataclass(frozen=True)
class PlanOptions:
    """What was chosen, complete. Its fields are the options of a plan, in the order of documents.

    Raises:
        ArgumentError: a value is none of an option's choices.
    """

    method: str = field(default="nonlinearity", metadata=_about("how the stds are found.", _methods))
    residual: Residual = field(default="keep", metadata=_about("what becomes of residual branches.", lambda: RESIDUALS))
    heads: Heads = field(
        default="xavier",
        metadata=_about(
            "what becomes of heads: of weights behind which the signal leaves the model, also through softmax or a "
            "sigmoid, and of those that give the mean and the variance of a draw.",
            lambda: HEADS,
        ),
    )
    mode: Mode | None = field(
        default=None,
        metadata=_about("one fan for every layer, in place of fan_in for He and fan_avg for Xavier.", lambda: MODES),
    )
    distribution: Distribution = field(
        default="normal", metadata=_about("what the values are drawn from.", _distributions)
    )
    taps: Taps = field(
        default="shift", metadata=_about("where a mirrored convolution's matrix stands in its kernel.", lambda: TAPS)
    )
    only: tuple[str, ...] = field(
        default=(), metadata=_about("globs of the names of layers to plan; others are skipped.", metavar="GLOB")
    )
    skip: tuple[str, ...] = field(
        default=(), metadata=_about("globs of the names of layers to leave alone.", metavar="GLOB")
    )
    zeros: Zeros = field(
        default="keep", metadata=_about("what becomes of weights that are exactly zero.", lambda: ZEROS)
    )
    preset: Preset = field(
        default="none",
        metadata=_about("what chooses, by what the graph shows, the options that are not given.", lambda: PRESETS),
    )
    recipe: str = field(
        default="",
        metadata=_about(
            "a published recipe to write in place of what the dataflow calls for (gpt2, trunc_normal(0.02)), which "
            "speaks of embeddings, norms and biases, too; `autoinit recipes` lists them.",
            metavar="RECIPE",
        ),
    )
    seed: int | None = field(
        default=None,
        metadata=_about(
            "base of all random numbers: of the values that are written, and of what a method draws to find the stds. "
            "None takes a seed from torch's default generator to write, and 0 to plan."
        ),
    )

    def __post_init__(self) -> None:
        for option in plan_options().values():
            value = getattr(self, option.name)
            if option.choices and value is not option.default:
                one_of(option.name, value, option.choices)


class PlanArguments(TypedDict, total=False):
    """The same as keyword arguments: what is not given has its default."""

    method: str
    residual: Residual
    heads: Heads
    mode: Mode | None
    distribution: Distribution
    taps: Taps
    only: str | Sequence[str]
    skip: str | Sequence[str]
    zeros: Zeros
    preset: Preset
    recipe: str
    seed: int | None


@dataclass(frozen=True)
class Option:
    """A field of `PlanOptions`, and what is said of it.

    Attributes:
        type: of one value.
        several: whether it takes any number of values.
        annotation: its type as an argument.
        choices: its values and what each means; empty where it is free.
        metavar: stands for a value on the command line.
    """

    name: str
    default: Any
    help: str
    type: type
    several: bool
    annotation: Any
    choices: Mapping[str, str]
    metavar: str | None

    @property
    def document(self) -> str:
        """What it is, and what each of its choices means."""
        meanings = "; ".join(f"`{choice}`: {meaning}" for choice, meaning in self.choices.items())
        return f"{self.help} {meanings}." if meanings else self.help

    def read(self, value: Any) -> Any:
        """An argument as `PlanOptions` holds it: one value where several may be given is a tuple of one."""
        if not self.several:
            return value
        return texts(self.name, value)


@cache
def plan_options() -> Mapping[str, Option]:
    """Every option by its name."""
    hints = get_type_hints(PlanArguments)
    return {
        each.name: Option(
            name=each.name,
            default=each.default,
            help=each.metadata["help"],
            type=_value_type(hints[each.name]),
            several=isinstance(each.default, tuple),
            annotation=hints[each.name],
            choices=each.metadata["choices"](),
            metavar=each.metadata["metavar"],
        )
        for each in fields(PlanOptions)
    }


def _value_type(annotation: Any) -> type:
    within = (annotation, *get_args(annotation))
    return next((each for each in (bool, int, float) if each in within), str)


_F = TypeVar("_F", bound=Callable[..., Any])
_MARK = re.compile(r"^( *)\*\*options: those of `PlanOptions`\.$", re.MULTILINE)
"""Python 3.13 takes the indentation off docstrings."""
_DOCUMENT_WIDTH = 112


def takes_plan_options(function: _F) -> _F:
    """Spells out `**options: Unpack[PlanArguments]` where readers look: in the signature and in the docstring."""
    signature = inspect.signature(function)
    own = [each for each in signature.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
    spelled = [
        inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default, annotation=each.annotation)
        for each in plan_options().values()
    ]
    by_position = [each for each in own if each.kind is not inspect.Parameter.KEYWORD_ONLY]
    by_name = [each for each in own if each.kind is inspect.Parameter.KEYWORD_ONLY]
    function.__signature__ = signature.replace(parameters=[*by_position, *spelled, *by_name])  # type: ignore[attr-defined]
    if function.__doc__:
        entries = (f"{each.name}: {each.document}" for each in plan_options().values())
        lines = (line for entry in entries for line in textwrap.wrap(entry, _DOCUMENT_WIDTH, subsequent_indent="    "))
        text = "\n".join(lines)
        function.__doc__ = _MARK.sub(lambda mark: textwrap.indent(text, mark[1]), function.__doc__)
    return function
