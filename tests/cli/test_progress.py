"""Progress: shown on a terminal's standard error alone."""

from __future__ import annotations

import contextlib
import io
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from autoinit import plan
from autoinit.cli._talking import Talk
from autoinit.signal import measure
from autoinit.tensors.parallel import Task, in_parallel
from autoinit.tensors.progress import counted, watched
from tests.shared.command_line import run

CODES = {"check": 1, "signal": 0, "apply": 0, "report": 0}
NETS = """
from torch import nn

def build():
    return nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 64), nn.ReLU())

other = build
"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Standard error as a terminal of 100 columns."""
    made = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    return made


def test_a_stage_is_shown_where_someone_watches(terminal):
    talk = Talk(full=False, quiet=False, verbose=False)
    with contextlib.redirect_stderr(terminal), talk.stage("checking [bold]a\x1b[31m"):
        counted(4)(1)
    assert "checking [bold]a" in terminal.getvalue()
    assert "\x1b[31m" not in terminal.getvalue()


def test_a_quiet_stage_shows_nothing(terminal):
    with contextlib.redirect_stderr(terminal), Talk(full=False, quiet=True, verbose=False).stage("checking a"):
        pass
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("command", ["check", "signal", "apply", "report"])
def test_nothing_is_shown_without_a_terminal(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORCE_COLOR", "1")
    Path("net.py").write_text(NETS)
    more = {
        "signal": ["--measure", "--seeds", "2"],
        "apply": ["-o", "out.pt"],
        "check": ["net.py:build", "--no-config"],
    }
    result = run(command, "net.py:build", *more.get(command, []), code=CODES[command])
    assert " of 2" not in result.stderr
    assert "..." not in result.stderr


def test_the_models_of_a_check_are_counted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NETS)
    said = run("check", "net.py:build", "net.py:other", "--no-config", "--verbose", code=1).stderr
    for step in ("loading", "checking"):
        assert f"{step} net.py:build (1 of 2): " in said
        assert f"{step} net.py:other (2 of 2): " in said


def shares(work):
    """What a watcher is told."""
    told, lock = [], threading.Lock()

    def tell(share):
        with lock:
            told.append(share)

    with watched(tell):
        work()
    return told


def test_each_draw_of_a_measurement_is_told():
    told = shares(lambda: measure(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), (2, 4), seeds=4))
    assert [each for each in told if each in (0.25, 0.5, 0.75)] == [0.25, 0.5, 0.75]
    assert told[-1] == 1


def test_what_is_written_is_told_by_its_size():
    """Two weights of 3 and 1 parts: whatever comes first, all comes to 1."""
    model = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 8))
    made = plan(model)
    told = shares(lambda: made.apply(model, seed=0))
    assert told[-1] == 1
    assert all(0 < each <= 1 for each in told)


@pytest.mark.parametrize("threads", [1, 3])
def test_pieces_add_up_in_any_thread(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        told = shares(lambda: in_parallel(Task(1 << 20, lambda: None) for _ in range(8)))
    finally:
        torch.set_num_threads(before)
    assert sorted(told) == [each / 8 for each in range(1, 9)]


def test_nobody_is_told_outside():
    with watched(pytest.fail):
        pass
    counted(2)(1)
