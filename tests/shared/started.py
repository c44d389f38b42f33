"""`python ARGUMENTS`, run in a process that has torch and other libraries imported already, though not this package.

One process is kept that has imported them. It forks for each call, so that every script starts in the state of a new
interpreter with these modules in it, for a fraction of the processor's time. Where there is no fork, a new interpreter
is started.
"""

from __future__ import annotations

import atexit
import functools
import gc
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType

LIBRARIES = ("torch", "networkx", "msgspec", "click", "rich.table", "rich.progress")
"""What nearly every script imports."""


def python(
    *arguments: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """What `python SCRIPT ...`, `python -m MODULE ...` or `python -c CODE ...` gives.

    Raises:
        subprocess.TimeoutExpired: it took longer; it is ended.
    """
    given = list(map(str, arguments))
    if not hasattr(os, "fork"):
        command = [sys.executable, *given]
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout, check=False)
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        order = [given, str(cwd or Path.cwd()), dict(os.environ if env is None else env), str(out), str(err)]
        code = _answer(json.dumps([timeout, order]))
        if code is None:
            raise subprocess.TimeoutExpired(given, timeout)
        return subprocess.CompletedProcess(given, code, out.read_text(), err.read_text())


def _answer(order: str) -> int | None:
    kept = _kept()
    assert kept.stdin is not None
    assert kept.stdout is not None
    print(order, file=kept.stdin, flush=True)
    answer: int | None = json.loads(kept.stdout.readline())
    return answer


@functools.cache
def _kept() -> subprocess.Popen[str]:
    """The process that forks, started when it is first needed; no folder of this repository is on its path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(Path(__file__))]
    kept = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(kept.communicate)  # it ends with its input
    return kept


# In the process that is kept.


def _serve() -> None:
    here = str(Path(__file__).parent)
    for name in LIBRARIES:
        import_module(name)
    sys.path[:] = [each for each in sys.path if each != here]
    gc.freeze()  # a child that collects would copy it all
    for line in sys.stdin:
        seconds, order = json.loads(line)
        child = os.fork()
        if child == 0:
            code = _run(*order)
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        print(json.dumps(_ended(child, time.monotonic() + seconds)), flush=True)


def _ended(child: int, deadline: float) -> int | None:
    """Its exit status; None where it had to be ended."""
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(0.005)


def _run(given: list[str], cwd: str, env: dict[str, str], out: str, err: str) -> int:
    """Its exit status, as an interpreter of its own has it."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for number, path in ((0, os.devnull), (1, out), (2, err)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    sys.stdin, sys.stdout, sys.stderr = (open(number, mode) for number, mode in enumerate(("r", "w", "w")))  # noqa: SIM115
    sys.path[:0] = [each for each in env.get("PYTHONPATH", "").split(os.pathsep) if each]
    try:
        _execute(given)
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        print(ended.code, file=sys.stderr)
        return 1
    except BaseException:  # noqa: BLE001 - shown as an interpreter shows it
        traceback.print_exc()
        return 1
    return 0


def _execute(given: list[str]) -> None:
    how, *rest = given
    if how == "-c":
        main = sys.modules["__main__"] = ModuleType("__main__")
        sys.argv, sys.path[:0] = ["-c", *rest[1:]], [""]
        exec(compile(rest[0], "<string>", "exec"), main.__dict__)
    elif how == "-m":
        sys.argv, sys.path[:0] = rest, [os.getcwd()]
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[:0] = given, [str(Path(how).parent)]
        runpy.run_path(how, run_name="__main__")


if __name__ == "__main__":
    _serve()
