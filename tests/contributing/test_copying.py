"""The copy is what scripts import, and the package itself stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

import autoinit
from tests.contributing.copying import Copy


def test_scripts_import_the_copy(tmp_path: Path):
    copy = Copy(tmp_path)
    copy.edit("autoinit/_version.py", autoinit.__version__, "0.0.0+copy")
    copy.add("autoinit/added.py", "WORD = 'added'\n")
    printed = copy.run("import autoinit, autoinit.added as added; print(autoinit.__version__, added.WORD)")
    assert printed == "0.0.0+copy added\n"
    assert "0.0.0+copy" in copy.command("--version")
    assert copy.touched == ["autoinit/_version.py", "autoinit/added.py"]
    assert autoinit.__version__ != "0.0.0+copy"
    with pytest.raises(AssertionError, match=r"exit 3, expected 0"):
        copy.run("raise SystemExit(3)")
    with pytest.raises(AssertionError, match=r"autoinit/_version.py has 'nowhere' 0 times"):
        copy.edit("autoinit/_version.py", "nowhere", "")
    with pytest.raises(AssertionError, match=r"autoinit/added.py is there already"):
        copy.add("autoinit/added.py", "")
