"""Which weights are heads: the last of a way to an output, a loss, or a draw from a distribution."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from enum import Enum, auto

import networkx as nx

from autoinit.facts.parameter import Rows
from autoinit.ops import Fact, Role
from autoinit.resolving import Fed, Reason, Resolution, SliceResolution
from autoinit.tracing.dataflow import Dataflow, Op
from autoinit.tracing.noise import is_gaussian, is_normal

_LOG_SCALES = frozenset({"exp", "softplus"})
"""What makes a positive number of an output: a scale, a rate."""
_CHOICES = frozenset({"bernoulli", "binomial", "multinomial", "poisson"})
_PASSED = frozenset({Role.TRANSPARENT, Role.SPLIT})


class _End(Enum):
    """What an ending of a walk is to a head."""

    OUT = auto()
    """The signal leaves the model: as it is, or as a probability, a bounded or a positive number."""
    DRAWN = auto()
    """It is the mean or the scale of a Gaussian that is drawn (a variational autoencoder's)."""
    LOG_SCALE = auto()
    """It becomes a positive factor inside the model: of a head only if it goes out as well (a flow's)."""
    LAST = auto()
    """No weight comes behind: a term of a loss."""
    INSIDE = auto()
    """None of these: the signal goes on."""


def head_rows(dataflow: Dataflow, resolutions: Sequence[Resolution]) -> Mapping[str, Collection[Rows]]:
    """The rows of each weight that are a head's, by parameter; `()` stands for a whole weight without slices.

    A head's rows leave the model on all ways: as an output or to a loss; through softmax, sigmoid, tanh or another
    bounded function, exp or softplus; added to what the model is given, or to another head; or as the mean or the scale
    of a Gaussian that is drawn. What a residual stream gives is no head, nor is what a norm follows, whose scale does
    not matter, nor what a rectifier follows, behind which an output at zero has no gradient.
    """
    ends = _Ends(dataflow)
    found: dict[str, list[Rows]] = {}
    for each in resolutions:
        for part in each.slices or (SliceResolution((), each.ending, each.alternatives),):
            if ends.is_head(each, part):
                found.setdefault(each.param, []).append(part.rows)
    return found


def draws(dataflow: Dataflow, fed: Iterable[Fed]) -> bool:
    """Whether one of the things that weights feed is a draw from a Gaussian whose mean or scale they give."""
    if not any(op.op == "normal" or is_normal(op) for op in dataflow.graph.nodes):
        return False
    ends = _Ends(dataflow)
    return any(ends.kind(each) is _End.DRAWN for each in fed)


class _Ends:
    """The ends of one Dataflow."""

    def __init__(self, dataflow: Dataflow) -> None:
        self.dataflow = dataflow
        self.out = _leading_out(dataflow, over_products=False)
        self.last = _leading_out(dataflow, over_products=True)
        self.scales = _scaling_noise(dataflow)

    def is_head(self, resolution: Resolution, part: SliceResolution) -> bool:
        endings = [each for each in part.alternatives or (part.ending,) if each.reason != Reason.UNUSED]
        kinds = {self.kind(each) for each in endings}
        normed = part.ending.normalised or resolution.factor == 0
        return not normed and _End.INSIDE not in kinds and bool(kinds & {_End.OUT, _End.DRAWN})

    def kind(self, ending: Fed) -> _End:
        """What it is to a head."""
        if ending.reason == Reason.OUTPUT:
            return _End.OUT
        end = self.dataflow.by_name.get(ending.path[-1]) if ending.path else None
        if end is None or ending.reason == Reason.UNRESOLVED:
            return _End.INSIDE
        if self._is_drawn(ending, end):
            return _End.DRAWN
        if (end in self.out or end.ends) and self._goes_out(ending, end):
            return _End.OUT
        if _is_log_scale(ending, end):
            return _End.LOG_SCALE
        return _End.LAST if end in self.last and ending.reason != Reason.WEIGHT else _End.INSIDE

    def _goes_out(self, ending: Fed, end: Op) -> bool:
        """Whether an ending from which the signal leaves the model is one that a head has."""
        if ending.reason == Reason.ADD:  # of heads, or of a head and what the model is given; not of a skip connection
            return all(each in self.out for each in _made(end))
        if ending.reason == Reason.ACTIVATION:
            return _is_log_scale(ending, end) or (Fact.BOUNDED in end.facts and Fact.PERIODIC not in end.facts)
        return ending.reason == Reason.SOFTMAX

    def _is_drawn(self, ending: Fed, end: Op) -> bool:
        if any(self.dataflow.by_name[name].op == "normal" for name in ending.path if name in self.dataflow.by_name):
            return True
        if ending.reason == Reason.ADD:
            return any(_is_noisy(each) for here in (end, *end.operands.values()) for each in _back(here))
        return _is_log_scale(ending, end) and end in self.scales


def _is_log_scale(ending: Fed, end: Op) -> bool:
    """Whether a positive number is made of what a weight gives, bounds before it or not."""
    return ending.reason == Reason.ACTIVATION and (ending.nonlinearity in _LOG_SCALES or end.op in _LOG_SCALES)


def _is_noisy(op: Op) -> bool:
    """Whether it multiplies what weights made by Gaussian noise."""
    operands = op.operands.values()
    multiplies = op.acts == "elementwise" and op.op in ("mul", "addcmul")
    return multiplies and any(each.made for each in operands) and any(map(is_gaussian, operands))


def _scaling_noise(dataflow: Dataflow) -> set[Op]:
    """The operations whose result, moved and scaled at most, is the scale of Gaussian noise."""
    found: set[Op] = set()
    for op in reversed(list(dataflow.graph.nodes)):
        after = dataflow.graph.successors(op)
        if any(_is_noisy(each) or each.op == "normal" or (each in found and each.role in _PASSED) for each in after):
            found.add(op)
    return found


def _back(op: Op) -> Iterator[Op]:
    """The operation, and those before it whose result it moves and scales at most."""
    yield op
    while op.role in _PASSED:
        carrying = [each for each in op.operands.values() if each.signal]
        if len(carrying) != 1:
            return
        (op,) = carrying
        yield op


def _leading_out(dataflow: Dataflow, *, over_products: bool) -> set[Op]:
    """The operations whose signal leaves the model on every way, through no weight and no rectifier.

    over_products: whether it may be multiplied there by another signal that weights made.
    """
    found: set[Op] = set()
    for op in reversed(list(dataflow.graph.nodes)):
        after = {each: each.ends or _is_choice(dataflow, each) for each in dataflow.graph.successors(op)}
        after = {each: ends for each, ends in after.items() if each.signal or ends}
        if after and all(ends or (each in found and _passes(each, over_products)) for each, ends in after.items()):
            found.add(op)
    return found


def _is_choice(dataflow: Dataflow, op: Op) -> bool:
    """Whether an operation draws by the probabilities that it takes, and no weight takes what is drawn: an action."""
    if op.op != "random" or op.call is None or op.call.name not in _CHOICES:
        return False
    return all(each.role is not Role.WEIGHT for each in nx.descendants(dataflow.graph, op))


def _passes(op: Op, over_products: bool) -> bool:
    if op.role in (Role.WEIGHT, Role.UNKNOWN) or _rectifies(op):
        return False
    return op.role is not Role.PRODUCT or over_products or len(list(_made(op))) < 2


def _rectifies(op: Op) -> bool:
    """Whether it is ReLU or one of its kin; not a magnitude, which is a term of a loss."""
    near = Fact.HOMOGENEOUS_NEAR_ZERO in op.facts and Fact.BOUNDED not in op.facts
    return op.role is Role.NONLINEARITY and near and op.op != "abs"


def _made(op: Op) -> Iterator[Op]:
    return (each for each in op.operands.values() if each.signal and each.made)
