"""Import this before timm: timm imports torchvision, whose compiled operators may not load beside this torch."""

import importlib.util
from pathlib import Path

_SPEC = importlib.util.spec_from_file_location(
    "torchvision_ops", Path(__file__).parents[1] / "tests" / "shared" / "torchvision_ops.py"
)
assert _SPEC is not None
assert _SPEC.loader is not None
torchvision_ops = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(torchvision_ops)
"""Kept for the life of the process, and with it the operators that it declares."""
