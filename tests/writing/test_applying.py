"""Writing plans: what is written, what is not, and that it is all or nothing."""

import math
import os
import re
import signal
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, spectral_norm, weight_norm

from autoinit import autoinit
from autoinit.errors import ApplyError, ArgumentError, LazyModuleError, PlanError
from autoinit.models import ModelView
from autoinit.plans.distributions import DISTRIBUTIONS
from autoinit.plans.how import How
from autoinit.tensors.measuring import weight_stats
from autoinit.tensors.parallel import one_thread
from autoinit.writing import _preflight as preflight
from autoinit.writing import applying, sampling
from autoinit.writing.applying import measure, write
from tests.shared.plan_builders import layer_plan, plan_all, plan_of, slice_plan

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(40, 60), nn.ReLU(), nn.LayerNorm(60), nn.Linear(60, 50))


def state(model):
    return {name: value.detach().to_dense().clone() for name, value in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(one[name].contiguous().view(torch.uint8), other[name].contiguous().view(torch.uint8))
        for name in one
    )


def misses(values, std):
    """By how many standard errors the root mean square of normal values misses std."""
    values = values.detach().double()
    return abs(values.square().mean().sqrt().item() / std - 1) * math.sqrt(2 * values.numel())


def test_planned_weights_and_their_biases_are_written_and_nothing_else():
    model = mlp()
    model[2].weight.data.fill_(1.5)
    before = state(model)
    plan = plan_all(model, {"3.weight": {"status": "kept"}}, std=0.3)
    written = write(plan, ModelView.of(model), seed=1)
    assert misses(model[0].weight, 0.3) < 4
    assert not model[0].bias.any()
    rest = {name: value for name, value in state(model).items() if not name.startswith("0.")}
    assert same(rest, {name: before[name] for name in rest})
    assert list(written.before) == list(written.after) == ["0", "3"]
    assert written.seed == 1
    assert written.before["0"].std == pytest.approx(before["0.weight"].double().std(correction=0).item(), rel=1e-4)
    assert written.after["0"].std == pytest.approx(model[0].weight.double().std(correction=0).item(), rel=1e-4)
    assert written.before["3"] == written.after["3"]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_values_are_the_samplers(distribution):
    model = mlp()
    write(plan_all(model, distribution=distribution), ModelView.of(model), seed=5)
    expected = torch.empty(60, 40)
    sampling.fill(expected, distribution=distribution, std=0.1, seed=5, name="0.weight")
    assert torch.equal(model[0].weight, expected)


def test_without_measuring():
    model = mlp()
    written = write(plan_all(model), ModelView.of(model), seed=1, how=How(measure=False))
    assert (dict(written.before), dict(written.after)) == ({}, {})


def test_large_weights_are_sampled_before_and_seen_whole_after():
    """600 x 600 is more than one piece of 2^18; He's std is sqrt(2 / 600) = 0.0577."""
    model = nn.Sequential(nn.Linear(600, 600), nn.ReLU(), nn.Linear(600, 300), nn.ReLU(), nn.Linear(300, 4))
    nn.init.normal_(model[0].weight, std=0.5)
    report = autoinit(model, seed=0, verbose=False, force=True)
    before, after = report.before["0"], report.after["0"]
    assert before.sampled
    assert before.numel == after.numel == 360_000
    assert before.std == pytest.approx(0.5, rel=0.02)
    with one_thread():  # as the writing measures: sums of several threads have other last digits
        assert after == weight_stats(model[0].weight)
    assert not after.sampled
    assert not any(each.sampled for name in ("2", "4") for each in (report.before[name], report.after[name]))
    assert re.search(r"~0\.(5|49\d|50\d) -> 0\.057[6-8]", str(report))
    assert str(report).count("~") == 1
    page = report.to_html()
    assert '"before":"~0.' in page.replace(" ", "")


def test_measure_changes_nothing():
    model = mlp()
    before, rng = state(model), torch.get_rng_state()
    stats = measure(plan_all(model), ModelView.of(model))
    assert stats["0"].numel == 2400
    assert same(before, state(model))
    assert torch.equal(rng, torch.get_rng_state())


