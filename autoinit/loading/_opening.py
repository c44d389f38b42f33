"""Files opened once: what is looked at and what is loaded are the same bytes of the same file."""

from __future__ import annotations

import contextlib
import io
import mmap
import os
import stat
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from autoinit.errors import LoadError
from autoinit.loading._wording import did_you_mean

_MAPPED = 1 << 30
"""Files above this size, in bytes, are not copied into memory."""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A regular file, open for reading; no second look at the path is needed, whatever becomes of it meanwhile.

    Raises:
        LoadError: there is no such file, it cannot be read, or is no regular file.
    """
    try:
        # Not to wait for a writer, should it be a pipe.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        raise _refusal(path, error) from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise _is_directory(path)
        raise LoadError(f"{path} is no regular file: expected a file on disk, not a pipe, socket or device")
    with _File(io.FileIO(descriptor)) as file:
        try:
            yield file
        except OSError as error:
            raise LoadError(f"{path} cannot be read: {error.strerror or error}") from error


class _File(io.BufferedReader):
    """A file that tells nobody its descriptor: torch.load unpacks what looks like a tar archive if it can have it."""

    def fileno(self) -> int:
        """Refuses."""
        raise io.UnsupportedOperation("fileno")

    @cached_property
    def memory(self) -> mmap.mmap:
        """The file's bytes: the system reads what is looked at and may drop it again. What is written stays here."""
        return mmap.mmap(super().fileno(), 0, access=mmap.ACCESS_COPY)

    @property
    def path(self) -> str | None:
        """Another path to the open file, whatever has become of its own; None where the system has none."""
        path = f"/proc/self/fd/{super().fileno()}"
        return path if os.path.exists(path) else None


def mapped(file: BinaryIO) -> _File | None:
    """The file, if it is so large that its tensors are to stay in it: they must not be cut off while they are used."""
    return file if isinstance(file, _File) and size_of(file) > _MAPPED else None


def size_of(file: BinaryIO) -> int:
    """Bytes of an open file; it is at its beginning afterwards."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    return size


def _refusal(path: Path, error: OSError | ValueError) -> LoadError:
    if isinstance(error, IsADirectoryError):
        return _is_directory(path)
    if isinstance(error, FileNotFoundError):
        return LoadError(f"{path}: no such file{did_you_mean(path.name, _siblings(path))}")
    return LoadError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}")


def _is_directory(path: Path) -> LoadError:
    hint = "" if os.path.exists(path / "config.json") else "; one with a config.json is read as a model of transformers"
    return LoadError(f"{path} is a directory, not a file{hint}")


def _siblings(path: Path) -> list[str]:
    try:
        return os.listdir(path.parent)
    except OSError:
        return []
