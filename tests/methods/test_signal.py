"""`plan(method="signal")`: what it promises is measured on real weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoinit import Plan, plan, report
from tests.shared.models.gpt2 import GPT2, FlashAttention, ManualAttention
from tests.shared.small_nets import Skip

WIDTH = 64
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU, "leaky_relu": lambda: nn.LeakyReLU(0.2), "tanh": nn.Tanh, "gelu": nn.GELU, "silu": nn.SiLU,
    "selu": nn.SELU, "sigmoid": nn.Sigmoid, "elu": nn.ELU, "softplus": nn.Softplus, "mish": nn.Mish,
}  # fmt: skip


def plain(activation: Callable[[], nn.Module], depth: int, width: int = WIDTH) -> nn.Sequential:
    layers = [layer for _ in range(depth) for layer in (nn.Linear(width, width), activation())]
    return nn.Sequential(*layers[:-1])


def measured(model: nn.Module, made: Plan, shape: tuple[int, ...], seeds: int = 3) -> dict[str, float]:
    """Second moments of each layer's output, means over draws of weights and inputs."""
    found: dict[str, list[float]] = {}

    def note(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda _module, _inputs, y: found.setdefault(name, []).append(float(y.detach().square().mean()))

    named = dict(model.named_modules())
    hooks = [named[name].register_forward_hook(note(name)) for name in made if name in named]
    for seed in range(seeds):
        made.apply(model, seed, force=True)
        torch.manual_seed(seed)
        ids = next((each.num_embeddings for each in model.modules() if isinstance(each, nn.Embedding)), None)
        with torch.no_grad():
            model.train()(torch.randn(shape) if ids is None else torch.randint(0, ids, shape))
    for hook in hooks:
        hook.remove()
    return {name: sum(values) / len(values) for name, values in found.items()}


def assert_preserved(model: nn.Module, made: Plan, shape: tuple[int, ...], seeds: int = 3) -> None:
    found = measured(model, made, shape, seeds)
    assert found
    assert {name: q for name, q in found.items() if not 0.5 <= q <= 2} == {}


@pytest.mark.parametrize("name", ["tanh", "selu", "sigmoid", "elu", "softplus"])
def test_plain_networks(name: str) -> None:
    """Thirty layers: every pre-activation keeps a second moment of 1."""
    model = plain(ACTIVATIONS[name], 30)
    assert_preserved(model, plan(model, (32, WIDTH), method="signal"), (32, WIDTH))


@pytest.mark.parametrize("name", ["relu", "leaky_relu"])
def test_plain_networks_that_do_not_pull_back(name: str) -> None:
    """The logarithm of q walks at random, by 5 / width per layer: a wider network, and a mean over more draws."""
    model = plain(ACTIVATIONS[name], 30, 256)
    assert_preserved(model, plan(model, (16, 256), method="signal"), (16, 256), seeds=8)


@pytest.mark.parametrize("name", ["gelu", "silu", "mish"])
def test_plain_networks_that_push_away(name: str) -> None:
    """What deviates from q = 1 deviates more in each layer: twelve layers are as far as any std carries."""
    model = plain(ACTIVATIONS[name], 12, 256)
    assert_preserved(model, plan(model, (16, 256), method="signal"), (16, 256), seeds=6)


@pytest.mark.parametrize("name", ["tanh", "selu", "sigmoid"])
def test_two_hundred_layers(name: str) -> None:
    """Nonlinearities that pull the second moment back to its fixed point: the output is still of order 1."""
    model = plain(ACTIVATIONS[name], 200)
    found = measured(model, plan(model, (16, WIDTH), method="signal"), (16, WIDTH), seeds=2)
    assert 1 / 3 < list(found.values())[-1] < 3


def branches(count: int, *, normed: bool = True) -> nn.Sequential:
    def branch() -> nn.Module:
        norm = [nn.LayerNorm(WIDTH)] if normed else []
        return Skip(nn.Sequential(*norm, nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH)))

    return nn.Sequential(nn.Linear(WIDTH, WIDTH), *[branch() for _ in range(count)], nn.Linear(WIDTH, 32))