def test_seed_none_follows_torch_and_takes_one_number():
    runs = []
    for _ in range(2):
        model = mlp()
        torch.manual_seed(11)
        written = write(plan_all(model), ModelView.of(model))
        runs.append((written.seed, state(model), torch.get_rng_state()))
    assert runs[0][0] == runs[1][0]
    assert same(runs[0][1], runs[1][1])
    torch.manual_seed(11)
    torch.randint(2**63 - 1, ())
    assert torch.equal(runs[0][2], torch.get_rng_state())
    model = mlp()
    torch.manual_seed(12)
    assert write(plan_all(model), ModelView.of(model)).seed != runs[0][0]


def test_a_seed_leaves_torch_alone():
    model = mlp()
    rng = torch.get_rng_state()
    write(plan_all(model), ModelView.of(model), seed=3)
    assert torch.equal(rng, torch.get_rng_state())


def test_seed_must_be_an_integer():
    with pytest.raises(ArgumentError, match=r"^seed=1\.5: expected an integer or None"):
        write(plan_all(mlp()), ModelView.of(mlp()), seed=1.5)


def test_order_and_other_layers_change_nothing():
    model, longer = mlp(), nn.Sequential(*mlp(), nn.Linear(50, 8))
    plan = plan_all(model)
    write(plan, ModelView.of(model), seed=1)
    write(plan_of(*reversed(plan_all(longer).layers)), ModelView.of(longer), seed=1)
    assert torch.equal(model[0].weight, longer[0].weight)
    assert torch.equal(model[3].weight, longer[3].weight)


PROGRAM = """
import hashlib, torch
torch.set_num_threads({threads})
from autoinit.models import ModelView
from autoinit.plans.how import How
from autoinit.tensors.measuring import weight_stats
from autoinit.writing.applying import write
from tests.shared.plan_builders import plan_all
model = torch.nn.Sequential(torch.nn.Linear(900, 1500), torch.nn.Linear(1500, 300))
digest = hashlib.sha256()
for distribution in ("normal", "truncated_normal", "orthogonal"):
    write(plan_all(model, distribution=distribution), ModelView.of(model), seed=7)
    assert torch.get_num_threads() == {threads}
    for value in model.state_dict().values():
        digest.update(value.numpy().tobytes())
print(digest.hexdigest())
"""


def test_other_processes_and_thread_counts_give_the_same_bits():
    run = [
        subprocess.run([sys.executable, "-c", PROGRAM.format(threads=n)], capture_output=True, text=True, check=True)
        for n in (1, 3)
    ]
    assert run[0].stdout == run[1].stdout != ""


def test_channels_last_gives_equal_values_and_stays():
    plain, last = nn.Conv2d(16, 32, 3), nn.Conv2d(16, 32, 3).to(memory_format=torch.channels_last)
    for model in (plain, last):
        write(plan_all(model), ModelView.of(model), seed=1)
    assert torch.equal(plain.weight, last.weight)
    assert last.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes(dtype):
    model = mlp().to(dtype)
    written = write(plan_all(model, distribution="truncated_normal"), ModelView.of(model), seed=1)
    assert model[0].weight.dtype == dtype
    assert misses(model[0].weight, 0.1) < 4
    assert written.after["0"].std == pytest.approx(0.1, rel=0.1)


def test_slices_reach_the_sampler():
    model = nn.Linear(200, 300, bias=False)
    slices = (slice_plan(((0, 100),), 0.2), slice_plan(((100, 300),), 0.05))
    write(plan_all(model, slices=slices), ModelView.of(model), seed=1)
    assert misses(model.weight[:100], 0.2) < 4
    assert misses(model.weight[100:], 0.05) < 4


def test_frozen_stays_frozen_and_gradients_stay():
    model = mlp()
    model[0].weight.requires_grad_(False)
    model[3].weight.grad = torch.ones(50, 60)
    write(plan_all(model), ModelView.of(model), seed=1)
    assert not model[0].weight.requires_grad
    assert model[3].weight.requires_grad
    assert bool((model[3].weight.grad == 1).all())
    assert model[3].weight.is_leaf


