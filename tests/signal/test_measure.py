"""`measure`: against hooks, closed forms and attention written out; and the model stays as it was."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.utils.checkpoint import checkpoint

from autoinit import check
from autoinit.errors import ArgumentError, LazyModuleError, TraceError
from autoinit.signal import propagate
from autoinit.signal.batches import stream
from autoinit.signal.measuring.measuring import measure
from tests.shared.models.gpt2 import GPT2, ManualAttention, NewGELU


def second(x):
    return float(x.detach().double().square().mean())


def hooked(model, inputs, seed=0, kinds=(nn.Linear, nn.Conv2d)):
    """Second moment, mean and gradient's second moment of each layer's output, by torch's own hooks."""
    found, handles = {}, []

    def watch(name):
        def hook(_module, _inputs, output):
            row = found[name] = {"q": second(output), "mean": float(output.detach().double().mean())}
            output.register_hook(lambda grad: row.update(grad=second(grad)))

        return hook

    inside = ("out_proj",) if any(isinstance(each, nn.MultiheadAttention) for each in model.modules()) else ()
    for name, module in model.named_modules():
        if isinstance(module, kinds) and not name.endswith(inside or "-"):
            handles.append(module.register_forward_hook(watch(name)))
    model.train()
    torch.manual_seed(seed)
    output = model(inputs)
    e = torch.empty(output.shape).normal_(generator=stream(seed))
    output.backward(e)
    for handle in handles:
        handle.remove()
    return found


def assert_equal_rows(report, expected):
    assert set(expected) <= set(report)
    for name, row in expected.items():
        assert report[name].q == pytest.approx(row["q"], rel=1e-5), name
        assert report[name].mean == pytest.approx(row["mean"], rel=1e-4, abs=1e-6), name
        assert report[name].grad == pytest.approx(row["grad"], rel=1e-4), name


def with_head(model):
    """A zero head passes no gradient; give it one."""
    for parameter in model.parameters():
        if parameter.dim() > 1 and not parameter.detach().any():
            nn.init.normal_(parameter, 0, 0.02)
    return model


def vit():
    return with_head(
        torchvision.models.VisionTransformer(
            image_size=16, patch_size=8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64, dropout=0.1,
            attention_dropout=0.1, num_classes=10,
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (torchvision.models.resnet18, (2, 3, 64, 64)),
        (vit, (4, 3, 16, 16)),
        (torchvision.models.squeezenet1_1, (2, 3, 64, 64)),
    ],
    ids=["resnet18", "vit", "squeezenet"],
)
def test_rows_are_what_hooks_see(make, shape):
    torch.manual_seed(1)
    model, x = make(), torch.randn(shape)
    report = measure(model, x, seed=5)
    expected = hooked(model, x.clone(), seed=5)
    assert_equal_rows(report, expected)
    assert len(report) == len(expected) + 2 * sum(isinstance(each, nn.MultiheadAttention) for each in model.modules())


def test_a_language_model_with_dropout():
    torch.manual_seed(1)
    model, ids = GPT2(ManualAttention, NewGELU), torch.randint(50, (3, 12))
    report = measure(model, ids, seed=2)
    expected = hooked(model, ids, seed=2)
    assert_equal_rows(report, {name: row for name, row in expected.items() if name in report})
    assert {name for name in expected if name.endswith(("c_attn", "c_proj", "c_fc"))} <= set(report)


