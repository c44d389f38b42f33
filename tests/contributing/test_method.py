"""A new method: a file and a row of the table. Functions, commands, JSON and errors have it.

`unit`: every std is 1 / sqrt(fan_in) (LeCun et al. 1998, section 4.6), drawn uniformly by default.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.contributing.copying import Copy
from tests.contributing.guide import promised

FILE = '''
"""`plan(method="unit")`: 1 / sqrt(fan_in) for every weight."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from autoinit.planning import plan_dataflow

if TYPE_CHECKING:
    from autoinit.models import ModelView
    from autoinit.plans.options import PlanOptions
    from autoinit.plans.plan import Plan
    from autoinit.tracing.dataflow import Dataflow


def plan_by_unit(view: ModelView, dataflow: Dataflow, options: PlanOptions, _example_inputs: Any = None) -> Plan:
    """A plan whose every std is 1 / sqrt(fan_in)."""
    made = plan_dataflow(dataflow, view, options)
    return replace(made, layers=tuple(replace(each, std=each.fan_in**-0.5, gain=1.0) for each in made.layers))
'''
ROW = """        Method(
            "unit",
            "one over the root of fan_in, whatever a weight feeds",
            "autoinit.methods.unit:plan_by_unit",
            refuses={"mode": "its fan is fan_in"},
            defaults={"distribution": "uniform"},
        ),
    )
}
MEANINGS"""
TABLE = "autoinit/methods/table.py"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    made = Copy(tmp_path_factory.mktemp("method"))
    made.add("autoinit/methods/unit.py", FILE)
    made.edit(TABLE, "    )\n}\nMEANINGS", ROW)
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
        from tests.contributing.within import command, fails

        def error(**options):
            try:
                autoinit.plan(build(), **options)
            except autoinit.ArgumentError as error:
                return str(error)

        made = autoinit.plan(build(), method="unit")
        asked = autoinit.plan(build(), method="unit", distribution="normal")
        done = autoinit.autoinit(build(), method="unit", seed=0, verbose=False)
        print(json.dumps({
            "stds": [each.std for each in made.layers],
            "distributions": [made["0"].distribution, asked["0"].distribution],
            "written": done.after["0"].maximum,
            "report": autoinit.report(build(), method="unit").plan.method,
            "again": autoinit.Plan.from_json(made.to_json()).method,
            "document": inspect.getdoc(autoinit.plan),
            "unknown": error(method="units"),
            "refused": error(method="unit", mode="fan_out"),
            "json": command("report", "nets.py:build", "--method", "unit", "--format", "json"),
            "asks": fails("tests.methods.test_options:test_every_method_has_a_case"),
        }))
    """)
    )


def test_it_is_a_file_and_a_row(copy: Copy):
    assert copy.touched == ["autoinit/methods/unit.py", TABLE]
    assert promised("method", copy.touched)


def test_functions_have_it(found: dict[str, Any]):
    """Of 128 numbers within sqrt(3) / 4 of zero the largest is at most that, and hardly ever less than 0.9 of it."""
    assert found["stds"] == pytest.approx([1 / 4, 1 / 8**0.5])
    assert found["distributions"] == ["uniform", "normal"]
    assert 0.9 * 3**0.5 / 4 < found["written"] <= 3**0.5 / 4
    assert (found["report"], found["again"]) == ("unit", "unit")


def test_documents_and_errors_have_it(found: dict[str, Any]):
    document = " ".join(found["document"].split())
    assert "`unit`: one over the root of fan_in, whatever a weight feeds" in document
    assert found["unknown"].startswith("method='units': expected one of 'nonlinearity', 'signal', ")
    assert found["unknown"].endswith(", 'unit'")
    assert found["refused"] == "mode='fan_out' has no meaning for method='unit': its fan is fan_in"


@pytest.mark.parametrize("command", ["report", "apply", "signal"])
def test_commands_have_it(copy: Copy, command: str):
    said = " ".join(copy.command(command, "--help").split())
    assert re.search(r"--method \[nonlinearity\|signal\|[\w|]+\|unit\]", said)
    assert re.search(r"\[default: normal; [\w:; ]*unit: uniform\]", said)


def test_json_has_it(found: dict[str, Any]):
    document = json.loads(found["json"])
    assert document["method"] == "unit"
    assert [each["std"] for each in document["layers"]] == pytest.approx([1 / 4, 1 / 8**0.5])


def test_the_tests_ask_for_a_case(found: dict[str, Any]):
    assert found["asks"]
