"""What a page is made of, without a browser: boxes, kinds, tables of notebooks, the commands that write it."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from autoinit import check, plan, report, trace
from autoinit.cli import main
from autoinit.reporting.pages._boxes import MOST, ModuleBox, boxed
from autoinit.signal import propagate
from autoinit.tracing.flow import Flow, FlowOp, flow_of
from tests.shared.pages import document_of


def flow(*ops: tuple[str, tuple[int, ...]]) -> Flow:
    """Operations by module and by what they read, all called `op`."""
    return Flow(
        tuple(FlowOp(f"{module}.{at}", "op", "transparent", module, reads) for at, (module, reads) in enumerate(ops))
    )


def told(box: ModuleBox) -> list[object]:
    """Labels and counts of what is in a box, operations as their places."""
    return [(item.label, item.times, told(item)) if isinstance(item, ModuleBox) else item for item in box.items]


TWICE = flow(("", ()), ("b.0", (0,)), ("b.0", (1,)), ("b.1", (2,)), ("b.1", (3,)), ("", (4,)))


def test_equal_neighbours_are_one_box_and_their_chain_is_no_loop():
    """0 -> [1 -> 2] -> [3 -> 4] -> 5: drawn as 0 -> [1 -> 2] -> 5, without an edge from 2 back to 1."""
    made = boxed(TWICE, ["op"] * 6)
    assert told(made.root) == [0, ("b.{0-1}", 2, [1, 2]), 5]
    assert made.drawn == (0, 1, 2, 1, 2, 5)
    assert set(made.edges) == {(0, 1), (1, 2), (2, 5)}


def test_a_mark_keeps_blocks_apart():
    made = boxed(TWICE, ["op", "op", "op", "op", "faulty", "op"])
    assert told(made.root) == [0, ("b", 1, [("0", 1, [1, 2]), ("1", 1, [3, 4])]), 5]
    assert set(made.edges) == {(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)}


def test_wires_within_keep_blocks_apart():
    """Both have two operations, but the second block's do not read each other."""
    made = boxed(flow(("", ()), ("b.0", (0,)), ("b.0", (1,)), ("b.1", (2,)), ("b.1", (2,))), ["op"] * 5)
    assert told(made.root) == [0, ("b", 1, [("0", 1, [1, 2]), ("1", 1, [3, 4])])]


def test_other_names_keep_blocks_apart():
    made = boxed(flow(("up", ()), ("up", (0,)), ("down", (1,)), ("down", (2,))), ["op"] * 4)
    assert told(made.root) == [("up", 1, [0, 1]), ("down", 1, [2, 3])]


def test_repeats_within_repeats():
    """Two stages of two blocks of two operations."""
    modules = [f"s.{stage}.{block}" for stage in range(2) for block in range(2) for _ in range(2)]
    made = boxed(flow(*((module, (at - 1,) if at else ()) for at, module in enumerate(modules))), ["op"] * 8)
    assert told(made.root) == [("s.{0-1}.{0-1}", 4, [0, 1])]
    assert set(made.edges) == {(0, 1)}
    assert set(made.drawn) == {0, 1}


def test_a_module_of_one_operation_is_no_box():
    assert told(boxed(flow(("a.b.c", ()), ("d", (0,))), ["op"] * 2).root) == [0, 1]


def test_each_call_of_a_module_that_is_called_twice_is_a_box():
    made = boxed(flow(("m", ()), ("m", (0,)), ("", (1,)), ("m", (2,)), ("m", (3,))), ["op"] * 5)
    assert told(made.root) == [("m", 1, [0, 1]), 2, ("m", 1, [3, 4])]


@pytest.mark.parametrize("count", [MOST, MOST + 1, 5000])
def test_no_box_holds_more_than_can_be_looked_at(count):
    root = boxed(flow(*(("", (at - 1,) if at else ()) for at in range(count))), ["op"] * count).root

    def widest(box: ModuleBox) -> int:
        return max(len(box.items), *(widest(item) if isinstance(item, ModuleBox) else 0 for item in box.items))

    assert widest(root) <= MOST
    assert (len(root.items) == count) == (count <= MOST)
    assert root.ops == tuple(range(count))


