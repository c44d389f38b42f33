"""A new format: a module and a row of the table, for a report and for a check."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.contributing.copying import Copy
from tests.contributing.guide import promised

TABLE = "autoinit/formats.py"
REPORT = '''
"""Reports as comma-separated values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autoinit.plans.plan import Report


def render(reports: Sequence[Report]) -> str:
    """A line for each layer: model, layer and std."""
    rows = ((report.plan.model, each) for report in reports for each in report.plan.layers)
    return "\\n".join(f"{model},{each.name},{each.std:g}" for model, each in rows)
'''
CHECK = '''
"""A check as comma-separated values."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autoinit.checking.findings import CheckRun


def render(run: CheckRun) -> str:
    """A line for each finding: model, code and layer."""
    return "\\n".join(f"{result.model},{each.code},{each.layer}" for result in run.results for each in result.findings)
'''
NETS = """
from torch import nn

def build():
    model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
    nn.init.constant_(model[0].weight, float("nan"))
    return model
"""


CONFIGURATION = """
[tool.autoinit]
models = ["nets.py:build"]
select = ["INI001"]
format = "csv"
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    made = Copy(tmp_path_factory.mktemp("format"))
    made.add("autoinit/reporting/commas.py", REPORT)
    row = '        "csv": Format("spreadsheets", "autoinit.reporting.commas:render"),\n'
    made.edit(TABLE, '    "report": {\n', '    "report": {\n' + row)
    made.add("autoinit/reporting/findings/commas.py", CHECK)
    row = '        "csv": Format("spreadsheets", "autoinit.reporting.findings.commas:render"),\n'
    made.edit(TABLE, '    "check": {\n', '    "check": {\n' + row)
    (made.folder / "nets.py").write_text(NETS, encoding="utf-8")
    (made.folder / "pyproject.toml").write_text(CONFIGURATION, encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def found(copy: Copy) -> dict[str, Any]:
    return json.loads(
        copy.run("""
        import json
        import autoinit
        from nets import build
        from tests.contributing.within import command, fails

        def error(value):
            try:
                value.to("xls")
            except autoinit.ArgumentError as error:
                return str(error)

        report, result = autoinit.report(build()), autoinit.check(build(), select=["INI001"])
        print(json.dumps({
            "report": report.to("csv"), "check": result.to("csv"), "unknown": [error(report), error(result)],
            "lines": command("report", "nets.py:build", "nets.py:build", "--format", "csv").splitlines(),
            "configured": command("check", expected=1),
            "asks": fails("tests.reporting.test_goldens:test_every_format_has_a_golden"),
        }))
    """)
    )


def test_it_is_a_module_and_a_row_for_each_kind(copy: Copy):
    assert copy.touched == ["autoinit/reporting/commas.py", TABLE, "autoinit/reporting/findings/commas.py"]
    assert promised("format", copy.touched)


def test_methods_and_errors_have_it(found: dict[str, Any]):
    """He's sqrt(2 / 16); the head is Xavier's, sqrt(2 / 12)."""
    assert found["report"] == "Sequential,0,0.353553\nSequential,2,0.408248"
    assert found["check"] == "Sequential,INI001,0"
    assert found["unknown"] == [
        "no format 'xls'; there are csv, table, json, markdown, html",
        "no format 'xls'; there are csv, text, json, github, sarif, junit, markdown, html",
    ]


def test_commands_offer_it(copy: Copy):
    assert "--format [csv|table|json|markdown|html]" in copy.command("report", "--help")
    assert "--format [csv|text|json|github|sarif|junit|markdown|html]" in " ".join(
        copy.command("check", "--help").split()
    )


def test_commands_and_the_configuration_write_it(found: dict[str, Any]):
    assert found["lines"] == ["Sequential (nets.py:build),0,0.353553", "Sequential (nets.py:build),2,0.408248"] * 2
    assert found["configured"] == "nets.py:build,INI001,0\n"


def test_the_tests_ask_for_goldens(found: dict[str, Any]):
    assert found["asks"]
