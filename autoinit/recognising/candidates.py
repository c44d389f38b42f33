"""Every recipe that could have produced a weight of some geometry, with how unusual it is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from autoinit.recognising.readings import Reading, place_of, readings
from autoinit.recognising.recipes import Recipe, written

if TYPE_CHECKING:
    from autoinit.plans import LayerPlan
    from autoinit.recognising.readings import Rows

ROOT_3 = math.sqrt(3)
DIGITS = (1.0, 2.0, 5.0, 3.0, 4.0, 6.0, 8.0, 7.0, 9.0)
DECADES = range(-6, 1)
USUAL = (0.02, 0.01, 0.001, 0.1, 0.05, 1.0, 0.005, 0.002)
DEPTHS = (2, 3, 4, 5, 6, 8, 10, 12, 16, 18, 20, 24, 28, 30, 32, 36, 40, 42, 48, 60, 64, 80, 96, 120, 126)
"""Numbers of blocks by which people scale residual branches."""


@dataclass(frozen=True)
class Candidate:
    """A recipe and how unusual it is: minus the logarithm of how often it is met, up to a constant."""

    recipe: Recipe
    doubt: float


@dataclass(frozen=True)
class Gain:
    """A gain, what it is for, and how unusual it is with Kaiming's and with Xavier's fans."""

    value: float
    name: str
    he: float
    xavier: float


def _slope(slope: float) -> float:
    return math.sqrt(2 / (1 + slope * slope))


_GAINS = (
    Gain(math.sqrt(2), "relu", 1.0, 3.5),
    Gain(1.0, "linear", 2.5, 1.5),
    Gain(5 / 3, "tanh", 4.0, 3.5),
    Gain(_slope(0.2), "leaky_relu(0.2)", 3.0, 5.0),
    Gain(_slope(0.01), "leaky_relu(0.01)", 3.5, 5.0),
    Gain(_slope(0.1), "leaky_relu(0.1)", 3.5, 5.0),
    Gain(0.75, "selu", 4.5, 5.0),
    Gain(_slope(math.sqrt(2)), "leaky_relu(sqrt(2))", 6.0, 7.0),
    Gain(_slope(5 / 3), "leaky_relu(5/3)", 6.5, 7.0),
)
_DEFAULT_GAIN = Gain(_slope(math.sqrt(5)), "leaky_relu(sqrt(5))", 4.0, 8.0)
"""torch's default, met with fans other than its own."""
SAME = 0.01
"""Gains that differ by less are one: the more usual."""


def candidates(layer: LayerPlan, rows: Rows, distribution: str, shrunk: float = 1.0) -> tuple[Candidate, ...]:
    """Recipes of one distribution for some rows of a weight, without a scale on top.

    Args:
        layer: the weight's plan.
        rows: half-open runs of its output features; the whole without them.
        distribution: `normal`, `uniform` or `truncated_normal`.
        shrunk: by how much truncation makes a std smaller that is not corrected for it.
    """
    made = [*_default(layer, rows)] if distribution == "uniform" else []
    if distribution == "normal" and "embedding" in layer.note:
        made.append(Candidate(Recipe("normal(1), torch's default of embeddings", "default", "normal", 1.0), 0.0))
    made += _fan_based(layer, rows, distribution)
    made += _absolute(distribution, DIGITS)
    if distribution == "truncated_normal":
        made += [_uncorrected(each, shrunk) for each in made]
    place = place_of(layer, rows)
    if layer.distribution == distribution and not any(abs(each.recipe.std / place.std - 1) < 1e-3 for each in made):
        made.append(Candidate(Recipe("autoinit's plan", "planned", distribution, place.std, place.gain,
                                     _own_name(layer, rows), place.mode, "true"), 0.5))  # fmt: skip
    return tuple(made)


def exact(distribution: str, shrunk: float = 1.0) -> tuple[Candidate, ...]:
    """Absolute scales of two digits: so many that one of them nearly always fits."""
    made = [*_absolute(distribution, [tenths / 10 for tenths in range(11, 100) if tenths % 10])]
    return (*made, *(_uncorrected(each, shrunk) for each in made)) if distribution == "truncated_normal" else (*made,)


def scaled(made: tuple[Candidate, ...]) -> Iterator[Candidate]:
    """Recipes with a scale on top, as people put it before the ends of residual branches or on heads."""
    for each in made:
        if each.doubt > 3:
            continue
        for factor, doubt in ((0.1, 1.0), (0.5, 1.5), (0.01, 2.0), (2.0, 2.5), (0.2, 3.0), (10.0, 3.0), (0.001, 3.0)):
            yield _times(each, factor, f"x {factor:g}", doubt)
        for depth in DEPTHS:
            yield _times(each, 1 / math.sqrt(2 * depth), f"/ sqrt(2*{depth})", 2.0)
        yield _times(each, 1 / math.sqrt(2), "/ sqrt(2)", 2.0)


def _times(each: Candidate, factor: float, told: str, doubt: float) -> Candidate:
    recipe = replace(each.recipe, name=f"{each.recipe.name} {told}", std=each.recipe.std * factor, factor=factor)
    return Candidate(recipe, each.doubt + 4 + doubt)


def _uncorrected(each: Candidate, shrunk: float) -> Candidate:
    recipe = each.recipe
    absolute = recipe.kind == "absolute"
    name = f"trunc_normal({written(recipe.std)})" if absolute else f"{recipe.name}, truncation not corrected"
    return Candidate(
        replace(recipe, name=name, std=recipe.std * shrunk, corrected=False), each.doubt + (-1.0 if absolute else 1.0)
    )


