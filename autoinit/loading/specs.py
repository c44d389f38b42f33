"""Model specs: which kind a text is, and the model that it names."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from torch import nn

from autoinit.errors import AutoinitError, LoadError, words_of
from autoinit.loading import _factories as factories
from autoinit.loading import _libraries as libraries
from autoinit.loading import _weights as weights
from autoinit.loading import files
from autoinit.loading._devices import IN_MEMORY, ON_META, Device
from autoinit.loading._wording import one_line
from autoinit.loading.kinds import LIBRARIES, SPELLED
from autoinit.models.alone import WeightsAlone
from autoinit.tensors.bounds import room_for, within
from autoinit.tracing import ExportedModel

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_FILE_SUFFIXES = {".pt", ".pth", ".pt2", ".bin", ".ckpt", ".pkl", ".safetensors"}
_CONFIGURATION = "config.json"


@dataclass(frozen=True)
class Loaded:
    """A model and where it came from.

    Attributes:
        model: a module, or the exported program of a `.pt2` file; or weights alone, where they are asked for.
        name: for the report's header.
        notes: what a reader should know about the loading.
        files: every model and weights file that was read, and what it holds.
        room: how many bytes tensors may take while a model is analysed that a file made; None sets no limit.
    """

    model: nn.Module | ExportedModel | ExportedProgram | WeightsAlone
    name: str
    notes: tuple[str, ...] = ()
    files: tuple[files.ReadFile, ...] = ()
    room: int | None = None

    @contextlib.contextmanager
    def analysed(self) -> Iterator[None]:
        """Stands around what is done with a model: where it came from a file, what goes wrong is said of the file.

        Raises:
            LoadError: in place of an error that is none of autoinit's own.
            MemoryLimitError: an operation of a file's model would take more memory than there is room for.
        """
        try:
            with within(self.room, self.files[0].path if self.files else self.name):
                yield
        except (AutoinitError, OSError):
            raise
        except Exception as error:
            holders = [each.path for each in self.files if each.holds in ("model", "exported program", "checkpoint")]
            if not holders:
                raise
            raise LoadError(
                f"{holders[0]} holds a model that cannot be analysed: {one_line(error)}; it may hold what no "
                "constructor leaves there (--traceback shows where)"
            ) from error


def load(
    spec: str,
    *,
    weights_file: str | Path | None = None,
    arguments: Mapping[str, Any] | None = None,
    trust: bool = False,
    max_size: int | None = None,
    alone: bool = False,
    meta: bool = False,
) -> Loaded:
    """The model that a spec names.

    Files are read without running code from them. Factories and model libraries are code that the caller names.

    Args:
        spec: one of `FILE.pt|.pth|.pt2`, `PACKAGE.MODULE:FACTORY`, `FILE.py:FACTORY`, `timm:NAME`,
            `torchvision:NAME`, `hf:DIRECTORY_OR_CONFIG_OR_TYPE`.
        weights_file: a state dict (`.safetensors`, or written by `torch.save`) to load into the model.
        arguments: keyword arguments of the factory.
        trust: let files run code: for files whose origin is beyond doubt.
        max_size: how many bytes a file may unpack to, and the tensors take that are made of its model; by default four
            times its own size, or if that is more 256 MiB and 1 GiB.
        alone: whether weights without a model will do.
        meta: build what code builds on the meta device, without memory, where the code allows; a note says if not.

    Raises:
        LoadError: the model cannot be had; the message is one line that names the reason and the next step.
    """
    given, without = dict(arguments or {}), alone and weights_file is None
    meta = meta and weights_file is None
    try:
        loaded = _model(spec, given, trust, max_size, ON_META if meta else IN_MEMORY, alone=without)
    except LoadError as error:
        if not meta:
            raise
        made = _model(spec, given, trust, max_size, IN_MEMORY, alone=without)
        loaded = replace(made, notes=(*made.notes, f"built in memory, for on the meta device {words_of(error)}"))
    if weights_file is None:
        return loaded
    path = Path(weights_file)
    if not isinstance(loaded.model, nn.Module):
        raise LoadError(f"--weights {path}: {spec} is an exported program, which holds its own weights; leave it out")
    notes, read = weights.load_into(loaded.model, path, trust=trust, max_size=max_size)
    return replace(loaded, notes=loaded.notes + notes, files=(*loaded.files, read))


def files_read_for(spec: str, weights_file: str | Path | None = None) -> list[Path]:
    """The files that loading a spec may read, so far as its words tell: no command writes over them."""
    source, colon, name = spec.rpartition(":")
    found = [Path(source if colon else spec)]
    if source == "hf":
        found += [Path(name), Path(name) / _CONFIGURATION]
    elif not colon:
        found += [Path(spec) / _CONFIGURATION, *weights.named_by(Path(spec))]
        there = weights.found_in(Path(spec)) if os.path.isdir(spec) else None
        found += [there, *weights.named_by(there)] if there is not None else []
    elif source and colon and not source.endswith(".py"):
        module = source.replace(".", "/")
        found += [Path(f"{module}.py"), Path(module, "__init__.py")]
    if weights_file is not None:
        found += [Path(weights_file), *weights.named_by(Path(weights_file))]
    return found


def _model(
    spec: str, arguments: dict[str, Any], trust: bool, max_size: int | None, device: Device, *, alone: bool
) -> Loaded:
    library, colon, name = spec.partition(":")
    if not colon and os.path.isfile(Path(spec) / _CONFIGURATION):
        return _of_directory(spec, arguments, trust, device)
    if colon and library in LIBRARIES:
        return Loaded(resolve_name(LIBRARIES[library].build)(name, arguments, trust, device), name)
    if _is_file(spec):
        if arguments:
            raise LoadError(f"--arg {next(iter(arguments))}: {spec} is a file; arguments go to a factory")
        return _of_file(Path(spec), trust, max_size, alone=alone)
    if colon:
        return Loaded(factories.build(spec, arguments, device), spec)
    if spec.endswith(".py"):
        raise LoadError(f"{spec}: name the factory in it as {spec}:FACTORY")
    raise LoadError(f"{spec}: neither a file nor a model spec; a model is one of {', '.join(SPELLED)}")


def _of_file(path: Path, trust: bool, max_size: int | None, *, alone: bool) -> Loaded:
    """The model of a file; if they will do, the weights of a file or directory that holds no model."""
    if alone and path.is_dir():
        path = weights.found_in(path) or path
    try:
        if weights.is_index(path):
            raise files.WeightsOnlyError(
                f"{path} is the index of sharded weights; {files.FACTORY_HINT.format(path=path)}"
            )
        model, notes, read = files.read_model(path, trust=trust, max_size=max_size)
    except files.WeightsOnlyError as error:
        if not alone:
            raise
        tensors, notes, read = weights.read_alone(path, error.value, trust=trust, max_size=max_size)
        return Loaded(tensors, path.name, notes, (read,))
    return Loaded(model, path.name, notes, (read,), None if trust else room_for(read.size, max_size))


def _of_directory(spec: str, arguments: dict[str, Any], trust: bool, device: Device) -> Loaded:
    """The model of a directory with a configuration of transformers, and where its weights are."""
    there = weights.found_in(Path(spec))
    otherwise = f"; its own are read with --weights {there}" if there is not None else ""
    note = f"{spec} holds a {_CONFIGURATION}: read as hf:{spec}, with random weights{otherwise}"
    return Loaded(libraries.transformers(spec, arguments, trust, device), Path(spec).name, (note,))


def _is_file(spec: str) -> bool:
    path = Path(spec)
    if path.suffix == ".py":
        return False
    return path.suffix.lower() in _FILE_SUFFIXES or os.path.lexists(path)
