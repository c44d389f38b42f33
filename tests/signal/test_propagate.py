"""`propagate` against closed forms, and what its report says of what it could not know."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from scipy import integrate
from torch import Tensor, nn

from autoinit import plan
from autoinit.errors import ArgumentError
from autoinit.signal import InputSignal, propagate
from tests.shared.models.gpt2 import GPT2, FlashAttention
from tests.shared.models.llama import LLaMA

WIDTH, SEEDS, ERRORS = 192, 8, 4.0


def expected(function: Callable[[float], float]) -> float:
    """E f(z), z ~ N(0, 1)."""
    value, _ = integrate.quad(lambda z: function(z) * math.exp(-z * z / 2), -12, 12, limit=200)
    return float(value) / math.sqrt(2 * math.pi)


def with_rms(tensor: Tensor, rms: float) -> None:
    """Give each row of a weight exactly this root mean square."""
    with torch.no_grad():
        drawn = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(tensor.numel()))
        axes = list(range(1, tensor.dim())) or [0]
        tensor.copy_(drawn / drawn.square().mean(dim=axes, keepdim=True).sqrt() * rms)


def chain(
    activation: Callable[[], nn.Module], depth: int, variance: float, bias: float = 0.0, width: int = WIDTH
) -> nn.Sequential:
    """A plain network whose weights have variance `variance / fan_in`, and biases of second moment `bias`."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layer = nn.Linear(width, width, bias=bias > 0)
        with_rms(layer.weight, math.sqrt(variance / width))
        if bias:
            with_rms(layer.bias, math.sqrt(bias))
        layers += [layer, activation()]
    return nn.Sequential(*layers[:-1])


def rows(model: nn.Module, name: str, shape: tuple[int, ...] = (8, WIDTH), **options: Any) -> tuple[Tensor, Tensor]:
    """A field of every layer's row, averaged over the logarithms of several seeds, and its standard error."""
    reports = [propagate(model, shape, seed=seed, **options) for seed in range(SEEDS)]
    found = torch.tensor([[getattr(row, name) for row in report.values()] for report in reports]).double().log()
    return found.mean(0), found.std(0) / math.sqrt(SEEDS)


def assert_near(found: tuple[Tensor, Tensor], wanted: list[float]) -> None:
    """Within four standard errors, which are at most 6 %."""
    mean, error = found
    assert float(error.max()) < 0.06
    off = (mean - torch.tensor(wanted).double().log()).abs()
    assert bool((off <= ERRORS * error + 1e-3).all()), (mean.exp().tolist(), wanted, error.tolist())


def test_a_linear_chain_is_exact() -> None:
    """q grows by v in each layer, the gradient's by v in each layer back from the output, where it is 1."""
    model = chain(nn.Identity, 6, 1.3)
    report = propagate(model, (8, WIDTH))
    for at, row in enumerate(report.values()):
        assert row.q == pytest.approx(1.3 ** (at + 1), rel=1e-4)
        assert row.grad == pytest.approx(1.3 ** (5 - at), rel=1e-4)
        assert row.p is None
        assert row.s == pytest.approx(0, abs=0.01 * row.q)


def test_widths_that_change() -> None:
    """Forward by sigma^2 fan_in, backward by sigma^2 fan_out: He et al. 2015, eq. 9 and 13."""
    model = nn.Sequential(nn.Linear(40, 400, bias=False), nn.Linear(400, 100, bias=False))
    for layer in model:
        assert isinstance(layer, nn.Linear)
        with_rms(layer.weight, 0.05)
    report = propagate(model, (16, 40))
    assert report["0"].q == pytest.approx(40 * 0.0025, rel=1e-4)
    assert report["1"].q == pytest.approx(40 * 400 * 0.0025**2, rel=1e-4)
    assert report["1"].grad == pytest.approx(1, rel=1e-4)
    assert report["0"].grad == pytest.approx(100 * 0.0025, rel=1e-4)


