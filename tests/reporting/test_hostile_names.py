"""Names from a file are data: in every format they are shown, and none does anything."""

from __future__ import annotations

import ast
import json
import re
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from torch import nn

from autoinit import CoordinateCheck, check, formats, plan, resolve, scaling, trace
from autoinit._escaping import log_line, visible
from autoinit.api import report
from autoinit.checking._wording import expression, quoted
from autoinit.checking.findings import CheckFailure, CheckRun
from autoinit.cli import main
from autoinit.comparing.comparison import Comparison
from autoinit.comparing.trials import Trial
from autoinit.reporting.signals.states import states
from autoinit.signal import propagate
from tests.shared.pages import document_of, without_layout

PIECES = (
    "a", "\n", "\r", "\r\n", "\x1b[31m", "\x07", "\x00", "\x9b", "\u202e", "\u2028", "\xa0", "::error ::x",
    "##[group]", "`", "``", "|", "![x](http://x.y/z)", "[x](javascript:a)", "<img src=x onerror=a>", "<!--", "&lt;",
    "*b*", "_i_", "# h", "- l", "> q", "@someone", "http://x.y", "www.x.y", "]]>", "%0A", '"', "'", "{{", "\\", "é",
    "漢", "🙂", " ",
)  # fmt: skip
names = st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map("".join).filter(str.strip)


def named(name: str) -> nn.Sequential:
    """A model whose layer is called so, with a weight that is far too large."""
    model = nn.Sequential()
    model.add_module(name.replace(".", "_"), nn.Linear(6, 8))
    model.add_module("relu", nn.ReLU())
    model.add_module("head", nn.Linear(8, 2))
    with torch.no_grad():
        model[0].weight.mul_(40)
    return model


def shown(name: str) -> Iterator[tuple[formats.Kind, str, str]]:
    """(kind, format, text) of every form of what there is to say of the model."""
    model = named(name)
    result = check(model, name=name)
    run = CheckRun((result,), (CheckFailure(name, f"cannot be read: {name}"),), notes=(f"note of {name}",))
    assert result.findings
    values = {
        "report": [report(model), replace(report(model.state_dict()), name=name)],
        "check": run,
        "signal": states([propagate(model, (2, 6))]),
        "scaling": replace(scaling(model, width=2), notes=(f"note of {name}",)),
        "coordinates": CoordinateCheck(
            (1, 2), "sgd", 0.1, 1, {"scaled": {name.replace(".", "_"): (1.0, 2.0)}}, {"scaled": (1.0, 1.0)}
        ),
    }
    values["comparison"] = Comparison((Trial(name.replace(".", "_"), 0.1, 0, (1.0,), 1.0, "", 0.1),), 1, (0.1,))
    for kind, forms in formats.FORMATS.items():
        for form in forms:
            yield kind, form, formats.text(kind, values[kind], form)


def harmless(text: str) -> bool:
    """No character does anything."""
    return all(unicodedata.category(each) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for each in text if each != "\n")


def is_command(line: str) -> bool:
    return line.lstrip().startswith(("::", "##["))


@settings(derandomize=True, deadline=None, max_examples=40)
@given(names)
@example("\n::error ::x")
@example("::error ::x")
@example("`\n```\n![x](http://x.y/z)")
def test_no_name_does_anything_in_any_format(name):
    for kind, form, text in shown(name):
        text.encode()
        if form == "json":
            assert name.replace(".", "_") in _strings(json.loads(text)), kind
            continue
        if form == "sarif":
            json.loads(text)
            continue
        if form == "junit":
            ET.fromstring(text)
            continue
        if form == "html" and kind != "comparison":
            assert harmless("".join(_strings(document_of(text)))), kind
            assert not re.search(r"<img|<!--", without_layout(text)), kind
            text = text.partition("<script")[0]
        assert harmless(text), (kind, form)
        commands = [line for line in text.split("\n") if is_command(line)]
        if form == "github":
            assert all(line.startswith(("::error ", "::warning ", "::notice ")) for line in commands)
            assert len(commands) == len(check(named(name)).findings) + 1  # and the model that could not be read
        else:
            assert commands == [], (kind, form)
        if form == "markdown":
            tokens = list(_tokens(MarkdownIt("gfm-like", {"linkify": False}).parse(text)))
            kinds = {token.type for token in tokens}
            assert kinds.isdisjoint({"link_open", "image", "fence", "code_block", "blockquote_open", "hr", "em_open"})
            assert {token.content for token in tokens if token.type == "html_inline"} <= {"<br>"}
            blocks = [token.content for token in tokens if token.type == "html_block"]
            assert all(each.startswith(("<details>", "</details>")) for each in blocks)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(names)
