"""Exported programs are read as data: what they hold is what torch would load, and nothing in them is run."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from autoinit import autoinit, plan
from autoinit.errors import AutoinitError, LoadError
from autoinit.loading import load
from autoinit.loading.exported._sizes import value_of
from autoinit.loading.files import ReadFile
from autoinit.resolving import resolve
from autoinit.tracing import ExportedModel, trace
from tests.shared.archives import pickled, redocumented, rewritten, write_program
from tests.truth import CASES


@pytest.fixture
def here(tmp_path, monkeypatch, program):
    """A directory of its own with `net.pt2`, in which `torch.export.load` may not be called."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    shutil.copy(program, "net.pt2")

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("torch.export.load was called")

    monkeypatch.setattr(torch.export, "load", refuse)
    return tmp_path


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("program") / "net.pt2"
    torch.manual_seed(0)
    write_program(path)
    return path


def test_a_program_is_its_graph_and_its_tensors(here):
    torch.manual_seed(0)
    model = write_program("other.pt2")
    loaded = load("other.pt2")
    assert isinstance(loaded.model, ExportedModel)
    assert loaded.files == (ReadFile(Path("other.pt2"), "exported program"),)
    assert list(dict(loaded.model.named_parameters())) == ["layer.weight", "layer.bias"]
    for name, parameter in loaded.model.named_parameters():
        assert torch.equal(parameter, model.get_parameter(name))
        assert parameter.requires_grad
    (row,) = resolve(trace(loaded.model))
    assert (row.name, row.nonlinearity, row.reason) == ("layer", "relu", "activation")
    assert str(row.source).rpartition(":")[0].endswith("tests/shared/archives.py")


def test_a_trusted_program_is_what_torch_loads(tmp_path, program):
    assert isinstance(load(str(program), trust=True).model, torch.export.ExportedProgram)


class Everything(nn.Module):
    """Tied weights, buffers of both kinds, a constant, a part that nothing takes, several dtypes, a strided view."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(11, 8)
        self.conv = nn.Conv1d(8, 8, 3, padding=1).bfloat16()
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.table.weight
        self.turned = nn.Parameter(torch.randn(6, 8).t().contiguous().t())
        self.register_buffer("offset", torch.arange(8).float())
        self.register_buffer("passing", torch.full((8,), 2.0), persistent=False)
        self.register_buffer("empty", torch.empty(0, 3))

    def forward(self, ids, flag: bool = True, scale=None):
        x = self.conv(self.table(ids).transpose(1, 2).bfloat16()).float()
        x = self.norm(torch.relu(x)).transpose(1, 2) + self.offset
        kept, _ = (x * self.passing * torch.tensor(3.0)).chunk(2, dim=-1)
        kept = torch.cat([kept, kept], dim=-1)
        return {"logits": self.head(torch.tanh(kept)), "best": kept.max(-1)[0], "more": kept @ self.turned.t()}


@pytest.fixture(scope="module")
def everything() -> tuple[torch.export.ExportedProgram, bytes]:
    torch.manual_seed(0)
    program = torch.export.export(Everything(), (torch.randint(0, 11, (2, 5)),))
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No complete tensor found in the group")
        torch.export.save(program, buffer)
    return program, buffer.getvalue()


def test_tensors_of_every_kind_are_those_of_the_program(here, everything):
    program, content = everything
    Path("all.pt2").write_bytes(content)
    found = load("all.pt2").model
    assert [name for name, _ in found.named_parameters()] == [name for name, _ in program.named_parameters()]
    ours, theirs = found.state_dict, program.state_dict
    assert set(ours) == set(theirs)
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name
        assert (ours[name].dtype, ours[name].stride()) == (tensor.dtype, tensor.stride()), name
    assert ours["head.weight"] is ours["table.weight"]
    constants = {node.target: node.meta["constant"] for node in found.graph.nodes if "constant" in node.meta}
    assert torch.equal(constants.pop("passing"), torch.full((8,), 2.0))
    assert [float(each) for each in constants.values()] == [3.0]


def test_its_resolutions_and_plan_are_those_of_the_program(here, everything):
    program, content = everything
    Path("all.pt2").write_bytes(content)
    found = load("all.pt2").model
    assert resolve(trace(found)) == resolve(trace(program))
    assert plan(found).layers == plan(program).layers


class Tied(nn.Module):
    """A table whose weight is the head's as well, under a name that the alphabet has first."""

    def __init__(self):
        super().__init__()
        self.table, self.apex = nn.Embedding(11, 8), nn.Linear(8, 11, bias=False)
        self.apex.weight = self.table.weight

    def forward(self, ids):
        return self.apex(torch.tanh(self.table(ids)))


