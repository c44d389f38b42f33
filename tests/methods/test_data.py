"""`method="data"`: each pre-activation has std 1 on the batch, by hooks and by hand; one forward and one to verify."""

import math
import re

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.nn.utils import parametrizations

from autoinit.errors import ArgumentError, PlanError, TraceError
from autoinit.methods.data import plan_by_data
from autoinit.models import ModelView
from autoinit.plans.options import PlanOptions
from autoinit.plans.plan import Plan
from autoinit.tracing import trace


def planned(model, x, seed=0, **settings):
    return plan_by_data(ModelView.of(model), trace(model, x), PlanOptions(**settings, seed=seed), x)


def applied(model, x, seed=0, **settings):
    plan = planned(model, x, seed, **settings)
    plan.apply(model, seed, force=True)
    return plan


def std(x):
    return float(x.detach().double().std(correction=0))


def stds(model, x, seed=0):
    """The std of each linear's and convolution's output less its bias, by torch's own hooks."""
    found = {}

    def hook(module, inputs, _output):
        if isinstance(module, nn.Linear):
            found.setdefault(module, []).append(std(F.linear(inputs[0], module.weight)))
        else:
            found.setdefault(module, []).append(std(module._conv_forward(inputs[0], module.weight, None)))

    weighing = [module for module in model.modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    handles = [module.register_forward_hook(hook) for module in weighing]
    model.train()
    torch.manual_seed(seed)
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return [each for several in found.values() for each in several]


def chain(activation):
    torch.manual_seed(1)
    layers = [nn.Linear(40, 48)] + [part for _ in range(12) for part in (activation(), nn.Linear(48, 48))]
    return nn.Sequential(*layers, nn.Dropout(0.2), nn.Linear(48, 5))


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU])
def test_a_chain_is_exact(activation):
    model, x = chain(activation), torch.randn(32, 40)
    plan = applied(model, x, seed=3)
    found = stds(model, x, seed=3)
    assert plan.method == "data"
    assert found[:-1] == pytest.approx([1.0] * 13, abs=1e-4)
    assert 0.5 < found[-1] < 1 + 1e-4  # five outputs may have a mean that dominates
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("make", [torchvision.models.resnet18, torchvision.models.squeezenet1_1])
def test_torchvision_models(make):
    torch.manual_seed(1)
    model, x = make(), torch.randn(4, 3, 64, 64)
    plan = applied(model, x, seed=2)
    assert stds(model, x, seed=2) == pytest.approx([1.0] * len(plan), abs=1e-3)


def test_other_values_of_the_same_std_are_near():
    torch.manual_seed(1)
    model, x = torchvision.models.resnet18(), torch.randn(8, 3, 64, 64)
    planned(model, x, seed=2).apply(model, seed=77)
    assert stds(model, x) == pytest.approx([1.0] * 21, abs=0.15)


def test_a_wide_linear_net_has_the_std_of_the_formula():
    model, x = nn.Sequential(nn.Linear(400, 500), nn.Linear(500, 300)), 3.0 * torch.randn(200, 400)
    plan = planned(model, x)
    assert plan["0"].std == pytest.approx(1 / (3 * math.sqrt(400)), rel=0.02)
    assert plan["1"].std == pytest.approx(1 / math.sqrt(500), rel=0.02)
    assert plan["1"].gain == pytest.approx(1.0, rel=0.02)
    assert (plan["1"].mode, plan["1"].fan_in) == ("fan_in", 500)


RUNS = []


class Counted(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(30))

    def forward(self, x):
        if not x.is_meta:
            RUNS.append(1)
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x


def test_one_forward_corrects_and_one_verifies():
    model, x = Counted(), torch.randn(64, 8)
    RUNS.clear()
    planned(model, x)
    assert len(RUNS) == 2


class Gates(nn.Module):
    """a * sigmoid(b) again and again: its scale grows by itself to a power above 1, and every error with it."""

    def __init__(self, depth, width):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, 2 * width, bias=False) for _ in range(depth))

    def forward(self, x):
        for layer in self.layers:
            x = F.glu(layer(x), -1)
        return x


def halves(model, x):
    """The std of either half of each layer's output, by torch's own hooks."""
    found = []

    def hook(_module, _inputs, output):
        found.append([std(part) for part in output.chunk(2, -1)])

    handles = [layer.register_forward_hook(hook) for layer in model.layers]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("depth", [200, 400])
def test_a_model_that_magnifies_rounding_is_told_of(depth):
    torch.manual_seed(0)
    model, x = Gates(depth, 64), torch.randn(16, 64)
    plan = applied(model, x, seed=5)
    found = {layer.name: pair for layer, pair in zip(plan.layers, halves(model, x), strict=True)}
    off = {name for name, pair in found.items() if any(abs(each - 1) > 0.1 for each in pair)}
    assert len(off) > 50 or depth == 200
    said = {layer.name: layer.note for layer in plan.layers if "has std" in layer.note}
    assert said.keys() == off
    for name, note in said.items():
        stds = [float(text) for text in re.findall(r"has std (\S+) on the batch", note)]
        assert stds == pytest.approx([each for each in found[name] if abs(each - 1) > 0.1], rel=0.01)
    (told,) = plan.notes
    assert told.startswith("the model magnifies rounding: the output of layers.")
    assert f"in the last pass {len(off)} layers are off by more than 10%" in told


