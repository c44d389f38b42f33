"""Random networks whose right answer is known by construction resolve to it, however they are spelled and traced."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from autoinit import plan, report
from autoinit.models import ModelView
from autoinit.planning import plan_dataflow
from autoinit.plans.layers import LayerPlan, SlicePlan
from autoinit.plans.options import PlanOptions
from autoinit.plans.plan import Plan
from autoinit.tracing import trace
from tests.networks.building import Network, inputs
from tests.networks.drawing import descriptions, spellings, streams
from tests.networks.pieces import Description, parts
from tests.networks.spellings import Spelling
from tests.networks.truth import Answer, Runs, Truth, fans, numbers, std

"""torch.compile's own, when it is first used."""

# Comparing with the truth.


def assert_right(description: Description, made: Plan, *, sliced: bool = True) -> None:
    """Every weight, and every slice of one, is as the truth says; and none is missing."""
    truth = Truth.of(description)
    assert made.unsupported == ()
    assert {each.name for each in made.layers} == set(truth.weights)
    for name, layer in made.items():
        assert layer.status == "planned", name
        right = truth.whole(name)
        assert_feeds(layer, right, name)
        alternatives = {(one_name(each.nonlinearity, each.params)[0], each.reason) for each in layer.alternatives}
        assert alternatives == set(right.alternatives), f"{name}: feeds {alternatives}, not {set(right.alternatives)}"
        if sliced:
            assert_sliced(truth, name, layer)
        if not layer.slices:
            assert_scaled(layer, right, fans(truth.weights[name]), name)


def assert_sliced(truth: Truth, name: str, layer: LayerPlan) -> None:
    rows = [part.rows for part in layer.slices]
    assert truth.wrong_slices(name, rows) == "", f"{name}: {truth.wrong_slices(name, rows)}: {rows}"
    for part in layer.slices:
        answer = truth.rows(name, numbers(part.rows))
        assert_feeds(part, answer, f"{name} {part.rows}")
        assert_scaled(part, answer, fans(truth.weights[name], numbers(part.rows)), f"{name} {part.rows}")
    if layer.slices:
        squares = sum(height(part.rows) * part.std**2 for part in layer.slices)
        assert layer.std == pytest.approx(math.sqrt(squares / truth.weights[name].outputs)), name


def height(rows: Runs) -> int:
    return len(numbers(rows))


def assert_feeds(found: LayerPlan | SlicePlan, right: Answer, name: str) -> None:
    assert found.reason in right.reasons, f"{name}: {found.reason}, not {set(right.reasons)}"
    functions = {function: dict(params) for function, params in right.functions}
    nonlinearity, given_params = one_name(found.nonlinearity, found.params)
    assert nonlinearity in functions, f"{name}: {nonlinearity}, not {set(functions)}"
    params = functions[nonlinearity]
    assert {key: given_params.get(key) for key in params} == pytest.approx(params, rel=1e-5), name
    assert found.normalised == right.normalised, f"{name}: normalised {found.normalised}"


def one_name(nonlinearity: str, params: Mapping[str, float]) -> tuple[str, Mapping[str, float]]:
    """One name for a function: ATen writes relu6 as a hardtanh, and PReLU after a learned scale reads as leaky ReLU."""
    if nonlinearity == "hardtanh" and dict(params) == {"min_val": 0, "max_val": 6}:
        return "relu6", {}
    if nonlinearity == "leaky_relu" and dict(params) == {"negative_slope": 0.25}:  # not a slope that is drawn
        return "prelu", {"weight": 0.25}
    return nonlinearity, params


def assert_scaled(found: LayerPlan | SlicePlan, right: Answer, counted: tuple[float, float], name: str) -> None:
    assert found.gain == pytest.approx(right.gain, rel=1e-5), f"{name}: gain {found.gain}, not {right.gain}"
    assert (found.fan_in, found.fan_out) == pytest.approx(counted), f"{name}: fans"
    assert found.std == pytest.approx(std(found.nonlinearity, right.gain, *counted), rel=1e-5), f"{name}: std"


