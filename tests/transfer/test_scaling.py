"""Which rule each parameter gets: by base and by width, and where parameter names and shapes tell nothing."""

from __future__ import annotations

import itertools
import json
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from autoinit import ArgumentError, PlanError, TrainedModelError, check, coordinate_check, scaling
from tests.transfer import families
from tests.transfer.families import GPT, MLP, ResNet, TiedHead

IDS = torch.zeros(2, 5, dtype=torch.long)
IMAGES = (2, 3, 8, 8)
ARCHITECTURES = {
    "MLP": None,
    "GPT": IDS,
    "ResNet": IMAGES,
    "Recurrent": (2, 4, 5),
    "UNet": IMAGES,
    "Field": (4, 3),
    "Encoder": IMAGES,
    "Excited": IMAGES,
    "Attention": IDS,
    "Mixture": (3, 6),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_width_says_what_a_base_says(name):
    """All features of these models grow by 4; only the graph says so where no base is given."""
    family, inputs = getattr(families, name), ARCHITECTURES[name]
    by_base = scaling(family(64), base=family(16), example_inputs=inputs)
    by_width = scaling(family(64), width=4, example_inputs=inputs)
    assert list(by_base) == [parameter for parameter, _ in family(64).named_parameters()]
    for parameter, one in by_base.items():
        other = by_width[parameter]
        assert (one.kind, one.fill) == (other.kind, other.fill), parameter
        assert (one.lr, one.weight_decay, one.eps) == pytest.approx((other.lr, other.weight_decay, other.eps)), (
            parameter
        )
        assert (one.std or 0) == pytest.approx(other.std or 0), parameter


def rules(model, base, **options):
    """kind and Adam's multipliers of std and lr, against the base's own start."""
    found, start = scaling(model, base, **options), scaling(base, base, **options)
    return {
        name: (each.kind, None if each.std is None else round(each.std / start[name].std, 6), round(each.lr, 6))
        for name, each in found.items()
        if found[name].kind != "bias"
    }


class Conv1D(nn.Module):
    """A linear layer stored as x @ W, as GPT-2's is."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs))

    def forward(self, x):
        return x @ self.weight


def test_weights_that_are_stored_the_other_way_round():
    """x @ W, and a transposed convolution (in, out, k, k): fan_in stands first; 4 inputs stay, 3 outputs stay."""

    def linear(d):
        return nn.Sequential(Conv1D(4, d), nn.ReLU(), Conv1D(d, d), nn.ReLU(), Conv1D(d, 3))

    def convolution(d):
        first, last = nn.ConvTranspose2d(4, d, 2, bias=False), nn.ConvTranspose2d(d, 3, 2, bias=False)
        return nn.Sequential(first, nn.ReLU(), nn.ConvTranspose2d(d, d, 2, bias=False), nn.ReLU(), last)

    wanted = {"0.weight": ("input", 1, 1), "2.weight": ("hidden", 0.5, 0.25), "4.weight": ("head", 0.25, 0.25)}
    assert rules(linear(64), linear(16)) == wanted
    assert rules(convolution(64), convolution(16)) == wanted


def test_experts_and_their_router():
    found = rules(families.Mixture(64), families.Mixture(16), example_inputs=(3, 6))
    assert found["router.weight"] == ("head", 0.25, 0.25)
    assert found["up"] == found["down"] == ("hidden", 0.5, 0.25)


class Adapted(nn.Module):
    """A linear layer beside its low-rank adapter of rank 2."""

    def __init__(self, d):
        super().__init__()
        self.stem = nn.Linear(3, d)
        self.base = nn.Linear(d, d, bias=False)
        self.A = nn.Linear(d, 2, bias=False)
        self.B = nn.Linear(2, d, bias=False)
        self.head = nn.Linear(d, 2)

    def forward(self, x):
        h = F.relu(self.stem(x))
        return self.head(F.relu(self.base(h) + self.B(self.A(h))))


def test_an_adapter_of_fixed_rank():
    """A reads m times as much and makes the same two features; B reads these and makes m times as many."""
    found = rules(Adapted(64), Adapted(16))
    assert found["A.weight"] == ("narrow", 0.25, 0.25)
    assert found["B.weight"][0] == "input"
    assert found["B.weight"][2] == 1
    assert found["base.weight"] == ("hidden", 0.5, 0.25)


class MultiQuery(nn.Module):
    """Queries of d / 8 heads, one key and value head of 8 features; fused into one matrix."""

    def __init__(self, d):
        super().__init__()
        self.d = d
        self.tokens = nn.Embedding(7, d)
        self.qkv = nn.Linear(d, d + 16, bias=False)
        self.out = nn.Linear(d, d, bias=False)
        self.head = nn.Linear(d, 7, bias=False)

    def forward(self, ids):
        x = self.tokens(ids)
        q, k, v = self.qkv(x).split([self.d, 8, 8], -1)
        q = q.view(*q.shape[:2], -1, 8).transpose(1, 2)
        made = (q @ k[:, None].transpose(-1, -2) / 8**0.5).softmax(-1) @ v[:, None]
        return self.head(x + self.out(made.transpose(1, 2).flatten(2)))


def test_keys_of_one_head_in_a_fused_matrix():
    """Rows of queries fall as m^-1/2; those of keys and values, whose number stays, as 1 / m; the rate as 1 / m."""
    made, start = (scaling(MultiQuery(each), base=MultiQuery(16), example_inputs=IDS) for each in (64, 16))
    assert made["qkv.weight"].lr == 0.25
    parts = [(each.count, each.std) for each in made.plan["qkv"].slices]
    before = [each.std for each in start.plan["qkv"].slices]
    ratios = {count: std / other for (count, std), other in zip(parts, before, strict=True)}
    assert ratios[64] == pytest.approx(0.5)
    assert ratios[8] == pytest.approx(0.25)


def test_depth_by_the_number_of_blocks():
    """Two blocks have four branches, eight have sixteen: m_L = 4. The last block is compared with the last."""
    found = scaling(GPT(32, blocks=8), base=GPT(16, blocks=2), example_inputs=IDS)
    start = scaling(GPT(16, blocks=2), base=GPT(16, blocks=2), example_inputs=IDS)
    for block in ("blocks.0", "blocks.4", "blocks.7"):
        end, inside = found[f"{block}.down.weight"], found[f"{block}.up.weight"]
        assert end.std == pytest.approx(start["blocks.1.down.weight"].std * 2**-0.5 / 4)
        assert inside.std == pytest.approx(start["blocks.1.up.weight"].std * 2**-0.5)
        assert (end.lr, inside.lr) == pytest.approx((0.5 / 4, 0.5))
        assert found[f"{block}.down.bias"].lr == pytest.approx(1 / 4)
    assert found["norm.weight"].lr == 1
    half = scaling(GPT(16, blocks=8), base=GPT(16, blocks=2), depth=0.5, example_inputs=IDS)
    assert half["blocks.3.up.weight"].lr == pytest.approx(4**-0.5)
    assert half["blocks.3.before_mlp.weight"].lr == pytest.approx(4**-0.5)


def test_a_norm_that_ends_its_branch_is_scaled_in_place_of_the_weight_that_it_normalises():
    found = scaling(ResNet(16, blocks=6), base=ResNet(16, blocks=2), example_inputs=IMAGES)
    assert found["blocks.5.norm2.weight"].fill == pytest.approx(1 / 3)
    assert found["blocks.5.norm2.weight"].lr == pytest.approx(1 / 3)
    assert found["blocks.5.grouped.weight"].lr == 1
    model = ResNet(16, blocks=6)
    found.apply(model)
    assert torch.equal(model.blocks[5].norm2.weight.detach(), torch.full((16,), 1 / 3))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_it_needs_no_weights_and_changes_nothing(device):
    model, base = MLP(64).to(device), MLP(16).to("meta")
    before = {name: each.clone() for name, each in model.state_dict().items()}
    found = scaling(model, base)
    assert found == scaling(MLP(64), MLP(16))
    for name, each in model.state_dict().items():
        assert each.is_meta or torch.equal(each, before[name])


def test_the_scaled_start_is_written():
    model = MLP(64)
    scaled = scaling(model, base=MLP(16))
    done = scaled.apply(model, seed=1)
    for name, each in scaled.items():
        if each.std is not None:
            written = model.get_parameter(name).detach()
            assert written.std().item() == pytest.approx(each.std, rel=5 / math.sqrt(2 * written.numel()))
        else:
            assert each.fill == 0
            assert not model.get_parameter(name).detach().any()
    assert done.plan["head"].std == scaled["head.weight"].std
    assert check(model).ok


def test_a_tied_head_reads_what_its_norm_scales_down():
    model = GPT(64, tied=TiedHead)
    scaled = scaling(model, base=GPT(16, tied=TiedHead), example_inputs=IDS)
    assert scaled["tokens.weight"].kind == "tied table"
    assert scaled["norm.weight"].kind == scaled["norm.bias"].kind == "norm before a tied head"
    assert scaled["norm.weight"].fill == 0.25
    assert (scaled["norm.weight"].lr, scaled["norm.weight"].eps) == (0.25, 1)
    for _ in range(2):  # the second time as the first
        scaled.apply(model, force=True)
        assert torch.equal(model.norm.weight.detach(), torch.full((64,), 0.25))


class ByMatmul(TiedHead):
    """A tied head as a product."""

    def forward(self, x):
        return x @ self.weight.t()


class ByEinsum(TiedHead):
    """The table first."""

    def forward(self, x):
        return torch.einsum("vd,btd->btv", self.weight, x)


class TableFirst(TiedHead):
    """The table on the left."""

    def forward(self, x):
        return (self.weight @ x.mT).mT


@pytest.mark.parametrize("head", [ByMatmul, ByEinsum, TableFirst])
def test_a_tied_head_is_one_however_it_is_written(head):
    scaled, usual = (
        scaling(GPT(64, tied=each), base=GPT(16, tied=each), example_inputs=IDS) for each in (head, TiedHead)
    )
    assert {name: (each.kind, each.lr, each.fill) for name, each in scaled.items()} == {
        name: (each.kind, each.lr, each.fill) for name, each in usual.items()
    }


class Gemma(nn.Module):
    """A gain that is used as 1 + gain, before a tied head."""

    def __init__(self, d):
        super().__init__()
        self.tokens = nn.Embedding(7, d)
        self.fc = nn.Linear(d, d)
        self.gain = nn.Parameter(torch.zeros(d))

    def forward(self, ids):
        x = F.relu(self.fc(self.tokens(ids)))
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        return F.linear(x * (1 + self.gain), self.tokens.weight)


class NoNorm(Gemma):
    """No norm before a tied head."""

    def forward(self, ids):
        return F.linear(F.relu(self.fc(self.tokens(ids))) + self.gain, self.tokens.weight)


def test_tied_heads_that_cannot_be_scaled_are_refused():
    with pytest.raises(PlanError, match="gain: the gain before a tied head is used as 1 \\+ gain"):
        scaling(Gemma(64), base=Gemma(16), example_inputs=IDS)
    with pytest.raises(PlanError, match=r"tokens\.weight: the table is tied .* no norm with a gain of its own stands"):
        scaling(NoNorm(64), base=NoNorm(16), example_inputs=IDS)


class Rescaled(nn.Module):
    """Numbers of the width in forward: an embedding times sqrt(d), as Gemma's, and logits over d, as T5's (untied)."""

    def __init__(self, d):
        super().__init__()
        self.d = d
        self.tokens = nn.Embedding(7, d)
        self.fc = nn.Linear(d, d)
        self.head = nn.Linear(d, 7)

    def forward(self, ids):
        return self.head(F.relu(self.fc(self.tokens(ids) * self.d**0.5)) / self.d)


def test_numbers_of_the_width_in_forward_are_told():
    with_base = scaling(Rescaled(64), base=Rescaled(16), example_inputs=IDS).notes
    assert len(with_base) == 2
    assert "its number is 8, 4 in the base model: it changes with the width by 2" in with_base[0]
    assert "its number is 64, 16 in the base model: it changes with the width by 4" in with_base[1]
    assert "its number, 8, looks like a power of 64" in scaling(Rescaled(64), width=4, example_inputs=IDS).notes[0]
    assert scaling(GPT(64), base=GPT(16), example_inputs=IDS).notes == ()


def test_heads_that_grow_are_told():
    class TwoHeads(nn.Module):
        def __init__(self, d):
            super().__init__()
            self.tokens, self.qkv, self.head = nn.Embedding(7, d), nn.Linear(d, 3 * d), nn.Linear(d, 7)

        def forward(self, ids):
            q, k, v = (each.view(2, 5, 2, -1).transpose(1, 2) for each in self.qkv(self.tokens(ids)).chunk(3, -1))
            return self.head(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    notes = scaling(TwoHeads(64), base=TwoHeads(16), example_inputs=IDS).notes
    assert len(notes) == 1
    assert "queries and keys have 32 features, 8 in the base model" in notes[0]


@pytest.mark.parametrize("wrapped", [lambda m: m, torch.compile, nn.DataParallel, lambda m: nn.Sequential(m)[0]])
def test_groups(wrapped):
    """A group for each set of multipliers, every parameter once, under the names that the user knows."""
    model = MLP(64)
    scaled = scaling(model, base=MLP(16))
    groups = scaled.groups(wrapped(model), lr=1e-2, weight_decay=0.1, eps=1e-6)
    by_name = {name: group for group in groups for name, _ in group["params"]}
    assert set(by_name) == set(scaled)
    assert sum(len(group["params"]) for group in groups) == len(scaled)
    assert by_name["second.weight"] is by_name["third.weight"] is not by_name["head.weight"]
    hidden = by_name["second.weight"]
    assert (hidden["lr"], hidden["lr_scale"]) == (1e-2 * 0.25, 0.25)
    assert hidden["weight_decay"] == pytest.approx(0.4)
    assert hidden["eps"] == pytest.approx(0.25e-6)
    assert by_name["head.weight"]["eps"] == 1e-6
    optimizer = torch.optim.AdamW(groups)
    assert optimizer.param_groups[0]["lr_scale"] == groups[0]["lr_scale"]
    assert not any(hasattr(each, "infshape") or vars(each) for each in model.parameters())


def test_groups_of_other_optimizers():
    model = MLP(64).requires_grad_(True)
    model.first.bias.requires_grad_(False)
    plain = scaling(model, base=MLP(16), optimizer="sgd").groups(model, lr=1.0)
    assert all("eps" not in group and "use_muon" not in group for group in plain)
    assert "first.bias" not in {name for group in plain for name, _ in group["params"]}
    muon = scaling(model, base=MLP(16), optimizer="muon").groups(model, lr=1e-3, muon_lr=0.02)
    by_muon = {name: group["lr"] for group in muon if group["use_muon"] for name, _ in group["params"]}
    assert by_muon == {"second.weight": 0.02, "third.weight": 0.02}
    torch.optim.Muon([group for group in muon if group["use_muon"]])


def test_schedulers_and_checkpoints_keep_the_groups():
    model = MLP(64)
    scaled = scaling(model, base=MLP(16))
    optimizer = torch.optim.AdamW(scaled.groups(model, lr=1.0))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    other = torch.optim.AdamW(scaled.groups(model, lr=1.0))
    optimizer.step()
    schedule.step()
    other.load_state_dict(optimizer.state_dict())
    assert [group["lr"] for group in other.param_groups] == [0.5 * each["lr_scale"] for each in other.param_groups]


def plain(*sizes):
    layers = [each for pair in itertools.pairwise(sizes) for each in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def test_layers_of_a_deeper_model_are_paired_by_what_they_are():
    """Four layers against three: the first with the first, the last with the last, both others with the one left."""
    scaled = scaling(plain(4, 64, 64, 64, 2), plain(4, 16, 16, 2))
    assert [(scaled[name].kind, scaled[name].counterpart, scaled[name].lr) for name in scaled if "weight" in name] == [
        ("input", "0.weight", 1),
        ("hidden", "2.weight", 0.25),
        ("hidden", "2.weight", 0.25),
        ("head", "4.weight", 0.25),
    ]


def test_one_feature_alone_stays():
    """A map of one feature that a weight reads again is one at any width; so its reader's fan_in stays."""
    by_base = scaling(plain(4, 64, 1, 64, 2), plain(4, 16, 1, 16, 2))
    by_width = scaling(plain(4, 64, 1, 64, 2), width=4)
    for name in by_base:
        assert (by_width[name].kind, by_width[name].lr) == (by_base[name].kind, by_base[name].lr), name
    assert (by_width["2.weight"].kind, by_width["4.weight"].kind) == ("narrow", "input")


def test_what_is_refused():
    model, base = MLP(64), MLP(16)
    for arguments, said in (
        ({}, "either base=, a narrower model, or width="),
        ({"base": base, "width": 2}, "either base="),
        ({"width": 0}, "expected a positive number"),
        ({"width": "8"}, "expected how many times wider"),
        ({"width": math.inf}, "expected a positive number"),
        ({"base": base, "optimizer": "lion"}, "expected one of 'adamw', 'adam', 'sgd', 'muon'"),
        ({"base": base, "depth": 2}, "expected alpha, a number from 0.5 to 1"),
        ({"base": base, "depth": "1"}, "expected alpha"),
        ({"base": base, "adjust_lr_fn": "own"}, "expected one of 'original', 'match_rms_adamw'"),
    ):
        with pytest.raises(ArgumentError, match=said):
            scaling(model, **arguments)
    with pytest.raises(PlanError, match=r"first\.weight: the base model has no such parameter"):
        scaling(model, base=ResNet(16))
    with pytest.raises(PlanError, match=r"it cannot be told which of them to compare with"):
        scaling(plain(4, 9, 9, 2), base=plain(4, 3, 2))
    scaled = scaling(model, base=base)
    with pytest.raises(PlanError, match=r"is not the model that was scaled: it lacks first\.weight"):
        scaled.groups(ResNet(16), lr=1.0)
    with pytest.raises(ArgumentError, match="lr='fast': expected a number"):
        scaled.groups(model, lr="fast")
    with pytest.raises(KeyError, match="no parameter 'fc'"):
        scaled["fc"]
    with pytest.raises(PlanError, match="not a scaling"):
        type(scaled).from_json("{}")
    with pytest.raises(PlanError, match="scaling version 2"):
        type(scaled).from_json(json.dumps({**json.loads(scaled.to_json()), "version": 2}))


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_what_has_no_elements_cannot_grow():
    for wide, arguments in ((8, {"base": plain(4, 0, 2)}), (0, {"width": 2})):
        with pytest.raises(PlanError, match=r"0\.weight of shape \[0, 4\] has no elements: expected features"):
            scaling(plain(4, wide, 2), **arguments)


def test_a_trained_model_is_not_written():
    """Batch norms that have seen batches: nothing is written, the gains that the depth scales included."""
    model = ResNet(16, blocks=6)
    for _ in range(300):
        model(torch.randn(4, 3, 4, 4) * 3 + 1)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    scaled = scaling(model, base=ResNet(16, blocks=2), example_inputs=IMAGES)
    with pytest.raises(TrainedModelError, match="batch norms have seen"):
        scaled.apply(model)
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())


