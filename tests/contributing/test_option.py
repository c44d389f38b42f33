"""A new option of a plan: written once, beside the code that heeds it.

`scale`: every std is multiplied by it. `twice`: a flag; every std is doubled.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.contributing.copying import Copy
from tests.contributing.guide import promised

OPTIONS, HEEDING = "autoinit/plans/options.py", "autoinit/planning/layers.py"
FLAG = """    twice: bool = field(default=False, metadata=_about("every std is doubled."))
"""
KEYS = "    recipe: str\n    seed: int | None\n"
STD = ", mode) * factor,"
FIELD = """    scale: float = field(default=1.0, metadata=_about("every std is multiplied by it."))

    def __post_init__(self)"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    made = Copy(tmp_path_factory.mktemp("option"))
    made.edit(OPTIONS, "    def __post_init__(self)", FLAG + FIELD)
    made.edit(OPTIONS, KEYS, f"{KEYS}    scale: float\n    twice: bool\n")
    made.edit(HEEDING, STD, ", mode) * factor * options.scale * (1 + options.twice),")
    (made.folder / "nets.py").write_text(
        "from torch import nn\ndef build():\n    return nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))\n"
    )
    return made


@pytest.fixture(scope="module")
def found(copy: Copy) -> dict[str, Any]:
    return json.loads(
        copy.run("""
        import inspect, json
        import autoinit
        from nets import build
        from tests.contributing.within import command

        functions = (autoinit.plan, autoinit.report, autoinit.autoinit)
        try:
            autoinit.plan(build(), scales=1.0)
        except TypeError as error:
            said = str(error)
        print(json.dumps({
            "plan": [each.std for each in autoinit.plan(build(), scale=0.5).layers],
            "report": [each.std for each in autoinit.report(build(), scale=0.5).plan.layers],
            "autoinit": [each.std for each in autoinit.autoinit(build(), scale=0.5, verbose=False).plan.layers],
            "without": [each.std for each in autoinit.plan(build()).layers],
            "parameters": [str(inspect.signature(each).parameters["scale"]) for each in functions],
            "documents": ["scale: every std is multiplied by it." in inspect.getdoc(each) for each in functions],
            "misspelt": said,
            "json": [
                command("report", "nets.py:build", "--format", "json", "--scale", "0.5", *more)
                for more in ([], ["--twice"], ["--no-twice"])
            ],
        }))
    """)
    )


def test_it_is_written_once_beside_the_code_that_heeds_it(copy: Copy):
    assert copy.touched == [OPTIONS, HEEDING]
    assert promised("option of a plan", copy.touched)


def test_functions_have_it(found: dict[str, Any]):
    """He's sqrt(2 / 16); the head is Xavier's, sqrt(2 / 12)."""
    stds = [(2 / 16) ** 0.5, (2 / 12) ** 0.5]
    halved = pytest.approx([each / 2 for each in stds])
    assert (found["plan"], found["report"], found["autoinit"]) == (halved, halved, halved)
    assert found["without"] == pytest.approx(stds)
    assert found["parameters"] == ["scale: float = 1.0"] * 3
    assert found["documents"] == [True] * 3
    assert found["misspelt"].startswith("unexpected keyword argument 'scales': did you mean scale? ")


@pytest.mark.parametrize("command", ["report", "apply", "signal"])
def test_commands_have_it(copy: Copy, command: str):
    said = " ".join(copy.command(command, "--help").split())
    assert "--scale FLOAT Every std is multiplied by it. [default: 1.0]" in said
    assert "--twice / --no-twice Every std is doubled. [default: False]" in said


def test_commands_heed_it(found: dict[str, Any]):
    stds = [[each["std"] for each in json.loads(text)["layers"]] for text in found["json"]]
    assert stds[0] == stds[2] == pytest.approx([(2 / 16) ** 0.5 / 2, (2 / 12) ** 0.5 / 2])
    assert stds[1] == pytest.approx([(2 / 16) ** 0.5, (2 / 12) ** 0.5])


def test_it_is_for_a_plan(copy: Copy):
    """Without a method `signal` plans nothing, so that there is nothing to scale."""
    assert copy.command("signal", "nets.py:build", "--scale", "0.5", expected=2) == ""
