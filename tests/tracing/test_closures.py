"""Functions that close over the model or its modules: what runs is the copy, and the model itself is only read.

In each model a layer is reached by a function that was stored as a value. Its weight is found, resolves as in the same
network written plainly, and neither planning nor measuring moves a counter, a statistic or a gradient.
"""

from __future__ import annotations

import functools
import types
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoinit import autoinit, check, plan
from autoinit.signal import measure
from autoinit.tracing import trace

WIDTH = 8
Build = Callable[[], nn.Module]


class Mlp(nn.Module):
    """The plain network: `first` feeds a ReLU, `last` the output; a batch norm stands before."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH)
        self.first = nn.Linear(WIDTH, 2 * WIDTH)
        self.last = nn.Linear(2 * WIDTH, WIDTH)
        self.rest: Any = None

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(self.norm(x))))


class Stored(Mlp):
    """Its forward calls what was stored under `rest`."""

    def forward(self, x: Tensor) -> Tensor:
        rest: Tensor = self.rest(x)
        return rest


def lambda_over_modules() -> nn.Module:
    """As minGPT's blocks: `m = self.mlp; self.mlpf = lambda x: m.c_proj(m.act(m.c_fc(x)))`."""
    model = Stored()
    parts = nn.ModuleDict({"norm": model.norm, "first": model.first, "last": model.last})
    model.rest = lambda x: parts["last"](torch.relu(parts["first"](parts["norm"](x))))
    return model


def wrapped_forward() -> nn.Module:
    model = Mlp()
    old = model.forward

    def forward(x: Tensor) -> Tensor:
        return old(x) + 0.0

    model.forward = forward
    return model


def wrapped_forward_of_its_class() -> nn.Module:
    model = Mlp()
    old = model.forward

    @functools.wraps(old)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        return old(*args, **kwargs)

    model.forward = types.MethodType(forward, model)
    return model


def wrapped_layer() -> nn.Module:
    """The forward of one of torch's own layers is wrapped, as adapters do."""
    model = Mlp()
    old = model.first.forward
    model.first.forward = lambda x: old(x) * 1.0
    return model


def partial_of_a_function() -> nn.Module:
    model = Stored()

    def run(norm: nn.Module, first: nn.Module, last: nn.Module, x: Tensor) -> Tensor:
        return last(torch.relu(first(norm(x))))

    model.rest = functools.partial(run, model.norm, model.first, model.last)
    return model


def bound_method_of_another_module() -> nn.Module:
    """`inner` is registered, and its bound method is what the outer model calls."""
    outer, inner = Stored(), Mlp()
    outer.norm, outer.first, outer.last, outer.inner = inner.norm, inner.first, inner.last, inner
    outer.rest = inner.forward
    return outer


def functions_in_containers() -> nn.Module:
    model = Stored()
    steps: dict[str, Any] = {"steps": [model.norm.forward, lambda x: torch.relu(model.first(x))], "last": (model.last,)}

    def run(x: Tensor, held: Any = steps) -> Tensor:
        for step in held["steps"]:
            x = step(x)
        return held["last"][0](x)

    model.rest = run
    return model


def object_that_holds_the_model() -> nn.Module:
    class Runner:
        __slots__ = ("model",)

        def __init__(self, model: Mlp) -> None:
            self.model = model

        def __call__(self, x: Tensor) -> Tensor:
            return Mlp.forward(self.model, x)

    model = Stored()
    model.rest = Runner(model)
    return model


def weak_reference() -> nn.Module:
    model = Stored()
    model.rest = functools.partial(lambda held, x: Mlp.forward(held(), x), weakref.ref(model))
    return model


def weak_proxy() -> nn.Module:
    model = Stored()
    model.rest = functools.partial(Mlp.forward, weakref.proxy(model))
    return model


def cached_function() -> nn.Module:
    model = Stored()

    @functools.lru_cache
    def layers() -> tuple[nn.Module, ...]:
        return model.norm, model.first, model.last

    layers()  # the cache holds the model's own layers

    def run(x: Tensor) -> Tensor:
        norm, first, last = layers()
        return last(torch.relu(first(norm(x))))

    model.rest = run
    return model


GLOBAL: dict[str, nn.Module] = {}


def global_name() -> nn.Module:
    """As in a script: `old = model.forward; model.forward = lambda x: old(x)` at its top level."""
    model = Stored()
    GLOBAL["model"] = model
    model.rest = lambda x: Mlp.forward(GLOBAL["model"], x)
    return model