def test_autograd_notices_that_a_saved_weight_was_written():
    model = mlp()
    loss = model(torch.ones(2, 40)).square().sum()
    write(plan_all(model), ModelView.of(model), seed=1)
    with pytest.raises(RuntimeError, match=r"modified by an inplace operation"):
        loss.backward()


class Tied(nn.Module):
    def __init__(self, padding_idx=None):
        super().__init__()
        self.embedding = nn.Embedding(30, 16, padding_idx=padding_idx)
        self.head = nn.Linear(16, 30, bias=False)
        self.head.weight = self.embedding.weight


@pytest.mark.parametrize("padding_idx", [0, 3, -1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_padding_row_of_a_tied_head_stays(padding_idx, dtype):
    model = Tied(padding_idx).to(dtype)
    with torch.no_grad():
        model.embedding.weight[padding_idx] = math.pi
    write(plan_of(layer_plan("head.weight", (30, 16))), ModelView.of(model), seed=1)
    assert bool((model.head.weight[padding_idx] == torch.tensor(math.pi, dtype=dtype)).all())
    assert (model.head.weight == torch.tensor(math.pi, dtype=dtype)).sum() == 16


def test_a_padding_row_counts_in_both_statistics():
    """It stays, at a thousand times the std of the others: mean square 1000^2 / 30, and so is the std."""
    model = Tied(padding_idx=3)
    with torch.no_grad():
        model.embedding.weight[3] = torch.tensor([1000.0, -1000.0]).repeat(8)
    written = write(plan_of(layer_plan("head.weight", (30, 16))), ModelView.of(model), seed=1)
    assert written.before["head"].std == pytest.approx(1000 / math.sqrt(30), rel=1e-3)
    assert written.after["head"].std == pytest.approx(1000 / math.sqrt(30), rel=1e-3)


def test_tied_weights_are_written_once_under_their_first_name():
    by_first, by_alias = Tied(), Tied()
    write(plan_of(layer_plan("embedding.weight", (30, 16))), ModelView.of(by_first), seed=1)
    write(plan_of(layer_plan("head.weight", (30, 16))), ModelView.of(by_alias), seed=1)
    assert torch.equal(by_first.head.weight, by_alias.head.weight)
    twice = plan_of(layer_plan("embedding.weight", (30, 16)), layer_plan("head.weight", (30, 16)))
    with pytest.raises(PlanError, match=r"head: its parameter embedding.weight is already written as embedding"):
        write(twice, ModelView.of(Tied()), seed=1)


def old_weight_norm(module, dim):
    return weight_norm(module, dim=dim)


def new_weight_norm(module, dim):
    return parametrizations.weight_norm(module, dim=dim)


@pytest.mark.parametrize("wrap", [old_weight_norm, new_weight_norm])
@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("distribution", ["normal", "orthogonal"])
def test_weight_norm_has_the_planned_effective_weight(wrap, dim, distribution):
    plain = nn.Conv2d(8, 12, 3)
    write(plan_all(plain, distribution=distribution), ModelView.of(plain), seed=1)
    model = wrap(nn.Conv2d(8, 12, 3), dim)
    held = ModelView.of(model).storage("weight")
    layer = layer_plan(held.param, (12, 8, 3, 3), name="", reparam=held.reparam, distribution=distribution)
    names = set(dict(model.named_parameters()))
    written = write(plan_of(layer), ModelView.of(model), seed=1)
    torch.testing.assert_close(model.weight.detach(), plain.weight.detach(), atol=1e-6, rtol=1e-5)
    image = torch.randn(1, 8, 5, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain.bias.copy_(model.bias)
    torch.testing.assert_close(model(image), plain(image), atol=1e-5, rtol=1e-4)
    assert set(dict(model.named_parameters())) == names
    assert written.after[""].std == pytest.approx(0.1, rel=0.15)


def old_spectral_norm(module):
    return spectral_norm(module)


def new_spectral_norm(module):
    return parametrizations.spectral_norm(module)


@pytest.mark.parametrize("wrap", [old_spectral_norm, new_spectral_norm])
@pytest.mark.parametrize("module", [nn.Linear(30, 40), nn.ConvTranspose2d(6, 8, 3)])
def test_spectral_norm_keeps_torch_s_invariants(wrap, module):
    model = wrap(type(module)(30, 40) if isinstance(module, nn.Linear) else nn.ConvTranspose2d(6, 8, 3))
    held = ModelView.of(model).storage("weight")
    original = dict(model.named_parameters())[held.param]
    shape = tuple(original.shape)
    axes = "oi" if len(shape) == 2 else "iokk"
    rng = torch.get_rng_state()
    layer = layer_plan(held.param, shape, name="", axes=axes, reparam=held.reparam)
    written = write(plan_of(layer), ModelView.of(model), seed=1)
    assert torch.equal(rng, torch.get_rng_state())
    assert misses(original, 0.1) < 4
    vectors = [
        value
        for name, value in model.named_buffers()
        if name.rpartition(".")[2] in ("weight_u", "weight_v", "_u", "_v")
    ]
    assert len(vectors) == 2
    assert all(vector.norm().item() == pytest.approx(1.0, abs=1e-5) for vector in vectors)
    dim = 0 if len(shape) == 2 else 1
    model.eval()
    model(torch.zeros(1, 30) if len(shape) == 2 else torch.zeros(1, 6, 4, 4))
    largest = torch.linalg.matrix_norm(model.weight.detach().movedim(dim, 0).flatten(1), 2).item()
    assert 0.98 < largest < 1.1
    assert written.after[""].std == pytest.approx(model.weight.std(correction=0).item(), rel=1e-4)


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight

    def right_inverse(self, weight):
        return weight / 2


class OneWay(nn.Module):
    def forward(self, weight):
        return weight.tanh()


def test_other_parametrizations_are_inverted():
    model = nn.Linear(50, 60)
    parametrize.register_parametrization(model, "weight", Doubled())
    held = ModelView.of(model).storage("weight")
    assert (held.kind, held.param) == ("parametrized", "parametrizations.weight.original")
    original = model.parametrizations.weight.original
    write(plan_of(layer_plan(held.param, (60, 50), name="", reparam="parametrized")), ModelView.of(model), seed=1)
    assert model.parametrizations.weight.original is original
    assert misses(model.weight, 0.1) < 4
    assert misses(original, 0.05) < 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda m: parametrize.register_parametrization(m, "weight", OneWay()),
            "weight: its parametrization OneWay has no right_inverse",
        ),
        (
            lambda m: parametrizations.orthogonal(m, orthogonal_map="cayley", use_trivialization=False),
            "weight: _Orthogonal cannot take the weight that is planned",
        ),
    ],
)
def test_parametrizations_that_cannot_take_a_weight(make, message):
    model = nn.Sequential(nn.Linear(20, 20), nn.Linear(20, 20))
    make(model[1])
    before = state(model)
    plan = plan_of(
        layer_plan("0.weight", (20, 20)),
        layer_plan("1.parametrizations.weight.original", (20, 20), name="1", reparam="parametrized"),
    )
    with pytest.raises((PlanError, ApplyError), match=message):
        write(plan, ModelView.of(model), seed=1)
    assert same(before, state(model))


