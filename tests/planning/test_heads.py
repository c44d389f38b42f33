"""Heads: which weights are such, and how `heads=` starts them. Who is a head is said by hand, for each network."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from autoinit import Plan, autoinit, check, plan, report
from autoinit.cli import main
from autoinit.errors import ArgumentError, PlanError
from autoinit.plans.layers import root_mean_square

Forward = Callable[[Any, Tensor], Any]
SHAPE = (2, 8)


class Net(nn.Module):
    """A hidden layer `a` (8 to 16), others by name, and what the forward makes of the hidden signal."""

    def __init__(self, end: Callable[[Any, Tensor, Tensor], Any], **layers: nn.Module) -> None:
        super().__init__()
        self.end = end
        self.a = nn.Linear(8, 16)
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.end(self, torch.relu(self.a(x)), x)


def to(features: int, inputs: int = 16) -> nn.Linear:
    return nn.Linear(inputs, features)


CASES: dict[str, tuple[Net, set[str]]] = {
    "output": (Net(lambda s, h, _: s.h(h), h=to(4)), {"h"}),
    "log softmax": (Net(lambda s, h, _: F.log_softmax(s.h(h), -1), h=to(4)), {"h"}),
    "sigmoid, squeezed": (Net(lambda s, h, _: torch.sigmoid(s.h(h)).squeeze(-1), h=to(1)), {"h"}),
    "tanh": (Net(lambda s, h, _: torch.tanh(s.h(h)), h=to(4)), {"h"}),
    "positive": (Net(lambda s, h, _: F.softplus(s.h(h)) + 1e-3, h=to(4)), {"h"}),
    "policy and value": (Net(lambda s, h, _: {"pi": s.h(h), "v": [s.v(h).view(-1)]}, h=to(4), v=to(1)), {"h", "v"}),
    "Gaussian policy": (
        Net(lambda s, h, _: (torch.tanh(s.h(h)), s.v(h).clamp(-20, 2).exp()), h=to(4), v=to(4)), {"h", "v"}
    ),
    "duel": (Net(lambda s, h, _: s.v(h) + s.h(h) - s.h(h).mean(1, keepdim=True), h=to(4), v=to(1)), {"h", "v"}),
    "wide and deep": (Net(lambda s, h, x: s.w(x) + s.h(h), w=to(4, 8), h=to(4)), {"w", "h"}),
    "mean of two": (Net(lambda s, h, _: (s.v(h) + s.h(h)) / 2, v=to(4), h=to(4)), {"v", "h"}),
    "noise taken off": (Net(lambda s, h, x: x - s.h(h), h=to(8)), {"h"}),
    "squared error": (Net(lambda s, h, x: ((s.h(h) - x) ** 2).mean(), h=to(8)), {"h"}),
    "absolute error": (Net(lambda s, h, x: (s.h(h) - x).abs().mean(), h=to(8)), {"h"}),
    "module loss": (Net(lambda s, h, x: F.smooth_l1_loss(s.h(h), x), h=to(8)), {"h"}),
    "weights not held by modules": (Net(lambda s, h, _: h @ s.h.weight.t(), h=to(4)), {"h"}),
    "code returned beside its decoding": (
        Net(lambda s, h, _: (s.h(torch.relu(s.d(s.z(h)))), s.z(h)), z=to(4), d=to(6, 4), h=to(8, 6)), {"h"}
    ),
    "hidden signal returned": (Net(lambda s, h, _: (s.h(h), h), h=to(4)), {"h"}),
    "bounded sum": (Net(lambda s, h, _: torch.tanh(s.v(h) + s.h(h)), v=to(4), h=to(4)), {"v", "h"}),
    "rectified output": (Net(lambda s, h, _: torch.relu(s.h(h)), h=to(4)), set()),
    "normed output": (Net(lambda s, h, _: F.normalize(s.h(h), dim=-1), h=to(4)), set()),
    "last block of a residual stream": (
        Net(lambda s, h, _: (lambda z: z + s.c(torch.relu(s.b(z))))(s.e(h)), e=to(8), b=to(8, 8), c=to(8, 8)), set()
    ),
    "projected shortcut, rectified": (
        Net(lambda s, h, _: torch.relu(s.w(s.e(h)) + s.b(s.e(h))), e=to(8), w=to(8, 8), b=to(8, 8)), set()
    ),
    "excitation": (Net(lambda s, h, _: h * torch.sigmoid(s.g(h)), g=to(16)), set()),
    "experts and their router": (
        Net(lambda s, h, _: (torch.softmax(s.r(h), -1) * torch.stack([s.v(h), s.w(h)], -1)).sum(-1), r=to(2), v=to(2),
            w=to(2)), set(),
    ),
    "yes or no, drawn": (Net(lambda s, h, _: torch.bernoulli(torch.sigmoid(s.h(h))), h=to(4)), {"h"}),
    "units that are drawn": (
        Net(lambda s, h, _: s.h(torch.bernoulli(torch.sigmoid(s.e(h)))), e=to(8), h=to(4, 8)), {"h"}
    ),
    "waves": (Net(lambda s, h, _: torch.sin(s.h(h)), h=to(4)), set()),
    "dropped path": (
        Net(lambda s, h, _: s.h(torch.relu(s.e(h) + s.b(torch.relu(s.e(h))) * torch.bernoulli(torch.full((1,), 0.9)))),
            e=to(8), b=to(8, 8), h=to(4, 8)), {"h"},
    ),
}  # fmt: skip


def heads_of(model: nn.Module, inputs: Any, how: Any = "small", **options: Any) -> set[str]:
    """The layers that `heads=` changes, and by just what it says; nothing else of the plan differs."""
    kept, made = plan(model, inputs, **options), plan(model, inputs, heads=how, **options)
    changed = {name for name in kept if made[name] != kept[name]}
    for name in changed:
        assert made[name].std == pytest.approx(kept[name].std / 10)
        assert made[name].note.endswith("a head: std / 10")
        as_before = replace(made[name], std=kept[name].std, slices=kept[name].slices, note=kept[name].note)
        assert as_before == kept[name]
    notes = [each for each in made.notes if each not in kept.notes]
    assert bool(changed) != any("found no head" in each for each in notes)
    assert replace(made, layers=(), heads="xavier", notes=(), seconds=0) == replace(
        kept, layers=(), notes=(), seconds=0
    )
    return changed


@pytest.mark.parametrize("case", CASES)
def test_heads_are_found_and_nothing_else_changes(case: str):
    model, heads = CASES[case]
    assert heads_of(model, SHAPE) == heads


@pytest.mark.parametrize("tier", ["module", "functional"])
def test_heads_of_convolutions(tier: str):
    """A 1 x 1 convolution behind which pixels are moved, averaged or enlarged."""
    ends: list[Callable[[Tensor], Tensor]] = [
        lambda y: y.mean((2, 3)), lambda y: F.pixel_shuffle(y, 2), lambda y: F.interpolate(y, scale_factor=2),
        lambda y: y.flatten(1),
    ]  # fmt: skip
    for end in ends:
        head = nn.Conv2d(6, 4, 1)
        call: Callable[[Tensor], Tensor] = head if tier == "module" else lambda y, head=head: F.conv2d(y, head.weight)
        model = Net(
            lambda s, h, x, call=call, end=end: end(call(torch.relu(s.first(x)))), first=nn.Conv2d(3, 6, 3), h=head
        )
        assert heads_of(model, (2, 3, 8, 8)) == {"h"}


NOISE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "randn_like": lambda m, v: m + torch.exp(0.5 * v) * torch.randn_like(m),
    "randn": lambda m, v: torch.randn(m.shape) * v.mul(0.5).exp() + m,
    "normal_": lambda m, v: m + m.new_empty(m.shape).normal_() * (v / 2).exp(),
    "addcmul": lambda m, v: torch.addcmul(m, torch.randn_like(m), torch.exp(v / 2)),
    "normal": lambda m, v: torch.normal(m, torch.exp(v / 2)),
    "distribution": lambda m, v: Normal(m, (0.5 * v).exp()).rsample(),
    "bounded": lambda m, v: m + torch.exp(v.clamp(-8, 8) / 2) * torch.randn_like(m),
    "softplus": lambda m, v: m + (F.softplus(v) + 1e-4) * torch.randn_like(m),
}


def vae(draw: Callable[[Tensor, Tensor], Tensor], *, fused: bool, returns: bool) -> Net:
    """A variational autoencoder whose two heads are one layer or two, and are returned or not."""

    def end(s: Any, h: Tensor, _: Tensor) -> Any:
        m, v = s.both(h).chunk(2, -1) if fused else (s.m(h), s.v(h))
        made = torch.sigmoid(s.h(torch.relu(s.d(draw(m, v)))))
        return (made, m, v) if returns else made

    layers = {"both": to(8)} if fused else {"m": to(4), "v": to(4)}
    return Net(end, **layers, d=to(16, 4), h=to(8))


@pytest.mark.parametrize("fused", [False, True], ids=["two layers", "one layer"])
@pytest.mark.parametrize("returns", [False, True], ids=["kept", "returned"])
@pytest.mark.parametrize("how", NOISE)
def test_the_mean_and_the_variance_of_a_draw_are_heads(how: str, fused: bool, returns: bool):
    model = vae(NOISE[how], fused=fused, returns=returns)
    assert heads_of(model, SHAPE) == ({"both"} if fused else {"m", "v"}) | {"h"}


def test_noise_of_one_strength_makes_no_head():
    """StyleGAN's: what noise is added to goes on as a signal."""
    model = Net(lambda s, h, _: s.h(torch.relu(s.e(h) + 0.1 * torch.randn(16))), e=to(16), h=to(4))
    assert heads_of(model, SHAPE) == {"h"}


