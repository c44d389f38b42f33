"""Writing files so that each is there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoinit.errors import ArgumentError, LoadError

if TYPE_CHECKING:
    from autoinit.loading import Loaded

SUFFIXES = (".safetensors", ".pt", ".pth")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` to write to; it becomes `path` when the block ends, and is gone if it fails.

    A symbolic link stays one: the file that it names is replaced. Mode, owner and group are those of the file replaced.

    Raises:
        ArgumentError: the file cannot be written; says why.
    """
    target = _regular(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name[:40]}.", suffix=target.suffix[:20], dir=target.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        _take_after(temporary, target, path)
        os.replace(temporary, target)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def require_outputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Refuse, before anything is read, outputs that could not be written or would replace what is read.

    Args:
        outputs: files that a command is to write.
        inputs: files that it reads: models, weights, configuration, baseline. Links to them count as they do.

    Raises:
        ArgumentError: says what stands in the way.
    """
    read = list(inputs)
    known: list[Path] = []
    for path in outputs:
        target = _regular(path)
        for each in read:
            if _same(target, each):
                raise ArgumentError(f"{path} is read by this run, as {each}; name another file to write")
        for other in known:
            if _same(target, other):
                raise ArgumentError(f"one file cannot hold two outputs: {other}, {path}")
        known.append(path)
        try:
            with tempfile.TemporaryFile(dir=target.parent):
                pass
        except OSError as error:
            raise _unwritable(path, error) from error


def _regular(path: Path) -> Path:
    """The file that a path names, links followed, whether it is there or is to be made."""
    if "\0" in os.fspath(path):
        raise ArgumentError(f"{path} cannot be written: no name of a file holds a null byte")
    try:
        target = path.resolve()
        if target.is_symlink():  # from Python 3.13 on a loop of links resolves to itself
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if target.exists() and not target.is_file():
            kind = "a directory" if target.is_dir() else "no regular file"
            raise ArgumentError(f"{path} is {kind}; name a file to write")
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links is a RuntimeError before Python 3.13
        if isinstance(error, ArgumentError):
            raise
        raise _unwritable(path, error) from error
    return target


def _same(path: Path, other: Path) -> bool:
    """Whether two paths name one file, by whatever links; or would, if it were there."""
    try:
        return path.samefile(other)
    except (OSError, ValueError):
        return os.path.abspath(path) == os.path.abspath(other)


def _unwritable(path: Path, error: Exception) -> ArgumentError:
    return ArgumentError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}")


def check_output(path: Path, loaded: Loaded, *, in_place: bool) -> None:
    """Refuse an output that is of no known kind, or one of the files that were read unless `in_place`.

    Raises:
        ArgumentError: says what stands in the way and what to do.
    """
    if path.suffix not in SUFFIXES:
        raise ArgumentError(f"{path}: weights are written to {', '.join(SUFFIXES)}, not {path.suffix or 'no suffix'!r}")
    _regular(path)
    for read in loaded.files:
        if not _same(path, read.path):
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

    whole = any(read.holds == "model" and _same(path, read.path) for read in loaded.files)
    with replacing(path) as temporary:
        if path.suffix == ".safetensors" and not whole:
            _save_safetensors(_state(loaded.model), temporary, path)
            return
        try:
            torch.save(loaded.model if whole else _state(loaded.model), temporary)
        except RuntimeError as error:  # how torch's writer tells of a full disk
            raise _unwritable(path, error) from error


def _state(model: Any) -> Mapping[str, Any]:
    """The state dict of a module (a method) or of an exported program (a property)."""
    state: Mapping[str, Any] = model.state_dict() if callable(model.state_dict) else model.state_dict
    return state


def _save_safetensors(state: Mapping[str, Any], temporary: Path, path: Path) -> None:
    try:
        from safetensors import SafetensorError
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
    try:
        save_file(tensors, temporary)
    except (SafetensorError, ValueError) as error:
        raise _unwritable(path, error) from error


def _take_after(temporary: Path, target: Path, path: Path) -> None:
    """Give a new file mode, owner and group of the one that it replaces; those of a new file where there is none."""
    if not target.exists():
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        return
    before, after = target.stat(), temporary.stat()
    if hasattr(os, "chown") and (before.st_uid, before.st_gid) != (after.st_uid, after.st_gid):
        try:
            os.chown(temporary, before.st_uid, before.st_gid)
        except PermissionError as error:
            raise ArgumentError(
                f"{path} belongs to user {before.st_uid} and group {before.st_gid}, which only they can keep for it; "
                "name another file to write"
            ) from error
    temporary.chmod(stat.S_IMODE(before.st_mode))  # after the owner, whose change takes some bits away
