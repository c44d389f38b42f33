"""Model specs and saved files: what loads, what is refused, and that refusing runs nothing."""

import functools
import json
import os
import pickle
import re
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from autoinit.errors import LoadError
from autoinit.loading import load
from autoinit.loading.files import ReadFile
from autoinit.saving import save


class OwnModule(nn.Module):
    """A class that no safe load knows."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4)


class Payload:
    """Creates a file when unpickled without care."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return (os.mkdir, (self.target,))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


def sequential() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(4, 2))


def transformer() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 16, activation=nn.functional.gelu, batch_first=True)


STANDARD = {
    "sequential": sequential,
    "transformer": transformer,
    "lstm": lambda: nn.LSTM(3, 4),
    "spectral_norm": lambda: nn.utils.spectral_norm(nn.Linear(3, 4)),
    "attention": lambda: nn.MultiheadAttention(8, 2),
    "bfloat16": lambda: nn.Linear(3, 4).bfloat16(),
}


@pytest.mark.parametrize("name", STANDARD)
def test_models_of_standard_layers_load_without_trust(here, name):
    model = STANDARD[name]()
    torch.save(model, "model.pt")
    loaded = load("model.pt")
    assert type(loaded.model) is type(model)
    assert loaded.name == "model.pt"
    assert loaded.files == (ReadFile(Path("model.pt"), "model"),)
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[key], value)


def test_old_weight_norm_loads_without_trust(here):
    with pytest.warns(FutureWarning, match="weight_norm"):
        model = nn.utils.weight_norm(nn.Linear(3, 4))
    torch.save(model, "model.pt")
    assert torch.equal(load("model.pt").model.weight_g, model.weight_g)


def test_own_classes_are_refused_by_name_with_both_ways_on(here):
    torch.save(OwnModule(), "net.pt")
    with pytest.raises(LoadError, match=rf"net\.pt needs classes .*: {__name__}\.OwnModule; .*--trust.*--weights"):
        load("net.pt")


def test_trusted_files_build_own_classes(here):
    torch.save(OwnModule(), "net.pt")
    assert isinstance(load("net.pt", trust=True).model, OwnModule)


def test_safe_loading_leaves_torchs_list_of_safe_globals_alone(here):
    torch.save(sequential(), "model.pt")
    before = torch.serialization.get_safe_globals()
    load("model.pt")
    assert set(torch.serialization.get_safe_globals()) == set(before)


def write_zip(path, payload):
    torch.save(payload, path)


def write_old(path, payload):
    torch.save(payload, path, _use_new_zipfile_serialization=False)


def write_pickle(path, payload, protocol):
    Path(path).write_bytes(pickle.dumps(payload, protocol=protocol))


WRITERS = {
    "zip": write_zip,
    "old": write_old,
    **{f"pickle{number}": functools.partial(write_pickle, protocol=number) for number in (0, 2, 4)},
}


def wrapped(payload, wrapping):
    if wrapping == "alone":
        return payload
    if wrapping == "in a state dict":
        return OrderedDict(weight=torch.zeros(4, 3), bias=payload)
    module = nn.Linear(3, 4)
    module.extra = payload
    return module


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("wrapping", ["alone", "in a state dict", "in a module"])
@pytest.mark.parametrize("entry", ["spec", "weights"])
def test_a_malicious_pickle_runs_nothing(here, writer, wrapping, entry):
    target = here / "pwned"
    WRITERS[writer]("evil.pt", wrapped(Payload(target), wrapping))
    Path("good.py").write_text("from torch import nn\nmodel = nn.Linear(3, 4)\n")
    spec, weights = ("evil.pt", None) if entry == "spec" else ("good.py:model", "evil.pt")
    with pytest.raises(LoadError, match=r"mkdir|not a model file|damaged"):
        load(spec, weights_file=weights)
    assert not target.exists()


def torch_script(path):
    torch.jit.script(nn.Linear(3, 4)).save(path)


def truncated(path):
    torch.save(sequential(), path)
    Path(path).write_bytes(Path(path).read_bytes()[:700])