@pytest.mark.parametrize("seed", [0, 7])
def test_a_healthy_model_has_no_note(seed):
    model, x = chain(nn.ReLU), torch.randn(32, 40)
    plan = planned(model, x, seed)
    assert plan.notes == ()
    assert {layer.note for layer in plan.layers[:-1]} == {""}


class Moduleless(nn.Module):
    """x @ W, an einsum with heads, a fused gate, and a residual inside addmm."""

    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(32, 64))
        self.heads = nn.Parameter(torch.randn(64, 4, 16))
        self.gated = nn.Parameter(torch.randn(64, 128))
        self.added = nn.Parameter(torch.randn(64, 64))

    def forward(self, x):
        a = x @ self.matrix
        b = torch.einsum("bd,dhk->bhk", F.relu_(a.clone()), self.heads).flatten(1)
        c = b @ self.gated
        value, gate = c.chunk(2, dim=1)
        d = value * torch.sigmoid(gate)
        self.made = a, b, value, gate, d @ self.added
        return torch.addmm(10 * b, d, self.added)


def test_weights_without_a_module():
    torch.manual_seed(0)
    model, x = Moduleless(), torch.randn(50, 32)
    plan = applied(model, x)
    model(x)
    assert [std(each) for each in model.made] == pytest.approx([1.0] * 5, abs=1e-4)
    assert [part.rows for part in plan["gated"].slices] == [((0, 64),), ((64, 128),)]
    a, b = (part.std for part in plan["gated"].slices)
    assert plan["gated"].std == pytest.approx(math.sqrt((a**2 + b**2) / 2))


class Crossed(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True, dropout=0.1)

    def forward(self, x, y):
        return self.attention(x, y, y, need_weights=False)[0]


@pytest.mark.parametrize("crossed", [False, True])
def test_each_projection_of_attention_on_its_own(crossed):
    torch.manual_seed(0)
    model, x = Crossed(), torch.randn(6, 10, 32)
    y = 5 * torch.randn(6, 7, 32) if crossed else x
    plan = applied(model, (x, y))
    weights = model.attention.in_proj_weight.chunk(3)
    found = [std(F.linear(z, weight)) for z, weight in zip((x, y, y), weights, strict=True)]
    assert found == pytest.approx([1.0] * 3, abs=1e-4)
    assert [part.rows for part in plan["attention.in_proj_weight"].slices] == [
        ((0, 32),),
        ((32, 64),),
        ((64, 96),),
    ]
    model.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert std(model(x, y)) == pytest.approx(1.0, abs=1e-3)


class Repeated(nn.Module):
    def __init__(self, start):
        super().__init__()
        self.layer, self.last, self.start = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False), start

    def forward(self, x):
        self.made = []
        for _ in range(4):
            self.made.append(self.layer(x))
            x = self.start * x + self.made[-1]
        return self.last(x)


def test_a_shared_weight_is_right_in_the_geometric_mean_of_its_uses():
    torch.manual_seed(0)
    model, x = Repeated(2.0), torch.randn(64, 64)
    plan = applied(model, x)
    out = model(x)
    mean = math.exp(sum(math.log(std(each)) for each in model.made) / 4)
    assert mean == pytest.approx(1.0, abs=0.1)
    assert std(model.made[3]) > 1.5
    assert "in its 4 uses" in plan["layer"].note
    assert std(out) == pytest.approx(1.0, abs=0.1)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.layer = nn.Embedding(200, 64), nn.Linear(64, 64, bias=False)

    def forward(self, ids):
        x = self.table(ids)
        h = self.layer(x)
        self.made = h, F.linear(F.layer_norm(x + h, (64,)), self.table.weight)
        return self.made[1]


def test_a_table_that_is_a_weight_too():
    torch.manual_seed(0)
    model, ids = Tied(), torch.randint(200, (8, 16))
    applied(model, ids)
    model(ids)
    assert [std(each) for each in model.made] == pytest.approx([1.0, 1.0], abs=0.1)


class Stream(nn.Module):
    def __init__(self):
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)) for _ in range(4))

    def forward(self, x):
        for branch in self.branches:
            x = x + branch(x)
        return x


def test_branches_of_a_residual_stream_by_depth():
    torch.manual_seed(0)
    model, x = Stream(), torch.randn(64, 64)
    plan = applied(model, x, residual="depth")
    assert stds(model, x) == pytest.approx([1.0, 0.5] * 4, abs=1e-4)
    assert plan.residual == "depth"
    assert plan["branches.0.2"].note == "ends a residual branch: std * 0.5"


@pytest.mark.parametrize("distribution", ["uniform", "orthogonal", "truncated_normal"])
def test_every_distribution(distribution):
    torch.manual_seed(0)
    model, x = chain(nn.ReLU), torch.randn(32, 40)
    plan = applied(model, x, distribution=distribution)
    assert plan["0"].distribution == distribution
    assert stds(model, x) == pytest.approx([1.0] * 14, abs=1e-4)


