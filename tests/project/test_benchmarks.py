"""The benchmarks run, and their JSON has what their tables show. No time is asserted: that is for a quiet machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.shared.started import python

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "speed.py"


def speed(*arguments: str) -> subprocess.CompletedProcess[str]:
    return python(SCRIPT, *arguments, env={**os.environ, "COLUMNS": "200"})


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    file = tmp_path_factory.mktemp("speed") / "speed.json"
    done = speed("--models", "mlp", "--layers", "20", "--quick", "--json", str(file))
    assert done.returncode == 0, done.stderr
    assert "mlp, 20 layers" in done.stdout
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_times_every_contender_once_a_round(figures: dict[str, Any]) -> None:
    (mlp,) = figures["models"]
    # 20 layers of 128 x 128 weights and 128 biases.
    assert mlp["parameters"] == 20 * (128 * 128 + 128)
    assert mlp["seconds"].keys() == {"autoinit", "kaiming", "construction", "construction_unfilled"}
    assert all(len(values) == 1 and values[0] > 0 for values in mlp["seconds"].values())
    assert mlp["autoinit_over_kaiming"] == pytest.approx(mlp["seconds"]["autoinit"][0] / mlp["seconds"]["kaiming"][0])


def test_splits_the_time_into_stages(figures: dict[str, Any]) -> None:
    (mlp,) = figures["models"]
    assert list(mlp["stages"]) == ["trace", "resolve", "plan", "write"]
    assert all(value >= 0 for value in mlp["stages"].values())


def test_times_planning_by_size(figures: dict[str, Any]) -> None:
    assert [each["layers"] for each in figures["planning"]] == [10, 100]
    assert all(len(each["seconds"]) == 1 for each in figures["planning"])


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_measures_memory_in_a_process_of_its_own(figures: dict[str, Any]) -> None:
    (mlp,) = figures["memory"]
    assert mlp.keys() == {"name", "before_mb", "first_above_mb", "second_above_mb"}
    assert mlp["before_mb"] > 0
    assert mlp["first_above_mb"] >= 0


def test_says_which_targets_were_met(figures: dict[str, Any]) -> None:
    found = {each["what"]: each for each in figures["targets"]}
    assert "import over torch, s" in found
    for each in found.values():
        assert each["met"] == (each["measured"] <= each["limit"])
    over = figures["import"]["torch_and_autoinit"] - figures["import"]["torch"]
    assert found["import over torch, s"]["measured"] == pytest.approx(over)


def test_refuses_numbers_that_mean_nothing() -> None:
    """In an interpreter of its own, without a path to this repository."""
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(SCRIPT), "--repeats", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=alone)
    assert done.returncode == 2
    assert "--repeats" in done.stderr


def coverage(*arguments: str) -> subprocess.CompletedProcess[str]:
    wide = {**os.environ, "COLUMNS": "200"}
    return python(SCRIPT.parent / "coverage.py", "--library", "torchvision", *arguments, env=wide)


def test_coverage_of_a_slice_resumes_and_adds_up(tmp_path: Path) -> None:
    written, lines = tmp_path / "coverage.json", tmp_path / "coverage.jsonl"
    # Of the six, --offset 1 --every 2 leaves resnet18; resnet50, which is done; and vgg11, in which the process died.
    names = ("alexnet", "resnet18", "resnet34", "resnet50", "squeezenet1_0", "vgg11")
    known = {
        "library": "torchvision",
        "name": "resnet50",
        "state": "not constructible",
        "cause": "told",
        "kind": "library",
    }
    started = json.dumps({"library": "torchvision", "name": "vgg11", "state": "started"})
    lines.write_text(f'{json.dumps(known)}\n{started}\n{started}\n{{"library": "torchvi')
    done = coverage("--models", *names, "--offset", "1", "--every", "2", "--json", str(written), "--resume", str(lines))
    assert done.returncode == 0, done.stderr
    assert "not constructible torchvision resnet50: told" in done.stdout
    assert "the process died 2 times while planning it" in done.stdout

    found = json.loads(written.read_text())
    resnet18, resnet50, vgg11 = found["models"]
    assert resnet50 == known
    assert (vgg11["name"], vgg11["state"]) == ("vgg11", "failed")
    # He et al. 2015, table 1: a stem, eight blocks of two convolutions, three projections and a classifier.
    assert resnet18["layers"] == resnet18["matrices"] == resnet18["matrices_in_layers"] == 1 + 8 * 2 + 3 + 1
    assert resnet18["tier"] == "symbolic"
    assert (resnet18["lost"], resnet18["twice"], resnet18["unsupported"], resnet18["unresolved"]) == ([], [], [], {})

    (total,) = found["libraries"]
    assert (total["models"], total["not_constructible"], total["failed"], total["tiers"]) == (3, 1, 1, {"symbolic": 1})
    assert (total["matrices"], total["lost"], total["worst"]) == (21, 0, "resnet18")
    assert found["complete"]
    added = [json.loads(line) for line in lines.read_text().splitlines()[4:]]
    assert [(each["name"], each["state"]) for each in added] == [
        ("resnet18", "started"),
        ("resnet18", "planned"),
        ("vgg11", "failed"),
    ]


def test_coverage_ends_a_model_that_takes_too_long(tmp_path: Path) -> None:
    written = tmp_path / "coverage.json"
    done = coverage("--models", "resnet18", "--limit", "0.0001", "--json", str(written))
    assert done.returncode == 0, done.stderr
    (only,) = json.loads(written.read_text())["models"]
    assert only["kind"] == "timeout"
    assert "took longer than 0.0001 s" in only["cause"]


WITH_ONE_THAT_RAISES = f"""
import sys
sys.path.insert(0, {str(SCRIPT.parent)!r})
import _torchvision, coverage, timm
from torch import nn

