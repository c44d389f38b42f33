"""The command line, end to end: what it prints, what it writes, how it fails."""

import errno
import io
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from rich.console import Console
from safetensors.torch import load_file
from torch import nn

from autoinit import demo, saving
from autoinit._version import __version__
from autoinit.cli import main
from tests.shared.command_line import refused, run

NETS = """\
from torch import nn

class Block(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.lrelu = nn.LeakyReLU(0.2)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return self.conv2(self.lrelu(self.conv1(x))) + x
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUTOINIT_DEBUG", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "nets.py").write_text(NETS)
    torch.save(nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 4)), "model.pt")
    return tmp_path


def test_version():
    assert run("--version").stdout == f"autoinit, version {__version__}\n"


@pytest.mark.parametrize("command", ["report", "apply", "demo", "completion"])
def test_help(command):
    assert "Usage: autoinit" in run(command, "--help").stdout


def test_report_of_a_saved_model(here):
    before = Path("model.pt").read_bytes()
    result = run("report", "model.pt")
    assert "Sequential (model.pt): 1.35 K parameters" in result.stdout
    assert "nothing written" in result.stdout
    assert "\x1b" not in result.stdout
    assert result.stdout.isascii()
    assert Path("model.pt").read_bytes() == before


def test_report_of_the_residual_block_as_json(here):
    document = json.loads(run("report", "nets.py:Block", "--arg", "width=16", "--format", "json").stdout)
    first, second = document["layers"]
    assert (first["name"], first["nonlinearity"], first["params"]) == ("conv1", "leaky_relu", {"negative_slope": 0.2})
    assert (first["reason"], first["scheme"], first["fan_in"]) == ("activation", "he", 144.0)
    assert first["std"] == pytest.approx((2 / 1.04 / 144) ** 0.5)
    assert (second["name"], second["nonlinearity"], second["reason"]) == ("conv2", "linear", "add")
    assert second["std"] == pytest.approx((2 / (144 + 144)) ** 0.5)


def test_report_of_several_models_as_one_document(here):
    documents = json.loads(run("report", "model.pt", "nets.py:Block", "--format", "json").stdout)
    assert [each["model"] for each in documents] == ["Sequential (model.pt)", "Block (nets.py:Block)"]


def test_report_as_markdown_to_a_file(here):
    result = run("report", "model.pt", "--format", "markdown", "--output", "report.md")
    assert result.output == ""
    assert "| `0` | linear | relu | activation | He | 16 |" in Path("report.md").read_text()


def test_quiet_says_nothing(here):
    assert run("report", "model.pt", "--quiet").output == ""


def test_verbose_says_how_long_it_took(here):
    lines = run("report", "model.pt", "--verbose").stderr.splitlines()
    assert [line.split(":")[0] for line in lines] == ["loading model.pt", "analysing model.pt"]


def test_options_reach_the_plan(here):
    options = ["--skip", "2", "--mode", "fan_out", "--distribution", "uniform", "--input-shape", "5,16"]
    document = json.loads(run("report", "model.pt", "--format", "json", *options).stdout)
    first, second = document["layers"]
    assert (first["mode"], first["distribution"], second["status"]) == ("fan_out", "uniform", "skipped")
    assert document["tier"] == "recorded"


def test_inputs_of_a_dtype(here):
    (here / "text.py").write_text(
        "from torch import nn\n"
        "def build():\n    return nn.Sequential(nn.Embedding(11, 8), nn.Linear(8, 4), nn.ReLU())\n"
    )
    document = json.loads(run("report", "text.py:build", "--input-shape", "2,5:int64", "--format", "json").stdout)
    assert [each["name"] for each in document["layers"]] == ["1"]


TWO = """\
from torch import nn

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(16, 256), nn.Linear(16, 256)

    def forward(self, x, y):
        return self.left(x).relu() + self.right(y).relu()
"""


@pytest.mark.parametrize("method", ["signal", "data"])
def test_methods_draw_the_values_of_inputs_given_by_their_shapes(here, method):
    """For numbers of second moment 1 a sum of 16 products has std 1 if the weights' is 1/4; for zeros, never."""
    (here / "two.py").write_text(TWO)
    shapes = ["--input-shape", "512,16", "--input-shape", "512,16:float32"]
    document = json.loads(run("report", "two.py:Two", *shapes, "--method", method, "--format", "json").stdout)
    assert [each["std"] for each in document["layers"]] == pytest.approx([0.25, 0.25], rel=0.1)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_apply_writes_a_state_dict(here, suffix):
    before = Path("model.pt").read_bytes()
    result = run("apply", "model.pt", "-o", f"out{suffix}", "--seed", "3")
    assert result.stderr == f"wrote out{suffix}\n"
    assert "weights written" in result.stdout
    state = load_file(f"out{suffix}") if suffix == ".safetensors" else torch.load(f"out{suffix}")
    assert set(state) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    expected = (2 / 16) ** 0.5
    assert float(state["0.weight"].std()) == pytest.approx(expected, abs=4 * expected / (2 * 16 * 64) ** 0.5)
    assert not state["0.bias"].any()
    assert Path("model.pt").read_bytes() == before