def test_plan_and_model_must_hold_the_weight_alike():
    model = weight_norm(nn.Linear(4, 5))
    with pytest.raises(PlanError, match=r"conv: planned as plain, but weight is now weight_norm"):
        write(plan_of(layer_plan("weight_v", (5, 4), name="conv")), ModelView.of(model), seed=1)


class Sharing(nn.Module):
    def __init__(self):
        super().__init__()
        memory = torch.zeros(50)
        self.first, self.second = nn.Parameter(memory[:40].view(8, 5)), nn.Parameter(memory[10:].view(8, 5))


@pytest.mark.parametrize(
    ("spoil", "fields", "error", "message"),
    [
        (lambda m: m, {"param": "4.weight"}, PlanError, "3: 4: Sequential has no such module"),
        (lambda m: m, {"param": "1.weight"}, PlanError, "3: 1.weight: ReLU has no parameter 'weight'"),
        (
            lambda m: m,
            {"shape": (50, 61)},
            PlanError,
            r"3: planned for shape \(50, 61\), but 3.weight has \(50, 60\)",
        ),
        (lambda m: m.to("meta"), {}, PlanError, r"is on the meta device .* model.to_empty\(device="),
        (
            lambda m: setattr(m[3], "weight", nn.Parameter(torch.zeros(50, 60).to_sparse())),
            {},
            PlanError,
            "^3.weight has layout torch.sparse_coo; expected torch.strided",
        ),
        (
            lambda m: setattr(m[3], "weight", nn.Parameter(torch.zeros(50, 60, dtype=torch.complex64))),
            {},
            PlanError,
            "3: 3.weight is torch.complex64; expected float16",
        ),
        (lambda m: m, {"std": 0.0}, PlanError, "3: the planned std is 0.0. Expected a positive number"),
        (lambda m: m, {"std": math.nan}, PlanError, "3: the planned std is nan"),
        (lambda m: m[3].half(), {"std": 1e-6}, PlanError, "3: the planned std is 1e-06. .*torch.float16"),
        (lambda m: m, {"biases": ("3.other",)}, PlanError, "3: its bias 3.other is not in the model"),
        (lambda m: m, {"biases": ("0.weight",)}, PlanError, "3: its bias 0.weight is the weight of 0 as well"),
        (
            lambda m: m,
            {"slices": (slice_plan(((0, 51),), 0.1),)},
            PlanError,
            "3: a slice has rows 0:51, but .* 50 outputs",
        ),
        (lambda m: m, {"axes": "o"}, PlanError, "3: axes 'o' do not fit the 2 axes of 3.weight"),
    ],
)
def test_preflight_refuses_before_anything_is_written(spoil, fields, error, message):
    model = mlp()
    plan = plan_all(model, {"3.weight": fields})
    spoil(model)
    before = model.state_dict() if model[0].weight.is_meta else state(model)
    with pytest.raises(error, match=message):
        write(plan, ModelView.of(model), seed=1)
    if not model[0].weight.is_meta:
        assert same(before, state(model))


