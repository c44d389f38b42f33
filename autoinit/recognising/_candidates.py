"""Every recipe that could have produced a weight of some geometry, with how unusual it is."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache

from autoinit.ops import recurrent_gates
from autoinit.plans.layers import LayerPlan, RowsPlan
from autoinit.recognising._readings import Reading, Rows, place_of, readings
from autoinit.recognising.recipes import Recipe, RecipeKind, written
from autoinit.theory.fans import Mode

ROOT_3 = math.sqrt(3)
DIGITS = (1.0, 2.0, 5.0, 3.0, 4.0, 6.0, 8.0, 7.0, 9.0)
TWO_DIGITS = tuple(tenths / 10 for tenths in range(11, 100) if tenths % 10)
DECADES = range(-6, 1)
USUAL = (0.02, 0.01, 0.001, 0.1, 0.05, 1.0, 0.005, 0.002)
DEPTHS = (2, 3, 4, 5, 6, 8, 10, 12, 16, 18, 20, 24, 28, 30, 32, 36, 40, 42, 48, 60, 64, 80, 96, 120, 126)
USUAL_DEPTHS = (2, 4, 6, 8, 12, 24, 32, 36, 48)
"""Numbers of blocks by which people scale residual branches."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A recipe and how unusual it is: minus the logarithm of how often it is met, up to a constant."""

    recipe: Recipe
    doubt: float

    @cached_property
    def doubted(self) -> Recipe:
        """The recipe, with its doubt."""
        return replace(self.recipe, doubt=self.doubt)


@dataclass(frozen=True)
class Gain:
    """A gain, what it is for, and how unusual it is with Kaiming's and with Xavier's fans (infinite: never met)."""

    value: float
    name: str
    he: float
    xavier: float = math.inf


def _slope(slope: float) -> float:
    return math.sqrt(2 / (1 + slope * slope))


_GAINS = (
    Gain(math.sqrt(2), "relu", 1.0, 3.5),
    Gain(1.0, "linear", 3.0, 1.5),
    Gain(5 / 3, "tanh", 4.0, 3.5),
    Gain(_slope(0.2), "leaky_relu(0.2)", 3.0, 5.0),
    Gain(_slope(0.01), "leaky_relu(0.01)", 3.5, 5.0),
    Gain(_slope(0.1), "leaky_relu(0.1)", 3.5, 5.0),
    Gain(0.75, "selu", 4.5, 5.0),
    Gain(_slope(math.sqrt(2)), "leaky_relu(sqrt(2))", 6.0),
    Gain(_slope(5 / 3), "leaky_relu(5/3)", 6.5),
)
_DEFAULT_GAIN = Gain(_slope(math.sqrt(5)), "leaky_relu(sqrt(5))", 4.0)
"""torch's default, met with fans other than its own."""
_MODES = {"fan_in": (0.0, 0.0), "fan_out": (1.0, 0.5), "fan_avg": (0.0, 0.75)}
"""How unusual each mode is, without and with a kernel: convolutions are rarely Xavier's."""
SAME = 0.01
"""Gains that differ by less are one: the more usual."""
SAME_STD = 1e-3
"""A std that differs less from that of a recipe with a name gets that name."""
UNUSUAL = 3.5
"""Numbers from this doubt on are met so rarely that they rule out no other explanation."""
MOST_USUAL = 1.5
"""Recipes up to this doubt are met everywhere: the default, He's for a rectifier, Xavier's, the gain of the plan."""
BASE = 2.5
"""Recipes up to this doubt are met with a scale on top."""


@dataclass(frozen=True)
class Window:
    """Standard deviations that are of interest: others are not made into recipes."""

    least: float = 0.0
    most: float = math.inf

    def __contains__(self, std: float) -> bool:
        return self.least <= std <= self.most


EVERYTHING = Window()


def candidates(
    layer: LayerPlan, rows: Rows, distribution: str, shrunk: float = 1.0, window: Window = EVERYTHING
) -> tuple[Candidate, ...]:
    """Recipes of one distribution for some rows of a weight, without a scale on top.

    Args:
        layer: the weight's plan.
        rows: half-open runs of its output features; the whole without them.
        distribution: `normal`, `uniform` or `truncated_normal`.
        shrunk: by how much truncation makes a std smaller that is not corrected for it.
        window: the standard deviations that are of interest.
    """
    wide = Window(window.least, window.most / shrunk)
    made = [*_default(layer, rows)] if distribution == "uniform" else []
    if distribution == "normal" and "embedding" in layer.note:
        made.append(Candidate(Recipe("normal(1), torch's default of embeddings", "default", "normal", 1.0), 0.0))
    made += _fan_based(layer, rows, distribution, wide)
    made += _absolute(distribution, DIGITS, wide)
    place = place_of(layer, rows)
    if layer.distribution == distribution and not any(
        abs(each.recipe.std - place.std) < SAME_STD * place.std for each in made
    ):
        made.append(Candidate(Recipe("autoinit's plan", "planned", distribution, place.std, place.gain,
                                     _own_name(place), place.mode, "true"), 0.5))  # fmt: skip
    return _truncated(made, shrunk, window) if distribution == "truncated_normal" else tuple(made)