class Projections(nn.Module):
    """Attention written out, its projections' outputs kept."""

    def __init__(self, leaf):
        super().__init__()
        self.leaf = leaf

    def forward(self, query, key):
        width, heads = self.leaf.embed_dim, self.leaf.num_heads
        parts = self.leaf.in_proj_weight.chunk(3)
        self.made = [F.linear(x, part) for x, part in zip((query, key, key), parts, strict=True)]
        q, k, v = (each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in self.made)
        weights = torch.softmax(q @ k.transpose(-1, -2) / (width // heads) ** 0.5, -1)
        self.out = F.linear((weights @ v).transpose(1, 2).flatten(2), self.leaf.out_proj.weight)
        for each in (*self.made, self.out):
            each.retain_grad()
        return self.out


class CrossAttention(nn.Module):
    def __init__(self, **settings):
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4, **settings)

    def forward(self, query, key):
        return self.attention(query, key, key, need_weights=False)[0]


@pytest.mark.parametrize("crossed", [False, True])
def test_the_projections_inside_attention(crossed):
    torch.manual_seed(0)
    model = CrossAttention(batch_first=True)
    query = torch.randn(3, 5, 16)
    key = torch.randn(3, 7, 16) if crossed else query
    report = measure(model, (query, key), seed=3)
    plain = Projections(model.attention)
    e = torch.empty(3, 5, 16).normal_(generator=stream(3))
    plain(query.clone().requires_grad_(), key.clone().requires_grad_()).backward(e)
    row, out = report["attention.in_proj_weight"], report["attention.out_proj"]
    assert row.q == pytest.approx(sum(map(second, plain.made)) / 3, rel=1e-5)
    assert row.grad == pytest.approx(sum(second(each.grad) for each in plain.made) / 3, rel=1e-4)
    assert (out.q, out.grad) == pytest.approx((second(plain.out), second(plain.out.grad)), rel=1e-5)


def test_separate_projections_and_tokens_first():
    torch.manual_seed(0)
    model = CrossAttention(kdim=12, vdim=12)
    query, key = torch.randn(5, 3, 16), torch.randn(7, 3, 12)
    report = measure(model, (query, key))
    for name, x in (("q", query), ("k", key), ("v", key)):
        weight = getattr(model.attention, f"{name}_proj_weight")
        assert report[f"attention.{name}_proj_weight"].q == pytest.approx(second(x @ weight.T), rel=1e-5)


def test_a_linear_net_has_the_moments_of_its_products():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 12, bias=False), nn.Linear(12, 6, bias=False))
    x = torch.randn(5, 7, 8)
    report = measure(model, x, seed=1)
    first, last = (layer.weight.detach() for layer in model)
    y = x @ first.T
    e = torch.empty(5, 7, 6).normal_(generator=stream(1))
    assert report["0"].q == pytest.approx(second(y), rel=1e-5)
    assert report["1"].grad == pytest.approx(second(e), rel=1e-5)
    assert report["0"].grad == pytest.approx(second(e @ last), rel=1e-5)
    position = [float((y[:, a] * y[:, b]).mean()) for a in range(7) for b in range(7) if a != b]
    apart = [float((y[i, a] * y[j, b]).mean()) for i in range(5) for j in range(5) for a in range(7) for b in range(7)
             if i != j and a != b]  # fmt: skip
    assert report["0"].p == pytest.approx(np.mean(position), rel=1e-4)
    assert report["0"].s == pytest.approx(np.mean(apart), rel=1e-4)
    assert report.outputs[0].q == pytest.approx(second(y @ last.T), rel=1e-5)
    assert report.kind == "measured"


def test_writing_in_place_spoils_neither_moments_nor_gradients():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
    x = torch.randn(64, 8)
    expected = hooked(plain, x)
    plain[1].inplace = True
    report = measure(plain, x)
    assert_equal_rows(report, expected)
    relu = report.by_operation["1"].row
    assert relu.q == pytest.approx(second(F.relu(plain[0](x))), rel=1e-5)


