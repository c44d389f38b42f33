"""A copy of the package to add something to, and scripts that run against the copy."""

from __future__ import annotations

import os
import shutil
import textwrap
from pathlib import Path

import autoinit
from tests.shared.started import python


class Copy:
    """The package copied into a folder. `touched` names the files changed or added since."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.touched: list[str] = []
        source = Path(autoinit.__file__).parent
        shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))

    def add(self, path: str, text: str) -> None:
        """A new file, its path as from the root of the repository (`autoinit/checking/rules/ini999_new.py`)."""
        file = self.folder / path
        assert not file.exists(), f"{path} is there already: edit it"
        self._write(file, path, textwrap.dedent(text).lstrip())

    def edit(self, path: str, old: str, new: str) -> None:
        """One replacement in a file; `old` must stand there once."""
        file = self.folder / path
        text = file.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{path} has {old!r} {text.count(old)} times"
        self._write(file, path, text.replace(old, new))

    def _write(self, file: Path, path: str, text: str) -> None:
        file.write_text(text, encoding="utf-8")
        if path not in self.touched:
            self.touched.append(path)

    def run(self, script: str, *, expected: int = 0) -> str:
        """What a Python script prints, run in the folder so that `import autoinit` takes the copy."""
        return self._run("-c", textwrap.dedent(script), expected=expected)

    def command(self, *arguments: str, expected: int = 0) -> str:
        """What `autoinit ARGUMENTS` prints, in the folder."""
        return self._run("-m", "autoinit", *arguments, expected=expected)

    def _run(self, *arguments: str, expected: int) -> str:
        path = f"{self.folder}{os.pathsep}{Path(__file__).parents[2]}"  # the copy of the package, and these tests
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "100"}
        done = python(*arguments, cwd=self.folder, env=environment)
        assert done.returncode == expected, f"exit {done.returncode}, expected {expected}\n{done.stdout}\n{done.stderr}"
        return done.stdout
