"""What a random network is made of: a description that says nothing of how the pieces are spelled.

A tensor has a `Form`. Pieces take one and give one; `Description` is a sequence of them with an input and an ending.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias


@dataclass(frozen=True)
class Form:
    """Shape of a tensor, the batch aside.

    kind: `vector` (C), `tokens` (T, C), `series` (C, L) or `image` (C, H, W). width: C. size: positions on each axis.
    """

    kind: str
    width: int
    size: int = 4

    @property
    def axis(self) -> int:
        """Of the features, from the end."""
        return {"vector": -1, "tokens": -1, "series": -2, "image": -3}[self.kind]

    @property
    def dims(self) -> int:
        """Number of axes of positions."""
        return {"vector": 0, "tokens": 1, "series": 1, "image": 2}[self.kind]

    @property
    def shape(self) -> tuple[int, ...]:
        positions = (self.size,) * self.dims
        return (*positions, self.width) if self.axis == -1 else (self.width, *positions)

    def wide(self, width: int) -> Form:
        return replace(self, width=width)


@dataclass(frozen=True)
class Layer:
    """A use of the weight `name`; equal layers are one module.

    kind: `linear`, `conv` or `conv_transpose`. dims: axes of positions that a convolution slides along.
    """

    name: str
    inputs: int
    outputs: int
    kind: str = "linear"
    dims: int = 0
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    bias: bool = True

    @property
    def area(self) -> int:
        return self.kernel**self.dims


@dataclass(frozen=True)
class Act:
    """fresh: whether nobody else reads its input."""

    name: str
    kind: str
    params: tuple[tuple[str, float], ...] = ()
    fresh: bool = False


@dataclass(frozen=True)
class Norm:
    """whole: whether it is one operation, not written out in several."""

    name: str
    kind: str
    form: Form
    whole: bool = False


@dataclass(frozen=True)
class Pass:
    """What keeps the form and lets the walk pass."""

    name: str
    kind: str
    form: Form


@dataclass(frozen=True)
class Move:
    """What changes the form and lets the walk pass."""

    kind: str
    before: Form
    after: Form


@dataclass(frozen=True)
class Residual:
    """body(x) + shortcut(x). scale: `` or what multiplies the body: `layer_scale`, `parameter_gate`, `constant`.

    fresh: whether the body's result may be added to in place.
    """

    name: str
    body: Pieces
    form: Form
    shortcut: Pieces = ()
    scale: str = ""
    fresh: bool = False


@dataclass(frozen=True)
class Sum:
    name: str
    bodies: tuple[Pieces, ...]


@dataclass(frozen=True)
class Concat:
    """stacked: feature by feature in turn, not body by body."""

    name: str
    bodies: tuple[Pieces, ...]
    form: Form
    stacked: bool = False


@dataclass(frozen=True)
class Parted:
    """The features part, each part goes its own way, and they are put together again."""

    name: str
    sizes: tuple[int, ...]
    bodies: tuple[Pieces, ...]
    form: Form


@dataclass(frozen=True)
class Gate:
    """value(x) * activation(gate(x))"""

    name: str
    value: Pieces
    gate: Pieces
    kind: str = "sigmoid"


@dataclass(frozen=True)
class Glu:
    """The first half of the features times the activation of the second."""

    name: str
    kind: str
    form: Form


@dataclass(frozen=True)
class Excite:
    """x * sigmoid(body(mean of x over positions)), in place of which vectors take x itself."""

    name: str
    body: Pieces
    form: Form


@dataclass(frozen=True)
class Highway:
    """t * body(x) + (1 - t) * x with t = sigmoid(transform(x))."""

    name: str
    body: Pieces
    transform: Pieces


@dataclass(frozen=True)
class Attention:
    """Of tokens on themselves. projections: query, key and value, or the three in one."""

    name: str
    projections: tuple[Layer, ...]
    form: Form
    heads: int = 2


@dataclass(frozen=True)
class MultiHead:
    """`nn.MultiheadAttention`"""

    name: str
    form: Form
    heads: int = 2


@dataclass(frozen=True)
class Loop:
    name: str
    body: Pieces
    times: int


@dataclass(frozen=True)
class Aside:
    """A further output: body(x). The main way goes on from x. training: only in training mode."""

    body: Pieces
    training: bool = False


Piece: TypeAlias = (
    Layer | Act | Norm | Pass | Move | Residual | Sum | Concat | Parted | Gate | Glu | Excite | Highway | Attention
    | MultiHead | Loop | Aside
)  # fmt: skip
Pieces: TypeAlias = tuple[Piece, ...]


@dataclass(frozen=True)
class Description:
    """ending: `plain`, `softmax`, `log_softmax`, `logits_too` (the softmax beside what it is made of), `loss`.

    outputs: `alone` or `tuple`, `list` or `dict`. uncalled: names of linear layers that no forward uses.
    """

    form: Form
    pieces: Pieces
    ending: str = "plain"
    outputs: str = "tuple"
    uncalled: tuple[str, ...] = ()


def bodies(piece: Piece) -> tuple[Pieces, ...]:
    """The sequences inside a piece, in the order in which they run."""
    match piece:
        case Residual():
            return (piece.body, piece.shortcut)
        case Sum() | Concat() | Parted():
            return piece.bodies
        case Gate():
            return (piece.value, piece.gate)
        case Highway():
            return (piece.body, piece.transform)
        case Attention():
            return (piece.projections,)
        case Excite() | Loop() | Aside():
            return (piece.body,)
        case _:
            return ()


def every(pieces: Pieces) -> Iterator[Piece]:
    """All pieces, those inside others too."""
    for piece in pieces:
        yield piece
        for body in bodies(piece):
            yield from every(body)


def layers(description: Description) -> dict[str, Layer]:
    """Each weight once."""
    return {piece.name: piece for piece in every(description.pieces) if isinstance(piece, Layer)}


def elements(form: Form) -> int:
    return math.prod(form.shape)


def parts(description: Description) -> bool:
    """Whether features part anywhere, or positions are taken as features would be."""
    return any(
        isinstance(piece, Parted | Glu | Attention)
        or (isinstance(piece, Pass) and piece.kind in ("same", "shift_places", "pool"))
        or (isinstance(piece, Move) and piece.kind == "first")
        for piece in every(description.pieces)
    )
