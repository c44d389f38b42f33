"""One projection whose output features part into several: gated units and fused attention, in many spellings.

The projection is `fused` and its input has `WIDTH` features. The spellings with einops are there where it is.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, HIDDEN, HEADS, HEAD = 6, 4, 2, 3

Parts = tuple[Tensor, ...]


class Gated(nn.Module):
    """`part` splits 2 x HIDDEN features in two; `join` multiplies them."""

    def __init__(self, part: Callable[[Tensor], Parts], join: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.fused = nn.Linear(WIDTH, 2 * HIDDEN)
        self.down = nn.Linear(HIDDEN, WIDTH)
        self.part, self.join = part, join

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.part(self.fused(x))
        return self.down(self.join(first, second))


class GatedLinearUnit(nn.Module):
    """torch's own: the first half times the sigmoid of the second."""

    def __init__(self, glu: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.fused = nn.Linear(WIDTH, 2 * HIDDEN)
        self.glu = glu
        self.down = nn.Linear(HIDDEN, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.glu(self.fused(x)))


class GatedConv(nn.Module):
    """Parts over the channels of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.fused = nn.Conv2d(WIDTH, 2 * HIDDEN, 3, padding=1)
        self.down = nn.Conv2d(HIDDEN, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.fused(x).chunk(2, dim=1)
        return self.down(value * gate.sigmoid())


def _chunk_method(x: Tensor) -> Parts:
    return x.chunk(2, dim=-1)


def _chunk_torch(x: Tensor) -> Parts:
    return torch.chunk(x, 2, -1)


def _split_size(x: Tensor) -> Parts:
    return x.split(HIDDEN, dim=-1)


def _split_sizes(x: Tensor) -> Parts:
    return torch.split(x, [HIDDEN, HIDDEN], dim=-1)


def _tensor_split(x: Tensor) -> Parts:
    return torch.tensor_split(x, 2, dim=-1)


def _slices(x: Tensor) -> Parts:
    return x[..., :HIDDEN], x[..., HIDDEN:]


def _narrow(x: Tensor) -> Parts:
    return x.narrow(-1, 0, HIDDEN), torch.narrow(x, -1, HIDDEN, HIDDEN)


def _unbind(x: Tensor) -> Parts:
    return x.unflatten(-1, (2, HIDDEN)).unbind(-2)


def _rearrange(x: Tensor) -> Parts:
    from einops import rearrange

    first, second = rearrange(x, "b t (two h) -> two b t h", two=2)
    return first, second


def _index_select(x: Tensor) -> Parts:
    halves = x.view(x.shape[0], x.shape[1], 2, HIDDEN)
    return halves.select(2, 0), halves[:, :, 1]


HALVES: dict[str, Callable[[Tensor], Parts]] = {
    "chunk_method": _chunk_method,
    "chunk_torch": _chunk_torch,
    "split_size": _split_size,
    "split_sizes": _split_sizes,
    "tensor_split": _tensor_split,
    "slices": _slices,
    "narrow": _narrow,
    "unbind": _unbind,
    "view_and_select": _index_select,
}


def _alternating(x: Tensor) -> Parts:
    return x[..., 0::2], x[..., 1::2]


ALTERNATING = _alternating
"""Even features and odd features."""


class Attending(nn.Module):
    """`part` gives query (batch, heads, length, head), key and value from `rows` features."""

    def __init__(self, rows: int, part: Callable[[Tensor], Parts]) -> None:
        super().__init__()
        self.fused = nn.Linear(WIDTH, rows)
        self.out = nn.Linear(HEADS * HEAD, WIDTH)
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.part(self.fused(x))
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).flatten(2))


def _to_heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (-1, HEAD)).transpose(1, 2)


def _qkv_chunk(x: Tensor) -> Parts:
    q, k, v = x.chunk(3, dim=-1)
    return _to_heads(q), _to_heads(k), _to_heads(v)


def _qkv_split(x: Tensor) -> Parts:
    q, k, v = x.split(HEADS * HEAD, dim=2)
    return _to_heads(q), _to_heads(k), _to_heads(v)


def _qkv_slices(x: Tensor) -> Parts:
    width = HEADS * HEAD
    return _to_heads(x[:, :, :width]), _to_heads(x[:, :, width : 2 * width]), _to_heads(x[:, :, 2 * width :])


def _qkv_unbind(x: Tensor) -> Parts:
    batch, length, _ = x.shape
    q, k, v = x.reshape(batch, length, 3, HEADS, HEAD).permute(2, 0, 3, 1, 4).unbind(0)
    return q, k, v


def _qkv_permuted_index(x: Tensor) -> Parts:
    qkv = x.reshape(x.shape[0], x.shape[1], 3, HEADS, HEAD).permute(2, 0, 3, 1, 4)
    return qkv[0], qkv[1], qkv[2]


def _qkv_view_index(x: Tensor) -> Parts:
    qkv = x.view(x.size(0), x.size(1), 3, HEADS * HEAD)
    return _to_heads(qkv[..., 0, :]), _to_heads(qkv[..., 1, :]), _to_heads(qkv[..., 2, :])


def _qkv_rearrange(x: Tensor) -> Parts:
    from einops import rearrange

    q, k, v = rearrange(x, "b t (three h d) -> three b h t d", three=3, h=HEADS)
    return q, k, v


THIRDS: dict[str, Callable[[Tensor], Parts]] = {
    "chunk": _qkv_chunk,
    "split": _qkv_split,
    "slices": _qkv_slices,
    "reshape_permute_unbind": _qkv_unbind,
    "reshape_permute_index": _qkv_permuted_index,
    "view_index": _qkv_view_index,
}


if find_spec("einops"):
    HALVES["rearrange"] = _rearrange
    THIRDS["rearrange"] = _qkv_rearrange


def shared_key_and_value(x: Tensor) -> Parts:
    """All query heads, then one key head, then one value head."""
    q, k, v = x.split([HEADS * HEAD, HEAD, HEAD], dim=-1)
    k, v = (_to_heads(each).expand(-1, HEADS, -1, -1) for each in (k, v))
    return _to_heads(q), k, v


def interleaved_by_head(x: Tensor) -> Parts:
    """For each head its query, its key, its value."""
    q, k, v = x.view(x.shape[0], x.shape[1], HEADS, 3 * HEAD).transpose(1, 2).chunk(3, dim=-1)
    return q, k, v


def interleaved_by_feature(x: Tensor) -> Parts:
    """For each feature of each head its query, its key, its value."""
    q, k, v = x.view(x.shape[0], x.shape[1], HEADS, HEAD, 3).transpose(1, 2).unbind(-1)
    return q, k, v