def on_several_disks(path):
    """In the locator of the directory's end in zip64, which torch writes."""
    torch.save(sequential(), path)
    before, locator, after = Path(path).read_bytes().rpartition(b"PK\x06\x07")
    Path(path).write_bytes(before + locator + after[:12] + (2).to_bytes(4, "little") + after[16:])


def followed_by_more(path):
    torch.save(sequential(), path)
    with open(path, "ab") as file:
        file.write(b"more")


def truncated_old(path):
    torch.save(sequential().state_dict(), path, _use_new_zipfile_serialization=False)
    Path(path).write_bytes(Path(path).read_bytes()[:300])


def plain_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "hello")


BAD_FILES = {
    "empty": (lambda path: Path(path).write_bytes(b""), "is empty"),
    "random": (lambda path: Path(path).write_bytes(bytes(range(200, 256)) * 9), "is not a model file"),
    "text": (lambda path: Path(path).write_text("import torch\n"), "is not a model file"),
    "truncated": (truncated, "is cut short"),
    "on several disks": (on_several_disks, "is damaged: its archive cannot be read .zipfiles that span"),
    "followed by more": (followed_by_more, "is damaged: its archive cannot be read .something follows"),
    "truncated old format": (truncated_old, "is damaged"),
    "zip": (plain_zip, "is a zip archive, but not one.*notes.txt"),
    "TorchScript": (torch_script, "is a TorchScript archive.*torch.export.save"),
    "directory": (lambda path: Path(path).mkdir(), "is a directory"),
    "plain pickle": (lambda path: Path(path).write_bytes(pickle.dumps([1, 2])), "is damaged, or no file"),
    "state dict": (lambda path: torch.save(nn.Linear(3, 4).state_dict(), path), "holds a state dict.*FACTORY"),
    "wrapped state dict": (lambda path: torch.save({"state_dict": {"w": torch.zeros(2)}}, path), "holds a state"),
    "number": (lambda path: torch.save(3, path), "holds a int, not a model"),
    "old whole model": (
        lambda path: torch.save(sequential(), path, _use_new_zipfile_serialization=False),
        "holds a whole model in the file format of torch before 1.6.*--trust",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", BAD_FILES)
@pytest.mark.parametrize("name", ["bad.pt", "bad.pth"])
def test_bad_files_are_one_clear_line(here, kind, name):
    write, message = BAD_FILES[kind]
    write(name)
    with pytest.raises(LoadError, match=rf"{re.escape(name)} {message}") as caught:
        load(name)
    assert "\n" not in str(caught.value)


def test_a_missing_file_suggests_its_neighbour(here):
    torch.save(sequential(), "resnet.pt")
    with pytest.raises(LoadError, match=r"^resent\.pt: no such file; did you mean 'resnet\.pt'\?$"):
        load("resent.pt")


def test_a_file_that_may_not_be_read(here, monkeypatch):
    torch.save(sequential(), "model.pt")

    def refuse(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(LoadError, match=r"^model\.pt cannot be read: Permission denied$"):
        load("model.pt")


def test_a_spec_of_no_kind_lists_the_kinds(here):
    with pytest.raises(LoadError, match=r"neither a file nor a model spec.*timm:NAME"):
        load("resnet18")


def test_the_model_in_a_checkpoint_is_taken_with_a_note(here):
    torch.save({"epoch": 3, "model": sequential()}, "ckpt.pt")
    loaded = load("ckpt.pt")
    assert isinstance(loaded.model, nn.Sequential)
    assert loaded.notes == ("ckpt.pt is a checkpoint; its 'model' is the model",)
    assert loaded.files[0].holds == "checkpoint"


FACTORIES = """\
import torch
from torch import nn

model = nn.Linear(3, 4)
number = 3

def build(width, depth=4):
    print("building")
    return nn.Linear(width, depth)

def broken():
    raise ValueError("no such luck")

def nothing():
    return None

class Net(nn.Linear):
    def __init__(self, size=2):
        super().__init__(size, size)
"""


@pytest.fixture
def factories(here):
    (here / "nets.py").write_text(FACTORIES)
    return here


@pytest.mark.parametrize("source", ["nets.py", "nets"])
@pytest.mark.parametrize(
    ("name", "arguments", "shape"),
    [("model", {}, (4, 3)), ("build", {"width": 5}, (4, 5)), ("Net", {}, (2, 2)), ("Net", {"size": 7}, (7, 7))],
)
def test_factories(factories, source, name, arguments, shape, capsys):
    path_before = list(sys.path)
    loaded = load(f"{source}:{name}", arguments=arguments)
    assert loaded.model.weight.shape == shape
    assert loaded.name == f"{source}:{name}"
    assert sys.path == path_before
    assert capsys.readouterr().out == "", "what the user's code prints goes to standard error"


@pytest.mark.parametrize(
    ("spec", "arguments", "message"),
    [
        ("nets.py:broken", {}, r"calling nets\.py:broken failed at .*nets\.py:12: ValueError: no such luck"),
        ("nets.py:nothing", {}, r"nets\.py:nothing gave a NoneType; a factory gives a torch\.nn\.Module"),
        ("nets.py:number", {}, r"nets\.py:number is a int"),
        ("nets.py:biuld", {}, r"nets\.py has no 'biuld'; did you mean 'build'\?"),
        ("nest.py:build", {}, r"nest\.py: no such file; did you mean 'nets\.py'\?"),
        ("nest:build", {}, r"no module 'nest' to import; did you mean .*'nets'"),
        ("nets.py:build", {}, r"build\(width, depth=4\): missing a required argument: 'width'.*--arg"),
        ("nets.py:build", {"widht": 3}, "--arg"),
        ("nets.py:model", {"width": 3}, "is a model already and takes no arguments"),
        ("nets.py", {}, r"name the factory in it as nets\.py:FACTORY"),
        ("nets:", {}, "a factory is named"),
    ],
)
def test_factories_that_fail(factories, spec, arguments, message):
    with pytest.raises(LoadError, match=message) as caught:
        load(spec, arguments=arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def f(:\n", r"nets2\.py:1: SyntaxError"),
        ("x = 1\nimport missing_package_of_mine\n", r"nets2\.py:2: ModuleNotFoundError"),
        ("raise SystemExit(3)\n", r"nets2\.py:1: SystemExit: 3"),
    ],
)
@pytest.mark.parametrize("source", ["nets2.py", "nets2"])
def test_code_that_cannot_be_imported(here, code, message, source):
    (here / "nets2.py").write_text(code)
    with pytest.raises(LoadError, match=message):
        load(f"{source}:f")


def test_arguments_of_a_file_are_refused(here):
    torch.save(sequential(), "model.pt")
    with pytest.raises(LoadError, match=r"--arg width: model\.pt is a file"):
        load("model.pt", arguments={"width": 3})


def weights_files():
    state = nn.Linear(3, 4).state_dict()
    yield "plain.pt", lambda: torch.save(state, "plain.pt"), ()
    yield "w.safetensors", lambda: save_file(state, "w.safetensors"), ()
    for key in ("state_dict", "model", "model_state_dict"):
        note = f"{key}.pt is a checkpoint; took the weights in its {key!r}"
        yield f"{key}.pt", functools.partial(torch.save, {"epoch": 1, key: state}, f"{key}.pt"), (note,)
    prefixed = {f"module.{name}": value for name, value in state.items()}
    yield "dp.pt", lambda: torch.save(prefixed, "dp.pt"), ("dp.pt: left off the prefix 'module.' of every key",)


@pytest.mark.parametrize(("name", "write", "notes"), list(weights_files()))
def test_weights_into_a_factorys_model(factories, name, write, notes):
    write()
    loaded = load("nets.py:build", weights_file=name, arguments={"width": 3})
    assert loaded.notes == notes
    stored = torch.load(name) if name.endswith(".pt") else None
    if name == "plain.pt":
        assert torch.equal(loaded.model.weight, stored["weight"])


def test_weights_that_do_not_fit_name_the_keys(factories):
    torch.save({"weight": torch.zeros(9, 9), "extra": torch.zeros(1)}, "w.pt")
    message = (
        r"does not fit Linear: 1 missing: bias; 1 unexpected: extra; 1 of another shape: weight \(9, 9\) for \(4, 3\)"
    )
    with pytest.raises(LoadError, match=message):
        load("nets.py:model", weights_file="w.pt")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda: Path("w.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      junk"), "no safetensors file"),
        (lambda: Path("w.safetensors").write_bytes(b"junk" * 30), "is not a model file"),
        (lambda: torch.save({"epoch": 1, "lr": 0.1}, "w.safetensors"), "is no state dict: epoch, lr are no tensors"),
        (lambda: torch.save([1], "w.safetensors"), "holds a list, not a state dict"),
    ],
)  # fmt: skip
def test_weights_files_that_hold_none(factories, write, message):
    write()
    with pytest.raises(LoadError, match=message):
        load("nets.py:model", weights_file="w.safetensors")


