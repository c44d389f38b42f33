"""Baselines: known findings do not count, new and graver ones do, and the file is made for diffs."""

import json
import random
import re

import pytest

from autoinit.checking.baselines import (
    BASELINE,
    Baseline,
    BaselineEntry,
    baseline_of,
    read_baseline,
    stale_note,
)
from autoinit.checking.findings import CheckResult, Finding, Severity, Suppressed
from autoinit.errors import ConfigurationError


def finding(code="INI103", layer="conv1", severity=Severity.WARNING, std=0.1, rows=()) -> Finding:
    return Finding(code, Severity(severity), layer, f"{layer}.weight", f"{layer}: std {std}", 0.2, std, rows)


def check(*findings: Finding, model="net", suppressed=()) -> CheckResult:
    return CheckResult(model, tuple(findings), tuple(suppressed))


class TestFile:
    def test_text(self):
        results = [
            check(finding(), finding("INI001", "conv2", "error"), model="b"),
            check(finding(rows=((0, 4),)), finding(rows=((4, 8),)), finding("INI402", "", "error"), model="a"),
        ]
        assert baseline_of(results).to_json() == (
            "{\n"
            '  "version": 1,\n'
            '  "entries": [\n'
            '    {"model": "a", "code": "INI103", "layer": "conv1", "param": "conv1.weight", "severity": "warning",'
            ' "count": 2},\n'
            '    {"model": "a", "code": "INI402", "layer": "", "param": ".weight", "severity": "error"},\n'
            '    {"model": "b", "code": "INI001", "layer": "conv2", "param": "conv2.weight", "severity": "error"},\n'
            '    {"model": "b", "code": "INI103", "layer": "conv1", "param": "conv1.weight", "severity": "warning"}\n'
            "  ]\n"
            "}\n"
        )

    def test_empty(self, tmp_path):
        text = baseline_of([check()]).to_json()
        assert json.loads(text) == {"version": 1, "entries": []}
        (tmp_path / "b.json").write_text(text)
        assert read_baseline(tmp_path / "b.json") == Baseline()

    def test_reads_what_it_writes(self, tmp_path):
        baseline = baseline_of([check(finding(), finding(), finding(layer="größe", severity=Severity.INFO))])
        (tmp_path / "b.json").write_text(baseline.to_json(), encoding="utf-8")
        assert read_baseline(tmp_path / "b.json") == baseline

    def test_neither_order_nor_numbers_change_it(self):
        findings = [finding(layer=f"layer{index}", severity=("error", "info")[index % 2]) for index in range(20)]
        shuffled = [finding(each.code, each.layer, each.severity, std=0.3) for each in findings]
        random.Random(0).shuffle(shuffled)
        assert baseline_of([check(*shuffled)]).to_json() == baseline_of([check(*findings)]).to_json()

    def test_one_more_finding_is_one_more_line(self):
        before = baseline_of([check(finding(layer="a"), finding(layer="c"))]).to_json().splitlines()
        after = baseline_of([check(finding(layer="a"), finding(layer="b"), finding(layer="c"))]).to_json().splitlines()
        assert len(after) == len(before) + 1
        assert set(before) < set(after)

    def test_known_findings_stay_and_ignored_ones_do_not_enter(self):
        known, ignored = finding(layer="known"), finding(layer="ignored")
        suppressed = (Suppressed(known, BASELINE), Suppressed(ignored, "ignore of INI1 for layer ignored (why)"))
        baseline = baseline_of([check(finding(layer="new"), suppressed=suppressed)])
        assert [entry.layer for entry in baseline.entries] == ["known", "new"]

    def test_entries_of_models_that_were_not_checked_stay(self):
        earlier = baseline_of([check(finding(layer="a"), model="one"), check(finding(layer="b"), model="two")])
        baseline = baseline_of([check(finding(layer="c"), model="one")], earlier)
        assert [(entry.model, entry.layer) for entry in baseline.entries] == [("one", "c"), ("two", "b")]


