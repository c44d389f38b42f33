"""Weights files: a state dict into a model, strictly."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import torch
from torch import nn

from autoinit.errors import ArgumentError, LoadError
from autoinit.loading import _unpickling as unpickling
from autoinit.loading import files
from autoinit.loading._archives import limit_for
from autoinit.loading._opening import opened, size_of
from autoinit.loading._states import check_states, overlaps
from autoinit.loading._wording import one_line, some
from autoinit.loading.safetensors_files import Described, described
from autoinit.models.alone import WeightsAlone

_INDEX_SUFFIX = ".index.json"
USUAL_NAMES = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
    "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors.index.json",
    "adapter_model.safetensors", "adapter_model.bin",
)  # fmt: skip
"""Weights in directories that transformers, diffusers and peft write."""
_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
_LARGEST_INDEX = 64 * 2**20


def load_into(
    model: nn.Module, path: Path, *, trust: bool, max_size: int | None = None
) -> tuple[tuple[str, ...], files.ReadFile]:
    """Load a state dict into a model: every key in both, every shape equal.

    Returns:
        Notes on how the weights were found, and what the file holds.

    Raises:
        LoadError: the file holds no weights, or not this model's.
    """
    with contextlib.ExitStack() as files_open:
        state, notes, holds = _read(path, trust, max_size, files_open)
        state, note = _fitting(state, model, path)
        state = {key: each.read() if isinstance(each, Described) else each for key, each in state.items()}
    try:
        on_meta = any(value.is_meta for value in model.state_dict().values() if torch.is_tensor(value))
        model.load_state_dict(state, assign=on_meta)
    except RuntimeError as error:
        raise LoadError(f"--weights {path} does not fit {type(model).__name__} ({one_line(error)})") from error
    return (*notes, *note), files.ReadFile(path, holds)


def read_alone(
    path: Path, value: object = None, *, trust: bool, max_size: int | None = None
) -> tuple[WeightsAlone, tuple[str, ...], files.ReadFile]:
    """The weights of a file, or of those that an index names, as they are.

    value: what the file was unpickled to, where it was.

    Returns:
        The weights, notes on how they were found, and what the file holds.

    Raises:
        LoadError: the file holds no weights.
    """
    with contextlib.ExitStack() as files_open:
        state, notes, holds = _state_in(value, path) if value is not None else _read(path, trust, max_size, files_open)
        state = {key: each.read() if isinstance(each, Described) else each for key, each in state.items()}
    overlapping = next((key for key, each in state.items() if torch.is_tensor(each) and overlaps(each)), None)
    if overlapping is not None:
        raise LoadError(f"{path}: {overlapping} has more elements than memory; they overlap")
    try:
        weights = WeightsAlone.of(state, f"give it as PACKAGE.MODULE:FACTORY --weights {path}")
    except ArgumentError as error:
        raise LoadError(f"{path}: {error}") from error
    return weights, notes, files.ReadFile(path, holds, os.path.getsize(path))


def found_in(directory: Path) -> Path | None:
    """The weights in a directory that holds those of one model; None where there are none, or several."""
    named = [directory / name for name in USUAL_NAMES if os.path.isfile(directory / name)]
    others = sorted(each for each in directory.iterdir() if each.suffix in _SUFFIXES) if not named else []
    return named[0] if named else others[0] if len(others) == 1 else None


def is_index(path: Path) -> bool:
    """Whether a file is named as the index of sharded weights."""
    return path.name.endswith(_INDEX_SUFFIX)


def _fitting(state: Mapping[str, Any], model: nn.Module, path: Path) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """The weights by the model's names, and a note on what was left off. state: tensors, or what has their shapes.

    Raises:
        LoadError: names or shapes are others than the model's.
    """
    notes: tuple[str, ...] = ()
    own = model.state_dict(keep_vars=True)
    state = {**state, **_tied(state, own)}
    if state.keys() != own.keys():
        state, note = _without_prefix(state, own)
        notes = (f"{path.name}: {note}",) if note else ()
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
    return state, notes


def _tied(state: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """What tied tensors that a file leaves out are there under another of their names."""
    there = {id(tensor): state[name] for name, tensor in own.items() if name in state}
    return {name: there[id(each)] for name, each in own.items() if name not in state and id(each) in there}


def _read(
    path: Path, trust: bool, max_size: int | None, files_open: contextlib.ExitStack
) -> tuple[Mapping[str, Any], tuple[str, ...], files.Content]:
    """The weights of a file, or of the files that an index names."""
    if not is_index(path):
        return _state(files_open.enter_context(opened(path)), path, trust, max_size)
    found: dict[str, Any] = {}
    shards = _shards(path)
    names = [path.parent / name for name in dict.fromkeys(shards.values())]
    opens = {part: files_open.enter_context(opened(part)) for part in names}
    limit, unpacked = limit_for(sum(map(size_of, opens.values())), max_size), 0
    for part, file in opens.items():
        state, _, _ = _state(file, part, trust, max_size)
        unpacked += sum(each.untyped_storage().nbytes() for each in state.values() if isinstance(each, torch.Tensor))
        if unpacked > limit and not trust:
            raise LoadError(
                f"--weights {path}: its files unpack to {unpacked:,} bytes up to {part.name}, expected up to {limit:,} "
                "for all; if more is right, say so by --max-size"
            )
        twice = sorted(state.keys() & found.keys())
        if twice:
            raise LoadError(f"--weights {path}: two of its files hold {some(twice)}; save the weights again")
        found.update(state)
    absent = [key for key in shards if key not in found]
    if absent:
        raise LoadError(f"--weights {path} names {some(absent)}, which its files do not hold; save the weights again")
    return found, (f"{path.name}: read {len(set(shards.values()))} files",), "state dict"


def named_by(path: Path) -> list[Path]:
    """The files that an index names, so far as it can be read; none for any other file."""
    try:
        return [path.parent / name for name in set(_shards(path).values())] if is_index(path) else []
    except LoadError:  # said when it is loaded
        return []


class _Index(msgspec.Struct):
    """The part of a sharded checkpoint's index that is read: for each tensor the file that holds it."""

    weight_map: dict[str, str]


