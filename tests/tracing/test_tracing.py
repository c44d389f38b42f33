"""What `trace` promises: it only reads, it follows what runs, and it says what it does not know."""

from __future__ import annotations

import copy
import inspect
import random
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack

from autoinit import ArgumentError, LazyModuleError, TraceError, plan
from autoinit.ops import Role
from autoinit.resolving import Reason, Resolution, resolve
from autoinit.tracing import Dataflow, trace
from autoinit.tracing.dataflow import TIERS, Tier
from autoinit.tracing.tiers import _ATTEMPTS

WIDTH = 6


def test_every_tier_has_facts_and_attempts():
    assert set(TIERS) == set(_ATTEMPTS) == set(get_args(Tier))


def rows(shape: tuple[int, ...] = (4, WIDTH)) -> Tensor:
    return torch.linspace(-1, 1, int(np.prod(shape))).view(shape)


def found(dataflow: Dataflow) -> dict[str, Resolution]:
    return {each.name: each for each in resolve(dataflow)}


def feeds(dataflow: Dataflow) -> dict[str, tuple[str, str]]:
    return {name: (each.nonlinearity, str(each.reason)) for name, each in found(dataflow).items()}


# Nothing is changed.


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Everything about a model that could change: values, identities, modes, hooks, attributes."""
    state = {
        name: (id(value), value.clone(), value._version) for name, value in model.state_dict(keep_vars=True).items()
    }
    modules = {}
    for name, module in model.named_modules():
        attributes = {
            key: copy.copy(value) if isinstance(value, (dict, list, set)) else value
            for key, value in module.__dict__.items()
        }
        modules[name] = (id(module), module.training, type(module), attributes)
    parameters = {
        name: (id(each), each.requires_grad, each.device, each.grad) for name, each in model.named_parameters()
    }
    return {"state": state, "modules": modules, "parameters": parameters}


def assert_unchanged(model: nn.Module, before: dict[str, Any]) -> None:
    after = snapshot(model)
    assert after["parameters"] == before["parameters"]
    assert list(after["state"]) == list(before["state"])
    for name, (identity, value, version) in before["state"].items():
        now = after["state"][name]
        assert (now[0], now[2]) == (identity, version), name
        assert torch.equal(now[1], value), name
    assert list(after["modules"]) == list(before["modules"])
    for name, (identity, training, kind, attributes) in before["modules"].items():
        now = after["modules"][name]
        assert now[:3] == (identity, training, kind), name
        assert list(now[3]) == list(attributes), name
        for key, value in attributes.items():
            held = now[3][key]
            same = held is value or (isinstance(value, (dict, list, set, int, str, float, tuple)) and held == value)
            assert same, f"{name}.{key}: {value!r} became {held!r}"


def generators() -> tuple[Any, ...]:
    return torch.get_rng_state().clone(), np.random.get_state(), random.getstate()


def assert_same_generators(before: tuple[Any, ...]) -> None:
    assert torch.equal(torch.get_rng_state(), before[0])
    now = np.random.get_state()
    assert now[0] == before[1][0]
    assert np.array_equal(now[1], before[1][1])
    assert now[2:] == before[1][2:]
    assert random.getstate() == before[2]


class Busy(nn.Module):
    """A model whose forward changes as much of itself as it can, and may raise in the middle."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4, momentum=0.5)
        self.drop = nn.Dropout(0.3)
        self.act = nn.RReLU()
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.head = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 2))
        self.eval_only = nn.Sequential(nn.Linear(4, 4)).eval()
        self.register_buffer("running", torch.zeros(4))
        self.calls = 0
        self.cache: dict[str, Tensor] = {}
        self.history: list[float] = []
        self.last: Tensor | None = None
        self.table = torch.ones(4)
        self.fails = fails

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.history.append(random.random())
        self.noise = np.random.rand()
        x = self.drop(self.act(self.norm(self.stem(x)))).mean((2, 3))
        self.running.mul_(0.9).add_(x.detach().mean(0))
        self.last = x
        self.cache["x"] = x
        self.table.add_(1)
        self.extra = x * 2
        x = x + torch.randn_like(x)
        self.stem.weight.requires_grad_(False)
        self.head.eval()
        if self.fails:
            raise RuntimeError("stopped on purpose")
        return self.head(self.frozen(x))


def busy(fails: bool = False) -> nn.Module:
    model = Busy(fails)
    model.norm.eval()
    model.drop.register_forward_hook(lambda *_: None)
    return model


