"""How much memory a model from a file may take: the size of a tensor is looked at before the tensor is made.

A file of a few kilobytes may say `arange(10**11)`, or pad an image to any size. The operations are not told apart:
where the numbers that one is given allow it to make a large tensor, it is called on the meta device first, which says
how large.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

from autoinit.errors import MemoryLimitError

SMALLEST_ROOM = 1 << 30
"""What the work on a model from any file may take, in bytes."""
_RATIO = 4
"""How many times the size of a larger file it may take."""


def room_for(size: int, max_size: int | None) -> int:
    """How many bytes the tensors made while a model is analysed may take together; its file has `size`."""
    return max_size if max_size is not None else max(SMALLEST_ROOM, _RATIO * size)


@contextmanager
def within(limit: int | None, place: object) -> Iterator[None]:
    """Run a block in which tensors made by this thread take up to `limit` bytes at a time; None sets no limit.

    Tensors that were there before do not count. place: what the message names, a file.

    Raises:
        MemoryLimitError: an operation would make a tensor that is too large. It has not been run.
    """
    if limit is None:
        yield
        return
    with _Room(limit, place):
        yield


class _Room(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the memory of tensors from when they are made until nothing holds them."""

    def __init__(self, limit: int, place: object) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._limit, self._place = limit, place
        self._held: dict[int, tuple[weakref.ref[torch.UntypedStorage], int]] = {}
        self._total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: nothing is compiled here, and to say so to torch would import its compiler, which takes seconds."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation if there is room for what it makes."""
        kwargs = kwargs or {}
        if func.is_view:
            return func(*args, **kwargs)
        most = _most_bytes(func, args, kwargs)
        made = most if self._total + most <= self._limit else _bytes_made(func, args, kwargs)
        if self._total + made > self._limit:
            raise MemoryLimitError(
                f"{self._place}: {str(func).rpartition('.')[0]} would take {made:,} bytes beside {self._total:,} that "
                f"are held, expected up to {self._limit:,} in all; if that is right, say --max-size "
                f"{self._total + made}"
            )
        result = func(*args, **kwargs)
        for each in tree_iter(result):
            if isinstance(each, torch.Tensor) and _takes_memory(each):
                self._hold(each.untyped_storage())
        return result

    def _hold(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        before = self._held.get(key)
        size = storage.nbytes()
        if before is None:
            self._held[key] = weakref.ref(storage, lambda _: self._release(key)), size
            self._total += size
        elif before[1] != size:  # it was resized
            self._held[key] = before[0], size
            self._total += size - before[1]

    def _release(self, key: int) -> None:
        self._total -= self._held.pop(key)[1]


def _takes_memory(tensor: torch.Tensor) -> bool:
    return _is_strided(tensor) and tensor.device.type == "cpu"


def _is_strided(tensor: torch.Tensor) -> bool:
    return tensor.layout is torch.strided


def _most_bytes(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    """More bytes than any operation could make of these operands; far more where they are large.

    A result has an element for each combination of its operands' elements, times what sizes and paddings ask for.
    """
    if func.overloadpacket in _ONE_NUMBER:
        return _WIDEST
    elements: float = _WIDEST
    shapes = []
    for each in tree_iter((args, kwargs)):
        if isinstance(each, torch.Tensor):
            if not _is_strided(each):
                return math.inf
            shapes.append(each.shape)
        elif isinstance(each, (int, float)) and each:
            elements *= 1 + abs(each) + 1 / abs(each)
    if torch.Tag.dynamic_output_shape in func.tags:
        return math.inf
    if torch.Tag.pointwise in func.tags:
        return _WIDEST * math.prod(max(sizes) for sizes in zip_longest(*(each[::-1] for each in shapes), fillvalue=1))
    if func.overloadpacket in _NO_LARGER:
        return 2.0 * _WIDEST * sum(map(math.prod, shapes))
    return elements * math.prod(max(1, math.prod(each)) for each in shapes)


_WIDEST = 16
"""Bytes of an element."""
_ONE_NUMBER = frozenset({torch.ops.aten.dot, torch.ops.aten.vdot})
_NO_LARGER = frozenset(
    getattr(torch.ops.aten, name)
    for name in (
        "_softmax", "_log_softmax", "_to_copy", "_unsafe_view", "cat", "clone", "count_nonzero", "cumsum", "index_add",
        "linalg_vector_norm", "mean", "mv", "native_batch_norm", "native_batch_norm_backward", "native_group_norm",
        "native_group_norm_backward", "native_layer_norm", "native_layer_norm_backward", "std", "sum", "var",
        "var_mean",
    )
)  # fmt: skip
"""Operations whose results have no more elements than their operands together, twice.

To ask them on the meta device would, for many of them, import torch's compiler, which takes seconds.
"""


def _bytes_made(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Bytes of new memory in the result of an operation; 0 for one that makes none, or that nobody can ask."""
    given = [each for each in tree_iter((args, kwargs)) if isinstance(each, (torch.Tensor, torch.device))]
    if any((each if isinstance(each, torch.device) else each.device).type != "cpu" for each in given):
        return 0
    tensors = [each for each in given if isinstance(each, torch.Tensor)]
    if not all(map(_takes_memory, tensors)):
        return _dense_bytes(func, tensors)
    if torch.Tag.dynamic_output_shape in func.tags:
        estimated: Callable[..., int] = _BY_VALUES.get(func.overloadpacket, _by_elements)
        return estimated(*args)
    stood_in: dict[int, int] = {}

    def on_meta(value: Any) -> Any:
        if isinstance(value, torch.device):
            return torch.device("meta")
        if not isinstance(value, torch.Tensor):
            return value
        made = torch.empty_strided(value.size(), value.stride(), dtype=value.dtype, device="meta")
        stood_in[made.untyped_storage()._cdata] = made.untyped_storage().nbytes()
        return made

    if not tensors and any(each.name == "device" for each in func._schema.arguments):
        kwargs = {**kwargs, "device": torch.device("cpu")}
    kept = tree_map(on_meta, (args, kwargs))
    try:
        result = func(*kept[0], **kept[1])
    except Exception:  # noqa: BLE001 - it fails on the values as well, or has no kernel for meta
        return 0
    made = [
        each.untyped_storage() for each in tree_iter(result) if isinstance(each, torch.Tensor) and _is_strided(each)
    ]
    sizes = {each._cdata: each.nbytes() for each in made}
    return sum(size - stood_in.get(key, 0) for key, size in sizes.items())


def _dense_bytes(func: Any, tensors: list[torch.Tensor]) -> int:
    """What a sparse tensor takes once it is dense."""
    if "dense" not in func.overloadpacket.__name__:
        return 0
    return max(each.numel() * each.element_size() for each in tensors)


def _by_elements(*args: Any) -> int:
    """The most that a choice among elements can take: each, with its place in every dimension."""
    return sum(each.numel() * 8 * max(1, each.dim()) for each in tree_iter(args) if isinstance(each, torch.Tensor))


def _indexed(values: torch.Tensor, places: list[torch.Tensor | None]) -> int:
    """What an index takes: of a mask, one place for each that it lets through."""
    whole: list[torch.Tensor | None] = []
    for each in places:
        if each is not None and each.dtype in (torch.bool, torch.uint8):
            whole += [torch.empty(int(each.count_nonzero()), dtype=torch.long, device="meta")] * each.dim()
        else:
            whole.append(each.to("meta") if each is not None else None)
    found: torch.Tensor = torch.ops.aten.index(torch.empty_like(values, device="meta"), whole)
    return found.numel() * found.element_size()


def _counted(values: torch.Tensor, *_: Any) -> int:
    return 8 * (int(values.max()) + 1) if values.numel() else 0


_BY_VALUES: dict[Any, Callable[..., int]] = {
    torch.ops.aten.repeat_interleave: lambda repeats, *_: 8 * int(repeats.sum()),
    torch.ops.aten.bincount: lambda values, *more: max(_counted(values), 8 * int((*more, None, 0)[1] or 0)),
    torch.ops.aten.one_hot: lambda values, count=-1: values.numel() * (8 * count if count > 0 else _counted(values)),
    torch.ops.aten.index: _indexed,
}
"""Bytes of results whose size is in the values of their operands."""
