"""Hard cases: what runs in Python around the layers. Loops, exits, outputs of every form, modes, routing, segments.

Conditions on values, `.item()`, `nonzero`, an auxiliary head of training mode and tensors written in place are in
`test_tracing`; a shared module with different consumers in `test_planning`.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from autoinit import plan
from tests.shared.written_nets import (
    UNRESOLVED,
    Layer,
    Many,
    Net,
    assert_planned,
    gelu,
    linear,
    mixed,
    normed,
    numbers,
    parted,
    relu,
    sigmoid,
    silu,
    softmax,
    tanh,
    xavier,
)

WIDTH, HIDDEN, CLASSES = 6, 8, 3

ways = pytest.mark.parametrize("inputs", [None, (5, WIDTH)], ids=["no_input", "input"])

HEAD = linear("output", WIDTH, CLASSES)


def lstm(fan_in: int, hidden: int) -> Layer:
    """Input, forget, cell and output gates; of sigmoid (gain 1) and tanh (5/3) the smaller gain stands."""
    gates = [(hidden, row) for row in (sigmoid(fan_in, hidden), sigmoid(fan_in, hidden), tanh(fan_in, hidden))]
    return parted(mixed(sigmoid(fan_in, hidden)), *gates, gates[0])


def gru(fan_in: int, hidden: int, *, state: bool) -> Layer:
    """Reset, update and new gates; the state's part of the new one is multiplied by the reset gate first."""
    new = linear("gate", fan_in, hidden) if state else tanh(fan_in, hidden)
    gates = [(hidden, row) for row in (sigmoid(fan_in, hidden), sigmoid(fan_in, hidden), new)]
    return parted(mixed(sigmoid(fan_in, hidden)), *gates)


# Loops.


@ways
def test_a_block_that_is_called_again_and_again(inputs: Any):
    """Recurrent depth: one block, four steps, the input injected anew in each; every use agrees."""

    def forward(net: Any, x: Tensor) -> Tensor:
        state = net.embed(x)
        for _ in range(4):
            state = state + net.down(F.gelu(net.up(net.norm(state + x))))
        return net.head(state)

    model = Net(
        forward,
        embed=nn.Linear(WIDTH, WIDTH),
        norm=nn.LayerNorm(WIDTH),
        up=nn.Linear(WIDTH, HIDDEN),
        down=nn.Linear(HIDDEN, WIDTH),
        head=nn.Linear(WIDTH, CLASSES),
    )
    expected = {
        "embed": linear("add", WIDTH, WIDTH),
        "up": gelu(WIDTH),
        "down": linear("add", HIDDEN, WIDTH),
        "head": HEAD,
    }
    made = assert_planned(model, inputs, expected)
    assert (len(made["up"].uses), len(made["down"].uses)) == (4, 4)


@pytest.mark.parametrize("inputs", [None, (2, 4, WIDTH)], ids=["no_input", "input"])
def test_a_universal_transformer(inputs: Any):
    """One attention and one feed-forward for every step (Dehghani et al. 2019)."""

    def forward(net: Any, x: Tensor) -> Tensor:
        for _ in range(3):
            y = net.norm(x)
            scores = net.q(y) @ net.k(y).transpose(-2, -1) / math.sqrt(WIDTH)
            x = x + net.o(scores.softmax(-1) @ net.v(y))
            x = x + net.down(torch.relu(net.up(net.norm(x))))
        return net.head(net.norm(x).mean(1))

    square = linear("attention", WIDTH, WIDTH)
    model = Net(
        forward,
        **{name: nn.Linear(WIDTH, WIDTH) for name in "qkvo"},
        norm=nn.LayerNorm(WIDTH),
        up=nn.Linear(WIDTH, HIDDEN),
        down=nn.Linear(HIDDEN, WIDTH),
        head=nn.Linear(WIDTH, CLASSES),
    )
    expected = {
        "q": square,
        "k": square,
        "v": square,
        "o": linear("add", WIDTH, WIDTH),
        "up": relu(WIDTH),
        "down": linear("add", HIDDEN, WIDTH),
        "head": HEAD,
    }
    made = assert_planned(model, inputs, expected)
    assert len(made["o"].uses) == 3


def test_a_recurrent_cell_written_out():
    """h = tanh(W x + U h): both feed the sum, which comes before the tanh."""

    def forward(net: Any, x: Tensor) -> Tensor:
        h = torch.zeros(x.shape[0], HIDDEN)
        for step in range(x.shape[1]):
            h = torch.tanh(net.w(x[:, step]) + net.u(h))
        return net.head(h)

    model = Net(forward, w=nn.Linear(WIDTH, HIDDEN), u=nn.Linear(HIDDEN, HIDDEN), head=nn.Linear(HIDDEN, CLASSES))
    expected = {
        "w": linear("add", WIDTH, HIDDEN),
        "u": linear("add", HIDDEN, HIDDEN),
        "head": linear("output", HIDDEN, CLASSES),
    }
    assert_planned(model, (2, 3, WIDTH), expected)


