"""Signs of training: fresh models of every kind are not accused, trained ones are."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from autoinit import autoinit, plan
from autoinit.errors import TrainedModelError
from autoinit.models import ModelView
from autoinit.plans.distributions import DISTRIBUTIONS
from autoinit.plans.how import How
from autoinit.writing.applying import write
from autoinit.writing.trained import TrainingSigns, misfit, training_signs
from tests.shared.plan_builders import layer_plan, plan_all, plan_of, slice_plan

FRESH = TrainingSigns()


def mlp():
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.GroupNorm(4, 16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.BatchNorm2d(32, track_running_stats=False),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


def train(model, image, steps=120, rate=0.1):
    digits, labels = load_digits(return_X_y=True)
    pixels = torch.tensor(digits / 16, dtype=torch.float32)
    pixels, labels = pixels.view(-1, 1, 8, 8) if image else pixels, torch.tensor(labels)
    chosen = torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], rate, momentum=0.9)
    for _ in range(steps):
        batch = torch.randint(len(labels), (32,), generator=chosen)
        optimizer.zero_grad()
        functional.cross_entropy(model(pixels[batch]), labels[batch]).backward()
        optimizer.step()


INITS = {
    "torch's default": lambda weight: None,
    "kaiming_uniform": nn.init.kaiming_uniform_,
    "kaiming_normal fan_out": lambda weight: nn.init.kaiming_normal_(weight, mode="fan_out"),
    "xavier_uniform": nn.init.xavier_uniform_,
    "normal 0.02": lambda weight: nn.init.normal_(weight, std=0.02),
    "trunc_normal 0.02": lambda weight: nn.init.trunc_normal_(weight, std=0.02),
    "trunc_normal at two sigma": lambda weight: nn.init.trunc_normal_(weight, std=0.02, a=-0.04, b=0.04),
    "orthogonal": nn.init.orthogonal_,
    "zeros": nn.init.zeros_,
    "constant": lambda weight: nn.init.constant_(weight, 0.3),
    "sparse": lambda weight: nn.init.sparse_(weight, 0.5) if weight.dim() == 2 else None,
    "eye or dirac": lambda weight: nn.init.eye_(weight) if weight.dim() == 2 else nn.init.dirac_(weight),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_fresh_models_are_not_accused(init, dtype, seed):
    torch.manual_seed(seed)
    for model in (
        mlp(),
        cnn(),
        nn.Sequential(nn.Conv1d(8, 512, 3), nn.ConvTranspose2d(8, 600, 3), nn.Linear(2000, 3)),
    ):
        for parameter in model.parameters():
            if parameter.dim() > 1:
                INITS[init](parameter)
        assert training_signs(ModelView.of(model.to(dtype)), plan_all(model)) == FRESH


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_models_that_were_just_written_are_not_accused(distribution):
    torch.manual_seed(0)
    model = nn.Sequential(mlp(), nn.Linear(10, 384), nn.Linear(384, 96))
    slices = tuple(slice_plan(((at, at + 128),), std) for at, std in ((0, 0.1), (128, 0.01), (256, 1.0)))
    plan = plan_all(model, {"1.weight": {"slices": slices}}, distribution=distribution)
    for _ in range(2):
        write(plan, ModelView.of(model), seed=1)
        assert training_signs(ModelView.of(model), plan) == FRESH


@pytest.mark.parametrize("copies", [1, 3])
def test_slices_of_other_sizes_and_scales_are_levelled(copies):
    """Each row is divided by what its own slice has; rows in no slice are a slice of their own."""
    runs = {(0, 8): 1.0, (8, 72): 1e-3, (72, 80): 30.0, (80, 96): 0.05}
    weight = torch.randn(copies, 96, 64, generator=torch.Generator().manual_seed(0))
    for (start, stop), std in runs.items():
        weight[:, start:stop] *= std
    slices = tuple(slice_plan((run,), std) for run, std in runs.items() if run != (8, 72))
    layer = layer_plan("0", tuple(weight.shape), axes="boi", slices=slices)
    assert misfit(weight, layer) == ""
    assert misfit(weight, layer_plan("0", tuple(weight.shape), axes="boi"))
    weight[:, 8:40] *= 2
    assert misfit(weight, layer)


def test_fused_and_recurrent_weights():
    torch.manual_seed(0)
    modules = (nn.MultiheadAttention(64, 4), nn.LSTM(32, 64), nn.GRU(64, 48))
    for module in modules:
        layers = [layer_plan(n, tuple(p.shape)) for n, p in module.named_parameters() if p.dim() == 2]
        assert training_signs(ModelView.of(module), plan_of(*layers)) == FRESH


def test_tiny_and_meta_models_say_nothing():
    tiny = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    train_like = torch.tensor([5.0, 0.0, 1.0])
    tiny[0].weight.data += train_like
    assert training_signs(ModelView.of(tiny), plan_all(tiny)) == FRESH
    assert misfit(tiny[0].weight) is None
    with torch.device("meta"):
        meta = nn.Sequential(cnn(), nn.BatchNorm1d(3))
    assert training_signs(ModelView.of(meta), plan_all(meta)) == FRESH


@pytest.mark.parametrize("init", ["torch's default", "orthogonal", "xavier_uniform"])
@pytest.mark.parametrize("image", [False, True])
def test_trained_models_are_accused(init, image):
    torch.manual_seed(0)
    model = cnn() if image else mlp()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            INITS[init](parameter)
        elif image:
            parameter.requires_grad_(False)
    train(model, image)
    evidence = training_signs(ModelView.of(model), plan_all(model))
    assert len(evidence.strong) == 1
    assert "none of the 3 weights sampled fits a known initialisation" in evidence.strong[0]


def test_norm_gains_betray_training():
    torch.manual_seed(0)
    model = cnn()
    train(model, image=True, steps=3)
    evidence = training_signs(ModelView.of(model), plan_all(model))
    assert any("the gains of 2 norms are no longer constant (1.weight from" in each for each in evidence.strong)


def test_gains_before_the_first_batch_were_drawn():
    """timm draws those of RepVGG from N(0.1, 0.1); the norm's own counter says that nothing was trained yet."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 128, 3), nn.BatchNorm2d(128), nn.Conv2d(128, 64, 3), nn.BatchNorm2d(64))
    for norm in (model[1], model[3]):
        nn.init.normal_(norm.weight, 0.1, 0.1)
    assert training_signs(ModelView.of(model), plan_all(model)) == FRESH
    with torch.no_grad():
        model(torch.randn(4, 3, 16, 16))
    told = training_signs(ModelView.of(model), plan_all(model)).strong
    assert "the gains of 2 norms are no longer constant" in told[-1]


