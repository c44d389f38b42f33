"""A plan's values for a model on the meta device, a few tensors at a time: no more memory is held than those take.

They are the values that `to_empty` and `Plan.apply(model, seed, rest="reset")` give. Rows that an embedding keeps for
padding are zero, as its constructor makes them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from autoinit.errors import PlanError
from autoinit.models import ModelView
from autoinit.plans.plan import Plan
from autoinit.tensors.measuring import WeightStats
from autoinit.tensors.process_state import tensors_on_cpu
from autoinit.writing import _filling as filling
from autoinit.writing._preflight import RestWrite, Targets, WeightWrite, preflight
from autoinit.writing.pieces import LocalPiece
from autoinit.writing.resetting import Reset

_NAMED = 8
"""Tensors that an error names."""


@dataclass(frozen=True, eq=False)
class ValueStream:
    """What a model on the meta device is to hold.

    Attributes:
        tensors: by its name in the state dict each tensor that is to have values, tied ones once, by their first name.
        seed: of the values.
    """

    tensors: Mapping[str, torch.Tensor]
    seed: int
    _view: ModelView
    _targets: Targets

    @classmethod
    def of(cls, plan: Plan, view: ModelView, seed: int) -> ValueStream:
        """Checks that every tensor will have values.

        Raises:
            PlanError: the plan does not fit the model, or a tensor of its state dict would stay without values.
        """
        with tensors_on_cpu():
            targets = preflight(plan, view, reset=True, memory=False)
        parametrised = [each.stored.weight for each in targets.writes if each.stored.kind != "plain"]
        if parametrised:
            raise PlanError(
                f"{_some(parametrised)} parametrised (weight_norm, spectral_norm, ...), and what their tensors must be "
                f"shows in a model with memory alone. Write it to one file: -o FILE.safetensors"
            )
        tensors = tensors_once(view.module)
        made = cls(tensors, seed, view, targets)
        given = {id(tensor) for part in made._parts() for tensor in part.tensors}
        left = [name for name, tensor in tensors.items() if tensor.is_meta and id(tensor) not in given]
        if left:
            raise PlanError(
                f"{_some(left)} left without values: the plan does not write them, and no reset_parameters of their "
                f"module does, nor the model's _init_weights. Give the module one, or build the model in memory and "
                f"write it to one file: -o FILE.safetensors"
            )
        return made

    def values(self, after: dict[str, WeightStats]) -> Iterator[tuple[str, torch.Tensor]]:
        """Each tensor's name and values, once; into `after` go the statistics of the planned weights, by layer.

        Raises:
            PlanError: the method that resets a module fails.
        """
        names = {id(tensor): name for name, tensor in self.tensors.items()}
        for part in self._parts():
            for tensor, values in part.made(after):
                name = names.pop(id(tensor), None)
                if name is not None:  # a buffer may be none of the state dict's
                    yield name, values
                del values  # before the next is made
        for name in names.values():
            yield name, self.tensors[name].detach()

    def _parts(self) -> Iterator[_Together]:
        """Everything that is written, in the order of the plan."""
        held, first, targets = self._view.held, self._view.first_names, self._targets
        for each in targets.writes:
            job = each.job(self.seed, measure=False)
            yield _Together((held[each.stored.param],), partial(_filled, each, job), each.layer.name)
        for name in dict.fromkeys(first[name] for each in targets.writes for name in each.layer.biases):
            yield _Together((held[name],), partial(_zeros, held[name]))
        for rest in targets.rest:
            yield _Together((held[first[rest.plan.name]],), partial(_filled, rest, rest.job(self.seed)))
        for reset in targets.resets:
            own = {**reset.module._buffers, **reset.module._parameters}
            tensors = tuple(tensor for leaf in reset.leaves.values() if (tensor := own[leaf]) is not None)
            yield _Together(tensors, partial(_reset, reset, self.seed))


@dataclass(frozen=True, eq=False)
class _Together:
    """Tensors of the model that get values together, what makes these, and the layer whose weight the first is."""

    tensors: tuple[torch.Tensor, ...]
    make: Callable[[], Sequence[torch.Tensor]]
    layer: str | None = None

    def made(self, after: dict[str, WeightStats]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Each tensor of the model and its values, not held here any longer once they are given."""
        with torch.no_grad():
            made = deque(self.make())
        if self.layer is not None:
            after[self.layer] = filling.measure_all({self.layer: made[0]})[self.layer].stats()
        for tensor in self.tensors:
            yield tensor, made.popleft()


def _filled(write: WeightWrite | RestWrite, job: filling.Job) -> Sequence[torch.Tensor]:
    values = _blank(write.tensor)
    with tensors_on_cpu():
        progress = filling.Progress({job.name: len(job.draw.pieces)})
        filling.fill_all([replace(job, tensor=values)], progress=progress, stop=threading.Event())
    for row in write.padding:
        values[row] = 0
    return (values,)


def _zeros(bias: torch.Tensor) -> Sequence[torch.Tensor]:
    return (_blank(bias).zero_(),)


def _reset(reset: Reset, seed: int) -> Sequence[torch.Tensor]:
    blank = {name: LocalPiece(_blank(piece.tensor), piece.region) for name, piece in reset.pieces.items()}
    with tensors_on_cpu():
        replace(reset, pieces=blank).write(seed)
    return [blank[name].tensor for name in reset.leaves]


def tensors_once(model: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of a model's state dict in order, tied ones once, by their first name."""
    first: dict[int, str] = {}
    state = model.state_dict(keep_vars=True)
    for name, tensor in state.items():
        first.setdefault(id(tensor), name)
    return {name: state[name] for name in first.values() if isinstance(state[name], torch.Tensor)}


def _blank(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more} {'is' if len(names) == 1 else 'are'}"