class TestSplit:
    def test_known_findings_are_suppressed_whatever_their_numbers(self):
        baseline = baseline_of([check(finding(std=0.1), finding(layer="conv2"))])
        again, new = finding(std=0.4), finding(layer="conv3")
        split = baseline.split("net", [new, again, finding(layer="conv2")])
        assert split.kept == (new,)
        assert split.suppressed[0] == Suppressed(again, "baseline")
        assert len(split.suppressed) == 2
        assert split.stale == ()

    @pytest.mark.parametrize("other", [{"code": "INI104"}, {"layer": "conv2"}])
    def test_other_findings_are_new(self, other):
        split = baseline_of([check(finding())]).split("net", [finding(**other)])
        assert (len(split.kept), split.suppressed) == (1, ())

    def test_a_finding_of_another_model_is_new(self):
        split = baseline_of([check(finding())]).split("other", [finding()])
        assert (len(split.kept), split.stale) == (1, ())

    @pytest.mark.parametrize(
        ("then", "now", "is_new"),
        [
            ("warning", "error", True),
            ("info", "warning", True),
            ("info", "error", True),
            ("warning", "warning", False),
            ("error", "warning", False),
            ("warning", "info", False),
        ],
    )
    def test_a_graver_finding_is_new(self, then, now, is_new):
        split = baseline_of([check(finding(severity=then))]).split("net", [finding(severity=now)])
        assert bool(split.kept) is is_new
        assert bool(split.stale) is is_new

    def test_more_of_the_same_are_new(self):
        split = baseline_of([check(finding(), finding())]).split("net", [finding(std=std) for std in (0.1, 0.2, 0.3)])
        assert [each.actual_std for each in split.kept] == [0.3]
        assert len(split.suppressed) == 2

    def test_each_finding_takes_the_entry_that_serves_it(self):
        """An error and an info were known: the mild one, though first, must not take the place of the grave one."""
        baseline = baseline_of([check(finding(severity=Severity.ERROR), finding(severity=Severity.INFO))])
        info, error = finding(severity=Severity.INFO), finding(severity=Severity.ERROR)
        assert baseline.split("net", [info, error]) == (
            (),
            (Suppressed(info, BASELINE), Suppressed(error, BASELINE)),
            (),
        )
        assert baseline.split("net", [finding(severity=Severity.WARNING), info]).kept == ()
        assert baseline.split("net", [finding(severity=Severity.WARNING), error]).kept == (
            finding(severity=Severity.WARNING),
        )

    def test_a_finding_takes_the_mildest_entry_that_serves_it(self):
        baseline = baseline_of([check(finding(severity=Severity.ERROR), finding(severity=Severity.INFO))])
        assert [each.severity for each in baseline.split("net", [finding(severity=Severity.INFO)]).stale] == ["error"]

    def test_stale_entries(self):
        baseline = baseline_of([check(finding(), finding(), finding("INI001", "conv2", "error"))])
        assert baseline.split("net", [finding()]).stale == (
            BaselineEntry("net", "INI001", "conv2", "conv2.weight", "error"),
            BaselineEntry("net", "INI103", "conv1", "conv1.weight", "warning"),
        )
        assert [each.code for each in baseline.split("net", [], {"INI103"}).stale] == ["INI103"]

    def test_empty_baseline_keeps_all(self):
        assert Baseline().split("net", [finding()]) == ((finding(),), (), ())


def test_stale_note(tmp_path):
    path = tmp_path / "b.json"
    one = BaselineEntry("net", "INI103", "conv1", "conv1.weight", "warning")
    assert stale_note([], path) == ""
    assert stale_note([one], path) == (
        f"1 entry of the baseline {path} no longer occurs (first: net: INI103 warning of conv1.weight): "
        "write it anew with --write-baseline"
    )
    two = BaselineEntry("net", "INI401", "", "", "error", 2)
    assert stale_note([two, one], path).startswith(
        f"3 entries of the baseline {path} no longer occur (first: net: INI401 error of the model)"
    )


class TestRefusals:
    def test_missing(self, tmp_path):
        path = tmp_path / "b.json"
        message = rf"b\.json: no such baseline; write it with --write-baseline {re.escape(str(path))}"
        with pytest.raises(ConfigurationError, match=message):
            read_baseline(path)

    def test_directory(self, tmp_path):
        with pytest.raises(ConfigurationError, match="no regular file; expected a baseline"):
            read_baseline(tmp_path)

    @pytest.mark.parametrize(("name", "said"), [("k" * 5000, "File name too long"), ("a\0b", "embedded null")])
    def test_names_that_no_file_has(self, tmp_path, name, said):
        with pytest.raises(ConfigurationError, match=f"the baseline cannot be read: {said}"):
            read_baseline(tmp_path / name)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", r"not a baseline of autoinit: .*; write it anew with --write-baseline"),
            (b"<<<<<<< ours\n", "not a baseline of autoinit: JSON is malformed"),
            (b'{"version": 1, "entries": [{"model": "\xff"}]}', "not a baseline of autoinit: .*(utf|UTF)-8"),
            (b"[]", "not a baseline of autoinit: Expected `object`, got `array`"),
            (b"{}", "missing required field `version`"),
            (b'{"version": "1", "entries": []}', r"Expected `int`, got `str` - at `\$.version`"),
            (b'{"version": 1}', "missing required field `entries`"),
            (b'{"version": 1, "entries": [], "more": 1}', "unknown field `more`"),
            (b'{"version": 2, "things": {}}', r"version = 2; expected 1; write it anew with --write-baseline"),
            (
                b'{"version": 1, "entries": [{"model": "m", "code": "c", "layer": "l", "param": "p",'
                b' "severity": "bad"}]}',
                r"Invalid enum value 'bad' - at `\$.entries\[.*\].severity`",
            ),
            (
                b'{"version": 1, "entries": [{"model": "m", "code": "c", "layer": "l", "param": "p",'
                b' "severity": "info", "count": 0}]}',
                r"Expected `int` >= 1 - at `\$.entries\[.*\].count`",
            ),
        ],
    )
    def test_not_a_baseline(self, tmp_path, content, message):
        path = tmp_path / "b.json"
        path.write_bytes(content)
        with pytest.raises(ConfigurationError, match=message) as caught:
            read_baseline(path)
        assert str(caught.value).startswith(f"{path}: ")