def _default(layer: LayerPlan, rows: Rows) -> Iterator[Candidate]:
    """What torch.nn's own modules start with."""
    shape, leaf = layer.shape, layer.param.rpartition(".")[2]
    if len(shape) < 2:
        return
    gates = {"lstm": 4, "gru": 3, "rnn": 1}.get(layer.op.partition("_")[0])
    if gates:
        hidden = shape[1] if leaf.startswith("weight_hr") else shape[0] // gates
        yield _bounded("hidden", hidden)
    elif layer.op == "bilinear":
        yield _bounded("in1", shape[1])
    elif layer.op == "multi_head_attention" and "out_proj" not in layer.param:
        std = math.sqrt(2 / (shape[0] + shape[1]))
        fans = "packed" if rows else "true"
        yield Candidate(Recipe("xavier_uniform, torch's default", "default", "uniform", std, mode="fan_avg",
                               fans=fans), 0.0)  # fmt: skip
    else:
        fan = shape[1] * math.prod(shape[2:])
        true = abs(place_of(layer, rows).fan_in - fan) < 1e-6 * fan
        yield Candidate(Recipe("kaiming_uniform(a=sqrt(5)), torch's default", "default", "uniform",
                               1 / math.sqrt(3 * fan), _DEFAULT_GAIN.value, _DEFAULT_GAIN.name, "fan_in",
                               "true" if true else "torch"), 0.0)  # fmt: skip


def _bounded(name: str, size: int) -> Candidate:
    return Candidate(Recipe(f"uniform(+-1/sqrt({name})), torch's default", "default", "uniform",
                            1 / math.sqrt(3 * size), 1 / ROOT_3), 0.0)  # fmt: skip


def _fan_based(layer: LayerPlan, rows: Rows, distribution: str) -> Iterator[Candidate]:
    for reading in readings(layer, rows):
        for mode, fan in reading.by_mode.items():
            if reading.fans == "shape[0]" and mode != "fan_in":
                continue
            yield from _with_gains(layer, rows, distribution, reading, mode, fan)
    fan_in = place_of(layer, rows).fan_in
    yield Candidate(Recipe(f"{distribution} of std fan_in^(-1/4)", "kaiming", distribution, fan_in**-0.25,
                           mode="fan_in", fans="true"), 6.0)  # fmt: skip


def _with_gains(
    layer: LayerPlan, rows: Rows, distribution: str, reading: Reading, mode: str, fan: float
) -> Iterator[Candidate]:
    kind = "xavier" if mode == "fan_avg" else "kaiming"
    gains = [*_own(layer, rows, kind), *_GAINS]
    if distribution == "uniform" and mode != "fan_avg":
        gains.append(_DEFAULT_GAIN)
    kept: list[Gain] = []
    for gain in sorted(gains, key=lambda each: each.xavier if kind == "xavier" else each.he):
        if any(abs(gain.value / other.value - 1) < SAME for other in kept):
            continue
        kept.append(gain)
        doubt = (gain.xavier if kind == "xavier" else gain.he) + reading.doubt + (1.0 if mode == "fan_out" else 0.0)
        name = _name(kind, distribution, mode, gain, reading.fans)
        yield Candidate(Recipe(name, kind, distribution, gain.value / math.sqrt(fan), gain.value, gain.name,
                               mode, reading.fans), doubt)  # fmt: skip


def _own(layer: LayerPlan, rows: Rows, kind: str) -> Iterator[Gain]:
    """The gain that the weight's place calls for, and the same passed where a slope is expected."""
    gain, name = place_of(layer, rows).gain, _own_name(layer, rows)
    doubt = 1.5 if kind == "kaiming" and name != "linear" else 3.0
    yield Gain(gain, name, doubt, 2.5)
    if gain != 1:
        yield Gain(_slope(gain), f"leaky_relu({written(gain)})", 6.0, 7.0)


def _own_name(layer: LayerPlan, rows: Rows) -> str:
    place = place_of(layer, rows)
    params = ", ".join(f"{value:.3g}" for value in place.params.values())
    return f"{place.nonlinearity}({params})" if params else place.nonlinearity


def _name(kind: str, distribution: str, mode: str, gain: Gain, fans: str) -> str:
    whose = {"true": "", "torch": "torch's fans", "unstrided": "stride ignored"}.get(fans, f"{fans} fans")
    if kind == "xavier":
        told = [f"gain={written(gain.value)}"] if gain.value != 1 else []
    else:
        a = gain.name.partition("leaky_relu(")[2].rstrip(")")
        told = [mode, f"a={a}" if a else gain.name]
    told += [whose] if whose else []
    return f"{kind}_{distribution}({', '.join(told)})" if told else f"{kind}_{distribution}"


def _absolute(distribution: str, digits: tuple[float, ...] | list[float]) -> Iterator[Candidate]:
    for decade in DECADES:
        for digit in digits:
            value = float(f"{digit:g}e{decade}")
            if value > 1:
                continue
            doubt = 2.0 if value in USUAL else 3.5 if digit == int(digit) else 6.0
            if distribution == "uniform":
                name = f"uniform(-{written(value)}, {written(value)})"
                yield Candidate(Recipe(name, "absolute", "uniform", value / ROOT_3), doubt + 0.5)
            else:
                name = (
                    f"normal({written(value)})"
                    if distribution == "normal"
                    else (f"truncated normal of std {written(value)}")
                )
                extra = 1.5 if distribution != "normal" else 0.0
                yield Candidate(Recipe(name, "absolute", distribution, value), doubt + extra)
