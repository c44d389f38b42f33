"""Files opened once: what is looked at and what is loaded are the same bytes of the same file."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from autoinit.errors import LoadError
from autoinit.loading._wording import did_you_mean


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
