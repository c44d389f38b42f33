"""`autoinit signal`, end to end: what it prints, what it writes, how it fails."""

import json
import sys
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from tests.shared import command_line

NETS = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.embed = nn.Linear(16, width)
        self.inner = nn.Linear(width, width)
        self.head = nn.Linear(width, 4)

    def forward(self, x):
        x = torch.relu(self.embed(x))
        return self.head(x + torch.relu(self.inner(x)))


def text():
    return nn.Sequential(nn.Embedding(500, 8), nn.Linear(8, 4))


def gates():
    return nn.Sequential(*(layer for _ in range(150) for layer in (nn.Linear(64, 128), nn.GLU())))


class Choosy(nn.Module):
    def forward(self, x):
        raise RuntimeError("not today")
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUTOINIT_DEBUG", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "nets.py").write_text(NETS)
    torch.manual_seed(0)
    torch.save(
        nn.Sequential(nn.Linear(16, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 8)), "model.pt"
    )
    return tmp_path


run = partial(command_line.run, "signal")
refused = partial(command_line.refused, "signal")


def document(*arguments: str):
    return json.loads(run(*arguments, "--format", "json").stdout)


def test_the_table_of_a_saved_model(here):
    before = Path("model.pt").read_bytes()
    result = run("model.pt", "--input-shape", "32,16")
    lines = result.stdout.splitlines()
    assert lines[0] == "autoinit signal  Sequential (model.pt): predicted"
    assert [line.split()[:2] for line in lines[4:7]] == [["0", "linear"], ["2", "linear"], ["4", "linear"]]
    assert "layers with q in [1/2, 2]  0 of 3 (0%)" in lines
    assert "\x1b" not in result.stdout
    assert result.stdout.isascii()
    assert Path("model.pt").read_bytes() == before


def test_torchs_default_in_numbers(here):
    (state,) = document("model.pt", "--input-shape", "32,16")["states"]
    rows = state["predicted"]["rows"]
    # Weights of variance 1 / (3 fan_in), biases the same, behind an input of second moment 1; ReLU halves.
    first = 1 / 3 + 1 / 48
    second = first / 6 + 1 / 768
    assert rows["0"]["q"] == pytest.approx(first, rel=0.1)
    assert rows["2"]["q"] == pytest.approx(second, rel=0.1)
    assert (state["label"], state["measured"]) == ("", None)


def test_measured_beside_predicted(here):
    result = run("model.pt", "--measure", "--input-shape", "256,16", "--seeds", "2")
    lines = result.stdout.splitlines()
    assert lines[0].endswith("predicted and measured")
    assert lines[2].split() == ["layer", "op", "q", "q", "measured", "s/q", "grad", "grad", "measured"]
    for line in lines[4:7]:
        _, _, q, measured, *_ = line.split()
        assert float(measured) == pytest.approx(float(q), rel=0.25)


def test_before_and_after_a_plan(here):
    found = document("nets.py:Net", "--method", "nonlinearity", "--input-shape", "64,16", "--mode", "fan_in")
    before, after = found["states"]
    assert found["model"] == "Net (nets.py:Net)"
    assert (before["label"], after["label"]) == ("before", "after")
    # He: variance 2 / fan_in, no bias. The branch's end, too, feeds a ReLU.
    assert after["predicted"]["rows"]["embed"]["q"] == pytest.approx(2, rel=0.1)
    assert before["predicted"]["rows"]["embed"]["q"] == pytest.approx(1 / 3 + 1 / 48, rel=0.25)


def test_what_is_measured_after_a_plan_has_the_planned_weights(here):
    arguments = ["model.pt", "--method", "signal", "--measure", "--input-shape", "256,16"]
    before, after = document(*arguments)["states"]
    assert after["predicted"]["rows"]["2"]["q"] == pytest.approx(1, rel=0.05)
    assert after["measured"]["rows"]["2"]["q"] == pytest.approx(1, rel=0.3)
    assert before["measured"]["rows"]["2"]["q"] < 0.1
    assert document(*arguments)["states"][1]["measured"]["rows"] == after["measured"]["rows"]


def test_options_refine_the_plan(here):
    with_, without = (
        document("model.pt", "--method", "nonlinearity", "--input-shape", "32,16", *more)["states"][1]["predicted"][
            "rows"
        ]
        for more in (["--skip", "2"], [])
    )
    assert with_["0"]["q"] == pytest.approx(without["0"]["q"], rel=0.1)
    assert with_["2"]["q"] < without["2"]["q"] / 3


