"""Single faults to inject into a fresh model: what writes each, and which rule it is for."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from _places import SAME, Place, Slot, gain
from torch import nn

Write = Callable[[], object]


@dataclass(frozen=True)
class Fault:
    """One fault.

    told: what is done, for people. write: does it. params: that it may write. layers: any of which the finding may be
    about. code: of the rule that it is for; empty for a scale that no more special rule explains. scale_of: the weight
    whose std is wrong, if that is the fault. beside: (code, layer) of further findings that it rightly brings.
    """

    told: str
    write: Write
    params: tuple[str, ...]
    layers: tuple[str, ...]
    code: str = ""
    scale_of: Place | None = None
    beside: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class Ground:
    """A fresh model's weight layers, and its modules."""

    name: str
    model: nn.Module
    places: Sequence[Place]


Kind = Callable[[Ground], Iterator[Fault]]
Initialise = Callable[[torch.Tensor], object]


def _scale(place: Place, told: str, initialise: Initialise, code: str) -> Fault:
    return Fault(told, lambda: initialise(place.weight.detach()), (place.param,), (place.name,), code, place)


def _normal(std: float) -> Initialise:
    return lambda weight: nn.init.normal_(weight, 0.0, std)


def _uniform(std: float) -> Initialise:
    return lambda weight: nn.init.uniform_(weight, -math.sqrt(3) * std, math.sqrt(3) * std)


def _kaiming(place: Place, distribution: str, name: str, slope: float = 0.0) -> Initialise:
    """kaiming_*_ where torch's fan_in is the true one, else the same by hand."""
    if math.isclose(place.fan_in, place.torch_in) and name in ("linear", "relu", "leaky_relu", "tanh", "selu"):
        draw = nn.init.kaiming_normal_ if distribution == "normal" else nn.init.kaiming_uniform_
        return lambda weight: draw(weight, slope, "fan_in", name)  # type: ignore[arg-type]
    std = _torch_gain(name, slope) / math.sqrt(place.fan_in)
    return _normal(std) if distribution == "normal" else _uniform(std)


def _torch_gain(name: str, slope: float = 0.0) -> float:
    return nn.init.calculate_gain(name, slope) if name == "selu" else gain(name, slope)  # type: ignore[arg-type]


_GAINS = (("linear", 0.0), ("relu", 0.0), ("leaky_relu", 0.2), ("tanh", 0.0), ("selu", 0.0))


def _gain_code(place: Place, value: float) -> str | None:
    """The rule for a gain over the right fan; None if it is the right gain of any of the slots."""
    slot = place.slots[0]
    if any(math.isclose(value, each.gain, rel_tol=SAME) for each in place.slots):
        return None
    if slot.he:
        return "INI105"
    return "INI104" if value > max(each.gain for each in place.slots) else ""


def wrong_gain(ground: Ground) -> Iterator[Fault]:
    """The gain of another nonlinearity, over the right fan; Xavier's with it."""
    for place, (name, slope) in itertools.product(ground.places, _GAINS):
        value = _torch_gain(name, slope)
        code = _gain_code(place, value)
        if code is None:
            continue
        for distribution in ("normal", "uniform"):
            told = f"kaiming_{distribution}(nonlinearity={name}{f', a={slope}' if slope else ''})"
            yield _scale(place, told, _kaiming(place, distribution, name, slope), code)
        if not place.sliced and math.isclose(place.slots[0].fan_avg, (place.torch_in + place.torch_out) / 2):
            yield _scale(place, f"xavier_normal(gain={value:.3g})", partial(_xavier, value=value), code)


def _xavier(weight: torch.Tensor, value: float = 1.0) -> None:
    nn.init.xavier_normal_(weight, value)


def wrong_slope(ground: Ground) -> Iterator[Fault]:
    """Another slope than that of the rectifier that follows; its gain passed as slope."""
    for place in ground.places:
        own = place.slots[0].gain
        for slope in (0.2, 0.5, 1.0, own) if place.slots[0].he else ():
            value = gain("leaky_relu", slope)
            for distribution in ("normal", "uniform") if not math.isclose(value, own, rel_tol=SAME) else ():
                told = f"kaiming_{distribution}(a={slope:.3g})"
                yield _scale(place, told, _kaiming(place, distribution, "leaky_relu", slope), "INI105")


