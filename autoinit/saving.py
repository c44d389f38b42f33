"""Writing files so that each is there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoinit.errors import ArgumentError, LoadError

if TYPE_CHECKING:
    from autoinit.loading import Loaded

SUFFIXES = (".safetensors", ".pt", ".pth")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` to write to; it becomes `path` when the block ends, and is gone if it fails.

    A symbolic link stays one: the file that it names is replaced. Permissions are those of the file replaced.

    Raises:
        ArgumentError: the file cannot be written; says why.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        raise ArgumentError(f"{path} is not a regular file: expected a file to write, or the name of a new one")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=target.suffix, dir=target.parent)
    except OSError as error:
        raise ArgumentError(f"{path} cannot be written: {error.strerror or error}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(_permissions(target))
        os.replace(temporary, target)
    except OSError as error:
        raise ArgumentError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def check_output(path: Path, loaded: Loaded, *, in_place: bool) -> None:
    """Refuse an output that is of no known kind, or one of the files that were read unless `in_place`.

    Raises:
        ArgumentError: says what stands in the way and what to do.
    """
    if path.suffix not in SUFFIXES:
        raise ArgumentError(f"{path}: weights are written to {', '.join(SUFFIXES)}, not {path.suffix or 'no suffix'!r}")
    if path.is_dir():
        raise ArgumentError(f"{path} is a directory; name a file in it")
    for read in loaded.files:
        if not (path.exists() and path.samefile(read.path)):
            continue
        if not in_place:
            raise ArgumentError(f"{path} is the input {read.path}; name another output, or say --in-place")
        if read.holds not in ("model", "state dict"):
            raise ArgumentError(f"{path} is a {read.holds}, which writing weights would destroy; name another output")


def save(loaded: Loaded, path: Path) -> None:
    """Write a model's weights as a state dict; over a file that holds the whole model, the whole model.

    Raises:
        ArgumentError: the file cannot be written, or its format cannot hold the weights.
    """
    import torch

    whole = any(read.holds == "model" and path.exists() and path.samefile(read.path) for read in loaded.files)
    with replacing(path) as temporary:
        if whole:
            torch.save(loaded.model, temporary)
        elif path.suffix == ".safetensors":
            _save_safetensors(_state(loaded.model), temporary, path)
        else:
            torch.save(_state(loaded.model), temporary)


def _state(model: Any) -> Mapping[str, Any]:
    """The state dict of a module (a method) or of an exported program (a property)."""
    state: Mapping[str, Any] = model.state_dict() if callable(model.state_dict) else model.state_dict
    return state


def _save_safetensors(state: Mapping[str, Any], temporary: Path, path: Path) -> None:
    try:
        from safetensors.torch import save_file
    except ImportError as error:
        raise LoadError(f"{path}: writing it needs safetensors: pip install 'torch-autoinit[safetensors]'") from error
    import torch

    tensors: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise ArgumentError(
                f"{path}: safetensors holds tensors only, and {name} is a {type(value).__name__}; use .pt"
            )
        storage = value.untyped_storage().data_ptr()
        tensors[name] = value.clone() if storage in seen else value.contiguous()
        seen.add(storage)
    save_file(tensors, temporary)


def _permissions(target: Path) -> int:
    if target.exists():
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