def test_a_flow_leaves_out_what_carries_no_signal():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)
            self.register_buffer("mask", torch.ones(4))

        def forward(self, x):
            return self.fc(x) * self.mask.abs()

    found = flow_of(trace(Masked()))
    assert [op.op for op in found.ops] == ["input", "linear", "mul", "output"]
    assert [op.reads for op in found.ops] == [(), (0,), (1,), (2,)]
    assert found.ops[1].params == ("fc.weight", "fc.bias")
    assert found.hidden > 0


class Kinds(nn.Module):
    """One weight of each kind, but for what is unresolved."""

    def __init__(self):
        super().__init__()
        for name in ("rectified", "smoothed", "added", "before", "gated", "gate", "query", "key", "value", "head"):
            self.add_module(name, nn.Linear(8, 8, bias=False))

    def forward(self, x):
        x = torch.relu(self.rectified(x))
        x = torch.tanh(self.smoothed(x))
        x = x + self.added(x)
        x = self.before(x)
        x = self.gated(x) * torch.sigmoid(self.gate(x))
        x = nn.functional.scaled_dot_product_attention(self.query(x), self.key(x), self.value(x))
        return self.head(x)


def test_kinds_of_weights():
    (shown,) = document_of(report(Kinds(), (2, 3, 8)).to_html())["models"]
    assert {layer["name"]: layer["kind"] for layer in shown["layers"]} == {
        "rectified": "rectifier", "smoothed": "smooth", "added": "add", "before": "linear", "gated": "gate",
        "gate": "smooth", "query": "attention", "key": "attention", "value": "attention", "head": "head",
    }  # fmt: skip
    assert "Here another signal is added" in shown["layers"][2]["walks"][0]["why"]


NASTY = "<b>&\"'\u202e"


def test_values_in_a_notebook_are_tables_whose_names_are_text():
    model = nn.Sequential()
    model.add_module(NASTY, nn.Linear(4, 8))
    model.add_module("act", nn.ReLU())
    with torch.no_grad():
        model[0].weight.mul_(50)
    for value in (report(model), plan(model), check(model), propagate(model, (2, 4))):
        text = value._repr_html_()
        assert text.startswith("<table><caption>")
        assert "&lt;b&gt;&amp;&quot;&#x27;\ufffd" in text
        assert "<b>" not in text
    assert trace(model)._repr_html_().startswith("<iframe ")
    assert 'sandbox="allow-scripts"' in trace(model)._repr_html_()


def test_a_notebook_shows_many_equal_layers_as_one():
    text = report(nn.Sequential(*(each for _ in range(50) for each in (nn.Linear(4, 4), nn.ReLU()))))._repr_html_()
    assert "×50" in text
    assert text.count("<tr>") == 2


def test_a_plan_keeps_its_flow_to_itself():
    """It is no part of the plan's JSON, of its equality, of its text."""
    made = plan(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    again = type(made).from_json(made.to_json())
    assert again == made
    assert (again.flow, "flow" in made.to_json(), "Flow" in repr(made)) == (None, False, False)
    assert document_of(again.to_html())["models"][0]["layers"][0]["feeds"] == "relu"


def test_commands_write_pages(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text("from torch import nn\nmodel = nn.Sequential(nn.Linear(8, 8), nn.ReLU())\n")
    done = CliRunner().invoke(main, ["report", "net.py:model", "--html", "a.html"])
    assert done.exit_code == 0
    assert "planned 1" in done.stdout
    assert "wrote a.html" in done.stderr
    done = CliRunner().invoke(
        main, ["check", "net.py:model", "--no-config", "--exit-zero", "--format", "html", "-o", "b.html"]
    )
    assert done.exit_code == 0
    for name in ("a.html", "b.html"):
        (shown,) = document_of(Path(name).read_text(encoding="utf-8"))["models"]
        assert [op["op"] for op in shown["ops"]] == ["input", "linear", "relu", "output"]
    refused = CliRunner().invoke(main, ["report", "net.py:model", "--html", "nowhere/a.html"])
    assert refused.exit_code == 2
    assert "nowhere/a.html cannot be written" in refused.stderr
