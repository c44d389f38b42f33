"""A row of a preset is a `Decision`, and what it asks of the graph a fact: plans, their notes and `explain` have it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.contributing.copying import Copy
from tests.contributing.guide import promised

ROWS, SEEING = "autoinit/presets/train.py", "autoinit/presets/_seeing.py"
ROW = """    Decision(
        "tall stack",
        "it has more than ten weights",
        lambda seen: seen.weights > 10,
        {"distribution": "uniform"},
        "a reason with its source",
    ),
    Decision(
        "norms",
"""
USED = """
    import json
    import torch
    from torch import nn
    import autoinit
    from tests.contributing.within import command, fails

    def made(layers):
        return nn.Sequential(nn.Linear(8, 16), *[nn.Linear(16, 16) for _ in range(layers - 2)], nn.Linear(16, 4))

    plans = [autoinit.plan(made(layers), torch.zeros(2, 8), preset="train") for layers in (10, 11)]
    asks = fails("tests.presets.test_train:test_every_row_has_a_case")
    print(json.dumps([*([each.preset, each["0"].distribution, each.notes[-1]] for each in plans),
                      command("explain", "train"), asks]))
"""


def test_a_row_of_a_preset_is_a_decision(tmp_path: Path) -> None:
    copy = Copy(tmp_path)
    copy.edit(ROWS, '    Decision(\n        "norms",\n', ROW)
    copy.edit(SEEING, "    large: bool = False\n", "    large: bool = False\n    weights: int = 0\n")
    copy.edit(SEEING, "        large=any(", "        weights=len(plan.layers),\n        large=any(")
    ten, eleven, explained, asks = json.loads(copy.run(USED))
    assert ten[0] == "train (others without norms)"
    assert eleven == [
        "train (tall stack)",
        "uniform",
        "preset train, since it has more than ten weights: distribution='uniform'; a reason with its source",
    ]
    assert "| it has more than ten weights | `distribution='uniform'` | a reason with its source |" in explained
    assert asks
    assert promised("row of a preset", copy.touched)
