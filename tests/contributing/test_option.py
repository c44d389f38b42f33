"""A new option of a plan: written once, beside the code that heeds it.

`largest`: no std is planned larger than this.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.contributing.copying import Copy
from tests.contributing.guide import promised

OPTIONS, HEEDING = "autoinit/plans/options.py", "autoinit/planning/layers.py"
KEYS = "    zeros: Zeros\n    seed: int | None\n"
STD = "gains.std(ending.scale, here, mode) * factor"
FIELD = """    largest: float | None = field(default=None, metadata=_about("no std is planned larger than this."))

    def __post_init__(self)"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    made = Copy(tmp_path_factory.mktemp("option"))
    made.edit(OPTIONS, "    def __post_init__(self)", FIELD)
    made.edit(OPTIONS, KEYS, f"{KEYS}    largest: float | None\n")
    made.edit(HEEDING, STD, f"min({STD}, options.largest or math.inf)")
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
            autoinit.plan(build(), larges=1.0)
        except TypeError as error:
            said = str(error)
        print(json.dumps({
            "plan": [each.std for each in autoinit.plan(build(), largest=0.4).layers],
            "report": [each.std for each in autoinit.report(build(), largest=0.4).plan.layers],
            "autoinit": [each.std for each in autoinit.autoinit(build(), largest=0.4, verbose=False).plan.layers],
            "without": [each.std for each in autoinit.plan(build()).layers],
            "parameters": [str(inspect.signature(each).parameters["largest"]) for each in functions],
            "documents": ["largest: no std is planned larger than this." in inspect.getdoc(each) for each in functions],
            "misspelt": said,
            "json": command("report", "nets.py:build", "--largest", "0.4", "--format", "json"),
        }))
    """)
    )


def test_it_is_written_once_beside_the_code_that_heeds_it(copy: Copy):
    assert copy.touched == [OPTIONS, HEEDING]
    assert promised("option of a plan", copy.touched)


def test_functions_have_it(found: dict[str, Any]):
    """He's sqrt(2 / 16) is within the limit; the head's sqrt(2 / 12), 0.408, is not."""
    within = pytest.approx([2**0.5 / 4, 0.4])
    assert (found["plan"], found["report"], found["autoinit"]) == (within, within, within)
    assert found["without"] == pytest.approx([2**0.5 / 4, (2 / 12) ** 0.5])
    assert found["parameters"] == ["largest: float | None = None"] * 3
    assert found["documents"] == [True] * 3
    assert found["misspelt"].startswith("unexpected keyword argument 'larges': did you mean largest? ")


@pytest.mark.parametrize("command", ["report", "apply", "signal"])
def test_commands_have_it(copy: Copy, command: str):
    assert "--largest FLOAT No std is planned larger than this." in " ".join(copy.command(command, "--help").split())


def test_commands_heed_it(found: dict[str, Any]):
    assert [each["std"] for each in json.loads(found["json"])["layers"]] == pytest.approx([2**0.5 / 4, 0.4])


def test_it_is_for_a_plan(copy: Copy):
    """Without a method `signal` plans nothing, so that there is nothing to limit."""
    assert copy.command("signal", "nets.py:build", "--largest", "0.4", expected=2) == ""