@pytest.mark.parametrize("tier", [*TIERS, None])
@pytest.mark.parametrize("fails", [False, True], ids=["works", "fails"])
def test_tracing_leaves_everything_as_it_was(tier: Any, fails: bool):
    model = busy(fails)
    torch.manual_seed(3)
    np.random.seed(4)
    random.seed(5)
    before, states, call = snapshot(model), generators(), nn.Module.__call__
    threads = torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_default_device()
    inputs = rows((2, 3, 8, 8))
    kept = inputs.clone()
    try:
        dataflow = trace(model, inputs, tier=tier)
    except TraceError:
        assert fails or tier in ("symbolic", "exported")
    else:
        assert not fails
        assert dataflow.tier in TIERS
    assert_unchanged(model, before)
    assert_same_generators(states)
    assert torch.equal(inputs, kept)
    assert nn.Module.__call__ is call
    assert _get_current_function_mode_stack() == []
    assert (
        torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_default_device()
    ) == threads  # fmt: skip


def test_the_model_still_works_afterwards():
    """A second model, traced or not, gives the same output and gradients."""
    first = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU(inplace=True), nn.Linear(WIDTH, 2))
    second = copy.deepcopy(first)
    for tier in ("symbolic", "recorded"):
        trace(first, (2, WIDTH), tier=tier)
    outputs = [model(rows()) for model in (first, second)]
    assert torch.equal(*outputs)
    for output in outputs:
        output.sum().backward()
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_a_model_in_evaluation_mode_stays_there():
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Dropout()).eval()
    trace(model)
    trace(model, (2, WIDTH))
    assert [module.training for module in model.modules()] == [False, False, False]


def test_gradients_are_kept():
    model = nn.Linear(WIDTH, 2)
    model(rows()).sum().backward()
    before = model.weight.grad.clone()
    trace(model, rows().requires_grad_())
    assert torch.equal(model.weight.grad, before)


class Locked(nn.Module):
    """Holds what cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self.generator = torch.Generator()
        self.stream = (each for each in range(3))
        self.nested = {"lock": threading.Lock(), "list": [1, 2]}
        self.fc = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        with self.lock:
            self.nested["list"].append(3)
            return F.relu(self.fc(x))


@pytest.mark.parametrize("inputs", [None, (2, WIDTH)], ids=["no_input", "input"])
def test_a_lock_in_the_model(inputs: Any):
    model = Locked()
    assert feeds(trace(model, inputs)) == {"fc": ("relu", "activation")}
    assert not model.lock.locked()
    assert model.nested["list"] == [1, 2]
    assert next(model.stream) == 0


class Drawing(nn.Module):
    """Draws from a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(1)
        self.more = {"generators": [torch.Generator().manual_seed(2)]}
        self.fc = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.randn(WIDTH, generator=self.generator, device="cpu")
        noise = noise + torch.randn(WIDTH, generator=self.more["generators"][0], device="cpu")
        return F.relu(self.fc(x) + noise.to(x.device))


@pytest.mark.parametrize("tier", ["symbolic", "recorded", None])
def test_a_generator_in_the_model(tier: Any):
    model = Drawing()
    generators = [model.generator, *model.more["generators"]]
    before = [each.get_state() for each in generators]
    dataflow = trace(model, None if tier == "symbolic" else (2, WIDTH), tier=tier)
    assert all(torch.equal(each.get_state(), state) for each, state in zip(generators, before, strict=True))
    assert feeds(dataflow) == {"fc": ("relu", "activation")}


