"""Work in a process of its own, kept from one model to the next: it can be ended wherever it is stuck, or die."""

import multiprocessing
import resource
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

Record = dict[str, Any]
Work = Callable[[str, str], Record]

_IMPORTS = 60.0
"""Seconds that a new process may take to begin."""


class OvertimeError(Exception):
    """The work took longer than it may."""


class DiedError(Exception):
    """The process ended before its work did."""


class Worker:
    """Calls `work(library, name)` elsewhere. `work` and what it returns must be picklable.

    seconds: for one call, after which the process is ended. gigabytes: of address space; None for no limit.
    """

    def __init__(self, work: Work, seconds: float, gigabytes: float | None = None) -> None:
        self._work, self._seconds, self._gigabytes = work, seconds, gigabytes
        self._process: Any = None
        self._line: Connection | None = None

    def __call__(self, library: str, name: str) -> Record:
        """The record that `work` makes.

        Raises:
            OvertimeError: it took too long.
            DiedError: the process died, of a lack of memory perhaps.
        """
        line = self._line or self._started()
        line.send((library, name))
        if not line.poll(self._seconds):
            self.end()
            raise OvertimeError(f"took longer than {self._seconds:g} s and was ended")
        try:
            record: Record = line.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            self.end()
            how = f"by signal {-code}" if code and code < 0 else f"with exit status {code}"
            raise DiedError(f"the process ended {how}") from None
        return record

    def end(self) -> None:
        """End the process, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._line is not None:
            self._line.close()
        self._process = self._line = None

    def _started(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, self._work, self._gigabytes), daemon=True)
        self._process.start()
        there.close()
        self._line = here
        if not here.poll(_IMPORTS) or here.recv() != "ready":
            self.end()
            raise DiedError("the process did not begin")
        return here


def _serve(line: Connection, work: Work, gigabytes: float | None) -> None:
    if gigabytes is not None:
        most = int(gigabytes * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    line.send("ready")
    while True:
        try:
            library, name = line.recv()
        except (EOFError, KeyboardInterrupt):
            return
        line.send(work(library, name))