def test_gains_drawn_as_in_dcgan_are_an_initialisation():
    torch.manual_seed(0)
    norms = [nn.BatchNorm2d(width, track_running_stats=False) for width in (128, 64)]
    model = nn.Sequential(nn.Conv2d(3, 128, 3), norms[0], nn.Conv2d(128, 64, 3), norms[1])
    for norm in (model[1], model[3]):
        nn.init.normal_(norm.weight, 1.0, 0.02)
    assert training_signs(ModelView.of(model), plan_all(model)) == FRESH
    nn.init.normal_(model[3].weight, 1.0, 0.2)
    assert (
        "the gains of 2 norms are no longer constant" in training_signs(ModelView.of(model), plan_all(model)).strong[0]
    )


def test_counters_betray_training_and_statistics_alone_are_weak():
    model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64))
    for _ in range(6):
        model(torch.randn(8, 64, generator=torch.Generator().manual_seed(0)))
    evidence = training_signs(ModelView.of(model), plan_all(model))
    assert evidence.strong == ("1 batch norms have seen training batches (1: 6)",)
    model[1].num_batches_tracked.zero_()
    evidence = training_signs(ModelView.of(model), plan_all(model))
    assert evidence.strong == ()
    assert evidence.weak == ("2 running statistics of norms are not as constructed (1.running_mean)",)


def test_one_odd_weight_among_fresh_ones_is_weak_evidence():
    torch.manual_seed(0)
    model = mlp()
    model[2].weight.data *= torch.linspace(0.1, 3, 128)[:, None]
    evidence = training_signs(ModelView.of(model), plan_all(model))
    assert evidence.strong == ()
    assert evidence.weak[0].startswith("1 of 3 weights sampled fit no known initialisation (2: its")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda w: w + 0.02, "mean"),
        (lambda w: w * torch.linspace(0.9, 1.1, 128)[:, None], "rows differ in scale"),
        (lambda w: w * torch.linspace(0.9, 1.1, 256), "columns differ in scale"),
        (lambda w: w.pow(3) * 60, "kurtosis"),
        (lambda w: w + 0.02 * torch.tensor([1.0, -1.0]).repeat(64)[:, None], "rows have means of their own"),
        (
            lambda w: w + 0.02 * torch.tensor([1.0, -1.0]).repeat(64)[:, None] * torch.tensor([1.0, -1.0]).repeat(128),
            "rows point the same way",
        ),
    ],
)
def test_what_a_misfit_is_called(change, told):
    weight = torch.randn(128, 256, generator=torch.Generator().manual_seed(0)) * 0.05
    assert misfit(weight) == ""
    assert told in misfit(change(weight))


