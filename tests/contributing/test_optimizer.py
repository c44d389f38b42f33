"""An optimizer of `scaling` is a row: functions, the command and errors have it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.contributing.copying import Copy
from tests.contributing.guide import promised

FILE = "autoinit/transfer/rules.py"
USED = """
    import json
    from pathlib import Path
    import torch
    from torch import nn
    import autoinit
    from tests.contributing.within import command

    Path("net.py").write_text(
        "from torch import nn\\ndef build(width=16):\\n"
        "    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, width), nn.Linear(width, 2))\\n"
    )
    from net import build
    made = autoinit.scaling(build(64), base=build(16), optimizer="signs")
    try:
        autoinit.scaling(build(64), base=build(16), optimizer="sign")
    except autoinit.ArgumentError as error:
        refused = str(error)
    shown = command("scaling", "net.py:build", "--width", "4", "--optimizer", "signs", "--format", "json")
    again = autoinit.Scaling.from_json(made.to_json())
    batch = torch.zeros(4, 4), torch.zeros(4, dtype=torch.long)
    checked = autoinit.coordinate_check(build, [16, 32], batch, steps=1, standard=False, optimizer="signs")
    names = [json.loads(shown)["optimizer"], again.optimizer, checked.optimizer]
    print(json.dumps([made["2.weight"].lr, refused, *names]))
"""


def test_an_optimizer_is_a_row(tmp_path: Path) -> None:
    """Its learning rate falls as 1 / width^2: at four times the width it is a sixteenth."""
    copy = Copy(tmp_path)
    copy.edit(FILE, 'Literal["adamw", "adam", "sgd", "muon"]', 'Literal["adamw", "adam", "sgd", "muon", "signs"]')
    copy.edit(
        FILE,
        '    "muon": replace(_ADAM',
        '    "signs": OptimizerRule(lambda grown: grown.fan_in**-2, _adam_depth, eps=False, name="Rprop"),\n'
        '    "muon": replace(_ADAM',
    )
    lr, refused, *names = json.loads(copy.run(USED))
    assert lr == 1 / 16
    assert refused.startswith("optimizer='sign': expected one of 'adamw', 'adam', 'sgd', 'signs'")
    assert names == ["signs"] * 3
    assert copy.touched == [FILE]
    assert promised("optimizer of `scaling`", copy.touched)
