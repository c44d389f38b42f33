"""The formats of a check, on findings built by hand."""

import dataclasses
import html
import io
import itertools
import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from importlib.resources import files

import jsonschema
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from pydantic import ValidationError
from pydantic_sarif.model import StaticAnalysisResultsFormatSarifVersion210JsonSchema as Sarif
from rich.console import Console
from torch import nn

from autoinit import check, formats
from autoinit.checking.findings import CheckFailure, CheckResult, CheckRun, Finding, Severity, Suppressed
from autoinit.checking.rules.registry import BY_CONSEQUENCE, About, Rule
from autoinit.errors import ArgumentError
from autoinit.reporting.findings import github, jsons, junit, markdown, sarif
from autoinit.reporting.findings.alike import entries
from autoinit.reporting.findings.text import lines
from autoinit.tracing.dataflow import SourceLine
from tests.shared.pages import document_of

SCHEMA = json.loads(files("autoinit.reporting.findings").joinpath("schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def at(line: int, file: str = "models/vit.py") -> SourceLine:
    return SourceLine(file, line, "__init__")


def too_large(layer: str, std: float = 0.0795, **changes) -> Finding:
    target = "model" + re.sub(r"\.(\d+)", r"[\1]", f".{layer}.weight")
    message = (
        f"{layer}: std {std:.3g}, expected 0.0255 (3.1 times): it feeds gelu, and no norm follows before the addition, "
        "so that the signal grows with every block. Use the line below, or `autoinit(model)`."
    )
    base = Finding(
        "INI102", Severity.ERROR, layer, f"{layer}.weight", message, 0.0255, std,
        recipe=f"normal {std:.3g}", fix=f"nn.init.normal_({target}, std=0.0255)", location=at(31),
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


QKV = Finding(
    "INI107", Severity.WARNING, "blocks.0.attn", "blocks.0.attn.in_proj_weight",
    "blocks.0.attn rows 0:192: std 0.0361 as of one matrix of 576 rows, expected 0.051. Query, key and value are "
    "three matrices; each has a fan of its own.",
    0.051, 0.0361, rows=((0, 192), (192, 384)), recipe="xavier_uniform",
    fix="nn.init.normal_(model.blocks[0].attn.in_proj_weight[0:192], std=0.051)\n"
    "nn.init.normal_(model.blocks[0].attn.in_proj_weight[192:384], std=0.051)",
    location=at(12),
)  # fmt: skip
NAN = Finding(
    "INI001", Severity.ERROR, "head", "head.weight",
    "head: 3 of 7680 elements are not finite | the loss is NaN from the first step on.",
    0.051, float("nan"), location=SourceLine("<string>", 1, "<module>"),
)  # fmt: skip
BIAS = Finding("INI201", Severity.INFO, "head", "head.bias", "head: bias 100 % <not> zero, mean 0.01.", location=at(40))
NORM = Finding("INI202", Severity.INFO, "norm", "", "norm: scale 0.5, expected 1.", location=at(41))
WHOLE = Finding("INI401", Severity.ERROR, "", "", "The forward signal explodes: 1e+08 times at the output.")

RULES = {
    "INI001": Rule(
        "INI001",
        "non-finite weight",
        Severity.ERROR,
        About.VALUES,
        lambda subject: iter(()),
        "A weight is not\nfinite.\n\n## Why",
    ),
    "INI102": Rule(
        "INI102", "std too large", BY_CONSEQUENCE, About.SCALE, lambda subject: iter(()), "Too large: `std`."
    ),
    "INI201": Rule("INI201", "bias not zero", Severity.INFO, About.START, lambda subject: iter(()), "A bias."),
    "INI999": Rule("INI999", "found nowhere", Severity.WARNING, About.VALUES, lambda subject: iter(()), "Nothing."),
}


def whole_run() -> CheckRun:
    """Everything that a run can hold: 15 errors, 1 warning, 2 infos that count, 3 findings that do not."""
    blocks = tuple(too_large(f"blocks.{index}.mlp.fc1", 0.0795 + 1e-4 * index) for index in range(12))
    vit = CheckResult(
        "models.vit:small",
        (blocks[0], QKV, *blocks[1:], NAN, BIAS, NORM, WHOLE),
        suppressed=(
            Suppressed(too_large("stem", location=at(5)), "baseline"),
            Suppressed(dataclasses.replace(BIAS, layer="stem", param="stem.bias"), "ignore of stem* (INI2): by design"),
        ),
        unused_ignores=("unused ignore of neck (INI1): no such finding; remove it",),
        fail_level="warning",
        layers=54,
        notes=("attention is traced as one operation",),
        fixed=("blocks.0.attn",),
        seconds=1.25,
    )
    resnet = CheckResult(
        "models.resnet:tiny",
        (too_large("layer1.0.conv2", location=at(9, "models/resnet.py")),),
        suppressed=(Suppressed(too_large("layer1.0.conv1"), "baseline"),),
        fail_level="error",
        layers=9,
        recipe="resnet",
        seconds=0.5,
    )
    clean = CheckResult("models.mlp:Net", (), layers=3, seconds=0.25)
    broken = CheckFailure("models.gan:build", "models.gan:build: raised TypeError: 'depth', 100 % {missing}")
    return CheckRun((vit, resnet, clean), (broken,), notes=("2 entries of the baseline no longer occur",))


@pytest.fixture(autouse=True)
def fixed_version(monkeypatch):
    monkeypatch.setattr(jsons, "__version__", "1.2.3")
    monkeypatch.setattr(sarif, "__version__", "1.2.3")


def plain(run: CheckRun, *, full: bool = False) -> str:
    return run.to_text(full=full)


def test_unknown_format_names_the_formats():
    with pytest.raises(ArgumentError, match=r"no format 'yaml'; there are text, json, github, sarif, junit, markdown"):
        whole_run().to("yaml")


def test_rules_are_asked_for_by_sarif_only(monkeypatch):
    def refuse():
        raise AssertionError("asked")

    monkeypatch.setattr("autoinit.checking.rules.registry.rules", refuse)
    for form in formats.names("check"):
        if form != "sarif":
            assert whole_run().to(form)
    with pytest.raises(AssertionError, match="asked"):
        whole_run().to("sarif")


# Counts: every format shows as many findings of each severity as the run has.


def counted_in_text(run):
    found = re.findall(r"^(?:.+:\d+: )?INI\d+ (error|warning|info): ", plain(run, full=True), re.MULTILINE)
    return Counter(found)


def counted_in_json(run):
    return Counter(each["severity"] for model in json.loads(run.to("json"))["models"] for each in model["findings"])


def counted_in_github(run):
    commands = re.findall(r"^::(\w+) .*?title=INI", github.commands(run), re.MULTILINE)
    return Counter("info" if command == "notice" else command for command in commands)


def counted_in_sarif(run):
    results = json.loads(sarif.dumps(run, RULES))["runs"][0]["results"]
    return Counter("info" if each["level"] == "note" else each["level"] for each in results if not each["suppressions"])


def counted_in_junit(run):
    texts = (each.text or "" for each in ET.fromstring(junit.dumps(run)).iter())
    paragraphs = (paragraph for text in texts for paragraph in text.split("\n\n"))
    return Counter(
        match[1]
        for each in paragraphs
        if (match := re.match(r"(?!suppressed)(?:.+:\d+: )?INI\d+ (error|warning|info): ", each))
    )


def counted_in_markdown(run):
    counts = Counter()
    for row in re.findall(r"^\| (?:error|warning|info) \| .*$", markdown.render(run), re.MULTILINE):
        others = re.search(r"the same: (\d+) layers", row)
        counts[row.split(" | ")[0][2:]] += 1 + (int(others[1]) if others else 0)
    return counts


def counted_on_the_page(run):
    counts = Counter()
    for found in (each for model in document_of(run.to("html"))["models"] for each in model["findings"]):
        others = re.search(r"(\d+) layers", found["alike"])
        counts[found["severity"]] += 1 + (int(others[1]) if others else 0)
    return counts


COUNTERS = {
    "text": counted_in_text,
    "json": counted_in_json,
    "github": counted_in_github,
    "sarif": counted_in_sarif,
    "junit": counted_in_junit,
    "markdown": counted_in_markdown,
    "html": counted_on_the_page,
}


@pytest.mark.parametrize("form", formats.names("check"))
def test_every_format_shows_every_finding(form):
    assert COUNTERS[form](whole_run()) == {"error": 15, "warning": 1, "info": 2}


NAMES = st.from_regex(r"(stem|blocks\.[0-9]|layer[12]\.[01])(\.fc[12])?", fullmatch=True)
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r"), max_size=12)
FINDINGS = st.builds(
    lambda code, severity, layer, words, location, std, fix: Finding(
        code, severity, layer, f"{layer}.weight", f"{layer}: std {std} {words}", std, std, fix=fix, location=location
    ),
    st.sampled_from(["INI101", "INI102", "INI999"]),
    st.sampled_from(["error", "warning", "info"]),
    NAMES,
    WORDS | st.just(""),
    st.sampled_from([None, at(3), at(7), at(1, "<string>"), at(2, "/opt/models/a b.py")]),
    st.sampled_from([None, 0.1, 0.102, 0.2, float("inf")]),
    st.sampled_from(["", "fix_()", "one()\ntwo()"]),
)


@settings(max_examples=60)
@given(st.lists(FINDINGS, max_size=12), st.lists(FINDINGS, max_size=3), st.sampled_from(["error", "warning", "info"]))
def test_any_findings_are_counted_and_valid_in_every_format(findings, known, level):
    suppressed = tuple(Suppressed(each, "baseline") for each in known)
    run = CheckRun((CheckResult("m", tuple(findings), suppressed, fail_level=level, layers=4),))
    expected = Counter(each.severity for each in findings)
    assert {form: count(run) for form, count in COUNTERS.items()} == dict.fromkeys(COUNTERS, expected)
    VALIDATOR.validate(json.loads(run.to("json")))
    assert_sarif(json.loads(sarif.dumps(run, RULES)))


# Text


def test_siblings_share_an_entry_and_the_count_stays():
    text = plain(whole_run())
    assert "    the same: 11 layers (std 0.0801, expected 0.0255): blocks.{1-11}.mlp.fc1\n" in text
    assert text.count("INI102 error") == 2  # blocks.0 and the resnet's
    assert plain(whole_run(), full=True).count("INI102 error: ") == 13


def said(layer: str, message: str, **changes) -> Finding:
    return too_large(layer, message=message.replace("@", layer), **changes)


ALIKE = {
    "three": ([too_large(f"blocks.{index}.fc") for index in range(3)], [3]),
    "two": ([too_large(f"blocks.{index}.fc") for index in range(2)], [1, 1]),
    "lines": ([too_large(f"net.{index}", location=at(index)) for index in range(4)], [4]),
    "files": ([too_large(f"net.{index}", location=at(1, f"{index}.py")) for index in range(4)], [1, 1, 1, 1]),
    "stds": ([too_large(f"net.{index}", 0.05 * 2**index) for index in range(4)], [4]),
    "integers": ([said(f"net.{index}", f"@: {index} rows equal") for index in range(3)], [3]),
    "rows": ([too_large(f"net.{index}", rows=((0, index + 1),)) for index in range(3)], [1, 1, 1]),
    "severity": ([too_large(f"net.{index}", severity=("info", "error")[index % 2]) for index in range(6)], [3, 3]),
    "stages": ([too_large(f"layer{stage}.{index}.c") for stage in (1, 2) for index in range(4)], [8]),
    "names": ([too_large(name) for name in ("stem", "features.0", "head.fc", "net.1.k")], [4]),
    "parent": ([said(f"b.{index}.fc", f"@: feeds b.{index}.act") for index in range(3)], [3]),
    "another": ([said(f"b.{index}.fc", f"@: as b.{index + 1}.fc") for index in range(3)], [1] * 3),
    "words": ([said(f"b.{index}", f"@: feeds {name}") for index, name in enumerate(("relu", "gelu", "silu"))], [1] * 3),
    "arguments": ([said(f"b.{index}", f"@: feeds leaky_relu(0.{index})") for index in range(3)], [1] * 3),
    "keywords": ([said(f"b.{index}", f"@: is normal_(std=0.{index})") for index in range(3)], [1] * 3),
    "functions": ([too_large(f"b.{index}", fix=f"nn.init.{'abc'[index]}_(w)") for index in range(3)], [1] * 3),
    "bias": ([too_large(f"b.{index}", param="" if index else "b.weight") for index in range(4)], [1, 3]),
    "same layer": ([too_large("net.1")] * 3, [1, 1, 1]),
    "layers twice": ([too_large(f"net.{index % 3}") for index in range(6)], [3, 3]),
    "nan": ([dataclasses.replace(NAN, layer=f"net.{index}", message=f"net.{index}: NaN") for index in range(3)], [3]),
}


@pytest.mark.parametrize(("findings", "sizes"), ALIKE.values(), ids=ALIKE.keys())
def test_what_is_alike(findings, sizes):
    found = entries(findings)
    assert [1 + len(entry.others) for entry in found] == sizes


def test_names_of_siblings_are_spelled_with_their_gaps():
    (entry,) = entries([too_large(f"blocks.{index}.fc") for index in (0, 1, 2, 3, 7, 9, 10)])
    assert entry.siblings == "6 layers (std 0.0795, expected 0.0255): blocks.{1-3,7,9-10}.fc"


def test_a_deep_network_with_one_fault_fits_a_screen():
    """16 convolutions of four widths, all with torch's default: one paragraph in place of 16."""
    torch.manual_seed(0)
    widths = [8, *([16] * 4), *([24] * 4), *([32] * 4), *([48] * 4)]
    layers = [nn.Conv2d(before, after, 3) for before, after in itertools.pairwise(widths)]
    result = check(nn.Sequential(*(each for layer in layers for each in (layer, nn.ReLU()))))
    text = str(result)
    assert sum(each.severity == "error" for each in result.findings) == 15
    assert text.count(" INI103 error: ") + text.count("\nINI103 error: ") == 1
    assert len(text.splitlines()) < 24
    assert "the same: 14 layers" in text


def test_siblings_of_other_lines_say_which_and_stds_are_from_the_least_to_the_largest():
    places = {"stem": 7, "a.0": 7, "a.1": 7, "b.0": 8, "head": 9}
    (entry,) = entries([too_large(name, 0.01 * line, location=at(line)) for name, line in places.items()])
    assert entry.siblings == ("4 layers (std 0.07..0.09, expected 0.0255): a.{0-1}, b.0 (line 8), head (line 9)")


@pytest.mark.parametrize("width", [40, 57, 80, 100, 200])
def test_no_line_is_wider_than_asked_unless_a_word_is(width):
    for line in (line.plain for line in lines(whole_run(), width)):
        said = line.strip().removeprefix("fix: ")
        assert len(line) <= width or " " not in said or said.startswith("nn.init"), line


def test_paths_with_spaces_stay_whole():
    finding = too_large("stem", location=at(7, "my models/" + "long name " * 8 + "vit.py"))
    _, line, *_ = plain(CheckRun((CheckResult("m", (finding,)),))).splitlines()
    assert line == "my models/" + "long name " * 8 + "vit.py:7: INI102 error:"


def nine(*findings: Finding, by: str = "") -> CheckRun:
    suppressed = (Suppressed(QKV, by),) if by else ()
    return CheckRun((CheckResult("m", findings, suppressed, layers=9),))


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (nine(), "clean: no findings in 9 layers"),
        (CheckRun(nine().results * 2), "clean: no findings in 18 layers of 2 models"),
        (CheckRun((CheckResult("m", (QKV,), layers=1),)), "1 warning in 1 layer"),
        (nine(BIAS, NORM), "2 info (--verbose shows them) in 9 layers"),
        (nine(by="baseline"), "clean: no findings in 9 layers; 1 suppressed by the baseline"),
        (nine(by="ignore of x"), "clean: no findings in 9 layers; 1 suppressed by ignores"),
        (CheckRun((), (CheckFailure("m", "no such module"),)), "nothing was checked; 1 model could not be checked"),
    ],
)
def test_last_line_says_how_it_went(run, expected):
    assert plain(run).splitlines()[-1] == expected


def test_prints_plain_and_100_wide_into_a_file(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    file = io.StringIO()
    whole_run().print(file)
    assert file.getvalue() == plain(whole_run()) + "\n"
    assert str(whole_run().results[0]) == CheckRun(whole_run().results[:1]).to("text")


def test_prints_coloured_in_a_terminal():
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100, color_system="standard", legacy_windows=False)
    whole_run().print(console=console)
    assert "\x1b[1;31mINI102 error\x1b[0m" in file.getvalue()
    assert "\x1b[1;33mINI107 warning\x1b[0m" in file.getvalue()
    assert re.sub(r"\x1b\[[\d;]*m", "", file.getvalue()) == plain(whole_run()) + "\n"


def test_messages_are_no_markup():
    finding = dataclasses.replace(NORM, severity=Severity.ERROR, message="norm: scale[0] [red]is[/red] :smile: 0.5")
    file = io.StringIO()
    CheckResult("m", (finding,)).print(console=Console(file=file, width=100))
    assert "scale[0] [red]is[/red] :smile: 0.5" in file.getvalue()


# JSON


def test_json_is_of_its_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    VALIDATOR.validate(json.loads(whole_run().to("json")))


def test_schema_knows_every_field_and_no_other():
    for kind, value in (("finding", QKV), ("location", at(1))):
        assert set(SCHEMA["$defs"][kind]["required"]) == {field.name for field in dataclasses.fields(value)}
    document = json.loads(whole_run().to("json"))
    del document["models"][0]["findings"][0]["fix"]
    document["models"][0]["findings"][1]["colour"] = "red"
    document["models"][1]["fail_level"] = "grave"
    said = sorted(error.message for error in VALIDATOR.iter_errors(document))
    assert len(said) == 3
    assert "'colour' was unexpected" in said[2]
    assert "'fix' is a required property" in said[0]
    assert "'grave' is not one of" in said[1]


def test_json_documents_every_key_in_its_docstring():
    keys = {key for part in SCHEMA["$defs"].values() for key in part.get("properties", {})} | set(SCHEMA["properties"])
    assert [key for key in sorted(keys) if not re.search(rf"\b{key}\b", jsons.__doc__)] == []


def test_json_holds_no_nan_and_no_empty_words():
    (nan,) = (each for each in json.loads(whole_run().to("json"))["models"][0]["findings"] if each["code"] == "INI001")
    assert (nan["actual_std"], nan["fix"], nan["recipe"]) == (None, None, None)
    assert nan["location"] == {"file": "<string>", "line": 1, "function": "<module>"}


# GitHub


def test_github_escapes_as_its_documentation_says():
    finding = Finding("INI101", Severity.INFO, "a,b:c", "", "50 %\r\nof it: a, b", location=at(3, "models/a,b:%.py"))
    first = github.commands(CheckRun((CheckResult("m", (finding,)),))).splitlines()[0]
    assert first == "::notice file=models/a%2Cb%3A%25.py,line=3,title=INI101 a%2Cb%3Ac::50 %25%0D%0Aof it: a, b"


def test_github_annotations_stay_on_one_line_each():
    lines = github.commands(whole_run()).splitlines()
    assert [line.startswith("::") for line in lines] == [True] * 20 + [False] * 3


def test_github_shows_the_gravest_and_one_of_each_kind_first():
    heads = re.findall(r"title=(INI\d+ ?[\w.]*)", github.commands(whole_run()))
    first = ["INI102 blocks.0.mlp.fc1", "INI001 head", "INI401", "INI102 layer1.0.conv2", "INI102 blocks.1.mlp.fc1"]
    assert heads[:5] == first
    assert heads[-3:] == ["INI107 blocks.0.attn", "INI201 head", "INI202 norm"]


def test_paths_are_relative_below_the_working_directory_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    below = too_large("a", location=at(1, str(tmp_path / "src" / "net 1.py")))
    outside = too_large("b", location=at(2, "/opt/lib/net.py"))
    run = CheckRun((CheckResult("m", (below, outside)),))
    first, second, *_ = github.commands(run).splitlines()
    assert "file=src/net 1.py,line=1," in first
    assert "file=/opt/lib/net.py,line=2," in second
    one, two = json.loads(sarif.dumps(run, {}))["runs"][0]["results"]
    assert one["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "src/net%201.py", "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": 1},
    }
    assert two["locations"][0]["physicalLocation"]["artifactLocation"] == {"uri": "file:///opt/lib/net.py"}
    assert plain(run).splitlines()[1].startswith("src/net 1.py:1: INI102 error: a: std")


# SARIF


def assert_sarif(log: dict) -> None:
    """Against models generated from the OASIS schema that forbid unknown properties, and what the text adds to it."""
    Sarif.model_validate_json(json.dumps(log))
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)  # 3.19.23
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]  # 3.27.6
        assert not re.search(r"(?<!{)(?:{{)*{(?!{)", result["message"]["text"])  # 3.11.5
        assert "suppressions" in result  # 3.27.23: in all or in none
        for location in result["locations"]:
            uri = location.get("physicalLocation", {}).get("artifactLocation", {}).get("uri", "x")
            assert re.fullmatch(r"[A-Za-z0-9._~:/%-]+", uri)  # 3.10.1, RFC 3986
    prints = [result["partialFingerprints"]["autoinitFinding/v1"] for result in run["results"]]
    assert len(set(prints)) == len(prints)
    (invocation,) = run["invocations"]
    declared = [each["id"] for each in run["tool"]["driver"]["notifications"]]
    for kind in ("toolExecutionNotifications", "toolConfigurationNotifications"):
        for notification in invocation[kind]:
            assert declared[notification["descriptor"]["index"]] == notification["descriptor"]["id"]  # 3.52.5


