"""Factories: the user's own code that builds a model. It runs, for that is what naming it asks for."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import os
import pkgutil
import sys
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from autoinit.errors import LoadError
from autoinit.errors.calling import place_of
from autoinit.loading._devices import IN_MEMORY, Device
from autoinit.loading._wording import did_you_mean, one_line
from autoinit.loading.importing import importable


def build(spec: str, arguments: Mapping[str, Any], device: Device = IN_MEMORY) -> nn.Module:
    """The model that `PACKAGE.MODULE:FACTORY` or `FILE.py:FACTORY` names.

    FACTORY is a function or class to call with the arguments, or a module that exists already. The current directory
    can be imported from, as with `python -m`; what the code prints goes to standard error.

    Raises:
        LoadError: the code cannot be found, fails, or gives no module; names the line of the user's code.
    """
    source, _, name = spec.rpartition(":")
    if not source or not name:
        raise LoadError(f"{spec}: a factory is named PACKAGE.MODULE:FACTORY or FILE.py:FACTORY")
    is_file = source.endswith(".py")
    with importable(Path(source).parent if is_file else Path.cwd()), contextlib.redirect_stdout(sys.stderr):
        module = _run_file(Path(source)) if is_file else _import(source)
        return _call(_attribute(module, name, source), spec, arguments, device)


def _import(name: str) -> ModuleType:
    try:
        with _users_code(f"importing {name}", but=ModuleNotFoundError):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise _failure(f"importing {name}", error) from error
        parent, _, last = error.name.rpartition(".")
        path = getattr(sys.modules.get(parent), "__path__", None) if parent else None
        known = [each.name for each in pkgutil.iter_modules(path)]
        raise LoadError(f"no module {error.name!r} to import{did_you_mean(last, known)}") from error


def _run_file(path: Path) -> ModuleType:
    if not os.path.isfile(path):
        near = did_you_mean(path.name, os.listdir(path.parent) if os.path.isdir(path.parent) else [])
        raise LoadError(f"{path}: no such file{near}")
    name = f"_autoinit_{zlib.crc32(os.fsencode(path.resolve())):08x}_{path.stem}"  # no importable module's name
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise LoadError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with _users_code(f"running {path}"):
        spec.loader.exec_module(module)
    return module


def _attribute(module: ModuleType, name: str, source: str) -> object:
    value: object = module
    for part in name.split("."):
        if not hasattr(value, part):
            known = [each for each, held in vars(value).items() if callable(held) or isinstance(held, nn.Module)]
            raise LoadError(f"{source} has no {name!r}{did_you_mean(part, known)}")
        value = getattr(value, part)
    return value


def _call(factory: object, spec: str, arguments: Mapping[str, Any], device: Device) -> nn.Module:
    if isinstance(factory, nn.Module):
        if arguments:
            raise LoadError(f"--arg {next(iter(arguments))}: {spec} is a model already and takes no arguments")
        return factory
    if not callable(factory):
        raise LoadError(
            f"{spec} is a {type(factory).__name__}; a factory is a function or class that gives a torch.nn.Module"
        )
    _check_arguments(factory, spec, arguments)
    with _users_code(f"calling {spec}"), device():
        model = factory(**arguments)
    if not isinstance(model, nn.Module):
        raise LoadError(f"{spec} gave a {type(model).__name__}; a factory gives a torch.nn.Module")
    return model


def _check_arguments(factory: Any, spec: str, arguments: Mapping[str, Any]) -> None:
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise LoadError(f"{spec}{signature}: {error}; arguments are given as --arg NAME=VALUE") from error


@contextlib.contextmanager
def _users_code(doing: str, but: type[Exception] | tuple[()] = ()) -> Iterator[None]:
    """Whatever code of the user raises is a failure of what it was doing, but an interrupt. but: what goes through."""
    try:
        yield
    except but:
        raise
    except BaseException as error:  # what is no Exception, as SystemExit, would end the command in silence
        if type(error) is KeyboardInterrupt:
            raise
        raise _failure(doing, error) from error


def _failure(doing: str, error: BaseException) -> LoadError:
    """The failure of code that the user named, at the deepest line that is theirs."""
    if isinstance(error, SyntaxError) and error.filename:
        return LoadError(f"{doing} failed at {error.filename}:{error.lineno}: {one_line(error)}")
    return LoadError(f"{doing} failed{place_of(error)}: {one_line(error)}")