def test_lazy_layers_are_refused():
    model = nn.Sequential(nn.LazyLinear(5))
    with pytest.raises(LazyModuleError, match=r"0: 0.weight is lazy and has no shape yet. Run one forward pass first"):
        write(plan_of(layer_plan("0.weight", (5, 4))), ModelView.of(model), seed=1)


def test_overlapping_and_expanded_memory_is_refused():
    plan = plan_of(layer_plan("first", (8, 5)), layer_plan("second", (8, 5)))
    with pytest.raises(PlanError, match="second: shares memory with first"):
        write(plan, ModelView.of(Sharing()), seed=1)
    model = nn.Linear(4, 4, bias=False)
    model.weight = nn.Parameter(torch.zeros(4).expand(4, 4))
    with pytest.raises(PlanError, match="weight is expanded"):
        write(plan_all(model), ModelView.of(model), seed=1)


class Strided(nn.Module):
    """Two weights of 4 x 4 in one memory: the columns of a matrix of 4 x 8, from two columns on."""

    def __init__(self, first: int, second: int):
        super().__init__()
        self.memory = torch.zeros(4, 8)
        self.first = nn.Parameter(self.memory[:, first : first + 4])
        self.second = nn.Parameter(self.memory[:, second : second + 4])


def test_strided_views_that_overlap_are_refused_and_those_that_interlock_are_written():
    plan = plan_of(layer_plan("first", (4, 4)), layer_plan("second", (4, 4)))
    model = Strided(0, 3)
    with pytest.raises(PlanError, match=r"^second: shares memory with first, and both are to be written"):
        write(plan, ModelView.of(model), seed=1)
    assert not model.memory.any()
    model = Strided(0, 4)
    write(plan, ModelView.of(model), seed=1)
    assert model.memory.all()