def test_it_prints():
    text = str(scaling(MLP(64), base=MLP(16)))
    assert "autoinit scaling  MLP: adamw, against MLP" in text
    rows = {line.split()[0]: line.split() for line in text.splitlines() if ".weight" in line}
    assert rows["second.weight"][1:6] == ["hidden", "0.1768", "1/4", "4", "1/4"]  # sqrt(2 / 16) / sqrt(4)
    assert rows["head.weight"][1] == "head"


def test_arguments_of_another_type_are_refused_by_name():
    model, base = MLP(64), MLP(16)
    scaled = scaling(model, base)
    batch = torch.zeros(2, 12), torch.tensor([0, 1])
    for call, said in (
        (lambda: scaling(model, base, optimizer=[]), r"optimizer=\[\]: expected one of 'adamw'"),
        (lambda: scaling(model, base, adjust_lr_fn=3), "adjust_lr_fn=3: expected one of 'original'"),
        (lambda: scaled.groups(3, lr=1.0), r"model is a int: expected a torch\.nn\.Module"),
        (lambda: scaled.apply(None), "model is a NoneType: expected a torch"),
        (lambda: scaled.plan.apply("net"), "model is a str: expected a torch"),
        (lambda: scaled.groups(model, lr=-1.0), r"lr=-1\.0: expected a number, 0 or more"),
        (lambda: scaled.groups(model, lr=math.nan), "lr=nan: expected a number, 0 or more"),
        (lambda: scaled.groups(model, lr=1.0, muon_lr="x"), "muon_lr='x': expected a number"),
        (lambda: type(scaled).from_json(3), r"text=3: expected what Scaling\.to_json gave"),
        (lambda: type(scaled.plan).from_json(None), r"text=None: expected what Plan\.to_json gave"),
        (lambda: coordinate_check(3, [1, 2], batch), "make_model=3: expected a function"),
        (lambda: coordinate_check(MLP, [16, 32], 7), "batches=7: expected a pair of inputs and targets"),
        (lambda: coordinate_check(MLP, [16, 32], batch, loss=3), "loss=3: expected a function"),
        (lambda: coordinate_check(MLP, 5, batch), "widths=5: expected at least two widths"),
        (lambda: coordinate_check(MLP, [16], batch), r"widths=\[16\]: expected at least two different ones"),
        (lambda: coordinate_check(MLP, range(1, 102), batch), r"widths=\[1, .*: expected .* 100 at most"),
        (lambda: coordinate_check(MLP, [16, 2**20 + 1], batch), r"widths=.* each a whole number from 1 to 1,048,576"),
        (lambda: coordinate_check(MLP, [16, 32], batch, steps=10**30), "steps=10+: .*from 1 to 10,000"),
        (lambda: coordinate_check(MLP, [16, 32], batch, steps=10_001), "steps=10001: .*from 1 to 10,000"),
        (lambda: coordinate_check(MLP, [16, 32], batch, steps=0), "steps=0: .*from 1 to 10,000"),
        (lambda: coordinate_check(MLP, [16, 32], batch, seeds=1_001), "seeds=1001: .*from 1 to 1,000"),
        (lambda: coordinate_check(MLP, [16, 32], batch, lr=math.inf), "lr=inf: expected a learning rate"),
        (lambda: coordinate_check(MLP, [16, 32], batch, lr=0), "lr=0: expected a learning rate"),
    ):
        with pytest.raises(ArgumentError, match=said):
            call()


def test_a_coordinate_check_tells_one_parametrisation_from_the_other():
    """Behind a hidden layer under AdamW: the change grows with the width, by one rate for all; by groups it does not.

    Nothing of torch's random state is taken.
    """
    random = torch.Generator().manual_seed(0)
    batch = torch.randn(32, 12, generator=random), torch.arange(32) % 5
    before = torch.random.get_rng_state()
    found = coordinate_check(MLP, [32, 64, 128], batch, lr=4e-3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert list(found.changes["scaled"]) == ["first", "second", "third", "head", ""]
    assert abs(found.slopes["scaled"]["second"]) < 0.2
    assert found.slopes["standard"]["second"] > 0.4
    assert found.changes["scaled"]["second"][0] == found.changes["standard"]["second"][0]  # of the base, all are 1
    assert found.worst("standard")[1] == max(found.slopes["standard"].values(), key=abs)
