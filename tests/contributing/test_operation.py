"""A new operation, in the file of its role: every tier knows it, and the walk passes.

`trapezoid` (torch.trapezoid) integrates along an axis: a weighted sum of positions, through which a layer feeds what
comes after.
"""

from __future__ import annotations

import json
from pathlib import Path

from autoinit.ops import REGISTRY
from tests.contributing.copying import Copy
from tests.contributing.guide import promised

POOLING = "autoinit/ops/pooling.py"
ENTRY = """
register_op("trapezoid", Role.TRANSPARENT, names=("trapezoid", "trapz"), signature="y, x=None, dx=1, dim=-1")
"""
SCRIPT = """
    import json
    import torch
    from torch import nn
    import autoinit

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(8, 16)

        def forward(self, x):
            return torch.trapezoid(self.fc(x), dim=1).relu()

    found = {}
    for tier in ("symbolic", "recorded", "exported"):
        dataflow = autoinit.trace(Net(), None if tier == "symbolic" else (2, 5, 8), tier=tier)
        (layer,) = autoinit.resolve(dataflow)
        found[tier] = [layer.nonlinearity, layer.ending.path, [each.op for each in dataflow.unsupported]]
    print(json.dumps(found))
"""


def test_an_operation_is_one_entry(tmp_path: Path):
    assert REGISTRY.of_name("trapezoid") is None, "there is one: take another for this test"
    copy = Copy(tmp_path)
    copy.edit(
        POOLING, "from autoinit.ops.roles import Role, Trait\n", "from autoinit.ops.roles import Role, Trait\n" + ENTRY
    )
    found = json.loads(copy.run(SCRIPT))
    assert found["symbolic"] == found["recorded"] == ["relu", ["trapezoid", "relu"], []]
    assert found["exported"][0] == "relu"
    assert copy.touched == [POOLING]
    assert promised("operation", copy.touched)
