"""What a file may ask for: memory and time follow its own size, and pipes and devices are not read."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from autoinit.cli import main
from autoinit.errors import LoadError
from autoinit.loading import load
from autoinit.tensors.measuring import weight_stats
from tests.shared.archives import redocumented, rewritten, write_program


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("entry", ["spec", "weights"])
def test_what_is_no_regular_file_is_refused_and_not_read(here, kind, linked, entry):
    """A pipe that nobody writes to would be waited for, and /dev/zero never ends."""
    if kind == "pipe":
        os.mkfifo("pipe.pt")
    path = "pipe.pt" if kind == "pipe" else "/dev/zero"
    if linked:
        Path("link.pt").symlink_to(path)
        path = "link.pt"
    Path("net.py").write_text("from torch import nn\nmodel = nn.Linear(3, 4)\n")
    spec, weights = ("net.py:model", path) if entry == "weights" else (path, None)
    with pytest.raises(LoadError, match=rf"^{path} is no regular file: expected a file on disk, not a pipe"):
        load(spec, weights_file=weights)


def bomb(source: str, target: str, name: str, size: int) -> None:
    """The archive with one record of `size` zeros, packed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            if entry.filename.endswith(name):
                with new.open(entry.filename, "w") as record:
                    for _ in range(size >> 20):
                        record.write(bytes(1 << 20))
            else:
                new.writestr(entry.filename, old.read(entry))


@pytest.mark.parametrize("kind", ["saved", "exported"])
def test_archives_that_unpack_to_far_more_than_they_hold_are_refused(here, kind):
    """300 MiB of zeros in a file of 300 kB; what any file may unpack to is 256 MiB."""
    if kind == "saved":
        torch.save(nn.Linear(3, 4), "small.pt")
        bomb("small.pt", "bomb.pt", "data/0", 300 << 20)
    else:
        write_program("small.pt2")
        bomb("small.pt2", "bomb.pt", "weight_0", 300 << 20)
    assert Path("bomb.pt").stat().st_size < 1 << 20
    with pytest.raises(
        LoadError, match=r"^bomb\.pt unpacks to 314,\d{3},\d{3} bytes, expected up to 268,435,456; .*--max-size 314\d+$"
    ):
        load("bomb.pt")


def test_the_limit_is_the_users_to_set(here):
    torch.save(nn.Linear(300, 300), "model.pt")
    result = CliRunner().invoke(main, ["report", "model.pt", "--max-size", "100kB"])
    assert result.exit_code == 2
    assert "model.pt unpacks to " in result.stderr
    assert "expected up to 100,000" in result.stderr
    for enough in ("1MB", "400KiB", "1000000"):
        assert CliRunner().invoke(main, ["report", "model.pt", "--max-size", enough]).exit_code == 0
    result = CliRunner().invoke(main, ["report", "model.pt", "--max-size", "lots"])
    assert "'lots' is not a size such as 20GB or 512MiB" in result.stderr


class Called:
    """Pickled as the call of a function."""

    def __init__(self, function, *arguments):
        self.made = function, arguments

    def __reduce__(self):
        return self.made


CALLS = {
    "a large layer": (Called(nn.Linear, 100_000, 100_000), r"torch\.nn\.modules\.linear\.Linear"),
    "many bytes": (Called(bytearray, 10**11), r"builtins\.bytearray"),
    "a large tensor": (Called(torch.FloatTensor, 10**5, 10**5), r"torch\.FloatTensor"),
}