@example("\n::error ::x")
@example("\x1b[31m\r")
def test_no_name_does_anything_in_what_a_value_prints(name):
    """What `print` shows of a dataflow, a resolution, a finding, a plan: one line for each that there is."""
    model = named(name)
    dataflow, findings = trace(model), check(model).findings
    for value, lines in [
        (dataflow, 1 + len(dataflow.graph)),
        *((each, 1) for each in resolve(dataflow)),
        *((each, 1) for each in findings),
        (plan(model), None),
    ]:
        text = str(value)
        assert harmless(text), type(value)
        assert not any(map(is_command, text.split("\n"))), type(value)
        assert lines is None or text.count("\n") == lines - 1


def _strings(value: object) -> set[str]:
    if isinstance(value, str):
        return {value}
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
    return set().union(*map(_strings, inner))


def _tokens(tokens):
    for token in tokens:
        yield token
        yield from _tokens(token.children or ())


@settings(derandomize=True, deadline=None)
@given(st.text())
def test_what_is_visible_keeps_its_length_and_holds_no_control(text):
    assert len(visible(text)) == len(text)
    assert harmless(visible(text))
    assert "\n" not in visible(text)
    assert not is_command(log_line(text))


def test_pictures_stand_for_controls():
    """Unicode's block of control pictures: U+2400 plus the code; U+2421 for delete."""
    assert visible("a\nb\x1b\x7f\u202e") == "a␊b␛␡\ufffd"
    assert visible("plain text, é 漢") == "plain text, é 漢"
    assert log_line("  ::error::x") == "  \ua789:error::x"
    assert log_line("##[group]x") == "\uff03#[group]x"
    assert log_line("a::b") == "a::b"


@pytest.mark.parametrize("key", ["a\n::error ::x", "a\rb", "\x1b[31mred", "::error ::x"])
@pytest.mark.parametrize("command", ["report", "apply", "check", "signal"])
def test_names_in_errors_are_one_harmless_line(tmp_path, monkeypatch, key, command):
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text("from torch import nn\nmodel = nn.Linear(3, 4)\n")
    torch.save({key: torch.zeros(2)}, "w.pt")
    given = ["-o", "out.pt"] if command == "apply" else ["--no-config"] if command == "check" else []
    result = CliRunner().invoke(main, [command, "net.py:model", "--weights", "w.pt", *given])
    assert result.exit_code == 2
    said = result.stderr.rstrip("\n")
    assert "does not fit Linear" in said
    assert harmless(said)
    assert "\n" not in said
    assert not is_command(said)


@settings(derandomize=True, deadline=None)
@given(names)
def test_a_name_in_code_to_paste_is_no_code(name):
    """The code is an attribute of the model, whatever the name: the same parameter, and nothing else is called."""
    model = named(name)
    param = f"{name.replace('.', '_')}.weight"
    tree = ast.parse(expression(param), mode="eval")
    assert eval(expression(param), {"__builtins__": {"getattr": getattr}, "model": model}) is model[0].weight
    assert all(isinstance(call.func, ast.Name) for call in ast.walk(tree) if isinstance(call, ast.Call))
    assert ast.literal_eval(quoted(name)) == name


def test_usual_names_in_code_to_paste_are_attributes():
    assert expression("layers.0.weight") == "model.layers[0].weight"
    assert expression("a.class.b") == "getattr(model.a, 'class').b"
    assert expression("") == "model"
    assert quoted("layers.0") == '"layers.0"'


def test_a_plan_of_hostile_names_is_read_again(tmp_path):
    """What is written for programs keeps the names as they are."""
    made = plan(named("a\n\x1b`|"))
    assert type(made).from_json(made.to_json())["a\n\x1b`|"].nonlinearity == "relu"
