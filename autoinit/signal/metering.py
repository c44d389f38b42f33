"""Taking the moments of values as they come by, and of their gradients later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from autoinit.ops import Role
from autoinit.signal.fields import Axes, Rows, row_covariance, second_moment
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


class Meter:
    """Moments by operation and, for pre-activations, by weight.

    samples: of the model's input. weights: names of the parameters that an operation uses as weights.
    """

    def __init__(self, samples: int, *, backward: bool) -> None:
        self.samples, self.backward = samples, backward
        self.operations: dict[Op, Taken] = {}
        self.layers: dict[str, list[Taken]] = {}
        self._features: dict[Op, int | None] = {}

    def see(self, op: Op, value: Any) -> None:
        """Take the moments of an operation's value."""
        if not isinstance(value, torch.Tensor) or not value.is_floating_point() or not value.numel():
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

    def take(self, value: torch.Tensor, axis: int | None) -> Taken:
        """The moments of a tensor whose features lie on an axis (counted from the end), if that is known."""
        plain = value.detach().float()
        if axis is not None and plain.dim() >= 2:
            taken = _of_rows(Rows.of(*rows(plain, axis, self.samples)))
        else:
            taken = Taken(second_moment(plain), None, None, float(plain.mean()))
        if self.backward and value.requires_grad:
            hook: Any = value.register_hook
            hook(lambda grad: taken.grads.append(second_moment(grad.detach().float())))
        return taken

    def _axis(self, op: Op, value: torch.Tensor) -> int | None:
        """The axis of the features: known at weights, followed from there."""
        known = _at_weight(op, value) if op.role is Role.WEIGHT else None
        if known is None:
            known = next((found for each in _signals(op) if (found := self._followed(each, op, value))), None)
        self._features[op] = known
        return known

    def _followed(self, before: Op, op: Op, value: torch.Tensor) -> int | None:
        axis, shape = self._features.get(before), before.shape
        if op.op == "embedding":
            return -1
        if axis is None or shape is None or len(shape) < -axis:
            return None
        size = shape[axis]
        if value.dim() == len(shape) and value.shape[axis] == size:
            return axis
        places = [place for place in range(-value.dim(), 0) if value.shape[place] == size]
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


def rows(value: torch.Tensor, axis: int, samples: int) -> tuple[torch.Tensor, Axes]:
    """A view of a tensor with its samples, positions and features told apart."""
    place = axis % value.dim()
    letters = ["c" if at == place else "t" for at in range(value.dim())]
    shape = list(value.shape)
    if place and samples > 1 and shape[0] % samples == 0:
        shape[:1], letters[:1] = [samples, shape[0] // samples], ["b", "t"]
    return value.reshape(shape), Axes("".join(letters))
