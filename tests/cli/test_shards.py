"""`autoinit apply SPEC -o DIRECTORY`: the values of `Plan.apply`, in the layout that transformers reads."""

import json
import os
from pathlib import Path

import pytest
import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import safe_open
from safetensors.torch import load_file

import autoinit
from autoinit import checkpoints
from autoinit.loading import load
from tests.shared.command_line import refused, run

transformers = pytest.importorskip("transformers", reason="no release of it takes Python 3.10")

NETS = """\
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 32, padding_idx=3)
        self.norm = nn.LayerNorm(32, dtype=torch.float64)
        self.up = nn.Linear(32, 64)
        self.down = nn.Linear(64, 32, dtype=torch.bfloat16)
        self.bn = nn.BatchNorm1d(32)
        self.head = nn.Linear(32, 50, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x):
        x = self.norm(self.embed(x).double()).float().mean(1)
        x = self.down(torch.relu(self.up(x)).bfloat16()).float()
        return self.head(self.bn(x))

class Lookup(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.up = nn.Linear(8, 4)

    def forward(self, x):
        return self.up(self.embed(x)).relu()

class Token(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Linear(8, 4)
        self.token = nn.Parameter(torch.zeros(4))

    def forward(self, x):
        return self.up(x) + self.token

class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.utils.parametrizations.weight_norm(nn.Linear(8, 4))

    def forward(self, x):
        return self.up(x).relu()

class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Linear(8, 4)
        self.table = nn.Parameter(torch.empty(4))
        self.reset_parameters()

    def reset_parameters(self):
        nn.init.ones_(self.table)
        mask = torch.ones(4, device=self.up.weight.device)  # of another module, as that of timm's Swin is
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x):
        return self.up(x).relu() * self.table * self.mask

class Stubborn(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.ones(1).item()
        self.up = nn.Linear(8, 4)
        self.down = nn.Linear(4, 2)

    def forward(self, x):
        return self.down(self.up(x).relu() * self.scale)
"""
LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 300, "hidden_size": 64,
    "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(NETS)
    Path("llama").mkdir()
    Path("llama/config.json").write_text(json.dumps(LLAMA))
    return tmp_path


def read(directory):
    """All tensors of a directory, and the names of its files."""
    found = {}
    files = sorted(Path(directory).glob("*.safetensors"))
    for file in files:
        found |= load_file(file)
    return found, [file.name for file in files]


def net(name):
    space = {"__name__": "nets"}
    exec(NETS, space)  # the text above
    return space[name]()


def written(model, **options):
    """The state dict that `Plan.apply` gives a model in memory."""
    autoinit.plan(model, **options).apply(model, 3, rest="reset", force=True)
    return model.state_dict()