@pytest.mark.parametrize("variance", [2.0, 1.0, 2.6])
def test_relu_halves(variance: float) -> None:
    """q_l = v (v / 2)^(l - 1), and the same backward: v = 2 is He's (He et al. 2015, eq. 8 to 14)."""
    model, depth = chain(nn.ReLU, 12, variance), 12
    half = variance / 2
    assert_near(rows(model, "q"), [variance * half**at for at in range(depth)])
    assert_near(
        rows(model, "grad"),
        [0.5 * half ** (depth - 2 - at) * variance if at < depth - 1 else 1.0 for at in range(depth)],
    )


@pytest.mark.parametrize(
    ("make", "phi", "variance", "bias"),
    [
        (nn.Tanh, math.tanh, 1.7, 0.0),
        (nn.Tanh, math.tanh, 1.2, 0.3),
        (nn.Sigmoid, lambda x: 1 / (1 + math.exp(-x)), 3.0, 0.0),
        (lambda: nn.GELU(), lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2, 2.2, 0.0),
        (lambda: nn.Softsign(), lambda x: x / (1 + abs(x)), 4.0, 0.1),
    ],
    ids=["tanh", "tanh_with_bias", "sigmoid", "gelu", "softsign"],
)
def test_the_length_map(
    make: Callable[[], nn.Module], phi: Callable[[float], float], variance: float, bias: float
) -> None:
    """q_l = v E phi(sqrt(q_(l-1)) z)^2 + b: Poole et al. 2016, eq. 3, by quadrature."""
    depth = 8
    wanted = [variance + bias]
    for _ in range(depth - 1):
        scale = math.sqrt(wanted[-1])
        wanted.append(variance * expected(lambda z, scale=scale: phi(scale * z) ** 2) + bias)
    assert_near(rows(chain(make, depth, variance, bias), "q"), wanted)


def test_the_fixed_point_of_tanh() -> None:
    """A deep tanh network forgets its input's length: 20 layers on, from 3 and from 0.1, the same q."""
    scale = 1.0
    for _ in range(60):
        scale = math.sqrt(2.0 * expected(lambda z, scale=scale: math.tanh(scale * z) ** 2))
    model = chain(nn.Tanh, 20, 2.0)
    for start in (3.0, 0.1):
        mean, error = rows(model, "q", inputs=InputSignal(q=start))
        assert_near((mean[-5:], error[-5:]), [scale**2] * 5)


def arc_cosine(correlation: float) -> float:
    """The correlation about zero of relu outputs: Cho & Saul 2009, eq. 6 (n = 1)."""
    angle = math.acos(min(1.0, correlation))
    return (math.sin(angle) + (math.pi - angle) * math.cos(angle)) / math.pi


def test_correlations_follow_the_arc_cosine_kernel() -> None:
    """Between samples, and between positions of one sample, through eight layers of relu, wide ones: in narrow ones
    the rows' lengths drift apart."""
    depth, width = 8, 1024
    model = chain(nn.ReLU, depth, 2.0, width=width)
    for name, shape, signal in (
        ("s", (4, width), InputSignal(s=0.2)),
        ("s", (2, 2, width), InputSignal(p=0.2, s=0.2)),
        ("p", (2, 2, width), InputSignal(p=0.2, s=0.2)),
    ):
        wanted = [0.2]
        for _ in range(depth - 1):
            wanted.append(arc_cosine(wanted[-1]))
        reports = [
            propagate(model, torch.zeros(shape), seed=seed, inputs=signal, backward=False) for seed in range(SEEDS)
        ]
        shares = torch.tensor([[getattr(row, name) / row.q for row in each.values()] for each in reports]).double()
        error = shares.std(0) / math.sqrt(SEEDS)
        off = (shares.mean(0) - torch.tensor(wanted).double()).abs()
        assert bool((off <= ERRORS * error + 1e-3).all()), (name, shares.mean(0).tolist(), wanted)


