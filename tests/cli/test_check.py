"""`autoinit check` and `autoinit explain`, end to end: what they print and write, what they repair, how they fail."""

import json
import math
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from torch import nn

from autoinit.checking.rules.registry import rules
from autoinit.cli import _check_runs as running
from autoinit.cli import main
from autoinit.formats import FORMATS
from autoinit.methods.table import METHODS
from tests.shared.command_line import refused, run

NETS = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, first=2 ** 0.5, head=1.0):
        super().__init__()
        self.first = nn.Linear(64, 256)
        self.second = nn.Linear(256, 256)
        self.head = nn.Linear(256, 16)
        nn.init.normal_(self.first.weight, std=first / 64 ** 0.5)
        nn.init.kaiming_normal_(self.second.weight, nonlinearity="relu")
        nn.init.normal_(self.head.weight, std=head * (2 / 272) ** 0.5)
        for layer in (self.first, self.second, self.head):
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        print("a model that talks")
        return self.head(self.second(self.first(x).relu()).relu())


def good():
    print("a factory that talks")
    return Net()


def wide():
    return Net(first=20.0)


def mild():
    return Net(first=1.75)


def two_faults():
    net = Net(first=20.0)
    nn.init.constant_(net.second.weight, 0.05)
    return net


def raises():
    raise RuntimeError("the data is not there")


def number():
    return 3


def leaves():
    raise SystemExit(0)


class Opaque(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)

    def forward(self, x):
        raise RuntimeError("not today")


class Leaves(Opaque):
    def forward(self, x):
        raise SystemExit(0)