@pytest.mark.parametrize(
    ("call", "zipped"), [(call, zipped) for call in CALLS for zipped in (True, False) if zipped or "layer" not in call]
)
def test_a_pickle_that_would_take_all_memory_by_a_call_is_refused(here, call, zipped):
    """Classes that a safe load builds are filled, never called with sizes of the file's choice."""
    made, named = CALLS[call]
    torch.save({"state_dict": made}, "odd.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(LoadError, match=rf"^odd\.pt is refused, for it calls {named}, which saving a model never asks"):
        load("odd.pt")


def test_what_saving_a_model_calls_is_called(here):
    """Parameters, sizes, devices, ordered dictionaries and sparse tensors are made by calls."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model.extra = {"size": torch.Size([3]), "device": torch.device("cpu"), "sparse": torch.eye(3).to_sparse()}
    model.extra |= {"set": {1, 2}, "complex": 1j, "bytes": b"abc"}
    torch.save(model, "model.pt")
    assert load("model.pt").model.extra["complex"] == 1j


def test_a_pickle_before_an_archive_is_what_torch_takes_it_for(here):
    """zipfile would find the archive behind it, which torch does not look at."""
    torch.save(nn.Linear(3, 4), "model.pt")
    Path("two.pt").write_bytes(pickle.dumps({"a": 1}, protocol=2) + Path("model.pt").read_bytes())
    with pytest.raises(LoadError, match=r"^two\.pt is damaged"):
        load("two.pt")


def test_records_packed_as_usual_are_read(here):
    """Whoever packs a program again, by any zip, gets the same program."""
    write_program("net.pt2")
    with zipfile.ZipFile("net.pt2") as old, zipfile.ZipFile("packed.pt2", "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    ours, theirs = load("packed.pt2").model, load("net.pt2").model
    assert all(torch.equal(ours.state_dict[name], tensor) for name, tensor in theirs.state_dict.items())


def test_a_record_that_is_not_what_its_archive_says_is_refused(here):
    """A byte changed, which the checksum tells."""
    write_program("net.pt2")
    rewritten("net.pt2", "odd.pt2", lambda name, content: content)
    content = Path("odd.pt2").read_bytes()
    weight = load("net.pt2").model.state_dict["layer.weight"].detach().numpy().tobytes()
    assert weight in content
    Path("odd.pt2").write_bytes(content.replace(weight, b"\xff" + weight[1:]))
    with pytest.raises(LoadError, match=r"^odd\.pt2 is damaged: data/weights/weight_0: Bad CRC-32"):
        load("odd.pt2")


def expanded(size: int) -> nn.Sequential:
    """A model whose first weight is one number, so many times."""
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU())
    model[0].in_features = model[0].out_features = size
    model[0].weight = nn.Parameter(torch.full((1,), 3.0).expand(size, size))
    return model


@pytest.mark.parametrize("command", [("report",), ("check", "--no-config")])
def test_an_expanded_weight_costs_what_it_stores(here, command):
    """10^12 elements in a file of 3 kB."""
    torch.save(expanded(10**6), "model.pt")
    result = CliRunner().invoke(main, [*command, "model.pt"])
    assert result.exit_code in (0, 1), result.output


def test_statistics_of_an_expanded_tensor_are_those_of_its_copy():
    """(0, 1, 2, 1) each a hundred times: mean 1, variance 1/2, 100 zeros of 400."""
    row = torch.tensor([0.0, 1.0, 2.0, 1.0])
    for tensor in (row[:, None].expand(4, 100), row.expand(100, 4), row.expand(100, 4).clone()):
        found = weight_stats(tensor)
        assert (found.numel, found.mean, found.zeros) == (400, 1.0, 0.25)
        assert found.std == pytest.approx(0.5**0.5)


def test_tensors_that_overlap_are_refused(here):
    """10^12 elements, each row one place further than the last."""
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU())
    model[0].weight = nn.Parameter(torch.zeros(2 * 10**3).as_strided((10**3, 10**3), (1, 1)))
    torch.save(model, "model.pt")
    with pytest.raises(LoadError, match=r"^model\.pt: weight of 0 \(Linear\) has more elements than memory"):
        load("model.pt")


class Repeating(nn.Module):
    """Linear, ReLU, copies beside and below each other, a constant and a range."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x) + torch.arange(4.0)) * torch.full((4,), 2.0)
        out: torch.Tensor = self.second(x.repeat(3, 5).reshape(-1, 4))
        return out


@pytest.fixture(scope="module")
def repeating(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("program") / "small.pt2"
    torch.export.save(torch.export.export(Repeating(), (torch.zeros(6, 4),)), path)
    return path


LARGE = {"repeat": {"as_ints": [10**5, 10**5]}, "full": {"as_ints": [10**6, 10**6]}, "arange": {"as_int": 10**12}}


@pytest.mark.parametrize("command", ["report", "signal", "check"])
@pytest.mark.parametrize("operator", LARGE)
def test_a_program_makes_no_tensor_of_any_size_that_its_file_names(here, repeating, operator, command):
    """A file of some kilobytes, and 10^12 elements: `signal` refuses it, and no other command needs to make them."""

    def enlarge(document):
        (node,) = [each for each in document["graph_module"]["graph"]["nodes"] if f".{operator}." in each["target"]]
        (at,) = [n for n, each in enumerate(node["inputs"]) if {"as_ints", "as_int"} & each["arg"].keys()][:1] or [0]
        node["inputs"][at]["arg"] = LARGE[operator]

    redocumented(repeating, "large.pt2", enlarge)
    result = CliRunner().invoke(main, [command, *(["--no-config"] if command == "check" else []), "large.pt2"])
    if command == "signal":
        assert result.exit_code == 2
        assert result.stderr.startswith(f"error: large.pt2: aten.{operator} would take ")
        assert "expected up to 1,073,741,824 in all; if that is right, say --max-size " in result.stderr
        assert result.stderr.count("\n") == 1
    else:
        assert result.exit_code in (0, 1), result.output


GROWING = {
    "upsample": nn.Upsample(scale_factor=10**4),
    "pad": nn.ConstantPad1d(10**9, 0.0),
    "pool": nn.AdaptiveAvgPool1d(10**10),
    "unfold": nn.Fold((10**5, 10**5), 1),
}


@pytest.mark.parametrize("layer", GROWING)
def test_a_saved_model_makes_no_tensor_of_any_size_that_its_file_names(here, layer):
    torch.save(nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU(), GROWING[layer], nn.Conv1d(4, 4, 3)), "large.pt")
    for command in ("report", "signal", "check"):
        result = CliRunner().invoke(main, [command, "large.pt", "--input-shape", "2,3,60000"])
        assert result.exit_code == 2 or command != "signal"
        assert result.exit_code in (0, 1, 2), result.output
        assert "unexpected" not in result.stderr


def test_there_is_room_for_what_the_user_says(here, repeating):
    """24 numbers, 50,000 times: 4,800,000 bytes."""

    def enlarge(document):
        (node,) = [each for each in document["graph_module"]["graph"]["nodes"] if ".repeat." in each["target"]]
        node["inputs"][1]["arg"] = {"as_ints": [1000, 50]}

    redocumented(repeating, "larger.pt2", enlarge)
    result = CliRunner().invoke(main, ["signal", "larger.pt2", "--max-size", "4MB"])
    assert result.exit_code == 2
    assert "aten.repeat would take 4,800,000 bytes beside" in result.stderr
    assert CliRunner().invoke(main, ["signal", "larger.pt2", "--max-size", "100MB"]).exit_code == 0