def test_sarif_is_of_the_standard(monkeypatch):
    monkeypatch.setattr("autoinit.checking.rules.registry.rules", lambda: RULES)
    assert whole_run().to("sarif") == sarif.dumps(whole_run(), RULES)
    assert_sarif(json.loads(whole_run().to("sarif")))
    assert_sarif(json.loads(sarif.dumps(CheckRun(()), {})))


@pytest.mark.parametrize("place", ["runs.0", "runs.0.results.0", "runs.0.results.0.locations.0", "runs.0.tool.driver"])
def test_the_models_of_the_standard_refuse_what_it_does_not_know(place):
    log = json.loads(sarif.dumps(whole_run(), RULES))
    part = log
    for key in place.split("."):
        part = part[int(key) if key.isdecimal() else key]
    part["colour"] = "red"
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Sarif.model_validate_json(json.dumps(log))


def test_sarif_levels_and_rules():
    (run,) = json.loads(sarif.dumps(whole_run(), RULES))["runs"]
    rules = {rule["id"]: rule for rule in run["tool"]["driver"]["rules"]}
    assert set(rules) == {"INI001", "INI102", "INI107", "INI201", "INI202", "INI401", "INI999"}
    assert rules["INI107"] == {"id": "INI107"}  # not in the table: nothing to say
    assert rules["INI001"]["name"] == "NonFiniteWeight"
    assert rules["INI001"]["fullDescription"] == {"text": "A weight is not finite."}
    assert rules["INI001"]["help"]["markdown"] == "A weight is not\nfinite.\n\n## Why"
    levels = {code: rules[code]["defaultConfiguration"]["level"] for code in RULES}
    assert levels == {"INI001": "error", "INI102": "warning", "INI201": "note", "INI999": "warning"}


