"""Files of torch.export.save, vetted before torch reads them.

`torch.export.load` alone may run code from the file: it falls back to unrestricted unpickling for constants and
example inputs, evaluates symbolic sizes as Python expressions, looks operators up by dotted path and loads compiled
libraries. So every record is looked at first, and a file with anything beyond tensors, arithmetic on sizes and
operators is refused.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import torch

from autoinit.errors import LoadError
from autoinit.loading import _expressions as expressions
from autoinit.loading import _unpickling as unpickling
from autoinit.loading._archives import names_in, records
from autoinit.loading._wording import one_line, some

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_OPERATOR = re.compile(
    r"torch\.ops\.[a-zA-Z]\w*(\.[a-zA-Z]\w*|\._(?!_)\w*){1,2}"  # torch.ops.aten.add.Tensor
    r"|torch\.ops\._(?!_)\w*(\.[a-zA-Z]\w*|\._(?!_)\w*){1,2}"  # torch.ops._c10d_functional.all_reduce
    r"|_operator\.(?!_)\w+|math\.(?!_)\w+|torch\._?sym_\w+|torch\._check\w*"
)


def read(path: Path, *, trust: bool) -> ExportedProgram:
    """The exported program in a `.pt2` file.

    Raises:
        LoadError: the file is damaged, or reading it could run code from it.
    """
    try:
        findings = [] if trust else list(dict.fromkeys(_risks(path)))
        if not findings:
            with _quiet():
                return torch.export.load(path)
    except Exception as error:
        raise LoadError(
            f"{path} is damaged, or of a torch version that this one cannot read ({one_line(error)})"
        ) from error
    raise LoadError(
        f"{path} is refused, for reading it could run code from it: {some(findings)}; add --trust only for a file "
        "whose origin you know, or export the model again without custom objects"
    )


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


def _risks(path: Path) -> Iterator[str]:
    """What torch would unpickle, evaluate or load from the file, beyond what a graph and its tensors need."""
    documents = [json.loads(content) for _, content in records(path, lambda name: name.endswith(".json"))]
    for document in documents:
        yield from _in_document(document)
    for name in names_in(path):
        parts = PurePosixPath(name).parts
        if "aotinductor" in parts:
            yield f"compiled code ({parts[-1]})"
        elif parts[-1].startswith("custom_obj"):
            yield f"a custom object ({parts[-1]})"
    pickled = {name for document in documents for name in _pickled(document)}
    for _, content in records(path, lambda name: name.endswith(".pt") or PurePosixPath(name).name in pickled):
        yield from unpickling.foreign_in_archive(content)


def _pickled(document: Any) -> Iterator[str]:
    """File names of the tensors that a document says are pickled."""
    if isinstance(document, dict):
        if document.get("use_pickle"):
            yield PurePosixPath(str(document.get("path_name"))).name
        for value in document.values():
            yield from _pickled(value)
    elif isinstance(document, list):
        for value in document:
            yield from _pickled(value)


def _in_document(value: Any, key: str = "") -> Iterator[str]:
    """Operators that are none, and expressions that are more than arithmetic."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _in_document(each, name)
    elif isinstance(value, list):
        for each in value:
            yield from _in_document(each, key)
    elif isinstance(value, str):
        if key == "expr_str" and not expressions.is_size(value):
            yield f"the size {value!r}"
        elif key == "guards_code" and not expressions.is_guard(value):
            yield f"the guard {value!r}"
        elif key == "target" and value.startswith(("torch", "_operator", "math")) and not _OPERATOR.fullmatch(value):
            yield f"the operator {value!r}"