class WritesToItsInput(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.layer = nn.BatchNorm1d(4), nn.Linear(4, 4)
        self.register_buffer("seen", torch.zeros(4))

    def forward(self, x, fail=False):
        x += 100.0
        self.seen += x.detach().mean(0)
        h = self.layer(self.norm(x))
        if fail:
            raise RuntimeError("half way")
        h[:, 0] = 0
        return h.mul_(2)


def everything(model, x):
    held = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    grads = [None if each.grad is None else each.grad.clone() for each in model.parameters()]
    wanted = [each.requires_grad for each in model.parameters()]
    hooks = [(len(each._forward_hooks), len(each._backward_hooks), sorted(each.__dict__)) for each in model.modules()]
    generators = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    return held, modes, grads, wanted, hooks, generators, x.clone()


def assert_same(before, after):
    held, modes, grads, wanted, hooks, generators, x = before
    assert all(torch.equal(value, after[0][name]) for name, value in held.items())
    assert (modes, wanted, hooks) == (after[1], after[3], after[4])
    assert all((a is None and b is None) or torch.equal(a, b) for a, b in zip(grads, after[2], strict=True))
    assert torch.equal(generators[0], after[5][0])
    assert generators[1] == after[5][1]
    assert (generators[2] == after[5][2]).all()
    assert torch.equal(x, after[6])


def test_the_model_stays_as_it_is():
    model, x = WritesToItsInput().eval(), torch.randn(16, 4)
    model.layer.weight.grad = torch.ones(4, 4)
    model.layer.bias.requires_grad_(False)
    calls = []
    model.layer.register_forward_hook(lambda *_: calls.append(1))
    before = everything(model, x)
    report = measure(model, x, seeds=2)
    assert_same(before, everything(model, x))
    assert not calls
    # Batch statistics: the running ones know nothing of the mean of 100.
    assert report.by_operation["norm"].row.q == pytest.approx(1.0, rel=1e-3)


def test_the_model_stays_as_it_is_when_it_fails():
    model, x = WritesToItsInput(), torch.randn(16, 4)
    before = everything(model, x)
    with pytest.raises(TraceError, match="half way") as caught:
        measure(model, (x, True))
    assert_same(before, everything(model, x))
    assert "check that model(example_inputs) itself runs" in str(caught.value)


def test_draws_are_averaged():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Dropout(0.5), nn.Linear(16, 8), nn.Linear(8, 4)), torch.randn(4, 16)
    ones = [measure(model, x, seed=seed) for seed in (7, 8, 9)]
    together = measure(model, x, seed=7, seeds=3)
    assert len({one["1"].q for one in ones}) == 3  # dropout differs
    for field in ("q", "s", "mean", "grad"):
        mean = np.mean([getattr(one["1"], field) for one in ones])
        assert getattr(together["1"], field) == pytest.approx(mean, rel=1e-6, abs=1e-9)
    first = together.operations[0].row
    assert first.q == pytest.approx(second(x), rel=1e-6)  # the caller's tensor, in each draw


def test_a_shape_stands_for_other_numbers_in_each_draw():
    model = nn.Linear(4, 4)
    inputs = [measure(model, (64, 4), seed=seed).operations[0].row for seed in (0, 1)]
    assert inputs[0].q != inputs[1].q
    assert inputs[0].q == pytest.approx(1.0, abs=0.4)
    assert measure(model, (64, 4)).to_json() != ""


def test_a_tensor_is_taken_as_it_is_although_a_shape_would_give_it():
    x = torch.empty(8, 4).normal_(generator=stream(0))
    found = [measure(nn.Linear(4, 4), x, seed=seed).operations[0].row.q for seed in (0, 1)]
    assert found == pytest.approx([second(x)] * 2, rel=1e-6)


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(1000, 64, padding_idx=0)
        self.layer = nn.Linear(64, 64, bias=False)

    def forward(self, ids):
        return self.layer(self.table(ids))


def test_guessed_ids_are_different_tokens():
    torch.manual_seed(0)
    report = measure(Tokens())
    row = report["layer"]
    assert abs(row.s / row.q) < 0.2  # the same token everywhere would give 1
    assert "guessed ids are random" in report.notes
    given = measure(Tokens(), torch.full((2, 8), 3))["layer"]
    assert given.s == pytest.approx(given.q, rel=1e-4)


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.up(x) if x.sum() > 0 else self.down(x)


@pytest.mark.parametrize(("sign", "name"), [(1.0, "up"), (-1.0, "down")])
def test_the_way_that_the_values_really_take(sign, name):
    model, x = Branching(), sign * torch.ones(2, 4)
    report = measure(model, x)
    assert list(report) == [name]
    assert report[name].q == pytest.approx(second(getattr(model, name)(x)), rel=1e-5)


class Checkpointed(nn.Module):
    def __init__(self, saving):
        super().__init__()
        self.first, self.last, self.saving = nn.Linear(8, 16), nn.Linear(16, 4), saving

    def forward(self, x):
        h = checkpoint(self.first, x, use_reentrant=False) if self.saving else self.first(x)
        return self.last(torch.tanh(h))


def test_gradients_inside_checkpoints():
    torch.manual_seed(0)
    plain, saving = Checkpointed(False), Checkpointed(True)
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(8, 8)
    assert measure(saving, x)["first"] == measure(plain, x)["first"]


