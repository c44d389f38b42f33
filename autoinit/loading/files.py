"""Model files: what kind of file it is, and the object in it, without running code from it."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import torch
from torch import nn

from autoinit.errors import LoadError
from autoinit.loading import _exported as exported
from autoinit.loading import _unpickling as unpickling
from autoinit.loading._wording import did_you_mean, some

if TYPE_CHECKING:
    from torch.export import ExportedProgram

CHECKPOINT_KEYS = ("state_dict", "model", "model_state_dict")
"""Keys under which training scripts commonly keep the model, or its weights, in a checkpoint."""

Holding = Literal["model", "exported program", "checkpoint", "state dict"]
"""What a file holds; a checkpoint keeps other things beside a model or state dict."""


@dataclass(frozen=True)
class ReadFile:
    """A file that was read, and what it holds."""

    path: Path
    holds: Holding


_FACTORY_HINT = "give the code that builds the model: PACKAGE.MODULE:FACTORY --weights {path}"


def read_model(path: Path, *, trust: bool) -> tuple[nn.Module | ExportedProgram, tuple[str, ...], ReadFile]:
    """The model in a file, notes about it, and what else the file is.

    Raises:
        LoadError: there is no such file, it holds no model, or building the model would run code from it.
    """
    kind = kind_of(path)
    if kind == "exported":
        return exported.read(path, trust=trust), (), ReadFile(path, "exported program")
    if kind == "safetensors":
        raise LoadError(f"{path} holds weights only; {_FACTORY_HINT.format(path=path)}")
    return _model_in(unpickling.read(path, trust=trust), path)


def kind_of(path: Path) -> str:
    """`saved` (by torch.save), `exported` (by torch.export.save) or `safetensors`.

    Raises:
        LoadError: the file cannot be read, or is of no kind that autoinit reads.
    """
    try:
        with _opened(path) as file:
            return _kind(file, path)
    except OSError as error:
        raise LoadError(f"{path} cannot be read: {error.strerror or error}") from error


def _opened(path: Path) -> BinaryIO:
    if path.is_dir():
        config = f"; for a transformers model: hf:{path}" if (path / "config.json").exists() else ""
        raise LoadError(f"{path} is a directory, not a file{config}")
    if not path.exists():
        near = did_you_mean(path.name, (each.name for each in _siblings(path)))
        raise LoadError(f"{path}: no such file{near}")
    return path.open("rb")


def _siblings(path: Path) -> list[Path]:
    return list(path.parent.iterdir()) if path.parent.is_dir() else []


def _kind(file: BinaryIO, path: Path) -> str:
    start = file.read(64)
    if not start:
        raise LoadError(f"{path} is empty (0 bytes)")
    if zipfile.is_zipfile(file):
        return _kind_of_zip(file, path)
    if start.startswith(b"PK\x03\x04"):
        raise LoadError(
            f"{path} is cut short: it begins as an archive of torch.save or torch.export.save and has no end"
        )
    if start[8:9] == b"{" and path.suffix == ".safetensors":
        return "safetensors"
    if start[:1] == b"\x80":
        return "saved"
    raise LoadError(
        f"{path} is not a model file: it begins with {start[:16]!r}, unlike files of torch.save or torch.export.save"
    )


def _kind_of_zip(file: BinaryIO, path: Path) -> str:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise LoadError(f"{path} is damaged: its archive cannot be read ({error})") from error
    tails = {name.partition("/")[2] or name for name in names} | set(names)
    if "constants.pkl" in tails or any(name.startswith("code/") for name in tails):
        raise LoadError(
            f"{path} is a TorchScript archive, whose graph autoinit does not read; "
            "export the model again with torch.export.save(..., 'model.pt2'), or give PACKAGE.MODULE:FACTORY"
        )
    if "serialized_exported_program.json" in tails or any(name.startswith("models/") for name in tails):
        return "exported"
    if "data.pkl" in tails:
        return "saved"
    if any(name.startswith("data/aotinductor/") for name in tails):
        raise LoadError(
            f"{path} was compiled by AOTInductor and holds no graph; give the file that torch.export.save wrote"
        )
    raise LoadError(
        f"{path} is a zip archive, but not one that torch.save or torch.export.save wrote; "
        f"it holds {some(names) or 'nothing'}"
    )


def _model_in(value: object, path: Path) -> tuple[nn.Module, tuple[str, ...], ReadFile]:
    if isinstance(value, nn.Module):
        return value, (), ReadFile(path, "model")
    if isinstance(value, Mapping):
        for key in CHECKPOINT_KEYS:
            if isinstance(value.get(key), nn.Module):
                note = f"{path.name} is a checkpoint; its {key!r} is the model"
                return value[key], (note,), ReadFile(path, "checkpoint")
        if _holds_weights(value):
            raise LoadError(
                f"{path} holds a state dict, which is weights without a model; {_FACTORY_HINT.format(path=path)}"
            )
    raise LoadError(f"{path} holds a {type(value).__name__}, not a model; {_FACTORY_HINT.format(path=path)}")


def _holds_weights(value: Mapping[Any, Any]) -> bool:
    states = [value, *(value[key] for key in CHECKPOINT_KEYS if isinstance(value.get(key), Mapping))]
    return any(isinstance(each, torch.Tensor) for state in states for each in state.values())
