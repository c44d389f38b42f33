"""The report's formats, on a plan built by hand."""

import dataclasses
import io
import json
import math
import re
import tracemalloc

import pytest
from rich.console import Console

from autoinit.plans.layers import Alternative, LayerPlan, OtherParameter, SlicePlan
from autoinit.plans.plan import Plan, Report
from autoinit.reporting import _wording as wording
from autoinit.reporting._collapsing import collapse, runs
from autoinit.reporting._columns import Cell, Column, fit, lay_out, natural_widths
from autoinit.reporting._grouping import group
from autoinit.reporting._rows import rows_of
from autoinit.reporting.table import FANCY, render
from autoinit.tensors.measuring import WeightStats


def stats(std: float, numel: int = 100) -> WeightStats:
    return WeightStats(numel=numel, mean=0.0, std=std, minimum=-2 * std, maximum=2 * std, zeros=0.0, nonfinite=0)


def layer(name: str, **changes) -> LayerPlan:
    base = LayerPlan(
        name=name,
        param=f"{name}.weight",
        shape=(64, 32),
        axes="oi",
        op="linear",
        nonlinearity="relu",
        params={},
        reason="activation",
        path=("norm", "relu"),
        normalised=True,
        scheme="he",
        mode="fan_in",
        gain=math.sqrt(2),
        fan_in=32.0,
        fan_out=64.0,
        std=0.25,
        distribution="normal",
    )
    return dataclasses.replace(base, **changes)


LINEAR = {
    "nonlinearity": "linear",
    "scheme": "xavier",
    "mode": "fan_avg",
    "gain": 1.0,
    "path": ("add",),
    "normalised": False,
}


def part(start: int, stop: int, **changes) -> SlicePlan:
    fields = {
        "rows": ((start, stop),),
        "params": {},
        "reason": "attention",
        "fan_in": 64.0,
        "fan_out": float(stop - start),
        "std": 0.125,
        **LINEAR,
        **changes,
    }
    return SlicePlan(**fields)


def small_plan() -> Plan:
    lrelu = {"nonlinearity": "leaky_relu", "params": {"negative_slope": 0.2}, "fan_in": 576.0, "std": 0.0578}
    return Plan(
        layers=(
            layer("conv1", op="conv2d", shape=(64, 64, 3, 3), axes="oikk", **lrelu),
            layer("conv2", op="conv2d", reason="add", fan_in=576.0, fan_out=576.0, std=0.0417, **LINEAR),
            layer(
                "attn.qkv",
                reason="attention",
                shape=(192, 64),
                std=0.125,
                slices=(part(0, 64), part(64, 128), part(128, 192)),
                **{**LINEAR, "fan_in": 64.0, "fan_out": 64.0},
            ),
            layer("attn.proj", reason="add", status="kept", note="exactly zero before: the author's intent", **LINEAR),
            layer("frozen", reason="output", status="skipped", note="requires_grad is False", **LINEAR),
            layer("odd", reason="unresolved", status="unresolved", note="my_op is not in the table", **LINEAR),
            layer(
                "both", reason="mixed", alternatives=(Alternative("relu", "activation"), Alternative("linear", "add"))
            ),
        ),
        model="Net",
        parameters=11_689_512,
        tier="symbolic",
        others=(
            OtherParameter("norm.weight", (64,), "norm"),
            OtherParameter("norm.bias", (64,), "norm"),
            OtherParameter("embed.weight", (10, 64), "embedding"),
            OtherParameter("spare.weight", (3, 4), "uncalled"),
        ),
        unsupported=("my_op at odd (net.py:12)",),
        notes=("the input was guessed: (1, 3, 32, 32)",),
    )


def small_report(written: bool = False) -> Report:
    before = {name: stats(0.024) for name in small_plan()} | {"attn.proj": stats(0.0)}
    after = {"conv1": stats(0.0579), "conv2": stats(0.0416), "attn.qkv": stats(0.126), "both": stats(0.249)}
    return Report(small_plan(), before, after if written else None, seed=7 if written else None, seconds=0.1234)