class Opened(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside, self.after = nn.Linear(8, 16), nn.Linear(8, 4)

    def forward(self, x):
        return self.after(F.glu(self.inside(x), -1))


def test_operations_after_one_that_is_written_out():
    torch.manual_seed(0)
    model, x = Opened(), torch.randn(6, 8)
    report = measure(model, x)
    made = F.glu(model.inside(x), -1)
    product = next(each for each in report.operations if each.op == "mul")
    assert product.row.q == pytest.approx(second(made), rel=1e-5)
    assert report["after"].q == pytest.approx(second(model.after(made)), rel=1e-5)


def test_without_backward():
    report = measure(nn.Linear(4, 4), (2, 4), backward=False)
    assert report["weight"].grad is None


def test_frozen_weights_pass_gradients():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)).requires_grad_(False)
    assert measure(model, (2, 4))["0"].grad > 0


class Weightless(torch.autograd.Function):
    @staticmethod
    def forward(_ctx, x):
        return x.clone()

    @staticmethod
    def backward(_ctx, _grad):
        raise RuntimeError("no way back")


class OneWay(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return Weightless.apply(self.layer(x))


def test_a_backward_that_fails_says_how_to_leave_it_out():
    with pytest.raises(TraceError, match=r"backward=False leaves it out.*no way back"):
        measure(OneWay(), (2, 4))
    assert measure(OneWay(), (2, 4), backward=False)["layer"].q > 0


def test_what_cannot_be_measured():
    with torch.device("meta"):
        empty = nn.Linear(2, 2)
    with pytest.raises(ArgumentError, match=r"weight and 1 more parameters of Linear have no values.*propagate"):
        measure(empty, (1, 2))
    with pytest.raises(ArgumentError, match="seeds=0"):
        measure(nn.Linear(2, 2), (1, 2), seeds=0)
    with pytest.raises(ArgumentError, match="seeds='two'"):
        measure(nn.Linear(2, 2), (1, 2), seeds="two")
    with pytest.raises(ArgumentError, match=r"model is a str.*torch\.nn\.Module"):
        measure("model", (1, 2))
    with pytest.raises(LazyModuleError, match="run one forward first"):
        measure(nn.LazyLinear(2), (1, 2))


def test_inputs_are_not_the_numbers_that_the_weights_were_drawn_with():
    torch.manual_seed(0)
    layer = nn.Linear(64, 128, bias=False)
    nn.init.normal_(layer.weight, std=64**-0.5)
    rows = [measure(layer, (32, 64), seed=seed, backward=False)["weight"].q for seed in range(4)]
    assert rows[0] == pytest.approx(1, abs=6 * (2 / (32 * 64)) ** 0.5 * 2)


class Parted(nn.Module):
    """Only the first of several outputs of an operation is used."""

    def __init__(self, part):
        super().__init__()
        self.a, self.b, self.part = nn.Linear(8, 24), nn.Linear(8, 4), part

    def forward(self, x):
        return self.b(torch.relu(self.part(self.a(x))))


PARTS = {
    "chunk": lambda y: y.chunk(3, -1)[0],
    "split": lambda y: torch.split(y, [8, 8, 8], -1)[0],
    "unbind": lambda y: y.reshape(-1, 3, 8).unbind(1)[0],
    "tensor_split": lambda y: y.tensor_split(3, -1)[0],
    "max": lambda y: y.reshape(-1, 8, 3).max(-1, keepdim=False)[0],
}


@pytest.mark.parametrize("part", [PARTS[name] for name in ("chunk", "split", "unbind")])
def test_an_output_of_several_that_nothing_uses_has_no_gradient(part):
    """The fused layer's gradient is that of the part that is used, over three times as many features: a third."""
    report = measure(Parted(part), torch.randn(16, 8))
    parts = [each.row.grad for each in report.operations if each.op == "getitem"]
    assert parts[1:] == [0.0, 0.0]
    assert parts[0] > 0
    assert report["a"].grad == pytest.approx(parts[0] / 3, rel=1e-5)


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("use", [check, propagate, lambda model, x: check(model, x, select=["INI4"])])
def test_predictions_go_past_outputs_that_nothing_uses(part, use):
    use(Parted(part), torch.randn(16, 8))
