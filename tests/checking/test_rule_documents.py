"""Every rule is documented in full, sits in the file of its code, and has tests both ways.

Tests of a rule are named by it: `test_ini004_names_...` where it finds something, `test_ini004_passes_...` where it
must not.
"""

import ast
import re
from pathlib import Path

import pytest

import autoinit
from autoinit.checking.findings import Severity
from autoinit.checking.rules.registry import BY_CONSEQUENCE, explain, rules
from autoinit.checking.scale.declaring import rule_of_scale
from autoinit.errors import ArgumentError, RegistrationError

SECTIONS = ["What it is", "Why it matters", "Example", "What to do", "References"]
SEVERITIES = {*Severity, BY_CONSEQUENCE}
TESTS = Path(__file__).parents[1]


def names_of_tests():
    return re.findall(r"^def (test_ini\d+_\w+)", "\n".join(path.read_text() for path in TESTS.rglob("test_*.py")), re.M)


def test_codes_are_in_order_and_severities_known():
    assert list(rules()) == sorted(rules())
    assert {rule.severity for rule in rules().values()} <= SEVERITIES


@pytest.mark.parametrize("code", rules())
def test_rule_has_all_sections_with_text(code):
    document = rules()[code].document
    assert re.findall(r"^## (.+)$", document, re.M) == SECTIONS
    parts = re.split(r"^## .+$", document, flags=re.M)
    assert all(part.strip() for part in parts)


@pytest.mark.parametrize("code", rules())
def test_rule_begins_with_one_short_sentence(code):
    first, second, *_ = rules()[code].document.split("\n")
    assert len(first) < 100
    assert re.fullmatch(r"[A-Z].*\.", first)
    assert ". " not in first
    assert second == ""


@pytest.mark.parametrize("code", rules())
def test_rule_shows_code_that_is_wrong_and_code_that_is_right(code):
    parts = re.split(r"^## .+$", rules()[code].document, flags=re.M)
    for shown in (parts[3], parts[4]):
        assert re.search(r"^(    |```)\S", shown, re.M)


@pytest.mark.parametrize("code", rules())
def test_rule_is_in_the_file_of_its_code(code):
    module = rules()[code].look.__module__.rpartition(".")[2]
    assert module.startswith(f"{code.lower()}_")


@pytest.mark.parametrize("code", rules())
def test_rule_has_tests_that_it_names_and_that_it_passes(code):
    names = names_of_tests()
    for way in ("names", "passes"):
        assert any(name.startswith(f"test_{code.lower()}_{way}_") for name in names), (
            f"no test_{code.lower()}_{way}_..."
        )


def test_explain_takes_any_case_and_lists_the_codes_for_an_unknown_one():
    assert explain("ini004").code == "INI004"
    with pytest.raises(ArgumentError, match=r"no rule 'XYZ'; there are INI001, INI002"):
        explain("XYZ")


def test_no_file_but_its_own_names_a_code():
    """What other files ask about rules, the rules declare, so that a new one is asked like the others."""
    package = Path(autoinit.__file__).parent
    named = {
        f"{path.name}:{node.lineno} {node.value}"
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and re.fullmatch(r"INI\d+", str(node.value))
        if not path.name.startswith(f"{node.value.lower()}_")
    }
    assert not named


def test_a_rule_of_scale_that_never_speaks_is_refused():
    with pytest.raises(RegistrationError, match=r"rule INI999 \(mute\) never speaks: expected a verdict, strays or"):
        rule_of_scale("INI999", "mute", precedence=999)
    assert "INI999" not in rules()


def test_severities_are_ordered_and_equal_their_texts():
    assert [each.rank for each in Severity] == [0, 1, 2]
    assert list(Severity) == ["error", "warning", "info"]
    assert {"error": 1}[Severity.ERROR] == 1
    assert f"{Severity.ERROR} {Severity.INFO!r}" == "error 'info'"
    assert Severity.ERROR.at_least("warning")
    assert Severity.INFO.at_least("info")
    assert not Severity.INFO.at_least("warning")
    with pytest.raises(ArgumentError, match="fail_level='fatal': expected one of 'error', 'warning', 'info'"):
        Severity.of("fatal")
