"""The tensors of an exported program: bytes of records, seen by offset, sizes and dtype."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from autoinit.loading._archives import Archive
from autoinit.loading._states import overlaps
from autoinit.loading.exported import _schema as schema
from autoinit.loading.exported._graphs import STRIDED, UnreadableError, dtype_numbered

_LARGEST = 2**62
"""Bytes that torch counts."""


def tensors_in(archive: Archive, config: schema.PayloadConfig, folder: str) -> dict[str, torch.Tensor]:
    """Every tensor that a folder of the archive holds, by its name in the model.

    Tensors of one record share its memory, and a parameter under several names is one. Where a record has no bytes,
    as export writes all tensors without values, each tensor is one of its own on the meta device.

    Raises:
        UnreadableError: a tensor is pickled, not strided, or reaches beyond its record.
        DamagedError: a record is missing or damaged.
    """
    records: dict[str, bytearray] = {}
    made: dict[Any, torch.Tensor] = {}
    found: dict[str, torch.Tensor] = {}
    for name, payload in config.config.items():
        if payload.use_pickle or payload.tensor_meta is None:
            raise UnreadableError(f"{name} is pickled, an object of a class of its own")
        if payload.path_name not in records:
            records[payload.path_name] = archive.read(f"{folder}/{payload.path_name}")
        meta = payload.tensor_meta
        sizes, strides = _numbers(name, meta.sizes), _numbers(name, meta.strides)
        (offset,) = _numbers(name, [meta.storage_offset])
        shared = "" if records[payload.path_name] else name
        key = (shared, payload.path_name, payload.is_param, meta.dtype, meta.requires_grad, offset, sizes, strides)
        if key not in made:
            if meta.layout != STRIDED or len(sizes) != len(strides):
                raise UnreadableError(f"{name} is not a strided tensor")
            seen = _strided(name, records[payload.path_name], dtype_numbered(meta.dtype), sizes, strides, offset)
            trains = meta.requires_grad and (seen.is_floating_point() or seen.is_complex())
            made[key] = nn.Parameter(seen, requires_grad=trains) if payload.is_param else seen
        found[name] = made[key]
    return found


def _numbers(name: str, sizes: Sequence[schema.SymInt]) -> tuple[int, ...]:
    known = [each.known for each in sizes]
    numbers = tuple(each for each in known if each is not None and 0 <= each < 2**62)
    if len(numbers) < len(known):
        raise UnreadableError(f"{name} has the sizes, strides or offset {known}, expected numbers from 0")
    return numbers


def _strided(
    name: str, record: bytearray, dtype: torch.dtype, sizes: tuple[int, ...], strides: tuple[int, ...], offset: int
) -> torch.Tensor:
    """A tensor on the bytes of a record, if it lies within them."""
    reach = offset + sum(size * stride for size, stride in zip(sizes, strides, strict=True))
    if max(reach, math.prod(max(size, 1) for size in sizes)) * dtype.itemsize > _LARGEST:
        raise UnreadableError(f"{name} of sizes {sizes} and strides {strides} needs more than {_LARGEST:,} bytes")
    if 0 in sizes or not record:
        return torch.empty_strided(sizes, strides, dtype=dtype, device="cpu" if 0 in sizes else "meta")
    held = len(record) // dtype.itemsize
    needed = offset + 1 + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if len(record) % dtype.itemsize or needed > held:
        raise UnreadableError(
            f"{name} of sizes {sizes} and strides {strides} needs {needed * dtype.itemsize:,} bytes, and its record "
            f"has {len(record):,}"
        )
    seen = torch.frombuffer(record, dtype=dtype).as_strided(sizes, strides, offset)
    if overlaps(seen):
        raise UnreadableError(f"{name} of sizes {sizes} has more elements than its record, which overlap")
    return seen
