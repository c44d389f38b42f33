"""What every weight of a truth model calls for, and what explains a std: formulas alone, none of autoinit's."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache

import torch
import torch.nn.functional as F
from _truth import Case, Row
from scipy import stats
from torch import nn

TOLERANCE = 0.10
"""A std that is off by less is no fault."""
CHANCE = 1e-7
"""Nor one that a right draw strays to with a higher probability: 5.3 sigma."""
SAME = 0.03
"""Formulas that give stds no further apart explain the same weight."""
TRUNCATED = float(stats.truncnorm.std(-2, 2))
"""Std of N(0, 1) cut at two sigma."""
XAVIER = ("linear", "sigmoid", "softmax", "tanh")
"""What has Glorot's scheme; everything else has He's."""
BRANCHES: Mapping[str, Mapping[str, int]] = {
    "resnet18": {"layer*.conv2": 2},
    "resnet50": {f"layer{stage}.*.conv3": blocks for stage, blocks in enumerate((3, 4, 6, 3), start=1)},
    "mobilenet_v2": {f"features.{block}.conv.2": length
                     for blocks, length in (((5, 6), 2), ((8, 9, 10), 3), ((12, 13), 2), ((15, 16), 2))
                     for block in blocks},
    "mobilenet_v3_small": {f"features.{block}.block.3.0": 2 for block in (5, 6, 10, 11)},
    "efficientnet_b0": {f"features.{stage}.*.block.3.0": length for stage, length in ((4, 2), (5, 2), (6, 3))},
    "convnext_tiny": {f"features.{stage}.*.block.5": depth for stage, depth in ((1, 3), (3, 3), (5, 9), (7, 3))},
    "swin_t": {f"features.{stage}.*.{end}": 2 * depth for stage, depth in ((1, 2), (3, 2), (5, 6), (7, 2))
               for end in ("attn.proj", "mlp.3")},
    "vit_b_16": {"*.self_attention.out_proj": 24, "*.mlp.3": 24},
    "gpt2_split": {"*.c_proj": 4},
    "gpt2_unbind": {"*.c_proj": 4},
    "llama": {"*.wo": 4, "*.w2": 4},
    "llama_qk_norm": {"*.wo": 4, "*.w2": 4},
    "rrdb": {"*.conv5": 9, "conv_body": 9},
}  # fmt: skip
"""How many branches add into the residual stream that a layer ends a branch of, counted in the architectures.

Of RRDB's nested streams the most that any count gives: six dense blocks, two blocks, one whole body.
"""


@cache
def gain(name: str, slope: float = 0.0) -> float:
    """Of a nonlinearity: torch's where torch has one, else 1 / sqrt(E[phi(z)^2]) by summation over a fine grid."""
    if name in ("linear", "relu", "leaky_relu"):
        return nn.init.calculate_gain(name, slope)  # type: ignore[arg-type]
    if name in XAVIER:
        return 5 / 3 if name == "tanh" else 1.0
    z = torch.linspace(-12, 12, 240_001, dtype=torch.float64)
    power = getattr(F, name)(z).square() * torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    return 1 / math.sqrt(float(torch.trapezoid(power, z)))


def noise(count: int) -> tuple[float, float]:
    """Bounds on sample std / true std of so many normal elements: the chi-square distribution's."""
    low, high = stats.chi2.ppf(CHANCE / 2, count), stats.chi2.isf(CHANCE / 2, count)
    return math.sqrt(low / count), math.sqrt(high / count)


