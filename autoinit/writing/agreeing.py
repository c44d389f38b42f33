"""What processes that write one model tell each other: two small gathers, one before and one after.

Before: the seed, when none was given, and what each found, so that all raise or none. After: the moments of each
weight's parts, each part counted once however many processes hold a copy of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import torch
import torch.distributed as dist

from autoinit import errors
from autoinit.errors import ApplyError, PlanError, words_of
from autoinit.plans.plan import Plan
from autoinit.tensors.boxes import Box, Region
from autoinit.tensors.measuring import Moments
from autoinit.writing.pieces import Pieces
from autoinit.writing.trained import TrainingSigns

_WORD = 8192
"""Bytes of what each process says before."""
_TEXT, _NOTES = 2000, 8
_MOST_BYTES = 1 << 20
"""Of one gather."""


class Word(msgspec.Struct):
    """What one process says before it writes.

    Attributes:
        seed: that it would take; text, for it may be of any size.
        request: a digest of what it was asked for, that must be the same everywhere.
        kind, text: the class of an error and its message; empty if it found none.
        certain, doubtful, weak, unwritten: see `TrainingSigns`.
    """

    seed: str
    request: str = ""
    kind: str = ""
    text: str = ""
    certain: tuple[str, ...] = ()
    doubtful: tuple[str, ...] = ()
    weak: tuple[str, ...] = ()
    unwritten: bool = False

    @classmethod
    def of(cls, seed: int, request: str, signs: TrainingSigns, error: Exception | None) -> Word:
        """What a process says that has found signs of training, or an error."""
        kind, text = ("", "") if error is None else (type(error).__name__, words_of(error))
        return cls(str(seed), request, kind, text, signs.certain, signs.doubtful, signs.weak, signs.unwritten)

    def packed(self) -> bytes:
        """As JSON of at most `_WORD` bytes."""
        short = {name: getattr(self, name)[:_NOTES] for name in ("certain", "doubtful", "weak")}
        short = {name: tuple(each[: _TEXT // 10] for each in notes) for name, notes in short.items()}
        return msgspec.json.encode(msgspec.structs.replace(self, text=self.text[:_TEXT], **short))[:_WORD]


@dataclass(frozen=True)
class Processes:
    """The processes that write a model together.

    Attributes:
        group: theirs; None for all there are.
        device: where what they tell each other lies.
    """

    group: Any
    device: torch.device

    @classmethod
    def of(cls, pieces: Pieces, *, partial: bool) -> Processes | None:
        """Those that hold pieces of a model; None where it is this one's alone."""
        if not (dist.is_available() and dist.is_initialized() and (pieces.parted or partial)):
            return None
        group = _group(pieces)
        if dist.get_world_size(group) == 1:
            return None
        backends = str(dist.get_backend_config(group))
        cpu = torch.device("cpu")
        if any(each in backends for each in ("cpu:", "gloo", "fake")):
            return cls(group, cpu)
        return cls(group, torch.accelerator.current_accelerator() or cpu)

    def words(self, mine: Word) -> list[Word]:
        """Everyone's, in order."""
        packed = np.zeros(_WORD, np.uint8)
        said = mine.packed()
        packed[: len(said)] = np.frombuffer(said, np.uint8)
        return [msgspec.json.decode(each.tobytes().rstrip(b"\0"), type=Word) for each in self._gathered(packed)]

    def _gathered(self, mine: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        sent = torch.from_numpy(mine).to(self.device)
        received = [torch.empty_like(sent) for _ in range(dist.get_world_size(self.group))]
        dist.all_gather(received, sent, group=self.group)
        return [each.cpu().numpy() for each in received]

    def moments(
        self, layers: Sequence[str], parts: Mapping[str, PartMoments] | None
    ) -> Mapping[str, tuple[Moments | None, Moments | None]]:
        """Moments before and after of each layer's whole weight.

        Args:
            layers: their names, the same everywhere, in order.
            parts: what is here, by layer; None where writing failed.

        Raises:
            ApplyError: writing failed in another process.
        """
        table = np.zeros((1 + len(layers), _WIDTH))
        table[0, 0] = parts is None
        for row, name in enumerate(layers, start=1):
            if parts is not None and name in parts:
                table[row] = parts[name].packed()
        step = max(1, _MOST_BYTES // table[0].nbytes)
        blocks = [self._gathered(table[at : at + step].reshape(-1)) for at in range(0, len(table), step)]
        tables = [np.concatenate(each).reshape(table.shape) for each in zip(*blocks, strict=True)]
        failed = [number for number, each in enumerate(tables) if each[0, 0]]
        if failed and parts is not None:
            raise ApplyError(f"Writing failed in process {failed[0]}; here every weight was written. See its error.")
        return {name: _together([each[row] for each in tables]) for row, name in enumerate(layers, start=1)}


_FIELDS = ("finite", "mean", "squares", "minimum", "maximum", "zeros", "nonfinite", "left_out")
_WIDTH = 2 + 2 * (1 + len(_FIELDS))


@dataclass(frozen=True)
class PartMoments:
    """Moments of what is here of a weight, before and after; None where they are not known."""

    region: Region
    before: Moments | None
    after: Moments | None

    def packed(self) -> np.ndarray[Any, Any]:
        """As numbers: 1, the region's key, and the moments."""
        row = np.zeros(_WIDTH)
        row[0] = 1
        row[1] = float(_key(self.region))
        for at, moments in ((2, self.before), (3 + len(_FIELDS), self.after)):
            if moments is not None:
                row[at] = 1
                row[at + 1 : at + 1 + len(_FIELDS)] = [getattr(moments, name) for name in _FIELDS]
        return row


def _key(region: Region) -> int:
    """A number for the elements that a region has: of 52 bits, which a float holds exactly."""
    if isinstance(region, Box):
        axes = [(each.start, each.stop) if isinstance(each, slice) else each.tobytes() for each in region.axes]
    else:
        axes = [(region.start, region.stop)]
    return int.from_bytes(hashlib.blake2b(repr(axes).encode(), digest_size=8).digest(), "little") >> 12


def _together(rows: Sequence[np.ndarray[Any, Any]]) -> tuple[Moments | None, Moments | None]:
    parts = {row[1]: row for row in reversed(rows) if row[0]}
    order = [parts[key] for key in dict.fromkeys(row[1] for row in rows if row[0])]
    return _sum(order, 2), _sum(order, 3 + len(_FIELDS))


def _sum(rows: Sequence[np.ndarray[Any, Any]], at: int) -> Moments | None:
    if not any(row[at] for row in rows):
        return None
    total = Moments()
    for row in rows:
        finite, mean, squares, low, high, *counts = row[at + 1 : at + 1 + len(_FIELDS)].tolist()
        total += Moments(int(finite), mean, squares, low, high, *map(int, counts))
    return total


def _group(pieces: Pieces) -> Any:
    """All processes; those of one row, where the model's mesh is a row of some."""
    meshes = {each.device_mesh for each in pieces.view.held.values() if hasattr(each, "device_mesh")}
    roots = {each._get_root_mesh() if hasattr(each, "_get_root_mesh") else each for each in meshes}
    if len(roots) == 1 and (root := roots.pop()).ndim == 1 and root.size() < dist.get_world_size():
        return root.get_group()
    return None


def request(plan: Plan, *arguments: object) -> str:
    """A digest of what a process was asked for."""
    layers = [
        (each.name, each.param, each.shape, each.axes, each.status, each.distribution, each.std, each.biases,
         each.mirror, [(part.rows, part.std) for part in each.slices])
        for each in plan.layers
    ]  # fmt: skip
    rest = [(each.name, each.shape, each.distribution, each.std, each.mean, each.slices) for each in plan.rest]
    return hashlib.blake2b(repr((layers, rest, arguments)).encode(), digest_size=16).hexdigest()


def require_agreement(words: Sequence[Word]) -> None:
    """Raise here what was found anywhere.

    Raises:
        AutoinitError: of the class that the first process that found something raises.
        PlanError: processes were asked for different things.
    """
    for number, word in enumerate(words):
        if word.kind:
            kind = getattr(errors, word.kind, PlanError)
            raise kind(f"process {number}: {word.text} Nothing was written in any process.")
    for number, word in enumerate(words):
        if word.request != words[0].request:
            raise PlanError(
                f"process {number} applies another plan than process 0, or with other arguments (what shows in values "
                f"may differ between pieces). Make the plan once, before the model is sharded or on the meta device, "
                f"and give all processes the same arguments. Nothing was written in any process."
            )


def signs_of(words: Sequence[Word]) -> TrainingSigns:
    """The signs of training in all processes together."""

    def united(name: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(note for word in words for note in getattr(word, name)))

    unwritten = any(word.unwritten for word in words)
    return TrainingSigns(united("certain"), () if unwritten else united("weak"), united("doubtful"), unwritten)