@pytest.mark.parametrize("normed", [True, False])
def test_a_residual_network(normed: bool) -> None:
    """Without norms the stream grows, and the weights that read it become smaller with it."""
    model = branches(6, normed=normed)
    made = plan(model, (16, WIDTH), method="signal")
    assert_preserved(model, made, (16, WIDTH), seeds=6)
    if not normed:
        # The stream before block k has second moment 1 + k: sigma = 1 / sqrt(64 (1 + k)).
        for k in range(6):
            assert made[f"{k + 1}.branch.0"].std == pytest.approx((64 * (1 + k)) ** -0.5, rel=0.2)


def test_branches_by_depth() -> None:
    """The last weight of each of six branches by 1 / sqrt(6): the stream ends at 1 + 6 / 6."""
    model = branches(6)
    kept, deep = (plan(model, (16, WIDTH), method="signal", residual=how) for how in ("keep", "depth"))
    assert (kept.residual, deep.residual) == ("keep", "depth")
    for k in range(1, 7):
        end = f"{k}.branch.3"
        assert deep[end].std == pytest.approx(kept[end].std / math.sqrt(6), rel=0.1)
        assert "ends a residual branch" in deep[end].note
        assert deep[f"{k}.branch.1"].std == pytest.approx(kept[f"{k}.branch.1"].std, rel=0.01)
    assert "residual" not in deep["0"].note
    found = measured(model, deep, (16, WIDTH), seeds=6)
    assert all(found[f"{k}.branch.3"] == pytest.approx(1 / 6, rel=0.4) for k in range(1, 7))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_torchvision(name: str) -> None:
    import torchvision

    model = getattr(torchvision.models, name)()
    assert_preserved(model, plan(model, (2, 3, 64, 64), method="signal"), (8, 3, 64, 64), seeds=1)


@pytest.mark.parametrize("attention", [ManualAttention, FlashAttention])
def test_gpt2(attention: type[nn.Module]) -> None:
    """Queries, keys and values from one fused weight; its parts are planned each on its own."""
    model = GPT2(attention, nn.GELU, width=WIDTH)
    made = plan(model, torch.zeros(4, 12, dtype=torch.long), method="signal")
    assert len(made["blocks.0.attn.c_attn"].slices) == 3
    assert_preserved(model, made, (4, 12))