def test_safetensors_alone_needs_a_factory(here):
    save_file({"w": torch.zeros(2)}, "w.safetensors")
    with pytest.raises(LoadError, match=r"w\.safetensors holds weights only.*FACTORY --weights"):
        load("w.safetensors")


def test_safetensors_are_read_without_their_package_and_written_with_it(factories, monkeypatch):
    weights = {name: torch.full_like(each, 3.0) for name, each in load("nets.py:model").model.state_dict().items()}
    save_file(weights, "w.safetensors")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    loaded = load("nets.py:model", weights_file="w.safetensors")
    assert all(torch.equal(each, weights[name]) for name, each in loaded.model.state_dict().items())
    with pytest.raises(LoadError, match=r"pip install 'torch-autoinit\[safetensors\]'"):
        save(loaded, Path("new.safetensors"))


def test_torchvision_by_name():
    loaded = load("torchvision:squeezenet1_1", arguments={"num_classes": 7})
    assert loaded.model.num_classes == 7
    with pytest.raises(LoadError, match="torchvision has no model 'resnet81'; did you mean 'resnet18'"):
        load("torchvision:resnet81")


@pytest.mark.parametrize("library", ["timm", "torchvision", "hf"])
def test_a_library_that_is_not_installed(library, monkeypatch):
    package = {"hf": "transformers"}.get(library, library)
    for name in [package, *(each for each in sys.modules if each.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(LoadError, match=f"{package}.*(not installed|failed)"):
        load(f"{library}:anything")


def test_transformers_configuration_directory(here):
    pytest.importorskip("transformers")
    (here / "tiny").mkdir()
    config = {
        "model_type": "gpt2",
        "n_layer": 1,
        "n_head": 2,
        "n_embd": 8,
        "vocab_size": 11,
        "architectures": ["GPT2LMHeadModel"],
    }
    (here / "tiny" / "config.json").write_text(json.dumps(config))
    loaded = load("hf:tiny")
    assert type(loaded.model).__name__ == "GPT2LMHeadModel"
    assert loaded.model.lm_head.weight.shape == (11, 8)
    assert type(load("tiny").model).__name__ == "GPT2LMHeadModel"
    assert loaded.model.lm_head.weight.dtype == torch.float32
    for named, arguments, dtype in (
        ({"dtype": "bfloat16"}, {}, torch.bfloat16),
        ({"torch_dtype": "float16"}, {}, torch.float16),  # as transformers wrote it before its version 5
        ({"dtype": "bfloat16"}, {"dtype": "float32"}, torch.float32),
        ({"dtype": "bfloat16", "architectures": None}, {}, torch.bfloat16),
    ):
        (here / "tiny" / "config.json").write_text(json.dumps(config | named))
        model = load("hf:tiny", arguments=arguments).model
        assert {each.dtype for each in model.parameters()} == {dtype}
    assert torch.get_default_dtype() == torch.float32
    (here / "empty").mkdir()
    with pytest.raises(LoadError, match=r"is a directory, not a file; one with a config\.json"):
        load("empty")
    with pytest.raises(LoadError, match=r"nor a model type of transformers; did you mean.*'bert'"):
        load("hf:bret")