def wrong_fan(ground: Ground) -> Iterator[Fault]:
    """fan_out in place of fan_in, as torch reads it: without groups and strides, of conv_transpose the other way."""
    for place in ground.places:
        slot = place.slots[0]
        modes = {"fan_out": place.torch_out, "fan_in": place.torch_in}
        for mode, fan in modes.items():
            if math.isclose(fan, slot.fan_in, rel_tol=2 * SAME):
                continue
            std = slot.gain / math.sqrt(fan)
            yield _scale(place, f"normal, torch's {mode}", _normal(std), "INI106")
            yield _scale(place, f"uniform, torch's {mode}", _uniform(std), "INI106")
            if slot.row.nonlinearity in ("relu", "linear"):
                told = f"kaiming_normal({mode}, {slot.row.nonlinearity})"
                draw = partial(nn.init.kaiming_normal_, mode=mode, nonlinearity=slot.row.nonlinearity)  # type: ignore[arg-type]
                yield _scale(place, told, draw, "INI106")


def absolute(ground: Ground) -> Iterator[Fault]:
    """A std that depends on no fan."""
    for place in ground.places:
        for std in (0.02, 0.01, 0.05):
            yield _scale(place, f"normal(0, {std})", _normal(std), "INI109")
        yield _scale(place, "trunc_normal(std=0.02)", partial(nn.init.trunc_normal_, std=0.02), "INI109")
        cut = partial(nn.init.trunc_normal_, std=0.02, a=-0.04, b=0.04)
        yield _scale(place, "trunc_normal(0.02), cut at 2 sigma", cut, "INI109")


def truncated(ground: Ground) -> Iterator[Fault]:
    """The planned std, cut at two sigma and not corrected."""
    for place in ground.places:
        if len({slot.planned for slot in place.slots}) == 1:
            std = place.slots[0].planned
            draw = partial(nn.init.trunc_normal_, std=std, a=-2 * std, b=2 * std)
            yield _scale(place, f"trunc_normal({std:.3g}), cut at 2 sigma", draw, "INI108")


def default(ground: Ground) -> Iterator[Fault]:
    """As torch's constructor leaves it, bias and all."""
    for place in ground.places:
        module = place.module
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            bias = (f"{place.name}.bias",) if module.bias is not None else ()
            yield Fault("reset_parameters()", module.reset_parameters, (place.param, *bias), (place.name,), "INI103",
                        place, frozenset({("INI201", place.name)}))  # fmt: skip
        elif place.recurrent:
            bound = 1 / math.sqrt(place.hidden)
            yield _scale(place, "uniform(+-1/sqrt(hidden))", partial(nn.init.uniform_, a=-bound, b=bound), "INI103")


def packed(ground: Ground) -> Iterator[Fault]:
    """Several projections in one matrix, initialised as one."""
    draws: dict[str, Initialise] = {
        "xavier_uniform": nn.init.xavier_uniform_,
        "xavier_normal": nn.init.xavier_normal_,
        "orthogonal": nn.init.orthogonal_,
    }
    for place in ground.places:
        for told, draw in draws.items() if place.sliced else ():
            yield _scale(place, f"{told} of the whole matrix", draw, "INI107")


def scaled(ground: Ground) -> Iterator[Fault]:
    """Right, times a factor that no rule knows."""
    for place, factor in itertools.product(ground.places, (0.1, 3.0)):
        yield _scale(place, f"x {factor:g}", partial(_times, factor=factor), "")


def _times(weight: torch.Tensor, factor: float) -> None:
    weight.mul_(factor)


_OF_OUTPUTS = {"output", "softmax"}
"""Reasons of layers that give outputs; a softmax may stand inside, too, where nothing is injected either."""


def constant(ground: Ground) -> Iterator[Fault]:
    """One value throughout, where several outputs see the same inputs and have no targets of their own."""
    inside = (place for place in ground.places if not {slot.row.reason for slot in place.slots} <= _OF_OUTPUTS)
    for place in inside:
        for value in (0.5, 0.01, place.slots[0].planned) if place.alike > 1 else ():
            yield _broken(place, f"constant({value:.3g})", partial(nn.init.constant_, val=value), "INI004")


