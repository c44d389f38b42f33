"""How findings speak: numbers, what a weight feeds, and lines of code to paste."""

from __future__ import annotations

import keyword
import math

from autoinit.checking._part import Part
from autoinit.checking._subject import Subject
from autoinit.checking.scale.deviations import Deviation

_ENDS = {
    "add": "an addition, no nonlinearity",
    "gate": "a product, no nonlinearity",
    "attention": "attention, no nonlinearity",
    "weight": "the next weight, with no nonlinearity between",
    "output": "the output, no nonlinearity",
    "softmax": "softmax, which is no rectifier",
}

NARROW = 1.05
"""A range whose ends are no further apart than this is written as one number."""


def number(value: float) -> str:
    """Three significant digits, and all of a number from 1000 to a million: `0.0313`, `2304`, `1.2e+07`."""
    return f"{value:.0f}" if 999.5 <= abs(value) < 1e6 else f"{value:.3g}"


def times(actual: float, expected: float) -> str:
    """How far off: `0.41 times`."""
    ratio = actual / expected
    return f"{ratio:.2g} times" if 0.01 <= ratio < 100 else f"{ratio:.1e} times"


def at_rows(rows: tuple[tuple[int, int], ...]) -> str:
    """` rows 0:64`; empty for the whole weight."""
    return " rows " + ", ".join(f"{start}:{stop}" for start, stop in rows) if rows else ""


def feeds(part: Part) -> str:
    """What the rows feed, as a phrase: `relu`, `an addition, no nonlinearity`."""
    place = part.place
    if place.reason in _ENDS:
        return _ENDS[place.reason]
    values = ", ".join(f"{value:g}" for value in place.params.values())
    name = f"{place.nonlinearity}({values})" if values else place.nonlinearity
    return f"{name}, among others" if place.reason == "mixed" else name


def compared(deviation: Deviation) -> str:
    """The name of the layer, its std and what is called for: how every finding about scale begins."""
    low, high = deviation.passing
    expected = number(deviation.expected) if high / low < NARROW else f"{number(low)} to {number(high)}"
    nearer = min(deviation.passing, key=lambda end: abs(end - deviation.actual))
    return (
        f"{deviation.part.layer.name}{at_rows(deviation.rows)}: std {number(deviation.actual)}, expected {expected} "
        f"({times(deviation.actual, nearer)})"
    )


def expression(param: str) -> str:
    """Python for a parameter or module of `model`: `model.layers[0].weight`; `model` for the empty path.

    A name that is no identifier is a string in it, so that no name is code.
    """
    found = "model"
    for each in filter(None, param.split(".")):
        if each.isascii() and each.isdecimal():
            found += f"[{each}]"
        elif each.isidentifier() and not keyword.iskeyword(each):
            found += f".{each}"
        else:
            found = f"getattr({found}, {each!a})"
    return found


def quoted(name: str) -> str:
    """A name as a string of Python."""
    return f'"{name}"' if name.isprintable() and not set('"\\') & set(name) else ascii(name)


def initialise(subject: Subject, part: Part, std: float | None = None, rows: tuple[tuple[int, int], ...] = ()) -> str:
    """Code that gives a weight its std: torch's own call where it means the same, else normal_.

    std: the planned one by default. rows: those to set; all by default, each slice to its own.
    """
    layer, place = part.layer, part.place
    whole = f"autoinit(model, only={quoted(layer.name)})"
    if layer.reparam or subject.resolutions[layer.name].transform:
        return whole
    target = expression(layer.param)
    if layer.slices:
        runs = [(run, each.std) for each in layer.slices for run in each.rows]
        if rows and std is not None:
            runs = [(run, std) for run in rows]
        if not layer.axes.startswith("o") or len(runs) > 4:
            return whole
        return "\n".join(f"nn.init.normal_({target}[{run[0]}:{run[1]}], std={each:.4g})" for run, each in runs)
    chosen = place.std if std is None else std
    return _torch_call(layer.shape, layer.axes, place.nonlinearity, place.params, chosen, target)


def _torch_call(shape: tuple[int, ...], axes: str, nonlinearity: str, params: object, std: float, target: str) -> str:
    if axes.startswith("oi"):
        area = math.prod(shape[2:])
        fan_in, fan_out = shape[1] * area, shape[0] * area
        if nonlinearity == "relu" and math.isclose(std, math.sqrt(2 / fan_in), rel_tol=1e-6):
            return f'nn.init.kaiming_normal_({target}, nonlinearity="relu")'
        slope = params.get("negative_slope") if isinstance(params, dict) else None
        if slope is not None and math.isclose(std, math.sqrt(2 / (1 + slope**2) / fan_in), rel_tol=1e-6):
            return f"nn.init.kaiming_normal_({target}, a={slope:g})"
        if math.isclose(std, math.sqrt(2 / (fan_in + fan_out)), rel_tol=1e-6):
            return f"nn.init.xavier_normal_({target})"
    return f"nn.init.normal_({target}, std={std:.4g})"
