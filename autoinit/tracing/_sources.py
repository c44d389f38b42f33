"""Which line of the user's code is running."""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from types import FrameType, TracebackType

import torch

from autoinit.tracing.dataflow import SourceLine

_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep


@lru_cache(4096)
def _is_users(filename: str) -> bool:
    return not filename.startswith((_OWN, _TORCH, "<frozen"))


def current_line() -> SourceLine | None:
    """The innermost frame outside torch and autoinit; None if there is none below the traced call."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if _is_users(code.co_filename):
            return SourceLine(code.co_filename, frame.f_lineno, code.co_name)
        if code.co_filename.startswith(_OWN) and code.co_name == "trace_view":
            return None
        frame = frame.f_back
    return None


def failing_line(traceback: TracebackType | None) -> SourceLine | None:
    """The innermost line of the user's code in a traceback."""
    found = None
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if _is_users(code.co_filename):
            found = SourceLine(code.co_filename, traceback.tb_lineno, code.co_name)
        traceback = traceback.tb_next
    return found
