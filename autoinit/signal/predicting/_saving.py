"""What backward needs of many large surrogates, in less memory."""

from __future__ import annotations

import weakref
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef

_Kept = tuple[torch.Tensor, bool]


def saved_short() -> AbstractContextManager[Any]:
    """Within it, what is saved for backward is kept with three digits, once for all operations that save it."""
    kept: dict[tuple[Any, ...], tuple[StorageWeakRef, weakref.ref[torch.Tensor]]] = {}

    def packed(saved: torch.Tensor) -> _Kept:
        if saved.dtype is not torch.float32:
            return saved, False
        # While it lives, no other storage has its number.
        reference = StorageWeakRef(saved.untyped_storage())  # type: ignore[no-untyped-call]
        place = (reference.cdata, saved.storage_offset(), saved.shape, saved.stride(), saved._version)
        short = kept[place][1]() if place in kept else None
        if short is None:
            short = saved.to(torch.bfloat16)
            kept[place] = reference, weakref.ref(short)
        return short, True

    return torch.autograd.graph.saved_tensors_hooks(packed, _whole)


def _whole(kept: _Kept) -> torch.Tensor:
    return kept[0].float() if kept[1] else kept[0]
