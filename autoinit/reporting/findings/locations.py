"""Where a finding is: the file as the reader of a report names it."""

from __future__ import annotations

import os
from pathlib import Path

from autoinit.tracing.dataflow import SourceLine


def path_of(location: SourceLine | None) -> Path | None:
    """The file, relative to the working directory when it is below it; None for code that is in no file."""
    if location is None or not location.file or location.file.startswith("<"):
        return None
    path = Path(location.file).absolute()
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def repository_path(location: SourceLine | None) -> Path | None:
    """The same relative to the repository, where GitHub Actions says where that is: its readers start there."""
    path = path_of(location)
    workspace = os.environ.get("GITHUB_WORKSPACE")
    if path is None or not workspace or not path.absolute().is_relative_to(workspace):
        return path
    return path.absolute().relative_to(workspace)


def spelled(location: SourceLine | None) -> str:
    """`file:line`, as terminals and editors link it; empty where no line is known."""
    if location is None:
        return ""
    return f"{path_of(location) or location.file}:{location.line}"
