"""Taking the moments of values as they come by, and of their gradients later."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from autoinit.errors.arguments import refusal, require
from autoinit.ops import Role, Trait
from autoinit.signal.batches import tensors_in
from autoinit.signal.predicting.fields import Axes, Rows, row_covariance, second_moment
from autoinit.signal.report import SignalRow
from autoinit.tracing.dataflow import Op


@dataclass
class Taken:
    """Moments of one tensor; its gradient's is added when it is known."""

    q: float
    p: float | None
    s: float | None
    mean: float
    grads: list[float] = field(default_factory=list)

    def row(self) -> SignalRow:
        """As a value."""
        return SignalRow(self.q, self.p, self.s, self.mean, sum(self.grads) if self.grads else None)


def gradient_moment(grad: torch.Tensor | None) -> float:
    """The second moment of a gradient; 0 where torch passes none, as to an output of several that nothing uses."""
    return second_moment(grad.detach().float()) if grad is not None else 0.0


class Meter:
    """Moments by operation and, for pre-activations, by weight.

    Attributes:
        samples: of the model's input.
        sample_axis: where they are in tensors that keep its axes, 0 or 1.
        without_moments: weights that made nothing to take moments of, and why.
    """

    def __init__(self, samples: int, *, backward: bool, sample_axis: int = 0) -> None:
        self.samples, self.backward, self.sample_axis = samples, backward, sample_axis
        self.operations: dict[Op, Taken] = {}
        self.layers: dict[str, list[Taken]] = {}
        self.without_moments: dict[str, str] = {}
        self._features: dict[Op, int | None] = {}
        self._known: MutableMapping[torch.Tensor, tuple[Any, Taken]] = WeakTensorKeyDictionary()

    def see(self, op: Op, value: Any) -> None:
        """Take the moments of an operation's value; of several tensors together."""
        if not isinstance(value, torch.Tensor):
            parts = [each for each in tensors_in(value) if each.is_floating_point() and each.numel()]
            if parts:
                self.operations[op] = self._together(op, parts)
            return
        if not value.is_floating_point() or not value.numel():
            return
        axis = self._axis(op, value)
        taken = self.take(value, axis)
        self.operations[op] = taken
        names = [use.name for use in op.params if use.layout is not None]
        if op.role is Role.WEIGHT and len(names) == 1:
            self.layers.setdefault(names[0], []).append(taken)

    def see_layer(self, name: str, value: torch.Tensor, axis: int) -> None:
        """Take the moments of the pre-activation of a weight inside an operation."""
        self.layers.setdefault(name, []).append(self.take(value, axis))

    def see_steps(self, name: str, made: Sequence[torch.Tensor], why_none: str) -> None:
        """Take the moments of what a weight makes in the steps of a recurrence: (samples, rows) each.

        why_none: what to say of the weight where there are no steps.
        """
        if not made:
            self.without_moments[name] = why_none
            return
        plain = [each.detach().float() for each in made]
        even = len({len(each) for each in plain}) == 1
        whole = torch.stack(plain, dim=1 - self.sample_axis) if even else torch.cat(plain)
        taken = self.take(whole, -1 if even else None)
        self._watch(taken, made)
        self.layers.setdefault(name, []).append(taken)

    def _together(self, op: Op, parts: Sequence[torch.Tensor]) -> Taken:
        """The moments of all elements of several tensors; covariances are averaged where all have one shape."""
        total = sum(each.numel() for each in parts)
        axes = [-1 if Trait.RECURRENT in op.traits else self._followed_from(op, each) for each in parts]
        self._features[op] = axes[0] if len(set(axes)) == 1 else None
        found = [self.take(each.detach(), axis) for each, axis in zip(parts, axes, strict=True)]
        shares = [each.numel() / total for each in parts]
        alike = len({each.shape for each in parts}) == 1

        def mean(values: list[float | None]) -> float | None:
            known = [value for value in values if value is not None]
            return sum(known) / len(known) if alike and len(known) == len(values) else None

        taken = Taken(
            sum(share * each.q for share, each in zip(shares, found, strict=True)),
            mean([each.p for each in found]),
            mean([each.s for each in found]),
            sum(share * each.mean for share, each in zip(shares, found, strict=True)),
        )
        self._watch(taken, parts)
        return taken

    def _watch(self, taken: Taken, parts: Sequence[torch.Tensor]) -> None:
        """Add the gradient of several tensors together when it is known; where none arrives it is zero."""
        total = sum(each.numel() for each in parts)
        for part in parts if self.backward else ():
            if part.requires_grad:
                share = part.numel() / total
                hook: Any = part.register_hook
                hook(lambda grad, share=share: taken.grads.append(share * gradient_moment(grad)))

    def take(self, value: torch.Tensor, axis: int | None) -> Taken:
        """The moments of a tensor whose features lie on an axis (counted from the end), if that is known.

        What passes a tensor on, as a dropout that is off does, makes nothing new.
        """
        if value.is_inference():  # it does not tell whether it was written to since
            return self._taken(value, axis)
        state = (axis, value._version, value.requires_grad)
        before, taken = self._known.get(value, (None, None))
        if taken is None or before != state:
            taken = self._taken(value, axis)
            self._known[value] = state, taken
        return taken

    def _taken(self, value: torch.Tensor, axis: int | None) -> Taken:
        plain = value.detach().float()
        if axis is not None and plain.dim() >= 2:
            taken = _of_rows(Rows.of(*rows(plain, axis, self.samples, self.sample_axis)))
        else:
            taken = Taken(second_moment(plain), None, None, float(plain.mean()))
        self._watch(taken, [value])
        return taken

    def _axis(self, op: Op, value: torch.Tensor) -> int | None:
        """The axis of the features: known at weights, followed from there."""
        known = _at_weight(op, value) if op.role is Role.WEIGHT else None
        if known is None:
            known = -1 if Trait.RECURRENT in op.traits else self._followed_from(op, value)
        self._features[op] = known
        return known

    def _followed_from(self, op: Op, value: torch.Tensor) -> int | None:
        return next((found for each in _signals(op) if (found := self._followed(each, op, value))), None)

    def _followed(self, before: Op, op: Op, value: torch.Tensor) -> int | None:
        axis, shape = self._features.get(before), before.shape
        if Trait.LOOKUP in op.traits:
            return -1
        if axis is not None and shape is None and op.op == "getitem":  # one of several tensors
            return axis if -axis <= value.dim() else None
        if axis is None or shape is None or len(shape) < -axis:
            return None
        size = shape[axis]
        whole = op.shape if op.shape is not None and len(op.shape) == value.dim() else value.shape
        if value.dim() == len(shape) and whole[axis] == size:
            return axis
        places = [place for place in range(-value.dim(), 0) if whole[place] == size]
        return places[0] if len(places) == 1 else None


