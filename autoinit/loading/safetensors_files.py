"""Files of safetensors: the header is read and checked first, then each tensor's own bytes.

https://github.com/huggingface/safetensors#format: eight bytes that give the header's length, the header in JSON, and
the tensors' bytes one after the other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, BinaryIO

import msgspec
import torch

from autoinit.errors import LoadError
from autoinit.loading._opening import mapped, size_of

_LENGTH = 8
_LONGEST_HEADER = 100_000_000
"""Bytes, as the format has it."""
_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
DTYPES: Mapping[str, str] = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32",
    "U64": "uint64", "I64": "int64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
    "C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz", "F8_E8M0": "float8_e8m0fnu",
}  # fmt: skip
"""torch's names of the format's dtypes."""


@dataclass(frozen=True)
class Described:
    """A tensor that the header of an open file lists. start: the place of its first byte in the file."""

    file: BinaryIO
    dtype: torch.dtype
    shape: torch.Size
    start: int

    def read(self) -> torch.Tensor:
        """The tensor; of a large file, one that stays in it.

        Raises:
            OSError: the file has become shorter since.
        """
        count, large = self.shape.numel(), mapped(self.file)
        end = self.start + count * self.dtype.itemsize
        if large is not None and count and self.start % self.dtype.itemsize == 0 and end <= len(large.memory):
            return torch.frombuffer(large.memory, dtype=self.dtype, count=count, offset=self.start).view(self.shape)
        made = torch.empty(self.shape, dtype=self.dtype)
        if count:
            content = memoryview(made.view(-1).view(torch.uint8).numpy().data).cast("B")
            self.file.seek(self.start)
            if self.file.readinto(content) < len(content):  # type: ignore[attr-defined]
                raise OSError("it ended while it was read")
        return made


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dtype: str
    shape: list[_Count]
    data_offsets: tuple[_Count, _Count]


def described(file: BinaryIO, place: object) -> dict[str, Described]:
    """What an open file's header lists, by name. No tensor is read.

    Raises:
        LoadError: it is no header, or its tensors are not the file's bytes, each byte once.
    """
    try:
        return _described(file)
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        said = "its header is nested too deep" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise LoadError(f"{place} is damaged, or no safetensors file: {said}") from error


def _described(file: BinaryIO) -> dict[str, Described]:
    size = size_of(file)
    length = int.from_bytes(file.read(_LENGTH), "little")
    start = _LENGTH + length
    if start > size or length > _LONGEST_HEADER:
        raise ValueError(f"its header has {length:,} bytes, expected up to {min(size - _LENGTH, _LONGEST_HEADER):,}")
    text = file.read(length)
    header = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    header.pop("__metadata__", None)
    entries = {name: msgspec.json.decode(each, type=_Entry) for name, each in header.items()}
    json.loads(text, object_pairs_hook=_once)
    _require_whole(entries, size - start)
    return {
        name: Described(file, _dtype(name, each), torch.Size(each.shape), start + each.data_offsets[0])
        for name, each in entries.items()
    }


def _once(pairs: list[tuple[str, object]]) -> None:
    """Refuse a name that an object has twice: readers differ in which of them counts."""
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"its header has {next(each for each in names if names.count(each) > 1)!r} twice")


def _require_whole(entries: Mapping[str, _Entry], held: int) -> None:
    """Refuse tensors that overlap, leave bytes out, or have not the bytes that their shapes need."""
    at = 0
    for name, each in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        start, end = each.data_offsets
        needed = math.prod(each.shape) * _dtype(name, each).itemsize
        if start != at or end - start != needed:
            raise ValueError(
                f"{name} of shape {tuple(each.shape)} and dtype {each.dtype} lies at bytes {start:,} to {end:,}, "
                f"expected {at:,} to {at + needed:,}"
            )
        at = end
    if at != held:
        raise ValueError(f"its tensors have {at:,} bytes, and {held:,} follow its header")


def _dtype(name: str, entry: _Entry) -> torch.dtype:
    found = getattr(torch, DTYPES.get(entry.dtype, ""), None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"{name} has the dtype {entry.dtype[:20]!r}, expected one of {', '.join(DTYPES)}")
    return found