def test_sarif_says_what_failed_and_what_is_suppressed():
    (run,) = json.loads(sarif.dumps(whole_run(), RULES))["runs"]
    (invocation,) = run["invocations"]
    assert (invocation["executionSuccessful"], invocation["exitCode"]) == (False, 2)
    first = invocation["toolExecutionNotifications"][0]
    assert first["level"] == "error"
    assert first["message"]["text"] == "models.gan:build: raised TypeError: 'depth', 100 % {{missing}}"
    assert [each["suppressions"][0]["justification"] for each in run["results"] if each["suppressions"]] == [
        "baseline", "ignore of stem* (INI2): by design", "baseline",
    ]  # fmt: skip
    findings_only = CheckRun(whole_run().results)
    (invocation,) = json.loads(sarif.dumps(findings_only, {}))["runs"][0]["invocations"]
    assert (invocation["executionSuccessful"], invocation["exitCode"]) == (True, 1)


def test_sarif_locations():
    results = json.loads(sarif.dumps(whole_run(), RULES))["runs"][0]["results"]
    of_code = {result["ruleId"]: result["locations"] for result in results}
    assert of_code["INI107"][0]["logicalLocations"] == [
        {
            "name": "in_proj_weight",
            "fullyQualifiedName": "models.vit:small::blocks.0.attn.in_proj_weight",
            "kind": "member",
        }
    ]
    assert of_code["INI202"][0]["logicalLocations"][0]["kind"] == "module"
    assert "physicalLocation" not in of_code["INI001"][0]  # <string> is no file
    assert of_code["INI401"] == [
        {"logicalLocations": [{"name": "models.vit:small", "fullyQualifiedName": "models.vit:small", "kind": "module"}]}
    ]