def test_a_loop_as_long_as_the_lengths_say():
    """`while step < lengths.max()`: the input decides, so the way is followed on meta as well."""

    def forward(net: Any, x: Tensor, lengths: Tensor) -> Tensor:
        h, step = x.new_zeros(x.shape[0], HIDDEN), 0
        while step < lengths.max():
            fresh = net.cell(torch.relu(net.embed(x[:, step])), h)
            h = torch.where(lengths.gt(step).unsqueeze(1), fresh, h)
            step += 1
        return net.head(h)

    model = Many(
        forward,
        embed=nn.Linear(WIDTH, WIDTH),
        cell=nn.GRUCell(WIDTH, HIDDEN),
        head=nn.Linear(HIDDEN, CLASSES),
    )
    expected = {
        "embed": relu(WIDTH),
        "cell.weight_ih": gru(WIDTH, HIDDEN, state=False),
        "cell.weight_hh": gru(HIDDEN, HIDDEN, state=True),
        "head": linear("output", HIDDEN, CLASSES),
    }
    made = assert_planned(model, (numbers(2, 4, WIDTH), torch.tensor([3, 2])), expected)
    assert len(made["embed"].uses) == 3


def test_one_head_for_every_level():
    """A detector's heads are shared by the levels of a pyramid."""

    def forward(net: Any, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        outputs = []
        for level in (x, F.max_pool2d(x, 2)):
            y = F.relu(net.tower(net.lateral(level)))
            outputs.append((net.scores(y).sigmoid(), net.boxes(y)))
        return outputs

    model = Net(
        forward,
        lateral=nn.Conv2d(3, WIDTH, 1),
        tower=nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
        scores=nn.Conv2d(WIDTH, 2, 3, padding=1),
        boxes=nn.Conv2d(WIDTH, 4, 3, padding=1),
    )
    expected = {
        "lateral": linear("weight", 3, WIDTH),
        "tower": relu(9 * WIDTH),
        "scores": sigmoid(9 * WIDTH, 9 * 2),
        "boxes": linear("output", 9 * WIDTH, 9 * 4),
    }
    made = assert_planned(model, (1, 3, 8, 8), expected)
    assert [len(each.uses) for each in made.values()] == [2, 2, 2, 2]


# Exits and outputs.


@ways
@pytest.mark.parametrize(
    "asking",
    [False, True],
    ids=["all", "if_sure"],
)
def test_early_exits(asking: bool, inputs: Any):
    """A head after each stage; the loop stops where a head is sure of itself (it never is: 1.5 is no probability)."""

    def forward(net: Any, x: Tensor) -> list[Tensor]:
        exits = []
        for stage, head in zip(net.stages, net.heads, strict=True):
            x = F.relu(stage(x))
            exits.append(head(x))
            if asking and bool((exits[-1].softmax(-1).amax(-1) > 1.5).all()):
                break
        return exits

    model = Net(
        forward,
        stages=nn.ModuleList([nn.Linear(WIDTH, WIDTH) for _ in range(3)]),
        heads=nn.ModuleList([nn.Linear(WIDTH, CLASSES) for _ in range(3)]),
    )
    stages = {f"stages.{number}": relu(WIDTH) for number in range(3)}
    assert_planned(model, inputs, {**stages, **{f"heads.{number}": HEAD for number in range(3)}})


class Named(NamedTuple):
    logits: Tensor
    hidden: Tensor


@dataclass
class Record:
    logits: Tensor
    hidden: Tensor


@dataclass(frozen=True, slots=True)
class Slotted:
    logits: Tensor
    hidden: Tensor


class Plain:
    def __init__(self, logits: Tensor, hidden: Tensor) -> None:
        self.logits, self.hidden = logits, hidden


class Mapped(dict[str, Any]):
    """As transformers' outputs are."""


FORMS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "tuple": lambda logits, hidden: (logits, hidden),
    "list": lambda logits, hidden: [logits, hidden],
    "dict": lambda logits, hidden: {"logits": logits, "hidden": hidden},
    "nested": lambda logits, hidden: {"heads": [{"logits": logits}], "states": (hidden,)},
    "dict_subclass": lambda logits, hidden: Mapped(logits=logits, hidden=hidden),
    "named_tuple": Named,
    "dataclass": Record,
    "dataclass_with_slots": Slotted,
    "object": Plain,
    "list_of_dataclasses": lambda logits, hidden: [Record(logits, hidden), None],
    "generator": lambda logits, hidden: (each for each in (logits, hidden)),
}