class Cache:
    """An object of the user's own that holds what cannot be copied beside what forward changes."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.entries: list[int] = []


def test_an_object_with_a_lock_in_the_model():
    class Caching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cache = Cache()
            self.fc = nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Tensor) -> Tensor:
            self.cache.entries.append(1)
            return F.relu(self.fc(x))

    model = Caching()
    assert feeds(trace(model, (2, WIDTH))) == {"fc": ("relu", "activation")}
    assert model.cache.entries == []


@pytest.mark.parametrize("tier", ["symbolic", "recorded"])
def test_users_hooks_are_not_run_and_this_is_said(tier: Any):
    ran: list[str] = []
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU())
    model[0].register_forward_hook(lambda *_: ran.append("hook"))
    model.register_forward_pre_hook(lambda *_: ran.append("pre-hook"))
    dataflow = trace(model, None if tier == "symbolic" else (2, WIDTH), tier=tier)
    assert ran == []
    assert "2 user hooks not run while tracing" in dataflow.notes
    model(rows())
    assert ran == ["pre-hook", "hook"]


def test_global_hooks_are_not_run_on_the_users_behalf():
    ran: list[str] = []
    handle = nn.modules.module.register_module_forward_hook(lambda *_: ran.append("global"))
    try:
        trace(nn.Sequential(nn.Linear(WIDTH, WIDTH)), (2, WIDTH))
    finally:
        handle.remove()
    assert ran == []


# What runs is followed.


class Branching(nn.Module):
    def __init__(self, way: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        return self.way(self, x)


def by_value(model: Any, x: Tensor) -> Tensor:
    x = model.a(x)
    return model.b(F.relu(x)) if bool((x.abs() < 1e9).all()) else model.b(torch.tanh(x))


def by_item(model: Any, x: Tensor) -> Tensor:
    x = model.a(x)
    scale = x.abs().max().item() + 1.0
    return model.b(F.relu(x / scale))


def by_nonzero(model: Any, x: Tensor) -> Tensor:
    x = model.a(x)
    kept = (x.sum(1) != float("inf")).nonzero().flatten()
    return model.b(F.relu(x[kept]))


def by_length(model: Any, x: Tensor) -> Tensor:
    x = model.a(x)
    for _ in range(int((x > -1e9).sum()) // x.numel()):
        x = F.relu(x)
    return model.b(x)


def by_shape(model: Any, x: Tensor) -> Tensor:
    x = model.a(x)
    return model.b(F.relu(x) if x.shape[0] > 1 else x)


def in_training(model: Any, x: Tensor) -> Tensor:
    x = model.a(x)
    return model.b(F.relu(x) if model.training else x)


def by_numpy(model: Any, x: Tensor) -> Tensor:
    scale = float(x.detach().cpu().numpy().max())
    return model.b(F.relu(model.a(x) * (1 + scale)))


WAYS = [by_value, by_item, by_nonzero, by_length, by_shape, in_training, by_numpy]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("inputs", [None, (3, WIDTH)], ids=["no_input", "input"])
def test_control_flow(way: Callable[..., Tensor], training: bool, inputs: Any):
    model = Branching(way).train(training)
    assert feeds(trace(model, inputs)) == {"a": ("relu", "activation"), "b": ("linear", "output")}


@pytest.mark.parametrize("tier", ["symbolic", "recorded", None])
@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.max(1).values,
        lambda x: torch.sort(x, 1).values,
        lambda x: x.topk(2, 1).values,
        lambda x: x.max(1)[0],
    ],
    ids=["max", "sort", "topk", "by_position"],
)
def test_results_with_names(function: Callable[[Tensor], Tensor], tier: Any):
    """`.values` is the first result: what was picked from the features."""
    model = Branching(lambda model, x: torch.tanh(function(model.a(x))))
    dataflow = trace(model, None if tier != "recorded" else (2, WIDTH), tier=tier)
    assert dataflow.unsupported == ()
    assert feeds(dataflow) == {"a": ("tanh", "activation")}


def test_targets_in_the_forward():
    """Needs real values: the rows of each cluster are picked by `nonzero`."""
    model = nn.AdaptiveLogSoftmaxWithLoss(16, 20, [5, 10])
    dataflow = trace(model, (rows((4, 16)), torch.tensor([1, 6, 12, 3])))
    assert sorted(found(dataflow)) == ["head", "tail.0.0", "tail.0.1", "tail.1.0", "tail.1.1"]
    assert {name: feeds(dataflow)[name][0] for name in ("head", "tail.0.1", "tail.1.1")} == {
        "head": "softmax",
        "tail.0.1": "softmax",
        "tail.1.1": "softmax",
    }
    assert feeds(dataflow)["tail.0.0"] == ("linear", "weight")


class Auxiliary(nn.Module):
    """An auxiliary head that only training uses."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.aux = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.body(x))
        return (self.head(x), F.log_softmax(self.aux(x), 1)) if self.training else self.head(x)


@pytest.mark.parametrize("inputs", [None, (3, WIDTH)], ids=["no_input", "input"])
def test_an_auxiliary_head_is_seen_in_evaluation_mode(inputs: Any):
    dataflow = trace(Auxiliary().eval(), inputs)
    assert feeds(dataflow) == {
        "body": ("relu", "activation"),
        "head": ("linear", "output"),
        "aux": ("softmax", "softmax"),
    }
    assert dataflow.uncalled == ()


