"""What a spec may be: one table, from which the help of commands, errors and readers are made. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

KINDS: Mapping[str, str] = {
    "FILE.pt, FILE.pth": "a model that torch.save wrote",
    "FILE.pt2": "a program that torch.export.save wrote",
    "PACKAGE.MODULE:FACTORY": "a function, class or model in importable code",
    "FILE.py:FACTORY": "the same in a file",
}
"""What each is, as it is written."""


@dataclass(frozen=True)
class Library:
    """A library that has models by names.

    Attributes:
        named: what stands behind its name and a colon.
        build: `module:function` that takes this, keyword arguments, whether to trust it, and a device.
    """

    named: str
    build: str


LIBRARIES: Mapping[str, Library] = {
    "timm": Library("NAME", "autoinit.loading._libraries:timm"),
    "torchvision": Library("NAME", "autoinit.loading._libraries:torchvision"),
    "hf": Library("DIRECTORY_OR_MODEL_TYPE", "autoinit.loading._libraries:transformers"),
}
"""By the name that a spec begins with."""

SPELLED = (*KINDS, *(f"{name}:{library.named}" for name, library in LIBRARIES.items()))
"""Every way to write a spec."""