def assert_accounted(made: Plan, model: nn.Module, uncalled: Iterable[str] = ()) -> None:
    """Every parameter is there once: as a weight, as the bias of one, or among the others."""
    weights = [layer.param for layer in made.layers]
    biases = {bias for layer in made.layers for bias in layer.biases}
    others = [each.name for each in made.others]
    assert sorted([*weights, *biases, *others]) == sorted(ModelView.of(model).parameters)
    assert {each.name.partition(".")[0] for each in made.others if each.kind == "uncalled"} == set(uncalled)


def planned(model: nn.Module, tier: Any, description: Description, batch: int = 3) -> Plan:
    given_inputs = None if tier == "symbolic" else inputs(description.form, batch)
    return plan_dataflow(trace(model, given_inputs, tier=tier), ModelView.of(model), PlanOptions())


def answers(made: Plan, names: Callable[[str], str] = str) -> dict[str, Any]:
    """What a plan says of each weight, but for names of operations and which of several linear reasons is nearest."""
    said = {}
    for layer in made.layers:
        alternatives = sorted((one_name(each.nonlinearity, each.params)[0], each.reason) for each in layer.alternatives)
        slices = [(part.rows, answer_of(part)) for part in layer.slices]
        said[names(layer.name)] = (answer_of(layer), alternatives, slices)
    return said


def answer_of(each: LayerPlan | SlicePlan) -> Any:
    reason = "" if each.nonlinearity == "linear" else each.reason
    nonlinearity = one_name(each.nonlinearity, each.params)[0]
    return nonlinearity, reason, each.normalised, f"{each.std:.6g}", each.fan_in, each.fan_out


# Every tier.


@settings(max_examples=80)
@given(description=descriptions(), spelling=spellings())
def test_traced_with_proxies(description: Description, spelling: Spelling):
    model = Network(description, spelling)
    made = planned(model, "symbolic", description)
    assert made.tier == "symbolic"
    assert_right(description, made, sliced=not parts(description))  # which rows part, only shapes can tell
    assert_accounted(made, model, description.uncalled)


@settings(max_examples=100)
@given(description=descriptions(), spelling=spellings())
def test_recorded_without_values(description: Description, spelling: Spelling):
    with torch.device("meta"):
        model = Network(description, spelling)
    made = planned(model, "recorded", description)
    assert made.tier == "recorded"
    assert_right(description, made)
    assert_accounted(made, model, description.uncalled)


@settings(max_examples=30)
@given(description=descriptions(), spelling=spellings())
def test_recorded_with_values(description: Description, spelling: Spelling):
    model = Network(description, spelling, real=True)
    made = planned(model, "recorded", description)
    assert_right(description, made)
    assert_accounted(made, model, description.uncalled)


@settings(max_examples=15)
@given(description=descriptions(), spelling=spellings())
def test_exported(description: Description, spelling: Spelling):
    model = Network(description, spelling)
    program = torch.export.export(model, (torch.zeros(inputs(description.form)),))
    made = plan(program)
    assert made.tier == "exported"
    assert_right(description, made)
    assert_accounted(made, model, description.uncalled)


# What the answer does not depend on.


@settings(max_examples=40)
@given(description=descriptions(), spelling=spellings(), other=spellings(), batch=st.integers(2, 5))
def test_neither_spelling_nor_batch_matters(description: Description, spelling: Spelling, other: Spelling, batch: int):
    one, two = Network(description, spelling), Network(description, other)
    assert answers(planned(one, "recorded", description)) == answers(planned(two, "recorded", description, batch))