class Plain(nn.Module):
    """Tensors that are neither parameters nor buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(WIDTH, WIDTH)
        self.scale = torch.ones(WIDTH)
        self.tables = [torch.zeros(WIDTH), {"shift": torch.ones(1)}]

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.fc(x) * self.scale + self.tables[0] + self.tables[1]["shift"])


@pytest.mark.parametrize("tier", ["symbolic", "recorded"])
def test_plain_tensor_attributes(tier: Any):
    dataflow = trace(Plain(), None if tier == "symbolic" else (2, WIDTH), tier=tier)
    assert feeds(dataflow) == {"fc": ("relu", "activation")}
    assert dataflow.uncalled == ()


# Inputs: given in every form, or guessed.


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 4), nn.Linear(5, 4)

    def forward(self, left: Tensor, right: Tensor, *, flag: bool = True) -> Tensor:
        return F.relu(self.left(left)) + self.right(right) if flag else self.left(left)


BOTH = {"left": ("relu", "activation"), "right": ("linear", "add")}

FORMS: dict[str, Any] = {
    "tuple": (rows((2, 3)), rows((2, 5))),
    "list": [rows((2, 3)), rows((2, 5))],
    "shapes": ((2, 3), (2, 5)),
    "mixed": (rows((2, 3)), (2, 5)),
    "keywords": {"left": rows((2, 3)), "right": rows((2, 5))},
    "keywords_of_shapes": {"left": (2, 3), "right": (2, 5), "flag": True},
    "ordered": OrderedDict(left=rows((2, 3)), right=rows((2, 5))),
    "meta": (rows((2, 3)).to("meta"), rows((2, 5)).to("meta")),
}


@pytest.mark.parametrize("form", FORMS)
def test_example_inputs_in_every_form(form: str):
    dataflow = trace(TwoInputs(), FORMS[form])
    assert dataflow.tier == "recorded"
    assert feeds(dataflow) == BOTH


class Pair(NamedTuple):
    first: Tensor
    second: Tensor


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 4), nn.Linear(5, 4)

    def forward(self, batch: Any) -> dict[str, list[Tensor]]:
        left, right = (batch["left"], batch["right"][0]) if isinstance(batch, dict) else batch
        return {"outputs": [F.relu(self.left(left)), self.right(right)]}


@pytest.mark.parametrize(
    "batch",
    [
        {"left": rows((2, 3)), "right": [rows((2, 5))]},
        [rows((2, 3)), rows((2, 5))],
        Pair(rows((2, 3)), rows((2, 5))),
    ],
    ids=["dict", "list", "named_tuple"],
)
def test_nested_inputs_and_outputs(batch: Any):
    assert feeds(trace(Nested(), (batch,))) == {"left": ("relu", "activation"), "right": ("linear", "output")}


@pytest.mark.parametrize("shape", [(2, WIDTH), [2, WIDTH], torch.Size((2, WIDTH))], ids=["tuple", "list", "Size"])
def test_a_shape(shape: Any):
    dataflow = trace(nn.Linear(WIDTH, 3), shape)
    assert [op.shape for op in dataflow.graph.nodes if op.op == "linear"] == [(2, 3)]


def test_integers_of_an_embedding():
    model = nn.Sequential(nn.Embedding(10, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Tanh())
    tokens = torch.tensor([[1, 2, 3]])
    assert feeds(trace(model, tokens)) == {"1": ("tanh", "activation")}


@pytest.mark.parametrize("example", ["image.png", 3, 1.5, object()], ids=["str", "int", "float", "object"])
def test_inputs_of_no_form(example: Any):
    with pytest.raises(ArgumentError, match=r"example_inputs is a (str|int|float|object): pass a tensor, a tuple"):
        trace(nn.Linear(2, 2), example)


class OwnWeight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(5, 7))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.kernel


class Concrete(nn.Module):
    """Refuses anything but a tensor."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor) or isinstance(x, torch.fx.Proxy):
            raise TypeError("a tensor is wanted")
        x = self.inner(x)
        return F.relu(x[0] if isinstance(x, tuple) else x)