def test_a_tied_weight_bears_the_name_that_the_model_has_first(here):
    torch.export.save(torch.export.export(Tied(), (torch.randint(0, 11, (2, 5)),)), "tied.pt2")
    (row,) = resolve(trace(load("tied.pt2").model))
    assert (row.name, row.reason) == ("table", "output")


def test_it_can_be_initialised_and_its_weights_written(here, everything):
    """The values are a function of seed, name and shape: those that the program itself gets."""
    program, content = everything
    Path("all.pt2").write_bytes(content)
    found = load("all.pt2").model
    autoinit(found, seed=3, verbose=False)
    buffer = io.BytesIO(content)
    autoinit(again := ExportedModel(**vars(load("all.pt2").model)), seed=3, verbose=False)
    assert buffer.getvalue() == content
    for name, parameter in found.named_parameters():
        assert torch.equal(parameter, dict(again.named_parameters())[name])
    assert not torch.equal(found.state_dict["conv.weight"], dict(program.named_parameters())["conv.weight"])


@pytest.mark.filterwarnings("ignore:The tensor attributes .*_flat_weights:UserWarning")
@pytest.mark.parametrize("case", [case for case in CASES if case.exported], ids=lambda case: case.name)
def test_truth_models_resolve_as_before_without_torch_loading_them(here, case):
    program = torch.export.export(case.build(), case.inputs())
    torch.export.save(program, "model.pt2")
    assert resolve(trace(load("model.pt2").model)) == resolve(trace(program))


# What ran code when torch loaded it.


class Payload:
    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return (Path.mkdir, (Path(self.target),))


def size_as_code(here: Path, code: str) -> None:
    """sympy evaluates the text of a size."""

    def change(name: str, content: bytes) -> bytes:
        return content.replace(b"Mul(Integer(2), ", f"Mul({code}, ".encode())

    rewritten("net.pt2", "evil.pt2", change)
    assert Path("evil.pt2").read_bytes() != Path("net.pt2").read_bytes()


def size_of_another_record(here: Path) -> None:
    """torch deserialises every record of the folder, whatever its suffix."""
    size_as_code(here, f"__import__('os').mkdir('{here / 'ran'}')")
    with zipfile.ZipFile("evil.pt2") as evil:
        name = next(each for each in evil.namelist() if each.endswith("models/model.json"))
        content = evil.read(name)
    shutil.copy("net.pt2", "evil.pt2")
    with zipfile.ZipFile("evil.pt2", "a") as archive:
        archive.writestr(name.replace("model.json", "model.txtx"), content)


def size_with_a_newline(here: Path) -> None:
    """sympify drops newlines, which end a string for Python's own parser."""
    size_as_code(here, f"Symbol('x\\\\n') + __import__('os').mkdir('{here / 'ran'}')")


def inputs_of_two_kinds(here: Path) -> None:
    """A pickle for torch that is a zip archive for zipfile."""
    honest = pickled(torch.zeros(1))
    evil = pickle.dumps(Payload(here / "ran"), protocol=2) + honest
    rewritten("net.pt2", "evil.pt2", lambda name, content: evil if "sample_inputs" in name else content)


def module_to_import(here: Path) -> None:
    (here / "imported.py").write_text(f"import os\nos.mkdir({str(here / 'ran')!r})\nclass Factory: pass\n")


def tree_with_an_enum(here: Path) -> None:
    """torch imports the module of an enum in the description of nested arguments."""
    module_to_import(here)
    enum = json.dumps([{"__enum__": True, "fqn": "imported:Factory", "name": "x"}])
    change_tree({"type": "builtins.dict", "context": enum, "children_spec": []})


def tree_with_a_factory(here: Path) -> None:
    """So it does for the factory of a defaultdict."""
    module_to_import(here)
    factory = {"default_factory_module": "imported", "default_factory_name": "Factory", "dict_context": []}
    change_tree({"type": "collections.defaultdict", "context": factory, "children_spec": []})


