"""The ledger: for each storage, what was written to which part of it, in order.

A storage is known by its address, and a weak reference to it keeps the address from being given out again; the memory
itself is freed with its last tensor.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from autoinit.provenance._regions import StorageRegion
from autoinit.provenance.origins import Origin

Token = tuple[object, ...]
"""What tells one call of an initialiser from another: its frame's id and code, the region it was given, its line."""

_MOST = 1000
"""Writes noted of one storage, before the later ones are no longer told apart."""


@dataclass(frozen=True)
class WriteRecord:
    """A write to a region.

    Attributes:
        origin: where the new values come from; None for a change of those that were there.
        text: of the change.
        factor: what it multiplies the values with.
        token: of the initialiser that made it.
    """

    region: StorageRegion
    origin: Origin | None = None
    text: str = ""
    factor: float = 1.0
    token: Token | None = None


@dataclass
class _Storage:
    reference: StorageWeakRef
    writes: list[WriteRecord] = field(default_factory=list)


def address(tensor: torch.Tensor) -> int | None:
    """Address of a tensor's storage; None for a tensor that has none, such as a sparse one."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):
        return None


class Ledger:
    """What was written to which part of which storage."""

    def __init__(self) -> None:
        self._storages: dict[int, _Storage] = {}
        self._limit = 4096

    def __len__(self) -> int:
        return len(self._storages)

    def knows(self, storage: int) -> bool:
        """Whether anything has been noted of a storage."""
        return storage in self._storages

    def note(self, tensor: torch.Tensor, write: WriteRecord) -> None:
        """Note a write to the storage of a tensor."""
        storage = address(tensor)
        if storage is None:
            return
        held = self._storages.get(storage)
        if held is None:
            if len(self._storages) >= self._limit:
                self._forget_the_freed()
            held = self._storages[storage] = _Storage(StorageWeakRef(tensor.untyped_storage()))  # type: ignore[no-untyped-call]
        kept = held.writes
        if write.origin is not None and (len(kept) < _MOST or write.region.covers(kept[0].region)):
            kept = [each for each in kept if not write.region.covers(each.region)]
        if write.token is not None and _is_step(write, kept):
            return
        _join_last(kept)
        if len(kept) >= _MOST:
            kept[-1] = WriteRecord(kept[-1].region.hull(write.region), text="changed further")
        else:
            kept.append(write)
        held.writes = kept

    def _forget_the_freed(self) -> None:
        freed = [key for key, held in self._storages.items() if held.reference.expired()]  # type: ignore[no-untyped-call]
        for key in freed:
            del self._storages[key]
        self._limit = max(4096, 2 * len(self._storages))

    def origin(self, tensor: torch.Tensor) -> Origin | None:
        """Where the values of a tensor come from; None where they were not written as a whole."""
        storage = address(tensor)
        if storage is None or storage not in self._storages:
            return None
        region, found = StorageRegion.of(tensor), None
        writes = list(self._storages[storage].writes)
        _join_last(writes)
        for write in writes:
            if write.region.covers(region):
                if write.origin is not None:
                    found = write.origin
                elif found is not None:
                    found = found.changed(write.text, write.factor)
            elif found is not None and write.region.overlaps(region):
                found = found.changed(f"{write.region.within(region)} {_in_words(write)}")
        return found


def _is_step(write: WriteRecord, writes: list[WriteRecord]) -> bool:
    """Whether a write is a further step of the initialiser call that wrote the values."""
    return any(
        each.token == write.token and each.origin is not None and each.region.covers(write.region) for each in writes
    )


def _join_last(writes: list[WriteRecord]) -> None:
    """Make one of the last two, if they can be."""
    joined = _joined(*writes[-2:]) if len(writes) > 1 else None
    if joined is not None:
        writes[-2:] = [joined]


def _joined(first: WriteRecord, second: WriteRecord) -> WriteRecord | None:
    """Two writes as one, where the second did the same to what follows: the turns of a loop over rows."""
    follows = first.region.dense and second.region.dense and first.region.stop == second.region.start
    if not follows or (first.origin, first.text, first.factor) != (second.origin, second.text, second.factor):
        return None
    return replace(first, region=first.region.hull(second.region, dense=True), token=None)


def _in_words(write: WriteRecord) -> str:
    if write.origin is None:
        return write.text
    return " ".join((write.origin.call, *write.origin.then))