def test_an_output_with_slots_is_read_without_an_input():
    assert_outputs("dataclass_with_slots", None)


@pytest.mark.parametrize("inputs", [None, (5, WIDTH)], ids=["no_input", "input"])
@pytest.mark.parametrize("form", [each for each in FORMS if each not in ("dataclass_with_slots", "generator")])
def test_outputs_of_every_form(form: str, inputs: Any):
    assert_outputs(form, inputs)


@pytest.mark.parametrize("form", ["dataclass_with_slots", "generator"])
def test_outputs_of_rare_forms(form: str):
    assert_outputs(form, (5, WIDTH))


def assert_outputs(form: str, inputs: Any) -> None:
    """Two results: logits, and a projection of the hidden state."""
    model = Net(
        lambda net, x: FORMS[form](net.head(y := torch.tanh(net.body(x))), net.project(y)),
        body=nn.Linear(WIDTH, WIDTH),
        head=nn.Linear(WIDTH, CLASSES),
        project=nn.Linear(WIDTH, HIDDEN),
    )
    expected = {"body": tanh(WIDTH, WIDTH), "head": HEAD, "project": linear("output", WIDTH, HIDDEN)}
    assert_planned(model, inputs, expected)


@ways
def test_heads_of_many_tasks(inputs: Any):
    """Each head in a dict of its own end: softmax, sigmoid, none, softplus and none."""

    def forward(net: Any, x: Tensor) -> dict[str, Tensor]:
        x = F.relu(net.trunk(x))
        return {
            "kind": net.heads["kind"](x).softmax(-1),
            "tags": net.heads["tags"](x).sigmoid(),
            "value": net.heads["value"](x).squeeze(-1),
        }

    heads = {"kind": nn.Linear(WIDTH, CLASSES), "tags": nn.Linear(WIDTH, 2), "value": nn.Linear(WIDTH, 1)}
    model = Net(forward, trunk=nn.Linear(WIDTH, WIDTH), heads=nn.ModuleDict(heads))
    expected = {
        "trunk": relu(WIDTH),
        "heads.kind": softmax(WIDTH, CLASSES),
        "heads.tags": sigmoid(WIDTH, 2),
        "heads.value": linear("output", WIDTH, 1),
    }
    assert_planned(model, inputs, expected)


# Modes.


def by_tensor(_net: Any, x: Tensor, p: float) -> bool:
    return bool(torch.rand(()) < p)


def by_item(_net: Any, x: Tensor, p: float) -> bool:
    return torch.rand(1).item() < p


def by_python(_net: Any, x: Tensor, p: float) -> bool:
    return random.random() < p


def by_numpy(_net: Any, x: Tensor, p: float) -> bool:
    return bool(np.random.rand() < p)


def test_a_head_of_training_is_found_where_evaluation_is_easier_to_trace():
    """No guess fits (15 values of an image), and which features a chunk takes is open without shapes.

    Evaluation mode leaves nothing open, but does not call `aside`; so training mode counts.
    """

    class Aside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.aside, self.last = nn.Conv2d(1, 1, 1), nn.Linear(5, 2), nn.Linear(15, 3)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            y = self.first(x).flatten(1)
            return (self.last(y), self.aside(y.chunk(3, -1)[0])) if self.training else (self.last(y),)

    assert "aside" in plan(Aside())


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("drops", [by_tensor, by_item, by_python, by_numpy], ids=lambda each: each.__name__)
@ways
def test_layers_that_training_drops_by_chance(drops: Callable[..., bool], training: bool, inputs: Any):
    """Stochastic depth by leaving the block out: chance must not decide which layers are found."""

    def forward(net: Any, x: Tensor) -> Tensor:
        x = net.stem(x)
        for block in net.blocks:
            if net.training and drops(net, x, 0.9):
                continue
            x = x + block(x)
        return net.head(x)

    def block() -> nn.Module:
        return nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, WIDTH))

    model = Net(
        forward,
        stem=nn.Linear(WIDTH, WIDTH),
        blocks=nn.ModuleList([block() for _ in range(8)]),
        head=nn.Linear(WIDTH, CLASSES),
    ).train(training)
    made = plan(model, inputs)
    found = {name for name, layer in made.items() if layer.status == "planned"}
    uncalled = {each.name for each in made.others if each.kind == "uncalled"}
    assert uncalled == set()
    assert found == {"stem", "head", *(f"blocks.{number}.{part}" for number in range(8) for part in (1, 3))}
    for number in range(8):
        up, down = made[f"blocks.{number}.1"], made[f"blocks.{number}.3"]
        assert (up.nonlinearity, up.std) == ("gelu", pytest.approx(gelu(WIDTH).std))
        assert (down.reason, down.std) == ("add", pytest.approx(xavier(HIDDEN, WIDTH)))