"""
WIDE_LINE = 1 + next(number for number, line in enumerate(NETS.splitlines()) if "normal_(self.first" in line)
RAISES_LINE = 1 + next(number for number, line in enumerate(NETS.splitlines()) if "the data is not there" in line)
WIDE_STD, HE_STD = 20 / 8, math.sqrt(2 / 64)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUTOINIT_DEBUG", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "nets.py").write_text(NETS)
    torch.manual_seed(0)
    return tmp_path


def check(*arguments: str, code: int = 0):
    return run("check", *arguments, code=code)


def document(*arguments: str, code: int = 0):
    return json.loads(check(*arguments, "--format", "json", code=code).stdout)


def errors_said(result) -> list[str]:
    return [line.removeprefix("error: ") for line in result.stderr.splitlines() if line.startswith("error: ")]


def found(result: dict) -> list[tuple[str, str]]:
    return [(each["severity"], each["layer"]) for each in result["findings"]]


def configure(text: str, directory: Path = Path()) -> None:
    directory.joinpath("pyproject.toml").write_text(text)


def files() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path.cwd().iterdir() if path.is_file()}


def saved(factory: str = "two_faults") -> None:
    """A state dict with faults, in `weights.pt`."""
    space: dict = {"__name__": "nets"}
    exec(NETS, space)
    torch.save(space[factory]().state_dict(), "weights.pt")


# What is said


def test_a_clean_model_exits_0():
    result = check("nets.py:good")
    assert result.stdout == "nets.py:good (3 layers): clean\n\nclean: no findings in 3 layers\n"


def test_a_finding_names_both_stds_and_the_users_line():
    only = document("nets.py:wide", code=1)["models"][0]
    assert found(only) == [("error", "first")]
    finding = only["findings"][0]
    assert finding["expected_std"] == pytest.approx(HE_STD, rel=1e-6)
    assert finding["actual_std"] == pytest.approx(WIDE_STD, rel=4 / math.sqrt(2 * 64 * 256))
    assert finding["location"]["file"] == str(Path("nets.py").resolve())
    assert finding["location"]["line"] == WIDE_LINE
    assert check("nets.py:wide", code=1).stdout.splitlines()[1].startswith(f"nets.py:{WIDE_LINE}: INI")


def test_a_module_that_can_be_imported():
    Path("importable_nets.py").write_text(NETS)
    assert document("importable_nets:wide", code=1)["models"][0]["model"] == "importable_nets:wide"


def test_what_models_print_goes_to_standard_error():
    result = check("nets.py:good", "--format", "json")
    assert json.loads(result.stdout)["exit_code"] == 0
    assert "a factory that talks\na model that talks\n" in result.stderr


@pytest.mark.parametrize("form", FORMATS["check"])
def test_every_format_to_standard_output_and_to_a_file(form):
    shown = check("nets.py:wide", "--format", form, code=1).stdout
    to_file = check("nets.py:wide", "--format", form, "-o", "out", code=1)
    assert to_file.stdout == ""
    assert "note: wrote out: 1 error in 3 layers" in to_file.stderr
    for text in (shown, Path("out").read_text()):
        assert text.endswith("\n")
        assert "first" in text
        if form in ("json", "sarif"):
            json.loads(text)
        if form == "junit":
            assert ElementTree.fromstring(text).tag == "testsuites"
        if form == "github":
            assert text.startswith(f"::error file=nets.py,line={WIDE_LINE},")


def test_quiet_leaves_the_exit_code_alone():
    result = CliRunner().invoke(main, ["check", "importable:nothing", "nets.py:wide", "-q"], prog_name="autoinit")
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(errors_said(result)) == 1
    assert check("nets.py:wide", "-q", code=1).stdout == ""


def test_verbose_shows_infos_and_times():
    Path("biased.py").write_text(
        "from torch import nn\n\ndef build():\n    model = nn.Linear(64, 64)\n"
        "    nn.init.xavier_normal_(model.weight)\n    nn.init.constant_(model.bias, 0.5)\n    return model\n"
    )
    assert "INI201 info" not in check("biased.py:build").stdout
    result = check("biased.py:build", "-v")
    assert "INI201 info" in result.stdout
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == ["loading biased.py", "checking biased.py"]


# What counts


def test_fail_level():
    assert found(document("nets.py:mild")["models"][0]) == [("warning", "first")]
    assert document("nets.py:mild", "--fail-level", "warning", code=1)["models"][0]["ok"] is False


def test_exit_zero():
    assert document("nets.py:wide", "--exit-zero")["counts"]["error"] == 1


def test_select_and_ignore_by_prefix():
    code = document("nets.py:wide", code=1)["models"][0]["findings"][0]["code"]
    assert document("nets.py:wide", "--select", "INI2,INI3")["counts"]["error"] == 0
    assert document("nets.py:wide", "--ignore", code[:4])["counts"]["error"] == 0
    assert document("nets.py:wide", "--ignore", "INI1", "--select", code, code=1)["counts"]["error"] == 1


def test_ignores_of_layers():
    code = document("nets.py:wide", code=1)["models"][0]["findings"][0]["code"]
    assert document("nets.py:wide", "--ignore-layer", f"fir*:{code}")["counts"]["error"] == 0
    assert document("nets.py:wide", "--ignore-layer", f"head:{code}", code=1)["models"][0]["unused_ignores"]
    assert "is not of the form LAYER:CODES" in refused("check", "nets.py:wide", "--ignore-layer", "first")


def test_a_declared_recipe_and_a_tolerance():
    assert found(document("nets.py:mild", "--tolerance", "0.5")["models"][0]) == []
    assert "no recipe 'no_such_recipe'" in refused("check", "nets.py:good", "--recipe", "no_such_recipe")


def test_arguments_and_shapes_reach_the_model():
    result = document("nets.py:Net", "--arg", "first=20.0", "--input-shape", "5,64:float32", code=1)
    assert found(result["models"][0]) == [("error", "first")]


# Configuration


def test_the_models_of_the_configuration():
    configure(
        '[tool.autoinit]\nmodels = ["nets.py:good", {spec = "nets.py:Net", name = "wide", arguments = {first = 20.0}, '
        'input-shape = "2,64"}]\n'
        '[[tool.autoinit.ignores]]\nlayer = "fir*"\ncodes = ["INI1"]\nreason = "measured"\n'
        '[[tool.autoinit.ignores]]\nlayer = "head"\ncodes = ["INI1"]\nreason = "was 0.1"\n'
    )
    result = document()
    assert [(each["model"], len(each["suppressed"])) for each in result["models"]] == [("nets.py:good", 0), ("wide", 1)]
    assert result["counts"]["unused_ignores"] == 1
    assert "(was 0.1)" in result["models"][0]["unused_ignores"][0]
    only = document("wide")
    assert [each["model"] for each in only["models"]] == ["wide"]
    assert only["counts"]["unused_ignores"] == 0, "the ignore may be for the model that was not checked"
    assert document("wide", "--no-config", code=2)["models"] == []


def test_the_command_line_goes_before_the_configuration():
    configure('[tool.autoinit]\nmodels = ["nets.py:wide"]\nformat = "json"\noutput = "out.json"\nselect = ["INI2"]\n')
    check()
    assert json.loads(Path("out.json").read_text())["counts"]["error"] == 0
    assert check("--select", "INI1", "--format", "text", "-o", "-", code=1).stdout.startswith("nets.py:wide (3 layers)")


def test_modules_and_files_start_at_the_configuration(here, monkeypatch):
    configure('[tool.autoinit]\nmodels = ["nets_at_root:good", "nets.py:good"]\n')
    Path("nets_at_root.py").write_text(NETS)
    (here / "deep").mkdir()
    monkeypatch.chdir(here / "deep")
    before = list(sys.path)
    assert len(document()["models"]) == 2
    assert sys.path == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool.autoinit\n", "not TOML"),
        ('[tool.autoinit]\nmodel = ["nets.py:good"]\n', "did you mean models?"),
        ('[tool.autoinit]\nselect = ["INI9"]\nmodels = ["nets.py:raises"]\n', "no rule's code begins with 'INI9'"),
        ('[tool.autoinit]\nbaseline = "b.json"\nmodels = ["nets.py:raises"]\n', "b.json: no such baseline"),
        ('[tool.autoinit]\nselect = ["INI1"]\n', "lists none under [tool.autoinit] models"),
        ("", "no pyproject.toml lists any under [tool.autoinit] models"),
    ],
)
def test_a_configuration_that_cannot_be(text, message):
    configure(text)
    assert message in refused("check")


# Baselines


def test_a_baseline_from_the_first_run_on():
    configure('[tool.autoinit]\nmodels = ["nets.py:wide"]\nbaseline = "known.json"\n')
    result = check("--write-baseline", "known.json")
    assert "1 suppressed by the baseline" in result.stdout
    assert "note: wrote 1 findings to known.json" in result.stderr
    assert check().stdout == result.stdout

    Path("nets.py").write_text(NETS.replace("Net(first=20.0)", "Net(first=20.0, head=20.0)"))
    assert found(document(code=1)["models"][0]) == [("error", "head")]

    Path("nets.py").write_text(NETS.replace("Net(first=20.0)", "Net()"))
    repaired = document()
    assert repaired["counts"]["suppressed"] == 0
    assert "1 entry of the baseline" in repaired["notes"][0]


def test_writing_a_baseline_keeps_what_it_says_of_models_that_failed():
    configure('[tool.autoinit]\nmodels = ["nets.py:wide", "nets.py:two_faults"]\n')
    check("--write-baseline", "known.json")
    before = json.loads(Path("known.json").read_text())["entries"]
    Path("nets.py").write_text(NETS.replace("net = Net(first=20.0)", "net = Nets()"))
    check("--write-baseline", "known.json", code=2)
    assert json.loads(Path("known.json").read_text())["entries"] == before


def test_writing_over_what_is_no_baseline_is_said():
    Path("known.json").write_text("{}")
    assert (
        "nothing is kept of what stood there: known.json"
        in check("nets.py:wide", "--write-baseline", "known.json").stderr
    )
    check("nets.py:wide", "--baseline", "known.json")


# Repairs


def changed(before: dict, after: dict) -> set[str]:
    assert set(before) == set(after)
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_fix_writes_exactly_the_layers_with_findings():
    saved()
    before = torch.load("weights.pt")
    result = check("nets.py:good", "--weights", "weights.pt", "--fix", "--seed", "5", "--format", "json")
    only = json.loads(result.stdout)["models"][0]
    assert (only["fixed"], only["findings"]) == (["first", "second"], [])
    assert "wrote the weights with the fixed layers to weights.pt" in only["notes"]
    after = torch.load("weights.pt")
    assert changed(before, after) == {"first.weight", "second.weight"}
    for name, fan in (("first.weight", 64), ("second.weight", 256)):
        expected = math.sqrt(2 / fan)
        assert float(after[name].std()) == pytest.approx(expected, rel=4 / math.sqrt(2 * after[name].numel()))
    assert "clean" in check("nets.py:good", "--weights", "weights.pt").stdout


def test_fix_rewrites_a_saved_model_as_a_saved_model():
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64))
    for layer, std in ((model[0], 3.0), (model[2], (2 / 320) ** 0.5)):
        nn.init.normal_(layer.weight, std=std)
        nn.init.zeros_(layer.bias)
    torch.save(model, "model.pt")
    result = check("model.pt", "--fix")
    assert "fixed 1 layer: 0\n" in result.stdout
    after = torch.load("model.pt", weights_only=False)
    assert isinstance(after, nn.Sequential)
    assert changed(model.state_dict(), after.state_dict()) == {"0.weight"}
    bytes_after = Path("model.pt").read_bytes()
    check("model.pt", "--fix")
    assert Path("model.pt").read_bytes() == bytes_after, "nothing is left to write"


def test_fix_with_a_seed_gives_the_same_values_again():
    saved()
    check("nets.py:good", "--weights", "weights.pt", "--fix-to", "a.pt", "--seed", "5")
    check("nets.py:good", "--weights", "weights.pt", "--fix-to", "b.pt", "--seed", "5")
    check("nets.py:good", "--weights", "weights.pt", "--fix-to", "c.pt", "--seed", "6")
    assert changed(torch.load("a.pt"), torch.load("b.pt")) == set()
    assert changed(torch.load("a.pt"), torch.load("c.pt")) == {"first.weight", "second.weight"}


def test_fix_to_leaves_the_input_alone():
    saved()
    before = Path("weights.pt").read_bytes()
    result = check("nets.py:good", "--weights", "weights.pt", "--fix-to", "new.safetensors")
    assert "wrote the weights with the fixed layers to new.safetensors" in " ".join(result.stdout.split())
    assert Path("weights.pt").read_bytes() == before
    assert changed(torch.load("weights.pt"), load_file("new.safetensors")) == {"first.weight", "second.weight"}
    check("nets.py:good", "--weights", "new.safetensors")


def test_fix_of_a_factory_says_what_to_do_and_fix_to_does_it():
    before = files()
    result = check("nets.py:wide", "--fix", code=1)
    assert "nothing was fixed: code builds this model; paste the lines" in result.stdout
    assert files() == before
    check("nets.py:wide", "--fix-to", "new.pt")
    check("nets.py:wide", "--weights", "new.pt")


def test_fix_of_memory_that_nothing_wrote_forgets_how_it_was_allocated():
    Path("raw.py").write_text(
        "import torch\nfrom torch import nn\n\nclass Raw(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.weight = nn.Parameter(torch.empty(64, 64))\n\n"
        "    def forward(self, x):\n        return (x @ self.weight).relu()\n"
    )
    assert "INI00" in check("raw.py:Raw", code=1).stdout
    only = document("raw.py:Raw", "--fix-to", "new.pt")["models"][0]
    assert (only["fixed"], only["findings"]) == (["weight"], [])


def test_fix_of_a_clean_model_writes_nothing():
    check("nets.py:good", "--fix-to", "new.pt")
    assert not Path("new.pt").exists()


def test_fix_spares_what_the_baseline_or_an_ignore_takes_out():
    saved("wide")
    before = Path("weights.pt").read_bytes()
    check("nets.py:good", "--weights", "weights.pt", "--write-baseline", "known.json")
    check("nets.py:good", "--weights", "weights.pt", "--baseline", "known.json", "--fix")
    assert Path("weights.pt").read_bytes() == before


def test_fix_refuses_a_checkpoint_and_a_trained_model_and_says_so():
    model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 64))
    nn.init.constant_(model[0].weight, 0.1)
    torch.save({"epoch": 3, "model": model}, "checkpoint.pt")
    model[1].num_batches_tracked.fill_(7)
    torch.save(model, "trained.pt")
    before = files()
    said = [" ".join(check(name, "--fix", code=1).stdout.split()) for name in ("checkpoint.pt", "trained.pt")]
    assert "nothing was fixed: checkpoint.pt is a checkpoint, which writing weights would destroy" in said[0]
    assert "nothing was fixed: Sequential looks trained" in said[1]
    assert files() == before


def test_an_interrupted_repair_leaves_the_file_as_it_was(monkeypatch):
    saved()
    before = files()

    def stop(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    assert "interrupted" in check("nets.py:good", "--weights", "weights.pt", "--fix", code=130).stderr
    assert files() == before


# Failures


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nonexistent_nets:build", "no module 'nonexistent_nets' to import"),
        ("nets.py:wid", "nets.py has no 'wid'; did you mean 'wide'?"),
        ("nets.py:number", "nets.py:number gave a int; a factory gives a torch.nn.Module"),
        ("nets.py:leaves", "SystemExit"),
        ("nets.py:Leaves", "SystemExit"),
        ("none.pt", "no such file"),
        ("nets.py:Opaque", "Opaque could not be traced: RuntimeError at"),
        ("nets.py:Opaque", "not today (6 ways tried); Next: pass example_inputs"),
    ],
)
def test_a_model_that_fails_is_one_line_and_exit_2(spec, message):
    result = check(spec, code=2)
    (line,) = errors_said(result)
    assert line.startswith(f"{spec}: ")
    assert message in line
    assert "could not be checked" in result.stdout
    assert "Traceback" not in result.output


def test_a_factory_that_raises_is_told_with_its_line():
    (line,) = errors_said(check("nets.py:raises", code=2))
    assert line.endswith(f"nets.py:{RAISES_LINE}: RuntimeError: the data is not there")


@pytest.mark.parametrize("form", FORMATS["check"])
def test_a_model_that_fails_hides_no_findings_and_is_in_the_document(form):
    result = check("nets.py:raises", "nets.py:wide", "nets.py:Opaque", "--format", form, code=2)
    assert len(errors_said(result)) == 2
    for part in ("nets.py:raises", "the data is not there", "first", "nets.py:Opaque", "not today"):
        assert part in " ".join(result.stdout.replace("%3A", ":").split())
    if form == "json":
        whole = json.loads(result.stdout)
        assert [each["model"] for each in whole["failures"]] == ["nets.py:raises", "nets.py:Opaque"]
        assert (whole["exit_code"], whole["counts"]["error"]) == (2, 1)
    if form == "sarif":
        invocation = json.loads(result.stdout)["runs"][0]["invocations"][0]
        assert invocation["executionSuccessful"] is False
    if form == "junit":
        ElementTree.fromstring(result.stdout)


def test_findings_ignored_leave_a_failure_at_2():
    check("nets.py:raises", "nets.py:wide", "--exit-zero", code=2)


def test_an_unforeseen_failure_of_one_model_is_told_by_type(monkeypatch):
    real = running.check

    def failing(model, *args, name, **options):
        return 1 // 0 if name == "nets.py:good" else real(model, *args, name=name, **options)

    monkeypatch.setattr(running, "check", failing)
    result = check("nets.py:good", "nets.py:wide", code=2)
    (line,) = errors_said(result)
    assert line.startswith("nets.py:good: ZeroDivisionError: integer division or modulo by zero (--traceback shows")
    assert "nets.py:wide (3 layers): 1 error" in result.stdout


def test_tracebacks_on_request_stop_nothing(monkeypatch):
    monkeypatch.setenv("AUTOINIT_DEBUG", "")
    result = check("nets.py:raises", "nets.py:wide", "--traceback", code=2)
    assert "Traceback (most recent call last)" in result.stderr
    assert "nets.py:wide (3 layers): 1 error" in result.stdout


@pytest.mark.parametrize("option", ["-o", "--write-baseline", "--fix-to"])
def test_outputs_that_cannot_be_written_are_refused_before_the_check(option, monkeypatch):
    monkeypatch.setattr(running, "load", lambda *args, **options: pytest.fail("a model was loaded"))
    Path("folder.pt").mkdir()
    saved()
    configure('[tool.autoinit]\nmodels = ["nets.py:wide"]\n')
    assert "cannot be written: No such file or directory" in refused("check", option, "missing/out.pt")
    assert "folder.pt is a directory; name a file to write" in refused("check", option, "folder.pt")
    assert "nets.py is read by this run" in refused("check", option, "nets.py")
    assert "pyproject.toml is read by this run" in refused("check", option, "pyproject.toml")
    assert "weights.pt is read by this run" in refused("check", "--weights", "weights.pt", option, "weights.pt")
    assert "is no regular file" in refused("check", option, os.devnull)


def test_an_output_that_fails_in_the_end_exits_2(monkeypatch):
    def full(*args, **options):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "replace", full)
    assert "out.json cannot be written: No space left" in check("nets.py:wide", "-o", "out.json", code=2).stderr
    assert not Path("out.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name a model: no pyproject.toml lists any under [tool.autoinit] models"),
        (("nets.py:good", "--config", "none.toml"), "none.toml: cannot be read"),
        (("nets.py:good", "--config", "none.toml", "--no-config"), "exclude each other"),
        (("nets.py:good", "--baseline", "none.json"), "none.json: no such baseline"),
        (("nets.py:good", "--select", "INI1,XYZ"), "no rule's code begins with 'XYZ'"),
        (("nets.py:good", "--ignore", "INI110"), "did you mean INI1"),
        (("nets.py:good", "--tolerance", "2"), "tolerance=2.0; expected a number between 0 and 1"),
        (("nets.py:good", "--fail-level", "fatal"), "Invalid value for '--fail-level'"),
        (("nets.py:good", "--format", "xml"), "Invalid value for '--format'"),
        (("nets.py:good", "--input-shape", "2,64:int99"), "'int99' is no dtype of an input"),
        (("nets.py:good", "--fix-to", "out.bin"), "weights are written to .safetensors, .pt, .pth"),
        (("nets.py:good", "nets.py:wide", "--fix-to", "out.pt"), "out.pt can hold the weights of one model, not of 2"),
        (("nets.py:good", "--seed", "1"), "--seed is for --fix"),
        (("nets.py:good", "-o", "a", "--write-baseline", "./a"), "one file cannot hold two outputs"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(arguments, message):
    assert message in refused("check", *arguments)


def test_an_interrupt_exits_130_and_leaves_no_file(monkeypatch):
    def stop(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "check", stop)
    before = files()
    result = check("nets.py:good", "-o", "out.json", code=130)
    assert "error: interrupted" in result.stderr
    assert files() == before


def test_the_module_runs_without_control_codes():
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "FORCE_COLOR")}
    command = [sys.executable, "-m", "autoinit", "check", "nets.py:wide"]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith(b"nets.py:wide (3 layers): 1 error\n")
    assert b"\x1b" not in done.stdout


# Explanations


def test_explain_gives_the_documents_as_markdown():
    text = run("explain", "INI003", "ini101").stdout
    assert text.startswith("# INI003: zero weight that no gradient can leave\n\nSeverity: error.\n\n")
    assert text.endswith(
        f"\n\n# INI101: {rules()['INI101'].name}\n\nSeverity: by consequence.\n\n{rules()['INI101'].document}\n"
    )


@pytest.mark.parametrize("method", METHODS)
def test_explain_documents_every_method(method):
    text = run("explain", method.upper()).stdout
    assert text.startswith(f"# {method}: {METHODS[method].help}\n\n")
    assert len(text.split()) > 50


def test_explain_says_when_mirrored_helps_and_when_not():
    text = run("explain", "mirrored").stdout
    assert "## When to use it\n\nFor networks without norms that are deep" in text
    assert "## When not to\n\nWith norms everywhere there is nothing to gain" in text


def test_explain_lists_all_rules():
    rows = run("explain").stdout.splitlines()
    assert len(rows) == len(rules()) + 2
    assert len({len(row) for row in rows}) == 1
    assert [row.split("|")[1].strip() for row in rows[2:]] == list(rules())


def test_explain_in_a_terminal_is_rendered(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "# INI003" not in (text := run("explain", "INI003").stdout)
    assert "INI003: zero weight that no gradient can leave" in text


def test_explain_of_an_unknown_code():
    message = refused("explain", "INI003", "INI1O3")
    assert message.startswith("no rule 'INI1O3'; did you mean INI103? there are INI001, ")


def test_help_names_the_exit_codes():
    text = " ".join(check("--help").stdout.split())
    assert "Exit status: 0 clean, 1 findings at or above the fail level, 2 a model could not be checked." in text