GUESSES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "conv1d": (lambda: nn.Conv1d(3, 4, 3), "inner"),
    "conv2d": (lambda: nn.Conv2d(3, 4, 7, stride=4), "inner"),
    "conv3d": (lambda: nn.Conv3d(1, 4, 3), "inner"),
    "conv_transpose2d": (lambda: nn.ConvTranspose2d(16, 4, 4, 2), "inner"),
    "linear": (lambda: nn.Linear(5, 4), "inner"),
    "embedding": (lambda: nn.Sequential(nn.Embedding(9, 5), nn.Linear(5, 4)), "inner.1"),
    "lstm": (lambda: nn.LSTM(5, 4), "inner.weight_ih_l0"),
    "gru_cell": (lambda: nn.GRUCell(5, 4), "inner.weight_ih"),
    "own_weight": (OwnWeight, "inner.kernel"),
}


@pytest.mark.parametrize("key", GUESSES)
def test_guessed_inputs(key: str):
    build, layer = GUESSES[key]
    dataflow = trace(Concrete(build()))
    assert dataflow.tier == "recorded"
    assert layer in found(dataflow)
    assert any(note.startswith("input ") and "guessed from" in note for note in dataflow.notes)


@pytest.mark.parametrize("name", ["pretrained_cfg", "default_cfg"])
def test_a_configuration_that_names_its_input_size(name: str):
    model = Concrete(nn.Conv2d(3, 4, 3))
    setattr(model, name, {"input_size": (3, 37, 41)})
    dataflow = trace(model)
    assert f"input (2, 3, 37, 41) guessed from {name}" in dataflow.notes
    assert [op.shape for op in dataflow.graph.nodes if op.op == "conv2d"] == [(2, 4, 35, 39)]


class Dummy(Concrete):
    """As transformers' models say it."""

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        return {"x": torch.tensor([[1, 2, 3]])}


def test_dummy_inputs():
    dataflow = trace(Dummy(nn.Sequential(nn.Embedding(9, 5), nn.Linear(5, 4))))
    assert any("dummy_inputs" in note for note in dataflow.notes)
    assert feeds(dataflow) == {"inner.1": ("relu", "activation")}


# Names are the user's.


class Inside(nn.Module):
    def __init__(self, wrap: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__()
        self.body = wrap(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU()))
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def compiled(module: nn.Module) -> nn.Module:
    wrapped = torch.compile(module, backend="eager")
    assert isinstance(wrapped, nn.Module)
    return wrapped


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "parallel": nn.DataParallel,
    "compiled": compiled,
    "both": lambda module: nn.DataParallel(compiled(module)),
    "both_swapped": lambda module: compiled(nn.DataParallel(module)),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("place", ["outside", "inside", "everywhere"])
@pytest.mark.parametrize("inputs", [None, (2, WIDTH)], ids=["no_input", "input"])
def test_wrappers_do_not_show_in_names(wrapper: str, place: str, inputs: Any):
    wrap = WRAPPERS[wrapper]
    model: nn.Module = Inside(wrap if place != "outside" else lambda module: module)
    if place != "inside":
        model = wrap(model)
    assert feeds(trace(model, inputs)) == {"body.0": ("relu", "activation"), "head": ("linear", "output")}


def test_a_module_that_is_called_module_keeps_its_name():
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(WIDTH, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.module(x)

    assert list(found(trace(Holder()))) == ["module"]


def test_a_graph_module():
    graph = torch.fx.symbolic_trace(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU()))
    assert feeds(trace(graph)) == {"0": ("relu", "activation")}


@pytest.fixture(scope="module")
def program() -> torch.export.ExportedProgram:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    return torch.export.export(model, (rows((2, 3, 8, 8)),))


def test_an_exported_program(program: torch.export.ExportedProgram):
    dataflow = trace(program)
    assert dataflow.tier == "exported"
    assert feeds(dataflow) == {"0": ("relu", "activation"), "4": ("linear", "output")}
    assert found(dataflow)["0"].normalised
    assert dataflow.uncalled == ()
    shapes = {use.name: op.shape for op in dataflow.graph.nodes for use in op.params if use.layout is not None}
    assert shapes == {"0.weight": (2, 4, 6, 6), "4.weight": (2, 2)}


# In place.


def first_half_in_place(x: Tensor) -> Tensor:
    x[:, :3].relu_()
    return x


def first_half_of_chunk(x: Tensor) -> Tensor:
    first, _second = x.chunk(2, dim=1)
    first.relu_()
    return x


def view_in_place(x: Tensor) -> Tensor:
    x.view(-1).tanh_()
    return x


def clamp_in_place(x: Tensor) -> Tensor:
    x.clamp_(min=0)
    return x