def _shards(path: Path) -> dict[str, str]:
    """For each tensor the name of its file, which stands beside the index.

    Raises:
        LoadError: the file is no index, or names a file elsewhere.
    """
    with opened(path) as file:
        if size_of(file) > _LARGEST_INDEX:
            raise LoadError(f"{path} has {size_of(file):,} bytes; an index has at most {_LARGEST_INDEX:,}")
        text = file.read()
    try:
        found = msgspec.json.decode(text, type=_Index).weight_map
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise LoadError(f"{path} is no index of a sharded checkpoint ({one_line(error)})") from error
    for name in found.values():
        if name != Path(name).name or name in ("", ".", ".."):
            raise LoadError(f"{path} names the file {name!r}; expected the name of a file beside it")
    return found


def _without_prefix(state: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    """The weights under the prefix that wrappers and training frameworks put before every name, if that makes them fit.

    What else a checkpoint holds beside them (a loss, metrics) is left out, and the note says so.
    """
    first = next(iter(own), None)
    ends = [key for key in state if first is not None and key.endswith(f".{first}")]
    for prefix in (key.removesuffix(first) for key in ends if first is not None):
        inside = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        if inside.keys() == own.keys():
            others = [key for key in state if not key.startswith(prefix)]
            beside = f", and {len(others)} tensors beside them: {some(others)}" if others else ""
            return inside, f"left off the prefix {prefix!r} of every key{beside}"
    return state, ""


def _state(
    file: BinaryIO, path: Path, trust: bool, max_size: int | None
) -> tuple[Mapping[str, Any], tuple[str, ...], files.Content]:
    kind = files.kind_of(file, path)
    if kind == "safetensors":
        return described(file, path), (), "state dict"
    if kind == "exported":
        raise LoadError(f"--weights {path} is an exported program; give it as the model itself: autoinit report {path}")
    return _state_in(unpickling.read(file, limit_for(size_of(file), max_size), path, trust=trust), path)


def _state_in(value: object, path: Path) -> tuple[Mapping[str, Any], tuple[str, ...], files.Content]:
    """The weights in what a file was unpickled to."""
    notes: tuple[str, ...] = ()
    holds: files.Content = "state dict"
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