class OfGlobals(Mlp):
    """A method of the class that uses a global name."""

    def forward(self, x: Tensor) -> Tensor:
        return _by_global_name(x)


def _by_global_name(x: Tensor) -> Tensor:
    held = GLOBAL["model"]
    assert isinstance(held, Mlp)
    return Mlp.forward(held, x)


def method_with_global_name() -> nn.Module:
    GLOBAL["model"] = model = OfGlobals()
    return model


def method_with_closure() -> nn.Module:
    held: list[Mlp] = []

    class Closing(Mlp):
        def forward(self, x: Tensor) -> Tensor:
            return Mlp.forward(held[0], x)

    held.append(Closing())
    return held[0]


BUILDS = [
    lambda_over_modules, wrapped_forward, wrapped_forward_of_its_class, wrapped_layer, partial_of_a_function,
    bound_method_of_another_module, functions_in_containers, object_that_holds_the_model, weak_reference, weak_proxy,
    cached_function, global_name, method_with_global_name, method_with_closure,
]  # fmt: skip


def state(model: nn.Module) -> dict[str, Any]:
    return {name: (value.clone(), value._version) for name, value in model.state_dict(keep_vars=True).items()}


def assert_only_read(model: nn.Module, before: dict[str, Any]) -> None:
    for name, (value, version) in state(model).items():
        assert torch.equal(value, before[name][0]), name
        assert version == before[name][1], name
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.__name__)
@pytest.mark.parametrize("example", [None, (4, WIDTH)], ids=["guessed", "given"])
def test_the_layers_behind_a_function_are_found_and_only_read(build: Build, example: Any):
    """He for what feeds the ReLU: std = sqrt(2 / 8) = 0.5; Xavier for the head: sqrt(2 / (16 + 8)) = 0.288675."""
    model = build()
    before = state(model)
    made = plan(model, example)
    stds = {name.rpartition(".")[2]: layer.std for name, layer in made.items()}
    assert stds == {"first": pytest.approx(0.5), "last": pytest.approx(0.288675, abs=1e-6)}
    assert not [each for each in made.others if each.kind == "uncalled"]
    assert_only_read(model, before)


@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.__name__)
def test_measuring_moves_no_statistic_and_leaves_no_gradient(build: Build):
    model = build()
    before = state(model)
    rows = measure(model, torch.randn(16, WIDTH))
    assert {name.rpartition(".")[2] for name in rows} == {"first", "last"}
    assert_only_read(model, before)


@pytest.mark.parametrize("build", BUILDS[::4], ids=lambda build: build.__name__)
def test_no_check_advises_to_delete_what_a_function_calls(build: Build):
    model = build()
    before = state(model)
    assert "INI301" not in {finding.code for finding in check(model, torch.randn(16, WIDTH)).findings}
    assert_only_read(model, before)


def test_what_was_planned_is_written_to_the_model_itself():
    model = lambda_over_modules()
    autoinit(model, seed=0, verbose=False)
    assert float(model.get_submodule("first").weight.detach().std()) == pytest.approx(0.5, rel=0.2)


def test_a_function_that_leads_to_no_module_is_the_same_in_the_copy():
    """`self.act is F.relu` must hold in the copy, too."""

    class Compares(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin, self.act, self.norm = nn.Linear(WIDTH, WIDTH), torch.tanh, functools.partial(nn.LayerNorm, WIDTH)
            self.plain = _by_global_name

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.lin(x)) if self.act is torch.tanh else x

    assert "tanh" in {op.op for op in trace(Compares(), (4, WIDTH)).graph.nodes}


def test_functions_that_share_a_cell_share_it_in_the_copy():
    """The counter that one function moves is the one that the other reads; the model's own stays at 0."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1

    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin, self.layers = nn.Linear(WIDTH, WIDTH), []
            self.step = lambda: (step(), self.lin)  # the second leads to a module, so that the first is copied
            self.read = lambda: (count, self.lin)[0]

        def forward(self, x: Tensor) -> Tensor:
            self.step()
            return torch.relu(self.lin(x)) if self.read() == 1 else x

    model = Counts()
    assert trace(model, (4, WIDTH)).uncalled == ()
    assert count == 0


def test_a_module_outside_of_the_model_is_copied_as_well():
    """A frozen feature extractor that a loss closes over: its statistics stay, and its weights are not the model's."""
    outside = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH))
    model = Stored()
    model.rest = lambda x: outside(Mlp.forward(model, x))
    before = state(outside)
    assert set(plan(model, (4, WIDTH))) == {"first", "last"}
    measure(model, torch.randn(16, WIDTH))
    assert_only_read(outside, before)
