"""A scaling as JSON, version 1.

The document is one object:

    version      1; a change that could break a reader raises it
    parameters   by name: {"kind", "std", "lr", "weight_decay", "eps", "reason", "std_scale",
                 "counterpart", "fill", "muon"}; std and fill may be null
    plan         the scaled start, as `Plan.to_json` has it
    optimizer, depth, against, notes
                 as `Scaling` has them
"""

from __future__ import annotations

import json
from dataclasses import asdict

from autoinit.transfer.record import VERSION, Scaling


def dumps(scaling: Scaling) -> str:
    """The scaling as an indented JSON document."""
    document = {
        "version": VERSION,
        "parameters": {name: asdict(each) for name, each in scaling.entries},
        "plan": json.loads(scaling.plan.to_json()),
        "optimizer": scaling.optimizer,
        "depth": scaling.depth,
        "against": scaling.against,
        "notes": list(scaling.notes),
    }
    return json.dumps(document, indent=2)