@ways
def test_stochastic_depth_by_a_mask(inputs: Any):
    """The branch of each sample is multiplied by a random 0 or 1 / p: noise, which carries no signal."""

    def forward(net: Any, x: Tensor) -> Tensor:
        x = net.stem(x)
        keep = x.new_empty((x.shape[0], 1)).bernoulli_(0.8).div_(0.8)
        return net.head(x + net.down(F.relu(net.up(x))) * keep)

    model = Net(
        forward,
        stem=nn.Linear(WIDTH, WIDTH),
        up=nn.Linear(WIDTH, HIDDEN),
        down=nn.Linear(HIDDEN, WIDTH),
        head=nn.Linear(WIDTH, CLASSES),
    )
    expected = {
        "stem": linear("weight", WIDTH, WIDTH),
        "up": relu(WIDTH),
        "down": linear("add", HIDDEN, WIDTH),
        "head": HEAD,
    }
    assert_planned(model, inputs, expected)


# Masks and routing.

MASKS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "masked_fill": lambda x, mask: x.masked_fill(~mask.unsqueeze(-1), 0.0),
    "where": lambda x, mask: torch.where(mask[..., None], x, torch.zeros_like(x)),
    "product": lambda x, mask: x * mask.unsqueeze(-1),
    "product_of_float": lambda x, mask: x * mask[..., None].to(x.dtype),
    "picked": lambda x, mask: x[mask],
    "masked_select": lambda x, mask: x.masked_select(mask.unsqueeze(-1)).view(-1, x.shape[-1]),
    "written_back": lambda x, mask: torch.zeros_like(x).masked_scatter(mask.unsqueeze(-1), x[mask]),
}


@pytest.mark.parametrize("key", MASKS)
def test_masked_positions(key: str):
    """A boolean mask over positions, between a layer and its activation."""
    model = Many(
        lambda net, x, mask: net.head(F.silu(MASKS[key](net.body(x), mask))),
        body=nn.Linear(WIDTH, WIDTH),
        head=nn.Linear(WIDTH, CLASSES),
    )
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert_planned(model, (numbers(2, 3, WIDTH), mask), {"body": silu(WIDTH), "head": HEAD})


# Operands that only steer: a type, a shape, an index.

STEERED: dict[str, Callable[[Tensor], Tensor]] = {
    "type_as": lambda h: F.softmax(h, -1).type_as(h),
    "to_other": lambda h: F.softmax(h.float(), dim=-1).to(h),
    "view_as": lambda h: F.softmax(h, -1).flatten().view_as(h),
    "reshape_as": lambda h: F.softmax(h, -1).flatten().reshape_as(h),
    "expand_as": lambda h: F.softmax(h, -1).amax(-1, keepdim=True).expand_as(h),
}


@pytest.mark.parametrize("key", STEERED)
def test_an_operand_that_lends_a_type_or_a_shape(key: str):
    """Nothing of the logits but their softmax goes on."""
    model = Net(
        lambda net, x: net.head(STEERED[key](net.body(x))),
        body=nn.Linear(WIDTH, HIDDEN),
        head=nn.Linear(HIDDEN, CLASSES),
    )
    made = assert_planned(
        model, (2, WIDTH), {"body": softmax(WIDTH, HIDDEN), "head": linear("output", HIDDEN, CLASSES)}
    )
    assert made["body"].alternatives == ()


PICKS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "getitem": lambda values, index: values[torch.arange(5)[:, None], index],
    "gather": lambda values, index: values.gather(1, index),
    "take_along_dim": lambda values, index: torch.take_along_dim(values, index, dim=1),
    "index_select": lambda values, index: values.index_select(1, index[0]),
}


@pytest.mark.parametrize("key", PICKS)
def test_a_score_that_picks(key: str):
    """Places by rank carry no signal: the score feeds its sigmoid and nothing else."""

    def forward(net: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        scores, values = net.score(x), net.value(x)
        return torch.sigmoid(scores), PICKS[key](values, scores.topk(2, dim=1).indices).clamp(min=0)

    model = Net(forward, score=nn.Linear(WIDTH, HIDDEN), value=nn.Linear(WIDTH, HIDDEN))
    made = assert_planned(model, (5, WIDTH), {"score": sigmoid(WIDTH, HIDDEN), "value": relu(WIDTH)})
    assert made["score"].alternatives == ()


DECISIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "far_from_zero": lambda x: x.masked_fill(x.pow(2).sum(-1, keepdim=True) > 4, 0.0),
    "nearest": lambda x: x + torch.eye(HIDDEN)[(x.exp() / 2).argmax(-1)],
    "floor_of_length": lambda x: x * torch.floor(x.norm(dim=-1, keepdim=True)).clamp(max=1),
}