def identical(ground: Ground) -> Iterator[Fault]:
    """Two filters that see the same inputs, of one slice, or all of them, equal and not zero."""
    for place in ground.places:
        width = place.weight.numel() // place.weight.shape[place.outputs_on]
        if place.alike > 1 and width >= _FEWEST and place.weight.any():
            yield _broken(place, "two equal filters", partial(_twin, axis=place.outputs_on, others=(1,)), "INI004")
            every = range(1, min(place.alike, place.hidden if place.sliced else place.alike))
            yield _broken(place, "equal filters", partial(_twin, axis=place.outputs_on, others=every), "INI004")


_FEWEST = 4
"""Filters with fewer elements may be equal by chance in low precision."""


def _twin(weight: torch.Tensor, axis: int, others: Sequence[int]) -> None:
    first = weight.select(axis, 0).clone()
    for other in others:
        weight.select(axis, other).copy_(first)


def nonfinite(ground: Ground) -> Iterator[Fault]:
    """NaN or an infinity."""
    for place in ground.places:
        at = place.weight.numel() // 2
        for told, value in (("NaN", math.nan), ("infinity", math.inf), ("minus infinity", -math.inf)):
            yield _broken(place, f"one {told}", partial(_put, at=at, value=value), "INI001")
        yield _broken(place, "all NaN", partial(nn.init.constant_, val=math.nan), "INI001")


def _put(weight: torch.Tensor, at: int, value: float) -> None:
    weight.view(-1)[at] = value


def memory(ground: Ground) -> Iterator[Fault]:
    """What memory may hold: other numbers' bits, denormals."""
    draws = {"random exponents": _exponents, "denormals": _denormals, "zeros and some addresses": _addresses}
    for place, (told, draw) in itertools.product(ground.places, draws.items()):
        if place.weight.numel() >= _FEWEST:
            yield _broken(place, told, draw, "INI002")


def _exponents(weight: torch.Tensor) -> None:
    exponents = torch.empty_like(weight).uniform_(-37, 37)
    weight.copy_(torch.where(torch.rand_like(weight) < 0.5, -1.0, 1.0) * 10**exponents)
    weight.view(-1)[0] = 1e30


def _denormals(weight: torch.Tensor) -> None:
    bits = torch.randint(1, 1 << 20, weight.shape, dtype=torch.int32)
    weight.copy_(bits.view(torch.float32))


