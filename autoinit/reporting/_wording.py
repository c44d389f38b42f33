"""How numbers and names read in a report; shared by every format."""

from __future__ import annotations

import math
from collections.abc import Mapping

_SCHEMES = {"he": "He", "xavier": "Xavier"}
_UNITS = ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "K"))


def number(value: float | None) -> str:
    """Three significant digits; `-` for a value that is not known."""
    if value is None:
        return "-"
    if math.isnan(value):
        return "nan"
    return f"{value:.3g}"


def spread(values: tuple[float | None, ...]) -> str:
    """One number for values that agree to 5 % of the larger, else `low..high`."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    if any(not math.isfinite(value) for value in known):
        return "nan"
    low, high = min(known), max(known)
    if high - low <= 0.05 * high:
        return number(sum(known) / len(known))
    return f"{low:.2g}..{high:.2g}"


def count(value: int) -> str:
    """A count as people say it: 812, 11.7 M."""
    for size, unit in _UNITS:
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return str(value)


def plural(value: int, noun: str) -> str:
    """`1 layer`, `2 layers`."""
    return f"{value} {noun}" if value == 1 else f"{value} {noun}s"


def duration(seconds: float) -> str:
    """Seconds, or milliseconds below one second."""
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def function(nonlinearity: str, params: Mapping[str, float]) -> str:
    """The nonlinearity with its parameters' values: `leaky_relu(0.2)`."""
    values = ", ".join(f"{value:g}" for value in params.values())
    return f"{nonlinearity}({values})" if values else nonlinearity


def feeds(nonlinearity: str, params: Mapping[str, float], reason: str) -> str:
    """What a weight feeds and why, in one phrase; reasons that the nonlinearity implies are left out."""
    phrase = function(nonlinearity, params)
    return phrase if reason in ("activation", nonlinearity) else f"{phrase}, {reason}"


def scheme(name: str) -> str:
    """`He`, `Xavier`."""
    return _SCHEMES.get(name, name)


def fan(mode: str, fan_in: float, fan_out: float) -> str:
    """The fans that the std was computed from: `576`, `out 64`, or `576+64` for their average."""
    if mode == "fan_in":
        return _integral(fan_in)
    if mode == "fan_out":
        return f"out {_integral(fan_out)}"
    return f"{_integral(fan_in)}+{_integral(fan_out)}"


def rows(runs: tuple[tuple[int, int], ...]) -> str:
    """Half-open runs of row indices, as Python writes them: `[0:64, 128:192]`."""
    return "[" + ", ".join(f"{start}:{stop}" for start, stop in runs) + "]"


def _integral(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.4g}"


def distribution(name: str) -> str:
    """`normal`, `truncated normal`; `truncated normal (3 sigma)` where it is cut elsewhere than at two."""
    return name.replace("_normal_3", " normal (3 sigma)").replace("_", " ")


def operation(op: str) -> str:
    """An operation's name, short enough for a column."""
    return {"multi_head_attention": "attention"}.get(op, op)
