"""The signal as JSON, version 1.

The document is one object:

    version     1; a change that could break a reader raises it
    model       its name
    states      one object for each state of the weights: {"label", "predicted", "measured"}; the latter two as
                `SignalReport.to_json` has them, or null
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from autoinit.reporting.signals.states import State

VERSION = 1


def dumps(shown: Sequence[State]) -> str:
    """The states as an indented JSON document."""
    document = {
        "version": VERSION,
        "model": shown[0].report.model,
        "states": [
            {
                "label": state.label,
                "predicted": None if state.predicted is None else json.loads(state.predicted.to_json()),
                "measured": None if state.measured is None else json.loads(state.measured.to_json()),
            }
            for state in shown
        ],
    }
    return json.dumps(document, indent=2)
