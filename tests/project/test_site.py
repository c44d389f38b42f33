"""The manual as a site: built once, as strictly as MkDocs can, and looked through by every `check_` below."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from autoinit.checking.rules.registry import rules
from tests.project.examples import PAGES, ROOT


@pytest.mark.skipif(sys.version_info < (3, 11), reason="its versions of MkDocs need 3.11")
def test_the_manual_is_built_without_a_broken_link(tmp_path):
    """One test, since the building takes most of its time. With --quiet, MkDocs counts no warnings."""
    command = [sys.executable, "-W", "ignore", "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    checks = [check for name, check in globals().items() if name.startswith("check_")]
    assert len(checks) == 5
    for check in checks:
        check(tmp_path)


def check_every_page_is_there(site: Path) -> None:
    for page in PAGES:
        assert (site / ("index.html" if page == "README.md" else page.replace(".md", ".html"))).exists()


def check_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    """Links may lead to other places; what a browser fetches by itself may not."""
    fetched = re.compile(
        r"<(?:script|img|iframe)[^>]*\ssrc=\"?(https?:)?//|<link(?![^>]*canonical)[^>]*href=\"?(https?:)?//"
    )
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        assert not fetched.search(page.read_text(encoding="utf-8")), page


def check_generated_parts_are_there(site: Path) -> None:
    """Gains by hand: sqrt(2) for ReLU, 5/3 for tanh. An option, an operation, a format, a command by name."""
    shown = {
        "how-it-decides.html": ["<td>1.4142</td>", "<td>1.6667</td>"],
        "operations.html": ["<code>scaled_dot_product_attention</code>"],
        "getting-started.html": ["<code>residual</code>", "1 / sqrt(L)"],
        "writing.html": ["<code>truncated_normal</code>"],
        "checking.html": ["<code>sarif</code>"],
        "commands.html": ['id="autoinit-explain"', "--write-baseline"],
        "api.html": ['id="autoinit.Plan.apply"', 'id="autoinit.register_op"'],
        "rules.html": ['href="rules/INI104.html"'],
    }
    for page, texts in shown.items():
        text = (site / page).read_text(encoding="utf-8")
        assert [each for each in texts if each not in text] == [], page
        assert "<!-- generated" not in text, page


def check_the_api_has_what_a_base_says_and_nothing_of_the_types_of_values(site: Path) -> None:
    """`LayerPlan.nonlinearity` is documented in a base; `str` has a docstring that says nothing of a field."""
    text = (site / "api.html").read_text(encoding="utf-8")
    after = text.partition('id="autoinit.LayerPlan"')[2].partition("<h3")[0]
    assert "torch.nn.functional's name" in after
    assert after.count("of a convolution: its groups and the product of its strides") == 2  # groups, stride_area
    assert "Create a new string object" not in text


def check_every_rule_has_its_page(site: Path) -> None:
    for code, rule in rules().items():
        page = (site / "rules" / f"{code}.html").read_text(encoding="utf-8")
        assert f"{code}: {rule.name}" in page