def test_a_weight_without_memory_is_refused():
    model = nn.Linear(4, 4, bias=False)
    plan = plan_all(model)
    model.weight.untyped_storage().resize_(0)
    with pytest.raises(PlanError, match="weight has an empty storage, as sharding leaves it"):
        write(plan, ModelView.of(model), seed=1)


def test_a_weight_whose_strides_overlap_is_refused():
    model = nn.Linear(4, 4, bias=False)
    model.weight = nn.Parameter(torch.zeros(16).as_strided((4, 4), (2, 1)))
    with pytest.raises(PlanError, match=r"weight overlaps itself \(strides \(2, 1\)\).* Clone it first"):
        write(plan_all(model), ModelView.of(model), seed=1)


def failing_after(count, error):
    real, calls = sampling.fill_piece, []

    def fill_piece(tensor, draw, piece):
        calls.append(draw.name)
        if len(calls) > count:
            raise error
        real(tensor, draw, piece)

    return fill_piece


def everything():
    """Every way to hold a weight, and a padded tied head."""
    torch.manual_seed(0)
    model = nn.ModuleDict(
        {
            "plain": nn.Linear(30, 40),
            "old": weight_norm(nn.Linear(30, 40)),
            "new": parametrizations.weight_norm(nn.Linear(30, 40)),
            "oldsn": spectral_norm(nn.Linear(30, 40)),
            "newsn": parametrizations.spectral_norm(nn.Linear(30, 40)),
            "other": nn.Linear(30, 40),
            "tied": Tied(2),
            "last": nn.Conv2d(3, 40, 3).to(memory_format=torch.channels_last),
        }
    )
    parametrize.register_parametrization(model["other"], "weight", Doubled())
    layers = []
    for name, module in model.items():
        weight = "tied.embedding.weight" if name == "tied" else f"{name}.weight"
        held = ModelView.of(model).storage(weight)
        shape = (30, 16) if name == "tied" else tuple(module.weight.shape)
        biases = () if name == "tied" else (f"{name}.bias",)
        layers.append(layer_plan(held.param, shape, name=name, reparam=held.reparam, biases=biases))
    return model, plan_of(*layers)


def test_everything_is_written():
    model, plan = everything()
    before = state(model)
    written = write(plan, ModelView.of(model), seed=1)
    after = state(model)
    unchanged = [name for name in before if torch.equal(before[name], after[name])]
    assert unchanged == []
    for name in ("plain", "old", "new", "other", "tied", "last"):
        assert written.after[name].std == pytest.approx(0.1, rel=0.1), name


@pytest.mark.parametrize("count", [0, 1, 4, 7])
@pytest.mark.parametrize("error", [RuntimeError("lost"), KeyboardInterrupt()])
def test_a_failure_midway_puts_every_byte_back(monkeypatch, count, error):
    model, plan = everything()
    before, old, rng = state(model), model["old"].weight, torch.get_rng_state()
    monkeypatch.setattr(sampling, "fill_piece", failing_after(count, error))
    raised = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else ApplyError
    with pytest.raises(
        raised, match=r"^$" if raised is KeyboardInterrupt else "RuntimeError: lost.* Every weight is as it was"
    ):
        write(plan, ModelView.of(model), seed=1)
    assert same(before, state(model))
    assert model["old"].weight is old
    assert torch.equal(rng, torch.get_rng_state())


def test_a_failure_without_a_copy_is_accounted_for(monkeypatch):
    model = mlp()
    monkeypatch.setattr(applying, "BACKUP_BYTES", 0)
    monkeypatch.setattr(sampling, "fill_piece", failing_after(1, RuntimeError("lost")))
    with pytest.raises(ApplyError, match=r"no copy to put back. Written: 3. Begun: 0. .* Not reached: none"):
        write(plan_all(model), ModelView.of(model), seed=1)


