"""The archive of an exported program: parsed and never run.

`torch.export.load` may run code from a file: it unpickles, imports what a document names, gives sizes to sympy, which
evaluates them, and pastes names into source. Here the graph is a document of a closed schema and a tensor is bytes.
What neither needs (example inputs, guards, nesting of arguments, compiled code) is not read.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import msgspec
import torch
from torch import nn

from autoinit.errors import LoadError
from autoinit.errors.arguments import shown
from autoinit.loading._archives import Archive, DamagedError
from autoinit.loading._wording import one_line
from autoinit.loading.exported import _schema as schema
from autoinit.loading.exported._graphs import UnreadableError, graph_of
from autoinit.loading.exported._tensors import tensors_in
from autoinit.tensors.process_state import silenced
from autoinit.tracing import ExportedModel

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_T = TypeVar("_T", bound=msgspec.Struct)
_MODEL = "model"
_LONGEST = 500
"""Characters of what is wrong with a document, which repeats what stands in it."""
_TRUST = "or add --trust, which lets torch load it and run code from it: only for a file whose origin you know"


def read(file: BinaryIO, limit: int, place: object) -> ExportedModel:
    """The exported program in an open `.pt2` file.

    Args:
        file: the file, open for reading.
        limit: how many bytes it may unpack to.
        place: the file as the user named it, for messages.

    Raises:
        LoadError: the file is damaged, of a version that is not known, or needs more than a graph and its tensors.
    """
    try:
        return _model(Archive(file, limit, place))
    except UnreadableError as error:
        raise LoadError(f"{place} is refused: {error}; export the model again without it, {_TRUST}") from error
    except DamagedError as error:
        raise LoadError(f"{place} is damaged: {textwrap.shorten(str(error), _LONGEST)}") from error
    except RecursionError as error:
        raise LoadError(f"{place} is damaged: its document is nested too deep") from error


def run(file: BinaryIO, place: object) -> ExportedProgram:
    """What torch makes of the file, which may run code from it: for files that the user trusts.

    Raises:
        LoadError: torch cannot load it.
    """
    file.seek(0)
    try:
        with silenced(), _quiet():
            return torch.export.load(file)
    except Exception as error:
        raise LoadError(
            f"{place} is damaged, or of a torch version that this one cannot read ({one_line(error)})"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back torch's log of a failure that is reported as one line."""
    logger = logging.getLogger("torch.export")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


def _model(archive: Archive) -> ExportedModel:
    _check_archive(archive)
    name = _only_program(archive)
    content = archive.read(f"models/{name}.json")
    _check_version(content)
    module = _parsed(content, schema.ExportedProgram, f"models/{name}.json").graph_module
    held = tensors_in(archive, _config(archive, "data/weights", f"{name}_weights_config.json"), "data/weights")
    constants = tensors_in(
        archive, _config(archive, "data/constants", f"{name}_constants_config.json"), "data/constants"
    )
    specs = module.signature.input_specs
    parameters = dict.fromkeys(str(each.value.parameter_name) for each in specs if each.kind == "parameter")
    for each in parameters:
        if not isinstance(held.get(each), nn.Parameter):
            raise DamagedError(f"the parameter {each} has no weights")
    return ExportedModel(graph_of(module, constants), held, tuple(parameters))


def _check_archive(archive: Archive) -> None:
    """Of a version that is known, and numbers that lie in memory as they do in the file."""
    for record, expected in (("archive_version", "0"), ("byteorder", sys.byteorder)):
        found = archive.read(record).strip() if record in archive else expected.encode()
        if found != expected.encode():
            raise UnreadableError(
                f"its {record.replace('_', ' ')} is {shown(found.decode(errors='replace'))}, expected {expected}"
            )


def _only_program(archive: Archive) -> str:
    """The name of the program: the only one, or the one named `model`."""
    if "serialized_exported_program.json" in archive:
        raise UnreadableError("torch 2.7 or before wrote it, in a format that holds pickles")
    found = [each.removeprefix("models/").removesuffix(".json") for each in archive.names("models")]
    strays = [each for each in archive.names("models") if not each.endswith(".json")]
    if strays:
        raise UnreadableError(f"{strays[0]} is no document of a program")
    if len(found) > 1 and _MODEL not in found:
        raise UnreadableError(f"it holds {len(found)} programs, none of them named {_MODEL!r}")
    if f"data/weights/{found[0]}.pt" in archive:
        raise UnreadableError("torch 2.8 or before wrote it, with pickled weights")
    return _MODEL if _MODEL in found else found[0]


def _check_version(content: bytearray) -> None:
    version = _parsed(content, schema.Version, "the program").schema_version
    if version.major != schema.MAJOR or version.minor > schema.NEWEST_MINOR:
        raise UnreadableError(
            f"its schema is of version {version.major}.{version.minor}, expected {schema.MAJOR}.0 to "
            f"{schema.MAJOR}.{schema.NEWEST_MINOR}"
        )


def _config(archive: Archive, folder: str, name: str) -> schema.PayloadConfig:
    return _parsed(archive.read(f"{folder}/{name}"), schema.PayloadConfig, name)


def _parsed(content: bytearray, kind: type[_T], name: str) -> _T:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DamagedError(f"{name}: {error}") from error