def _of_rows(found: Rows) -> Taken:
    samples, positions, features = found.counts
    sums = found.sums()
    known = row_covariance(found, sums)
    between = known.apart if positions > 1 else known.sample
    return Taken(
        known.own,
        known.position if positions > 1 else None,
        between if samples > 1 else None,
        float(sums.sum()) / (samples * positions * features),
    )


def _signals(op: Op) -> list[Op]:
    return [each for each in op.operands.values() if each.signal]


def _at_weight(op: Op, value: torch.Tensor) -> int | None:
    """Where the table says that a weight operation's features are."""
    spec = op.call.spec if op.call is not None else None
    use = next((use for use in op.params if use.layout is not None), None)
    if spec is None or spec.weights is None or use is None:
        return None
    slots: Mapping[str, Any] = {slot.slot: slot for slot in spec.weights(op.constants)}
    slot = slots.get(use.slot)
    axes: tuple[int, ...] = ()
    if slot is not None and slot.features is not None:
        axes = slot.features(op.constants, use.shape)
    return axes[0] if len(axes) == 1 and -axes[0] <= value.dim() else None


def rows(value: torch.Tensor, axis: int, samples: int, sample_axis: int = 0) -> tuple[torch.Tensor, Axes]:
    """A view of a tensor with its samples, positions and features told apart.

    axis: of the features. sample_axis: of the samples, where either of the first two may be it. The first axis is split
    where positions lie beside the samples on it.
    """
    place = axis % value.dim()
    letters = ["c" if at == place else "t" for at in range(value.dim())]
    shape = list(value.shape)
    second = samples > 1 and value.dim() > 2 and place != 1 and shape[1] == samples
    if second and (sample_axis == 1 or shape[0] % samples):
        letters[1] = "b"
    elif place and samples > 1 and shape[0] % samples == 0:
        shape[:1], letters[:1] = [samples, shape[0] // samples], ["b", "t"]
    return value.reshape(shape), Axes("".join(letters))


def merged(meters: Sequence[Meter]) -> Meter:
    """The average over draws."""
    first = meters[0]
    made = Meter(first.samples, backward=first.backward, sample_axis=first.sample_axis)
    for op in meters[0].operations:
        made.operations[op] = _mean([meter.operations[op].row() for meter in meters if op in meter.operations])
    for meter in meters:
        for param, taken in meter.layers.items():
            made.layers.setdefault(param, []).extend(taken)
        made.without_moments |= meter.without_moments
    return made


def _mean(found: list[SignalRow]) -> Taken:
    row = SignalRow.average(found)
    return Taken(row.q, row.p, row.s, row.mean, [] if row.grad is None else [row.grad])


MOST_DRAWS = 1000
"""Their average is known to 3 % of the scatter of one draw; far more is a mistake, and a run without end."""
_DRAWS = f"a whole number of draws from 1 to {MOST_DRAWS}"


def number_of_draws(seeds: Any) -> int:
    """Checks how many draws to average over.

    Raises:
        ArgumentError: it is no whole number from 1 to `MOST_DRAWS`.
    """
    require("seeds", seeds, int, _DRAWS)
    if not 1 <= seeds <= MOST_DRAWS:
        raise refusal("seeds", seeds, _DRAWS)
    return int(seeds)