@pytest.mark.parametrize("key", DECISIONS)
def test_a_branch_that_only_decides(key: str):
    """What is compared, ranked or rounded beside the values is no activation of theirs."""
    model = Net(
        lambda net, x: net.head(torch.tanh(DECISIONS[key](net.body(x)))),
        body=nn.Linear(WIDTH, HIDDEN),
        head=nn.Linear(HIDDEN, CLASSES),
    )
    expected = {"body": tanh(WIDTH, HIDDEN), "head": linear("output", HIDDEN, CLASSES)}
    made = assert_planned(model, (2, WIDTH), expected)
    assert made["body"].alternatives == ()


class Expert(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))


def by_index_add(net: Any, x: Tensor) -> Tensor:
    """Mixtral's loop: each expert computes its tokens and adds them where they belong."""
    weights, chosen = net.router(x).softmax(-1).topk(2, dim=-1)
    out = torch.zeros_like(x)
    for number, expert in enumerate(net.experts):
        token, place = torch.where(chosen == number)
        out.index_add_(0, token, expert(x[token]) * weights[token, place, None])
    return net.head(out)


def by_nonzero(net: Any, x: Tensor) -> Tensor:
    """Switch: the one best expert; the positions by nonzero."""
    weight, chosen = net.router(x).softmax(-1).max(dim=-1)
    out = torch.zeros_like(x)
    for number, expert in enumerate(net.experts):
        rows = (chosen == number).nonzero().squeeze(1)
        out[rows] = expert(x[rows]) * weight[rows].unsqueeze(1)
    return net.head(out)


def by_sorting(net: Any, x: Tensor) -> Tensor:
    """Tokens ordered by expert, cut by counts, put back by the inverse order."""
    weights, chosen = net.router(x).softmax(-1).topk(2, dim=-1)
    order = chosen.flatten().argsort(stable=True)
    counts = torch.bincount(chosen.flatten(), minlength=len(net.experts)).tolist()
    parts = x[order // 2].split(counts)
    done = torch.cat([expert(part) for expert, part in zip(net.experts, parts, strict=True)])
    back = torch.empty_like(done).index_copy(0, order, done).view(-1, 2, WIDTH)
    return net.head((back * weights.unsqueeze(-1)).sum(1))


def by_dispatch(net: Any, x: Tensor) -> Tensor:
    """GShard: one-hot dispatch and combination by einsum, with a capacity."""
    gates = net.router(x).softmax(-1)
    chosen = gates.argmax(-1)
    one_hot = F.one_hot(chosen, len(net.experts))
    slot = ((one_hot.cumsum(0) - 1) * one_hot).sum(-1)
    dispatch = one_hot.unsqueeze(-1) * F.one_hot(slot, x.shape[0]).unsqueeze(1)
    inside = torch.einsum("sec,sm->ecm", dispatch.to(x.dtype), x)
    done = torch.stack([expert(part) for expert, part in zip(net.experts, inside.unbind(0), strict=True)])
    return net.head(torch.einsum("sec,ecm->sm", dispatch * gates.unsqueeze(-1), done))


ROUTES = {
    by_index_add: "gate",
    by_nonzero: "gate",
    by_sorting: "gate",
    by_dispatch: "attention",  # a matrix product of two signals
}


@pytest.mark.parametrize("route", ROUTES, ids=lambda each: each.__name__)
@pytest.mark.parametrize("inputs", [None, numbers(24, WIDTH)], ids=["no_input", "input"])
def test_mixture_of_experts(route: Callable[..., Tensor], inputs: Any):
    """The router feeds softmax; what leaves an expert is weighed by it."""
    model = Net(
        route,
        router=nn.Linear(WIDTH, 3, bias=False),
        experts=nn.ModuleList([Expert() for _ in range(3)]),
        head=nn.Linear(WIDTH, CLASSES),
    )
    experts = {}
    for number in range(3):
        experts[f"experts.{number}.up"] = gelu(WIDTH)
        experts[f"experts.{number}.down"] = linear(ROUTES[route], HIDDEN, WIDTH)
    assert_planned(model, inputs, {"router": softmax(WIDTH, 3), **experts, "head": HEAD})


# Segments.

BLOCK = {"up": relu(WIDTH), "down": linear("add", HIDDEN, WIDTH), "head": HEAD}


@ways
@pytest.mark.parametrize("reentrant", [True, False], ids=["reentrant", "not"])
def test_checkpointed_segments(reentrant: bool, inputs: Any):
    def forward(net: Any, x: Tensor) -> Tensor:
        return net.head(x + checkpoint(lambda y: net.down(F.relu(net.up(y))), x, use_reentrant=reentrant))

    model = Net(forward, up=nn.Linear(WIDTH, HIDDEN), down=nn.Linear(HIDDEN, WIDTH), head=nn.Linear(WIDTH, CLASSES))
    assert_planned(model, inputs, BLOCK)


@ways
@pytest.mark.parametrize("reentrant", [True, False], ids=["reentrant", "not"])
def test_a_checkpointed_sequence(reentrant: bool, inputs: Any):
    layers = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, WIDTH), nn.Tanh())
    model = Net(
        lambda net, x: net.head(checkpoint_sequential(net.layers, 2, x, use_reentrant=reentrant)),
        layers=layers,
        head=nn.Linear(WIDTH, CLASSES),
    )
    assert_planned(model, inputs, {"layers.0": relu(WIDTH), "layers.2": tanh(HIDDEN, WIDTH), "head": HEAD})