@settings(max_examples=40)
@given(description=descriptions(), spelling=spellings())
def test_neither_names_nor_order_of_registration_matter(description: Description, spelling: Spelling):
    misleading = ("norm", "relu", "head", "embedding", "bias", "lora_A")
    renamed: dict[str, str] = {}

    def rename(name: str) -> str:
        return renamed.setdefault(name, f"{misleading[len(renamed) % len(misleading)]}_{len(renamed)}")

    plain = plan(Network(description, spelling), inputs(description.form))
    other = plan(Network(description, spelling, rename=rename, reverse=True), inputs(description.form))
    back = {new: old for old, new in renamed.items()}

    def original(name: str) -> str:
        first, dot, rest = name.partition(".")
        return back[first] + dot + rest

    assert answers(other, original) == answers(plain)
    assert {original(each.name): each.kind for each in other.others} == {each.name: each.kind for each in plain.others}


@settings(max_examples=40)
@given(description=descriptions(), spelling=spellings(), which=st.sampled_from(["parallel", "compiled", "nested"]))
def test_neither_mode_nor_wrapping_matters(description: Description, spelling: Spelling, which: str):
    model, shape = Network(description, spelling), inputs(description.form)
    plain = answers(plan(model, shape))
    assert answers(plan(model.eval(), shape)) == plain
    model.train()
    if which == "parallel":
        assert answers(plan(nn.DataParallel(model), shape)) == plain
    elif which == "compiled":
        compiled = torch.compile(model)
        assert isinstance(compiled, nn.Module)
        assert answers(plan(compiled, shape)) == plain
    else:
        nested = nn.Sequential(nn.Identity(), nn.Sequential(model))
        assert answers(plan(nested, shape), lambda name: name.removeprefix("1.0.")) == plain


@settings(max_examples=40)
@given(description=descriptions(), spelling=spellings(), shaped=st.booleans())
def test_no_input_is_needed_and_planning_again_gives_the_same(
    description: Description, spelling: Spelling, shaped: bool
):
    model = Network(description, spelling)
    shape = inputs(description.form) if shaped else None
    once, again = plan(model, shape), plan(model, shape)
    assert replace(once, seconds=0.0) == replace(again, seconds=0.0)
    assert_right(description, once)


# What tracing leaves as it was.


@settings(max_examples=40)
@given(
    description=descriptions(),
    spelling=spellings(),
    training=st.booleans(),
    tier=st.sampled_from(["symbolic", "meta", "cpu"]),
)
def test_the_model_and_the_generators_stay_as_they_were(
    description: Description, spelling: Spelling, training: bool, tier: str
):
    model = Network(description, spelling, real=tier == "cpu").train(training)
    called: list[int] = []
    hook = model.register_forward_hook(lambda *_: called.append(1))
    next(model.parameters()).requires_grad_(False)
    before = state(model)
    planned(model, "symbolic" if tier == "symbolic" else "recorded", description)
    assert state(model) == before
    assert called == []
    assert model._forward_hooks == {hook.id: model._forward_hooks[hook.id]}