def test_collapse_is_where_inputs_become_indistinguishable_for_good() -> None:
    """The first layer from which on s / q is at least 0.99 everywhere."""
    model = chain(nn.ReLU, 12, 2.0)
    report = propagate(model, (8, WIDTH), inputs=InputSignal(s=0.985), backward=False)
    shares = [row.s / row.q for row in report.values() if row.s is not None]
    last = max((at for at, share in enumerate(shares) if share < 0.99), default=-1)
    if last + 1 == len(shares):
        assert report.collapse is None
    else:
        assert report.collapse is not None
        assert report.collapse.depth == last + 2
    at_once = propagate(model, (8, WIDTH), inputs=InputSignal(s=1.0), backward=False).collapse
    assert at_once is not None
    assert at_once.layer == "0"
    assert propagate(model, (8, WIDTH), inputs=InputSignal(s=0.2), backward=False).collapse is None


def test_signs_of_correlation_vanish_where_there_is_none() -> None:
    """An odd network keeps independent inputs independent: s stays 0, nothing collapses."""
    report = propagate(chain(nn.Tanh, 10, 1.5), (8, WIDTH))
    assert report.collapse is None
    assert all(abs(row.s) < 0.03 for row in report.values() if row.s is not None)


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (lambda: nn.LayerNorm(WIDTH), (8, WIDTH)),
        (lambda: nn.RMSNorm(WIDTH), (8, WIDTH)),
        (lambda: nn.BatchNorm1d(WIDTH), (8, WIDTH)),
        (lambda: nn.GroupNorm(4, WIDTH), (8, WIDTH)),
    ],
    ids=["layer", "rms", "batch", "group"],
)
def test_norms_make_the_second_moment_one(norm: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    """Whatever comes before: q = 1 after a norm, hence v after the linear layer behind it."""
    layer = nn.Linear(WIDTH, WIDTH, bias=False)
    with_rms(layer.weight, math.sqrt(3.0 / WIDTH))
    again = nn.Linear(WIDTH, WIDTH, bias=False)
    with_rms(again.weight, math.sqrt(0.7 / WIDTH))
    report = propagate(nn.Sequential(layer, norm(), again), shape)
    normed = report.by_operation["1"].row
    assert normed is not None
    assert normed.q == pytest.approx(1, rel=1e-3)
    assert report["2"].q == pytest.approx(0.7, rel=1e-3)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Linear(24, 6), (5, 24)),
        (nn.Linear(24, 6), (5, 4, 24)),
        (nn.Sequential(nn.LayerNorm(24), nn.Linear(24, 6)), (5, 4, 24)),
        (nn.Conv1d(24, 6, 1), (5, 24, 4)),
        (nn.Conv2d(24, 6, 3), (5, 24, 4, 4)),
    ],
)
def test_the_input_s_statistics_are_an_argument(model: nn.Module, shape: tuple[int, ...]) -> None:
    """Its features lie where the first weight looks for them; 2 and 1 being positions' and samples' covariances."""
    signal = InputSignal(q=4.0, p=2.0, s=1.0)
    taken = propagate(model, torch.zeros(shape), inputs=signal, backward=False).operations
    for kind in (each for each in taken if each.op == "input"):
        assert kind.row is not None
        assert kind.row.q == pytest.approx(4, rel=1e-4)


def test_the_input_s_covariances_arrive_at_the_first_layer() -> None:
    linear = nn.Linear(512, 512, bias=False)
    with_rms(linear.weight, 512**-0.5)
    (row,) = propagate(linear, torch.zeros(5, 4, 512), inputs=InputSignal(q=4.0, p=2.0, s=1.0)).values()
    # Rows of 512 features have moments that differ by about sqrt(2 / 512), so that covariances are a little less.
    assert (row.q, row.p, row.s) == (pytest.approx(4, rel=1e-3), pytest.approx(2, rel=0.02), pytest.approx(1, rel=0.02))


def quick() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 48), nn.Tanh(), nn.Linear(48, 5))