def twice_in_place(x: Tensor) -> Tensor:
    x.mul_(2)
    F.leaky_relu_(x, 0.2)
    return x


def no_effect(x: Tensor) -> Tensor:
    F.relu(x)
    return x


@pytest.mark.parametrize("tier", ["symbolic", "recorded"])
@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (view_in_place, ("tanh", "activation")),
        (clamp_in_place, ("relu", "activation")),
        (twice_in_place, ("leaky_relu", "activation")),
        (no_effect, ("linear", "weight")),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_in_place_operations(function: Callable[[Tensor], Tensor], expected: tuple[str, str], tier: Any):
    model = Branching(lambda model, x: model.b(function(model.a(x))))
    dataflow = trace(model, None if tier == "symbolic" else (2, WIDTH), tier=tier)
    assert feeds(dataflow)["a"] == expected


@pytest.mark.parametrize("tier", ["symbolic", "recorded"])
@pytest.mark.parametrize("function", [first_half_in_place, first_half_of_chunk], ids=lambda each: each.__name__)
def test_half_of_the_features_in_place(function: Callable[[Tensor], Tensor], tier: Any):
    """Rows 0..3 feed a relu, rows 3..6 the next weight; axis 1 is that of the features only if there are two."""
    model = Branching(lambda model, x: model.b(function(model.a(x))))
    dataflow = trace(model, None if tier == "symbolic" else (2, WIDTH), tier=tier)
    slices = {
        run: (part.ending.nonlinearity, str(part.ending.reason))
        for part in found(dataflow)["a"].slices
        for run in part.rows
    }
    known = {(0, 3): ("relu", "activation"), (3, 6): ("linear", "weight")}
    assert slices == ({} if tier == "symbolic" else known)
    assert feeds(dataflow)["a"] == ("relu", "mixed")


def test_written_into_a_buffer_piece_by_piece():
    """`out[:, i] = f(x)`: what is written arrives."""

    def fill(model: Any, x: Tensor) -> Tensor:
        x = model.a(x)
        out = torch.zeros(x.shape[0], 2, WIDTH)
        out[:, 0] = F.relu(x)
        out[:, 1] = F.relu(x)
        return model.b(out)

    assert feeds(trace(Branching(fill), (2, WIDTH))) == {"a": ("relu", "activation"), "b": ("linear", "output")}


def test_written_before_the_activation():
    def fill(model: Any, x: Tensor) -> Tensor:
        out = torch.empty(x.shape[0], WIDTH)
        out[:] = model.a(x)
        return model.b(F.gelu(out))

    assert feeds(trace(Branching(fill), (2, WIDTH)))["a"] == ("gelu", "activation")


def test_out_argument():
    def fill(model: Any, x: Tensor) -> Tensor:
        out = torch.empty(x.shape[0], WIDTH)
        torch.tanh(model.a(x), out=out)
        return model.b(out)

    assert feeds(trace(Branching(fill), (2, WIDTH)))["a"] == ("tanh", "activation")


# What is not known is said.


@torch.library.custom_op("autoinit_tests::mystery", mutates_args=())
def mystery(x: Tensor) -> Tensor:
    return x.sort(dim=-1).values.clone()


@mystery.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def test_an_unknown_operation_is_visible():
    model = Branching(lambda model, x: model.b(F.relu(mystery(model.a(x)))))
    dataflow = trace(model, (2, WIDTH))
    (unknown,) = dataflow.unsupported
    assert "mystery" in unknown.op
    assert unknown.source is not None
    assert unknown.source.file == __file__
    layer = found(dataflow)["a"]
    assert (layer.reason, layer.nonlinearity) == (Reason.UNRESOLVED, "linear")
    assert "mystery" in layer.ending.note
    assert "register_op" in layer.ending.note


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.cov(x.T),
        lambda x: torch.linalg.svdvals(x.T @ x)[None].expand(x.shape[0], -1),
        lambda x: torch.linalg.inv(x.T @ x),
        lambda x: torch.matrix_exp(x.T @ x),
    ],
    ids=["cov", "svdvals", "inv", "matrix_exp"],
)
def test_rare_functions_are_not_taken_for_the_identity(function: Callable[[Tensor], Tensor]):
    dataflow = trace(Branching(lambda model, x: model.b(function(model.a(x)))), (8, WIDTH))
    layer = found(dataflow)["a"]
    assert layer.reason in (Reason.UNRESOLVED, Reason.ATTENTION, Reason.MIXED)