def usual_stds(layer: LayerPlan, rows: Rows) -> tuple[float, ...]:
    """The stds that the most usual recipes give some rows of a weight, in ascending order: known before any is drawn.

    Args:
        layer: the weight's plan.
        rows: half-open runs of its output features; the whole without them.
    """
    drawn = (each for distribution in ("uniform", "normal") for each in candidates(layer, rows, distribution))
    return tuple(sorted({each.recipe.std for each in drawn if each.doubt <= MOST_USUAL}))


def exact(distribution: str, shrunk: float, window: Window) -> tuple[Candidate, ...]:
    """Absolute scales of two digits: so many that one of them nearly always fits."""
    wide = Window(window.least, window.most / shrunk)
    made = _absolute(distribution, TWO_DIGITS, wide)
    return _truncated(made, shrunk, window) if distribution == "truncated_normal" else tuple(made)


def scaled(made: Sequence[Candidate], window: Window) -> tuple[Candidate, ...]:
    """Recipes with a scale on top, as people put it before the ends of residual branches or on heads."""
    return tuple(
        Candidate(
            replace(each.recipe, name=f"{each.recipe.name} {words}", std=each.recipe.std * factor, factor=factor),
            each.doubt + doubt,
        )
        for each in made
        if each.doubt <= BASE and each.recipe.kind != "default"
        for factor, words, doubt in _FACTORS
        if each.recipe.std * factor in window
    )


def _factors() -> Iterator[tuple[float, str, float]]:
    for factor, doubt in ((0.1, 3.0), (0.5, 3.5), (0.01, 4.0), (2.0, 4.5), (0.2, 5.0), (10.0, 5.0), (0.001, 5.0)):
        yield factor, f"x {factor:g}", doubt
    yield 1 / math.sqrt(2), "/ sqrt(2)", 4.0
    for depth in DEPTHS:
        yield 1 / math.sqrt(2 * depth), f"/ sqrt(2*{depth})", 3.5 if depth in USUAL_DEPTHS else 4.5


_FACTORS = tuple(_factors())


def _truncated(made: Sequence[Candidate], shrunk: float, window: Window) -> tuple[Candidate, ...]:
    """Those of a window, corrected for the truncation, and those that are in it without the correction."""
    corrected = [each for each in made if each.recipe.std in window]
    others = [each for each in made if each.doubt <= UNUSUAL or each.recipe.kind == "absolute"]
    return (*corrected, *(_uncorrected(each, shrunk) for each in others if each.recipe.std * shrunk in window))


@lru_cache(maxsize=4096)
def _uncorrected(each: Candidate, shrunk: float) -> Candidate:
    recipe = each.recipe
    absolute = recipe.kind == "absolute"
    name = f"trunc_normal({written(recipe.std)})" if absolute else f"{recipe.name}, truncation not corrected"
    doubt = each.doubt + (-1.0 if absolute else 1.0)
    return Candidate(replace(recipe, name=name, std=recipe.std * shrunk, corrected=False), doubt)


def _default(layer: LayerPlan, rows: Rows) -> Iterator[Candidate]:
    """What torch.nn's own modules start with."""
    shape, leaf = layer.shape, layer.param.rpartition(".")[2]
    if len(shape) < 2:
        return
    if gates := recurrent_gates(layer.op):
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


@dataclass(frozen=True, eq=False)
class _FanScale:
    """The std that one gain and one fan give."""

    std: float
    distribution: str
    kind: RecipeKind
    mode: Mode
    gain: Gain
    fans: str
    doubt: float

    @cached_property
    def candidate(self) -> Candidate:
        """The recipe, written out: most are not asked for."""
        name = _name(self.kind, self.distribution, self.mode, self.gain, self.fans)
        recipe = Recipe(name, self.kind, self.distribution, self.std, self.gain.value, self.gain.name, self.mode,
                        self.fans)  # fmt: skip
        return Candidate(recipe, self.doubt)


def _fan_based(layer: LayerPlan, rows: Rows, distribution: str, window: Window) -> Iterator[Candidate]:
    place = place_of(layer, rows)
    if place.fan_in > 0 and place.fan_in**-0.25 in window:
        yield Candidate(Recipe(f"{distribution} of std fan_in^(-1/4)", "kaiming", distribution, place.fan_in**-0.25,
                               mode="fan_in", fans="true"), 6.0)  # fmt: skip
    scales = _fan_scales(place.gain, _own_name(place), readings(layer, rows), "k" in layer.axes, distribution)
    yield from (scale.candidate for scale in scales if scale.std in window)


