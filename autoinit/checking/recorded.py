"""What a recorded call of an initialiser says about the scale that it gave."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from autoinit.recognising.recipes import Recipe

if TYPE_CHECKING:
    from autoinit.checking.subject import Part
    from autoinit.provenance import Origin

_GAINS = {"relu": math.sqrt(2), "tanh": 5 / 3, "selu": 3 / 4}
"""torch.nn.init.calculate_gain: those that are not 1."""


def recorded_recipe(origin: Origin, part: Part) -> Recipe | None:
    """The recipe that a recorded call names; None where the call gives a std without saying where it comes from.

    A call is believed only as far as it goes: values set by other means afterwards are judged by their statistics.
    """
    function = origin.function.rpartition(".")[2].rstrip("_")
    if any(not each.startswith(("mul_", "div_")) for each in origin.then):
        return None
    if origin.default:
        return Recipe(f"{function}, torch's default", "default", _distribution(function), part.actual)
    scheme = function.partition("_")[0]
    if scheme not in ("kaiming", "xavier") or part.rows:
        return None
    arguments, place = origin.arguments, part.place
    gain, nonlinearity = _gain(scheme, arguments)
    mode = str(arguments.get("mode", "fan_in")) if scheme == "kaiming" else "fan_avg"
    true = {"fan_in": place.fan_in, "fan_out": place.fan_out, "fan_avg": (place.fan_in + place.fan_out) / 2}[mode]
    fan = _torch_fan(part.layer.shape, mode)
    return Recipe(
        name=str(origin),
        kind="xavier" if scheme == "xavier" else "kaiming",
        distribution=_distribution(function),
        std=gain / math.sqrt(fan) * origin.factor,
        gain=gain,
        nonlinearity=nonlinearity,
        mode=mode,
        fans="true" if math.isclose(true, fan, rel_tol=1e-6) else "torch",
        factor=origin.factor,
    )


def _torch_fan(shape: tuple[int, ...], mode: str) -> float:
    """The fan that torch.nn.init reads from a shape."""
    area = math.prod(shape[2:])
    return {"fan_in": shape[1], "fan_out": shape[0], "fan_avg": (shape[0] + shape[1]) / 2}[mode] * area


def _distribution(function: str) -> str:
    return "uniform" if "uniform" in function else "normal"


def _gain(scheme: str, arguments: Mapping[str, Any]) -> tuple[float, str]:
    if scheme == "xavier":
        return float(arguments.get("gain", 1.0)), ""
    nonlinearity = str(arguments.get("nonlinearity", "leaky_relu"))
    if nonlinearity == "leaky_relu":
        slope = float(arguments.get("a", 0.0))
        return math.sqrt(2 / (1 + slope**2)), f"leaky_relu({slope:g})"
    return _GAINS.get(nonlinearity, 1.0), nonlinearity
