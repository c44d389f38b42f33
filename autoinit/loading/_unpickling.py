"""Files of torch.save: tensors and torch.nn's own modules are built, nothing else, unless the file is trusted."""

from __future__ import annotations

import inspect
import io
import pickletools
import sys
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

from autoinit.errors import LoadError
from autoinit.loading._archives import records
from autoinit.loading._wording import one_line
from autoinit.theory.activations import NONLINEARITIES

_NONLINEARITY_MODULES = ("torch", "torch.nn.functional", "torch._C._nn")
_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}
"""Modules that pickles call by their names in Python 2."""
_HOOKS = (
    ("torch.nn.utils.weight_norm", "WeightNorm"),
    ("torch.nn.utils.spectral_norm", "SpectralNorm"),
    ("torch.nn.utils.spectral_norm", "SpectralNormLoadStateDictPreHook"),
    ("torch.nn.utils.spectral_norm", "SpectralNormStateDictHook"),
    ("torch.nn.modules.module", "_WrappedHook"),
)


def read(path: Path, *, trust: bool) -> object:
    """The object that torch.save wrote.

    Raises:
        LoadError: the file is damaged, or needs classes that a safe load does not build; the message lists them.
    """
    try:
        # An open file: given a path, torch.load goes by its suffix and not by what the file holds.
        with path.open("rb") as file, torch.serialization.safe_globals([] if trust else list(_safe())):
            return torch.load(file, map_location="cpu", weights_only=not trust)
    except Exception as error:
        foreign = [] if trust else _foreign(path)
        if foreign:
            raise LoadError(
                f"{path} needs classes or functions that a safe load does not build: {', '.join(foreign)}; either "
                "add --trust (runs code from the file: only for a file whose origin you know), or give "
                "PACKAGE.MODULE:FACTORY with --weights STATE_DICT"
            ) from error
        if "Only persistent_load of storage" in str(error):
            raise LoadError(
                f"{path} holds a whole model in the file format of torch before 1.6, which a safe load does not "
                "read; add --trust (runs code from the file: only for a file whose origin you know), or save it "
                "again with a current torch"
            ) from error
        if isinstance(error, AttributeError | ImportError):
            raise LoadError(f"{path} needs a class that cannot be imported here ({one_line(error)})") from error
        raise LoadError(f"{path} is damaged, or no file that torch.save wrote ({_cause(error)})") from error


def _cause(error: Exception) -> str:
    """The reason within torch's advice on how to switch its checks off."""
    text = str(error)
    _, found, reason = text.partition("WeightsUnpickler error: ")
    if found:
        return reason.strip().splitlines()[0]
    return one_line(error)


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


def _foreign(path: Path) -> list[str]:
    """Names in the file's pickle that a safe load refuses."""
    known = {name for _, name in _safe()}
    try:
        return sorted(_named_in(path) - known - _builders())
    except (ValueError, IndexError, KeyError, OSError, zipfile.BadZipFile):
        return []


def foreign_in_archive(content: bytes) -> list[str]:
    """What the pickles in an archive of torch.save would import beyond what builds tensors.

    Raises:
        zipfile.BadZipFile: it is no archive.
        ValueError: a pickle in it is damaged.
    """
    if not content:
        return []
    names: set[str] = set()
    for _, record in records(content, lambda name: name.endswith(".pkl")):
        names |= _named_in_stream(io.BytesIO(record))
    return sorted(names - _builders())


def _builders() -> set[str]:
    """What torch's own safe load imports to build tensors."""
    return set(torch._weights_only_unpickler._get_allowed_globals())


def _named_in(path: Path) -> set[str]:
    """Dotted names of everything that the file's pickles would import. Read from opcodes: nothing is built."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            return _named_in_stream(file)
    pickles = records(path, lambda name: name.endswith(".pkl"))
    return {name for _, content in pickles for name in _named_in_stream(io.BytesIO(content))}


def _named_in_stream(file: BinaryIO) -> set[str]:
    """Names in the pickles that a stream begins with: one in a zip archive, several in torch's old format."""
    names: set[str] = set()
    while True:
        strings: list[str] = []
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name in ("GLOBAL", "INST"):
                module, _, name = str(argument).partition(" ")
                names.add(f"{_RENAMED.get(module, module)}.{name}")
            elif opcode.name == "STACK_GLOBAL":
                names.add(".".join(strings[-2:]) + " (name made while unpickling)")
            elif opcode.name in ("EXT1", "EXT2", "EXT4"):
                names.add(f"copyreg extension {argument}")
            elif isinstance(argument, str):
                strings.append(argument)
        start = file.read(1)
        if start != b"\x80":
            return names
        file.seek(-1, io.SEEK_CUR)
