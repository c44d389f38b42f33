"""Weights without a model: what report and check say of a state dict, in files as people have them and in Python."""

from __future__ import annotations

import json
import math
import os
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from torch import nn

import autoinit
from autoinit.cli import main
from autoinit.errors import ArgumentError, LoadError
from autoinit.loading import _archives, _opening, files_read_for, load
from autoinit.models import ModelView
from autoinit.recognising import alone


def drawn(*shape, std=1.0, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * std


def state():
    """Tensors whose start is known by how they are made here."""
    torch.manual_seed(0)
    linear, lstm = nn.Linear(64, 48), nn.LSTM(16, 32)
    return {
        "fc.weight": linear.weight.detach(),
        "fc.bias": linear.bias.detach(),
        "he.weight": nn.init.kaiming_normal_(torch.empty(96, 64, 3, 3), nonlinearity="relu"),
        "proj.weight": drawn(64, 64, std=0.02, seed=1),
        "embed.weight": drawn(100, 64, seed=2),
        "norm.weight": torch.ones(64),
        "norm.running_var": torch.full((64,), 1e7),
        "gamma": torch.full((64, 1, 1), 1e-6),
        "mask": torch.triu(torch.full((32, 32), -math.inf), 1),
        "ids": torch.arange(7),
        **{f"rnn.{name}": each for name, each in lstm.state_dict().items()},
    }


def run(*arguments):
    result = CliRunner().invoke(main, [str(each) for each in arguments])
    return result.exit_code, result.stdout, result.stderr


def rows_of(report):
    return {row.name: row for row in report.rows}


def test_a_report_names_what_made_each_tensor():
    """torch documents the defaults: Linear U(+-1/sqrt(fan_in)), which is kaiming_uniform(a=sqrt(5)); LSTM
    U(+-1/sqrt(hidden)). He's std for 64 x 3 x 3 inputs is sqrt(2 / 576) = 0.0589."""
    rows = rows_of(autoinit.report(state()))
    first = {name: row.recipes[0] if row.recipes else "" for name, row in rows.items()}
    assert first["fc.weight"] == "kaiming_uniform(a=sqrt(5)), torch's default"
    assert first["fc.bias"] == "uniform(+-1/sqrt(fan_in)), torch's default"
    assert first["he.weight"].startswith("kaiming_normal(fan_in, relu")
    assert first["proj.weight"] == "normal(0.02)"
    assert first["embed.weight"] == "normal(1), torch's default of embeddings"
    assert first["norm.weight"] == "ones"
    assert first["gamma"] == "constant(1e-06)"
    assert first["mask"] == "0 and -inf"
    assert first["rnn.weight_ih_l0"] == first["rnn.bias_hh_l0"] == "uniform(+-1/sqrt(hidden)), torch's default"
    assert rows["he.weight"].stats.std == pytest.approx(math.sqrt(2 / 576), rel=0.02)
    assert rows["ids"].stats is None
    assert rows["ids"].dtype == "int64"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_every_floating_dtype_is_measured(dtype):
    (row,) = autoinit.report({"w": drawn(64, 64).to(dtype)}).rows
    assert row.dtype == str(dtype).removeprefix("torch.")
    assert row.stats.std == pytest.approx(1, rel=0.05)
    assert row.recipes[0] == "normal(1)"


def test_tied_weights_are_named_and_count_once():
    held = drawn(8, 4)
    report = autoinit.report({"a.weight": held, "b.weight": held, "c.weight": held.clone()})
    assert [row.same_as for row in report.rows] == ["", "a.weight", ""]
    assert report.parameters == 64


@pytest.mark.parametrize("form", ["table", "markdown"])
def test_nothing_that_matters_is_left_out(form):
    spoilt = {**state(), "bad.weight": drawn(16, 16, seed=5), "inf.bias": torch.tensor([1.0, math.inf])}
    spoilt["bad.weight"][0, 0] = math.nan
    text = " ".join(autoinit.report(spoilt).to(form).split())
    for each in ("bad.weight", "1 of 256 elements are not finite", "inf.bias", "1 of 2 elements are not finite"):
        assert each in text
    assert "needs the model's code" in text


def test_a_long_table_fits_its_width_and_says_what_it_leaves_out():
    blocks = {f"blocks.{n}.weight": drawn(32, 32, std=0.02, seed=n) for n in range(40)}
    norms = {f"blocks.{n}.norm.weight": torch.ones(32) for n in range(40)}
    text = str(autoinit.report({**blocks, **norms}))
    assert "blocks.{0-39}.weight" in text
    assert "Not shown: 40 of ones (--all shows them)." in text
    assert max(map(len, text.splitlines())) <= 100


def test_check_finds_what_needs_no_graph():
    """Of each kind one, made here: a NaN, memory (1e30), a constant, twin rows, a copy, an outlier."""
    found = state()
    found["nan.weight"] = drawn(16, 16, seed=3)
    found["nan.weight"][0, 0] = math.nan
    found["raw.weight"] = drawn(16, 16, std=1e30, seed=4)
    found["flat.weight"] = torch.full((32, 64), 0.01)
    found["twins.weight"] = drawn(16, 32, seed=6)
    found["twins.weight"][4] = found["twins.weight"][2]
    found["copy.weight"] = found["proj.weight"].clone()
    found["far.weight"] = drawn(64, 64, std=0.02, seed=7)
    found["far.weight"][3, 5] = 5.0
    result = autoinit.check(found)
    assert [(each.code, each.severity.value, each.layer) for each in result.findings] == [
        ("INI001", "error", "nan"),
        ("INI002", "error", "raw"),
        ("INI004", "warning", "flat"),
        ("INI004", "warning", "twins"),
        ("INI005", "warning", "copy"),
        ("INI006", "warning", "far"),
    ]
    assert not any("std nan" in each.message for each in result.findings)
    assert all(each.expected_std is None for each in result.findings if each.code != "INI006")


def test_what_is_as_it_should_be_is_clean():
    """Masks, running statistics of any size, constants of one axis, tables with equal rows: no finding."""
    found = state()
    found["embed.weight"][5] = found["embed.weight"][9]
    found["attn_mask"] = torch.where(drawn(4, 16, 16) > 0, 0.0, -100.0)
    found["head.weight"] = torch.zeros(10, 64)
    result = autoinit.check(found)
    assert result.findings == ()
    assert result.ok
    assert any("INI001, INI002, INI004, INI005, INI006 can judge them" in note for note in result.notes)


def test_rules_that_need_the_graph_are_not_asked_and_a_recipe_is_not_held():
    result = autoinit.check(state(), select=["INI1"], recipe="gpt2")
    assert "no rule can judge them" in result.notes[0]
    assert any("nothing is held against the recipe gpt2" in note for note in result.notes)


def test_signs_of_training_are_told():
    found = {"bn.num_batches_tracked": torch.tensor(900), "fc.weight": drawn(64, 64)}
    assert any("looks trained" in note and "900" in note for note in autoinit.check(found).notes)


@pytest.mark.parametrize("call", [autoinit.report, autoinit.check], ids=["report", "check"])
@pytest.mark.parametrize("wrong", [{}, {"a": 3}, {1: torch.ones(2)}, {"model": nn.Linear(2, 2)}], ids=str)
def test_what_is_no_state_dict_is_refused(call, wrong):
    with pytest.raises(ArgumentError, match=r"expected a torch\.nn\.Module, an ExportedProgram or a state dict"):
        call(wrong)


def test_what_is_for_a_model_is_refused():
    with pytest.raises(ArgumentError, match=r"method= is for a model.*pass the model, with these weights loaded"):
        autoinit.report(state(), method="signal")
    with pytest.raises(ArgumentError, match="example_inputs= is for a model"):
        autoinit.check(state(), (1, 64))
    with pytest.raises(ArgumentError, match=r"of a state dict only `report` and `check` speak: .* model's code"):
        autoinit.plan(state())


def test_a_state_dict_is_left_as_it_is():
    found = state()
    before = {name: (each.clone(), each.data_ptr(), type(each), each.requires_grad) for name, each in found.items()}
    autoinit.report(found)
    autoinit.check(found)
    for name, (values, place, kind, grad) in before.items():
        assert torch.equal(found[name], values)
        assert (found[name].data_ptr(), type(found[name]), found[name].requires_grad) == (place, kind, grad)


def test_sparse_and_meta_tensors_have_a_row():
    held = {"s": torch.eye(4).to_sparse(), "m.weight": torch.empty(8, 8, device="meta"), "w": drawn(8, 8)}
    rows = rows_of(autoinit.report(held))
    assert rows["s"].stats is rows["m.weight"].stats is None
    assert autoinit.check(held).ok


def shards(folder, index="model.safetensors.index.json"):
    found = {name: each for name, each in state().items() if each.dtype != torch.int64}
    names = sorted(found)
    save_file({name: found[name].clone() for name in names[:5]}, folder / "one.safetensors")
    save_file({name: found[name].clone() for name in names[5:]}, folder / "two.safetensors")
    where = {name: "one.safetensors" if name in names[:5] else "two.safetensors" for name in names}
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return names


def written(kind, folder):
    """The weights in a file (or directory) of each kind that people have."""
    name = {"lightning": "w.ckpt", "bin": "w.bin"}.get(kind, f"w.{kind}")
    if kind == "safetensors":
        save_file({key: each.clone() for key, each in state().items()}, folder / name)
    elif kind == "lightning":
        torch.save({"state_dict": {f"model.{key}": each for key, each in state().items()}, "epoch": 3}, folder / name)
    elif kind in ("index", "directory"):
        shards(folder)
        return folder if kind == "directory" else folder / "model.safetensors.index.json"
    elif kind == "old":
        torch.save(state(), folder / name, _use_new_zipfile_serialization=False)
    else:
        torch.save(state(), folder / name)
    return folder / name


@pytest.mark.parametrize("kind", ["safetensors", "pt", "pth", "bin", "lightning", "old", "index", "directory"])
def test_files_that_people_have(kind, tmp_path):
    path = written(kind, tmp_path)
    code, text, _ = run("report", path, "--all", "--format", "json")
    assert code == 0
    rows = {row["name"].removeprefix("model."): row for row in json.loads(text)["tensors"]}
    assert set(rows) >= {"fc.weight", "proj.weight", "mask"}
    assert rows["proj.weight"]["recipes"][0] == "normal(0.02)"
    code, text, _ = run("check", path, "--no-config")
    assert code == 0
    assert "--weights" in text
    assert "clean" in text


def test_old_files_whose_numbers_begin_like_a_pickle(tmp_path):
    """128 numbers: their count, 0x80, follows the last pickle, and is how a pickle begins."""
    torch.save({"weight": torch.linspace(-1, 1, 128)}, tmp_path / "w.pt", _use_new_zipfile_serialization=False)
    code, text, _ = run("report", tmp_path / "w.pt", "--all", "--format", "json")
    assert code == 0
    assert [row["shape"] for row in json.loads(text)["tensors"]] == [[128]]


def test_exit_status_formats_and_baseline(tmp_path):
    found = state()
    found["fc.weight"][0, 0] = math.nan
    save_file({key: each.clone() for key, each in found.items()}, tmp_path / "w.safetensors")
    code, text, _ = run("check", tmp_path / "w.safetensors", "--no-config", "--format", "json")
    assert code == json.loads(text)["exit_code"] == 1
    (finding,) = json.loads(text)["models"][0]["findings"]
    assert (finding["code"], finding["param"], finding["expected_std"]) == ("INI001", "fc.weight", None)
    for form in ("text", "github", "sarif", "junit", "markdown"):
        assert "INI001" in run("check", tmp_path / "w.safetensors", "--no-config", "--format", form)[1]
    base = tmp_path / "base.json"
    assert run("check", tmp_path / "w.safetensors", "--no-config", "--write-baseline", base)[0] == 0
    assert run("check", tmp_path / "w.safetensors", "--no-config", "--baseline", base)[0] == 0


def test_nothing_can_be_fixed_or_applied(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({"fc.weight": torch.full((8, 8), math.nan)}, path)
    before = path.read_bytes()
    code, text, _ = run("check", path, "--no-config", "--fix-to", tmp_path / "out.pt")
    assert code == 1
    assert "nothing was fixed: what a weight feeds" in " ".join(text.split())
    code, _, error = run("apply", path, "-o", tmp_path / "out.pt")
    assert code == 2
    assert "PACKAGE.MODULE:FACTORY --weights" in error
    assert not (tmp_path / "out.pt").exists()
    assert path.read_bytes() == before


def test_other_commands_want_the_model_of_an_index(tmp_path):
    shards(tmp_path)
    with pytest.raises(LoadError, match=r"index of sharded weights; give the code.*FACTORY --weights"):
        load(str(tmp_path / "model.safetensors.index.json"))


def test_no_output_replaces_weights_of_a_directory(tmp_path):
    shards(tmp_path)
    for name in ("one.safetensors", "two.safetensors", "model.safetensors.index.json"):
        for spec in (tmp_path, tmp_path / "model.safetensors.index.json"):
            before = (tmp_path / name).read_bytes()
            code, _, error = run("report", spec, "-o", tmp_path / name)
            assert code == 2
            assert "is read by this run" in error
            assert (tmp_path / name).read_bytes() == before
    assert tmp_path / "two.safetensors" in files_read_for(str(tmp_path))


def test_a_directory_with_several_weights_is_refused(tmp_path):
    torch.save(state(), tmp_path / "a.pt")
    torch.save(state(), tmp_path / "b.pt")
    code, _, error = run("report", tmp_path)
    assert code == 2
    assert "is a directory, not a file" in error
    os.remove(tmp_path / "b.pt")
    assert run("report", tmp_path)[0] == 0


def test_tensors_that_overlap_in_memory_are_refused(tmp_path):
    """33 windows of 32 numbers over 64: 1,056 elements of 256 bytes."""
    torch.save({"w": torch.zeros(8), "v": torch.zeros(64).unfold(0, 32, 1)}, tmp_path / "w.pt")
    code, _, error = run("report", tmp_path / "w.pt")
    assert code == 2
    assert "v has more elements than memory" in error


def test_a_view_of_weights_alone_is_no_model():
    with pytest.raises(ArgumentError, match="model is a dict"):
        ModelView.of(state())


def test_a_tensor_that_two_files_of_an_index_hold_is_refused(tmp_path):
    """Which of them counts would hang on the order of the files."""
    for name, value in (("one", 1.0), ("two", 2.0)):
        save_file({name: torch.ones(2), "both": torch.full((2,), value)}, tmp_path / f"{name}.safetensors")
    where = {"one": "one.safetensors", "two": "two.safetensors", "both": "one.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    with pytest.raises(LoadError, match=r"two of its files hold both; save the weights again$"):
        load(str(tmp_path), alone=True)


def test_what_the_files_of_an_index_unpack_to_is_bounded_together(tmp_path, monkeypatch):
    """Each of three unpacks to 400,000 bytes of zeros, below what one file may; together they are above."""
    monkeypatch.setattr(_archives, "SMALLEST_LIMIT", 1_000_000)
    for number in range(3):
        torch.save({f"w{number}": torch.zeros(100_000)}, tmp_path / "stored")
        with ZipFile(tmp_path / "stored") as stored, ZipFile(tmp_path / f"{number}.bin", "w", ZIP_DEFLATED) as packed:
            for record in stored.namelist():
                packed.writestr(record, stored.read(record))
    (tmp_path / "stored").unlink()
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {f"w{number}": f"{number}.bin" for number in range(3)}}))
    said = "its files unpack to 1,200,000 bytes up to 2.bin, expected up to 1,000,000 for all"
    with pytest.raises(LoadError, match=said):
        load(str(index), alone=True)
    assert load(str(index), alone=True, max_size=1_300_000).model.state_dict.keys() == {"w0", "w1", "w2"}


