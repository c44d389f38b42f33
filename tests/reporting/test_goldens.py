"""Every format of every kind, on values built by hand, as it was when it was last read.

`python -m tests.reporting.test_goldens` writes the goldens anew; read the difference before it is kept.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from autoinit import formats
from autoinit.cli import main
from autoinit.comparing.comparison import Comparison
from autoinit.comparing.trials import Trial
from autoinit.plans.plan import Plan
from autoinit.reporting.findings import jsons, sarif
from autoinit.reporting.signals.states import states
from autoinit.signal.report import SignalRow
from autoinit.transfer.coordinates import CoordinateCheck
from autoinit.transfer.record import Scaled, Scaling
from tests.reporting.test_finding_formats import RULES, whole_run
from tests.reporting.test_report_formats import small_report
from tests.shared.pages import document_of
from tests.shared.signal_reports import layer, report, stream

ROOM = Path(__file__).parent / "goldens"
GOLDENS: dict[tuple[formats.Kind, str], str] = {
    ("check", "text"): "text.txt",
    ("check", "json"): "run.json",
    ("check", "github"): "github.txt",
    ("check", "sarif"): "run.sarif",
    ("check", "junit"): "junit.xml",
    ("check", "markdown"): "comment.md",
    ("check", "html"): "check.page.json",
    ("report", "table"): "report.txt",
    ("report", "json"): "reports.json",
    ("report", "markdown"): "reports.md",
    ("report", "html"): "report.page.json",
    ("signal", "table"): "signal.txt",
    ("signal", "json"): "signal.json",
    ("scaling", "table"): "scaling.txt",
    ("scaling", "json"): "scaling.json",
    ("coordinates", "table"): "coordinates.txt",
    ("coordinates", "json"): "coordinates.json",
    ("comparison", "table"): "comparison.txt",
    ("comparison", "json"): "comparison.json",
    ("comparison", "html"): "comparison.html",
}


def signal() -> Any:
    """Two states of a residual network: predicted and measured before, predicted after."""

    def seen(kind: str, scale: float) -> Any:
        rows = [SignalRow(scale**depth, None, 0.25 * scale**depth, 0.0, 1.0 / scale**depth) for depth in range(3)]
        return report(
            layer("stem", 1, rows[0]),
            layer("block.fc", 2, rows[1]),
            stream("block.sum", 2, rows[2]),
            layer("lstm", 3, None, "no rule for lstm"),
            kind=kind,
            outputs=rows[2:],
            notes=["the input was guessed: (2, 16)"],
        )

    return states(
        [seen("predicted", 0.5), seen("measured", 0.4), seen("predicted", 1.0)], ["before", "before", "after"]
    )


def scaling() -> Scaling:
    """A hidden weight that Muon updates, a tied table, the norm before its head, a bias; with a note."""
    of = {
        "fc.weight": Scaled("hidden", 0.125, 0.25, 4.0, 1.0, "fan_in x 4, features x 4", 0.5, "fc.weight", muon=True),
        "fc.bias": Scaled("bias", None, 1.0, 1.0, 0.25, "features x 4", fill=0.0),
        "table.weight": Scaled("tied table", 0.1, 1.0, 1.0, 0.25, "features x 4"),
        "norm.weight": Scaled("norm before a tied head", None, 0.25, 4.0, 1.0, "fan_in x 4", 0.25, fill=0.25),
        "odd": Scaled("other", None, 1.5, 2 / 3, 1.0, "nothing has grown"),
    }
    plan = Plan((), "Net", 1234, "symbolic")
    return Scaling(tuple(of.items()), plan, "muon", 1.0, "Net, 99 parameters", ("mul at net.py:7: its number is 8",))


def coordinates() -> CoordinateCheck:
    """A layer that stays and one that grows with the root of the width."""
    changes = {
        "scaled": {"fc": (0.5, 0.5, 0.5), "": (1.0, 1.0, 1.0)},
        "standard": {"fc": (0.5, 1.0, 2.0), "": (1.0, 1.4, 2.0)},
    }
    losses = {"scaled": (0.5, 0.4, 0.3), "standard": (0.5, 0.6, 0.9)}
    return CoordinateCheck((16, 64, 256), "adamw", 0.01, 5, changes, losses)


def comparison() -> Comparison:
    """Two starts at one rate with two seeds; the second start's trainings were given up."""
    trials = [Trial("he", 0.1, seed, (2.0, 1.0), 1.0 + seed / 4, "", 0.5) for seed in (0, 1)]
    trials += [Trial("torch", 0.1, seed, (2.0,), float("inf"), "a loss that is not finite", 0.25) for seed in (0, 1)]
    return Comparison(tuple(trials), 2, (0.1,))


PAGES = {("report", "html"), ("check", "html")}
VALUES = {
    "check": whole_run,
    "report": lambda: [small_report(), small_report(written=True)],
    "signal": signal,
    "scaling": scaling,
    "coordinates": coordinates,
    "comparison": comparison,
}


@pytest.fixture(autouse=True)
def _fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    _fix(monkeypatch)


def _fix(monkeypatch: pytest.MonkeyPatch) -> None:
    """The version and the rules that the goldens were written with."""
    monkeypatch.setattr(jsons, "__version__", "1.2.3")
    monkeypatch.setattr(sarif, "__version__", "1.2.3")
    monkeypatch.setattr("autoinit.checking.rules.registry.rules", lambda: RULES)


def _shown(kind: formats.Kind, name: str) -> str:
    """The text of a format; of a page the document that it draws."""
    text = formats.text(kind, VALUES[kind](), name)
    return json.dumps(document_of(text), indent=2) if (kind, name) in PAGES else text


def test_every_format_has_a_golden():
    assert set(GOLDENS) == {(kind, name) for kind in formats.FORMATS for name in formats.names(kind)}
    assert set(VALUES) == set(formats.FORMATS)
    assert len(set(GOLDENS.values())) == len(GOLDENS)


@pytest.mark.parametrize("kind", sorted({*formats.FORMATS} - {"coordinates", "comparison"}))  # of functions alone
def test_commands_offer_every_format(kind: formats.Kind):
    (option,) = (each for each in main.commands[kind].params if each.name == "form")
    assert isinstance(option.type, click.Choice)
    assert tuple(option.type.choices) == formats.names(kind)


@pytest.mark.parametrize(("kind", "name"), GOLDENS)
def test_golden(kind: formats.Kind, name: str):
    assert _shown(kind, name) + "\n" == (ROOM / GOLDENS[kind, name]).read_text(encoding="utf-8")


def test_golden_of_all_findings():
    assert whole_run().to_text(full=True) + "\n" == (ROOM / "full.txt").read_text(encoding="utf-8")


def test_methods_and_the_table_of_formats_say_the_same():
    """One report is an object in JSON, several are an array: the methods give that of one."""
    one = small_report()
    assert [one.to(name) for name in formats.names("report")] == [
        formats.text("report", [one], name) for name in formats.names("report")
    ]
    assert (str(one), one.to_json(), one.to_markdown()) == (one.to("table"), one.to("json"), one.to("markdown") + "\n")
    result = whole_run().results[0]
    assert result.to("junit").count("<testsuite ") == 1


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        _fix(patch)
        for (kind, name), file in GOLDENS.items():
            (ROOM / file).write_text(_shown(kind, name) + "\n", encoding="utf-8")
        (ROOM / "full.txt").write_text(whole_run().to_text(full=True) + "\n", encoding="utf-8")
