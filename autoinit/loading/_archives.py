"""Records of the zip archives that torch writes, of one open file and up to a stated size."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import BinaryIO, cast

from autoinit.errors import LoadError

_READABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
SMALLEST_LIMIT = 1 << 28
"""What any file may unpack to, in bytes."""
_RATIO = 4
"""How many times its own size a larger one may."""


def limit_for(size: int, max_size: int | None) -> int:
    """How many bytes a file of this size may unpack to: torch packs nothing, so four times its size is generous."""
    return max_size if max_size is not None else max(SMALLEST_LIMIT, _RATIO * size)


def check_size(total: int, limit: int, place: object) -> None:
    """Refuse what would unpack to more than is allowed.

    Raises:
        LoadError: names both sizes, and how to allow it.
    """
    if total > limit:
        raise LoadError(
            f"{place} unpacks to {total:,} bytes, expected up to {limit:,}; if that is right, say --max-size {total}"
        )


class DamagedError(Exception):
    """The archive cannot be read as one. The message says why."""


_UNREADABLE = (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, OverflowError, struct.error)
"""What zipfile raises where an archive's directory is none."""
_END, _END_SIZE = b"PK\x05\x06", 22
_LOCAL_SIZE, _LENGTHS = 30, struct.Struct("<HH")


def directory_of(file: BinaryIO) -> zipfile.ZipFile:
    """An archive's directory.

    Raises:
        DamagedError: there is none, a record has no name, or bytes follow it, so that another reader may find another.
    """
    try:
        found = zipfile.ZipFile(file)
    except _UNREADABLE as error:
        raise DamagedError(str(error)) from error
    file.seek(-_END_SIZE, io.SEEK_END)
    end = file.read(_END_SIZE)
    if not end.startswith(_END) or not end.endswith(b"\0\0"):
        raise DamagedError("something follows the archive's end")
    if not all(found.namelist()):
        raise DamagedError("it holds a record without a name")
    return found


class Archive:
    """The records of an archive, by their names without the folder that holds them all.

    Raises:
        DamagedError: it is no archive, or is one that two readers may see differently.
        LoadError: its records are larger than `limit` bytes together.
    """

    def __init__(self, file: BinaryIO, limit: int, place: object) -> None:
        self._file, self._zip = file, directory_of(file)
        entries = [each for each in self._zip.infolist() if not each.is_dir()]
        self._entries = {_inner(each.filename): each for each in entries}
        if len(self._entries) < len(entries):
            raise DamagedError("it holds a record twice")
        if len({each.filename.partition("/")[0] for each in entries}) > 1:
            raise DamagedError("its records are not in one folder")
        check_size(sum(each.file_size for each in entries), limit, place)
        self._require_apart()

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def names(self, folder: str = "") -> list[str]:
        """Names of the records in a folder, in the order of the archive; of all records if none is named."""
        return [name for name in self._entries if not folder or name.startswith(f"{folder}/")]

    def size(self, name: str) -> int:
        """Bytes of a record, unpacked."""
        return self._entry(name).file_size

    def offset(self, name: str) -> int:
        """Where in the file the bytes of a record begin."""
        start = self._entry(name).header_offset
        self._file.seek(start + _LOCAL_SIZE - _LENGTHS.size)
        lengths = self._file.read(_LENGTHS.size)
        if len(lengths) < _LENGTHS.size:
            raise DamagedError(f"{name} lies beyond the end of the file")
        name_length, extra_length = _LENGTHS.unpack(lengths)
        return start + _LOCAL_SIZE + int(name_length) + int(extra_length)

    def read(self, name: str) -> bytearray:
        """A record's bytes, in memory that tensors may share and change.

        Raises:
            DamagedError: there is no such record, or it is not what its archive says.
        """
        entry = self._entry(name)
        if entry.compress_type not in _READABLE or entry.flag_bits & 1:
            raise DamagedError(f"{name} is packed in a way that torch does not write")
        content = bytearray(entry.file_size)
        try:
            with cast("zipfile.ZipExtFile", self._zip.open(entry)) as record:
                read = record.readinto(content)
                while read < len(content) and (more := record.readinto(memoryview(content)[read:])):
                    read += more
                rest = record.read(1)  # at the end, the checksum is compared
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError) as error:
            raise DamagedError(f"{name}: {error}") from error
        if read < len(content) or rest:
            raise DamagedError(f"{name} has not the {len(content):,} bytes that it should have")
        return content

    def _require_apart(self) -> None:
        """Refuse records that share bytes: what is looked at in one would be read of another."""
        at = 0
        for name, entry in sorted(self._entries.items(), key=lambda item: item[1].header_offset):
            if entry.header_offset < at:
                raise DamagedError(f"{name} lies over another record")
            at = self.offset(name) + entry.compress_size

    def _entry(self, name: str) -> zipfile.ZipInfo:
        if name not in self._entries:
            raise DamagedError(f"it has no record {name}")
        return self._entries[name]


def _inner(name: str) -> str:
    """A record's name without the folder that holds all of them."""
    return name.partition("/")[2] or name
