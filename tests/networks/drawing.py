"""Drawing descriptions, so that the answer is never in doubt.

No activation follows an activation with only transparent operations between: that is a composite, another function.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

from hypothesis import strategies as st

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
)  # fmt: skip
from tests.networks.spellings import NORMS, PASSES, Spelling, passes

T = TypeVar("T")

KINDS: dict[str, tuple[tuple[tuple[str, float], ...], ...]] = {
    "relu": ((),),
    "leaky_relu": tuple((("negative_slope", slope),) for slope in (0.2, 0.01, 0.1, 0.3)),
    "tanh": ((),),
    "gelu": ((),),
    "silu": ((),),
    "sigmoid": ((),),
    "elu": tuple((("alpha", alpha),) for alpha in (1.0, 0.5, 1.7)),
    "prelu": ((("weight", 0.25),),),
    "relu6": ((),),
    "celu": ((("alpha", 0.7),),),
    "selu": ((),),
    "mish": ((),),
    "softplus": ((),),
    "hardswish": ((),),
    "hardtanh": ((("min_val", -1.0), ("max_val", 1.0)), (("min_val", -0.5), ("max_val", 2.0))),
    "squared_relu": ((),),
    "custom": ((),),
}
GATES = ("sigmoid", "silu", "gelu", "tanh", "relu")


@dataclass(frozen=True)
class Here:
    """The tensor that the next piece takes. bent: whether it leaves an activation, transparent operations aside.

    fresh: whether nobody else reads it.
    """

    form: Form
    bent: bool = False
    fresh: bool = False


class Drawer:
    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.layers: list[Layer] = []  # those that may be used again
        self.count = 0

    def pick(self, *values: T) -> T:
        return self.draw(st.sampled_from(values))

    def flip(self, one_in: int = 2) -> bool:
        return self.draw(st.integers(0, one_in - 1)) == one_in - 1

    def name(self, what: str) -> str:
        self.count += 1
        return f"{what}{self.count}"

    # Single pieces.

    def layer(self, form: Form, width: int | None = None, again: bool = True) -> Layer:
        """A layer that keeps all of the form but the width."""
        fitting = [
            each
            for each in self.layers
            if again
            and each.inputs == form.width
            and width in (None, each.outputs)
            and (each.kind == "linear" if form.axis == -1 else each.kind != "linear" and each.dims == form.dims)
        ]
        if fitting and self.flip(6):
            return self.pick(*fitting)
        outputs = width if width is not None else self.pick(form.width, form.width, 4, 6, 8)
        made = Layer(self.name("layer"), form.width, outputs, bias=self.draw(st.booleans()))
        if form.axis != -1:
            kernel = self.pick(3, 1)
            groups = self.pick(1, 1, 2 - outputs % 2, form.width if outputs == form.width else 1)
            made = replace(made, kind="conv", dims=form.dims, kernel=kernel, groups=groups)
        self.layers.append(made)
        return made

    def act(self, fresh: bool) -> Act:
        kind = self.pick(*KINDS)
        return Act(self.name("act"), kind, self.pick(*KINDS[kind]), fresh)

    def norm(self, here: Here, whole: bool = False) -> Norm:
        return Norm(self.name("norm"), self.pick(*NORMS[here.form.kind]), here.form, whole)

    # Sequences.

    def sequence(self, here: Here, depth: int, most: int) -> tuple[Pieces, Here]:
        pieces: list[Piece] = []
        for _ in range(self.draw(st.integers(0, most))):
            more, here = self.piece(here, depth)
            pieces += more
        return tuple(pieces), here

    def body(self, here: Here, depth: int, width: int | None = None) -> tuple[Pieces, Here]:
        """A sequence with at least one layer in it, of a width asked for."""
        opening, here = self.sequence(replace(here, fresh=False), depth, 2)
        layer = self.layer(here.form, width)
        here = Here(here.form.wide(layer.outputs), fresh=True)
        closing: list[Piece] = []
        for _ in range(self.draw(st.integers(0, 2))):
            more, here = self.plain(here)
            closing += more
        return (*opening, layer, *closing), here

    def ended(self, here: Here, depth: int, width: int) -> Pieces:
        """A sequence that ends with a layer."""
        opening, here = self.sequence(replace(here, fresh=False), depth, 2)
        return (*opening, self.layer(here.form, width))

    def plain(self, here: Here) -> tuple[Pieces, Here]:
        """An activation, a norm or what passes."""
        kind = self.pick("act", "norm", "pass")
        if kind == "act" and not here.bent:
            return (self.act(here.fresh),), Here(here.form, bent=True)
        if kind == "norm":
            return (self.norm(here),), replace(here, bent=False, fresh=True)
        passing = Pass(self.name("pass"), self.pick(*passes(here.form.kind)), here.form)
        return (passing,), replace(here, fresh=False)

    def piece(self, here: Here, depth: int) -> tuple[Pieces, Here]:
        options = [self.plain, self.plain, self.weighted]
        if depth:
            options += [
                lambda at: self.residual(at, depth - 1),
                lambda at: self.sum(at, depth - 1),
                lambda at: self.concat(at, depth - 1),
                lambda at: self.parted(at, depth - 1),
                lambda at: self.gate(at, depth - 1),
                self.glu,
                lambda at: self.excite(at, depth - 1),
                lambda at: self.highway(at, depth - 1),
                lambda at: self.loop(at, depth - 1),
            ]
            if here.form.kind == "tokens":
                options += [self.attention, self.attention]
        return self.pick(*options)(here)

    def weighted(self, here: Here) -> tuple[Pieces, Here]:
        layer = self.layer(here.form)
        return (layer,), Here(here.form.wide(layer.outputs), fresh=True)

    # Pieces with bodies.

    def residual(self, here: Here, depth: int) -> tuple[Pieces, Here]:
        form = here.form
        if self.flip(4):
            shortcut = (self.layer(form),)
            form = form.wide(shortcut[0].outputs)
        else:
            shortcut = ()
        body, after = self.body(here, depth, form.width)
        scale = self.pick("", "", "layer_scale", "parameter_gate", "constant")
        made = Residual(self.name("residual"), body, form, shortcut, scale, after.fresh)
        return (made,), Here(form)

    def sum(self, here: Here, depth: int) -> tuple[Pieces, Here]:
        width = self.pick(here.form.width, 6)
        bodies = tuple(self.body(here, depth, width)[0] for _ in range(self.pick(2, 3)))
        return (Sum(self.name("sum"), bodies),), Here(here.form.wide(width))

    def concat(self, here: Here, depth: int) -> tuple[Pieces, Here]:
        stacked = self.draw(st.booleans())
        drawn = [self.body(here, depth, 4 if stacked else None) for _ in range(self.pick(2, 3))]
        form = here.form.wide(sum(after.form.width for _, after in drawn))
        made = Concat(self.name("concat"), tuple(body for body, _ in drawn), form, stacked)
        return (made,), Here(form, any(after.bent for _, after in drawn))

    def parted(self, here: Here, depth: int) -> tuple[Pieces, Here]:
        width = here.form.width
        if width < 4:
            return self.plain(here)
        half = width // 4 * 2  # even, as groups of two want it
        sizes = self.pick((half, width - half), (2, width - 2), (width - 2, 2))
        drawn = [self.sequence(Here(here.form.wide(size), here.bent), depth, 2) for size in sizes]
        form = here.form.wide(sum(after.form.width for _, after in drawn))
        made = Parted(self.name("parted"), sizes, tuple(body for body, _ in drawn), form)
        return (made,), Here(form, any(after.bent for _, after in drawn))

    def gate(self, here: Here, depth: int) -> tuple[Pieces, Here]:
        value, after = self.body(here, depth)
        made = Gate(self.name("gate"), value, self.ended(here, depth, after.form.width), self.pick(*GATES))
        return (made,), Here(after.form)

    def glu(self, here: Here) -> tuple[Pieces, Here]:
        layer = self.layer(here.form, 2 * here.form.width)
        form = here.form.wide(layer.outputs)
        between, _ = self.plain(Here(form, bent=True)) if self.flip(4) else ((), Here(form))
        made = Glu(self.name("glu"), self.pick(*GATES), form)
        return (layer, *between, made), Here(here.form)

    def excite(self, here: Here, depth: int) -> tuple[Pieces, Here]:
        squeezed = here.form if here.form.kind == "vector" else replace(here.form, size=1)
        down, up = Layer(self.name("layer"), squeezed.width, 2), Layer(self.name("layer"), 2, squeezed.width)
        if here.form.axis != -1:
            down, up = (replace(each, kind="conv", dims=here.form.dims) for each in (down, up))
        return (Excite(self.name("excite"), (down, self.act(fresh=True), up), here.form),), Here(here.form)

    def highway(self, here: Here, depth: int) -> tuple[Pieces, Here]:
        width = here.form.width
        body = self.body(here, depth, width)[0]
        return (Highway(self.name("highway"), body, self.ended(here, 0, width)),), Here(here.form)

    def loop(self, here: Here, depth: int) -> tuple[Pieces, Here]:
        width = here.form.width
        first = self.layer(here.form)
        inside, after = self.sequence(Here(here.form.wide(first.outputs), fresh=True), depth, 2)
        closing, after = (
            ((), after) if after.form.width == width else ((self.layer(after.form, width),), Here(here.form))
        )
        return (Loop(self.name("loop"), (first, *inside, *closing), self.pick(2, 3)),), replace(after, fresh=False)

    def attention(self, here: Here) -> tuple[Pieces, Here]:
        form = here.form
        if self.flip(4):
            return (MultiHead(self.name("attention"), form),), Here(form, fresh=True)
        if self.draw(st.booleans()):
            projections = (self.layer(form, 3 * form.width, again=False),)
        else:
            projections = tuple(self.layer(form, form.width, again=False) for _ in range(3))
        return (Attention(self.name("attention"), projections, form),), Here(form)

    # The network.

    def change(self, here: Here) -> tuple[Pieces, Here]:
        """A change of form, or an output on the way."""
        form, kinds = here.form, ["aside"]
        if form.kind == "vector":
            kinds += ["aside"]
        elif form.kind == "tokens":
            kinds += ["mean", "first", "flatten"]
        else:
            kinds += ["mean", "flatten", "to_tokens", "stride", "halve", "double", "transpose"]
        kind = self.pick(*kinds)
        if kind == "aside":
            body = self.ended(here, 0, 4) if self.draw(st.booleans()) else ()
            return (Aside(body, self.draw(st.booleans())),), replace(here, fresh=False)
        if kind == "stride":
            layer = Layer(self.name("layer"), form.width, 6, "conv", form.dims, self.pick(3, 1), 2)
            return (layer,), Here(Form(form.kind, 6, (form.size + 1) // 2), fresh=True)
        if kind == "transpose":
            layer = Layer(self.name("layer"), form.width, 6, "conv_transpose", form.dims, 2, 2)
            return (layer,), Here(Form(form.kind, 6, 2 * form.size), fresh=True)
        after = {
            "mean": Form("vector", form.width),
            "first": Form("vector", form.width),
            "flatten": Form("vector", form.width * form.size**form.dims),
            "to_tokens": Form("tokens", form.width, form.size**form.dims),
            "halve": replace(form, size=form.size // 2),
            "double": replace(form, size=form.size * 2),
        }[kind]
        return (Move(kind, form, after),), replace(here, form=after, fresh=False)

    def description(self, depth: int, most: int) -> Description:
        form = Form(self.pick("vector", "image", "tokens", "series"), 4)
        first = self.layer(form)
        pieces: list[Piece] = [first]
        here = Here(form.wide(first.outputs), fresh=True)
        for _ in range(self.draw(st.integers(0, 2))):
            more, here = self.sequence(here, depth, most)
            pieces += more
            if here.form.size >= 4 and here.form.size <= 8:
                more, here = self.change(here)
                pieces += more
        more, here = self.sequence(here, depth, most)
        pieces += [*more, self.layer(here.form, 5, again=False)] if not self.flip(5) else more
        endings = ["plain", "plain", "softmax", "log_softmax", "logits_too"]
        endings += ["loss"] if here.form.axis == -1 else []
        uncalled = (self.name("uncalled"),) if self.flip(6) else ()
        return Description(form, tuple(pieces), self.pick(*endings), self.pick("tuple", "dict", "list"), uncalled)


@st.composite
def descriptions(draw: st.DrawFn, depth: int = 2, most: int = 2) -> Description:
    return Drawer(draw).description(depth, most)


@st.composite
def streams(draw: st.DrawFn) -> tuple[Description, dict[str, int]]:
    """A row of residual streams, parted by layers; for each weight that ends a branch, the branches of its stream."""
    drawer = Drawer(draw)
    form = Form(drawer.pick("vector", "image", "tokens", "series"), 4)
    pieces: list[Piece] = []
    branches: dict[str, int] = {}
    for _ in range(drawer.pick(1, 2)):
        pieces.append(drawer.layer(form, form.width, again=False))
        count, ends = drawer.pick(1, 2, 3, 4), []
        here = Here(form, fresh=True)
        for _ in range(count):
            opening, before = drawer.sequence(replace(here, fresh=False), 0, 3)
            end = drawer.layer(before.form, form.width, again=False)
            closing = (drawer.norm(Here(form), whole=True),) if drawer.flip(3) else ()
            scale = drawer.pick("", "", "layer_scale", "parameter_gate", "constant")
            pieces.append(Residual(drawer.name("residual"), (*opening, end, *closing), form, scale=scale))
            ends.append(end.name)
            between = drawer.pick("", "", "act", "pass")
            if between == "act":
                pieces.append(drawer.act(fresh=False))
            elif between == "pass":
                pieces.append(Pass(drawer.name("pass"), drawer.pick(*PASSES), form))
            here = Here(form, bent=between == "act")
        branches |= dict.fromkeys(ends, count)
    return Description(form, (*pieces, drawer.layer(form, 5, again=False))), branches


def spellings() -> st.SearchStrategy[Spelling]:
    return st.lists(st.integers(0, 59), max_size=12).map(lambda numbers: Spelling(tuple(numbers)))