def change_tree(tree: dict[str, Any]) -> None:
    def change(document: dict[str, Any]) -> None:
        document["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = json.dumps([1, tree])

    redocumented("net.pt2", "evil.pt2", change)


def input_named_by_code(here: Path) -> None:
    """torch.fx pastes the names of inputs into the source of a function and runs it."""
    name = f"x=__import__('os').mkdir('{here / 'ran'}')"
    content = Path("net.pt2").read_bytes()
    assert b'"x"' in content

    def change(document: dict[str, Any]) -> None:
        text = (
            json.dumps(document)
            .replace('"name": "x"', f'"name": "{name}"')
            .replace('"x": {"dtype"', f'"{name}": {{"dtype"')
        )
        document.clear()
        document.update(json.loads(text))

    redocumented("net.pt2", "evil.pt2", change)


ATTACKS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a record of another suffix": (size_of_another_record, r"models/model\.txtx is no document"),
    "a size with a newline": (size_with_a_newline, "is no size"),
    "example inputs of two kinds": (inputs_of_two_kinds, ""),
    "a tree with an enum": (tree_with_an_enum, ""),
    "a tree with a factory": (tree_with_a_factory, ""),
    "an input named by code": (input_named_by_code, "damaged.*matching regex"),
    "a size that is code": (lambda here: size_as_code(here, f"__import__('os').mkdir('{here / 'ran'}')"), "is no size"),
}  # fmt: skip
"""What is done to the file, and what is said of it; nothing where the part with code in it is not read at all."""


@pytest.mark.parametrize("attack", ATTACKS)
def test_crafted_programs_run_nothing(here, attack):
    craft, said = ATTACKS[attack]
    craft(here)
    if said:
        with pytest.raises(LoadError, match=rf"^evil\.pt2 [^\n]*{said}[^\n]*$"):
            load("evil.pt2")
    else:
        assert plan(load("evil.pt2").model)["layer"].nonlinearity == "relu"
    assert not (here / "ran").exists()
    assert "imported" not in sys.modules


def evil_operator(document: dict[str, Any]) -> None:
    document["graph_module"]["graph"]["nodes"][0]["target"] = "torch.serialization.os.mkdir"


