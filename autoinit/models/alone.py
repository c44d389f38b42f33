"""Weights without the code that uses them: names and tensors, and no forward."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import nn

from autoinit.errors import ArgumentError
from autoinit.tensors.elements import stored

NEEDS_CODE = "what a weight feeds, and so its plan, needs the model's code"
_STATISTICS = ("running_mean", "running_var")
_FEWEST = 16
"""A mask has as many elements at least: two values in fewer may be drawn."""
_LOOK = 4096


@dataclass(frozen=True, eq=False)
class WeightsAlone:
    """A state dict, seen as a model of which only the tensors are known.

    Attributes:
        state_dict: parameters (`nn.Parameter`) and, as far as their names and values tell, buffers: running statistics
            of norms, whole numbers, masks.
        hint: how the code is given, for messages.
    """

    state_dict: Mapping[str, torch.Tensor] = field(repr=False)
    hint: str

    @classmethod
    def of(
        cls, state: Mapping[str, Any] | WeightsAlone, hint: str = "pass the model, with these weights loaded"
    ) -> WeightsAlone:
        """The weights of a state dict, or these themselves. Shares its tensors.

        Raises:
            ArgumentError: it is no state dict.
        """
        if isinstance(state, WeightsAlone):
            return state
        tensors = {name: each for name, each in state.items() if "_extra_state" not in str(name)}
        wrong = [n for n, each in tensors.items() if not (isinstance(n, str) and torch.is_tensor(each))]
        if wrong or not tensors:
            held = f"{wrong[0]!r}: a {type(tensors[wrong[0]]).__name__}" if wrong else "nothing"
            raise ArgumentError(
                f"model is a {type(state).__name__} that holds {held}; expected a torch.nn.Module, an ExportedProgram "
                "or a state dict, which holds a tensor for each name"
            )
        return cls({name: _as_held(name, each) for name, each in tensors.items()}, hint)

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every tensor that may be a parameter, in order."""
        yield from ((name, each) for name, each in self.state_dict.items() if isinstance(each, nn.Parameter))


StateDict: TypeAlias = Mapping[str, torch.Tensor]
"""What `report` and `check` take in place of a model."""


def require_no_plan(weights: WeightsAlone, **given: Any) -> None:
    """Refuse what has a meaning for a model only.

    Raises:
        ArgumentError: an argument is given.
    """
    wrong = next((name for name, value in given.items() if value not in (None, ())), None)
    if wrong is not None:
        raise ArgumentError(f"{wrong}= is for a model, and these are weights alone: {weights.hint}")


def _as_held(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, as a parameter if it may be one."""
    found = tensor.detach()
    readable = found.is_floating_point() and found.layout is torch.strided
    if not readable or name.rpartition(".")[2] in _STATISTICS or _is_mask(found):
        return found
    return nn.Parameter(found)


def other_than_zero(flat: torch.Tensor) -> torch.Tensor:
    """The elements of a flat tensor that are not zero; those of one byte as float32, for torch 2.9 selects none."""
    readable = flat if flat.itemsize > 1 else flat.float()
    return readable[readable != 0]


def _is_mask(tensor: torch.Tensor) -> bool:
    """Whether every element is zero or one other value, as in masks of attention; that value may be infinite."""
    if tensor.is_meta or tensor.dim() < 2:
        return False
    flat = stored(tensor).flatten()
    for part in (flat[:_LOOK], flat):  # the first tells nearly always
        filled = other_than_zero(part)
        if not bool((filled == filled[:1]).all()):
            return False
    return _FEWEST <= flat.numel() != filled.numel() > 0
