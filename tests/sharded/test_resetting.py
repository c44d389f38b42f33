"""`rest="reset"`: what a plan does not write gets its module's own values, in one process."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from autoinit import ArgumentError, PlanError, TrainedModelError, plan
from autoinit.models import ModelView
from autoinit.tensors.sharding import local_piece
from autoinit.writing.trained import training_signs
from tests.sharded.processes import stand_in_process


class Turned(nn.Module):
    """A buffer that only the constructor fills, and a parameter that nothing resets."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("angles", torch.linspace(0, 1, 8))
        self.scale = nn.Parameter(torch.ones(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.cos(self.angles) * self.scale


class Careful(nn.Module):
    """Its own method, which writes through `.data`."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(8))

    def reset_parameters(self) -> None:
        self.shift.data.fill_(0.25)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.shift


def build() -> nn.Module:
    return nn.Sequential(
        nn.Embedding(500, 8, padding_idx=3), nn.LayerNorm(8), nn.Linear(8, 8), nn.GELU(), Turned(), Careful(),
        nn.BatchNorm1d(6), nn.Linear(8, 5),
    )  # fmt: skip


def emptied(rubbish: float) -> tuple[nn.Module, object]:
    """A model after `to_empty`, whose memory holds some number, and its plan made on the meta device."""
    with torch.device("meta"):
        model = build()
    made = plan(model, torch.zeros(2, 6, dtype=torch.long))
    model.to_empty(device="cpu")
    for each in (*model.parameters(), *model.buffers()):
        each.data.fill_(rubbish if each.is_floating_point() else 3_000_000_000)
    return model, made


@pytest.mark.parametrize("rubbish", [float("nan"), float("inf"), 1e30, 1e-41, 0.0, -3.5])
def test_after_to_empty_all_has_values_but_what_is_named(rubbish: float) -> None:
    """LayerNorm and BatchNorm are identities as torch has them, an embedding is N(0, 1) with its padding row zero."""
    model, made = emptied(rubbish)
    report = made.apply(model, seed=0, rest="reset")
    embedding, norm, _, _, turned, careful, batch_norm, _ = model
    assert not embedding.weight[3].any()
    others = torch.cat([embedding.weight[:3], embedding.weight[4:]])
    assert abs(float(others.detach().std()) - 1) < 5 / (2 * others.numel()) ** 0.5
    assert [(each.weight == 1).all() and not each.bias.any() for each in (norm, batch_norm)] == [True, True]
    assert (batch_norm.running_var == 1).all()
    assert not batch_norm.running_mean.any()
    assert int(batch_norm.num_batches_tracked) == 0
    assert (careful.shift == 0.25).all()
    assert all(each.isfinite().all() for layer in (model[2], model[7]) for each in layer.parameters())
    note = "without values of its own: 4.scale, 4.angles (rest='reset' finds no way to reset them)"
    assert note in report.plan.notes
    assert torch.equal(turned.scale.isnan(), torch.full((8,), rubbish != rubbish))


def test_what_is_reset_is_a_function_of_the_seed_and_draws_nothing() -> None:
    state = torch.get_rng_state()
    first, second, other = (emptied(0.0)[0] for _ in range(3))
    made = emptied(0.0)[1]
    state = torch.get_rng_state()
    for model, seed in ((first, 1), (second, 1), (other, 2)):
        made.apply(model, seed=seed, rest="reset")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first[0].weight, second[0].weight)
    assert not torch.equal(first[0].weight, other[0].weight)


def test_a_layer_that_is_not_planned_gets_torchs_default() -> None:
    """U(-b, b) with b = 1 / sqrt(fan_in) (torch's `kaiming_uniform_(a=sqrt(5))`), for the bias, too."""
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 256))
    made = plan(model, skip=["2"])
    for each in model[2].parameters():
        each.data.fill_(9.0)
    made.apply(model, seed=0, rest="reset")
    largest = [float(each.detach().abs().max()) for each in model[2].parameters()]
    assert 0.99 / 8 < largest[0] <= 1 / 8
    assert 0.9 / 8 < largest[1] <= 1 / 8


def test_the_rest_stays_unless_it_is_to_be_reset() -> None:
    model = build()
    made = plan(model, torch.zeros(2, 6, dtype=torch.long))
    before = copy.deepcopy(model[0].weight)
    made.apply(model, seed=0)
    assert torch.equal(model[0].weight, before)


@pytest.mark.parametrize("force", [False, True])
def test_a_trained_model_is_not_reset_unless_forced(force: bool) -> None:
    model = nn.Sequential(nn.Linear(16, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 16))
    made = plan(model)
    with torch.no_grad():
        model[1].weight.mul_(torch.linspace(0.5, 1.5, 16))
    trained = copy.deepcopy(model)  # its tensors are new: nothing has been written to them
    if force:
        made.apply(trained, seed=0, rest="reset", force=True)
        assert (trained[1].weight == 1).all()
    else:
        with pytest.raises(TrainedModelError, match="gains of 1 norms are no longer constant"):
            made.apply(trained, seed=0, rest="reset")


def test_a_failure_of_a_modules_method_is_told_before_anything_is_written() -> None:
    class Failing(Careful):
        def reset_parameters(self) -> None:
            raise RuntimeError("no")

    model = nn.Sequential(nn.Linear(8, 8), Failing())
    made, before = plan(model), copy.deepcopy(model.state_dict())
    with pytest.raises(PlanError, match=r"1: its reset_parameters fails \(RuntimeError: no\)"):
        made.apply(model, seed=0, rest="reset")
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())