def test_a_failure_names_the_largest_size_that_is_copied(monkeypatch):
    """In MB of 2^20 bytes: the first layer alone has 4 * 512 * 600 bytes."""
    model = nn.Sequential(nn.Linear(512, 600), nn.ReLU(), nn.Linear(600, 4))
    monkeypatch.setattr(applying, "BACKUP_BYTES", 2**20)
    monkeypatch.setattr(sampling, "fill_piece", failing_after(1, RuntimeError("lost")))
    with pytest.raises(ApplyError, match=r"The weights take more than 1 MB, so there was no copy to put back"):
        write(plan_all(model), ModelView.of(model), seed=1)


def interrupting(real, calls):
    def fill_piece(tensor, draw, piece):
        if not calls:
            os.kill(os.getpid(), signal.SIGINT)
        calls.append(draw.name)
        real(tensor, draw, piece)

    return fill_piece


@pytest.fixture
def ctrl_c():
    """Python's own handler: a process that a shell starts in the background ignores the signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_puts_a_small_model_back(monkeypatch):
    model = mlp()
    before, handler = state(model), signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(sampling, "fill_piece", interrupting(sampling.fill_piece, []))
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        write(plan_all(model), ModelView.of(model), seed=1)
    assert same(before, state(model))
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_waits_until_a_large_model_is_written(monkeypatch):
    model, other, calls = mlp(), mlp(), []
    write(plan_all(other), ModelView.of(other), seed=1)
    monkeypatch.setattr(applying, "BACKUP_BYTES", 0)
    monkeypatch.setattr(sampling, "fill_piece", interrupting(sampling.fill_piece, calls))
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        write(plan_all(model), ModelView.of(model), seed=1)
    assert same(state(other), state(model))


def test_failure_in_a_thread_is_raised_here(monkeypatch):
    model = nn.Sequential(nn.Linear(1024, 1100), nn.Linear(1100, 1024))
    before, threads = state(model), torch.get_num_threads()
    monkeypatch.setattr(sampling, "fill_piece", failing_after(2, RuntimeError("lost")))
    torch.set_num_threads(2)
    try:
        with pytest.raises(ApplyError, match="lost"):
            write(plan_all(model), ModelView.of(model), seed=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert same(before, state(model))


def test_wrappers_are_seen_through():
    plain, inner = mlp(), mlp()
    plan = plan_all(plain)
    wrapped = nn.DataParallel(torch.compile(inner, backend="eager"))
    assert ModelView.of(wrapped).root is inner
    assert list(ModelView.of(wrapped).parameters) == list(dict(inner.named_parameters()))
    write(plan, ModelView.of(plain), seed=1)
    write(plan, ModelView.of(wrapped), seed=1)
    assert same(state(plain), state(inner))


def test_exported_programs_are_written():
    model, plain = mlp().eval(), mlp()
    program = torch.export.export(model, (torch.zeros(2, 40),))
    plan = plan_all(plain)
    assert list(ModelView.of(program).parameters) == list(ModelView.of(plain).parameters)
    write(plan, ModelView.of(plain), seed=1)
    write(plan, ModelView.of(program), seed=1)
    assert torch.equal(program.state_dict["0.weight"], plain[0].weight)


def test_large_and_small_layers_share_threads_without_a_difference():
    model = nn.Sequential(nn.Linear(1000, 1100), nn.Linear(1100, 30), nn.Linear(30, 3))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        written = write(plan_all(model), ModelView.of(model), seed=1)
    finally:
        torch.set_num_threads(threads)
    for index, layer in enumerate((model[0], model[1], model[2])):
        expected = torch.empty_like(layer.weight)
        sampling.fill(expected, distribution="normal", std=0.1, seed=1, name=f"{index}.weight")
        assert torch.equal(layer.weight, expected)
        assert written.after[str(index)].std == pytest.approx(expected.std(correction=0).item(), rel=1e-5)


def test_nothing_planned_writes_nothing():
    model = mlp()
    before = state(model)
    write(plan_all(model, status="skipped"), ModelView.of(model), seed=1)
    assert same(before, state(model))
    assert preflight.preflight(plan_all(model, status="skipped"), ModelView.of(model)).writes == ()


class Alarm(Exception):
    """What a user's handler of another signal raises."""