GOLDEN_80 = """\
autoinit  Net: 11.7 M parameters, symbolic tracing, method nonlinearity,
normal distribution

layer          op      feeds              scheme      fan    std -> planned
---------------------------------------------------------------------------
conv1          conv2d  leaky_relu(0.2)    He          576  0.024 -> 0.0578
conv2          conv2d  linear, add        Xavier  576+576  0.024 -> 0.0417
attn.qkv       linear  linear, attention  Xavier    64+64  0.024 -> 0.125
  3 x 64 rows          linear, attention  Xavier    64+64           0.125
attn.proj      linear  linear, add        Xavier    32+64      0    kept
  kept: exactly zero before: the author's intent
frozen         linear  linear, output     Xavier    32+64  0.024    skipped
  skipped: requires_grad is False
odd            linear  unresolved         -             -  0.024
  unresolved: my_op is not in the table
both           linear  relu, mixed        He           32  0.024 -> 0.25
  feeds several: relu; linear, add

Operations unknown to autoinit (1): my_op at odd (net.py:12)
Weights that no operation used (1): spare.weight
Note: the input was guessed: (1, 3, 32, 32)
Left as they are: 4 parameters (norm 2, embedding 1, uncalled 1).
planned 4, kept 1, skipped 1, unresolved 1; nothing written; 123 ms
"""

GOLDEN_120 = """\
autoinit  Net: 11.7 M parameters, symbolic tracing, method nonlinearity, normal distribution, seed 7

layer          op      feeds            reason      scheme      fan  std before -> after    by way of
------------------------------------------------------------------------------------------------------------------------
conv1          conv2d  leaky_relu(0.2)  activation  He          576       0.024 -> 0.0579   norm -> relu
conv2          conv2d  linear           add         Xavier  576+576       0.024 -> 0.0416   add
attn.qkv       linear  linear           attention   Xavier    64+64       0.024 -> 0.126    add
  3 x 64 rows          linear           attention   Xavier    64+64                0.125    add
attn.proj      linear  linear           add         Xavier    32+64           0    kept     add
  kept: exactly zero before: the author's intent
frozen         linear  linear           output      Xavier    32+64       0.024    skipped  add
  skipped: requires_grad is False
odd            linear  ?                unresolved  -             -       0.024             add
  unresolved: my_op is not in the table
both           linear  relu             mixed       He           32       0.024 -> 0.249    norm -> relu
  feeds several: relu; linear, add

Operations unknown to autoinit (1): my_op at odd (net.py:12)
Weights that no operation used (1): spare.weight
Note: the input was guessed: (1, 3, 32, 32)
Left as they are: 4 parameters (norm 2, embedding 1, uncalled 1).
planned 4, kept 1, skipped 1, unresolved 1; 53.2 K weights written; 123 ms
"""


def plain(report: Report, width: int, **options) -> str:
    return "\n".join(line.plain for line in render(report, width, **options)) + "\n"


def test_table_at_80_columns():
    assert plain(small_report(), 80) == GOLDEN_80


def test_table_at_120_columns_after_writing():
    assert plain(small_report(written=True), 120) == GOLDEN_120


@pytest.mark.parametrize("width", [64, 72, 80, 100, 120, 200])
@pytest.mark.parametrize("glyphs", [None, FANCY])
def test_no_line_is_wider_than_asked(width, glyphs):
    options = {} if glyphs is None else {"glyphs": glyphs}
    for line in render(small_report(), width, **options):
        assert len(line.plain) <= width, line.plain


def test_wrapped_names_lose_no_letter():
    name = "encoder.very_long_module_name.layers.3.self_attention.output_projection"
    report = Report(Plan((layer(name),), "Net", 1, "symbolic"), {name: stats(0.1)})
    lines = plain(report, 64).splitlines()
    head = next(line for line in lines if line.startswith("layer"))
    cells = [line[: head.index("feeds")].strip() for line in lines[lines.index(head) :]]
    assert name in "".join(cells)
    assert name not in cells


def test_str_is_plain_text_and_matches_the_render():
    report = small_report()
    assert str(report) + "\n" == plain(report, 100)
    assert str(report).isascii()