def foreign_operator(document: dict[str, Any]) -> None:
    document["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.mylib.spin.default"


@pytest.mark.parametrize("change", [evil_operator, foreign_operator])
def test_operators_that_the_table_does_not_know_are_rows_and_not_looked_up(here, change):
    redocumented("net.pt2", "odd.pt2", change)
    before = dir(torch.ops)
    found = trace(load("odd.pt2").model)
    assert len(found.unsupported) == 1
    assert "mkdir" in found.unsupported[0].op or found.unsupported[0].op == "torch._ops.mylib.spin.default"
    assert dir(torch.ops) == before


def test_operators_of_the_table_are_known_without_their_library(here):
    """`torchvision::roi_align` is an entry of the table; an overload that torch does not have is known by it too."""

    def change(document: dict[str, Any]) -> None:
        document["graph_module"]["graph"]["nodes"][-1]["target"] = "torch.ops.aten.tanh.nowhere"

    redocumented("net.pt2", "odd.pt2", change)
    (row,) = resolve(trace(load("odd.pt2").model))
    assert row.nonlinearity == "tanh"


def newer_schema(document: dict[str, Any]) -> None:
    document["schema_version"] = {"major": 9, "minor": 1}
    document["something"] = "new"


def newer_minor(document: dict[str, Any]) -> None:
    document["schema_version"]["minor"] = 999


def custom_object(document: dict[str, Any]) -> None:
    argument = {"as_custom_obj": {"name": "obj", "class_fqn": "__torch__.torch.classes.My"}}
    document["graph_module"]["graph"]["nodes"][-1]["inputs"][0]["arg"] = argument


def unknown_field(document: dict[str, Any]) -> None:
    document["graph_module"]["graph"]["nodes"][0]["code"] = "import os"


def two_kinds(document: dict[str, Any]) -> None:
    document["graph_module"]["graph"]["outputs"][0]["as_int"] = 3


def nothing_made_it(document: dict[str, Any]) -> None:
    document["graph_module"]["graph"]["nodes"][-1]["inputs"][0]["arg"] = {"as_tensor": {"name": "nobody"}}


def made_twice(document: dict[str, Any]) -> None:
    graph = document["graph_module"]["graph"]
    graph["nodes"].append(graph["nodes"][-1])


def deep(document: dict[str, Any]) -> None:
    size: Any = "Symbol('s0', positive=True, integer=True)"
    for _ in range(200):
        size = f"Add({size}, Integer(1))"
    graph = document["graph_module"]["graph"]
    graph["sym_int_values"]["deep"] = {"as_expr": {"expr_str": size, "hint": None}}


def unknown_dtype(document: dict[str, Any]) -> None:
    next(iter(document["graph_module"]["graph"]["tensor_values"].values()))["dtype"] = 99


REFUSED = {
    newer_schema: r"refused: its schema is of version 9\.1, expected 8\.0 to 8\.\d+; .*--trust",
    newer_minor: r"refused: its schema is of version 8\.999, expected 8\.0 to 8\.\d+; .*--trust",
    custom_object: r"refused: it needs an object of the class '__torch__\.torch\.classes\.My'",
    unknown_field: r"damaged: .*unknown field `code`",
    two_kinds: r"damaged: .*expected one of as_none, .*found 2",
    nothing_made_it: r"refused: the value 'nobody' is used, and nothing made it before",
    made_twice: r"refused: the value 'relu' is made twice",
    deep: r"damaged: .*nested more than 60 deep",
    unknown_dtype: r"refused: dtype 99 is none that this torch knows",
}


@pytest.mark.parametrize("change", REFUSED, ids=lambda change: change.__name__)
def test_documents_that_say_what_cannot_be_are_refused_in_a_line(here, change):
    redocumented("net.pt2", "odd.pt2", change)
    with pytest.raises(LoadError, match=rf"^odd\.pt2 is {REFUSED[change]}[^\n]*$"):
        load("odd.pt2")


def reconfigured(change: Callable[[dict[str, Any]], None]) -> None:
    """`odd.pt2`, of which the description of the weight `layer.weight` is changed."""

    def changed(name: str, content: bytes) -> bytes:
        if not name.endswith("weights_config.json"):
            return content
        document = json.loads(content)
        change(document["config"]["layer.weight"])
        return json.dumps(document).encode()

    rewritten("net.pt2", "odd.pt2", changed)


TENSORS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "pickled": (lambda of: of.update(use_pickle=True), r"layer\.weight is pickled"),
    "beyond its record": (lambda of: of["tensor_meta"].update(sizes=[{"as_int": 5}, {"as_int": 4}]),
                          r"layer\.weight of sizes \(5, 4\) .* needs 80 bytes, and its record has 64"),
    "an offset beyond": (lambda of: of["tensor_meta"].update(storage_offset={"as_int": 1}), "needs 68 bytes"),
    "negative": (lambda of: of["tensor_meta"].update(sizes=[{"as_int": -4}, {"as_int": 4}]), "numbers from 0"),
    "a stride that overflows": (lambda of: of["tensor_meta"].update(strides=[{"as_int": 2**61}, {"as_int": 1}]),
                                "needs"),
    "sparse": (lambda of: of["tensor_meta"].update(layout=1), "is not a strided tensor"),
    "another record": (lambda of: of.update(path_name="weight_9"), "it has no record data/weights/weight_9"),
    "a path": (lambda of: of.update(path_name="../../etc/passwd"), "matching regex"),
}  # fmt: skip


@pytest.mark.parametrize("kind", TENSORS)
def test_tensors_that_their_records_do_not_hold_are_refused(here, kind):
    change, said = TENSORS[kind]
    reconfigured(change)
    with pytest.raises(LoadError, match=rf"^odd\.pt2 is (refused|damaged): [^\n]*{said}"):
        load("odd.pt2")


def test_tensors_without_bytes_are_on_meta(here):
    """What export writes of a model on the meta device."""
    rewritten("net.pt2", "bare.pt2", lambda name, content: b"" if name.endswith("weight_0") else content)
    assert load("bare.pt2").model.state_dict["layer.weight"].is_meta


@pytest.mark.parametrize(
    ("sizes", "strides"),
    [((2**61, 2**61), (2**61, 1)), ((4, 4), (2**61, 1)), ((2**60 + 1,), (0,)), ((0, 2**61, 2**61), (1, 1, 1))],
)
def test_tensors_without_bytes_have_sizes_that_torch_counts(here, sizes, strides):
    """Elements and reach times four bytes stay up to 2^62."""

    def change(name: str, content: bytes) -> bytes:
        if not name.endswith("weights_config.json"):
            return b"" if name.endswith("weight_0") else content
        document = json.loads(content)
        meta = document["config"]["layer.weight"]["tensor_meta"]
        meta.update(sizes=[{"as_int": size} for size in sizes], strides=[{"as_int": stride} for stride in strides])
        return json.dumps(document).encode()

    rewritten("net.pt2", "odd.pt2", change)
    with pytest.raises(LoadError, match=r"^odd\.pt2 is refused: layer\.weight of sizes .* needs more than 4,611,"):
        load("odd.pt2")


