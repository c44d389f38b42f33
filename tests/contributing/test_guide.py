"""CONTRIBUTING.md names files that there are."""

from __future__ import annotations

import pytest

from tests.contributing.guide import ROOT, guide, paths, promised


def test_the_guide_has_a_row_for_each_addition():
    assert set(guide()) == {
        "operation", "activation", "rule", "recipe", "method",
        "option of a plan", "optimizer of `scaling`", "distribution", "format", "tier of tracing",
        "row of a preset", "library of models", "kind of spec", "key of `[tool.autoinit]`",
    }  # fmt: skip


@pytest.mark.parametrize("what", guide())
def test_what_the_guide_names_is_there(what: str):
    edit, test = guide()[what]
    for pattern in (named := [*paths(edit), *paths(test)]):
        assert list(ROOT.glob(pattern)), pattern
    assert any(each.startswith("autoinit/") for each in named)
    assert any(each.startswith("tests/") for each in named)


def test_a_file_that_is_not_named_is_not_promised():
    assert promised("method", ["autoinit/methods/table.py", "autoinit/methods/new.py"])
    assert not promised("method", ["autoinit/methods/table.py", "autoinit/api.py"])
