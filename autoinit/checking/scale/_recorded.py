"""What a recorded call of an initialiser says about the scale that it gave."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch.nn.init import calculate_gain

from autoinit.checking._part import Part
from autoinit.provenance import Origin
from autoinit.recognising.recipes import Recipe
from autoinit.theory.fans import Fans, Mode


def recorded_recipe(origin: Origin, part: Part) -> Recipe | None:
    """The recipe that a recorded call names; None where the record does not tell what the scale came from.

    A call is believed only as far as it goes: values set by other means afterwards are judged by their statistics.
    """
    function = origin.function.rpartition(".")[2].rstrip("_")
    if any(not each.startswith(("mul_", "div_")) for each in origin.then):
        return None
    if origin.default:
        default = next((each.std for each in part.recognition.recipes if each.kind == "default"), part.actual)
        return Recipe(f"{function}, torch's default", "default", _distribution(function), default)
    scheme = function.partition("_")[0]
    if part.rows or len(part.layer.shape) < 2:
        return None
    if scheme in ("kaiming", "xavier"):
        gain, nonlinearity = _gain(scheme, origin.arguments)
        mode: Mode = "fan_avg" if scheme == "xavier" else origin.arguments.get("mode", "fan_in")
        return _of_fan(origin, part, mode, gain, _torch_fans(part).by_mode[mode], nonlinearity)
    std = _explicit_std(function, origin.arguments)
    return _of_number(origin, part, std) if std is not None else None


def _of_fan(origin: Origin, part: Part, mode: Mode, gain: float, fan: float, nonlinearity: str = "") -> Recipe:
    """A gain over the root of a fan."""
    true = math.isclose(_true_fans(part).by_mode[mode], fan, rel_tol=1e-6)
    return Recipe(
        name=str(origin),
        kind="xavier" if mode == "fan_avg" else "kaiming",
        distribution=_distribution(origin.function),
        std=gain / math.sqrt(fan) * origin.factor,
        gain=gain,
        nonlinearity=nonlinearity,
        mode=mode,
        fans="true" if true else "torch",
        factor=origin.factor,
    )


def _of_number(origin: Origin, part: Part, std: float) -> Recipe | None:
    """What an explicit std is: a gain over the root of a fan to all its digits, or a number of few digits."""
    for fans in (_true_fans(part), _torch_fans(part), _ungrouped_fans(part)):
        for mode, fan in fans.by_mode.items():
            for gain in (part.place.gain, 1.0, math.sqrt(2)):
                if fan > 0 and math.isclose(gain / math.sqrt(fan), std, rel_tol=1e-3):
                    return _of_fan(origin, part, mode, gain, fan)
    if not math.isclose(std, float(f"{std:.1e}"), rel_tol=1e-9):
        return None
    return Recipe(str(origin), "absolute", _distribution(origin.function), std * origin.factor, factor=origin.factor)


def _explicit_std(function: str, arguments: Mapping[str, Any]) -> float | None:
    """The std that a call of normal_, trunc_normal_ or uniform_ asks for; None for others."""
    if function in ("normal", "trunc_normal", "trunc_normal_tf"):
        std = arguments.get("std")
        return float(std) if isinstance(std, int | float) and std > 0 else None
    if function == "uniform":
        low, high = (arguments.get(short, arguments.get(long)) for short, long in (("a", "from"), ("b", "to")))
        if isinstance(low, int | float) and isinstance(high, int | float) and low == -high != 0:
            return abs(high) / math.sqrt(3)
    return None


def _true_fans(part: Part) -> Fans:
    return Fans(part.place.fan_in, part.place.fan_out)


def _torch_fans(part: Part) -> Fans:
    """The fans that torch.nn.init reads from a shape."""
    shape = part.layer.shape
    area = math.prod(shape[2:])
    return Fans(float(shape[1] * area), float(shape[0] * area))


def _ungrouped_fans(part: Part) -> Fans:
    """The fans with groups counted and the stride not, as libraries do."""
    fans = _torch_fans(part)
    return Fans(fans.fan_in, fans.fan_out / part.layout.groups)


def _distribution(function: str) -> str:
    return "uniform" if "uniform" in function else "normal"


def _gain(scheme: str, arguments: Mapping[str, Any]) -> tuple[float, str]:
    if scheme == "xavier":
        return float(arguments.get("gain", 1.0)), ""
    nonlinearity = str(arguments.get("nonlinearity", "leaky_relu"))
    slope = float(arguments.get("a", 0.0))
    named = f"leaky_relu({slope:g})" if nonlinearity == "leaky_relu" else nonlinearity
    return calculate_gain(nonlinearity, slope), named  # type: ignore[arg-type]  # one that torch has taken