class Raises(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        raise ValueError("this model is never ready")

@timm.models.register_model
def never_ready(pretrained=False, **_):
    return Raises()

if __name__ == "__main__":
    sys.exit(coverage.main())
"""


def test_coverage_of_three_libraries_lists_what_fails_and_why(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    written, lines = tmp_path / "coverage.json", tmp_path / "coverage.jsonl"
    done_before = {"library": "torchvision", "name": "alexnet", "state": "not constructible", "cause": "", "kind": ""}
    lines.write_text(json.dumps(done_before) + "\n")
    names = ("alexnet", "bert-generation", "never_ready", "resnet18", "squeezenet1_1")
    script = tmp_path / "with_one_that_raises.py"
    script.write_text(WITH_ONE_THAT_RAISES)
    wide = {**os.environ, "COLUMNS": "400"}
    done = python(script, "--models", *names, "--json", written, "--resume", lines, env=wide)
    assert done.returncode == 0, done.stderr
    assert "failed timm never_ready (TraceError)" in done.stdout
    assert "this model is never ready" in done.stdout

    found = json.loads(written.read_text())
    by_name = {(each["library"], each["name"]): each for each in found["models"]}
    assert by_name["torchvision", "alexnet"] == done_before
    assert by_name["timm", "never_ready"]["state"] == "failed"
    assert "this model is never ready" in by_name["timm", "never_ready"]["cause"]
    planned = {key: (each["layers"], each["matrices"]) for key, each in by_name.items() if each["state"] == "planned"}
    assert planned == {
        # He et al. 2015, table 1; Iandola et al. 2016, table 1; 24 blocks of six weights, tokens and positions.
        ("timm", "resnet18"): (21, 21),
        ("torchvision", "resnet18"): (21, 21),
        ("torchvision", "squeezenet1_1"): (26, 26),
        ("transformers", "bert-generation"): (144, 146),
    }
    totals = {each["library"]: each for each in found["libraries"]}
    assert [totals[name]["models"] for name in ("timm", "torchvision", "transformers")] == [2, 3, 1]
    assert (totals["timm"]["failed"], totals["torchvision"]["not_constructible"]) == (1, 1)
    assert totals["transformers"]["matrices_in_others"] == {"embedding": 2}
    assert {library: (each["lost"], each["twice"]) for library, each in totals.items()} == dict.fromkeys(totals, (0, 0))
    # What was done is not done again.
    assert all('"alexnet", "state": "started"' not in line for line in lines.read_text().splitlines())


def faults(*arguments: str) -> subprocess.CompletedProcess[str]:
    return python(SCRIPT.parent / "faults.py", *arguments, env={**os.environ, "COLUMNS": "200"})


def test_faults_of_a_slice_resume_and_add_up(tmp_path: Path) -> None:
    written, lines = tmp_path / "faults.json", tmp_path / "faults.jsonl"
    # An infinity that was not found, in a model that is done.
    known = {"kind": "non-finite", "layer": "main.0", "told": "one infinity", "model": "dcgan_generator", "fault": True,
             "codes": ["INI001"], "strict": ["INI001"], "found": False, "right": False, "right_strictly": False,
             "said": [], "extra": []}  # fmt: skip
    lines.write_text(json.dumps({"model": "dcgan_generator", "alarms": [], "injections": [known]}) + "\n")
    chosen = ("--models", "dcgan_generator", "unet", "--kinds", "non-finite", "norm*", "torch*", "--each", "3")
    done = faults(*chosen, "--json", str(written), "--resume", str(lines))
    assert done.returncode == 0, done.stderr
    assert "missed dcgan_generator main.0: one infinity (non-finite): expected INI001, said nothing" in done.stdout

    found = json.loads(written.read_text())
    unet, dcgan = found["models"]
    assert dcgan["injections"] == [known]
    assert unet["alarms"] == []
    by_kind = {kind: [each for each in unet["injections"] if each["kind"] == kind] for kind in KINDS}
    assert {kind: len(each) for kind, each in by_kind.items()} == dict.fromkeys(KINDS, 3)
    for kind, code in KINDS.items():
        for each in by_kind[kind]:
            # Every norm and every layer of a U-Net feeds a relu or the next layer, so each of these is a fault.
            assert each["fault"]
            assert code in each["codes"]
            assert each["found"]
            assert each["right"]
            assert each["extra"] == []
    assert found["totals"]["injected"] == found["totals"]["faults"] == 3 * 3 + 1
    assert found["totals"]["right rule"] == 9
    assert found["right"] == pytest.approx(0.9)
    assert not found["met"]
    assert [json.loads(line)["model"] for line in lines.read_text().splitlines()] == ["dcgan_generator", "unet"]


KINDS = {"torch default": "INI103", "non-finite": "INI001", "norm gain": "INI202"}


def test_false_alarms_of_a_slice(tmp_path: Path) -> None:
    written = tmp_path / "alarms.json"
    names = ("dcgan_generator", "dcgan_discriminator")
    done = faults("--false-alarms", "--models", *names, "--seeds", "2", "--every", "2", "--json", str(written))
    assert done.returncode == 0, done.stderr
    found = json.loads(written.read_text())
    (generator,) = found["models"]
    # Two treatments of residual streams, four distributions, two seeds.
    assert (generator["model"], generator["checks"], generator["alarms"]) == (names[0], 2 * 4 * 2, [])
    assert found["met"]
    assert "no truth model matches" in faults("--models", "nothing").stdout


def test_audit_holds_findings_against_one_forward(tmp_path: Path) -> None:
    written, lines = tmp_path / "audit.json", tmp_path / "audit.jsonl"
    command = [SCRIPT.parent / "audit.py", "--library", "torchvision"]
    command += ["--models", "squeezenet1_1", "alexnet", "--most", "2", "--json", str(written), "--resume", str(lines)]
    done = python(*command)
    assert done.returncode == 0, done.stderr
    assert "classifier.#" in done.stdout
    found = json.loads(written.read_text())
    alexnet, squeezenet = found["models"]
    assert (alexnet["state"], alexnet["parameters"]) == ("too large", 61_100_840)

    # Iandola et al. 2016, table 1: a stem, eight fire modules of three convolutions and a classifier. All have
    # kaiming_uniform_ with ReLUs behind them but the classifier, which is N(0, 0.01) and wants sqrt(2 / 512).
    assert len(squeezenet["layers"]) == 1 + 8 * 3 + 1
    (about_scale,) = [each for each in squeezenet["findings"] if each["code"].startswith("INI1")]
    assert (about_scale["code"], about_scale["layer"], about_scale["feeds"]) == ("INI109", "classifier.1", "relu")
    assert about_scale["produced"] == "normal_(mean=0, std=0.01)"
    assert about_scale["ratio"] == pytest.approx(0.16, rel=0.01)
    assert about_scale["gain"] == pytest.approx(0.16**2, rel=0.3)
    clean = [layer["gain"] for layer in squeezenet["layers"] if layer["worst"] == "none"]
    assert len(clean) == 25
    assert all(0.25 < gain < 4 for gain in clean)

    (total,) = found["libraries"]
    assert (total["models"], total["checked"], total["too_large"], total["failed"]) == (2, 1, 1, 0)
    assert sum(each["layers"] for each in total["layers"].values()) == 26
    assert [json.loads(line)["state"] for line in lines.read_text().splitlines()] == [
        "started",
        "too large",
        "started",
        "checked",
    ]


def test_the_cost_of_a_propagation() -> None:
    """The script starts, and refuses to time nothing; the models are too large for a test."""
    done = python(SCRIPT.with_name("propagation.py"), "--repeats", "0")
    assert done.returncode == 2
    assert "--repeats takes a number above 0" in done.stderr