@pytest.mark.parametrize("inputs", [None, (2, WIDTH)], ids=["no_input", "input"])
def test_uncalled_weights_are_listed(inputs: Any):
    model = Branching(lambda model, x: F.relu(model.a(x)))
    model.spare = nn.Parameter(torch.zeros(3, 3))
    dataflow = trace(model, inputs)
    assert sorted(dataflow.uncalled) == ["b.weight", "spare"]
    assert list(found(dataflow)) == ["a"]


# Errors.


def line_of(kind: type, comment: str) -> int:
    """The line of a class's source that ends in this comment."""
    text, start = inspect.getsourcelines(kind)
    return start + next(number for number, line in enumerate(text) if line.rstrip().endswith(comment))


class Broken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Sequential(nn.Linear(WIDTH, WIDTH), Stops())

    def forward(self, x: Tensor) -> Tensor:
        return self.stages(x)


class Stops(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("no way on")  # stops here


@pytest.mark.parametrize("inputs", [None, (2, WIDTH)], ids=["no_input", "input"])
def test_a_failure_names_module_line_and_next_step(inputs: Any):
    with pytest.raises(TraceError, match=r"Broken could not be traced") as caught:
        trace(Broken(), inputs)
    message = str(caught.value)
    assert "in module 'stages.1'" in message
    assert f"{__file__}:{line_of(Stops, '# stops here')}" in message
    assert "RuntimeError" in message
    assert "no way on" in message
    assert ("example_inputs=" in message) == (inputs is None)
    assert ("--input-shape" in message) == (inputs is None)
    assert ("check that model(example_inputs) itself runs" in message) == (inputs is not None)


def test_a_failure_after_an_inner_failure_names_the_module_that_raised():
    """A module that catches its child's failure, then fails itself."""

    class Catches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.child = Stops()

        def forward(self, x: Tensor) -> Tensor:
            try:
                return self.child(x)
            except RuntimeError:
                pass
            raise ValueError("the outer one")

    model = nn.Sequential(Catches())
    with pytest.raises(TraceError, match=r"in module '0' at .*: the outer one"):
        trace(model, (2, WIDTH))


def test_a_child_that_fails_and_is_caught():
    """The stack of module names is right again after an exception that the model catches."""

    class Tries(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.child = Stops()
            self.fc = nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Tensor) -> Tensor:
            try:
                x = self.child(x)
            except RuntimeError:
                x = torch.tanh(self.fc(x))
            return x

    dataflow = trace(nn.Sequential(Tries()), (2, WIDTH))
    assert [op.module for op in dataflow.graph.nodes if op.op == "tanh"] == ["0"]


def test_lazy_modules_are_refused():
    with pytest.raises(
        LazyModuleError, match=r"2 lazy parameters have no shape yet \(0\.weight, 0\.bias\): run one forward first"
    ):
        trace(nn.Sequential(nn.LazyLinear(3)))


def test_a_lazy_module_that_has_run_is_not_lazy():
    model = nn.Sequential(nn.LazyLinear(3), nn.ReLU())
    model(rows())
    assert feeds(trace(model)) == {"0": ("relu", "activation")}


@pytest.mark.parametrize("inside", [False, True], ids=["whole", "inside"])
def test_torchscript_is_refused(inside: bool):
    scripted = torch.jit.script(nn.Linear(WIDTH, 2))
    with pytest.raises(TraceError, match=r"TorchScript modules, which have no Python to trace: use the model that"):
        trace(nn.Sequential(scripted) if inside else scripted)


def test_what_is_no_model():
    with pytest.raises(ArgumentError, match=r"model is a dict: expected a torch.nn.Module or an ExportedProgram"):
        trace({"weight": torch.zeros(2)})


def test_an_unknown_tier():
    with pytest.raises(ArgumentError, match=r"tier='onnx': expected one of symbolic, recorded, exported"):
        trace(nn.Linear(2, 2), tier="onnx")


# Source lines and shapes.


class Lines(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x)  # the linear line
        return F.gelu(x)  # the gelu line


@pytest.mark.parametrize("tier", ["symbolic", "recorded"])
def test_source_lines_are_the_users(tier: Any):
    dataflow = trace(nn.Sequential(Lines()), None if tier == "symbolic" else (2, WIDTH), tier=tier)
    sources = {op.op: op.source for op in dataflow.graph.nodes if op.op in ("linear", "gelu")}
    assert (sources["linear"].file, sources["linear"].line) == (__file__, line_of(Lines, "# the linear line"))
    assert (sources["gelu"].file, sources["gelu"].line) == (__file__, line_of(Lines, "# the gelu line"))
    assert sources["gelu"].function == "forward"


def test_shapes_are_known_when_recorded():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 5))
    dataflow = trace(model, (2, 3, 8, 8))
    shapes = [op.shape for op in dataflow.graph.nodes if op.op != "output"]
    assert shapes == [(2, 3, 8, 8), (2, 4, 8, 8), (2, 4, 4, 4), (2, 64), (2, 5)]


