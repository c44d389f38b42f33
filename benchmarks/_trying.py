"""One change of the package, and the tests that may notice it: each time in a process of its own, by a fork.

A warm process has the package and its tests imported. It gives a function that is changed inside its new code, in a
fork, and costs as much as the tests. What stands at the top of a module, in a default or in a decorator, and functions
that run on import, are changed in a cold process, which imports all anew.
"""

from __future__ import annotations

import ast
import functools
import gc
import importlib
import importlib.abc
import importlib.machinery
import itertools
import json
import math
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest
from _covering import QUIET
from _mutations import Change, changed

ROOT = Path(__file__).parent.parent


@dataclass
class Chosen:
    """A plugin of pytest that runs these tests only, in this order, and notes the first that fails."""

    tests: Sequence[str]
    failed: list[str] = field(default_factory=list)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep and order."""
        order = {test: place for place, test in enumerate(self.tests)}
        items[:] = sorted((each for each in items if each.nodeid in order), key=lambda each: order[each.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a failure."""
        if report.failed:
            self.failed.append(report.nodeid)


class Changed(importlib.abc.MetaPathFinder):
    """Imports one module from another tree than its file's."""

    def __init__(self, path: Path, code: CodeType) -> None:
        self.name = _module(path)
        self.code = code

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The module's own specification, with the other code in it."""
        if fullname != self.name:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        assert spec is not None
        assert isinstance(spec.loader, importlib.machinery.SourceFileLoader)
        code = self.code
        spec.loader.get_code = lambda _name: code  # type: ignore[method-assign]
        return spec


class Bench:
    """Where changes are tried, by a warm process where that can tell, else in a cold one.

    files: of tests, imported in the warm process.
    """

    def __init__(self, files: Sequence[str]) -> None:
        context = multiprocessing.get_context("fork")
        self._here, there = context.Pipe()
        self._warm = context.Process(target=_serve, args=(there, files), daemon=True)
        self._warm.start()

    def noticing(self, change: Change, tests: Sequence[str], seconds: float, *, warm: bool) -> str:
        """The first test that fails within so many seconds; empty if none does."""
        if not warm:
            return _noticed(lambda: _cold(change, tests), seconds)
        self._here.send((change, tests, seconds))
        return str(self._here.recv())


class Warm:
    """A plugin of pytest that, in place of running what was collected, waits for changes and tries each in a fork."""

    def __init__(self, there: Connection) -> None:
        self.there = there
        self.failed: list[str] = []

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Until the other side is closed."""
        items = {item.nodeid: item for item in session.items}
        while True:
            try:
                change, tests, seconds = self.there.recv()
            except EOFError:
                return True
            work = functools.partial(self._first_failing, change, [items[test] for test in tests])
            self.there.send(_noticed(work, seconds))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a failure."""
        if report.failed:
            self.failed.append(report.nodeid)

    def _first_failing(self, change: Change, items: Sequence[pytest.Item]) -> str:
        """With functions changed where they live."""
        _put_in(change)
        for item, following in itertools.zip_longest(items, items[1:]):
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
            if self.failed:
                return self.failed[0]
        return ""


def _serve(there: Connection, files: Sequence[str]) -> None:
    """The warm process."""
    _silence()
    pytest.main([*files, *QUIET], plugins=[Warm(there)])


def _noticed(work: Callable[[], str], seconds: float) -> str:
    found = in_a_fork(work, seconds)
    return "it hangs" if found is None else str(found)


def _put_in(change: Change) -> None:
    """Give each function that a change makes another its new code, wherever it is held."""
    codes = _new_codes(change)
    importlib.import_module(_module(ROOT / change.file))  # as yet unloaded, it would be loaded unchanged
    for function in [each for each in gc.get_objects() if type(each) is FunctionType]:
        old = function.__code__
        if old.co_filename == str(ROOT / change.file):
            _, function.__code__ = codes.get((old.co_name, old.co_firstlineno), (old, old))


def _module(path: Path) -> str:
    """The name of the module that a file of the package is."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _new_codes(change: Change) -> dict[tuple[str, int], tuple[CodeType, CodeType]]:
    """The code, before and after, of each function that a change makes another, by name and first line."""
    path = ROOT / change.file
    before, after = (
        {(each.co_name, each.co_firstlineno): each for each in _codes(compile(tree, str(path), "exec"))}
        for tree in (ast.parse(path.read_text()), changed(path, change))
    )
    return {key: (before[key], code) for key, code in after.items() if before[key] != code}


def _cold(change: Change, tests: Sequence[str]) -> str:
    """The first test that fails with the module imported changed."""
    path = ROOT / change.file
    sys.meta_path.insert(0, Changed(path, compile(changed(path, change), str(path), "exec")))
    return _first_failing(tests)


def _first_failing(tests: Sequence[str]) -> str:
    """Run in this process, file after file."""
    for file in dict.fromkeys(test.partition("::")[0] for test in tests):
        chosen = Chosen([test for test in tests if test.partition("::")[0] == file])
        ended = pytest.main([file, "-x", *QUIET], plugins=[chosen])
        if ended not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            return next(iter(chosen.failed), f"{file} cannot be imported")
    return ""


def inside_a_function(change: Change) -> bool:
    """Whether the changed node stands in the body of a function: not at the top, in a default or in a decorator.

    Not where the change leaves out the only use of an outer function's variable: such code does not fit in.
    """
    if any(old.co_freevars != new.co_freevars for old, new in _new_codes(change).values()):
        return False
    tree = ast.parse((ROOT / change.file).read_text())
    node = list(ast.walk(tree))[change.place]
    functions = (each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef))
    return any(node in ast.walk(statement) for function in functions for statement in function.body)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code of each function that is written with a name, at any depth."""
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from () if each.co_name.startswith("<") else (each,)
            yield from _codes(each)


def in_a_fork(work: Callable[[], Any], seconds: float) -> Any:
    """What `work` returns in a process of its own; None if it takes more seconds of the processor. If it died, that.

    Also None if it has not ended in ten times that, whatever it waits for.

    Raises:
        RuntimeError: `work` raised.
    """
    with tempfile.NamedTemporaryFile() as answer:
        child = os.fork()
        if child == 0:
            resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), resource.RLIM_INFINITY))
            _work_and_leave(work, answer.name)
        until = time.monotonic() + 10 * seconds
        while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
            if time.monotonic() > until:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return None
            time.sleep(0.02)
        if os.WIFSIGNALED(ended[1]) and os.WTERMSIG(ended[1]) == signal.SIGXCPU:
            return None
        written = Path(answer.name).read_text()
    made = json.loads(written) if written else {"answer": "the process died"}
    if "error" in made:
        raise RuntimeError(made["error"])
    return made["answer"]


def _work_and_leave(work: Callable[[], Any], answer: str) -> None:
    """In the child: nothing is printed, and no handler of the parent's runs at its end."""
    os.setsid()
    _silence()
    try:
        made = {"answer": work()}
    except BaseException:  # noqa: BLE001 - handed to the parent, which raises it
        made = {"error": traceback.format_exc()}
    Path(answer).write_text(json.dumps(made))
    os._exit(0)


def _silence() -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