def state(model: nn.Module) -> dict[str, Any]:
    """All that tracing could change: identities, versions and values of tensors, modes, hooks, generators."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {
        "tensors": {
            name: (id(each), each._version, each.requires_grad, each.grad, each.device, each.tolist())
            for name, each in tensors.items()
        },
        "modules": {
            name: (
                id(each),
                each.training,
                *map(len, (each._forward_hooks, each._forward_pre_hooks)),
                sorted(vars(each)),
            )
            for name, each in model.named_modules()
        },
        "generator": torch.get_rng_state().tolist(),
        "modes": (torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_default_device()),
    }


# The report, and depth.


@settings(max_examples=20)
@given(description=descriptions(), spelling=spellings())
def test_a_report_has_one_row_for_each_weight(description: Description, spelling: Spelling):
    model = Network(description, spelling)
    made = report(model, inputs(description.form))
    names = [layer.name for layer in made.plan.layers]
    assert sorted(names) == sorted(Truth.of(description).weights)
    assert [layer["name"] for layer in json.loads(made.to_json())["layers"]] == names
    table = [line for line in made.to_markdown().splitlines() if line.startswith("| ")]
    assert [sum(f"`{name}`" in line.split("|")[1] for line in table) for name in names] == [1] * len(names)


@settings(max_examples=40)
@given(drawn=streams(), spelling=spellings())
def test_depth_scales_the_ends_of_residual_branches(drawn: tuple[Description, dict[str, int]], spelling: Spelling):
    description, branches = drawn
    model, shape = Network(description, spelling), inputs(description.form)
    kept, scaled = plan(model, shape), plan(model, shape, residual="depth")
    factors = {name: scaled[name].std / kept[name].std for name in kept}
    assert factors == pytest.approx({name: 1 / math.sqrt(branches.get(name, 1)) for name in kept})
    assert answers(replace(scaled, layers=tuple(replace(each, std=1.0) for each in scaled.layers))) == answers(
        replace(kept, layers=tuple(replace(each, std=1.0) for each in kept.layers))
    )


# What was once wrong.


class Known(nn.Module):
    """Three layers and a forward of them."""

    def __init__(self, run: Callable[[Any, torch.Tensor], Any]) -> None:
        super().__init__()
        self.run = run
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> Any:
        return self.run(self, x)


def put_together_and_parted(model: Any, x: torch.Tensor) -> torch.Tensor:
    first, second = torch.cat([model.a(x), model.b(x)], -1).chunk(2, -1)
    return model.c(torch.tanh(first) + torch.relu(second))


def pooled_and_parted(model: Any, x: torch.Tensor) -> torch.Tensor:
    first, second = model.a(x).mean(1).chunk(2, -1)
    return torch.tanh(first) * torch.relu(second)


def written_norm(model: Any, x: torch.Tensor) -> torch.Tensor:
    stem = model.a(x)
    return stem + model.c(stem * torch.rsqrt(stem.pow(2).mean(-1, keepdim=True) + 1e-6))


def written_activation(model: Any, x: torch.Tensor) -> torch.Tensor:
    stem = model.a(x)
    return stem + model.c(2 * torch.sigmoid(2 * stem) - 1)


def only_its_shape(model: Any, x: torch.Tensor) -> torch.Tensor:
    logits = model.a(x)
    return nn.functional.cross_entropy(logits.flatten(0, 1), torch.zeros_like(logits.flatten(0, 1)[:, 0]).long())


class Attending(Known):
    def __init__(self, run: Callable[[Any, torch.Tensor], Any]) -> None:
        super().__init__(run)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)


def attended_and_parted(model: Any, x: torch.Tensor) -> torch.Tensor:
    first, second = model.attention(x, x, x, need_weights=False)[0].chunk(2, -1)
    return torch.tanh(first) * torch.relu(second)


HALVES = [(((0, 2),), "tanh"), (((2, 4),), "relu")]
KNOWN = {
    "put_together_and_parted": (put_together_and_parted, "tanh", []),
    "pooled_and_parted": (pooled_and_parted, "relu", HALVES),
    "written_norm_of_what_another_reads": (written_norm, "linear", []),
    "written_activation_of_what_another_reads": (written_activation, "tanh", []),
    "a_slice_of_which_only_the_shape_is_read": (only_its_shape, "softmax", []),
}


@pytest.mark.parametrize(("run", "nonlinearity", "slices"), KNOWN.values(), ids=KNOWN)
def test_once_wrong(run: Any, nonlinearity: str, slices: list[Any]):
    layer = plan(Known(run), (2, 3, 4))["a"]
    assert (layer.nonlinearity, [(part.rows, part.nonlinearity) for part in layer.slices]) == (nonlinearity, slices)


def composite_between(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(x)


def shape_lent_between(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(1).view_as(x)


def test_slices_of_an_output_projection():
    layer = plan(Attending(attended_and_parted), (2, 3, 4))["attention.out_proj"]
    assert [(part.rows, part.nonlinearity) for part in layer.slices] == HALVES


@pytest.mark.parametrize("between", [composite_between, shape_lent_between])
def test_streams_go_on_past(between: Callable[[torch.Tensor], torch.Tensor]):
    def run(model: Any, x: torch.Tensor) -> torch.Tensor:
        x = between(x + model.a(x))
        return x + model.b(x)

    model = Known(run)
    kept, scaled = plan(model, (2, 4)), plan(model, (2, 4), residual="depth")
    assert [scaled[name].std / kept[name].std for name in "ab"] == pytest.approx([math.sqrt(0.5)] * 2)


def test_exported_parameters_that_nothing_uses():
    program = torch.export.export(Known(lambda model, x: model.a(x)), (torch.zeros(2, 4),))
    assert {each.name for each in plan(program).others if each.kind == "uncalled"} == {
        "b.weight", "b.bias", "c.weight", "c.bias",
    }  # fmt: skip


@pytest.mark.parametrize("beside", [
    nn.Identity(), nn.LayerNorm(2), nn.Tanh(), nn.Sequential(nn.Linear(2, 6), nn.GLU(), nn.Linear(3, 2)),
    nn.Sequential(nn.Linear(2, 4), nn.Unflatten(-1, (2, 2)), nn.Flatten(-2), nn.Linear(4, 2), nn.Dropout()),
], ids=["itself", "a_norm", "an_activation", "a_gate", "reshaped"])  # fmt: skip
def test_parts_of_parts_without_shapes(beside: nn.Module):
    """A weight in a loop in one half feeds itself, and what its half meets: not what the other half of a half meets.

    The halves are put together and part again, so that the first two features go to the ReLU and the last two, which
    parted on the way, to the softmax.
    """

    class Looped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.beside = nn.Linear(4, 4), nn.Linear(2, 2), beside

        def forward(self, x: torch.Tensor) -> Any:
            halves = self.a(x).chunk(2, -1)
            first, parts = self.b(self.b(halves[0])), halves[1].chunk(2, -1)
            again = torch.cat([first, self.beside(torch.cat([parts[0], parts[1]], -1))], -1).chunk(2, -1)
            return torch.relu(again[0]), torch.softmax(again[1], -1)

    model = Looped()
    layer = plan_dataflow(trace(model, tier="symbolic"), ModelView.of(model), PlanOptions())["b"]
    assert {(each.nonlinearity, each.reason) for each in layer.alternatives} == {
        ("linear", "weight"), ("relu", "activation"),
    }  # fmt: skip
    assert layer.slices == ()


@pytest.mark.parametrize("features", [2, 3])
def test_a_norm_written_out_over_few_features(features: int):
    """With two features the variance is a square of their difference, at some places no more than epsilon."""

    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(4, features, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.a(x)
            centred = x - x.mean(1, keepdim=True)
            return torch.relu(centred / torch.sqrt((x - x.mean(1, keepdim=True)).pow(2).mean(1, keepdim=True) + 1e-5))

    layer = plan(Written(), (2, 4, 4, 4))["a"]
    assert (layer.nonlinearity, layer.reason, layer.normalised) == ("relu", "activation", True)


@pytest.mark.parametrize("squashed", [
    lambda x: x * torch.linalg.vector_norm(x, dim=-1, keepdim=True) / (1 + x.pow(2).sum(-1, keepdim=True)),
    lambda x: torch.cat([torch.relu(x[..., :2]), x[..., 2:] / x[..., 2:].pow(2).mean(-1, keepdim=True).sqrt()], -1),
], ids=["a_squash", "half_of_the_features"])  # fmt: skip
def test_what_ignores_scale_in_part_is_no_norm(squashed: Callable[[torch.Tensor], torch.Tensor]):
    """Sabour et al. 2017, eq. 1, is a norm for long vectors only; beside a norm, a ReLU is no norm either."""
    layer = plan(Known(lambda model, x: model.c(squashed(model.a(x)))), (2, 3, 4))["a"]
    assert not layer.normalised