@ways
@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "not"])
def test_a_teacher_under_no_grad(frozen: bool, inputs: Any):
    """An averaged copy whose output is a target: a layer like any other, left alone where it is frozen."""
    student = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))
    teacher = copy.deepcopy(student).requires_grad_(not frozen)

    def forward(net: Any, x: Tensor) -> Tensor:
        with torch.no_grad():
            target = net.teacher(x)
        return F.mse_loss(net.student(x), target.detach())

    hidden, head = relu(WIDTH), linear("output", HIDDEN, CLASSES)
    status = "skipped" if frozen else "planned"
    held = {
        "teacher.0": Layer("relu", "activation", None, status=status),
        "teacher.2": Layer("linear", "output", None, status=status),
    }
    made = assert_planned(
        Net(forward, student=student, teacher=teacher), inputs, {"student.0": hidden, "student.2": head, **held}
    )
    assert all(("frozen" in made[name].note) is frozen for name in held)


@ways
@pytest.mark.parametrize(
    "stop", [lambda x: x.detach(), lambda x: x.data, lambda x: x.clone().detach_()], ids=["detach", "data", "in_place"]
)
def test_a_stopped_gradient_is_no_end(stop: Callable[[Tensor], Tensor], inputs: Any):
    model = Net(
        lambda net, x: net.head(torch.tanh(stop(net.body(x)))),
        body=nn.Linear(WIDTH, WIDTH),
        head=nn.Linear(WIDTH, CLASSES),
    )
    assert_planned(model, inputs, {"body": tanh(WIDTH, WIDTH), "head": HEAD})