def test_writing_a_trained_model_needs_force():
    model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64))
    for _ in range(6):
        model(torch.randn(8, 64, generator=torch.Generator().manual_seed(0)))
    plan, before, rng = plan_all(model), model[0].weight.detach().clone(), torch.get_rng_state()
    with pytest.raises(TrainedModelError, match=r"looks trained.* batch norms have seen .* force=True"):
        write(plan, ModelView.of(model))
    assert torch.equal(model[0].weight, before)
    assert torch.equal(torch.get_rng_state(), rng)
    write(plan, ModelView.of(model), seed=1, how=How(force=True))
    assert not torch.equal(model[0].weight, before)


# What a constructor does is no training.


class RunsAForward(nn.Module):
    """As YOLOv5's: the constructor runs a forward, to learn the strides."""

    def __init__(self, batches=1):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.Conv2d(32, 8, 1)
        for _ in range(batches):
            self(torch.randn(2, 3, 16, 16))

    def forward(self, x):
        return self.head(torch.relu(self.norm(self.conv(x))))


@pytest.mark.parametrize("batches", [1, 2, 5])
def test_a_forward_at_construction_is_no_training(batches):
    model = RunsAForward(batches)
    done = autoinit(model, (2, 3, 16, 16), seed=0, verbose=False)
    assert any(f"batch norms have seen a batch or a few (norm: {batches})" in note for note in done.plan.notes)


@pytest.mark.parametrize("move", ["batches", "gains", "shifts"])
def test_more_batches_or_moved_gains_and_shifts_are(move):
    model = RunsAForward(6 if move == "batches" else 1)
    with torch.no_grad():
        if move == "gains":
            model.norm.weight[3] = 1.001
        if move == "shifts":
            model.norm.bias[3] = 1e-4
    with pytest.raises(TrainedModelError, match=r"1 batch norms have seen training batches \(norm: "):
        autoinit(model, (2, 3, 16, 16), seed=0, verbose=False)


@pytest.mark.parametrize(
    "draw",
    [
        lambda shape: torch.rand(shape) / shape[1],
        lambda shape: 0.02 * torch.rand(shape),
        lambda shape: -torch.rand(shape),
        lambda shape: torch.empty(shape).uniform_(0, 3),
    ],
    ids=["FNO", "FiLM", "negative", "uniform_"],
)
def test_draws_from_zero_to_a_bound_are_an_initialisation(draw):
    """U(0, b): mean b / 2, kurtosis about the mean 9 / 5."""
    model = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 64))
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight.copy_(draw(layer.weight.shape))
    assert misfit(model[0].weight) == ""
    autoinit(model, (2, 64), seed=0, verbose=False)


def test_other_numbers_of_one_sign_are_none():
    """|N(0, 1)| has kurtosis 3.87 about its mean, and a mean far from half of its bound."""
    torch.manual_seed(0)
    assert misfit(torch.randn(64, 64).abs())


@pytest.mark.parametrize(
    "fill",
    [
        lambda values: values.view(torch.int32).random_(0, 2**31 - 1),
        lambda values: values.view(torch.int32).random_(0, 255),
        lambda values: values.normal_().view(-1)[::50].mul_(1e8),
        lambda values: values.normal_().view(-1)[::50].fill_(float("nan")),
    ],
    ids=["any bits", "small integers", "a few large", "not finite"],
)
def test_memory_that_nothing_has_written_is_no_sign_of_training(fill):
    """After `to_empty` weights, gains and counters are whatever the memory held."""
    model = nn.Sequential(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3))
    with torch.no_grad():
        for value in (*model.parameters(), model[1].running_mean, model[1].running_var):
            fill(value.data)
        model[1].num_batches_tracked.fill_(94_032_811_540_000_000)
    autoinit(model, (2, 3, 16, 16), seed=0, verbose=False)
    assert float(model[0].weight.detach().std()) == pytest.approx((1 / 27) ** 0.5, rel=1)


