"""A model's initial weights as a directory of safetensors files, in the layout that transformers reads and writes.

`model.safetensors`, or `model-00001-of-00003.safetensors` and so on beside `model.safetensors.index.json`; with a model
of transformers its `config.json`. The directory is there whole or not at all, and no more memory is needed than the
tensors take that are made together: a model that can be built on the meta device has none of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from autoinit import api
from autoinit.errors import ArgumentError
from autoinit.loading import Loaded
from autoinit.loading.safetensors_files import DTYPES
from autoinit.models import ModelView
from autoinit.plans.plan import Report
from autoinit.tensors.measuring import WeightStats
from autoinit.writing.streaming import ValueStream, tensors_once

SHARD_SIZE = 5 * 10**9
"""Bytes of tensors in one file, unless said."""
_NAME = "model.safetensors"
_ALIGNMENT = 8
"""Bytes: a file's tensors begin at a multiple of so many."""


def check_directory(path: Path) -> None:
    """Refuse a directory that holds something, and what is no directory.

    Raises:
        ArgumentError: says what stands in the way.
    """
    try:
        if path.is_dir():
            if any(path.iterdir()):
                raise ArgumentError(f"{path} is a directory that is not empty; name a new one")
        elif os.path.lexists(path):
            raise ArgumentError(f"{path} is a file; name a new directory")
        elif not path.absolute().parent.is_dir():
            raise ArgumentError(f"{path} cannot be written: there is no directory {path.absolute().parent}")
    except OSError as error:  # no permission to look, or a name that is too long
        raise ArgumentError(f"{path} cannot be written: {error.strerror or error}") from error


def write(
    loaded: Loaded, directory: Path, example_inputs: Any, *, shard_size: int = SHARD_SIZE, force: bool = False,
    **options: Any,
) -> Report:  # fmt: skip
    """Initialise a model and write its weights.

    A model in memory is initialised there, as by `autoinit`. Of one on the meta device each tensor is made when its
    turn comes, with the values that `Plan.apply(model, seed, rest="reset")` gives after `to_empty`.

    Args:
        loaded: the model.
        directory: a new or empty one.
        example_inputs: as for `plan`.
        shard_size: bytes of tensors in one file, at most; a larger tensor has a file of its own.
        force: initialise a model in memory although it looks trained.
        **options: those of `PlanOptions`.

    Raises:
        ArgumentError: the directory cannot be written, or a tensor's dtype is none of safetensors'.
        AutoinitError: what `plan` and `Plan.apply` raise. Nothing is left of what was begun.
    """
    check_directory(directory)
    started = time.perf_counter()
    model = loaded.model
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"{loaded.name} is an exported program; write it to one file: -o FILE.safetensors")
    _require_storable(model)
    after: dict[str, WeightStats] = {}
    if any(each.is_meta for each in tensors_once(model).values()):
        if options.get("seed") is None:
            options["seed"] = int(torch.randint(2**63 - 1, (), dtype=torch.int64, device="cpu"))
        made = api.plan(model, example_inputs, **options)
        stream = ValueStream.of(made, ModelView.of(model), options["seed"])
        tensors, values = stream.tensors, stream.values(after)
        report = None
    else:
        report = api.autoinit(model, example_inputs, force=force, verbose=False, **options)
        tensors = {name: tensor.detach() for name, tensor in tensors_once(model).items()}
        values = iter(tensors.items())
    with _new_directory(directory) as place:
        _write_shards(place, _shards(tensors, shard_size), tensors, values)
        config: Any = getattr(model, "config", None)
        if hasattr(config, "save_pretrained"):  # as that of every model of transformers
            config.save_pretrained(place)
    if report is not None:
        return report
    return Report(made, {}, after, options["seed"], time.perf_counter() - started)


@dataclass(frozen=True)
class _Shard:
    """One file to be: where each of its tensors begins and ends, in bytes behind the header."""

    places: Mapping[str, tuple[int, int]]

    @property
    def size(self) -> int:
        """Of all its tensors, in bytes."""
        return max((end for _, end in self.places.values()), default=0)

    def header(self, tensors: Mapping[str, torch.Tensor]) -> bytes:
        """What stands before the tensors: https://github.com/huggingface/safetensors#format."""
        entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        for name, place in self.places.items():
            tensor = tensors[name]
            entries[name] = {"dtype": _KINDS[tensor.dtype], "shape": list(tensor.shape), "data_offsets": list(place)}
        text = msgspec.json.encode(entries)
        text += b" " * (-len(text) % _ALIGNMENT)
        return len(text).to_bytes(8, "little") + text


_KINDS = {getattr(torch, name): kind for kind, name in DTYPES.items() if hasattr(torch, name)}
"""The format's names of dtypes."""


def _require_storable(model: nn.Module) -> None:
    for name, value in model.state_dict(keep_vars=True).items():
        if not isinstance(value, torch.Tensor) or value.dtype not in _KINDS:
            kind = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
            raise ArgumentError(f"{name} is {kind}, which safetensors cannot hold; write to one file: -o FILE.pt")


def _shards(tensors: Mapping[str, torch.Tensor], most: int) -> list[_Shard]:
    """In which file each tensor lies: in their order, as many as fit; in a file those of wide dtypes come first."""
    files: list[list[str]] = [[]]
    held = 0
    for name, tensor in tensors.items():
        if files[-1] and held + tensor.nbytes > most:
            files.append([])
            held = 0
        files[-1].append(name)
        held += tensor.nbytes
    shards = []
    for names in files:
        places, at = {}, 0
        for name in sorted(names, key=lambda each: -tensors[each].itemsize):
            places[name] = (at, at + tensors[name].nbytes)
            at += tensors[name].nbytes
        shards.append(_Shard(places))
    return shards


def _write_shards(
    place: Path,
    shards: list[_Shard],
    tensors: Mapping[str, torch.Tensor],
    values: Iterable[tuple[str, torch.Tensor]],
) -> None:
    """Write the values, in whatever order they come, each to its place."""
    count = len(shards)
    numbered = [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
    names = numbered if count > 1 else [_NAME]
    places: dict[str, tuple[Path, int]] = {}
    for name, shard in zip(names, shards, strict=True):
        header = shard.header(tensors)
        with (place / name).open("wb") as file:
            file.write(header)
            file.truncate(len(header) + shard.size)
        places |= {each: (place / name, len(header) + start) for each, (start, _) in shard.places.items()}
    for name, tensor in values:
        path, start = places[name]
        with path.open("rb+") as file:
            file.seek(start)
            file.write(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
        del tensor  # before the next is made
    for name in names:
        with (place / name).open("rb+") as file:
            os.fsync(file.fileno())
    if count > 1:
        index = {
            "metadata": {"total_size": sum(shard.size for shard in shards)},
            "weight_map": {name: path.name for name, (path, _) in places.items()},
        }
        (place / f"{_NAME}.index.json").write_bytes(msgspec.json.format(msgspec.json.encode(index)) + b"\n")


@contextlib.contextmanager
def _new_directory(path: Path) -> Iterator[Path]:
    """A temporary directory beside `path`; it becomes `path` when the block ends, and is gone if it fails.

    Raises:
        ArgumentError: it cannot be written; says why.
    """
    target = path.resolve()
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name[:40]}.", dir=target.parent))
        try:
            yield temporary
            mask = os.umask(0)
            os.umask(mask)
            temporary.chmod(0o777 & ~mask)
            if os.name == "nt" and target.is_dir():  # where a directory does not replace an empty one
                target.rmdir()
            os.replace(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise ArgumentError(f"{path} cannot be written: {error.strerror or error}") from error