def test_a_record_that_is_there_twice_is_refused(here):
    with zipfile.ZipFile("net.pt2", "a") as archive:
        name = next(each for each in archive.namelist() if each.endswith("models/model.json"))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr(name, b"{}")
    with pytest.raises(LoadError, match=r"^net\.pt2 is damaged: [^\n]*it holds a record twice"):
        load("net.pt2")


def test_what_is_not_needed_is_not_read(here):
    """Compiled code, objects that no tensor refers to, example inputs, guards."""

    def change(name: str, content: bytes) -> bytes:
        return b"\x80 no pickle" if "sample_inputs" in name else content

    rewritten("net.pt2", "more.pt2", change)
    with zipfile.ZipFile("more.pt2", "a") as archive:
        root = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{root}/data/constants/custom_obj_0", b"anything")
        archive.writestr(f"{root}/data/aotinductor/model/model.so", b"\x7fELF")
    assert plan(load("more.pt2").model)["layer"].nonlinearity == "relu"


def test_one_program_of_several_is_the_one_named_model(here, program):
    both = io.BytesIO()
    module = torch.export.export(nn.Sequential(nn.Linear(3, 4), nn.Tanh()), (torch.zeros(2, 3),))
    torch.export.pt2_archive._package.package_pt2(both, exported_programs={"model": module, "other": module})
    Path("both.pt2").write_bytes(both.getvalue())
    assert plan(load("both.pt2").model)["0"].nonlinearity == "tanh"


def test_a_damaged_program_is_one_line(here):
    rewritten("net.pt2", "bad.pt2", lambda name, content: None if name.endswith("weight_0") else content)
    with pytest.raises(LoadError, match=r"^bad\.pt2 is damaged[^\n]*$"):
        load("bad.pt2")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("Integer(-7)", -7),
        ("Add(Mul(Integer(2), Integer(3)), Integer(4))", 10),
        ("FloorDiv(Integer(7), Integer(2))", 3),
        ("Mod(Integer(7), Integer(4))", 3),
        ("Mul(Integer(4294967296), Integer(4294967296))", 2**64),
        ("Add(Mul(Integer(2), Symbol('s77', positive=True, integer=True)), FloorDiv(s0, Integer(2)))", None),
        ("Max(Integer(1), s3)", None),
        ("Float('0.5', precision=53)", None),
    ],
)
def test_sizes(text, value):
    assert value_of(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('x')",
        "Add('__import__(\"os\")', 1)",
        "Integer('open(1)')",
        "s0.__class__",
        "[x for x in (1,)]",
        "(lambda: 1)()",
        "open('x', 'w')",
        "Symbol(Symbol('x', a='__import__'))",
        "Symbol('x\n')",
        "Symbol('x', positive=open)",
        "FloorDiv(Integer(1), Integer(0))",
        "f'{s0}'",
        "s0[0]",
        "2*s0",
        "1 +",
        "Add(1, 2",
        "Add(1, 2))",
        "",
        "９",
        f"Mul({', '.join(['9' * 40] * 200)})",
    ],
)
def test_anything_else_is_no_size(text):
    with pytest.raises(ValueError, match="is no size"):
        value_of(text)


HOSTILE = ("", "x", "__import__('os').mkdir('ran')", "torch.ops.aten.cat.default", "\n", "as_tensor", "x" * 2000)
KEYS = st.sampled_from(["as_int", "as_tensor", "name"])
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(HOSTILE),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=4,
)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 10**6), values), min_size=1, max_size=3))
def test_any_change_to_the_document_is_a_model_or_a_line(tmp_path_factory, program, changes):
    """Some value of the document becomes another: what loads can be planned, and what does not says so in a line."""

    def change(document: dict[str, Any]) -> None:
        for number, value in changes:
            places = list(places_in(document))
            holder, key = places[number % len(places)]
            holder[key] = value

    target = tmp_path_factory.mktemp("fuzz") / "odd.pt2"
    redocumented(program, target, change)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            plan(load(str(target)).model)
        except LoadError as error:
            said = str(error)
        except AutoinitError:
            said = ""
        else:
            said = ""
    assert "\n" not in said
    assert not Path("ran").exists()