def test_the_report_is_a_mapping_in_order_of_the_dataflow() -> None:
    report = propagate(quick(), (4, 8))
    assert isinstance(report, Mapping)
    assert list(report) == ["0", "2", "4"]
    assert len(report) == 3
    assert "2" in report
    assert report.kind == "predicted"
    assert report.model == "Sequential"
    with pytest.raises(KeyError, match=r"no layer '9' in the signal of Sequential; it has 3"):
        report["9"]
    assert [each.op for each in report.operations] == ["input", "linear", "relu", "linear", "tanh", "linear"]
    assert [each.depth for each in report.operations] == [0, 1, 1, 2, 2, 3]
    assert [each.layer for each in report.operations] == ["", "0", "", "2", "", "4"]
    assert len(report.outputs) == 1
    assert report.outputs[0] == report["4"]
    assert report.seconds > 0


def test_json_tells_everything() -> None:
    report = propagate(quick(), (4, 8))
    told = json.loads(report.to_json())
    assert told["version"] == 1
    assert told["kind"] == "predicted"
    assert list(told["rows"]) == ["0", "2", "4"]
    assert told["rows"]["2"]["q"] == report["2"].q
    assert [each["name"] for each in told["operations"]] == [each.name for each in report.operations]
    assert told["operations"][1]["row"]["grad"] == report["0"].grad


def test_seeds_decide() -> None:
    model = quick()
    first, again, other = (propagate(model, (4, 8), seed=seed) for seed in (0, 0, 1))
    assert dict(first) == dict(again)
    assert first.operations == again.operations
    assert dict(first) != dict(other)


def test_nothing_is_touched() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Conv2d(8, 4, 1)
    )
    model.eval()
    model[1].train()
    model[4].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [module.training for module in model.modules()], [each.requires_grad for each in model.parameters()]
    torch.manual_seed(5)
    state = torch.get_rng_state()
    propagate(model, (4, 3, 8, 8))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert flags == (
        [module.training for module in model.modules()],
        [each.requires_grad for each in model.parameters()],
    )
    assert all(each.grad is None for each in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.is_grad_enabled()


def test_no_gradients_where_none_are_asked_for() -> None:
    report = propagate(quick(), (4, 8), backward=False)
    assert [row.grad for row in report.values()] == [None] * 3
    assert report.gradient_spread is None


def test_the_spread_of_gradients_and_the_layers_preserved() -> None:
    report = propagate(chain(nn.Identity, 4, 0.1), (8, WIDTH))
    assert report.gradient_spread == pytest.approx(3, abs=1e-3)
    assert report.preserved == 0
    assert propagate(chain(nn.Identity, 4, 1.0), (8, WIDTH)).preserved == 4


def test_a_plan_needs_its_model() -> None:
    model = quick()
    made = plan(model, (4, 8))
    with pytest.raises(ArgumentError, match=r"propagate\(plan\) needs the model .*propagate\(plan, model=model\)"):
        propagate(made)
    report = propagate(made, (4, 8), model=model)
    assert report["0"].q == pytest.approx(8 * made["0"].std ** 2, rel=0.3)
    assert report["2"].q == pytest.approx(48 * made["2"].std ** 2 * made["0"].std ** 2 * 8 / 2, rel=0.5)


def test_a_plan_means_zero_biases() -> None:
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 4))
    with torch.no_grad():
        model[0].bias.fill_(10.0)
    assert propagate(model, (8, WIDTH))["0"].mean == pytest.approx(10, rel=0.05)
    assert propagate(plan(model), (8, WIDTH), model=model)["0"].mean == pytest.approx(0, abs=0.2)


def test_a_model_on_the_meta_device() -> None:
    """Its weights are those planned; a norm's weight counts as 1, its bias as 0, and the notes say so."""
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
    report = propagate(model, (8, WIDTH))
    assert report["0"].q == pytest.approx(WIDTH * plan(model)["0"].std ** 2, rel=1e-3)
    assert report["3"].q == pytest.approx(WIDTH * plan(model)["3"].std ** 2 / 2, rel=0.1)
    assert all(each.is_meta for each in model.parameters())


