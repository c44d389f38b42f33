"""`autoinit scaling`, and `autoinit check --base`."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from autoinit.cli import main

NET = """
import torch.nn as nn

def build(width=64):
    return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 3))

def started(width=64):
    import autoinit
    model = build(width)
    autoinit.autoinit(model, seed=0, verbose=False)
    return model
"""


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(NET)
    return path


def run(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)])


def test_it_shows_the_multipliers(net):
    done = run("scaling", f"{net}:build", "--base", f"{net}:build", "--base-arg", "width=16")
    assert done.exit_code == 0, done.output
    rows = {line.split()[0]: line.split() for line in done.output.splitlines() if ".weight" in line}
    assert rows["2.weight"][1:6] == ["hidden", "0.1768", "1/4", "4", "1/4"]


def test_a_width_and_a_file(net, tmp_path):
    target = tmp_path / "scaling.json"
    done = run("scaling", f"{net}:build", "--width", 4, "--optimizer", "sgd", "--format", "json", "-o", target)
    assert done.exit_code == 0, done.output
    found = json.loads(target.read_text())
    assert found["optimizer"] == "sgd"
    assert found["parameters"]["0.weight"]["lr"] == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--base SPEC, or --width TIMES"),
        (["--base", "x:y", "--width", "2"], "--base SPEC, or --width TIMES"),
        (["--width", "-1"], "width=-1.0: expected a positive number"),
        (["--width", "2", "--depth", "3"], "depth=3.0: expected alpha"),
    ],
)
def test_what_is_refused(net, arguments, said):
    done = run("scaling", f"{net}:build", *arguments)
    assert done.exit_code == 2
    assert said in done.stderr


def test_no_output_over_an_input(net):
    before = net.read_text()
    done = run("scaling", f"{net}:build", "--width", 2, "-o", net)
    assert done.exit_code == 2
    assert net.read_text() == before
    done = run("scaling", "torchvision:resnet18", "--base", f"{net}:build", "-o", net)
    assert done.exit_code == 2
    assert net.read_text() == before


def test_check_with_a_base(net):
    base = ["--base", f"{net}:started", "--base-arg", "width=16"]
    done = run("check", f"{net}:started", "--no-config", "--select", "INI5", *base)
    assert done.exit_code == 1, done.output
    assert "INI501" in done.output
    assert "4: std" in done.output
    assert "2: std" not in done.output