def test_parametrised_weights():
    torch.manual_seed(0)
    model = nn.Sequential(
        parametrizations.weight_norm(nn.Linear(32, 64)), nn.ReLU(), parametrizations.spectral_norm(nn.Linear(64, 64))
    )
    x = torch.randn(64, 32)
    plan = applied(model, x)
    with torch.no_grad():
        assert std(F.linear(x, model[0].weight)) == pytest.approx(1.0, abs=1e-4)
    assert "its scale is normalised away" in plan["2"].note


def test_what_is_not_corrected_says_why():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8), nn.Linear(8, 8))
    nn.init.zeros_(model[0].weight)
    x = torch.randn(16, 8)
    plan = planned(model, x, skip="2")
    assert plan["0"].status == "kept"
    assert plan["1"].note == "its output is zero on the batch: std by its nonlinearity"
    assert plan["1"].std == pytest.approx(math.sqrt(2 / 16))
    assert plan["2"].status == "skipped"
    recurrent = planned(nn.LSTM(4, 8, batch_first=True), (2, 5, 4))
    assert {layer.note for layer in recurrent.layers} == {"its output is not seen inside lstm: std by its nonlinearity"}


def test_one_output_with_a_large_mean_stays_moderate():
    torch.manual_seed(0)
    model, x = nn.Linear(100, 1), 4 + 0.1 * torch.randn(64, 100)
    plan = applied(model, x)
    with torch.no_grad():
        moment = float(F.linear(x, model.weight).square().mean())
    assert moment == pytest.approx(2.0, rel=1e-3)  # std 1 would make it far larger
    assert "about a large mean" in plan["weight"].note


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.layer = nn.BatchNorm1d(8), nn.Linear(8, 8)
        self.register_buffer("seen", torch.zeros(8))

    def forward(self, x):
        x.add_(1)
        self.seen.add_(1)
        return self.layer(self.norm(x))


def test_the_model_stays_as_it_is():
    model, x = Noisy().eval(), torch.randn(16, 8)
    held, given, state = {n: v.clone() for n, v in model.state_dict().items()}, x.clone(), torch.get_rng_state()
    first = planned(model, x)
    assert all(torch.equal(value, held[name]) for name, value in model.state_dict().items())
    assert torch.equal(x, given)
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.training
    assert model.layer.weight.grad is None
    assert planned(model, x).layers == first.layers


def test_a_guessed_batch_is_told():
    plan = planned(nn.Linear(8, 8), None)
    assert any(note.startswith("calibrated on an input guessed from") for note in plan.notes)


class Offset(nn.Module):
    """Ids that are moved before they look up a table: not every id within its size will do."""

    def __init__(self, offset):
        super().__init__()
        self.table, self.layer, self.offset = nn.Embedding(1000, 64), nn.Linear(64, 64), offset

    def forward(self, ids):
        self.seen = ids
        return self.layer(self.table(ids + self.offset))


def test_ids_given_by_their_shape_are_different_tokens():
    torch.manual_seed(0)
    plan = planned(Offset(0), torch.empty(4, 50, dtype=torch.int64, device="meta"))
    # 200 rows of N(0, 1) have second moment 1, and one row one that is as far from 1 as 64 numbers' is.
    assert plan["layer"].std == pytest.approx(1 / 8, rel=0.03)
    assert plan.notes == ("ids given by their shape are random",)


@pytest.mark.parametrize("given", [0, 998])
def test_ids_that_are_all_the_same_are_told(given):
    torch.manual_seed(0)
    same = "all ids given for table.weight are the same: each place looks up one row; give different ids"
    assert planned(Offset(1), torch.full((4, 50), given)).notes == (same,)
    assert planned(Offset(1), torch.tensor([[given, 1]])).notes == ()


def test_ids_that_a_model_refuses_are_not_made_up():
    torch.manual_seed(0)
    plan = planned(Offset(999), torch.empty(4, 50, dtype=torch.int64, device="meta"))
    assert [note.split(":")[0] for note in plan.notes] == ["all ids given for table.weight are the same"]


class Failing(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        h = self.layer(x)
        if not h.is_meta:
            raise RuntimeError("not for real")
        return h


def test_what_cannot_be_calibrated():
    with torch.device("meta"):
        empty = nn.Linear(2, 2)
    with pytest.raises(ArgumentError, match=r"weight and 1 more parameters .* method='signal'"):
        planned(empty, (1, 2))
    with pytest.raises(PlanError, match=r"weight: its output is not finite on the batch") as caught:
        planned(nn.Linear(2, 2), torch.tensor([[1.0, math.inf]]))
    assert "Check that the batch is" in str(caught.value)
    with pytest.raises(TraceError, match="not for real"):
        planned(Failing(), (1, 4))
    program = torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),))
    with pytest.raises(ArgumentError, match=r"model is a ExportedProgram: method='data' runs"):
        planned(program, None)