def test_parameters_without_values_are_noted() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.scale, self.shift = (
                nn.Linear(64, 64),
                nn.Parameter(torch.ones(64)),
                nn.Parameter(torch.ones(64)),
            )
            self.table = nn.Embedding(10, 64)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x) * self.scale + self.shift + self.table(torch.arange(4, device=x.device))

    with torch.device("meta"):
        model = Scaled()
    report = propagate(model, (4, 64))
    assert "scale has no value: taken as 1" in report.notes
    assert "shift has no value: taken as 0" in report.notes
    assert any(note.startswith("table.weight has no value: rows drawn from N(0, 1)") for note in report.notes)
    fc = report["fc"]
    assert report.outputs[0].q == pytest.approx(fc.q + 1, rel=0.25)


@pytest.mark.parametrize(
    "make", [lambda: GPT2(FlashAttention, nn.GELU), lambda: LLaMA(length=8)], ids=["gpt2", "llama"]
)
def test_language_models_on_meta(make: Callable[[], nn.Module]) -> None:
    with torch.device("meta"):
        model = make()
    report = propagate(model)
    assert len(report) == len(plan(model))
    assert all(each.note == "" for each in report.operations if each.row is None)
    assert all(math.isfinite(row.q) and row.q > 0 for row in report.values())
    assert all(row.grad is not None and math.isfinite(row.grad) for row in report.values())


def test_tokens_are_random_where_none_are_given() -> None:
    """Guessed ids are all alike: each place draws a row of its own. Given ones are taken as they are."""
    model = nn.Sequential(nn.Embedding(30, 256), nn.Linear(256, 256, bias=False))
    guessed = propagate(model)["1"]
    assert guessed.p is None or abs(guessed.p) < 0.2 * guessed.q
    alike = propagate(model, torch.zeros(2, 6, dtype=torch.long))["1"]
    assert alike.p == pytest.approx(alike.q, rel=1e-3)
    assert alike.s == pytest.approx(alike.q, rel=1e-3)


@torch.library.custom_op("autoinit_tests::elsewhere", mutates_args=())
def elsewhere(x: Tensor) -> Tensor:
    raise NotImplementedError("this kernel needs a device that is not here")


@elsewhere.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def test_what_cannot_be_run_is_named_and_its_neighbours_are_there() -> None:
    class Forked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.behind, self.beside = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 64)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            x = torch.relu(self.before(x))
            return self.behind(elsewhere(x)), self.beside(x)

    report = propagate(Forked(), (4, 64))
    assert set(report) == {"before", "beside"}
    (lost,) = (each for each in report.operations if each.note)
    assert lost.row is None
    assert "needs a device that is not here" in lost.note
    assert any("needs a device that is not here" in note for note in report.notes)
    assert report["before"].grad is not None
    behind = next(each for each in report.operations if each.layer == "behind")
    assert behind.row is None


def test_an_exported_program_has_a_signal_or_says_why_not() -> None:
    """A program without shapes in its trace cannot be run again; one with them can."""
    with torch.no_grad():
        program = torch.export.export(quick().eval(), (torch.zeros(4, 8),))
    report = propagate(program)
    assert len(report) == 3
    for row in report.values():
        assert math.isfinite(row.q)
        assert row.q > 0


def test_large_graphs_keep_three_digits_for_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    model = chain(nn.Tanh, 8, 1.5)
    exact = propagate(model, (8, WIDTH))
    monkeypatch.setattr("autoinit.signal.predicting.propagating.LARGE", 1)
    short = propagate(model, (8, WIDTH))
    for name, row in exact.items():
        assert short[name].q == row.q
        assert short[name].grad == pytest.approx(row.grad, rel=0.01)
    assert [row.grad for row in short.values()] != [row.grad for row in exact.values()]