@dataclass(frozen=True)
class Slot:
    """A weight, or the rows of it that one row of the truth table is about.

    rows: half-open runs; empty for all. count: elements. branches: of the residual stream; 1 beside none.
    """

    rows: tuple[tuple[int, int], ...]
    row: Row
    count: int
    fan_in: float
    fan_out: float
    branches: int = 1

    @property
    def gain(self) -> float:
        return gain(self.row.nonlinearity, self.row.params.get("negative_slope", 0.0))

    @property
    def he(self) -> bool:
        return self.row.nonlinearity not in XAVIER

    @property
    def fan_avg(self) -> float:
        return (self.fan_in + self.fan_out) / 2

    @property
    def planned(self) -> float:
        """He et al. 2015, eq. 10; Glorot & Bengio 2010, eq. 12."""
        return self.gain / math.sqrt(self.fan_in if self.he else self.fan_avg)

    @property
    def accepted(self) -> tuple[float, float]:
        """The least and greatest std that are right.

        For Glorot's scheme all from gain / sqrt(fan_in) to the compromise, for tanh with any gain from 1 to 5/3; at the
        end of one of L branches down to 1 / sqrt(L) of it.
        """
        ends = [self.planned, self.gain / math.sqrt(self.fan_in)]
        least = min(ends) / (5 / 3 if self.row.nonlinearity == "tanh" else 1)
        return least / math.sqrt(self.branches), max(ends)

    def is_fault(self, std: float) -> bool:
        """Whether a drawn std is off by more than tolerance and noise explain. Zero is no scale."""
        low, high = self.accepted
        less, more = noise(self.count)
        return std > 0 and not low * less / (1 + TOLERANCE) <= std <= high * more * (1 + TOLERANCE)


@dataclass(frozen=True)
class Place:
    """A weight layer of a truth model.

    name: as in the table. param: its weight. slots: one for each row of the table. alike: outputs that see the same
    inputs. fan_in, fan_out of all rows: by geometry. torch_in, torch_out: as torch reads them from the shape.
    """

    name: str
    param: str
    module: nn.Module
    weight: nn.Parameter
    slots: tuple[Slot, ...]
    fan_in: float
    fan_out: float
    torch_in: int
    torch_out: int
    alike: int
    outputs_on: int

    @property
    def axes(self) -> tuple[int, str]:
        """Enough of the layout to tell whether two weights of one shape mean the same."""
        return self.outputs_on, type(self.module).__name__

    @property
    def recurrent(self) -> bool:
        return isinstance(self.module, nn.RNNBase)

    @property
    def sliced(self) -> bool:
        return len(self.slots) > 1

    @property
    def hidden(self) -> int:
        """Rows of one gate or projection."""
        return self.weight.shape[0] // len(self.slots)

    @property
    def default(self) -> float | None:
        """The std that torch.nn's own module starts with; None for a bare parameter."""
        if self.recurrent:
            return 1 / math.sqrt(3 * self.hidden)
        if self.param.endswith("in_proj_weight"):
            return self.packed
        return (
            1 / math.sqrt(3 * self.torch_in) if isinstance(self.module, nn.Linear | nn.modules.conv._ConvNd) else None
        )

    @property
    def packed(self) -> float:
        """Xavier's std of the matrix as it is held."""
        return math.sqrt(2 / (self.torch_in + self.torch_out))

    def std(self, slot: Slot) -> float:
        """Root mean square of a slot's elements now."""
        values = self.weight.detach()
        if slot.rows:
            values = torch.cat([values[start:stop] for start, stop in slot.rows])
        return float(values.double().square().mean().sqrt())

    def explained(self, slot: Slot, std: float, margin: float) -> Iterator[str]:
        """Codes of the rules for the one fault that gives these rows this std, to within a relative margin."""
        return (code for code, each in self._single(slot) if math.isclose(std, each, rel_tol=margin))

    def explained_by_calls(self, slot: Slot, std: float, margin: float) -> Iterator[str]:
        """Codes of the rules for what is wrong with torch.nn.init's own calls that give this std: gain, fan or both."""
        for value, fan in itertools.product(CALLED, (self.torch_in, self.torch_out)):
            if math.isclose(std, value / math.sqrt(fan), rel_tol=margin):
                yield from self._wrong(slot, value, fan)
        average = (self.torch_in + self.torch_out) / 2
        for value in CALLED:
            if math.isclose(std, value / math.sqrt(average), rel_tol=margin):
                yield from self._wrong(slot, value, average)

    def _wrong(self, slot: Slot, value: float, fan: float) -> Iterator[str]:
        if not math.isclose(value, slot.gain, rel_tol=SAME):
            yield self._gain_code(slot, value)
        if not any(math.isclose(fan, right, rel_tol=SAME) for right in (slot.fan_in, slot.fan_avg)):
            yield "INI106"

    def _gain_code(self, slot: Slot, value: float) -> str:
        return "INI105" if slot.he else "INI104" if value > slot.gain else "INI101"

    def _single(self, slot: Slot) -> Iterator[tuple[str, float]]:
        if self.default is not None:
            yield "INI103", self.default
        for value in GAINS:
            if not math.isclose(value, slot.gain, rel_tol=SAME):
                code = self._gain_code(slot, value)
                yield from ((code, value / math.sqrt(fan)) for fan in (slot.fan_in, slot.fan_avg))
        fans = {self.fan_out, slot.fan_out, *map(float, (self.torch_in, self.torch_out, self.weight.shape[0]))}
        yield from (("INI106", slot.gain / math.sqrt(fan)) for fan in fans)
        if self.sliced:
            yield from (("INI107", std) for std in (self.packed, slot.gain / math.sqrt(self.torch_out)))
        yield "INI108", TRUNCATED * slot.planned
        numbers = [digit * 10.0**decade for digit in (1, 2, 5) for decade in range(-6, 1)]
        yield from (("INI109", number) for number in numbers)
        yield from (("INI109", number / math.sqrt(3)) for number in numbers)


