"""A rule of scale is one file: its verdict, its precedence, its sentence and its document."""

from __future__ import annotations

import json
from pathlib import Path

from tests.contributing.copying import Copy
from tests.contributing.guide import promised

FILE = "autoinit/checking/rules/ini110_fourth_root.py"
RULE = '''
    """INI110: a fan whose root was taken twice."""

    from __future__ import annotations

    import math

    from autoinit.checking._wording import number
    from autoinit.checking.scale.cases import Case, same
    from autoinit.checking.scale.deviations import Deviation
    from autoinit.checking.scale.declaring import rule_of_scale


    def _takes_the_root_twice(case: Case) -> int | None:
        return 0 if same(case.recipe.std, case.part.place.fan_in**-0.25) else None


    @rule_of_scale("INI110", "root taken twice", precedence=15, verdict=_takes_the_root_twice)
    def fourth_root(deviation: Deviation) -> str:
        """The std is the fourth root of 1 / fan_in.

        ## What it is

        The root was taken twice.
        """
        fan_in = deviation.part.place.fan_in
        return f"The std is 1 / sqrt(sqrt({number(fan_in)})), in place of 1 / sqrt({number(fan_in)})."
'''
CHECKED = """
    import json
    import torch
    from torch import nn
    from autoinit import check

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256))
    for layer, std in ((model[0], 256**-0.25), (model[2], (2 / 256)**0.5), (model[4], 1 / 16)):
        nn.init.normal_(layer.weight, std=std)
        nn.init.zeros_(layer.bias)
    said = [(each.code, each.layer, each.severity, each.message) for each in check(model, (2, 256)).findings]
    alone = [each.code for each in check(model, (2, 256), select=["INI110"]).findings]
    sarif = json.loads(check(model, (2, 256)).to("sarif"))
    listed = [each["id"] for each in sarif["runs"][0]["tool"]["driver"]["rules"]]
    print(json.dumps([said, alone, "INI110" in listed]))
"""


def test_a_rule_of_scale_is_one_file(tmp_path: Path):
    """256^(-1/4) = 0.25 before a ReLU, which calls for sqrt(2 / 256) = 0.088: 2.8 times as much, an error."""
    copy = Copy(tmp_path)
    copy.add(FILE, RULE)
    said, alone, listed = json.loads(copy.run(CHECKED))
    assert [each[:3] for each in said] == [["INI110", "0", "error"]]
    assert said[0][3].startswith("0: std 0.25")
    assert "The std is 1 / sqrt(sqrt(256)), in place of 1 / sqrt(256)." in said[0][3]
    assert alone == ["INI110"]
    assert listed
    assert copy.command("explain", "INI110").startswith("# INI110: root taken twice\n\nSeverity: by consequence.")
    assert copy.touched == [FILE]
    assert promised("rule", copy.touched)


def test_a_precedence_is_taken_once(tmp_path: Path):
    copy = Copy(tmp_path)
    copy.add(FILE, RULE.replace("precedence=15", "precedence=20"))
    said = copy.run(
        """
        from autoinit.checking.rules.registry import rules
        try:
            rules()
        except Exception as error:
            print(type(error).__name__, error)
        """
    )
    assert said == (
        "RegistrationError rule INI110: precedence=20 is that of INI103 already; expected another number, lower if "
        "INI110 is to speak first\n"
    )
