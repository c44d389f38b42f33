"""How the manual is made: links that move with a page, parts that are made of code, results that a benchmark left."""

from __future__ import annotations

import datetime
import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
TINY = """
import sys
from rich.console import Console
from rich.table import Table

def main():
    shown = Table("model", "seconds", title="[bold]times[/]")
    shown.add_row("[red]mlp[/]", "0.5")
    shown.add_row("vit", "2")
    console = Console()
    console.print("a line")
    console.print(shown)
    headless = Table(show_header=False)
    headless.add_row("models", "2")
    console.print(headless)
    return 3 if "--fail" in sys.argv else 0

sys.exit(main())
"""


def recorded(folder: Path, *arguments: str) -> tuple[int, Path]:
    """Runs a copy of the recorder beside a tiny benchmark; its exit status, and the folder of results."""
    shutil.copy(ROOT / "benchmarks" / "record.py", folder)
    (folder / "tiny.py").write_text(TINY, encoding="utf-8")
    done = subprocess.run([sys.executable, str(folder / "record.py"), *arguments], capture_output=True, check=False)
    return done.returncode, folder / "results"


def test_tables_are_kept_with_the_command_and_the_date(tmp_path):
    """Colours are gone; files that a run goes on from or leaves behind are no part of the command."""
    status, results = recorded(tmp_path, "--name", "times", "tiny", "--resume", "x.jsonl", "--size", "3")
    assert status == 0
    found = json.loads((results / "times.json").read_text(encoding="utf-8"))
    assert found["command"] == "python benchmarks/tiny.py --size 3"
    assert datetime.date.fromisoformat(found["date"]) <= datetime.date.today()
    assert found["tables"] == [
        {"title": "times", "columns": ["model", "seconds"], "rows": [["mlp", "0.5"], ["vit", "2"]]},
        {"title": "", "columns": ["", ""], "rows": [["models", "2"]]},
    ]


def test_a_run_that_failed_is_not_kept(tmp_path):
    status, results = recorded(tmp_path, "tiny", "--fail")
    assert status == 3
    assert not results.exists()


@pytest.fixture
def hooks(monkeypatch) -> tuple[ModuleType, ModuleType]:
    """`manual` and `generated`, as MkDocs imports them."""
    monkeypatch.syspath_prepend(ROOT / "docs" / "hooks")
    return importlib.import_module("manual"), importlib.import_module("generated")


def test_a_result_is_shown_with_its_command(hooks, tmp_path, monkeypatch):
    _, generated = hooks
    monkeypatch.setattr(generated, "RESULTS", tmp_path)
    table = {"title": "times", "columns": ["model", "s"], "rows": [["mlp", "0.5"]]}
    found = {"command": "python x.py", "date": "2026-01-02", "environment": {"torch": "2.13.0", "cores": 2}}
    (tmp_path / "one.json").write_text(json.dumps({**found, "tables": [table]}), encoding="utf-8")
    assert generated.result("one") == (
        "`python x.py`, 2026-01-02, torch 2.13.0, 2 cores:\n\n**times**\n\n| model | s |\n| --- | --- |\n| mlp | 0.5 |"
    )


@pytest.mark.parametrize(
    ("link", "document", "page", "moved"),
    [
        ("docs/limits.md#coverage", "README.md", "index.md", "limits.md#coverage"),
        ("../SECURITY.md", "docs/getting-started.md", "getting-started.md", "security.md"),
        ("../README.md#set-up", "docs/getting-started.md", "getting-started.md", "index.md#set-up"),
        ("autoinit/checking/README.md", "ARCHITECTURE.md", "architecture.md", "how-a-check-comes-about.md"),
        ("../notebooks/ci_check.ipynb", "docs/checking.md", "checking.md", "notebooks/ci_check.ipynb"),
        ("../rules.md", "docs/rules/INI104.md", "rules/INI104.md", "../rules.md"),
        ("rules/INI104.md", "docs/rules.md", "rules.md", "rules/INI104.md"),
        ("#gain", "docs/methods.md", "methods.md", "#gain"),
        ("https://arxiv.org/abs/1.2", "docs/methods.md", "methods.md", "https://arxiv.org/abs/1.2"),
    ],
)
def test_links_move_with_the_page(hooks, link, document, page, moved):
    manual, _ = hooks
    assert manual.relinked(f"see [it]({link}), and", document, page) == f"see [it]({moved}), and"


def test_code_has_no_links(hooks):
    manual, _ = hooks
    text = "`layers[0](x)` and [it](x.md)\n\n```python\nlayers[0](x)\n```\n\n[it](x.md)\n"
    moved = manual.relinked(text, "autoinit/checking/README.md", "how-a-check-comes-about.md")
    assert moved == text.replace("x.md", "autoinit/checking/x.md")


def test_a_part_that_is_not_known_is_an_error(hooks):
    manual, _ = hooks

    class Page:
        file = type("File", (), {"src_uri": "checking.md"})

    assert "| `sarif` |" in manual.on_page_markdown("<!-- generated: formats -->", Page)
    with pytest.raises(KeyError, match="fromats"):
        manual.on_page_markdown("<!-- generated: fromats -->", Page)
