"""Recipes that are one initialiser for every weight: those of torch.nn.init and of the framework itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from autoinit.checking._part import Part
from autoinit.checking.recipes._published import Published
from autoinit.checking.recipes.geometry import blocks, fan_outs, is_conv, is_head, is_tied, size
from autoinit.errors import ArgumentError
from autoinit.ops import recurrent_gates
from autoinit.theory.fans import MODES
from autoinit.theory.gains import gain
from autoinit.theory.truncation import TRUNCATED_STD


def normal(arguments: Sequence[str]) -> Published:
    """`normal(s)`: every weight N(0, s^2)."""
    std = _positive("normal", arguments, "std")
    return Published(f"normal({std:g})", "torch.nn.init.normal_", lambda _: (std,))


def trunc_normal(arguments: Sequence[str]) -> Published:
    """`trunc_normal(s)`: cut at absolute bounds, which leaves s, or at two sigma, which leaves 0.88 s."""
    std = _positive("trunc_normal", arguments, "std")
    reference = "torch.nn.init.trunc_normal_; tf.initializers.TruncatedNormal"
    return Published(f"trunc_normal({std:g})", reference, lambda _: (std, TRUNCATED_STD * std))


def uniform(arguments: Sequence[str]) -> Published:
    """`uniform(b)`: every weight U(-b, b)."""
    bound = _positive("uniform", arguments, "bound")
    return Published(f"uniform({bound:g})", "torch.nn.init.uniform_", lambda _: (bound / math.sqrt(3),))


def kaiming(arguments: Sequence[str]) -> Published:
    """`kaiming(mode, nonlinearity, slope)`: gain / sqrt(fan); fan_in and relu unless given."""
    if len(arguments) > 3:
        raise ArgumentError(f"recipe kaiming({', '.join(arguments)}): expected mode, nonlinearity and slope at most")
    mode, nonlinearity = (*arguments, *("fan_in", "relu")[len(arguments) :])[:2]
    if mode not in MODES:
        raise ArgumentError(f"recipe kaiming: mode {mode!r}; expected one of {', '.join(MODES)}")
    params = {"negative_slope": _number("kaiming", arguments[2], "slope")} if len(arguments) == 3 else None
    factor = gain(nonlinearity, params)
    name = f"kaiming({', '.join(arguments or (mode,))})"
    return Published(name, "He et al. 2015, eq. 10 and 14", lambda part: he(part, mode, factor))


def xavier(arguments: Sequence[str]) -> Published:
    """`xavier`: sqrt(2 / (fan_in + fan_out)), times 5/3 allowed before tanh."""
    _none("xavier", arguments)
    return Published("xavier", "Glorot & Bengio 2010, eq. 12 and 16", glorot)


def lecun(arguments: Sequence[str]) -> Published:
    """`lecun`: 1 / sqrt(fan_in)."""
    _none("lecun", arguments)
    return Published("lecun", "LeCun et al. 1998, Efficient BackProp, section 4.6", lambda part: he(part, "fan_in", 1))


def mup(arguments: Sequence[str]) -> Published:
    """`mup(s, m)`: s at the base width; s / sqrt(m) for the hidden weights of a model m times as wide.

    What reads the input keeps s; so may a head whose output is divided by m, else s / m. Branches may end by depth.
    """
    if len(arguments) != 2:
        raise ArgumentError(
            f"recipe mup({', '.join(arguments)}): expected two numbers, the std and the width multiplier"
        )
    std = _positive("mup", arguments[:1], "std")
    multiplier = _positive("mup", arguments[1:], "width multiplier")
    hidden = std / math.sqrt(multiplier)

    def stds(part: Part) -> tuple[float, ...]:
        if is_head(part):
            return (std, std / multiplier)
        if part.branches > 1:
            return (hidden, hidden / math.sqrt(2 * blocks(part)))
        return (std,) if is_conv(part) and not part.skipped_over else (hidden,)

    return Published(f"mup({std:g}, {multiplier:g})", "Yang et al. 2022 (Tensor Programs V), table 8", stds)


def torch(arguments: Sequence[str]) -> Published:
    """`torch`: what the constructors of torch.nn leave in place."""
    _none("torch", arguments)
    return Published("torch", "reset_parameters of torch.nn's layers (torch 2)", framework_default)


def he(part: Part, mode: str, factor: float) -> tuple[float, ...]:
    """The factor over sqrt(fan), with each fan_out that authors count."""
    fan_in = part.place.fan_in
    if mode == "fan_in":
        return (factor / math.sqrt(fan_in),)
    outs = fan_outs(part)
    return tuple(factor / math.sqrt(out if mode == "fan_out" else (fan_in + out) / 2) for out in outs)


def glorot(part: Part) -> tuple[float, ...]:
    """Xavier with gain 1, and with the gain of tanh where the part feeds one."""
    gains = {1.0, part.place.gain} if part.place.nonlinearity == "tanh" else {1.0}
    return tuple(std for factor in sorted(gains) for std in he(part, "fan_avg", factor))


def framework_default(part: Part) -> tuple[float, ...]:
    """By the layer's type; nothing for a bare parameter, which has no default.

    Linear and convolutions: U(-1/sqrt(n), 1/sqrt(n)) with n = shape[1] * kernel (kaiming_uniform with a = sqrt(5)).
    Bilinear: n = in1. Recurrent layers: n = hidden size. The projections of MultiheadAttention: xavier_uniform over
    each matrix as it is held, the packed one included. An embedding table that serves as head: N(0, 1).
    """
    layer = part.layer
    if layer.op == "multi_head_attention" and layer.param.endswith("_proj_weight"):
        return (math.sqrt(2 / (size(part, "i") + size(part, "o"))),)
    if gates := recurrent_gates(layer.op):
        hidden = layer.shape[1] if "weight_hr" in layer.param else layer.shape[0] // gates
        return (1 / math.sqrt(3 * hidden),)
    if not layer.axes.startswith(("oi", "iok")):
        return ()
    bound_fan = layer.shape[1] * size(part, "k")
    tied = (1.0,) if is_head(part) and is_tied(part) else ()
    return (1 / math.sqrt(3 * bound_fan), *tied)


def _positive(recipe: str, arguments: Sequence[str], what: str) -> float:
    if len(arguments) != 1:
        raise ArgumentError(f"recipe {recipe}({', '.join(arguments)}): expected one number, the {what}")
    value = _number(recipe, arguments[0], what)
    if not 0 < value < math.inf:
        raise ArgumentError(f"recipe {recipe}: {what} {arguments[0]}; expected a positive number")
    return value


def _number(recipe: str, text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ArgumentError(f"recipe {recipe}: {what} {text!r}; expected a number such as 0.02") from None


def _none(recipe: str, arguments: Sequence[str]) -> None:
    if arguments:
        raise ArgumentError(f"recipe {recipe}({', '.join(arguments)}): {recipe} takes no arguments")


class Initialiser(NamedTuple):
    """A recipe that is one initialiser for every weight.

    Attributes:
        make: the recipe from the arguments that it is declared with.
        example: how it is declared.
    """

    make: Callable[[Sequence[str]], Published]
    example: str


INITIALISERS: Mapping[str, Initialiser] = {
    "torch": Initialiser(torch, "torch"),
    "kaiming": Initialiser(kaiming, "kaiming(fan_out, relu)"),
    "xavier": Initialiser(xavier, "xavier"),
    "lecun": Initialiser(lecun, "lecun"),
    "normal": Initialiser(normal, "normal(0.02)"),
    "trunc_normal": Initialiser(trunc_normal, "trunc_normal(0.02)"),
    "uniform": Initialiser(uniform, "uniform(0.05)"),
    "mup": Initialiser(mup, "mup(0.02, 4)"),
}
"""By the name under which it is declared."""
