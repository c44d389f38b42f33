"""Files of torch.save: tensors and torch.nn's own modules are built, nothing else, unless the file is trusted."""

from __future__ import annotations

import inspect
import io
import sys
import zipfile
from collections.abc import Callable
from functools import cache
from typing import Any, BinaryIO

import torch
from torch import nn

from autoinit.errors import LoadError
from autoinit.loading._archives import Archive, DamagedError
from autoinit.loading._opening import mapped
from autoinit.loading._pickles import Pickled, look_at
from autoinit.loading._wording import one_line, some
from autoinit.tensors.process_state import silenced
from autoinit.theory.activations import NONLINEARITIES

_NONLINEARITY_MODULES = ("torch", "torch.nn.functional", "torch._C._nn")
_REBUILDING = ("torch._utils._rebuild_", "torch._tensor._rebuild_from_type")
_CALLED = frozenset({
    "_codecs.encode", "builtins.complex", "builtins.set", "collections.Counter", "collections.OrderedDict",
    "torch.Size", "torch.device", "torch.nn.parameter.Parameter", "torch.serialization._get_layout",
})  # fmt: skip
"""What a pickle of tensors and modules calls. A class called with sizes of the file's choice could take all memory."""
_HOOKS = (
    ("torch.nn.utils.weight_norm", "WeightNorm"),
    ("torch.nn.utils.spectral_norm", "SpectralNorm"),
    ("torch.nn.utils.spectral_norm", "SpectralNormLoadStateDictPreHook"),
    ("torch.nn.utils.spectral_norm", "SpectralNormStateDictHook"),
    ("torch.nn.modules.module", "_WrappedHook"),
)


def read(file: BinaryIO, limit: int, place: object, *, trust: bool) -> object:
    """The object that torch.save wrote.

    Args:
        file: the file, open for reading: what is looked at is what torch loads.
        limit: how many bytes it may unpack to.
        place: the file as the user named it, for messages.
        trust: build whatever the file names.

    Raises:
        LoadError: the file is damaged, or needs classes that a safe load does not build; the message lists them.
    """
    if not trust:
        _vet(file, limit, place)
    large = mapped(file)
    path = large.path if large is not None and not trust and _is_plain(file) else None
    file.seek(0)
    try:
        with silenced(), torch.serialization.safe_globals([] if trust else list(_safe())):
            return torch.load(path or file, map_location="cpu", weights_only=not trust, mmap=path is not None)
    except Exception as error:
        if "Only persistent_load of storage" in str(error):
            raise LoadError(
                f"{place} holds a whole model in the file format of torch before 1.6, which a safe load does not "
                "read; add --trust (runs code from the file: only for a file whose origin you know), or save it "
                "again with a current torch"
            ) from error
        if isinstance(error, AttributeError | ImportError):
            raise LoadError(f"{place} needs a class that cannot be imported here ({one_line(error)})") from error
        raise LoadError(f"{place} is damaged, or no file that torch.save wrote ({_cause(error)})") from error


def _vet(file: BinaryIO, limit: int, place: object) -> None:
    """Refuse what a safe load would not build, what it would call with any arguments, and what is too large."""
    try:
        pickled = _pickled(file, limit, place)
    except (ValueError, RuntimeError, OSError, DamagedError) as error:
        raise LoadError(f"{place} is damaged, or no file that torch.save wrote ({_cause(error)})") from error
    builders = set(torch._weights_only_unpickler._get_allowed_globals())
    foreign = sorted(pickled.named - {name for _, name in _safe()} - builders)
    if foreign:
        raise LoadError(
            f"{place} needs classes or functions that a safe load does not build: {some(foreign)}; either "
            "add --trust (runs code from the file: only for a file whose origin you know), or give "
            "PACKAGE.MODULE:FACTORY with --weights STATE_DICT"
        )
    calls = sorted(name for name in pickled.called if not name.startswith(_REBUILDING) and name not in _CALLED)
    if calls:
        raise LoadError(
            f"{place} is refused, for it calls {some(calls)}, which saving a model never asks for; add --trust only "
            "for a file whose origin you know"
        )


def _pickled(file: BinaryIO, limit: int, place: object) -> Pickled:
    """What the file's pickles name and call, as torch will find them."""
    file.seek(0)
    start = file.read(4)
    file.seek(0)
    if start != b"PK\x03\x04":
        return look_at(file)
    archive = Archive(file, limit, place)  # first, since torch's reader unpacks a record when it opens an archive
    file.seek(0)
    reader = torch._C.PyTorchFileReader(file)
    _require_same(archive, reader)
    return look_at(io.BytesIO(reader.get_record("data.pkl")))


def _is_plain(file: BinaryIO) -> bool:
    """Whether a file is an archive of which nothing is packed: tensors may stay in it."""
    file.seek(0)
    return zipfile.is_zipfile(file) and all(
        each.compress_type == zipfile.ZIP_STORED for each in zipfile.ZipFile(file).infolist()
    )


def _require_same(archive: Archive, reader: Any) -> None:
    """Refuse an archive of which torch's reader finds other records than were looked at, or finds them elsewhere."""
    sized = hasattr(reader, "get_record_size")  # torch 2.9 has it not
    if set(reader.get_all_records()) != set(archive.names()):
        raise DamagedError("two readers find other records in it")
    for name in archive.names():
        if reader.get_record_offset(name) != archive.offset(name) or (
            sized and reader.get_record_size(name) != archive.size(name)
        ):
            raise DamagedError(f"two readers find another record {name} in it")


def _cause(error: Exception) -> str:
    """The reason within torch's advice on how to switch its checks off."""
    if isinstance(error, DamagedError):
        return str(error)
    text = str(error)
    _, found, reason = text.partition("WeightsUnpickler error: ")
    if found:
        return reason.strip().splitlines()[0]
    return one_line(error).partition("(Could this error message")[0].strip()


@cache
def _safe() -> tuple[tuple[Callable[..., Any], str], ...]:
    """What a safe load may build beside tensors: torch.nn's modules, their hooks, and nonlinearities.

    None of them runs anything named in the file: modules are filled attribute by attribute, and every function that
    they may refer to is itself in this list.
    """
    allowed: dict[str, Callable[..., Any]] = {}
    for name, module in list(sys.modules.items()):
        if name.startswith("torch.nn.modules."):
            for value in vars(module).values():
                if inspect.isclass(value) and issubclass(value, nn.Module) and value.__module__ == name:
                    allowed[f"{name}.{value.__qualname__}"] = value
    spelled = [(each.name, each.spelling) for each in NONLINEARITIES.values() if each.spelling is not None]
    names = [name for own, spelling in spelled for name in (own, *spelling.names)]
    for where, name in [*((where, name) for where in _NONLINEARITY_MODULES for name in names), *_HOOKS]:
        module = sys.modules[where]
        if hasattr(module, name):
            allowed[f"{where}.{name}"] = getattr(module, name)
    for _, spelling in spelled:
        given: tuple[Any, ...] = (*spelling.modules, *spelling.functions)
        allowed.update({f"{each.__module__}.{each.__qualname__}": each for each in given})
    return tuple((value, name) for name, value in allowed.items())