def raising_at(number):
    """A trace function that raises at the n-th line of `applying` that is reached, as a handler may between any two.

    Raising ends the tracing, so that it happens once. `count` on it tells how many lines have been reached.
    """

    def lines(_frame, event, _argument):
        if event == "line":
            trace.count += 1
            if trace.count == number:
                raise Alarm
        return lines

    def trace(frame, _event, _argument):
        return lines if frame.f_code.co_filename == applying.__file__ else None

    trace.count = 0
    return trace


@pytest.mark.usefixtures("ctrl_c")
def test_a_handler_that_raises_anywhere_leaves_handler_and_gradients_as_they_were():
    """At each line of the writer: SIGINT has its own handler again, gradients are on, and no weight is half written."""
    model, written = mlp(), mlp()
    plan = plan_all(model)
    write(plan, ModelView.of(written), seed=1, how=How(measure=False))
    before, after, handler = state(model), state(written), signal.getsignal(signal.SIGINT)
    number, reached = 0, 0
    while reached == number:
        number += 1
        trace, outer = raising_at(number), sys.gettrace()
        sys.settrace(trace)
        try:
            write(plan, ModelView.of(model), seed=1, how=How(measure=False))
        except (Alarm, ApplyError):
            pass
        finally:
            sys.settrace(outer)
        reached = trace.count
        assert signal.getsignal(signal.SIGINT) is handler, number
        assert torch.is_grad_enabled(), number
        assert same(state(model), before) or same(state(model), after), number
        model.load_state_dict(before)
    assert number > 60


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("reparametrise", [False, True], ids=["plain", "weight_norm"])
def test_what_was_written_is_measured_with_the_rows_that_stay(distribution, reparametrise):
    """Of 50 rows the padding is zero and stays so: a fiftieth of the elements. All else is as torch measures it."""

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(50, 16, padding_idx=3)
            self.inner = nn.Linear(16, 16)
            if reparametrise:
                nn.utils.parametrizations.weight_norm(self.inner)
            self.head = nn.Linear(16, 50, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, ids):
            return self.head(torch.relu(self.inner(self.embedding(ids))))

    model = Tied()
    report = autoinit(model, torch.zeros(2, 5, dtype=torch.int64), distribution=distribution, seed=0, verbose=False)
    (tied,) = [layer.name for layer in report.plan.layers if "embedding" in layer.note]
    weights = {tied: model.embedding.weight, "inner": model.inner.weight}
    assert set(report.after) == set(weights)
    assert report.after[tied].zeros == report.before[tied].zeros == 1 / 50
    for name, weight in weights.items():
        assert report.after[name].numel == weight.numel()
        assert report.after[name].std == pytest.approx(float(weight.detach().double().std(correction=0)), rel=1e-5)
        assert report.after[name].maximum == pytest.approx(float(weight.detach().max()), rel=1e-6)


@pytest.mark.parametrize(
    ("dtype", "std", "fits"),
    [
        (torch.float32, 1e37, True), (torch.float32, 1e38, False), (torch.float32, 1e-37, True),
        (torch.float32, 1e-39, False), (torch.float16, 3000.0, True), (torch.float16, 5000.0, False),
        (torch.bfloat16, 3000.0, True),
    ],
)  # fmt: skip
def test_a_std_leaves_room_for_the_largest_of_many_draws(dtype, std, fits):
    """A number 16 stds from zero must be finite (float32 ends at 3.4e38, float16 at 65504), and none denormal."""
    model, plan = mlp().to(dtype), plan_of(layer_plan("3.weight", (3, 8), std=std))
    model[3] = nn.Linear(8, 3).to(dtype)
    if fits:
        write(plan, ModelView.of(model), seed=1)
        assert bool(torch.isfinite(model[3].weight).all())
    else:
        with pytest.raises(PlanError, match=r"3: the planned std is .*\. Expected a positive number that 3.weight"):
            write(plan, ModelView.of(model), seed=1)