def test_apply_with_a_seed_writes_the_same_values_again(here):
    run("apply", "model.pt", "-o", "a.pt", "--seed", "3", "-q")
    run("apply", "model.pt", "-o", "b.pt", "--seed", "3", "-q")
    first, second = torch.load("a.pt"), torch.load("b.pt")
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_what_apply_wrote_loads_as_weights(here):
    run("apply", "nets.py:Block", "-o", "w.safetensors", "-q")
    run("report", "nets.py:Block", "--weights", "w.safetensors")


def test_apply_never_writes_over_its_input(here):
    os.symlink("model.pt", "link.pt")
    os.link("model.pt", "hard.pt")
    before = Path("model.pt").read_bytes()
    for output in ("model.pt", "./model.pt", "link.pt", "hard.pt"):
        assert "is the input model.pt; name another output, or say --in-place" in refused(
            "apply", "model.pt", "-o", output
        )
    assert "say where to write" in refused("apply", "model.pt")
    assert Path("model.pt").read_bytes() == before


def test_apply_never_writes_over_its_weights_file(here):
    run("apply", "nets.py:Block", "-o", "w.pt", "-q")
    assert "is the input w.pt" in refused("apply", "nets.py:Block", "--weights", "w.pt", "--force", "-o", "w.pt")


def test_apply_in_place_keeps_the_kind_of_file(here):
    old = torch.load("model.pt", weights_only=False)
    run("apply", "model.pt", "--in-place", "-q", "--seed", "1")
    new = torch.load("model.pt", weights_only=False)
    assert isinstance(new, nn.Sequential)
    assert not torch.equal(old[0].weight, new[0].weight)


def test_apply_in_place_spares_what_a_checkpoint_holds_beside(here):
    torch.save({"epoch": 3, "model": nn.Linear(3, 4)}, "ckpt.pt")
    result = run("apply", "ckpt.pt", "--in-place", code=2)
    assert "error: ckpt.pt is a checkpoint, which writing weights would destroy" in result.stderr


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("x.txt", "weights are written to .safetensors, .pt, .pth, not '.txt'"),
        ("x.onnx", "not '.onnx'"),
        ("missing/x.pt", "missing/x.pt cannot be written: No such file or directory"),
    ],
)
def test_outputs_that_cannot_be(here, output, message):
    assert message in refused("apply", "model.pt", "-o", output)


def stop(*args, **kwargs):
    raise KeyboardInterrupt


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def half(state, path, *args, **kwargs):
    Path(path).write_bytes(b"half")
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("target", "name", "fault", "code", "said"),
    [
        (os, "replace", stop, 130, "interrupted"),
        (os, "replace", full, 2, "out.pt cannot be written: No space left on device"),
        (os, "fsync", full, 2, "out.pt cannot be written: No space left on device"),
        (torch, "save", half, 130, "interrupted"),
        (torch, "save", full, 2, "out.pt cannot be written: No space left on device"),
    ],
)
@pytest.mark.parametrize("existing", [None, b"precious"])
def test_an_interrupted_write_leaves_no_half_file(here, monkeypatch, target, name, fault, code, said, existing):
    if existing is not None:
        Path("out.pt").write_bytes(existing)
    before = {path.name: path.read_bytes() for path in here.iterdir() if path.is_file()}
    monkeypatch.setattr(target, name, fault)
    result = run("apply", "model.pt", "-o", "out.pt", "-q", code=code)
    assert said in result.stderr
    assert {path.name: path.read_bytes() for path in here.iterdir() if path.is_file()} == before


def test_an_interrupted_write_in_place_leaves_the_input_intact(here, monkeypatch):
    before = Path("model.pt").read_bytes()
    monkeypatch.setattr(torch, "save", half)
    run("apply", "model.pt", "--in-place", "-q", code=130)
    assert Path("model.pt").read_bytes() == before
    assert sorted(path.name for path in here.glob("*model*")) == ["model.pt"]


def test_replacing_keeps_permissions_and_links(here):
    Path("real.pt").write_bytes(b"old")
    Path("real.pt").chmod(0o640)
    os.symlink("real.pt", "link.pt")
    with saving.replacing(Path("link.pt")) as temporary:
        temporary.write_bytes(b"new")
    assert Path("link.pt").is_symlink()
    assert Path("real.pt").read_bytes() == b"new"
    assert stat.S_IMODE(Path("real.pt").stat().st_mode) == 0o640