def test_a_module_without_a_method_gets_what_the_model_gives() -> None:
    """As transformers' RMS norms and rotary embeddings do; what the model does not speak of is named."""

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.turned = nn.Linear(8, 8), Turned()

        def _init_weights(self, module: nn.Module) -> None:
            if isinstance(module, Turned):
                module.angles.copy_(torch.linspace(0, 1, 8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.turned(self.layer(x))

    model = Whole()
    made = plan(model)
    for each in (*model.parameters(), *model.buffers()):
        each.data.fill_(float("nan"))
    report = made.apply(model, seed=0, rest="reset")
    assert torch.equal(model.turned.angles, torch.linspace(0, 1, 8))
    assert "without values of its own: turned.scale (rest='reset' finds no way to reset them)" in report.plan.notes


@pytest.mark.parametrize("takes", [True, False], ids=["given a module", "of itself"])
def test_the_models_own_tensors_get_what_it_gives(takes: bool) -> None:
    """A class token that stands in the model itself: its `_init_weights` knows of it, and of no scales beside."""

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token, self.layer, self.turned = nn.Parameter(torch.zeros(8)), nn.Linear(8, 8), Turned()
            self.written = 0

        def _init_weights(self, *modules: nn.Module) -> None:
            self.written += 1
            if not modules or modules[0] is self:
                nn.init.constant_(self.token, 0.5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.turned(self.layer(x + self.token))

    class Alone(Whole):
        def _init_weights(self) -> None:  # type: ignore[override]
            super()._init_weights()

    model = Whole() if takes else Alone()
    made = plan(model)
    for each in (*model.parameters(), *model.buffers()):
        each.data.fill_(float("nan"))
    report = made.apply(model, seed=0, rest="reset")
    assert (model.token == 0.5).all()
    assert model.written == int(takes)  # asked for `turned` alone; for itself a copy is
    (left,) = (note for note in report.plan.notes if "turned.scale" in note)
    assert "token" not in left


def test_a_word_that_is_no_choice_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(ArgumentError, match="rest='clear': expected one of 'keep', 'reset'"):
        plan(model).apply(model, rest="clear")


class Cached(nn.Module):
    """A table of its own that its method fills: a buffer, of which no plan speaks."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(4, 8))

    def reset_parameters(self) -> None:
        self.table.fill_(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.table[0]


class Tied(nn.Module):
    """A head that shares its table with an embedding, as language models have it, and two norms of one gain."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm, self.head = nn.Embedding(50, 8, padding_idx=3), nn.LayerNorm(8), nn.Linear(8, 50, False)
        self.cached, self.last = Cached(), nn.LayerNorm(8, bias=False)
        self.tie()

    def tie(self) -> None:
        self.head.weight, self.last.weight = self.table.weight, self.norm.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.last(self.cached(self.norm(self.table(x)))))


@pytest.mark.parametrize("again", [False, True])
def test_a_tie_that_to_empty_breaks_is_named_and_padding_is_zero(again: bool) -> None:
    """`to_empty` makes two parameters of one; tied again they are one, of which nothing is to be said."""
    with torch.device("meta"):
        model = Tied()
    made = plan(model, torch.zeros(2, 6, dtype=torch.long))
    model.to_empty(device="cpu")
    if again:
        model.tie()
    for each in model.parameters():
        each.data.fill_(float("nan"))
    said = made.apply(model, seed=0, rest="reset").plan
    broken = [note.partition("modules: ")[2] for note in said.notes if "tie them again" in note]
    assert [note.split(". ")[0] for note in broken] == ([] if again else ["head.weight, last.weight"])
    assert any("reset by their modules" in note and "norm.weight" in note for note in said.notes)
    assert [each.name for each in said.others] == []
    assert all(each.isfinite().all() for each in model.parameters())
    assert not model.table.weight[3].any()


def test_what_fsdp_copies_to_fill_a_piece_up_is_no_training() -> None:
    """Of 50 gains four processes hold 13, 13, 13 and 11: the last piece is a copy, in memory for 13."""
    with stand_in_process(3, 4):
        with torch.device("meta"):
            model = nn.Sequential(nn.Linear(50, 50), nn.LayerNorm(50), nn.ReLU(), nn.Linear(50, 8))
        made = plan(model)
        fully_shard(model, mesh=init_device_mesh("cpu", (4,)))
        model.to_empty(device="cpu")
        gain = local_piece(model[1].weight)
        assert (len(gain), gain._version) == (11, 1)
        gain.data.copy_(torch.linspace(-1, 1, 11))
        assert training_signs(ModelView.of(model), made, reset=True).strong == ()
        with torch.no_grad():
            gain.add_(1)
        assert "gains of 1 norms" in training_signs(ModelView.of(model), made, reset=True).strong[0]
