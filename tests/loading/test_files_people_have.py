"""Checkpoints and directories as training frameworks leave them."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from autoinit.errors import LoadError
from autoinit.loading import files_read_for, load

NET = """
from torch import nn

def build():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
"""


@pytest.fixture
def spec(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    return f"{tmp_path / 'net.py'}:build"


def state():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).state_dict()


def same(model, wanted):
    return all(torch.equal(each, wanted[name]) for name, each in model.state_dict().items())


@pytest.mark.parametrize("prefix", ["model.", "module.", "_orig_mod.", "net.", "module.model.", "a.b.c."])
def test_a_prefix_of_every_key_is_left_off(spec, tmp_path, prefix):
    wanted = state()
    torch.save({"state_dict": {prefix + key: value for key, value in wanted.items()}, "epoch": 3}, tmp_path / "w.ckpt")
    loaded = load(spec, weights_file=tmp_path / "w.ckpt")
    assert same(loaded.model, wanted)
    assert f"w.ckpt: left off the prefix {prefix!r} of every key" in loaded.notes


def test_what_stands_beside_the_model_in_a_checkpoint_is_named(spec, tmp_path):
    wanted = {f"net.{key}": value for key, value in state().items()}
    torch.save({**wanted, "loss.weight": torch.ones(3), "metric.count": torch.zeros(1)}, tmp_path / "w.pt")
    loaded = load(spec, weights_file=tmp_path / "w.pt")
    assert same(loaded.model, state())
    assert any("and 2 tensors beside them: loss.weight, metric.count" in note for note in loaded.notes)


def test_a_prefix_that_does_not_make_them_fit_is_kept(spec, tmp_path):
    wrong = {f"net.{key}": value for key, value in state().items() if key != "2.bias"}
    torch.save(wrong, tmp_path / "w.pt")
    with pytest.raises(LoadError, match=r"4 missing: 0\.weight"):
        load(spec, weights_file=tmp_path / "w.pt")


def sharded(place, shards):
    """Two files of safetensors and their index."""
    names = {}
    for number, keys in enumerate(shards):
        file = f"model-{number + 1}-of-{len(shards)}.safetensors"
        save_file({key: state()[key] for key in keys}, place / file)
        names |= dict.fromkeys(keys, file)
    index = place / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": names}))
    return index


def test_shards_are_read_by_their_index(spec, tmp_path):
    index = sharded(tmp_path, [["0.weight", "0.bias"], ["2.weight", "2.bias"]])
    loaded = load(spec, weights_file=index)
    assert same(loaded.model, state())
    assert "model.safetensors.index.json: read 2 files" in loaded.notes
    assert tmp_path / "model-2-of-2.safetensors" in files_read_for(spec, index)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"weight_map": {"0.weight": "../other.safetensors"}}', "expected the name of a file beside it"),
        ('{"weight_map": {"0.weight": "/etc/passwd"}}', "expected the name of a file beside it"),
        ('{"weight_map": {"0.weight": ".."}}', "expected the name of a file beside it"),
        ('{"weight_map": {"0.weight": "absent.safetensors"}}', "absent.safetensors"),
        ('{"weight_map": [1]}', "is no index of a sharded checkpoint"),
        ("[" * 5000, "is no index of a sharded checkpoint"),
        ("\\xff", "is no index of a sharded checkpoint"),
    ],
)
def test_an_index_that_is_wrong_is_refused(spec, tmp_path, text, said):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text)
    with pytest.raises(LoadError, match=said):
        load(spec, weights_file=index)


def test_a_tensor_that_no_shard_holds_is_named(spec, tmp_path):
    index = sharded(tmp_path, [["0.weight", "0.bias"], ["2.weight"]])
    document = json.loads(index.read_text())
    document["weight_map"]["2.bias"] = "model-2-of-2.safetensors"
    index.write_text(json.dumps(document))
    with pytest.raises(LoadError, match=r"names 2\.bias, which its files do not hold"):
        load(spec, weights_file=index)


def test_a_directory_with_a_configuration_is_a_model_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    config.architectures = ["BertModel"]
    config.save_pretrained(tmp_path)
    loaded = load(str(tmp_path))
    assert type(loaded.model).__name__ == "BertModel"
    assert loaded.notes == (f"{tmp_path} holds a config.json: read as hf:{tmp_path}, with random weights",)
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    assert "its own are read with --weights" in load(str(tmp_path)).notes[0]
    assert tmp_path / "config.json" in files_read_for(str(tmp_path))