def places_in(value: Any):
    """Every (container, key) of a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in list(items):
        yield value, key
        yield from places_in(each)


@pytest.mark.parametrize(
    ("record", "content", "said"),
    [
        ("byteorder", b"big", r"refused: its byteorder is 'big', expected little; .*--trust"),
        ("byteorder", b"\xff\n../x", r"refused: its byteorder is '.*x', expected little"),
        ("archive_version", b"999", r"refused: its archive version is '999', expected 0; .*--trust"),
    ],
)
def test_an_archive_that_lies_otherwise_is_refused(here, record, content, said):
    """Weights are read as they lie in the file: of another byte order they would be other numbers."""
    rewritten("net.pt2", "odd.pt2", lambda name, old: content if name.endswith(f"/{record}") else old)
    with pytest.raises(LoadError, match=said):
        load("odd.pt2")


def test_what_a_message_repeats_of_a_document_is_cut(here):
    def long(document: dict[str, Any]) -> None:
        document["graph_module"]["graph"]["nodes"][-1]["inputs"][0]["arg"] = {"as_float": "Max(s0, " * 5000}

    redocumented("net.pt2", "odd.pt2", long)
    with pytest.raises(LoadError, match=r"odd\.pt2 is damaged: ") as caught:
        load("odd.pt2")
    assert len(str(caught.value)) < 600


class Blocks(nn.Module):
    """A norm's statistic and two gates made without gradients, one of them cut in two; an autocast head."""

    def __init__(self):
        super().__init__()
        self.first, self.gates, self.head = nn.Linear(4, 6), nn.Linear(6, 12), nn.Linear(6, 3)
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x):
        x = torch.nn.functional.silu(self.first(x))
        with torch.no_grad():
            self.mean.mul_(0.9).add_(0.1 * x.mean(0))
            one, two = self.gates(x).chunk(2, -1)
            with torch.enable_grad():
                one = torch.sigmoid(one)
        with torch.autocast("cpu", torch.bfloat16):
            return torch.tanh(self.head(one * two - self.mean))


@pytest.fixture(scope="module")
def blocks(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("blocks") / "net.pt2"
    torch.export.save(torch.export.export(Blocks(), (torch.ones(2, 4),)), path)
    return path


def test_blocks_without_gradients_are_read_through(blocks):
    """first -> silu; rows 0 to 6 of gates -> sigmoid, 6 to 12 multiply it; head -> tanh."""
    document = json.loads(zipfile.ZipFile(blocks).read("net/models/model.json"))
    called = [each["target"].rpartition(".")[2] for each in document["graph_module"]["graph"]["nodes"]]
    assert {"wrap_with_set_grad_enabled", "wrap_with_autocast"} <= set(called)
    made = plan(load(str(blocks)).model)
    assert {name: layer.nonlinearity for name, layer in made.items()} == {
        "first": "silu", "gates": made["gates"].nonlinearity, "head": "tanh",
    }  # fmt: skip
    assert [(part.rows, part.nonlinearity) for part in made["gates"].slices] == [
        (((0, 6),), "sigmoid"), (((6, 12),), "linear"),
    ]  # fmt: skip


def _first_block(document: dict[str, Any]) -> dict[str, Any]:
    nodes = document["graph_module"]["graph"]["nodes"]
    block: dict[str, Any] = next(each for each in nodes if each["target"].endswith("set_grad_enabled"))
    return block


SPOILT: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "operand": (lambda block: block["inputs"].pop(), "values on one side of its graph"),
    "output": (lambda block: block["outputs"].append(block["outputs"][0]), "values on one side of its graph"),
    "graph": (lambda block: block["inputs"].pop(1), "has no graph"),
    "name": (
        lambda block: block["inputs"][1]["arg"]["as_graph"]["graph"]["inputs"][0]["as_tensor"].update(name="other"),
        "nothing made it before",
    ),
}


@pytest.mark.parametrize("key", SPOILT)
def test_a_block_that_does_not_fit_its_graph_is_refused(key, blocks, tmp_path):
    spoil, message = SPOILT[key]
    redocumented(blocks, tmp_path / "bad.pt2", lambda document: spoil(_first_block(document)))
    with pytest.raises(LoadError, match=message):
        load(str(tmp_path / "bad.pt2"))
