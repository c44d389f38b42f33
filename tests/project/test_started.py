"""Scripts of the tests run as in an interpreter of their own, though a process with torch in it is forked for them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shared.started import python

SHOWS = """
import os, sys
print(__name__, sys.argv, os.getcwd(), os.environ.get("KEY"), "autoinit" in sys.modules, "torch" in sys.modules)
print("said", file=sys.stderr)
import beside
sys.exit(beside.CODE)
"""


def test_a_script_starts_as_in_an_interpreter_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SHOWS)
    (tmp_path / "beside.py").write_text("CODE = 3")
    script, elsewhere = tmp_path / "script.py", tmp_path / "folder"
    elsewhere.mkdir()
    done = python(script, "a", "b", cwd=elsewhere, env={**os.environ, "KEY": "x"})
    assert (done.returncode, done.stderr) == (3, "said\n")
    assert done.stdout == f"__main__ {[str(script), 'a', 'b']} {elsewhere} x False True\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c", "import sys; print(sys.argv, __name__)", "a"),
        ("-c", "raise SystemExit('why')"),
        ("-m", "platform", "terse"),
        ("-c", "import nothing_of_this_name"),
        ("-c", "import os; os.environ['KEY'] = 'left behind'; print('KEY' in os.environ)"),
        ("-c", "import os; os._exit('KEY' in os.environ)"),
        ("-c", "import atexit; atexit.register(print, 'at its end')"),
    ],
)
def test_it_ends_as_an_interpreter_does(arguments: tuple[str, ...], tmp_path: Path) -> None:
    ours = python(*arguments, cwd=tmp_path)
    theirs = subprocess.run([sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout)
    assert ours.stderr.splitlines()[-1:] == theirs.stderr.splitlines()[-1:]


def test_what_takes_too_long_is_ended_and_the_next_starts(tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired, match=r"timed out after 0.2 seconds"):
        python("-c", "import time; time.sleep(60)", timeout=0.2)
    assert python("-c", "print(1)").stdout == "1\n"
