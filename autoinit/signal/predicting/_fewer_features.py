"""Features that no moment needs: of a wide layer, or of many heads, some stand for all.

Over the draw of the weights, the features that a linear layer makes are exchangeable: each has the same distribution.
A mean over some of them is as true as one over all, with more scatter; only the fan_in behind them has to be kept as
it is. That holds as far as features are acted on one by one, moved together, or averaged, as by a norm. So do heads
of attention, which are features by the dozen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import networkx as nx
import torch
from torch.nn import functional

from autoinit.ops import Role, Trait
from autoinit.signal.predicting._beyond_moments import behind_inputs
from autoinit.signal.predicting.linear_maps import SMALL
from autoinit.signal.predicting.replaying import Rule, Runner
from autoinit.tracing.dataflow import Dataflow, Op, ParamUse
from autoinit.tracing.rerunning import execute

MOST_ELEMENTS = 1 << 19
"""Elements of a layer's output up to which all of its features are drawn."""
FEWEST = 256
"""Features that are drawn at least: their second moment is then known to sqrt(2 / 256), 9 %, in each single row."""

ATTENTION = "scaled_dot_product_attention"
_RESHAPING = frozenset({"view", "flatten", "unflatten"})
_EXPANDING = "expand"
_PARTING = frozenset({"unbind", "chunk", "split"})
_AVERAGING = frozenset({"mean", "var"})
_NORMS = frozenset({"layer_norm", "rms_norm"})
_EPSILON = {"layer_norm": 1e-5, "rms_norm": None}
_HEADS = -3

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Fewer:
    """What is drawn of wide layers, where it is not all.

    Attributes:
        shapes: of the outputs that have fewer features, or heads.
        cuts: for operations on these, the axes (counted from the end) along which operands that have a number for each
            feature lose as many.
        means: over features, and the operations on features that take what is made of these.
    """

    shapes: Mapping[Op, Shape]
    cuts: Mapping[Op, Mapping[Op, int]]
    means: frozenset[Op]

    def rules(self) -> dict[Op, Rule]:
        """How to compute operations that would not do with fewer by themselves."""
        found: dict[Op, Rule] = dict.fromkeys((*self.cuts, *self.means), self._called)
        found |= {op: self._reshaped for op in self.shapes if op.op in _RESHAPING}
        found |= {op: self._expanded for op in self.shapes if op.op == _EXPANDING}
        return found | {op: _normed for op in self.shapes if op.op in _NORMS}

    def _reshaped(self, op: Op, run: Runner) -> torch.Tensor:
        reshaped: torch.Tensor = run[op.operands["input"]].reshape(self.shapes[op])
        return reshaped

    def _expanded(self, op: Op, run: Runner) -> torch.Tensor:
        expanded: torch.Tensor = run[op.operands["input"]].expand(self.shapes[op])
        return expanded

    def _called(self, op: Op, run: Runner) -> Any:
        """The operation on as many numbers as there are features.

        A mean passes each of n features the n-th part of its gradient, which is a sum over features of either sign: n
        times the second moment of one. Of a signal the features that are left out get no gradient, the others more.
        """
        known = {each: run[each] for each in op.operands.values()}
        for each, axis in self.cuts.get(op, {}).items():
            known[each] = some(known[each], self.shapes[op][axis], axis)
            if each.signal:
                known[each] = _Weighed.apply(known[each], math.sqrt(1 / self._share(op)))  # type: ignore[no-untyped-call]
        for each in known if op in self.means else ():
            if op in self.shapes and each not in self.shapes and each.signal and each not in self.cuts.get(op, {}):
                known[each] = _Weighed.apply(known[each], math.sqrt(1 / self._share(op)))  # type: ignore[no-untyped-call]
            elif op not in self.shapes:
                known[each] = _Weighed.apply(known[each], self._share(each))  # type: ignore[no-untyped-call]
        return run.call(op, known=known)

    def _share(self, op: Op) -> float:
        return math.prod(self.shapes[op]) / math.prod(op.shape or ())

    def notes(self) -> tuple[str, ...]:
        """What to say of it."""
        widest = max(self.shapes, key=lambda op: (op.shape or (0,))[-1], default=None)
        if widest is None or widest.shape is None:
            return ()
        many = f"{self.shapes[widest][-1]} of {widest.shape[-1]}"
        number = len(self.shapes)
        return (f"{number} operations on wide layers draw some features, which stand for all ({widest.name}: {many})",)


