"""Random networks whose right answer is known by construction, as they are put together from known pieces.

A network is drawn as a description. `Network` runs it; `Truth` says, without torch, where the output of each layer
goes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from autoinit.resolving import Resolution, resolve
from autoinit.tracing import trace

WIDTH = 4


# The description.


@dataclass(frozen=True)
class Layer:
    name: str
    style: str
    inputs: int = WIDTH


@dataclass(frozen=True)
class Act:
    kind: str
    style: str
    number: int


@dataclass(frozen=True)
class Norm:
    style: str
    number: int


@dataclass(frozen=True)
class Pass:
    style: str
    number: int


@dataclass(frozen=True)
class Residual:
    body: tuple[Piece, ...]
    style: str


@dataclass(frozen=True)
class Sum:
    bodies: tuple[tuple[Piece, ...], ...]


@dataclass(frozen=True)
class Concat:
    """Bodies side by side, then what `after` does, a layer at its end."""

    bodies: tuple[tuple[Piece, ...], ...]
    after: tuple[Piece, ...]


@dataclass(frozen=True)
class Gate:
    """value(x) * sigmoid(gate(x))"""

    value: tuple[Piece, ...]
    gate: tuple[Piece, ...]
    style: str


Piece: TypeAlias = Layer | Act | Norm | Pass | Residual | Sum | Concat | Gate


@dataclass(frozen=True)
class Description:
    image: bool
    pieces: tuple[Piece, ...]
    ending: str


# Spellings. Those of `IN_PLACE` are used right after a layer only.

ACTS: dict[str, dict[str, Callable[[Tensor], Tensor]]] = {
    "relu": {
        "function": F.relu,
        "torch": torch.relu,
        "method": lambda x: x.relu(),
        "clamp": lambda x: x.clamp(min=0),
        "where": lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
        "in_place": lambda x: F.relu(x, inplace=True),
        "in_place_method": lambda x: x.relu_(),
    },
    "leaky_relu": {
        "function": lambda x: F.leaky_relu(x, 0.2),
        "keyword": lambda x: F.leaky_relu(x, negative_slope=0.2),
        "where": lambda x: torch.where(x > 0, x, 0.2 * x),
        "maximum": lambda x: torch.maximum(x, 0.2 * x),
        "in_place": lambda x: F.leaky_relu_(x, 0.2),
    },
    "tanh": {"function": torch.tanh, "method": lambda x: x.tanh(), "in_place": lambda x: x.tanh_()},
    "gelu": {"function": F.gelu, "written": lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))},
    "silu": {
        "function": F.silu,
        "written": lambda x: x * torch.sigmoid(x),
        "in_place": lambda x: F.silu(x, inplace=True),
    },
    "sigmoid": {"function": torch.sigmoid, "method": lambda x: x.sigmoid()},
}
MODULES: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
}
PARAMS = {"leaky_relu": {"negative_slope": 0.2}}
GAINS = {"sigmoid": 1.0, "leaky_relu": math.sqrt(2 / 1.04), "relu": math.sqrt(2), "gelu": 1.5335, "tanh": 5 / 3,
         "silu": 1.6765}  # fmt: skip

PASSES: dict[str, Callable[[Tensor], Tensor]] = {
    "scale": lambda x: x * 0.5,
    "divide": lambda x: x / 3,
    "dropout": lambda x: F.dropout(x, 0.1),
    "clone": lambda x: x.clone(),
    "contiguous": lambda x: x.contiguous(),
    "float": lambda x: x.float(),
    "transposed_twice": lambda x: x.transpose(0, 1).transpose(0, 1),
    "squeezed": lambda x: x.unsqueeze(0).squeeze(0),
    "flattened": lambda x: x.unsqueeze(1).flatten(1, 2),
}
IMAGE_PASSES: dict[str, Callable[[Tensor], Tensor]] = {
    "max_pool": lambda x: F.max_pool2d(x, 3, 1, 1),
    "avg_pool": lambda x: F.avg_pool2d(x, 3, stride=1, padding=1),
    "padded": lambda x: F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, stride=1),
    "resampled": lambda x: F.interpolate(x, scale_factor=1.0),
}
IN_PLACE = ("in_place", "in_place_method")


# Running it.


class Network(nn.Module):
    def __init__(self, description: Description) -> None:
        super().__init__()
        self.description = description
        self.shared = nn.ModuleDict({kind: make() for kind, make in MODULES.items()})
        self.own = nn.ModuleDict()
        for piece in every(description.pieces):
            if isinstance(piece, Layer) and not hasattr(self, piece.name):
                setattr(self, piece.name, self.weight(piece))
            elif isinstance(piece, (Act, Norm, Pass)) and piece.style == "module":
                self.own[str(piece.number)] = self.made(piece)

    def weight(self, layer: Layer) -> Any:
        if layer.style == "module":
            return (
                nn.Conv2d(layer.inputs, WIDTH, 3, padding=1)
                if self.description.image
                else nn.Linear(layer.inputs, WIDTH)
            )
        return nn.Parameter(torch.ones(WIDTH, layer.inputs, *((3, 3) if self.description.image else ())) / 9)

    def made(self, piece: Act | Norm | Pass) -> nn.Module:
        if isinstance(piece, Act):
            return MODULES[piece.kind]()
        if isinstance(piece, Pass):
            return nn.Dropout(0.1)
        return nn.BatchNorm2d(WIDTH) if self.description.image else nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = self.run(self.description.pieces, x)
        if self.description.ending == "softmax":
            return F.log_softmax(x, 1)
        return x.mean((2, 3)) if self.description.ending == "pooled" and self.description.image else x

    def run(self, pieces: Sequence[Piece], x: Tensor) -> Tensor:
        for piece in pieces:
            x = self.step(piece, x)
        return x

    def step(self, piece: Piece, x: Tensor) -> Tensor:
        if isinstance(piece, Layer):
            return self.layer(piece, x)
        if isinstance(piece, (Act, Norm, Pass)):
            return self.pointwise(piece, x)
        if isinstance(piece, Residual):
            y = self.run(piece.body, x)
            if piece.style == "in_place":
                y += x
                return y
            return torch.add(x, y) if piece.style == "function" else y + x
        if isinstance(piece, Gate):
            value, gate = self.run(piece.value, x), self.run(piece.gate, x).sigmoid()
            return torch.mul(gate, value) if piece.style == "function" else value * gate
        parts = [self.run(body, x) for body in piece.bodies]
        if isinstance(piece, Sum):
            return sum(parts[1:], parts[0])
        return self.run(piece.after, torch.cat(parts, 1))

    def layer(self, layer: Layer, x: Tensor) -> Tensor:
        weight = getattr(self, layer.name)
        if layer.style == "module":
            return weight(x)
        if self.description.image:
            return F.conv2d(x, weight, padding=1)
        return F.linear(x, weight) if layer.style == "function" else x @ weight.t()

    def pointwise(self, piece: Act | Norm | Pass, x: Tensor) -> Tensor:
        if piece.style == "module":
            return self.own[str(piece.number)](x)
        if isinstance(piece, Act):
            return self.shared[piece.kind](x) if piece.style == "shared" else ACTS[piece.kind][piece.style](x)
        if isinstance(piece, Pass):
            return {**PASSES, **IMAGE_PASSES}[piece.style](x)
        if piece.style == "group":
            return F.group_norm(x, 2)
        return F.instance_norm(x) if self.description.image else F.rms_norm(x, (WIDTH,))


def every(pieces: Sequence[Piece]) -> list[Piece]:
    """All pieces, those inside others too."""
    found: list[Piece] = []
    for piece in pieces:
        found.append(piece)
        for body in inside(piece):
            found += every(body)
    return found


def inside(piece: Piece) -> list[tuple[Piece, ...]]:
    if isinstance(piece, Residual):
        return [piece.body]
    if isinstance(piece, Gate):
        return [piece.value, piece.gate]
    if isinstance(piece, Sum):
        return list(piece.bodies)
    return [*piece.bodies, piece.after] if isinstance(piece, Concat) else []


# What is right.

Pending: TypeAlias = list[tuple[str, bool]]
"""Layers whose output is the present tensor but for transparent operations, and whether a norm was among these."""


@dataclass
class Truth:
    """ends: for each layer, where its output goes: (nonlinearity, reason, normalised) of every way."""

    ends: dict[str, list[tuple[str, str, bool]]] = field(default_factory=dict)

    @classmethod
    def of(cls, description: Description) -> Truth:
        made = cls()
        pending = made.follow(description.pieces, [])
        made.end(pending, *(("softmax", "softmax") if description.ending == "softmax" else ("linear", "output")))
        return made

    def end(self, pending: Pending, nonlinearity: str, reason: str) -> Pending:
        for name, normalised in pending:
            self.ends.setdefault(name, []).append((nonlinearity, reason, normalised))
        return []

    def follow(self, pieces: Sequence[Piece], pending: Pending) -> Pending:
        for piece in pieces:
            pending = self.after(piece, pending)
        return pending

    def after(self, piece: Piece, pending: Pending) -> Pending:
        if isinstance(piece, Layer):
            self.end(pending, "linear", "weight")
            return [(piece.name, False)]
        if isinstance(piece, Act):
            return self.end(pending, piece.kind, "activation")
        if isinstance(piece, Norm):
            return [(name, True) for name, _ in pending]
        if isinstance(piece, Residual):
            return self.end([*pending, *self.follow(piece.body, pending)], "linear", "add")
        if isinstance(piece, Sum):
            return self.end([each for body in piece.bodies for each in self.follow(body, pending)], "linear", "add")
        if isinstance(piece, Gate):
            self.end(self.follow(piece.gate, pending), "sigmoid", "activation")
            return self.end(self.follow(piece.value, pending), "linear", "gate")
        if isinstance(piece, Concat):
            return self.follow(piece.after, [each for body in piece.bodies for each in self.follow(body, pending)])
        return pending


def assert_right(found: Resolution, ends: Sequence[tuple[str, str, bool]]) -> None:
    """All agree: that one. A nonlinearity wins over linear; of two, the smaller gain. Else mixed, all listed."""
    distinct = {(nonlinearity, reason) for nonlinearity, reason, _ in ends}
    curved = {nonlinearity for nonlinearity, _ in distinct} - {"linear", "softmax"}
    assert found.normalised == all(normalised for *_, normalised in ends)
    if len(distinct) > 1:
        assert {(each.nonlinearity, str(each.reason)) for each in found.alternatives} == distinct
    else:
        assert found.alternatives == ()
    if curved:
        expected = min(curved, key=GAINS.__getitem__)
        assert found.nonlinearity == expected
        assert abs(found.ending.gain - GAINS[expected]) < 1e-4
        assert dict(found.params).keys() == PARAMS.get(expected, {}).keys()
        assert str(found.reason) == ("activation" if len(distinct) == 1 else "mixed")
    else:
        assert (found.nonlinearity, str(found.reason)) in distinct
        assert found.ending.gain == 1.0


# Drawing it.


class Drawer:
    """Draws pieces so that the answer is not in doubt: no activation of an activation, which is a composite."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.image = draw(st.booleans())
        self.styles: dict[str, str] = {}  # of the layers that may be used again
        self.count = 0

    def pick(self, *values: Any) -> Any:
        return self.draw(st.sampled_from(values))

    def layer(self, inputs: int = WIDTH) -> Layer:
        if inputs == WIDTH and self.styles and self.draw(st.integers(0, 5)) == 0:
            name = self.pick(*self.styles)  # shared
            return Layer(name, self.styles[name])
        style = self.pick("module", "module", "function", "transposed")
        name = f"layer{self.number()}"
        if inputs == WIDTH:
            self.styles[name] = style
        return Layer(name, style, inputs)

    def number(self) -> int:
        self.count += 1
        return self.count

    def act(self, fresh: bool) -> Act:
        kind = self.pick(*ACTS)
        styles = [style for style in ACTS[kind] if fresh or style not in IN_PLACE]
        return Act(kind, self.pick("module", "shared", *styles), self.number())

    def norm(self) -> Norm:
        return Norm(self.pick("module", "function", *(("group",) if self.image else ())), self.number())

    def passing(self) -> Pass:
        return Pass(self.pick("module", *PASSES, *(IMAGE_PASSES if self.image else ())), self.number())

    def body(self, depth: int, activated: bool) -> tuple[Piece, ...]:
        """A sequence with at least one layer in it."""
        opening = self.sequence(depth, activated, most=2)
        return (*opening, self.layer(), *self.sequence(depth, False, most=2, fresh=True))

    def bent(self, pieces: Sequence[Piece], activated: bool) -> bool:
        """Whether the tensor after these pieces is the output of an activation, transparent operations aside."""
        for piece in reversed(pieces):
            if isinstance(piece, Act):
                return True
            if not isinstance(piece, Pass):
                return False
        return activated

    def sequence(self, depth: int, activated: bool, most: int = 4, fresh: bool = False) -> tuple[Piece, ...]:
        """fresh: whether the tensor at its start is read by nobody else."""
        pieces: list[Piece] = []
        for _ in range(self.draw(st.integers(0, most))):
            bent = self.bent(pieces, activated)
            alone = isinstance(pieces[-1], (Layer, Norm)) if pieces else fresh
            pieces.append(self.piece(depth, bent, alone))
        return tuple(pieces)

    def piece(self, depth: int, bent: bool, fresh: bool) -> Piece:
        kinds = ["layer", "layer", "norm", "pass"]
        kinds += ["act"] * 3 if not bent else []
        kinds += ["residual", "sum", "concat", "gate"] if depth else []
        kind = self.pick(*kinds)
        if kind == "layer":
            return self.layer()
        if kind == "act":
            return self.act(fresh)
        if kind == "norm":
            return self.norm()
        if kind == "pass":
            return self.passing()
        if kind == "residual":
            return Residual(self.body(depth - 1, bent), self.pick("operator", "function", "in_place"))
        if kind == "gate":
            value, gate = self.body(depth - 1, bent), self.body(depth - 1, bent)
            return Gate(value, (*gate, self.layer()), self.pick("operator", "function"))
        bodies = tuple(self.body(depth - 1, bent) for _ in range(2))
        if kind == "sum":
            return Sum(bodies)
        after = (self.act(fresh=True),) if self.draw(st.booleans()) else ()
        return Concat(bodies, (*after, self.layer(2 * WIDTH)))


@st.composite
def descriptions(draw: st.DrawFn) -> Description:
    drawer = Drawer(draw)
    pieces = (drawer.layer(), *drawer.sequence(2, False, most=4, fresh=True), Layer("head", "module"))
    return Description(drawer.image, pieces, drawer.pick("plain", "softmax", "pooled"))


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(description=descriptions())
def test_a_network_of_known_pieces(description: Description):
    model = Network(description)
    right = Truth.of(description)
    inputs = (2, WIDTH, 5, 5) if description.image else (2, WIDTH)
    for tier in ("symbolic", "recorded"):
        dataflow = trace(model, None if tier == "symbolic" else inputs, tier=tier)
        assert dataflow.unsupported == ()
        assert dataflow.uncalled == ()
        found = {each.name: each for each in resolve(dataflow)}
        assert set(found) == set(right.ends), tier
        for name, each in found.items():
            assert_right(each, right.ends[name])