@lru_cache(maxsize=1024)
def _fan_scales(
    gain: float, name: str, read: tuple[Reading, ...], kernel: bool, distribution: str
) -> tuple[_FanScale, ...]:
    """Every gain with every fan, each fan once. gain, name: those of the plan. kernel: the weight has one."""
    made: list[_FanScale] = []
    met: set[tuple[str, float]] = set()
    for reading in read:
        for mode, fan in reading.by_mode.items():
            kind: RecipeKind = "xavier" if mode == "fan_avg" else "kaiming"
            if reading.fans == "shape[0]" and (mode != "fan_in" or ("fan_out", round(fan, 6)) in met):
                continue
            if (mode, round(fan, 6)) in met:
                continue
            met.add((mode, round(fan, 6)))
            for each, doubt in _merged(gain, name, kind):
                if each is not _DEFAULT_GAIN or (distribution == "uniform" and mode != "fan_in"):
                    std, doubts = each.value / math.sqrt(fan), doubt + reading.doubt + _MODES[mode][kernel]
                    made.append(_FanScale(std, distribution, kind, mode, each, reading.fans, doubts))
    return tuple(made)


@lru_cache(maxsize=1024)
def _merged(gain: float, name: str, kind: RecipeKind) -> tuple[tuple[Gain, float], ...]:
    """Gains with how unusual they are, most usual first, without those that a more usual one stands for."""
    kept: list[tuple[Gain, float]] = []
    gains = (*_own(gain, name), *_GAINS, _DEFAULT_GAIN)
    doubts = [(each, each.xavier if kind == "xavier" else each.he) for each in gains]
    for each, doubt in sorted(doubts, key=lambda pair: pair[1]):
        if doubt < math.inf and not any(abs(each.value / other.value - 1) < SAME for other, _ in kept):
            kept.append((each, doubt))
    return tuple(kept)


def _own(gain: float, name: str) -> Iterator[Gain]:
    """The gain that a place calls for, and the same passed where a slope is expected."""
    yield Gain(gain, name, 3.0 if name == "linear" else 1.5, 2.5)
    if gain != 1:
        yield Gain(_slope(gain), f"leaky_relu({written(gain)})", 6.0)


def _own_name(place: RowsPlan) -> str:
    params = ", ".join(f"{value:.3g}" for value in place.params.values())
    return f"{place.nonlinearity}({params})" if params else place.nonlinearity


def _name(kind: str, distribution: str, mode: str, gain: Gain, fans: str) -> str:
    whose = {"true": "", "torch": "torch's fans", "unstrided": "stride ignored"}.get(fans, f"{fans} fans")
    if kind == "xavier":
        arguments = [f"gain={written(gain.value)}"] if gain.value != 1 else []
    else:
        a = gain.name.removeprefix("leaky_relu(").removesuffix(")") if gain.name.startswith("leaky_relu(") else ""
        arguments = [mode, f"a={a}" if a else gain.name]
    arguments += [whose] if whose else []
    return f"{kind}_{distribution}({', '.join(arguments)})" if arguments else f"{kind}_{distribution}"


def _absolute(distribution: str, digits: tuple[float, ...], window: Window) -> tuple[Candidate, ...]:
    """Those of a window, in ascending order of their std."""
    made, stds = _all_absolute(distribution, digits)
    return made[bisect_left(stds, window.least) : bisect_right(stds, window.most)]


@cache
def _all_absolute(distribution: str, digits: tuple[float, ...]) -> tuple[tuple[Candidate, ...], tuple[float, ...]]:
    """Candidates and their stds, both ascending."""
    values = sorted(float(f"{digit:g}e{decade}") for decade in DECADES for digit in digits)
    made = tuple(_absolute_of(distribution, value) for value in values if value <= 1)
    return made, tuple(each.recipe.std for each in made)


def _absolute_of(distribution: str, value: float) -> Candidate:
    digits = f"{value:e}".replace(".", "").rstrip("0").partition("e")[0].rstrip("0")
    doubt = 2.0 if value in USUAL else 3.5 if len(digits) == 1 else 5.0 if digits.endswith("5") else 7.0
    number = written(value)
    if distribution == "uniform":
        return Candidate(Recipe(f"uniform(-{number}, {number})", "absolute", "uniform", value / ROOT_3), doubt + 0.5)
    if distribution == "normal":
        return Candidate(Recipe(f"normal({number})", "absolute", "normal", value), doubt)
    return Candidate(Recipe(f"truncated normal of std {number}", "absolute", distribution, value), doubt + 1.5)