class Unscaled(nn.Module):
    """T5's attention: no 1 / sqrt(d) at the logits."""

    def __init__(self, how: str, scale: float = 1.0) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
        self.how, self.scale = how, scale
        self.logits: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (each(x).unflatten(-1, (4, 16)).transpose(1, 2) for each in (self.q, self.k, self.v))
        if self.how == "written":
            self.logits = q @ k.transpose(-1, -2) * self.scale
            y = self.logits.softmax(-1) @ v
        else:
            self.logits = (q @ k.transpose(-1, -2)).detach() * self.scale if x.device.type == "cpu" else None
            y = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return self.o(y.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("how", ["written", "torch"])
@pytest.mark.parametrize("scale", [1.0, 0.25, 0.02])
def test_logits_get_variance_one(how: str, scale: float) -> None:
    """q and k share the correction: each std times (d scale^2)^(-1/4), d = 16."""
    model = nn.Sequential(nn.LayerNorm(WIDTH), Unscaled(how, scale))
    made = plan(model, (8, 12, WIDTH), method="signal")
    shared = (16 * scale**2) ** -0.25
    for name in ("1.q", "1.k"):
        assert made[name].std == pytest.approx(shared / math.sqrt(WIDTH), rel=0.05)
    assert made["1.v"].std == pytest.approx(1 / math.sqrt(WIDTH), rel=0.01)
    moments = []
    for seed in range(6):
        made.apply(model, seed, force=True)
        torch.manual_seed(seed)
        model(torch.randn(8, 12, WIDTH))
        logits = model[1].logits
        assert isinstance(logits, Tensor)
        moments.append(float(logits.detach().square().mean()))
    assert sum(moments) / 6 == pytest.approx(1, rel=0.25)


class Shared(nn.Module):
    """One weight, of an input of second moment 1, then of relu's 1/2 of what it made itself."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(512, 512, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(F.relu(self.a(x)) * 4)


def test_a_shared_weight_takes_the_geometric_mean() -> None:
    """The first use asks for 1 / sqrt(512), the second, of a preact of 1, for 1 / sqrt(512 * 8): moment 16 / 2."""
    made = plan(Shared(), (16, 512), method="signal")
    assert "geometric mean of 2 uses" in made["a"].note
    assert made["a"].std == pytest.approx((512 * 512 * 8) ** -0.25, rel=0.05)


def test_zeros_stay_and_skips_are_skipped() -> None:
    model = nn.Sequential(
        nn.Linear(16, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 3)
    )
    nn.init.zeros_(model[6].weight)
    frozen = model[2].weight.detach().clone()
    made = plan(model, (4, 16), method="signal", skip="2")
    assert made["6"].status == "kept"
    assert made["2"].status == "skipped"
    assert (made["0"].status, made["4"].status) == ("planned", "planned")
    made.apply(model, 0)
    assert torch.equal(model[2].weight, frozen)
    assert not model[6].weight.any()
    # The skipped layer's own weights make the input of the next one: torch's default, of variance 1 / (3 fan_in).
    q = 0.5 * 48 * float(frozen.square().mean()) + float(model[2].bias.detach().square().mean())
    assert made["4"].std == pytest.approx(1 / math.sqrt(48 * q / 2), rel=0.25)


@pytest.mark.parametrize("groups", [1, 4, 16])
def test_grouped_convolutions(groups: int) -> None:
    """Fan-in counts a group's channels; 9 taps of interior positions, fewer at the border: 64 of 8 x 8 see 7.5625."""
    model = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1, groups=groups), nn.ReLU(), nn.Conv2d(32, 16, 1))
    made = plan(model, (8, 16, 8, 8), method="signal")
    taps = ((6 * 3 + 2 * 2) / 8) ** 2
    assert made["0"].std == pytest.approx(1 / math.sqrt(16 / groups * taps), rel=0.02)
    assert_preserved(model, made, (8, 16, 8, 8))


def test_what_a_global_pool_averages_out() -> None:
    """A global average over independent positions leaves the square of relu's mean, which sigma makes up for."""
    pooled = nn.Sequential(nn.Conv2d(8, 256, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10))
    made = plan(pooled, (8, 8, 16, 16), method="signal")
    # relu's mean stays, of square 1 / (2 pi), and 1 / 256 of its variance, 1/2 - 1 / (2 pi).
    moment = 1 / (2 * math.pi) + (0.5 - 1 / (2 * math.pi)) / 256
    assert made["4"].std == pytest.approx(1 / math.sqrt(256 * moment), rel=0.05)
    assert_preserved(pooled, made, (8, 8, 16, 16))


def test_the_plan_is_a_plan_like_others() -> None:
    model = plain(nn.GELU, 3)
    made = plan(model, (4, WIDTH), method="signal")
    assert made.method == "signal"
    assert list(made) == ["0", "2", "4"]
    assert Plan.from_json(made.to_json()) == made
    assert all(layer.mode == "fan_in" for layer in made.layers)
    for layer in made.layers:
        assert layer.gain == pytest.approx(layer.std * math.sqrt(WIDTH), rel=1e-6)
        assert "input of second moment" in layer.note
    written = made.apply(model, 0)
    assert "gelu" in str(written)
    for name, layer in model.named_children():
        if isinstance(layer, nn.Linear):
            assert float(layer.weight.detach().std()) == pytest.approx(made[name].std, rel=0.05)
            assert not layer.bias.any()
    assert report(model, (4, WIDTH)).plan.layers


def test_it_is_the_same_each_time_and_touches_nothing() -> None:
    model = plain(nn.GELU, 3)
    before = [each.clone() for each in model.parameters()]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, second = (plan(model, (4, WIDTH), method="signal") for _ in range(2))
    assert first.layers == second.layers
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))