def test_no_row_is_held_against_all_others(monkeypatch):
    """20,000 tensors, half of them zeros, took 97 s: each zero was looked for among all the others."""
    rows = {f"{kind}.{at}": torch.zeros(4) if kind == "b" else drawn(4, 3) for at in range(30) for kind in "ab"}
    made = autoinit.report(rows)
    monkeypatch.setattr(alone.TensorRow, "__eq__", None)
    assert "Not shown: 30 of zeros" in str(made)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("large", [True, False])
def test_large_files_are_not_copied_into_memory(suffix, large, tmp_path, monkeypatch):
    """Tensors of a large file are its own bytes: what is written to the file later is seen in them (as Linux has it),
    and what is written to them does not reach the file. Of a small one they are a copy."""
    if large:
        monkeypatch.setattr(_opening, "_MAPPED", 1000)
    path = tmp_path / f"weights.{suffix}"
    held = {"a": drawn(40, 50), "b": drawn(7, seed=1), "none": torch.empty(0, 3), "half": drawn(9, 2).bfloat16()}
    (save_file if suffix == "safetensors" else torch.save)(held, path)
    read = load(str(path), alone=True).model.state_dict
    assert all(torch.equal(read[name], each) for name, each in held.items())
    if os.path.exists("/proc/self/fd"):
        place = path.read_bytes().index(held["a"].numpy().tobytes())
        with path.open("rb+") as file:
            file.seek(place)
            file.write((held["a"] + 1).numpy().tobytes())
        assert torch.equal(read["a"], held["a"] + 1 if large else held["a"])
    content = path.read_bytes()
    with torch.no_grad():
        read["b"].zero_()
    assert path.read_bytes() == content


def test_a_large_packed_archive_is_unpacked(tmp_path, monkeypatch):
    """Its bytes on disk are no numbers: mapped, they would be read as such."""
    monkeypatch.setattr(_opening, "_MAPPED", 1000)
    path, plain = tmp_path / "packed.pt", tmp_path / "plain.pt"
    held = {"a": drawn(40, 50)}
    torch.save(held, plain)
    with ZipFile(plain) as stored, ZipFile(path, "w", ZIP_DEFLATED) as packed:
        for record in stored.namelist():
            packed.writestr(record, stored.read(record))
    assert torch.equal(load(str(path), alone=True).model.state_dict["a"], held["a"])


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_weights_alone_are_read_once(name, tmp_path, monkeypatch):
    """20,000 tensors of one file took 12 s, a third of it for reading the file a second time."""
    path = tmp_path / name
    (save_file if name.endswith("safetensors") else torch.save)(state(), path)
    opens = []
    monkeypatch.setattr(torch, "load", lambda *a, _load=torch.load, **k: opens.append(a) or _load(*a, **k))
    assert len(load(str(path), alone=True).model.state_dict) == len(state())
    assert len(opens) == (name == "w.pt")
