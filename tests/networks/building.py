"""The network of a description, as a module."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks.pieces import (
    Act,
    Aside,
    Attention,
    Concat,
    Description,
    Excite,
    Form,
    Gate,
    Glu,
    Highway,
    Layer,
    Loop,
    Move,
    MultiHead,
    Norm,
    Parted,
    Pass,
    Piece,
    Pieces,
    Residual,
    Sum,
    every,
)  # fmt: skip
from tests.networks.spellings import Spelling, activation, norm, passing

Rename = Callable[[str], str]


class Network(nn.Module):
    """spelling: of every piece. rename: of the attributes. reverse: whether they are registered last to first.

    real: whether its forward refuses to run without values.
    """

    def __init__(
        self,
        description: Description,
        spelling: Spelling = Spelling(),  # noqa: B008 frozen
        *,
        rename: Rename = lambda name: name,
        reverse: bool = False,
        real: bool = False,
    ) -> None:
        super().__init__()
        self.description, self.spelling, self.rename, self.real = description, spelling, rename, real
        self.calls: dict[str, Any] = {}
        for name in description.uncalled:
            self.add_module(rename(name), nn.Linear(3, 2))
        pieces = list({piece.name: piece for piece in every(description.pieces) if hasattr(piece, "name")}.values())
        for piece in reversed(pieces) if reverse else pieces:
            made = self.made(piece)
            if isinstance(made, nn.Module | nn.Parameter):
                setattr(self, rename(piece.name), made)
            elif made is not None:
                self.calls[piece.name] = made

    # What pieces need to be made before.

    def pick(self, piece: Any, options: Sequence[Any]) -> Any:
        return self.spelling.pick(piece.name, options)

    def made(self, piece: Piece) -> Any:
        match piece:
            case Layer():
                return self.weight(piece)
            case Act():
                return activation(self.spelling, piece.name, piece.kind, dict(piece.params), piece.fresh)
            case Norm():
                return norm(self.spelling, piece.name, piece.kind, piece.form.kind, piece.form.width, piece.whole)
            case Pass():
                return passing(self.spelling, piece.name, piece.kind, piece.form.kind)
            case MultiHead():
                return nn.MultiheadAttention(piece.form.width, piece.heads, batch_first=True)
            case Residual(scale="layer_scale"):
                return nn.Parameter(torch.full((piece.form.width, *(1,) * (-1 - piece.form.axis)), 0.1))
            case Residual(scale="parameter_gate"):
                return nn.Parameter(torch.tensor(0.5))
            case _:
                return None

    def weight(self, layer: Layer) -> nn.Module | nn.Parameter:
        style = self.pick(layer, STYLES[layer.kind])
        if style == "module":
            if layer.kind == "linear":
                return nn.Linear(layer.inputs, layer.outputs, bias=layer.bias)
            kind: Any = getattr(nn, f"{'Conv' if layer.kind == 'conv' else 'ConvTranspose'}{layer.dims}d")
            sizes = (layer.inputs, layer.outputs, layer.kernel)
            return kind(*sizes, layer.stride, padding(layer), groups=layer.groups, bias=layer.bias)
        shape: tuple[int, ...] = (layer.outputs, layer.inputs // layer.groups)
        if layer.kind == "conv_transpose":
            shape = (layer.inputs, layer.outputs // layer.groups)
        if style in ("product", "einsum"):
            shape = shape[::-1]
        return nn.Parameter(torch.randn(*shape, *(layer.kernel,) * layer.dims) / 3)

    # Running.

    def forward(self, x: Tensor) -> Any:
        if self.real and x.is_meta:
            raise RuntimeError("this network wants values")
        asides: list[Tensor] = []
        x = self.run(self.description.pieces, x, asides)
        first: list[Tensor] = [x]
        match self.description.ending:
            case "softmax":
                first = [F.softmax(x, -1)]
            case "log_softmax":
                first = [x.log_softmax(-1)]
            case "logits_too":
                first = [x, torch.softmax(x, -1)]
            case "loss":
                first = [F.cross_entropy(x.flatten(0, -2), torch.zeros_like(x.flatten(0, -2).argmax(-1)))]
        outputs = [*first, *asides]
        if len(outputs) == 1 and self.description.outputs == "tuple":
            return outputs[0]
        if self.description.outputs == "dict":
            return {f"output{number}": output for number, output in enumerate(outputs)}
        return tuple(outputs) if self.description.outputs == "tuple" else outputs

    def run(self, pieces: Pieces, x: Tensor, asides: list[Tensor]) -> Tensor:
        for piece in pieces:
            x = self.step(piece, x, asides)
        return x

    def step(self, piece: Piece, x: Tensor, asides: list[Tensor]) -> Tensor:
        match piece:
            case Layer():
                return self.layer(piece, x)
            case Act() | Norm() | Pass():
                return self.own(piece.name)(x)
            case Move():
                return moved(piece, x)
            case Loop():
                for _ in range(piece.times):
                    x = self.run(piece.body, x, asides)
                return x
            case Aside():
                if self.training or not piece.training:
                    asides.append(self.run(piece.body, x, asides))
                return x
            case Residual():
                return self.residual(piece, x, asides)
            case Attention() | MultiHead():
                return self.attention(piece, x)
            case Sum() | Concat() | Parted():
                return self.branches(piece, x, asides)
            case _:
                return self.gated(piece, x, asides)

    def own(self, name: str) -> Any:
        return self.calls[name] if name in self.calls else getattr(self, self.rename(name))

    def layer(self, layer: Layer, x: Tensor) -> Tensor:
        weight = self.own(layer.name)
        if isinstance(weight, nn.Module):
            return weight(x)
        style = self.pick(layer, STYLES[layer.kind])
        if layer.kind != "linear":
            function: Any = getattr(F, f"{layer.kind}{layer.dims}d")
            return function(x, weight, None, layer.stride, padding(layer), groups=layer.groups)
        if style == "function":
            return F.linear(x, weight)
        if style == "transposed":
            return x @ weight.t()
        if style == "einsum":
            return torch.einsum("...i,io->...o", x, weight)
        return torch.matmul(x, weight)

    def residual(self, piece: Residual, x: Tensor, asides: list[Tensor]) -> Tensor:
        y = self.run(piece.body, x, asides)
        x = self.run(piece.shortcut, x, asides)
        if piece.scale:
            factor = 0.3 if piece.scale == "constant" else self.own(piece.name)
            y = (factor.tanh() if piece.scale == "parameter_gate" else factor) * y
        in_place = ("in_place", "in_place_method") if piece.fresh or piece.scale else ()
        match self.pick(piece, ("operator", "reversed", "function", "method", *in_place)):
            case "operator":
                return x + y
            case "reversed":
                return y + x
            case "function":
                return torch.add(x, y)
            case "method":
                return y.add(x)
            case "in_place":
                y += x
                return y
            case _:
                return y.add_(x)

    def branches(self, piece: Sum | Concat | Parted, x: Tensor, asides: list[Tensor]) -> Tensor:
        starts = self.parts(piece, x) if isinstance(piece, Parted) else [x] * len(piece.bodies)
        parts = [self.run(body, start, asides) for body, start in zip(piece.bodies, starts, strict=True)]
        if isinstance(piece, Sum):
            return self.pick(piece, (sum_by_operator, sum, sum_in_turn))(parts)
        axis = piece.form.axis
        if isinstance(piece, Concat) and piece.stacked:
            stacked = torch.stack(parts, axis)
            return stacked.flatten(axis - 1, axis)
        return self.pick(piece, (torch.cat, torch.concat))(parts, dim=axis % (piece.form.dims + 2))

    def parts(self, piece: Parted, x: Tensor) -> Sequence[Tensor]:
        axis, sizes = piece.form.axis, piece.sizes
        starts = [sum(sizes[:count]) for count in range(len(sizes))]
        options: list[Callable[[], Sequence[Tensor]]] = [
            lambda: torch.split(x, list(sizes), dim=axis),
            lambda: x.split(sizes, axis),
            lambda: [x.narrow(axis, start, size) for start, size in zip(starts, sizes, strict=True)],
            lambda: [sliced(x, axis, start, start + size) for start, size in zip(starts, sizes, strict=True)],
        ]
        if len(set(sizes)) == 1:
            options += [
                lambda: x.chunk(len(sizes), axis),
                lambda: torch.tensor_split(x, len(sizes), axis),
                lambda: x.unflatten(axis, (len(sizes), sizes[0])).unbind(axis - 1),
            ]
        parted = self.pick(piece, options)()
        return [parted[number] for number in range(len(sizes))]  # proxies cannot be iterated over

    def gated(self, piece: Piece, x: Tensor, asides: list[Tensor]) -> Tensor:
        match piece:
            case Gate():
                value, gate = self.run(piece.value, x, asides), self.run(piece.gate, x, asides)
                return self.product(piece, value, ACTIVATIONS[piece.kind](gate))
            case Glu():
                return self.glu(piece, x)
            case Excite():
                places = tuple(range(2, 2 + piece.form.dims)) if piece.form.axis != -1 else (1,)
                squeezed = x.mean(places, keepdim=True) if piece.form.dims else x
                return self.product(piece, x, self.run(piece.body, squeezed, asides).sigmoid())
            case Highway():
                y, t = self.run(piece.body, x, asides), torch.sigmoid(self.run(piece.transform, x, asides))
                return self.product(piece, y, t) + x * (1 - t)
            case _:
                raise TypeError(f"no forward for {piece}")

    def product(self, piece: Any, value: Tensor, gate: Tensor) -> Tensor:
        multiply: Any = self.pick(piece, (lambda a, b: a * b, lambda a, b: b * a, torch.mul, lambda a, b: a.mul(b)))
        return multiply(value, gate)

    def glu(self, piece: Glu, x: Tensor) -> Tensor:
        axis, half = piece.form.axis, piece.form.width // 2
        if piece.kind == "sigmoid" and self.pick(piece, (False, False, True)):
            return F.glu(x, axis)
        value, gate = self.pick(
            piece,
            (
                lambda: x.chunk(2, axis),
                lambda: torch.split(x, half, axis),
                lambda: (sliced(x, axis, 0, half), sliced(x, axis, half, None)),
                lambda: x.unflatten(axis, (2, half)).unbind(axis - 1),
            ),
        )()
        return self.product(piece, value, ACTIVATIONS[piece.kind](gate))

    def attention(self, piece: Attention | MultiHead, x: Tensor) -> Tensor:
        if isinstance(piece, MultiHead):
            return self.own(piece.name)(x, x, x, need_weights=False)[0]
        heads, width = piece.heads, piece.form.width
        made = [self.layer(layer, x) for layer in piece.projections]
        if len(made) == 1:
            made = self.pick(
                piece,
                (
                    lambda: made[0].chunk(3, -1),
                    lambda: made[0].split(width, dim=-1),
                    lambda: made[0].reshape(x.shape[0], x.shape[1], 3, width).permute(2, 0, 1, 3).unbind(0),
                    lambda: made[0].unflatten(-1, (3, width)).unbind(2),
                    lambda: (made[0][..., :width], made[0][..., width : 2 * width], made[0][..., 2 * width :]),
                ),
            )()
        q, k, v = (made[part].unflatten(-1, (heads, width // heads)).transpose(1, 2) for part in range(3))
        if self.pick(piece, (True, False)):
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            logits = (q / math.sqrt(width // heads)) @ k.transpose(-2, -1)
            y = F.dropout(logits.softmax(-1), 0.1, self.training) @ v
        return y.transpose(1, 2).flatten(2)


STYLES = {
    "linear": ("module", "module", "function", "transposed", "product", "einsum"),
    "conv": ("module", "module", "function"),
    "conv_transpose": ("module", "module", "function"),
}
ACTIVATIONS: dict[str, Any] = {"sigmoid": torch.sigmoid, "silu": F.silu, "gelu": F.gelu, "tanh": torch.tanh,
                               "relu": F.relu}  # fmt: skip


def padding(layer: Layer) -> int:
    return (layer.kernel - 1) // 2


def sliced(x: Tensor, axis: int, start: int, stop: int | None) -> Tensor:
    return x[(..., slice(start, stop), *(slice(None),) * (-1 - axis))]


def moved(piece: Move, x: Tensor) -> Tensor:
    form = piece.before
    match piece.kind:
        case "flatten":
            return x.flatten(1)
        case "mean":
            return x.mean(1) if form.axis == -1 else x.mean(tuple(range(2, 2 + form.dims)))
        case "first":
            return x[:, 0]
        case "to_tokens":
            return x.flatten(2).transpose(1, 2)
        case "halve":
            pool: Any = getattr(F, f"max_pool{form.dims}d")
            return pool(x, 2)
        case "double":
            return F.interpolate(x, scale_factor=2.0)
        case _:
            raise ValueError(f"no forward for {piece}")


def sum_by_operator(parts: Sequence[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def sum_in_turn(parts: Sequence[Tensor]) -> Tensor:
    total = torch.zeros_like(parts[0])
    for part in parts:
        total = total.add(part)
    return total


def inputs(form: Form, batch: int = 2) -> tuple[int, ...]:
    return (batch, *form.shape)