def test_gradients_taken_in_the_forward():
    """A force is the gradient of an energy: the energy is an output, and what the force is of no matter to it."""

    def forward(net: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            energy = net.energy(F.silu(net.body(x))).sum()
            force = -torch.autograd.grad(energy, x, create_graph=True)[0]
        return energy, force

    model = Net(forward, body=nn.Linear(WIDTH, WIDTH), energy=nn.Linear(WIDTH, 1))
    assert_planned(model, (2, WIDTH), {"body": silu(WIDTH), "energy": linear("output", WIDTH, 1)})


def test_gradients_taken_without_asking_for_them():
    """As above, in a forward that relies on gradients being on, as they are in training."""

    def forward(net: Any, x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        energy = net.energy(F.silu(net.body(x))).sum()
        return energy, torch.autograd.grad(energy, x, create_graph=True)[0]

    model = Net(forward, body=nn.Linear(WIDTH, WIDTH), energy=nn.Linear(WIDTH, 1))
    assert_planned(model, (2, WIDTH), {"body": silu(WIDTH), "energy": linear("output", WIDTH, 1)})


# Custom operators.


@torch.library.custom_op("autoinit_hard::blur", mutates_args=())
def blur(x: Tensor) -> Tensor:
    return (x + x.roll(1, -1)) / 2


@blur.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("autoinit_hard::twist_", mutates_args=("x",))
def twist_(x: Tensor) -> None:
    x.copy_(x.tanh() + x)


@twist_.register_fake
def _(x: Tensor) -> None:
    return None


@ways
def test_the_neighbours_of_a_custom_operator(inputs: Any):
    """Only the layer that feeds it is unresolved."""
    model = Net(
        lambda net, x: net.head(F.relu(net.last(blur(net.middle(torch.tanh(net.first(x))))))),
        first=nn.Linear(WIDTH, WIDTH),
        middle=nn.Linear(WIDTH, HIDDEN),
        last=nn.Linear(HIDDEN, WIDTH),
        head=nn.Linear(WIDTH, CLASSES),
    )
    expected = {"first": tanh(WIDTH, WIDTH), "middle": UNRESOLVED, "last": relu(HIDDEN), "head": HEAD}
    made = assert_planned(model, inputs, expected)
    assert "blur" in made["middle"].note


@ways
def test_a_custom_operator_that_writes_into_its_operand(inputs: Any):
    """It returns nothing, and is still not the identity."""

    def forward(net: Any, x: Tensor) -> Tensor:
        x = net.body(x)
        twist_(x)
        return net.head(x)

    model = Net(forward, body=nn.Linear(WIDTH, WIDTH), head=nn.Linear(WIDTH, CLASSES))
    made = assert_planned(model, inputs, {"body": UNRESOLVED, "head": HEAD})
    assert "twist_" in made["body"].note


# Values that leave torch.


def through_numpy(x: Tensor) -> Tensor:
    return torch.from_numpy(x.detach().cpu().numpy() ** 2)


def through_lists(x: Tensor) -> Tensor:
    return torch.tensor(x.tolist())


def through_items(x: Tensor) -> Tensor:
    return torch.stack([torch.tensor([each.item() for each in row]) for row in x])


@ways
@pytest.mark.parametrize("way", [through_numpy, through_lists, through_items], ids=lambda each: each.__name__)
def test_values_that_leave_torch_and_return(way: Callable[[Tensor], Tensor], inputs: Any):
    """What happens to them outside cannot be seen: the layer is not planned, and a note says why."""
    model = Net(
        lambda net, x: net.head(F.relu(way(net.body(x)))),
        body=nn.Linear(WIDTH, WIDTH),
        head=nn.Linear(WIDTH, CLASSES),
    )
    made = plan(model, inputs)
    assert made["head"].std == pytest.approx(HEAD.std)
    assert made["body"].status != "planned"
    assert made["body"].note


# Complex numbers.


class SpectralConv(nn.Module):
    """The Fourier layer (Li et al. 2021): the lowest modes times a complex matrix each."""

    def __init__(self, width: int, modes: int) -> None:
        super().__init__()
        self.modes = modes
        self.weight = nn.Parameter(torch.randn(width, width, modes, dtype=torch.cfloat))

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(x)
        kept = torch.einsum("bix,iox->box", spectrum[..., : self.modes], self.weight)
        out = torch.zeros(x.shape[0], x.shape[1], spectrum.shape[-1], dtype=torch.cfloat)
        out[..., : self.modes] = kept
        return torch.fft.irfft(out, n=x.shape[-1])


@pytest.mark.parametrize("inputs", [None, (2, 1, 16)], ids=["no_input", "input"])
def test_fourier_neural_operator(inputs: Any):
    """The spectral weight feeds the sum beside the pointwise one; being complex it is not written, and that is said."""
    model = Net(
        lambda net, x: net.head(F.gelu(net.spectral(y := net.lift(x)) + net.pointwise(y))),
        lift=nn.Conv1d(1, WIDTH, 1),
        spectral=SpectralConv(WIDTH, 4),
        pointwise=nn.Conv1d(WIDTH, WIDTH, 1),
        head=nn.Conv1d(WIDTH, 1, 1),
    )
    expected = {
        "lift": linear("weight", 1, WIDTH),
        "spectral": Layer("linear", "add", None, status="skipped"),
        "pointwise": linear("add", WIDTH, WIDTH),
        "head": linear("output", WIDTH, 1),
    }
    made = assert_planned(model, inputs, expected)
    assert "complex" in made["spectral"].note
    assert (made["spectral"].fan_in, made["spectral"].fan_out) == (WIDTH, WIDTH)


@pytest.mark.parametrize("inputs", [None, (2, WIDTH, 8, 8)], ids=["no_input", "input"])
def test_global_filter(inputs: Any):
    """GFNet (Rao et al. 2021): the spectrum times a learnable filter, held as two reals. The filter is no weight of a
    sum, and is listed with the parameters that stay as they are; the layers around it are as without it.
    """

    def forward(net: Any, x: Tensor) -> Tensor:
        x = net.stem(x)
        spectrum = torch.fft.rfft2(net.norm(x), norm="ortho") * torch.view_as_complex(net.filter)
        x = torch.fft.irfft2(spectrum, s=x.shape[-2:], norm="ortho")
        return net.head(net.down(F.gelu(net.up(x))).mean((2, 3)))

    model = Net(
        forward,
        stem=nn.Conv2d(WIDTH, WIDTH, 1),
        norm=nn.GroupNorm(1, WIDTH),
        filter=nn.Parameter(torch.randn(WIDTH, 8, 5, 2) * 0.02),
        up=nn.Conv2d(WIDTH, HIDDEN, 1),
        down=nn.Conv2d(HIDDEN, WIDTH, 1),
        head=nn.Linear(WIDTH, CLASSES),
    )
    expected = {
        "stem": normed(linear("weight", WIDTH, WIDTH)),
        "up": gelu(WIDTH),
        "down": linear("weight", HIDDEN, WIDTH),
        "head": HEAD,
    }
    made = assert_planned(model, inputs, expected)
    assert [each.kind for each in made.others if each.name == "filter"] == ["other"]


def test_a_spectrogram_before_the_layers():
    """stft, power, a fixed filter bank, the logarithm: none is a layer's, and the first convolution is as ever."""

    def forward(net: Any, wave: Tensor) -> Tensor:
        spectrum = torch.stft(wave, 16, hop_length=8, window=net.window, return_complex=True)
        mel = net.bank @ spectrum.abs().pow(2)
        return net.head(F.relu(net.conv(torch.log(mel.clamp(min=1e-5)))).mean(-1))

    model = Net(
        forward,
        window=torch.hann_window(16),
        bank=torch.rand(4, 9),
        conv=nn.Conv1d(4, WIDTH, 3, padding=1),
        head=nn.Linear(WIDTH, CLASSES),
    )
    assert_planned(model, (2, 64), {"conv": relu(12), "head": HEAD})


def test_a_complex_layer_of_two_real_ones():
    """(A + iB)(x + iy) by four products: each of the real layers feeds a sum."""

    def forward(net: Any, x: Tensor, y: Tensor) -> Tensor:
        made = torch.complex(net.a(x) - net.b(y), net.a(y) + net.b(x))
        return net.head(made.abs())

    model = Many(
        forward,
        a=nn.Linear(WIDTH, WIDTH, bias=False),
        b=nn.Linear(WIDTH, WIDTH, bias=False),
        head=nn.Linear(WIDTH, CLASSES),
    )
    square = linear("add", WIDTH, WIDTH)
    assert_planned(model, (numbers(2, WIDTH), numbers(2, WIDTH)), {"a": square, "b": square, "head": HEAD})


# Sequences of many lengths.


def test_packed_sequences():
    """Packing and unpacking move the steps; lengths must be real numbers."""

    def forward(net: Any, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(net.embed(x), lengths, batch_first=True, enforce_sorted=False)
        out, _ = pad_packed_sequence(net.lstm(packed)[0], batch_first=True)
        return net.head(out)

    model = Many(
        forward,
        embed=nn.Linear(WIDTH, WIDTH),
        lstm=nn.LSTM(WIDTH, HIDDEN, batch_first=True),
        head=nn.Linear(HIDDEN, CLASSES),
    )
    expected = {
        "embed": linear("weight", WIDTH, WIDTH),
        "lstm.weight_ih_l0": lstm(WIDTH, HIDDEN),
        "lstm.weight_hh_l0": lstm(HIDDEN, HIDDEN),
        "head": linear("output", HIDDEN, CLASSES),
    }
    assert_planned(model, (numbers(2, 4, WIDTH), torch.tensor([4, 2])), expected)


def test_padded_lists():
    """`pad_sequence` of a list of tensors."""
    model = Net(
        lambda net, xs: net.head(F.relu(net.body(nn.utils.rnn.pad_sequence(xs, batch_first=True)))),
        body=nn.Linear(WIDTH, WIDTH),
        head=nn.Linear(WIDTH, CLASSES),
    )
    assert_planned(model, ([numbers(2, WIDTH), numbers(3, WIDTH)],), {"body": relu(WIDTH), "head": HEAD})


def test_nested_tensors():
    """Lists of tensors of many lengths in one: a result, or an error that names them."""

    def forward(net: Any, x: Tensor, y: Tensor) -> Tensor:
        nested = torch.nested.as_nested_tensor([x, y], layout=torch.jagged)
        return net.head(F.relu(net.body(nested))).values()

    model = Many(forward, body=nn.Linear(WIDTH, WIDTH), head=nn.Linear(WIDTH, CLASSES))
    assert_planned(model, (numbers(2, WIDTH), numbers(3, WIDTH)), {"body": relu(WIDTH), "head": HEAD})


# Functions of functions.


def test_a_mapped_function():
    """`torch.vmap` over the rows."""
    model = Net(
        lambda net, x: net.head(torch.vmap(lambda row: F.relu(net.body(row)))(x)),
        body=nn.Linear(WIDTH, WIDTH),
        head=nn.Linear(WIDTH, CLASSES),
    )
    assert_planned(model, (4, WIDTH), {"body": relu(WIDTH), "head": HEAD})


def test_a_conditional_of_tensors():
    """`torch.cond` is an operator of its own, whose branches are not looked into: it is said."""

    def forward(net: Any, x: Tensor) -> Tensor:
        x = net.body(x)
        return net.head(torch.cond(x.sum() > 0, lambda y: F.relu(y), lambda y: F.relu(y) * 2, (x,)))

    model = Net(forward, body=nn.Linear(WIDTH, WIDTH), head=nn.Linear(WIDTH, CLASSES))
    made = assert_planned(model, (4, WIDTH), {"body": UNRESOLVED, "head": HEAD})
    assert "cond" in made["body"].note