def _addresses(weight: torch.Tensor) -> None:
    """Zeros, and every eighth number the low half of a pointer: as a float it may be of any size."""
    weight.zero_()
    bits = torch.randint(0x40000000, 0x7F000000, (-(-weight.numel() // 8),), dtype=torch.int32)
    bits[0] = 0x7E000000
    weight.view(-1)[::8] = bits.view(torch.float32)


def clone(ground: Ground) -> Iterator[Fault]:
    """A copy of another layer of the same shape."""
    by_shape: dict[tuple[int, ...], list[Place]] = {}
    for place in ground.places:
        if place.weight.numel() >= 2 * _FEWEST and place.weight.any():
            by_shape.setdefault(tuple(place.weight.shape), []).append(place)
    for group in by_shape.values():
        for place, source in itertools.permutations(group, 2):
            if place.axes == source.axes:
                beside = frozenset((code, place.name) for code in SCALE)
                yield Fault(f"copy of {source.name}", partial(_copy, place.weight, source.weight), (place.param,),
                            (place.name, source.name), "INI005", None, beside if _strays(place, source) else frozenset()
                            )  # fmt: skip


def _strays(place: Place, source: Place) -> bool:
    """Whether another layer's values may have the wrong scale here."""
    return any(slot.is_fault(source.std(slot)) for slot in place.slots)


SCALE = ("INI101", "INI102", "INI103", "INI104", "INI105", "INI106", "INI107", "INI108", "INI109")


def _copy(weight: nn.Parameter, source: nn.Parameter) -> None:
    weight.detach().copy_(source.detach())


def stuck_zero(ground: Ground) -> Iterator[Fault]:
    """Zero before a rectifier that passes no gradient at zero, the bias being zero; both factors of a product."""
    known = {place.name: place for place in ground.places}
    for place in ground.places:
        if place.slots[0].row.nonlinearity in _DEAD_AT_ZERO:
            yield _broken(place, "zeros", nn.init.zeros_, "INI003")
    for first, second in _products(known):
        yield Fault("zeros, both", partial(_zero, known[first], known[second]), (known[first].param,
                    known[second].param), (first, second), "INI003")  # fmt: skip


_DEAD_AT_ZERO = ("relu", "relu6")
"""torch takes their derivative at zero as 0."""
_PRODUCTS: Mapping[str, str] = {
    "mlp.c_fc": "mlp.c_proj",
    "feed_forward.w1": "feed_forward.w3",
    "attention.wv": "attention.wo",
    "attention.wq": "attention.wk",
    "block.3": "block.5",
    "mlp.0": "mlp.3",
    "fc1": "fc2",
}
"""Ends of names of layers that only reach the output multiplied with each other, phi(0) = 0 between them or nothing."""


def _products(known: Mapping[str, Place]) -> Iterator[tuple[str, str]]:
    for name in known:
        for end, other in _PRODUCTS.items():
            partner = name.removesuffix(end) + other
            if name.endswith(end) and partner in known and known[name].slots[0].row.nonlinearity in _VANISHING:
                yield name, partner


_VANISHING = ("linear", "gelu", "silu")


def _zero(*places: Place) -> None:
    for place in places:
        place.weight.detach().zero_()


def large_bias(ground: Ground) -> Iterator[Fault]:
    """A bias of several standard deviations, constant. Before sigmoid it may be a prior."""
    for place in ground.places:
        bias = getattr(place.module, "bias", None)
        if isinstance(bias, nn.Parameter) and place.slots[0].row.nonlinearity != "sigmoid":
            for value in (3.0, -2.0):
                yield Fault(f"bias {value:g}", partial(nn.init.constant_, bias.detach(), value),
                            (f"{place.name}.bias",), (place.name,), "INI201")  # fmt: skip


def changed_norm(ground: Ground) -> Iterator[Fault]:
    """A norm's gain elsewhere than at 1."""
    draws: dict[str, Initialise] = {
        "constant(0.5)": partial(nn.init.constant_, val=0.5),
        "constant(2)": partial(nn.init.constant_, val=2.0),
        "uniform(0, 1)": nn.init.uniform_,
        "normal(1, 0.02)": partial(nn.init.normal_, mean=1.0, std=0.02),
    }
    for name, module in ground.model.named_modules():
        weight = getattr(module, "weight", None)
        if "Norm" in type(module).__name__ and isinstance(weight, nn.Parameter):
            for told, draw in draws.items():
                yield Fault(f"gain {told}", partial(draw, weight.detach()), (f"{name}.weight",), (name,), "INI202")


def _broken(place: Place, told: str, initialise: Initialise, code: str) -> Fault:
    return Fault(told, lambda: initialise(place.weight.detach()), (place.param,), (place.name,), code)


KINDS: Mapping[str, Kind] = {
    "wrong gain": wrong_gain,
    "wrong slope": wrong_slope,
    "wrong fan": wrong_fan,
    "absolute std": absolute,
    "truncation": truncated,
    "torch default": default,
    "packed matrix": packed,
    "scaled": scaled,
    "constant": constant,
    "identical filters": identical,
    "non-finite": nonfinite,
    "memory": memory,
    "clone": clone,
    "stuck zero": stuck_zero,
    "large bias": large_bias,
    "norm gain": changed_norm,
}
"""Every kind of fault, by the name that tables give it."""


def right_codes(fault: Fault, noisy: bool) -> frozenset[str]:
    """Codes of the rules that a fault's finding may have: its own, and those whose formula gives the same std.

    noisy: what the layer's size cannot tell apart is the same, too, and so is what a call of torch.nn.init gives that
    is wrong in two things.
    """
    place = fault.scale_of
    if place is None:
        return frozenset({fault.code})
    found: set[str] = set()
    for slot in place.slots:
        std = place.std(slot)
        if slot.is_fault(std):
            plain = "INI101" if std < slot.planned else "INI102"
            margin = max(SAME, _uncertainty(slot)) if noisy else SAME
            found |= {fault.code or plain, *place.explained(slot, std, margin)}
            found |= set(place.explained_by_calls(slot, std, margin)) if noisy else set()
    return frozenset(found)


def _uncertainty(slot: Slot) -> float:
    """Three standard errors of a std."""
    return 3 / math.sqrt(2 * slot.count)


def is_fault(fault: Fault) -> bool:
    """Whether what was written is a fault: of scales, whether tolerance and noise leave any slot off."""
    place = fault.scale_of
    return place is None or any(slot.is_fault(place.std(slot)) for slot in place.slots)
