"""Weights files: a state dict into a model, strictly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

from autoinit.errors import LoadError
from autoinit.loading import _safetensors as safetensors
from autoinit.loading import _unpickling as unpickling
from autoinit.loading import files
from autoinit.loading._archives import limit_for
from autoinit.loading._opening import opened, size_of
from autoinit.loading._states import check_states
from autoinit.loading._wording import one_line, some

_WRAPPERS = ("module.", "_orig_mod.")


def load_into(
    model: nn.Module, path: Path, *, trust: bool, max_size: int | None = None
) -> tuple[tuple[str, ...], files.ReadFile]:
    """Load a state dict into a model: every key in both, every shape equal.

    Returns:
        Notes on how the weights were found, and what the file holds.

    Raises:
        LoadError: the file holds no weights, or not this model's.
    """
    state: Mapping[str, Any]
    with opened(path) as file:
        kind = files.kind_of(file, path)
        if kind == "safetensors":
            listed = safetensors.described(file, path)
            _require_fit(model, path, _unwrapped(listed, model))  # before anything is read
            state, notes, holds = safetensors.tensors(file, listed), (), "state dict"
        else:
            state, notes, holds = _state(file, path, kind, trust, max_size)
    bare = _unwrapped(state, model)
    wrapper = next(iter(state), "").removesuffix(next(iter(bare), ""))
    if wrapper:
        notes = (*notes, f"{path.name}: left off the prefix {wrapper!r} of every key")
    _require_fit(model, path, bare)
    try:
        on_meta = any(value.is_meta for value in model.state_dict().values() if torch.is_tensor(value))
        model.load_state_dict(bare, assign=on_meta)
    except RuntimeError as error:
        raise LoadError(f"--weights {path} does not fit {type(model).__name__} ({one_line(error)})") from error
    return notes, files.ReadFile(path, holds)


def _unwrapped(state: Mapping[str, Any], model: nn.Module) -> Mapping[str, Any]:
    """Without the prefix that a wrapper puts before every key, where the model has it not."""
    own = model.state_dict()
    for wrapper in _WRAPPERS:
        if state and all(key.startswith(wrapper) for key in state) and not any(key.startswith(wrapper) for key in own):
            state = {key.removeprefix(wrapper): value for key, value in state.items()}
    return state


def _require_fit(model: nn.Module, path: Path, state: Mapping[str, Any]) -> None:
    """Refuse weights of other names or shapes than the model's. state: tensors, or what has their shapes."""
    own = model.state_dict()
    shapes = [
        f"{key} {tuple(value.shape)} for {tuple(own[key].shape)}"
        for key, value in state.items()
        if isinstance(own.get(key), torch.Tensor) and hasattr(value, "shape") and own[key].shape != value.shape
    ]
    missing = [key for key in own if key not in state]
    unexpected = [key for key in state if key not in own]
    faults = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    if any(faults.values()):
        found = "; ".join(f"{len(keys)} {fault}: {some(keys)}" for fault, keys in faults.items() if keys)
        raise LoadError(f"--weights {path} does not fit {type(model).__name__}: {found}")


def _state(
    file: BinaryIO, path: Path, kind: str, trust: bool, max_size: int | None
) -> tuple[Mapping[str, Any], tuple[str, ...], files.Holding]:
    if kind == "exported":
        raise LoadError(f"--weights {path} is an exported program; give it as the model itself: autoinit report {path}")
    value = unpickling.read(file, limit_for(size_of(file), max_size), path, trust=trust)
    notes: tuple[str, ...] = ()
    holds: files.Holding = "state dict"
    if isinstance(value, Mapping):
        for key in files.CHECKPOINT_KEYS:
            if isinstance(value.get(key), Mapping | nn.Module):
                value, holds = value[key], "checkpoint"
                notes = (f"{path.name} is a checkpoint; took the weights in its {key!r}",)
                break
    if isinstance(value, nn.Module):
        check_states(value, path)
        notes = (*notes, f"{path.name} holds a whole model; took its weights")
        return value.state_dict(), notes, "model" if holds == "state dict" else holds
    if isinstance(value, Mapping) and value and all(isinstance(key, str) for key in value):
        strays = [
            key for key, each in value.items() if not isinstance(each, torch.Tensor) and "_extra_state" not in key
        ]
        if not strays:
            return value, notes, holds
        raise LoadError(
            f"--weights {path} is no state dict: {some(strays)} are no tensors; a checkpoint may keep its state dict "
            f"under {', '.join(files.CHECKPOINT_KEYS)}"
        )
    raise LoadError(f"--weights {path} holds a {type(value).__name__}, not a state dict")
