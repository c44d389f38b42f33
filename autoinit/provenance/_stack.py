"""Who is calling: the initialiser, the module of torch and the user's line, read from Python's stack."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from types import CodeType, FrameType
from typing import Any

import torch

from autoinit.provenance._ledger import Token, address
from autoinit.provenance._regions import StorageRegion
from autoinit.tracing.dataflow import SourceLine

_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
_NN = os.path.join(_TORCH, "nn") + os.sep
_MODULES = os.path.join(_NN, "modules") + os.sep
_STANDARD = sysconfig.get_paths()["stdlib"] + os.sep

_LIBRARIES = frozenset(["torch.nn.init", "timm.layers.weight_init", "transformers.initialization"])
"""Modules whose every function that takes the tensor is (part of) an initialiser, whatever its name."""
_ON_PURPOSE = ("load_state_dict", "to_empty")
"""Methods of `nn.Module` that write every parameter, and are named as what wrote it."""


class CodeOwner(Enum):
    """Whose code a file holds."""

    OWN = "autoinit"
    INIT = "torch.nn.init"
    MODULE = "torch.nn.Module"
    MODULES = "torch.nn.modules"
    TORCH = "the rest of torch"
    STANDARD = "the standard library"
    USER = "anyone else"


@cache
def code_owner(filename: str) -> CodeOwner:
    """Whose code a file holds."""
    if filename.startswith(_OWN):
        return CodeOwner.OWN
    if filename.startswith(_TORCH):
        if filename == os.path.join(_NN, "init.py"):
            return CodeOwner.INIT
        if filename.startswith(_MODULES):
            return CodeOwner.MODULE if filename.endswith("module.py") else CodeOwner.MODULES
        return CodeOwner.TORCH
    installed = "site-packages" in filename or "dist-packages" in filename
    if filename.startswith("<frozen") or (filename.startswith(_STANDARD) and not installed):
        return CodeOwner.STANDARD
    return CodeOwner.USER


@dataclass(frozen=True)
class Site:
    """Who called a torch function.

    Attributes:
        function, arguments: of the outermost initialiser on the way to it, or `load_state_dict` or `to_empty`; empty
            where there is none.
        source: the line of the user's code.
        default: whether a module of torch.nn called on its own.
        token: of the initialiser.
    """

    function: str
    arguments: Mapping[str, Any]
    source: SourceLine | None
    default: bool
    token: Token | None


def site(tensor: torch.Tensor) -> Site:
    """Who is writing to a tensor, or has just made it."""
    frame: FrameType | None = sys._getframe(1)
    storage = address(tensor)
    function, token, arguments = "", None, {}
    while frame is not None:
        where = code_owner(frame.f_code.co_filename)
        taken = _initialised(frame, where, storage)
        if taken is not None:
            function = f"{frame.f_globals.get('__name__', '')}.{frame.f_code.co_name}"
            token, arguments = (id(frame), frame.f_code, StorageRegion.of(taken)), _arguments(frame)
        elif where in (CodeOwner.USER, CodeOwner.MODULE, CodeOwner.MODULES):
            break
        frame = frame.f_back
    if frame is not None and code_owner(frame.f_code.co_filename) is CodeOwner.MODULE:
        return _by_module(frame)
    default = frame is not None and code_owner(frame.f_code.co_filename) is CodeOwner.MODULES
    source = user_line(frame)
    return Site(function, arguments, source, default, None if token is None else (*token, source))


def _by_module(frame: FrameType) -> Site:
    """Of a call that the methods of `nn.Module` make."""
    step: FrameType | None = frame
    while step is not None:
        if step.f_code.co_name in _ON_PURPOSE and code_owner(step.f_code.co_filename) is CodeOwner.MODULE:
            return Site(step.f_code.co_name, {}, user_line(step.f_back), False, None)
        step = step.f_back
    return Site("", {}, user_line(frame), False, None)


def user_line(frame: FrameType | None) -> SourceLine | None:
    """The line of the first frame, from this one outwards, that is the user's."""
    while frame is not None:
        code = frame.f_code
        if code_owner(code.co_filename) is CodeOwner.USER:
            return SourceLine(code.co_filename, frame.f_lineno, code.co_name)
        frame = frame.f_back
    return None


def _initialised(frame: FrameType, where: CodeOwner, storage: int | None) -> torch.Tensor | None:
    """The tensor that an initialiser was given, if a frame is a call of one with that storage among its arguments."""
    if where not in (CodeOwner.INIT, CodeOwner.USER):
        return None
    name = frame.f_code.co_name
    named = name.endswith("_") and not name.endswith("__")
    if not named and frame.f_globals.get("__name__") not in _LIBRARIES:
        return None
    held = frame.f_locals
    for parameter in _parameters(frame.f_code):
        value = held.get(parameter)
        if isinstance(value, torch.Tensor) and address(value) == storage:
            return value
    return None


def _parameters(code: CodeType) -> tuple[str, ...]:
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _arguments(frame: FrameType) -> dict[str, Any]:
    held = frame.f_locals
    return {
        name: held[name]
        for name in _parameters(frame.f_code)
        if name in held and isinstance(held[name], (bool, int, float, str))
    }


def loading() -> bool:
    """Whether the methods of `nn.Module` that are running innermost load a state dict."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and code_owner(frame.f_code.co_filename) in (CodeOwner.OWN, CodeOwner.MODULE):
        if frame.f_code.co_name == "_load_from_state_dict":
            return True
        frame = frame.f_back
    return False


def called_by_init(tensor: torch.Tensor) -> bool:
    """Whether the innermost caller outside autoinit is an initialiser of torch.nn.init that was given the tensor."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        where = code_owner(frame.f_code.co_filename)
        if where is CodeOwner.INIT:
            return _initialised(frame, where, address(tensor)) is not None
        if where not in (CodeOwner.OWN, CodeOwner.TORCH):
            return False
        frame = frame.f_back
    return False