def test_noise_of_the_inputs_strength_and_about_one_make_no_head():
    """What is added to a branch under Gaussian dropout (Srivastava et al. 2014, section 10), too."""
    given = Net(lambda s, h, x: s.h(torch.relu(s.e(h) + x[:, :1] * torch.randn(16))), e=to(16), h=to(4))
    dropout = Net(
        lambda s, h, _: s.h(torch.relu(s.e(h) + s.b(h) * (1 + 0.5 * torch.randn(16)))), e=to(16), b=to(16), h=to(4)
    )
    assert heads_of(given, SHAPE) == heads_of(dropout, SHAPE) == {"h"}


def test_a_product_behind_a_draw_is_no_draw():
    def end(s: Any, h: Tensor, _: Tensor) -> Tensor:
        z = s.m(h) + torch.exp(s.v(h)) * torch.randn(4)
        made: Tensor = s.h(torch.relu(s.w(z) + s.g(z) * torch.sigmoid(s.k(z))))
        return made

    layers = {"m": to(4), "v": to(4), "w": to(6, 4), "g": to(6, 4), "k": to(6, 4), "h": to(2, 6)}
    assert heads_of(Net(end, **layers), SHAPE) == {"m", "v", "h"}


def test_the_scale_of_a_flow_behind_weights_is_a_head_by_its_sum():
    """What it multiplies is made by weights: exp alone would be a gate; the logarithm of the volume goes out."""

    def end(s: Any, h: Tensor, _: Tensor) -> Any:
        scale = s.h(h)
        return s.e(h) * scale.exp(), scale.sum(-1)

    gate = Net(lambda s, h, _: s.o(s.e(h) * s.h(h).exp()), e=to(8), h=to(8), o=to(4, 8))
    assert heads_of(Net(end, e=to(8), h=to(8)), SHAPE) == {"h"}
    assert heads_of(gate, SHAPE) == {"o"}


