"""Random networks without norms, built twice: with their nonlinearities, and with what each is to a pair in its place.

By hand, for a pair of units z and -z that is read with opposite signs: of ReLU, GELU, SiLU and softplus z is left, of
LeakyReLU with slope s (1 + s) z, and of a gate u * sigmoid(v) u. A pair z / 2 and -z / 2 without a nonlinearity leaves
z as well. So the linear network has z / 2 in place of relu(z), (1 + s) z / 2 in place of leaky_relu(z), and u / 2 in
place of the gate.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Curve = Callable[[Tensor], Tensor]


class Spelled(nn.Module):
    """A function as a module."""

    def __init__(self, function: Curve) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


CURVES: dict[str, tuple[Curve, float]] = {
    "relu": (F.relu, 1.0),
    "nn.ReLU": (nn.ReLU(), 1.0),
    "clamp": (lambda x: x.clamp(min=0), 1.0),
    "gelu": (F.gelu, 1.0),
    "written gelu": (lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5)), 1.0),
    "silu": (nn.SiLU(), 1.0),
    "written silu": (lambda x: x * torch.sigmoid(x), 1.0),
    "softplus": (F.softplus, 1.0),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.2), 1.2),
    "where": (lambda x: torch.where(x > 0, x, 0.3 * x), 1.3),
    "gate": (lambda x: F.glu(x, 1), 1.0),
    "written gate": (lambda x: torch.mul(*_halves(x, 1)), 1.0),
    "gate in turn": (lambda x: x[:, ::2] * torch.sigmoid(x[:, 1::2]), 1.0),
}
"""Each nonlinearity over axis 1 and what it leaves of a pair. Gates halve the features."""


def _halves(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    first, second = x.chunk(2, axis)
    return first, torch.sigmoid(second)


@dataclass
class Network(nn.Module):
    """A chain of parts; `linear` puts the linear stand-in of each nonlinearity in its place.

    parts: functions of an input and of whether the network is linear.
    """

    seed: int
    parts: list[Callable[[Tensor, bool], Tensor]] = field(default_factory=list)
    linear: bool = False

    def __post_init__(self) -> None:
        super().__init__()
        self.draw = random.Random(self.seed)
        self.convolutional = self.draw.random() < 0.5
        self.layers = nn.ModuleList()
        self.names: list[str] = []
        self.width = 3
        self.parts.append(self.joint(self.bent(8)))
        for _ in range(self.draw.randint(2, 4)):
            kinds = [
                self.plain,
                self.plain,
                self.branch,
                self.joined,
                self.parted,
                self.shared,
                self.gated,
                self.summed,
            ]
            kinds += [self.thinned, self.between] * self.convolutional
            self.parts.append(self.draw.choice(kinds)())
        self.parts.append(self.ending())

    __hash__ = nn.Module.__hash__

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x, self.linear)
        return x

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Inputs."""
        return torch.randn(count, 3, *(6, 6) * self.convolutional, generator=generator, dtype=torch.float64)

    # Pieces.

    def weight(self, inputs: int, outputs: int, groups: int = 1) -> nn.Module:
        """A layer, of one of the kinds that keep the size of the image."""
        if not self.convolutional:
            made: nn.Module = nn.Linear(inputs, outputs)
        elif self.draw.random() < 0.2:
            made = nn.ConvTranspose2d(inputs, outputs, 3, padding=1, groups=groups)
        else:
            size = self.draw.choice((1, 3))
            dilation = self.draw.choice((1, 2)) if size == 3 else 1
            made = nn.Conv2d(inputs, outputs, size, padding=dilation * (size // 2), dilation=dilation, groups=groups)
        self.layers.append(made)
        return made

    def bent(
        self, features: int, inputs: int | None = None, groups: int = 1, gates: bool = True
    ) -> Callable[[Tensor, bool], Tensor]:
        """A layer with a nonlinearity behind it, `features` wide. gates: whether it may be one."""
        names = [each for each in CURVES if gates or "gate" not in each]
        name = self.draw.choice(names) if groups == 1 else "relu"
        curve, slope = CURVES[name]
        self.names.append(name)
        layer = self.weight(inputs or self.width, features * (2 if "gate" in name else 1), groups)

        def run(x: Tensor, linear: bool) -> Tensor:
            x = layer(x)
            if not linear:
                return curve(x)
            return slope / 2 * (x[:, ::2] if name == "gate in turn" else x.chunk(2, 1)[0] if "gate" in name else x)

        return run

    def joint(self, part: Callable[[Tensor, bool], Tensor], features: int = 8) -> Callable[[Tensor, bool], Tensor]:
        """The part, and from here on so many features."""
        self.width = features
        return part

    def plain(self) -> Callable[[Tensor, bool], Tensor]:
        features = self.draw.choice((8, 12, 7))
        groups = (
            2 if self.convolutional and self.width % 4 == 0 and features % 4 == 0 and self.draw.random() < 0.4 else 1
        )
        return self.joint(self.bent(features, groups=groups), features)

    def branch(self) -> Callable[[Tensor, bool], Tensor]:
        """x -> W x + B phi(A W x): what is added to is no pair any more."""
        into = self.weight(self.width, 8)
        bent, out = self.bent(12, inputs=8), self.weight(12, 8)
        again = self.bent(8, inputs=8)
        self.width = 8

        def run(x: Tensor, linear: bool) -> Tensor:
            x = into(x)
            return again(x + out(bent(x, linear)), linear)

        return run

    def joined(self) -> Callable[[Tensor, bool], Tensor]:
        """Two layers side by side."""
        one, other = self.bent(8), self.bent(6)
        return self.joint(lambda x, linear: torch.cat([one(x, linear), other(x, linear)], 1), 14)

    def parted(self) -> Callable[[Tensor, bool], Tensor]:
        """Two halves of a layer's units, read by layers of their own, whose outputs are added before a nonlinearity."""
        whole, first, second = self.bent(8), self.weight(4, 8), self.weight(4, 8)

        def run(x: Tensor, linear: bool) -> Tensor:
            one, other = whole(x, linear).split(4, 1)
            made = first(one) + second(other)
            return made / 2 if linear else F.relu(made)

        return self.joint(run)

    def summed(self) -> Callable[[Tensor, bool], Tensor]:
        """What is bent twice, and its double, added up and read."""
        self.names.append("sum behind nonlinearities")
        one, other = self.bent(8, gates=False), self.bent(8, inputs=8, gates=False)

        def run(x: Tensor, linear: bool) -> Tensor:
            x = one(x, linear)
            return x - 0.5 * other(x, linear)

        return self.joint(run)

    def gated(self) -> Callable[[Tensor, bool], Tensor]:
        """A weight of its own for the gate, which also reads what is gated before a layer more."""
        self.names.append("gate of two weights")
        bent, gate = self.bent(8), self.weight(8, 6)
        deeper = self.bent(8, inputs=8) if self.draw.random() < 0.5 else _same
        value = self.weight(8, 6)

        def run(x: Tensor, linear: bool) -> Tensor:
            x = bent(x, linear)
            made = value(deeper(x, linear))
            return made / 2 if linear else made * torch.sigmoid(gate(x))

        return self.joint(run, 6)

    def thinned(self) -> Callable[[Tensor, bool], Tensor]:
        """A depthwise convolution that reads pairs, and one over channels behind it."""
        self.names.append("depthwise")
        bent, times = self.bent(8), self.draw.choice((1, 2))
        depthwise = nn.Conv2d(8, 8 * times, 3, padding=1, groups=8)
        self.layers.append(depthwise)
        point = self.weight(8 * times, 8)

        def run(x: Tensor, linear: bool) -> Tensor:
            x = point(depthwise(bent(x, linear)))
            return x / 2 if linear else F.silu(x)

        return self.joint(run)

    def between(self) -> Callable[[Tensor, bool], Tensor]:
        """A depthwise convolution between two ReLUs: relu(p relu(z)) is p relu(z) for p > 0."""
        self.names.append("depthwise between nonlinearities")
        layer, times = self.weight(self.width, 8), self.draw.choice((1, 2))
        depthwise = nn.Conv2d(8, 8 * times, 3, padding=1, groups=8)
        self.layers.append(depthwise)
        point = self.weight(8 * times, 8)

        def run(x: Tensor, linear: bool) -> Tensor:
            x = layer(x) / 2 if linear else F.relu(layer(x))
            x = point(depthwise(x) if linear else F.relu(depthwise(x)))
            return x / 2 if linear else F.silu(x)

        return self.joint(run)

    def shared(self) -> Callable[[Tensor, bool], Tensor]:
        """One layer used twice, in a row. (It must read the same nonlinearity, or at least one with the same slope.)"""
        into, layer = self.weight(self.width, 8), self.weight(8, 8)

        def run(x: Tensor, linear: bool) -> Tensor:
            for each in (into, layer, layer):
                x = each(x) / 2 if linear else torch.relu(each(x))
            return x

        return self.joint(run)

    def ending(self) -> Callable[[Tensor, bool], Tensor]:
        """A head, behind the image as a whole or its mean."""
        if not self.convolutional:
            return _ignoring(self.weight(self.width, 4))
        flat = self.draw.random() < 0.5
        head = nn.Linear(self.width * (36 if flat else 1), 4)
        self.layers.append(head)
        return lambda x, _linear: head(x.flatten(1) if flat else F.adaptive_avg_pool2d(x, 1).flatten(1))


def _same(x: Tensor, _linear: bool) -> Tensor:
    return x


def _ignoring(layer: nn.Module) -> Callable[[Tensor, bool], Tensor]:
    return lambda x, _linear: layer(x)