def test_tied_weights_go_into_safetensors_under_both_names(here):
    (here / "tied.py").write_text(
        "from torch import nn\ndef build():\n    m = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))\n"
        "    m[2].weight = m[0].weight\n    return m\n"
    )
    run("apply", "tied.py:build", "-o", "w.safetensors", "-q")
    state = load_file("w.safetensors")
    assert torch.equal(state["0.weight"], state["2.weight"])
    run("report", "tied.py:build", "--weights", "w.safetensors", "-q")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("report",), "Missing argument 'SPEC...'. (see `autoinit report --help`)"),
        (("report", "nope.pt"), "nope.pt: no such file"),
        (("report", "model.pt", "--mode", "fan"), "Invalid value for '--mode'"),
        (("report", "model.pt", "--input-shape", "3,x"), "'3,x' is not a shape like 1,3,224,224"),
        (("report", "model.pt", "--input-shape", "3,16:int99"), "'int99' is no dtype of an input"),
        (("report", "nets.py:Block", "--arg", "width"), "'width' is not of the form key=value"),
        (("report", "model.pt", "--only", "zzz"), "zzz"),
        (("report", "nets.py:Blok"), "did you mean 'Block'"),
        (("reprot",), "No such command 'reprot'"),
        (("completion", "tcsh"), "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(here, arguments, message):
    assert message in refused(*arguments)


def test_a_model_that_cannot_be_traced_says_why_without_a_traceback(here):
    (here / "bad.py").write_text(
        "from torch import nn\nclass Bad(nn.Linear):\n    def __init__(self):\n        super().__init__(2, 2)\n"
        "    def forward(self, x):\n        raise RuntimeError('not today')\n"
    )
    result = run("report", "bad.py:Bad", code=2)
    assert result.stderr.startswith("error: Bad could not be traced")
    assert "not today" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("how", ["option", "environment"])
def test_tracebacks_on_request(here, monkeypatch, how):
    arguments = ["report", "nope.pt"]
    if how == "option":
        monkeypatch.setenv("AUTOINIT_DEBUG", "")
        arguments.append("--traceback")
    else:
        monkeypatch.setenv("AUTOINIT_DEBUG", "1")
    result = CliRunner().invoke(main, arguments)
    assert type(result.exception).__name__ == "LoadError"


def test_an_unforeseen_failure_is_one_line(here, monkeypatch):
    monkeypatch.setattr("autoinit.api.report", lambda *args, **options: 1 / 0)
    assert "unexpected ZeroDivisionError: division by zero (AUTOINIT_DEBUG=1" in refused("report", "nets.py:Block")


def test_a_failure_on_a_file_is_said_of_the_file(here, monkeypatch):
    monkeypatch.setattr("autoinit.api.report", lambda *args, **options: 1 / 0)
    said = refused("report", "model.pt")
    assert said.startswith("model.pt holds a model that cannot be analysed: ZeroDivisionError: division by zero; ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell, monkeypatch):
    monkeypatch.setattr("click.shell_completion.BashComplete._check_version", staticmethod(lambda: None))
    assert "_AUTOINIT_COMPLETE" in run("completion", shell).stdout


def test_demo_shows_the_three_rows_and_the_three_ways():
    text = io.StringIO()
    demo.run(Console(file=text, width=100, highlight=False))
    shown = text.getvalue()
    assert "\x1b" not in shown
    for name in ("block.conv1", "block.conv2", "head"):
        assert sum(line.strip().startswith((name, f"- {name}")) for line in shown.splitlines()) == 3
    ratios = [line.split() for line in shown.splitlines() if line.startswith("    ") and line.split()[-1][0].isdigit()]
    for _, default, _, ours in ratios[-3:]:
        assert float(default) < 0.5, "torch's default: at most 1/3 of the power"
        assert 0.8 < float(ours) < 1.2


def test_demo_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    demo.run(Console(file=io.StringIO()))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_module_runs_and_pipes_without_control_codes(here):
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "FORCE_COLOR")}
    done = subprocess.run(
        [sys.executable, "-m", "autoinit", "report", "model.pt"], capture_output=True, env=environment, check=True
    )
    assert b"Sequential (model.pt)" in done.stdout
    assert b"\x1b" not in done.stdout
    assert done.stderr == b""


def test_the_command_line_itself_imports_no_torch():
    code = (
        "import importlib.util, sys, types\n"
        "spec = importlib.util.find_spec('autoinit')\n"
        "package = types.ModuleType('autoinit'); package.__path__ = list(spec.submodule_search_locations)\n"
        "sys.modules['autoinit'] = package\n"
        "import autoinit.cli\n"
        "assert not {'torch', 'rich', 'networkx', 'numpy'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_demo_fits_80_columns_and_ends_with_the_page(tmp_path):
    text = io.StringIO()
    demo.run(Console(file=text, width=80, highlight=False), page=tmp_path / "a b.html")
    lines = text.getvalue().splitlines()
    assert lines[-1] == f"The network's graph:  {(tmp_path / 'a b.html').as_uri()}"
    assert max(map(len, lines[:-1])) <= 80
    assert all(line[:1] in (" ", "-", "") or line[0].isalpha() for line in lines[:-1])
    assert "block.conv1" in (tmp_path / "a b.html").read_text()


def test_a_page_that_cannot_be_written_is_said_before_the_demo(tmp_path):
    assert "cannot be written" in refused("demo", "--html", tmp_path / "none" / "page.html")