def test_the_scale_and_shift_of_a_flow_are_heads():
    """They are zero in Kingma & Dhariwal 2018 (Glow), section 3.3: each coupling starts as the identity."""

    def end(s: Any, h: Tensor, x: Tensor) -> Any:
        scale, shift = s.h(h).chunk(2, -1)
        return x * scale.exp() + shift, scale.sum(-1)

    assert heads_of(Net(end, h=to(16)), SHAPE) == {"h"}


def test_stds_by_hand():
    """Xavier's of 16 inputs and 4 outputs is sqrt(2 / 20); a tenth of it, or nothing, is written, and zero biases."""
    model = Net(lambda s, h, _: s.h(h), h=to(4))
    nn.init.ones_(model.h.bias)
    done = autoinit(model, SHAPE, heads="small", seed=0, verbose=False)
    assert done.plan["h"].std == pytest.approx(math.sqrt(2 / 20) / 10)
    assert float(model.h.weight.detach().square().mean().sqrt()) == pytest.approx(math.sqrt(2 / 20) / 10, rel=0.3)
    assert not bool(model.h.bias.any())
    plain = autoinit(Net(lambda s, h, _: s.h(h), h=to(4)), SHAPE, seed=0, verbose=False)
    assert done.plan["a"] == plain.plan["a"]
    autoinit(model, SHAPE, heads="zero", seed=0, verbose=False)
    assert not bool(model.h.weight.any())
    again = plan(model, SHAPE)
    assert (again["h"].status, again["a"].status) == ("kept", "planned")