def test_a_model_on_meta_gets_the_same_plan() -> None:
    real = plain(nn.SiLU, 4)
    with torch.device("meta"):
        empty = plain(nn.SiLU, 4)
    first, second = (plan(each, (4, WIDTH), method="signal") for each in (real, empty))
    assert [layer.std for layer in first.layers] == pytest.approx([layer.std for layer in second.layers])


def test_weights_without_a_rule_say_so() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.cell, self.head = nn.Linear(8, 32), nn.LSTM(32, 32, batch_first=True), nn.Linear(32, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.cell(self.up(x))[0])

    model = Recurrent()
    made = plan(model, (4, 5, 8), method="signal")
    usual = plan(model, (4, 5, 8))
    lstm = [layer for layer in made.layers if layer.name.startswith("cell")]
    assert lstm
    for layer in lstm:
        assert "its operation has no rule: std by its nonlinearity" in layer.note
        assert layer.std == usual[layer.name].std
    assert made["up"].std == pytest.approx(1 / math.sqrt(8), rel=1e-3)
    assert "no rule" not in made["head"].note


def test_ids_that_are_all_the_same_are_told() -> None:
    model = nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 4))
    alike = plan(model, torch.zeros(2, 5, dtype=torch.int64), method="signal")
    assert [note for note in alike.notes if "all ids given for 0.weight are the same" in note]
    different = plan(model, torch.arange(10).reshape(2, 5), method="signal")
    assert not [note for note in different.notes if "all ids given" in note]


@pytest.mark.parametrize("added", [-100.0, 3.0])
def test_what_is_added_to_logits_does_not_shrink_queries(added: float) -> None:
    """A window's mask of -100, or a bias, is no part of the product that queries and keys make."""

    class Windows(nn.Module):
        def __init__(self, added: float) -> None:
            super().__init__()
            self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
            self.register_buffer("mask", torch.where(torch.arange(16) < 8, 0.0, added))

        def forward(self, x: Tensor) -> Tensor:
            query, key, value = self.qkv(x).chunk(3, -1)
            logits = query * 32**-0.5 @ key.transpose(1, 2) + self.mask
            made: Tensor = self.out(logits.softmax(-1) @ value)
            return made

    with_mask, without = (plan(Windows(each), (8, 16, 32), method="signal")["qkv"] for each in (added, 0.0))
    assert with_mask.std == pytest.approx(without.std, rel=0.05)
    assert without.std == pytest.approx(1 / math.sqrt(32), rel=0.05)


class Factored(nn.Module):
    """phi(c z), then a gated half: silu(c a) * b of a fused weight, and an addition times 0.1, which is not undone."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.first, self.second, self.fused, self.last = (
            nn.Linear(*sizes) for sizes in ((2, 32), (32, 32), (32, 64), (32, 3))
        )
        self.number = number

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.sin(self.number * self.first(x))
        x = x + 0.1 * self.second(x)
        a, b = self.fused(x).chunk(2, -1)
        return self.last(F.silu(self.number * a) * b)


def stds(made: Plan) -> dict[object, float]:
    """Of the layers before the gate, and of the parts of the fused one by their rows."""
    parts = {part.rows: part.std for part in made["fused"].slices}
    return {name: made[name].std for name in ("first", "second", "fused")} | parts


@pytest.mark.parametrize("method", ["signal", "data"])
def test_numbers_before_a_nonlinearity_are_of_its_argument(method: str):
    """With 30 z in place of z the nonlinearity sees the same for weights of a 30th."""
    batch = torch.linspace(-2, 2, 200).reshape(100, 2)
    one, thirty = (stds(plan(Factored(number), batch, method=method, seed=0)) for number in (1, 30))
    assert thirty["first"] == pytest.approx(one["first"] / 30, rel=1e-3)
    assert thirty["second"] == pytest.approx(one["second"], rel=1e-3)
    a, b = ((0, 32),), ((32, 64),)
    if method == "signal":  # by data, parts of one weight share a target
        assert thirty[b] == pytest.approx(one[b], rel=1e-3)
        assert thirty[a] == pytest.approx(one[a] / 30, rel=1e-3)
        assert thirty["fused"] == pytest.approx(math.sqrt((thirty[a] ** 2 + thirty[b] ** 2) / 2), rel=1e-3)
