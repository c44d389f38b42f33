"""A comparison of starts as JSON, version 1.

The document is one object; what is infinite or not a number is null:

    version      1; a change that could break a reader raises it
    steps, lrs, notes
                 as `Comparison` has them
    ranking    best first: {"start", "lr", "score", "error", "first", "given_up", "trained", "verdict"}
    trials       {"start", "lr", "seed", "losses", "score", "given_up", "seconds"}
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

from autoinit.comparing.comparison import Comparison

VERSION = 1


def dumps(comparison: Comparison) -> str:
    """The comparison as an indented JSON document."""
    document = {
        "version": VERSION,
        "steps": comparison.steps,
        "lrs": comparison.lrs,
        "notes": comparison.notes,
        "ranking": [asdict(each) for each in comparison.ranking],
        "trials": [asdict(each) for each in comparison.trials],
    }
    return json.dumps(_finite(document), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value