CALLED = (1.0, math.sqrt(2), gain("leaky_relu", 0.2), 5 / 3, 0.75)
"""Gains that torch.nn.init knows, of linear, relu, leaky_relu(0.2), tanh and selu."""
GAINS = (*CALLED, *(gain("leaky_relu", slope) for slope in (0.1, 0.5, math.sqrt(2), 5 / 3)), gain("gelu"), gain("silu"))


def places(case: Case, model: nn.Module) -> list[Place]:
    """Every weight layer of a truth model."""
    parameters = dict(model.named_parameters())
    found = []
    for name, row in case.table().items():
        param = name if name in parameters else f"{name}.weight"
        module = model.get_submodule(param.rpartition(".")[0])
        found.append(_place(case.name, name, param, module, parameters[param], row))
    return found


def _place(model: str, name: str, param: str, module: nn.Module, weight: nn.Parameter, row: Row) -> Place:
    geometry = _geometry(module, weight)
    branches = next((length for glob, length in BRANCHES.get(model, {}).items() if fnmatchcase(name, glob)), 1)
    slots = tuple(
        Slot(rows, part, sum(stop - start for start, stop in rows) * weight[0].numel(), geometry.fan_in,
             geometry.fan_out * sum(stop - start for start, stop in rows) / weight.shape[0], branches)
        for rows, part in row.slices
    )  # fmt: skip
    slots = slots or (Slot((), row, weight.numel(), geometry.fan_in, geometry.fan_out, branches),)
    torch_in, torch_out = nn.init._calculate_fan_in_and_fan_out(weight)
    return Place(name, param, module, weight, slots, geometry.fan_in, geometry.fan_out, torch_in, torch_out,
                 geometry.alike, geometry.outputs_on)  # fmt: skip


@dataclass(frozen=True)
class _Geometry:
    """outputs_on: the axis that output features lie on."""

    fan_in: float
    fan_out: float
    alike: int
    outputs_on: int


def _geometry(module: nn.Module, weight: torch.Tensor) -> _Geometry:
    """Products per output and per input, from the module's own attributes."""
    if isinstance(module, nn.modules.conv._ConvNd):
        groups, area, strides = module.groups, math.prod(module.kernel_size), math.prod(module.stride)
        inputs, outputs = module.in_channels / groups, module.out_channels / groups
        if module.transposed:
            return _Geometry(inputs * area / strides, outputs * area, int(outputs), 1)
        return _Geometry(inputs * area, outputs * area / strides, int(outputs), 0)
    if weight.dim() == 3:  # experts of (in, out)
        return _Geometry(float(weight.shape[1]), float(weight.shape[2]), weight.shape[2], 2)
    return _Geometry(float(weight.shape[1]), float(weight.shape[0]), weight.shape[0], 0)
