"""Records of the zip archives that torch writes, as every reader of them would see them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch


def names_in(path: Path) -> set[str]:
    """Names of all records, in either reader's view."""
    names: set[str] = set()

    def note(name: str) -> bool:
        names.add(name)
        return False

    for _ in records(path, note):
        pass
    return names


def records(source: Path | bytes, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the wanted records.

    An archive can be written so that two zip readers see different contents. torch reads some archives with its own
    reader and some with zipfile, so this gives what both see, and every entry of a name that occurs twice.

    Raises:
        zipfile.BadZipFile: it is no zip archive.
    """
    with zipfile.ZipFile(source if isinstance(source, Path) else io.BytesIO(source)) as archive:
        for entry in archive.infolist():
            if not entry.is_dir() and wanted(entry.filename):
                yield entry.filename, archive.read(entry)
    try:
        reader = torch._C.PyTorchFileReader(str(source) if isinstance(source, Path) else io.BytesIO(source))
    except RuntimeError:
        return  # torch's reader refuses it, so torch will not read it that way either
    for name in reader.get_all_records():
        if wanted(name):
            yield name, reader.get_record(name)