def emptied(*ranges: tuple[float, float]) -> nn.Module:
    """After `to_empty`, in memory that holds other numbers of these ranges; torch does not count them as written."""
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3))
    model.to_empty(device="cpu")
    for at, value in enumerate((*model.parameters(), *model.buffers())):
        low, high = ranges[at % len(ranges)]
        value.data.copy_(torch.linspace(low, high, value.numel()).view(value.shape) if value.dim() else value * 0 + 50)
    return model


@pytest.mark.parametrize("range_of_gains", [(-1, 2), (0.25, 0.25 + 1e-7)], ids=["of both signs", "few numbers"])
def test_memory_of_other_tensors_is_no_sign_of_training_if_all_is_reset(range_of_gains):
    """The third tensor are the gains: a third of them below 0, or of the numbers 0.25, 0.25 + 2^-25, ... five."""
    model = emptied((1, 2), (1, 2), range_of_gains)
    made = plan(model, (2, 3, 16, 16))
    with pytest.raises(TrainedModelError, match="none of the 2 weights"):
        made.apply(model, seed=0)
    made.apply(model, seed=0, rest="reset")
    assert (model[1].weight == 1).all()
    assert model[1].num_batches_tracked == 0


@pytest.mark.parametrize(
    ("told", "write_it"),
    [
        ("batch norms have seen", lambda model: model[1].num_batches_tracked.add_(1)),
        ("gains of 1 norms", lambda model: model[1].weight.add_(0.1)),
        ("none of the", lambda model: [model[at].weight.mul_(0.9) for at in (0, 3)]),
    ],
)
def test_what_was_written_is_a_sign_of_training_also_if_all_is_reset(told, write_it):
    model = emptied((1, 2), (1, 2), (-1, 2))
    made = plan(model, (2, 3, 16, 16))
    with torch.no_grad():
        write_it(model)
    with pytest.raises(TrainedModelError, match=told + r".*force=True to write all the same\.$"):
        made.apply(model, seed=0, rest="reset")


def test_a_loaded_model_with_vanished_gains_has_seen_batches():
    """Torchvision's have such gains, which weight decay made. Tensors that are loaded by assignment are new."""
    model = nn.Sequential(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3))
    gains = torch.tensor([1e-41, 0.5, 1.0, 2.0]).repeat(8)
    model[1].load_state_dict(
        {**model[1].state_dict(), "weight": gains, "num_batches_tracked": torch.tensor(50)}, assign=True
    )
    assert model[1].weight._version == model[1].num_batches_tracked._version == 0
    with pytest.raises(TrainedModelError, match="1 batch norms have seen training batches"):
        plan(model, (2, 3, 16, 16)).apply(model, seed=0)


def test_memory_that_a_trained_model_left_is_named_as_such():
    """It cannot be told from a copy of the model."""
    model = emptied((1, 2))
    made = plan(model, (2, 3, 16, 16))
    with pytest.raises(TrainedModelError, match=r"seen training.*gains.*none of the 2.*right where .* from `to_empty`"):
        made.apply(model, seed=0, rest="reset")
    made.apply(model, seed=0, rest="reset", force=True)


def test_fewer_than_512_numbers_say_nothing():
    """Random draws: 511 are too few to tell, 512 are not, and zeros among them do not count."""
    values = torch.randn(512, generator=torch.Generator().manual_seed(0))
    assert misfit(values.reshape(16, 32)) == ""
    assert misfit(values[:511].reshape(7, 73)) is None
    values[100] = 0.0
    assert misfit(values.reshape(16, 32)) is None


@pytest.mark.parametrize("kind", ["from zero", "from half", "at both ends"])
def test_numbers_of_one_sign_are_uniform_from_zero_or_no_draws(kind):
    """From half the bound on, the kurtosis about it is that of a uniform distribution, 9/5, but not the mean.

    Numbers that crowd at 0 and at the bound (Beta(1/2, 1/2)) have the mean, but a kurtosis of 3/2.
    """
    uniform = torch.rand(64, 64, generator=torch.Generator().manual_seed(0))
    values = {"from zero": uniform, "from half": 0.5 + uniform / 2, "at both ends": (torch.pi * uniform / 2).sin() ** 2}
    assert (misfit(values[kind]) == "") == (kind == "from zero")