def test_a_plan_prints_as_the_table_of_a_report_whose_weights_are_not_known_yet(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    plan = small_report().plan
    row = next(line for line in str(plan).splitlines() if line.startswith(plan.layers[0].name))
    assert f"- -> {plan.layers[0].std:.3g}" in row
    assert "nothing written" in str(plan)
    text = io.StringIO()
    plan.print(file=text)
    assert text.getvalue() == str(plan) + "\n"


def test_a_pipe_gets_no_control_codes(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    text = io.StringIO()
    small_report().print(file=text)
    assert text.getvalue() == plain(small_report(), 100)


def test_a_terminal_gets_colour_that_no_background_hides():
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, color_system="truecolor", width=80, _environ={})
    small_report(written=True).print(console=console)
    codes = {int(code) for run in re.findall(r"\x1b\[([\d;]*)m", text.getvalue()) for code in run.split(";") if code}
    assert codes, "no colour at all"
    assert codes <= {0, 1, 2, 31, 32, 35, 36}, "bold, dim, red, green, magenta, cyan only"


def test_rich_console_prints_the_report_itself():
    text = io.StringIO()
    Console(file=text, width=80).print(small_report())
    assert [line.rstrip() for line in text.getvalue().splitlines()] == GOLDEN_80.splitlines()


def test_json_says_everything():
    document = json.loads(small_report(written=True).to_json())
    assert set(document) == {
        "version", "model", "parameters", "tier", "method", "residual", "seed", "written", "seconds", "counts",
        "layers", "recipe", "rest", "others", "unsupported", "notes", "warnings",
    }  # fmt: skip
    assert document["version"] == 1
    assert (document["model"], document["parameters"], document["tier"]) == ("Net", 11_689_512, "symbolic")
    assert (document["method"], document["residual"], document["seed"]) == ("nonlinearity", "keep", 7)
    assert document["written"] is True
    assert document["seconds"] == 0.1234
    assert document["counts"] == {"planned": 4, "kept": 1, "skipped": 1, "unresolved": 1}
    assert document["unsupported"] == ["my_op at odd (net.py:12)"]
    assert document["notes"] == ["the input was guessed: (1, 3, 32, 32)"]
    assert document["others"][2] == {"name": "embed.weight", "shape": [10, 64], "kind": "embedding", "note": ""}
    first = document["layers"][0]
    assert set(first) == {field.name for field in dataclasses.fields(LayerPlan)} | {"before", "after"}
    assert first["params"] == {"negative_slope": 0.2}
    assert first["shape"] == [64, 64, 3, 3]
    assert first["before"] == {
        "numel": 100, "mean": 0.0, "std": 0.024, "minimum": -0.048, "maximum": 0.048, "zeros": 0.0, "nonfinite": 0,
        "sampled": False,
    }  # fmt: skip
    assert first["after"]["std"] == 0.0579
    fused = document["layers"][2]
    assert [each["rows"] for each in fused["slices"]] == [[[0, 64]], [[64, 128]], [[128, 192]]]
    assert document["layers"][3]["after"] is None
    assert document["layers"][6]["alternatives"][1]["reason"] == "add"


def test_json_of_a_report_that_wrote_nothing():
    document = json.loads(small_report().to_json())
    assert document["written"] is False
    assert document["seed"] is None
    assert all(each["after"] is None for each in document["layers"])


def test_json_has_no_numbers_that_json_lacks():
    broken = dataclasses.replace(stats(0.1), std=math.nan, maximum=math.inf, nonfinite=3)
    report = Report(Plan((layer("a"),), "Net", 1, "symbolic"), {"a": broken})
    text = report.to_json()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert json.loads(text)["layers"][0]["before"]["std"] is None
    assert " nan " in str(report)


def test_markdown_lists_every_layer_and_slice():
    lines = small_report().to_markdown().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + 7 + 3
    assert {row.count("|") for row in rows} == {10}
    assert "| `conv1` | conv2d | leaky_relu(0.2) | activation | He | 576 | 0.024 | 0.0578 |  |" in rows


def test_markdown_escapes_what_would_break_the_table():
    report = Report(Plan((layer("a", status="kept", note="x | y\nz"),), "Net", 1, "symbolic"), {})
    assert "kept: x \\| y z |" in report.to_markdown()


def test_an_empty_plan_says_so():
    text = str(Report(Plan((), "Identity", 0, "symbolic"), {}))
    assert "No weight layers" in text
    assert "planned 0, kept 0, skipped 0, unresolved 0; nothing written" in text


def block_layers(count: int) -> list[LayerPlan]:
    return [layer(f"blocks.{index}.{leaf}") for index in range(count) for leaf in ("attn.qkv", "mlp.fc1")]


def long_report(count: int) -> Report:
    layers = (layer("stem"), *block_layers(count), layer("head"))
    return Report(Plan(layers, "Net", 1, "symbolic"), {each.name: stats(0.1) for each in layers})


def test_equal_blocks_share_a_row_when_there_are_many():
    text = plain(long_report(40), 120)
    assert re.search(r"blocks\.\{0-39\}\.attn\.qkv +x40 ", text)
    assert re.search(r"blocks\.\{0-39\}\.mlp\.fc1 +x40 ", text)
    assert "planned 82" in text


def test_full_shows_every_layer():
    text = plain(long_report(40), 120, full=True)
    assert len(re.findall(r"^  attn\.qkv ", text, re.MULTILINE)) == 40
    assert "blocks.17\n" in text


def test_collapsing_keeps_apart_what_differs():
    layers = block_layers(40)
    layers[20] = dataclasses.replace(layers[20], nonlinearity="gelu")
    report = Report(Plan(tuple(layers), "Net", 1, "symbolic"), {})
    rows = {row.name: row.count for row in collapse(rows_of(report, full=False))}
    assert rows == {"blocks.{0-9,11-39}.attn.qkv": 39, "blocks.{0-39}.mlp.fc1": 40, "blocks.10.attn.qkv": 1}


def test_collapsing_along_two_numbers():
    layers = tuple(layer(f"layers.{a}.experts.{b}.w1") for a in range(3) for b in range(4))
    rows = collapse(rows_of(Report(Plan(layers, "Net", 1, "symbolic"), {}), full=False))
    assert [(row.name, row.count) for row in rows] == [("layers.{0-2}.experts.{0-3}.w1", 12)]


def test_a_collapsed_row_shows_how_far_its_values_spread():
    layers = tuple(layer(f"blocks.{index}") for index in range(61))
    before = {each.name: stats(0.1 if index else 0.2) for index, each in enumerate(layers)}
    assert "0.1..0.2" in plain(Report(Plan(layers, "Net", 1, "symbolic"), before), 100)


def test_grouping_by_numbered_block():
    names = ["stem", "layer1.0.conv1", "layer1.0.downsample.0", "layer1.1.conv1", "up.conv1", "up.conv2", "fc"]
    report = Report(Plan(tuple(layer(name) for name in names), "Net", 1, "symbolic"), {})
    grouped = [(header, [row.name for row in rows]) for header, rows in group(rows_of(report, full=True))]
    assert grouped == [
        ("", ["stem"]),
        ("layer1.0", ["conv1", "downsample.0"]),
        ("", ["layer1.1.conv1"]),
        ("up", ["conv1", "conv2"]),
        ("", ["fc"]),
    ]


def test_columns_give_way_in_order_and_never_below_their_least():
    columns = [Column("a", least=10), Column("b", least=4)]
    lines = [[Cell("x" * 30), Cell("y" * 6)]]
    natural = natural_widths(columns, lines)
    assert natural == [30, 6]
    assert fit(columns, natural, 28) == [20, 6]
    assert fit(columns, natural, 5) == [10, 4]
    wrapped = [text.plain for text in lay_out(columns, [20, 6], lines[0])]
    assert wrapped == ["x" * 20 + "  yyyyyy", " " * 0 + "x" * 10]


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "0"), (999, "999"), (1_000, "1 K"), (11_689_512, "11.7 M"), (1_240_000_000, "1.24 B")],
)
def test_counts(value, words):
    assert wording.count(value) == words


@pytest.mark.parametrize(("mode", "words"), [("fan_in", "576"), ("fan_out", "out 64.5"), ("fan_avg", "576+64.5")])
def test_fans(mode, words):
    assert wording.fan(mode, 576.0, 64.5) == words


def test_spread():
    assert wording.spread((0.100, 0.104)) == "0.102"
    assert wording.spread((0.1, 0.3)) == "0.1..0.3"
    assert wording.spread((None,)) == "-"
    assert wording.spread((math.nan, 0.1)) == "nan"


@pytest.mark.parametrize("part", [".".join(["1"] * 3000), "1" * 5000, "\u0661" * 20])
def test_names_of_very_many_numbers_or_digits_cost_no_more_than_their_length(part):
    """Each of 3,000 numbers took a copy of the whole name: 240 kB of names took 6 GB. int() refuses 5,000 digits."""
    names = [f"{end}.{part}" for end in range(40)]
    tracemalloc.start()
    try:
        found = runs(names, [0] * 40)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == [(f"{{0-39}}.{part}", tuple(range(40)))]
    assert peak < 10_000_000