def test_fingerprints_outlive_another_seed_line_and_wording():
    def prints(*findings, model="m"):
        results = json.loads(sarif.dumps(CheckRun((CheckResult(model, findings),)), {}))["runs"][0]["results"]
        return [result["partialFingerprints"]["autoinitFinding/v1"] for result in results]

    finding = too_large("net.1")
    (stable,) = prints(finding)
    changed = dataclasses.replace(
        finding,
        severity=Severity.WARNING,
        message="else",
        actual_std=0.2,
        recipe="",
        fix="",
        location=at(99, "other.py"),
    )
    assert prints(changed) == [stable]
    assert prints(BIAS, changed)[1] == stable
    others = [
        dataclasses.replace(finding, code="INI101"),
        dataclasses.replace(finding, layer="net.2"),
        dataclasses.replace(finding, param="net.1.bias"),
        dataclasses.replace(finding, rows=((0, 1),)),
        finding,
    ]
    assert len({*prints(finding, *others), *prints(finding, model="n")}) == 7


# JUnit


def test_junit_cases_fail_at_the_fail_level():
    root = ET.fromstring(junit.dumps(whole_run()))
    vit, resnet, mlp, gan = root
    # vit: 12 blocks, blocks.0.attn, head, norm, the model and stem; all but norm (info) and stem (suppressed) fail.
    assert [vit.get(key) for key in ("tests", "failures", "errors", "skipped")] == ["17", "15", "0", "1"]
    assert [resnet.get(key) for key in ("tests", "failures", "errors", "skipped")] == ["2", "1", "0", "1"]
    assert [mlp.get(key) for key in ("tests", "failures", "errors", "skipped")] == ["1", "0", "0", "0"]
    assert [gan.get(key) for key in ("tests", "failures", "errors", "skipped")] == ["1", "0", "1", "0"]
    assert [root.get(key) for key in ("tests", "failures", "errors", "skipped", "time")] == [
        "21",
        "16",
        "1",
        "2",
        "2.000",
    ]
    assert mlp.find("testcase").get("name") == "no findings in 3 layers"
    assert gan.find("testcase/error").get("message") == "raised TypeError: 'depth', 100 % {missing}"
    head = next(case for case in vit.iter("testcase") if case.get("name") == "head")
    assert head.find("failure").get("type") == "INI001"
    assert head.find("system-out").text == "models/vit.py:40: INI201 info: head: bias 100 % <not> zero, mean 0.01."


