"""Model files: what kind of file it is, and the object in it, without running code from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import torch
from torch import nn

from autoinit.errors import LoadError
from autoinit.loading import _unpickling as unpickling
from autoinit.loading import exported
from autoinit.loading._archives import DamagedError, directory_of, limit_for
from autoinit.loading._opening import opened, size_of
from autoinit.loading._states import check_states
from autoinit.loading._wording import some
from autoinit.tracing import ExportedModel

if TYPE_CHECKING:
    from torch.export import ExportedProgram

CHECKPOINT_KEYS = ("state_dict", "model", "model_state_dict")
"""Keys under which training scripts commonly keep the model, or its weights, in a checkpoint."""

Content = Literal["model", "exported program", "checkpoint", "state dict"]
"""What a file holds; a checkpoint keeps other things beside a model or state dict."""


@dataclass(frozen=True)
class ReadFile:
    """A file that was read, and what it holds.

    Attributes:
        size: in bytes.
    """

    path: Path
    holds: Content
    size: int = field(default=0, compare=False)


class WeightsOnlyError(LoadError):
    """A file holds weights and no model.

    Attributes:
        value: what the file was unpickled to, where it was: nobody needs to read it again.
    """

    def __init__(self, message: str, value: Mapping[Any, Any] | None = None) -> None:
        super().__init__(message)
        self.value = value


_ZIP = b"PK\x03\x04"
_NO_END = "File is not a zip file"
"""How zipfile says it."""
FACTORY_HINT = "give the code that builds the model: PACKAGE.MODULE:FACTORY --weights {path}"


def read_model(
    path: Path, *, trust: bool, max_size: int | None = None
) -> tuple[nn.Module | ExportedModel | ExportedProgram, tuple[str, ...], ReadFile]:
    """The model in a file, notes about it, and what else the file is.

    Args:
        path: the file. It is opened once.
        trust: let the file run code.
        max_size: how many bytes it may unpack to; by default four times its own size, or 256 MiB if that is more.

    Raises:
        LoadError: there is no such file, it holds no model, or building the model would run code from it.
    """
    with opened(path) as file:
        kind = kind_of(file, path)
        if kind == "safetensors":
            raise WeightsOnlyError(f"{path} holds weights only; {FACTORY_HINT.format(path=path)}")
        size = size_of(file)
        limit = limit_for(size, max_size)
        if kind == "exported":
            program = exported.run(file, path) if trust else exported.read(file, limit, path)
            return program, (), ReadFile(path, "exported program", size)
        model, notes, holds = _model_in(unpickling.read(file, limit, path, trust=trust), path)
        return model, notes, ReadFile(path, holds, size)


def kind_of(file: BinaryIO, path: Path) -> str:
    """`saved` (by torch.save), `exported` (by torch.export.save) or `safetensors`.

    Raises:
        LoadError: the file cannot be read, or is of no kind that autoinit reads.
    """
    file.seek(0)
    start = file.read(64)
    file.seek(0)
    if not start:
        raise LoadError(f"{path} is empty (0 bytes)")
    if start.startswith(_ZIP):
        return _kind_of_zip(file, path)
    if start[8:9] == b"{" and path.suffix == ".safetensors":
        return "safetensors"
    if start[:1] == b"\x80":
        return "saved"
    raise LoadError(
        f"{path} is not a model file: it begins with {start[:16]!r}, unlike files of torch.save or torch.export.save"
    )


def _kind_of_zip(file: BinaryIO, path: Path) -> str:
    try:
        names = directory_of(file).namelist()
    except DamagedError as error:
        if str(error) == _NO_END:
            raise LoadError(
                f"{path} is cut short: it begins as an archive of torch.save or torch.export.save and has no end"
            ) from error
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


def _model_in(value: object, path: Path) -> tuple[nn.Module, tuple[str, ...], Content]:
    if isinstance(value, nn.Module):
        check_states(value, path)
        return value, (), "model"
    if isinstance(value, Mapping):
        for key in CHECKPOINT_KEYS:
            if isinstance(value.get(key), nn.Module):
                check_states(value[key], path)
                note = f"{path.name} is a checkpoint; its {key!r} is the model"
                return value[key], (note,), "checkpoint"
        if _holds_weights(value):
            raise WeightsOnlyError(
                f"{path} holds a state dict, which is weights without a model; {FACTORY_HINT.format(path=path)}",
                value,
            )
    raise LoadError(f"{path} holds a {type(value).__name__}, not a model; {FACTORY_HINT.format(path=path)}")


def _holds_weights(value: Mapping[Any, Any]) -> bool:
    states = [value, *(value[key] for key in CHECKPOINT_KEYS if isinstance(value.get(key), Mapping))]
    return any(isinstance(each, torch.Tensor) for state in states for each in state.values())