@pytest.mark.parametrize(("how", "std"), [("small", math.sqrt(2 / 24) / 10), ("zero", 0.0)])
def test_some_rows_of_a_weight_are_a_head(how: Any, std: float):
    """The first four of eight rows are returned, the others are rectified and go on: 16 inputs, 4 and 4 outputs."""

    def end(s: Any, h: Tensor, _: Tensor) -> Any:
        mine, further = s.both(h).chunk(2, -1)
        return mine, s.h(torch.relu(further))

    model = Net(end, both=to(8), h=to(2, 4))
    made = plan(model, SHAPE, heads=how)["both"]
    assert [each.std for each in made.slices] == pytest.approx([std * math.sqrt(24 / 20), math.sqrt(2 / 16)])
    assert made.std == pytest.approx(root_mean_square(made.slices))
    assert made.note.endswith("in 1 of its 2 parts")
    autoinit(model, SHAPE, heads=how, seed=1, verbose=False)
    assert bool(model.both.weight[:4].any()) == (how == "small")
    assert bool(model.both.weight[4:].all())


def test_what_is_no_matter_of_scale_is_left_and_named():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.inner = nn.Embedding(10, 16), nn.Linear(16, 16)

        def forward(self, ids: Tensor) -> Tensor:
            return torch.relu(self.inner(self.table(ids))) @ self.table.weight.t()

    ids = torch.zeros(2, 3, dtype=torch.long)
    spectral = Net(lambda s, h, _: s.h(h), h=spectral_norm(to(4)))
    for model, inputs, name, why in (
        (Tied(), ids, "table", "a head, and an embedding's table: its std is left"),
        (spectral, SHAPE, "h", "a head, whose scale spectral_norm fixes: its std is left"),
    ):
        kept = plan(model, inputs)[name]
        for how in ("small", "zero"):
            made = plan(model, inputs, heads=how)[name]
            assert made == replace(kept, note=made.note)
            assert made.note.endswith(why)


def test_a_parametrised_head_has_no_zero():
    model = Net(lambda s, h, _: s.h(h), h=weight_norm(to(4)))
    made = plan(model, SHAPE, heads="zero")["h"]
    assert made.std == pytest.approx(math.sqrt(2 / 20) / 10)
    assert made.note == "a head: std / 10, since weight_norm has no zero"
    autoinit(model, SHAPE, heads="zero", seed=0, verbose=False)
    assert bool(torch.isfinite(model.h.weight).all())


def test_heads_that_the_caller_or_the_author_keeps_stay():
    model = Net(lambda s, h, _: (s.h(h), s.v(h)), h=to(4), v=to(1))
    nn.init.zeros_(model.v.weight)
    made = plan(model, SHAPE, heads="small", skip="h")
    assert (made["h"].status, made["v"].status) == ("skipped", "kept")
    assert made["h"] == plan(model, SHAPE, skip="h")["h"]


@pytest.mark.parametrize("method", ["signal", "data", "mirrored"])
@pytest.mark.parametrize("how", ["small", "zero"])
def test_heads_are_scaled_last_whatever_the_method(method: str, how: Any):
    model = Net(lambda s, h, _: s.h(torch.relu(s.b(h))), b=to(16), h=to(4))
    kept, made = (plan(model, SHAPE, method=method, heads=each, seed=0) for each in ("xavier", how))
    assert made["h"].std == pytest.approx(kept["h"].std * (0.1 if how == "small" else 0))
    assert [made[name] for name in "ab"] == [kept[name] for name in "ab"]
    made.apply(model, 0)
    assert float(model.h.weight.detach().square().mean().sqrt()) == pytest.approx(made["h"].std, rel=0.3)
    if method == "mirrored":  # the pairs of its columns still cancel
        assert torch.equal(model.h.weight[:, :8], -model.h.weight[:, 8:])