def require_equal(found, expected, absent):
    assert expected.keys() - found.keys() == absent
    for name, tensor in found.items():
        assert tensor.dtype == expected[name].dtype, name
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("options", [{}, {"distribution": "orthogonal"}, {"recipe": "gpt2"}])
def test_a_factorys_values_are_those_of_apply_on_a_model_in_memory(here, options):
    given = [f"--{name}={value}" for name, value in options.items()]
    run("apply", "nets.py:Net", "-o", "out", "--shard-size", "10kB", "--seed", "3", *given)
    found, files = read("out")
    assert files == [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    require_equal(found, written(net("Net"), **options), {"head.weight"})
    assert not found["embed.weight"][3].any()  # the row for padding
    assert found["norm.weight"].dtype == torch.float64
    assert (found["norm.weight"] == 1).all()
    assert found["down.weight"].dtype == torch.bfloat16
    assert not found["down.bias"].any()


def test_a_table_that_is_not_planned_is_drawn_with_its_row_of_padding(here):
    run("apply", "nets.py:Lookup", "-o", "out", "--seed", "3")
    found, files = read("out")
    assert files == ["model.safetensors"]
    assert os.listdir("out") == files
    require_equal(found, written(net("Lookup")), set())


def test_a_buffer_that_is_no_part_of_the_state_dict_may_stay_without_values(here):
    run("apply", "nets.py:Masked", "-o", "out", "--seed", "3")
    require_equal(read("out")[0], written(net("Masked")), set())
    assert read("out")[0]["table"].tolist() == [1, 1, 1, 1]


def test_shards_are_filled_as_huggingface_fills_them(here):
    """Against `huggingface_hub`, which fills those of transformers: the same tensors in as many files."""
    run("apply", "hf:llama", "-o", "out", "--shard-size", "100kB", "--seed", "3")
    index = json.loads(Path("out/model.safetensors.index.json").read_text())
    model = transformers.LlamaForCausalLM(transformers.AutoConfig.from_pretrained("llama"))
    state = {name: tensor for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    split = split_torch_state_dict_into_shards(
        state, max_shard_size=100_000, filename_pattern="model{suffix}.safetensors"
    )
    assert index["weight_map"] == split.tensor_to_filename
    assert index["metadata"]["total_size"] == split.metadata["total_size"]
    for name, file in index["weight_map"].items():
        with safe_open(Path("out") / file, "pt") as opened:
            assert name in opened.keys()  # noqa: SIM118 - no mapping
            assert opened.metadata() == {"format": "pt"}


def test_transformers_reads_a_configurations_model(here):
    run("apply", "hf:llama", "-o", "out", "--shard-size", "100kB", "--seed", "3")
    expected = written(transformers.LlamaForCausalLM(transformers.AutoConfig.from_pretrained("llama")))
    require_equal(read("out")[0], expected, {"lm_head.weight"})
    model, told = transformers.AutoModelForCausalLM.from_pretrained("out", output_loading_info=True)
    assert not any(told.values())
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_a_configurations_dtype_is_that_of_its_files(here):
    """As transformers builds and reads it: float32 values, rounded; another one where it is asked for."""
    Path("llama/config.json").write_text(json.dumps(LLAMA | {"dtype": "bfloat16"}))
    run("apply", "hf:llama", "-o", "out", "--seed", "3")
    run("apply", "hf:llama", "-o", "wide", "--seed", "3", "--arg", "dtype=float32")
    found, wide = read("out")[0], read("wide")[0]
    assert {each.dtype for each in found.values()} == {torch.bfloat16}
    assert {each.dtype for each in wide.values()} == {torch.float32}
    assert all(torch.equal(found[name], wide[name].bfloat16()) for name in wide)
    for directory, dtype in ("out", "bfloat16"), ("wide", "float32"):
        assert json.loads(Path(directory, "config.json").read_text())["dtype"] == dtype
        model = transformers.AutoModelForCausalLM.from_pretrained(directory)
        assert model.dtype == getattr(torch, dtype)


def test_report_and_check_read_the_directory(here):
    run("apply", "nets.py:Lookup", "-o", "plain")
    assert "weights without a model" in run("report", "plain").stdout
    assert "clean" in run("check", "plain").stdout
    run("apply", "hf:llama", "-o", "out", "--shard-size", "100kB", "--seed", "3")
    weights = "out/model.safetensors.index.json"
    assert "hf:out" in run("report", "out").stderr
    assert "0.128 -> 0.125" in run("report", "out", "--weights", weights).stdout  # o_proj: sqrt(2 / (64 + 64)) planned


def test_without_a_seed_one_is_drawn_and_told(here):
    assert ", seed " in run("apply", "nets.py:Lookup", "-o", "one").stdout
    run("apply", "nets.py:Lookup", "-o", "two")
    assert not torch.equal(read("one")[0]["up.weight"], read("two")[0]["up.weight"])


def test_a_model_that_needs_memory_is_built_there_and_a_file_is_read_as_before(here):
    done = run("apply", "nets.py:Stubborn", "-o", "out", "--seed", "3")
    assert "built in memory" in done.stderr
    torch.save(torch.nn.Sequential(torch.nn.Linear(8, 4)), "model.pt")
    run("apply", "model.pt", "-o", "file", "--seed", "3")
    for directory, model in ("out", net("Stubborn")), ("file", torch.nn.Sequential(torch.nn.Linear(8, 4))):
        autoinit.plan(model).apply(model, 3)
        require_equal(read(directory)[0], model.state_dict(), set())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nets.py:Token", "-o", "new"], "token is left without values"),
        (["nets.py:Normed", "-o", "new"], "up.weight is parametrised"),
        (["nets.py:Net", "-o", "full"], "full is a directory that is not empty"),
        (["nets.py:Net", "-o", "x" * 300], "cannot be written: File name too long"),
        (["hf:llama", "-o", "llama"], "llama is a directory that is not empty"),
        (["nets.py:Net", "-o", "nets.py", "--shard-size", "1GB"], "nets.py is one file"),
        (["nets.py:Net", "-o", "x.safetensors", "--shard-size", "1GB"], "x.safetensors is one file"),
        (["nets.py:Net", "-o", "new", "--shard-size", "0"], "more than 0 bytes"),
        (["nets.py:Net", "-o", "absent/new"], "there is no directory"),
        (["nets.py:Net", "-o", "new", "--in-place"], "new is a directory"),
    ],
)
def test_what_cannot_be_written_is_refused_and_nothing_is_left(here, arguments, said):
    Path("full").mkdir()
    Path("full/kept").write_text("kept")
    before = sorted(each for each in here.rglob("*") if "__pycache__" not in each.parts)
    assert said in refused("apply", *arguments)
    assert sorted(each for each in here.rglob("*") if "__pycache__" not in each.parts) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt("by hand"), OSError(28, "No space left on device")])
def test_nothing_is_left_of_what_was_interrupted(here, monkeypatch, error):
    values = checkpoints.ValueStream.values

    def failing(self, after):
        found = values(self, after)
        yield next(found)
        assert len(list(here.glob(".out.*/*.safetensors"))) == 3
        raise error

    monkeypatch.setattr(checkpoints.ValueStream, "values", failing)
    loaded = load("nets.py:Net", meta=True)
    with pytest.raises((KeyboardInterrupt, autoinit.ArgumentError), match=r"by hand|out cannot be written: No space"):
        checkpoints.write(loaded, Path("out"), None, shard_size=10_000, seed=3)
    assert not Path("out").exists()
    assert not list(here.glob(".out.*"))
