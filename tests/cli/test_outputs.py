"""No command writes over a file that it reads, whatever it is called and however it is linked."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from autoinit import saving
from autoinit.cli import main
from autoinit.errors import ArgumentError

MODEL = "from torch import nn\n\ndef build():\n    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Files of every kind that a command may read, and a link and a hard link to each."""
    monkeypatch.chdir(tmp_path)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    torch.save(model, "model.pt")
    torch.save(model.state_dict(), "weights.pt")
    Path("net.py").write_text(MODEL)
    Path("pyproject.toml").write_text('[tool.autoinit]\nmodels = ["net.py:build"]\nbaseline = "known.json"\n')
    Path("known.json").write_text(json.dumps({"version": 1, "findings": []}))
    Path("config").mkdir()
    Path("config/config.json").write_text("{}")
    for name in ("model.pt", "weights.pt", "net.py", "pyproject.toml", "known.json", "config/config.json"):
        target = Path(name)
        target.with_name(f"link-{target.name}").symlink_to(target.resolve())
        target.with_name(f"hard-{target.name}").hardlink_to(target)
    return tmp_path


READING = {
    "report": (["report", "{spec}", "--weights", "weights.pt", "-o"], ["weights.pt"]),
    "report of a model": (["report", "model.pt", "-o"], ["model.pt"]),
    "report of a file": (["report", "net.py:build", "-o"], ["net.py"]),
    "report of a module": (["report", "net:build", "-o"], ["net.py"]),
    "report of several": (["report", "model.pt", "net.py:build", "-o"], ["model.pt", "net.py"]),
    "report of a configuration": (["report", "hf:config", "-o"], ["config/config.json"]),
    "signal": (["signal", "net.py:build", "--weights", "weights.pt", "-o"], ["net.py", "weights.pt"]),
    "signal as a page": (["signal", "model.pt", "--html"], ["model.pt"]),
    "check": (["check", "-o"], ["net.py", "pyproject.toml", "known.json"]),
    "check of a model": (["check", "model.pt", "-o"], ["model.pt", "pyproject.toml"]),
    "its baseline": (["check", "--write-baseline"], ["net.py", "pyproject.toml"]),
}


@pytest.mark.parametrize("way", ["{}", "./{}", "link-{}", "hard-{}"])
@pytest.mark.parametrize("command", READING)
def test_outputs_over_inputs_are_refused_before_anything_is_read(here, command, way):
    arguments, inputs = READING[command]
    for name in inputs:
        before = Path(name).read_bytes()
        path = Path(name)
        output = str(path.with_name(way.format(path.name))) if "-" in way else way.format(name)
        given = [each.format(spec="net.py:build") for each in arguments]
        result = CliRunner().invoke(main, [*given, output])
        assert result.exit_code == 2, result.output
        assert re.match(rf"error: {Path(output)} is read by this run, as ({here}/)?{name}; ", result.stderr), (
            result.stderr
        )
        assert result.stderr.count("\n") == 1
        assert Path(name).read_bytes() == before


def test_two_outputs_of_one_name_are_refused(here):
    Path("one.json").write_text("")
    Path("two.json").hardlink_to("one.json")
    result = CliRunner().invoke(main, ["check", "-o", "one.json", "--write-baseline", "two.json"])
    assert (result.exit_code, result.stderr) == (2, "error: one file cannot hold two outputs: one.json, two.json\n")


def test_new_files_beside_the_inputs_are_written(here):
    result = CliRunner().invoke(main, ["report", "net.py:build", "-o", "net.py.txt"])
    assert result.exit_code == 0, result.output
    assert "relu" in Path("net.py.txt").read_text()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: os.mkfifo("out"), "out is no regular file; name a file to write"),
        (lambda: Path("out").mkdir(), "out is a directory; name a file to write"),
        (lambda: Path("out").symlink_to("out"), "out cannot be written: "),
        (lambda: Path("out").symlink_to("/dev/full"), "out is no regular file; name a file to write"),
        (lambda: Path("out").symlink_to("nowhere/out"), "out cannot be written: No such file or directory"),
    ],
    ids=["a pipe", "a directory", "a loop of links", "a device", "a link to nowhere"],
)
def test_outputs_that_are_no_files_are_refused_first(here, make, said):
    make()
    result = CliRunner().invoke(main, ["report", "nothing.pt", "-o", "out"])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {said}")
    assert result.stderr.count("\n") == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may give files away")
def test_writing_in_place_keeps_mode_owner_and_group(here):
    """Set-user-id and sticky bits too, which a change of owner takes away."""
    os.chown("model.pt", 1234, 2345)
    os.chmod("model.pt", 0o5640)
    result = CliRunner().invoke(main, ["apply", "model.pt", "--in-place", "-q"])
    assert result.exit_code == 0, result.output
    found = os.stat("model.pt")
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o5640, 1234, 2345)


def test_a_file_of_another_owner_who_cannot_be_kept_is_not_replaced(here, monkeypatch):
    def refuse(path, user, group):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    real = Path.stat

    def of_another(self, **given):
        found = list(real(self, **given))
        if self.name == "model.pt":
            found[4] += 1  # st_uid
        return os.stat_result(found)

    monkeypatch.setattr(Path, "stat", of_another)
    before = Path("model.pt").read_bytes()
    with (
        pytest.raises(ArgumentError, match=r"^model\.pt belongs to user \d+ and group \d+, .*name another file"),
        saving.replacing(Path("model.pt")) as temporary,
    ):
        temporary.write_bytes(b"new")
    assert Path("model.pt").read_bytes() == before
    assert not list(Path().glob(".model.pt*"))


def test_a_full_disk_is_one_line(here, monkeypatch):
    """torch's writer tells of it by a RuntimeError."""

    def full(*args, **kwargs):
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(torch, "save", full)
    result = CliRunner().invoke(main, ["apply", "net.py:build", "-o", "out.pt"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert (
        result.stderr
        == "error: out.pt cannot be written: PytorchStreamWriter failed writing file data/0: file write failed\n"
    )
    assert not list(Path().glob("*out.pt*"))