def test_what_a_plan_notes_is_said(here):
    result = run("nets.py:gates", "--method", "data", "--input-shape", "16,64")
    (line,) = [line for line in result.stdout.splitlines() if "magnifies rounding" in line]
    assert line.startswith("Note: the model magnifies rounding: the output of ")
    before, after = document("nets.py:gates", "--method", "data", "--input-shape", "16,64")["states"]
    assert "magnifies rounding" not in " ".join(before["predicted"]["notes"])
    assert "magnifies rounding" in " ".join(after["predicted"]["notes"])


def test_plot_and_page_and_table_are_written(here):
    result = run("model.pt", "--plot", "signal.svg", "--html", "signal.html", "-o", "signal.txt", "--method", "signal")
    assert result.stdout == ""
    assert result.stderr.splitlines() == ["wrote signal.txt", "wrote signal.svg", "wrote signal.html"]
    assert ElementTree.parse("signal.svg").getroot().tag.endswith("svg")
    page = Path("signal.html").read_text()
    assert "<title>Signal of Sequential (model.pt)</title>" in page
    assert '"label":"before"' in page
    assert '"why":"Here relu bends the signal' in page
    assert Path("signal.txt").read_text().startswith("autoinit signal  Sequential (model.pt): before (predicted)")


def test_the_page_says_what_layers_feed_without_a_method_too(here):
    run("model.pt", "--html", "signal.html", "--quiet")
    page = Path("signal.html").read_text()
    assert '"label":""' in page
    assert '"feeds":"relu"' in page


@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_plots_in_other_formats(here, suffix):
    run("model.pt", "--plot", f"signal.{suffix}", "--quiet")
    assert Path(f"signal.{suffix}").stat().st_size > 1000


def test_quiet_says_nothing(here):
    assert run("model.pt", "--quiet", "--plot", "signal.svg").output == ""


def test_verbose_says_how_long_it_took(here):
    lines = run("model.pt", "--verbose", "--measure").stderr.splitlines()
    assert [line.rpartition(":")[0] for line in lines] == [
        "loading model.pt",
        "predicting the signal of model.pt",
        "measuring the signal of model.pt",
    ]


def test_inputs_of_a_dtype_are_made_up_where_they_are_floats(here):
    (state,) = document("model.pt", "--measure", "--input-shape", "256,16:float32")["states"]
    assert state["measured"]["rows"]["0"]["q"] == pytest.approx(1 / 3 + 1 / 48, rel=0.3)


def test_ids(here):
    (state,) = document("nets.py:text", "--input-shape", "16,5:int64", "--measure")["states"]
    for kind in ("predicted", "measured"):
        (row,) = state[kind]["rows"].values()
        # Rows of N(0, 1); weights and biases of variance 1 / (3 fan_in). Different ids share the biases alone.
        assert row["q"] == pytest.approx(1 / 3 + 1 / 24, rel=0.9)
        assert abs(row["s"]) < 0.5 * row["q"]
    assert "ids given by their shape are random" in state["measured"]["notes"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.pt"], "missing.pt: no such file"),
        (["model.pt", "--seeds", "3"], "--seeds is for --measure"),
        (["model.pt", "--residual", "depth"], "--residual is for --method, --recipe or --preset, which plan"),
        (["model.pt", "--plot", "signal.gif"], "signal.gif: a plot is written to .svg, .png, .pdf, not '.gif'"),
        (
            ["model.pt", "--plot", "signal"],
            "signal: a plot is written to .svg, .png, .pdf, not to a file without a suffix",
        ),
        (["model.pt", "--plot", "a.svg", "--html", "a.svg"], "one file cannot hold two outputs: a.svg, a.svg"),
        (["model.pt", "--html", "model.pt"], "model.pt is read by this run"),
        (["model.pt", "--html", "nowhere/a.html"], "nowhere/a.html cannot be written"),
        (["model.pt", "--input-shape", "4,16:int63"], "'int63' is no dtype of an input"),
        (["model.pt", "--method", "signal", "--only", "nothing"], "nothing"),
        (["nets.py:Choosy"], "Choosy could not be traced"),
    ],
)
def test_failures(here, arguments, said):
    files = sorted(path.name for path in here.iterdir())
    assert said in refused(*arguments)
    assert sorted(path.name for path in here.iterdir() if path.name != "__pycache__") == files


def test_without_matplotlib(here, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "pip install torch-autoinit[plot]" in refused("model.pt", "--plot", "signal.svg")


def test_help_names_what_a_spec_is():
    assert "timm:NAME, torchvision:NAME" in run("--help").stdout