@pytest.mark.parametrize("method", ["signal", "mirrored", "data"])
@pytest.mark.parametrize("fused", [False, True], ids=["two layers", "one layer"])
@pytest.mark.parametrize(("how", "moment"), [("small", 0.01 + math.exp(0.02)), ("zero", 1.0)])
def test_what_reads_a_draw_is_planned_for_heads_as_they_start(method: str, fused: bool, how: Any, moment: float):
    """`d` reads m + exp(v / 2) eps, 4 wide. These methods give m and v / 2 variance 1, of which small heads leave 0.01:
    the draw's second moment is 0.01 + E[exp(v)] = 0.01 + exp(2 * 0.01); from heads at zero it is that of eps, 1."""
    model = vae(NOISE["randn_like"], fused=fused, returns=False)
    x = torch.randn(512, 8, generator=torch.Generator().manual_seed(1))
    made = plan(model, x, method=method, heads=how, seed=0)
    assert made["d"].std == pytest.approx(1 / math.sqrt(4 * moment), rel=0.3 if method == "data" else 0.07)
    kept = plan(model, x, method=method, seed=0)
    for name in ("both",) if fused else ("m", "v"):
        assert made[name].std == pytest.approx(kept[name].std * (0.1 if how == "small" else 0.0))


@pytest.mark.parametrize("how", ["small", "zero"])
def test_check_is_clean_after_a_mirrored_draw_with_such_heads(how: Any):
    model = vae(NOISE["randn_like"], fused=False, returns=False)
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(1))
    autoinit(model, x, method="mirrored", heads=how, seed=0, verbose=False)
    assert not check(model, x).findings
    assert not check(model).findings
    assert not check(model, x[:4]).findings
    with torch.no_grad():
        model.d.weight.mul_(3)
    assert {each.layer for each in check(model, x).findings} == {"d"}


def test_a_recipe_says_how_heads_start():
    with pytest.raises(
        ArgumentError, match=r"heads='small' has no meaning for method='recipe': the recipe says how heads"
    ):
        plan(nn.Linear(4, 4), recipe="gpt2", heads="small")
    with pytest.raises(ArgumentError, match=r"heads='tiny': expected one of 'xavier', 'small', 'zero'"):
        plan(nn.Linear(4, 4), heads="tiny")  # type: ignore[arg-type]


def test_a_plan_keeps_its_heads_as_json():
    """What is not asked for is not written, so that releases without the option read it."""
    model = Net(lambda s, h, _: s.h(h), h=to(4))
    made = plan(model, SHAPE, heads="zero")
    again = Plan.from_json(made.to_json())
    assert (again, again.heads) == (made, "zero")
    assert "heads" not in json.loads(plan(model, SHAPE).to_json())
    bent = json.dumps({**json.loads(made.to_json()), "heads": "tiny"})
    with pytest.raises(PlanError, match="not a plan: Invalid enum value 'tiny'"):
        Plan.from_json(bent)


def test_a_model_without_memory_is_planned_alike():
    with torch.device("meta"):
        model = Net(lambda s, h, _: s.h(h), h=to(4))
    assert plan(model, heads="zero")["h"].std == 0
    assert plan(model, heads="small")["h"].std == pytest.approx(math.sqrt(2 / 20) / 10)


def test_reports_say_it(tmp_path: Any):
    model = Net(lambda s, h, _: s.h(h), h=to(4))
    done = report(model, SHAPE, heads="small")
    for text in (str(done), done.to_markdown()):
        assert "heads small" in " ".join(text.split())
        assert "a head: std / 10" in text
    assert json.loads(done.to_json())["heads"] == "small"
    plain = report(model, SHAPE)
    assert not any(
        said in str(plain) + plain.to_markdown() + plain.to_json() for said in ("heads ", '"heads"', "a head")
    )
    torch.save(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)), tmp_path / "net.pt")
    told = CliRunner().invoke(main, ["report", str(tmp_path / "net.pt"), "--heads", "zero"])
    assert told.exit_code == 0
    assert "heads zero" in told.output
    assert "a head: starts at zero" in told.output


@pytest.mark.parametrize("case", ["output", "sigmoid, squeezed", "duel", "noise taken off", "vae"])
@pytest.mark.parametrize("how", ["small", "zero"])
def test_check_knows_heads_that_start_small_or_at_zero(case: str, how: Any):
    drawing = vae(NOISE["randn_like"], fused=False, returns=False)
    model = drawing if case == "vae" else copy.deepcopy(CASES[case][0])
    plan(model, SHAPE, heads=how, zeros="reset").apply(model, 3, force=True)
    assert check(model, SHAPE, select=["INI"]).findings == ()
    for name in ("h", "m", "v") if case == "vae" else ("h",):
        nn.init.normal_(getattr(model, name).weight, std=0.01)  # smaller than any option makes them
    assert not [each for each in check(model, SHAPE).findings if each.severity == "error"]
