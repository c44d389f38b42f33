"""The truth models and their tables, from the tests; torchvision's operators are declared before it is imported."""

import sys
from pathlib import Path

import _torchvision

sys.path.insert(0, str(Path(__file__).parents[1]))
assert _torchvision.torchvision_ops

from tests.shared.fresh import constructed, findings, seen_anew  # noqa: E402
from tests.truth import CASES, Case, Row  # noqa: E402

__all__ = ["BY_NAME", "CASES", "Case", "Row", "constructed", "findings", "seen_anew"]

BY_NAME = {case.name: case for case in CASES}