def test_junit_drops_what_xml_cannot_hold():
    failure = CheckFailure("m", "the factory printed \x1b[31mred\x1b[0m and \x00 & <tags> \U0001f600")
    error = ET.fromstring(junit.dumps(CheckRun((), (failure,)))).find("testsuite/testcase/error")
    assert error.text == "the factory printed \ufffd[31mred\ufffd[0m and \ufffd & <tags> \U0001f600"


# Markdown


def rendered(run: CheckRun) -> str:
    """As HTML, by a renderer that is not ours."""
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown.render(run))


def visible(fragment: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", fragment.replace("<br>", "\n")))


def test_markdown_shows_every_word_as_it_is():
    message = "net.1: `a|b` | c_d_e * f* <b> & @someone [x](y) # ~~z~~ \\ kaiming_normal_ __init__ ` alone"
    finding = too_large("net.1", message=message, fix='f("`|`")\ng(a_b)', location=at(3, "a_b|c.py"))
    page = rendered(CheckRun((CheckResult("m", (finding,), layers=1),)))
    cells = re.findall(r"<td>(.*?)</td>", page, re.DOTALL)
    assert [visible(cell) for cell in cells] == [
        "error", "INI102", "net.1", message.replace("`a|b`", "a|b") + '\nf("`|`")\ng(a_b)', "a_b|c.py:3",
    ]  # fmt: skip
    assert cells[3].count("<code>") == 3
    assert "<em>" not in cells[3]
    assert "@someone" not in markdown.render(CheckRun((CheckResult("m", (finding,)),)))


def test_sarif_markdown_shows_every_word_as_it_is():
    message = "net.1: `a|b` | __init__ <b> @someone"
    finding = too_large("net.1", message=message, fix="f({})")
    (result,) = json.loads(sarif.dumps(CheckRun((CheckResult("m", (finding,)),)), {}))["runs"][0]["results"]
    page = MarkdownIt("commonmark").render(result["message"]["markdown"].replace("{{", "{").replace("}}", "}"))
    assert page == (
        "<p>net.1: <code>a|b</code> | __init__ &lt;b&gt; @someone</p>\n"
        '<pre><code class="language-python">f({})\n</code></pre>\n'
    )
    assert result["message"]["text"] == message


def test_markdown_has_a_table_per_model_and_folds_infos():
    page = rendered(whole_run())
    assert re.findall(r"<h3><code>(.*?)</code></h3>", page) == [
        "models.vit:small",
        "models.resnet:tiny",
        "models.mlp:Net",
    ]
    assert page.count("<table>") == 3  # two models with findings, and the infos of one
    assert re.findall(r"<summary>(.*?)</summary>", page) == ["2 of severity info", "2 suppressed", "1 suppressed"]
    assert visible(page).startswith(
        "autoinit check: 15 errors, 1 warning, 2 info in 66 layers of 3 models; 2 suppressed by the baseline, "
        "1 by ignores; 1 unused ignore; 1 model could not be checked"
    )


@pytest.mark.parametrize("form", ["github", "sarif"])
def test_github_gets_paths_from_the_root_of_its_workspace(form, monkeypatch, tmp_path):
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    found = Finding(
        "INI103", Severity.ERROR, "fc", "fc.weight", "fc: left.", location=at(3, str(tmp_path / "sub" / "nets.py"))
    )
    assert "sub/nets.py" in CheckRun((CheckResult("nets", (found,)),)).to(form)
    assert str(tmp_path) not in CheckRun((CheckResult("nets", (found,)),)).to(form)


def test_checks_print_by_themselves_as_their_text():
    """On a rich console of the width of plain text, as `str`; a run of several and the result of one alike."""
    run = nine()
    for each in (run, *run.results):
        file = io.StringIO()
        Console(file=file, width=100).print(each)
        assert file.getvalue() == f"{each}\n" == f"{run.to_text()}\n"