def test_a_dataflow_prints_itself():
    text = str(trace(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU())))
    assert text.splitlines()[0].startswith("Dataflow (symbolic): ")
    assert "linear (weight) [0.weight]" in text
    assert "relu (nonlinearity)" in text


# Questions that the inputs answer: the recording stays on meta, where the weights have no values.


class Asks(nn.Module):
    """Goes on only as the mask says, and keeps what the mask keeps."""

    def __init__(self):
        super().__init__()
        self.embedding, self.inner, self.other = nn.Embedding(10, 8), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, ids, mask):
        x = self.embedding(ids)
        kept = mask.clone()
        kept[:, -1] = 0
        x = torch.tanh(self.other(x)) if kept.bool().all() else torch.relu(self.inner(x))
        places = kept[0].nonzero()
        return x[:, : places.shape[0]] * kept.sum().item()


def test_questions_about_inputs_are_answered_on_meta(monkeypatch):
    monkeypatch.setattr("autoinit.tracing.attempts._MOST_REAL_BYTES", 0)  # no real run
    with torch.device("meta"):
        model = Asks()
    ids, mask = torch.ones(2, 4, dtype=torch.int64), torch.ones(2, 4)
    found = trace(model, (ids, mask))
    assert found.tier == "recorded"
    assert found.uncalled == ("other.weight",)
    assert (2, 3, 8) in [op.shape for op in found.graph.nodes if op.op == "getitem"]
    assert torch.equal(mask, torch.ones(2, 4))


def test_questions_about_weights_are_not_answered_by_inputs():
    class Looks(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(8, 8)
            nn.init.ones_(self.inner.weight)
            nn.init.zeros_(self.inner.bias)

        def forward(self, x):
            y = self.inner(x)
            return torch.relu(y) if y.sum() > 0 else torch.tanh(y)

    assert "relu" in trace(Looks(), (torch.ones(2, 8),)).by_name
    assert "tanh" in trace(Looks(), (-torch.ones(2, 8),)).by_name


def test_questions_about_buffers_are_answered_on_meta(monkeypatch):
    class Pads(nn.Module):
        """A stride kept as a buffer decides how far to pad, as in audio codecs."""

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(4, 4, 3)
            self.register_buffer("stride", torch.tensor(2))

        def forward(self, x):
            extra = (torch.tensor(x.shape[-1]) % self.stride + self.stride).item()
            return torch.relu(self.conv(F.pad(x, (0, extra))))

    monkeypatch.setattr("autoinit.tracing.attempts._MOST_REAL_BYTES", 0)  # no real run
    model = Pads()
    found = trace(model, torch.zeros(1, 4, 7), tier="recorded")
    assert found.by_name["conv"].shape == (1, 4, 7 + 3 - 2)
    assert model.stride.item() == 2


def test_a_layer_that_no_line_of_the_user_calls_has_no_source():
    """nn.Sequential calls its modules by itself: the line that asks for the plan is not theirs."""
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2))
    assert {layer.source for layer in plan(model, torch.zeros(2, WIDTH)).layers} == {""}


def test_signals_end_at_outputs_and_losses_and_not_at_questions():
    """A comparison, a size and the place of a maximum ask something of the signal; a loss is where it ends."""

    class Asked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
            x = self.layer(x)
            best = x.argmax(-1)
            return F.mse_loss(x * (x > 0) / x.size(0), target), best

    dataflow = trace(Asked(), (torch.randn(3, WIDTH), torch.randn(3, WIDTH)), tier="recorded")
    ends = [op for op in dataflow.graph.nodes if op.ends]
    assert [op.role for op in ends] == [Role.SINK] * len(ends)
    assert {"index", "comparison"}.isdisjoint(op.op for op in ends)
    assert {"index", "comparison"} <= {op.op for op in dataflow.graph.nodes if op.role is Role.SINK}
    assert any("loss" in op.op or op.op == "output" for op in ends)