class _Weighed(torch.autograd.Function):
    """The same values, and a factor times the gradient."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, factor: float) -> torch.Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        return grads[0] * ctx.factor, None


def some(values: torch.Tensor, count: int, axis: int) -> torch.Tensor:
    """So many entries along an axis, at even distances."""
    return values.index_select(axis, torch.linspace(0, values.shape[axis] - 1, count).long())


def _normed(op: Op, run: Runner) -> torch.Tensor:
    x: torch.Tensor = run[op.operands["input"]]
    held = {use.slot: some(run.values.parameter(use.name), x.shape[-1], -1) for use in op.params}
    norm = functional.layer_norm if op.op == "layer_norm" else functional.rms_norm
    normed: torch.Tensor = norm(x, x.shape[-1:], **held, eps=op.constants.get("eps", _EPSILON[op.op]))
    return normed


def fewer_features(dataflow: Dataflow, whole: Callable[[ParamUse], bool], most: int | None = None) -> Fewer:
    """So many features as are enough for the moments.

    Operations that share features are left as they are where one of them does something else than stands above.

    whole: says of which weights all features are needed. most: elements of a layer's output up to which all are drawn.
    """
    most = MOST_ELEMENTS if most is None else most
    fed = behind_inputs(dataflow)
    maps = {op for op in dataflow.graph.nodes if op in fed and _maps_features(op, whole)}
    shared: nx.Graph[Op] = nx.Graph()
    shared.add_nodes_from(op for op in dataflow.graph.nodes if op.signal and op.op != "output")
    shared.add_edges_from(
        (op, each) for op in shared if op not in maps for each in op.operands.values() if each in shared
    )
    shapes: dict[Op, Shape] = {}
    cuts: dict[Op, Mapping[Op, int]] = {}
    means: set[Op] = set()
    place = {op: at for at, op in enumerate(dataflow.graph.nodes)}
    for group in nx.connected_components(shared):
        sources = [op for op in group if op in maps or Trait.LOOKUP in op.traits]
        for share in _shares(sources, most):
            found = _Cutting(dataflow, maps, group, share)
            if all(found.takes(op) for op in sorted(group, key=place.__getitem__)):
                shapes |= found.shapes
                cuts |= found.cuts
                means |= found.means
                break
    return Fewer(shapes, cuts, frozenset(means))


def _shares(sources: Sequence[Op], most: int) -> Iterator[Fraction]:
    """Which shares of the features that a group's weights make may be enough, the smallest first."""
    shapes = [op.shape for op in sources if op.shape is not None and len(op.shape) > 1]
    if not shapes or len(shapes) < len(sources):
        return
    widths = [shape[-1] for shape in shapes]
    widest = max(shapes, key=math.prod)
    least = max(most // max(1, math.prod(widest[:-1])) / widest[-1], FEWEST / min(widths))
    if least >= 1:
        return
    if len(set(widths)) == 1:
        yield Fraction(math.ceil(least * widths[0]), widths[0])
    common = math.gcd(*widths)
    yield from (Fraction(1, each) for each in range(int(1 / least), 1, -1) if common % each == 0)


class _Cutting:
    """One try to do with a share of a group's features.

    Attributes:
        shapes, cuts, means: as of `Fewer`, of the operations that it has come to.
    """

    def __init__(self, dataflow: Dataflow, maps: set[Op], group: set[Op], share: Fraction) -> None:
        self.dataflow, self.maps, self.group, self.share = dataflow, maps, group, share
        self.shapes: dict[Op, Shape] = {}
        self.cuts: dict[Op, Mapping[Op, int]] = {}
        self.means: set[Op] = set()
        self._axes: dict[Op, int] = {}  # of the shapes: which has fewer entries, counted from the end
        self._parts: dict[Op, tuple[Shape, ...]] = {}  # of operations that give several tensors

    def takes(self, op: Op) -> bool:
        """Whether an operation, after those before it, can do with fewer, and all that read it."""
        if op.shape is None and not any(each in self._axes for each in op.operands.values()):
            return True
        source = op in self.maps or Trait.LOOKUP in op.traits
        return (self._shrunk(op, -1) if source else self._follows(op)) and self._is_read_well(op)

    def _is_read_well(self, op: Op) -> bool:
        for after in self.dataflow.graph.successors(op):
            if after in self.maps and after.operands.get("input") is op:
                if self._axes.get(op, -1) != -1:
                    return False
            elif after not in self.group and after.op not in ("output", "size") and op in self.shapes:
                return False
        return True

    def _shrunk(self, op: Op, axis: int) -> bool:
        assert op.shape is not None
        size = self.share * op.shape[axis]
        if size.denominator != 1:
            return False
        shape = list(op.shape)
        shape[axis] = int(size)
        self.shapes[op], self._axes[op] = tuple(shape), axis
        return True

    def _follows(self, op: Op) -> bool:
        axes = {self._axes[each] for each in op.operands.values() if each in self._axes}
        if not axes:
            return all(each not in self._parts for each in op.operands.values()) or self._runs(op)
        if len(axes) > 1:
            return False
        (axis,) = axes
        if op.params or op.op in _NORMS:
            return op.op in _NORMS and axis == -1 and self._is_over_features(op) and self._shrunk(op, -1)
        if op.acts == "elementwise":
            return self._keeps(op, axis)
        if op.op == ATTENTION:
            return axis == _HEADS and self._attends(op) and self._shrunk(op, axis)
        if op.op in _RESHAPING:
            return self._reshapes(op, axis)
        if op.op == _EXPANDING:
            return self._shrunk(op, axis)
        moves = op.acts == "rearranging" if op.shape is not None else op.op in _PARTING
        return (moves or op.op in _AVERAGING) and self._runs(op)

    @staticmethod
    def _is_over_features(op: Op) -> bool:
        shape = op.constants.get("normalized_shape", ())
        return shape is None or isinstance(shape, int) or len(shape) <= 1

    def _keeps(self, op: Op, axis: int) -> bool:
        """Elementwise, with operands from elsewhere that have one number for all features, or one for each."""
        assert op.shape is not None
        cut = {}
        for each in op.operands.values():
            if each in self.shapes:
                continue
            if each.shape is None:
                return False
            if len(each.shape) >= -axis and each.shape[axis] > 1:
                cut[each] = axis
            elif each.signal:
                self.means.add(op)
        if cut:
            self.cuts[op] = cut
        return len(op.shape) >= -axis and self._shrunk(op, axis)

    def _attends(self, op: Op) -> bool:
        parts = [op.operands.get(slot) for slot in ("input", "key", "value")]
        mask = op.operands.get("attn_mask")
        of_heads = mask is not None and (mask.shape is None or (len(mask.shape) > 2 and mask.shape[_HEADS] > 1))
        return all(each in self.shapes and len(each.shape or ()) == 4 for each in parts) and not of_heads

    def _reshapes(self, op: Op, axis: int) -> bool:
        """Features lose their last heads, and heads that follow each other as features become fewer features."""
        before = op.operands["input"].shape
        assert op.shape is not None
        assert before is not None
        behind = math.prod(before[axis:])
        inside = (place for place in range(-len(op.shape), 0) if math.prod(op.shape[place:]) <= behind)
        return next((True for place in inside if op.shape[place] > 1 and self._shrunk(op, place)), False)

    def _runs(self, op: Op) -> bool:
        """As torch says: one axis has the share of what it had, or a mean has done away with it."""
        shapes = {each: self.shapes.get(each, each.shape) for each in op.operands.values()}
        known: dict[Op, Any] = {each: _like(shape) for each, shape in shapes.items() if shape is not None}
        known |= {each: tuple(map(_like, parts)) for each, parts in self._parts.items()}
        try:
            value = execute(op, known)
        except Exception:  # noqa: BLE001 - whatever it raises, it does not do with fewer
            return False
        if op.shape is None:
            self._parts[op] = tuple(tuple(each.shape) for each in value)
            return True
        made = tuple(value.shape)
        if made == op.shape and op.op in _AVERAGING:
            self.means.add(op)
            return True
        if len(made) != len(op.shape):
            return False
        fewer = [axis for axis in range(-len(made), 0) if made[axis] != op.shape[axis]]
        return len(fewer) == 1 and self._shrunk(op, fewer[0]) and self.shapes[op] == made


def _like(shape: Shape) -> torch.Tensor:
    return torch.empty(shape, device="meta")


def _maps_features(op: Op, whole: Callable[[ParamUse], bool]) -> bool:
    """Whether it is a linear layer over the last axis of its input, whose weight nothing is done to."""
    uses = [use for use in op.params if use.layout is not None]
    if op.op != "linear" or op.role is not Role.WEIGHT or len(uses) != 1 or op.added is not None:
        return False
    use = uses[0]
    return not use.transform and use.factor == 1.0 and use.shape[-1] > SMALL and not whole(use)
