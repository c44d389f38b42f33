"""Recordings on meta where forward asks for values: what follows from the inputs or from parameters is computed, what
depends on a layer's output is assumed, and named.

The models are made on meta, where their weights have no values, unless a test says so: then no real run could help. The
expected shapes are those of the assumption as the room `assuming` words it, worked out by hand.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoinit import plan
from autoinit.errors import TraceError
from autoinit.tracing import trace
from autoinit.tracing._kernels import run
from autoinit.tracing._run_limits import RunCost, TooMuchError
from autoinit.tracing.dataflow import Dataflow

WIDTH = 8
ROWS = torch.zeros(5, WIDTH)


class Net(nn.Module):
    """Two layers and a forward."""

    def __init__(self, forward: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.steps = nn.Parameter(torch.tensor(3.0))
        self.way = forward

    def forward(self, x: Tensor) -> Any:
        return self.way(self, x)


def on_meta(forward: Callable[[Any, Tensor], Any]) -> Net:
    with torch.device("meta"):
        return Net(forward)


def taken(found: Dataflow) -> list[tuple[str, str]]:
    """(operations, taken as) of each assumption."""
    told = [re.fullmatch(r"no value while tracing: (.+) at \w+\.py:\d+, taken as (.+)", note) for note in found.notes]
    return [(each[1], each[2]) for each in told if each]


# Sizes.


def by_mask(net: Any, x: Tensor) -> Tensor:
    y = net.a(x)
    return net.b(y[y.sum(1) > 0])


def by_rows_and_columns(net: Any, x: Tensor) -> Tensor:
    y = net.a(x)
    return net.b(y.repeat(2, 1)[torch.cat([y[:, 0] > 0, y[:, 1] < 1]), :])


def by_nonzero(net: Any, x: Tensor) -> Tensor:
    y = net.a(x)
    return net.b(y[y[:, 0].nonzero().flatten()])


def by_where(net: Any, x: Tensor) -> Tensor:
    y = net.a(x)
    return net.b(y[torch.where(y[:, 0] > 0)[0]])


def by_masked_select(net: Any, x: Tensor) -> Tensor:
    y = net.a(x)
    return net.b(y.masked_select(y > 0).view(-1, WIDTH))


def by_unique(net: Any, x: Tensor) -> Tensor:
    y = net.a(x)
    return net.b(y[: len(torch.unique(y[:, 0]))])


def by_inverse(net: Any, x: Tensor) -> Tensor:
    y = net.a(x)
    return net.b(y[torch.unique(y[:, 0], return_inverse=True)[1]])


SIZES = {
    by_mask: (5, [("gt", "all true")]),
    by_rows_and_columns: (10, [("gt, lt", "all true")]),
    by_nonzero: (5, [("nonzero", "all true")]),
    by_where: (5, [("gt", "all true")]),
    by_masked_select: (5, [("gt", "all true")]),
    by_unique: (5, [("unique", "all distinct")]),
    by_inverse: (5, [("unique", "all distinct")]),
}


@pytest.mark.parametrize("way", SIZES, ids=lambda way: way.__name__)
def test_sizes_that_depend_on_weights(way: Callable[..., Tensor]):
    rows, assumed = SIZES[way]
    found = trace(on_meta(way), ROWS)
    assert found.by_name["b"].shape == (rows, WIDTH)
    assert taken(found) == assumed
    assert found.uncalled == ()


@torch.library.custom_op("autoinit_answering::nms", mutates_args=())
def nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Declared as torchvision's, without a kernel for meta."""
    return scores.argsort(descending=True)


def test_boxes_are_all_kept():
    def forward(net: Any, x: Tensor) -> Tensor:
        y = net.a(x)
        return net.b(y[nms(y[:, :4], y[:, 4], 0.5)[:3]])

    found = trace(on_meta(forward), ROWS)
    assert found.by_name["b"].shape == (3, WIDTH)
    assert taken(found) == [("nms", "all kept")]


def test_an_assumption_is_named_once():
    def forward(net: Any, x: Tensor) -> Tensor:
        y = net.a(x)
        for _ in range(3):
            y = y[y.sum(1) > 0]
        return net.b(y)

    assert taken(trace(on_meta(forward), ROWS)) == [("gt", "all true")]


def test_a_mask_from_the_inputs_is_known():
    """Three of five rows stay, of a tensor that itself has no values; nothing is assumed."""

    def forward(net: Any, x: Tensor) -> Tensor:
        return net.b(net.a(x)[x[:, 0] > 0, :])

    x = ROWS.clone()
    x[1:4, 0] = 1.0
    found = trace(on_meta(forward), x)
    assert found.by_name["b"].shape == (3, WIDTH)
    assert taken(found) == []


# Values that need no assumption.


def test_what_only_shapes_decide_is_known():
    """Of `zeros_like(y)`, `expand_as(y)`, `to(y)` the values do not depend on y."""

    def forward(net: Any, x: Tensor) -> Tensor:
        y = net.a(x)
        chosen = torch.zeros_like(y[:, 0])
        chosen[1:3] = 1
        spread = torch.arange(2)[:, None].expand_as(y[:2]).to(y)
        return net.b(y[chosen > 0] * spread.sum().item())

    found = trace(on_meta(forward), ROWS)
    assert found.by_name["b"].shape == (2, WIDTH)
    assert 8.0 in {value for op in found.graph.nodes for value in op.constants.values() if isinstance(value, float)}
    assert taken(found) == []


def test_what_only_parameters_decide_is_known(monkeypatch):
    def forward(net: Any, x: Tensor) -> Tensor:
        x = net.a(x)
        for _ in range(int(net.steps.item())):
            x = F.relu(x)
        return net.b(x) if net.steps > 2 else x

    monkeypatch.setattr("autoinit.tracing.attempts._MOST_REAL_BYTES", 0)  # no real run
    found = trace(Net(forward), ROWS)
    assert sum(op.op == "relu" for op in found.graph.nodes) == 3
    assert taken(found) == []
    assert found.uncalled == ()


def test_the_inputs_are_left_as_they_are():
    """They are computed with in place, in a forward that does so."""

    def forward(net: Any, x: Tensor) -> Tensor:
        x += 1
        x[0] = 2
        F.relu(x, True)
        return net.b(net.a(x)[: int(x[:, 0].sum()) - 2])  # rows of 2, 1, 1, 1, 1

    x = ROWS.clone()
    assert trace(on_meta(forward), x).by_name["b"].shape == (4, WIDTH)
    assert torch.equal(x, ROWS)


# Numbers and indices.


def test_numbers_are_taken_as_one():
    def forward(net: Any, x: Tensor) -> Tensor:
        y = net.a(x)
        first, last = y.min().to(torch.int64), y.max().to(torch.int64)
        return net.b(y[int(last - first) : int(last) + 3])

    found = trace(on_meta(forward), ROWS)
    assert found.by_name["b"].shape == (4, WIDTH)  # rows 0 to 3
    assert taken(found) == [("max, min", "1")]


def test_sizes_that_follow_from_the_inputs():
    """They are taken from tensors where torch wants numbers, for a tensor too large to be computed."""

    def forward(net: Any, sizes: Tensor) -> Tensor:
        y = net.a(torch.zeros(1, WIDTH)).expand(1 << 22, WIDTH).T[None]
        for size in sizes:
            y = F.interpolate(y, size=(size,), mode="nearest")
        return net.b(y[0].T.repeat(sizes[0] - 1, 1))

    found = trace(on_meta(forward), torch.tensor([3, 4]))
    assert found.by_name["b"].shape == (2 * 4, WIDTH)
    assert taken(found) == []


def test_buffers_without_values():
    """As a model has them that was made on meta."""

    class Pads(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(4, 4, 3)
            self.register_buffer("before", torch.tensor(2), persistent=False)
            self.after = torch.tensor(2)

        def forward(self, x):
            return torch.relu(self.conv(F.pad(x, (self.before, self.after))))

    with torch.device("meta"):
        model = Pads()
    found = trace(model, torch.zeros(1, 4, 7))
    assert found.by_name["conv"].shape == (1, 4, 7 + 2 - 2)
    assert [note for note in found.notes if "before" in note and note.endswith("taken as 1")]


def test_chosen_experts_are_spread():
    """Six tokens of two choices each among four experts: three tokens for each, as the counts say."""

    class Mixture(nn.Module):
        def __init__(self):
            super().__init__()
            self.router = nn.Linear(WIDTH, 4, bias=False)
            self.experts = nn.ModuleList([nn.Linear(WIDTH, WIDTH) for _ in range(4)])

        def forward(self, x):
            places = self.router(x).topk(2).indices.flatten()
            counts = places.bincount(minlength=4).tolist()
            sorted_rows = x.repeat_interleave(2, 0)[places.argsort()]
            parts = zip(self.experts, sorted_rows.split(counts), strict=True)
            return torch.cat([F.relu(expert(part)) for expert, part in parts])

    with torch.device("meta"):
        model = Mixture()
    found = trace(model, torch.zeros(6, WIDTH))
    assert [found.by_name[f"experts.{number}"].shape for number in range(4)] == [(3, WIDTH)] * 4
    assert taken(found) == [("getitem", "spread evenly")]


@pytest.mark.parametrize("real", [False, True], ids=["meta", "with_values"])
def test_every_expert_is_called(real: bool):
    """One token goes to two of eight experts; a real run calls those alone."""

    class Mixture(nn.Module):
        def __init__(self):
            super().__init__()
            self.router = nn.Linear(WIDTH, 8, bias=False)
            self.experts = nn.ModuleList([nn.Linear(WIDTH, WIDTH) for _ in range(8)])

        def forward(self, x):
            weights, chosen = self.router(x).softmax(-1).topk(2)
            mask = F.one_hot(chosen, 8).permute(2, 1, 0)
            out = torch.zeros_like(x)
            for number in (mask.sum((1, 2)) > 0).nonzero():
                rank, token = torch.where(mask[number[0]])
                made = F.relu(self.experts[number[0]](x[token])) * weights[token, rank, None]
                out.index_add_(0, token, made)
            return out

    with torch.device("cpu" if real else "meta"):
        model = Mixture()
    found = plan(model, torch.randn(1, WIDTH))
    assert {name: layer.nonlinearity for name, layer in found.items()} == {
        "router": "softmax",
        **{f"experts.{number}": "relu" for number in range(8)},
    }


# Conditions.


def exits_early(net: Any, x: Tensor) -> Tensor:
    y = F.relu(net.a(x))
    return y if bool((y > 0).all()) else net.b(y)


def goes_on(net: Any, x: Tensor) -> Tensor:
    y = F.relu(net.a(x))
    return net.b(y) if y.norm() > 1 else y


def loops(net: Any, x: Tensor) -> Tensor:
    y = net.a(x)
    while y.abs().max() > 1e-3:
        y = F.relu(net.b(y))
    return y


def guards(net: Any, x: Tensor) -> Tensor:
    y = F.relu(net.a(x))
    if torch.isnan(y).any():
        raise FloatingPointError("no number")
    return net.b(y)


CONDITIONS = {
    exits_early: [("gt", "all true"), ("all", "false")],
    goes_on: [("gt", "true")],
    guards: [("isnan", "nowhere true"), ("any", "false")],
}


@pytest.mark.parametrize("way", CONDITIONS, ids=lambda way: way.__name__)
def test_conditions_go_the_way_that_calls_most(way: Callable[..., Tensor]):
    found = trace(on_meta(way), ROWS)
    assert found.uncalled == ()
    assert set(CONDITIONS[way]) <= set(taken(found))


def test_a_loop_that_waits_for_values_is_run_and_left():
    found = trace(on_meta(loops), ROWS)
    assert found.uncalled == ()
    assert sum(op.op == "relu" for op in found.graph.nodes) == 1


def test_what_cannot_go_on_says_so():
    def forward(net: Any, x: Tensor) -> Tensor:
        if net.a(x).sum() != 0:
            raise ValueError("no way")
        raise ValueError("no other way")

    with pytest.raises(TraceError, match=r"Tensor\.item\(\) cannot be called on meta tensors"):
        trace(on_meta(forward), ROWS)


@pytest.mark.parametrize("wraps", [True, False], ids=["that names what it wraps", "without a name"])
def test_a_forward_behind_a_decorator_that_hides_its_arguments(wraps):
    def hiding(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return functools.wraps(function)(call) if wraps else call

    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(WIDTH, WIDTH)

        @hiding
        def forward(self, x, *, scale=1.0):
            return self.inner(x) * scale

    assert trace(Hidden(), ROWS).tier == "recorded"
    if wraps:
        assert trace(Hidden()).tier == "symbolic"
        assert trace(Hidden()).uncalled == ()
        return
    with pytest.raises(TraceError, match="a decorator hides them behind"):
        trace(Hidden(), tier="symbolic")


# What no mode sees.


def test_a_function_of_torchscript_without_python_is_one_unknown_call():
    def halves(x: Tensor, scale: Tensor) -> Tensor:
        return x / (scale + 1e-9).relu()

    scripted = torch.jit.script(halves)
    del scripted._torchdynamo_inline
    model = Net(lambda net, x: net.b(scripted(net.a(x), net.steps)))
    found = plan(model, ROWS)
    assert found["a"].status == "unresolved"
    assert "halves" in found["a"].note
    assert (found["b"].nonlinearity, found["b"].reason) == ("linear", "output")
    assert torch.equal(scripted(torch.ones(2), torch.ones(2)), torch.ones(2))


def test_parameters_that_others_stand_in_for():
    """`functional_call` leaves the module's own parameters out."""

    def forward(net: Any, x: Tensor) -> Tensor:
        return F.relu(torch.func.functional_call(net.a, {"weight": net.b.weight}, (x,)))

    found = plan(Net(forward), ROWS)
    assert {name: layer.nonlinearity for name, layer in found.items()} == {"b": "relu"}
    assert "a.weight" in [each.name for each in found.others if each.kind == "uncalled"]


# Real runs are bounded.


def test_a_product_too_large_for_a_real_run():
    with torch.device("meta"):
        left, right = torch.empty(1 << 14, 2), torch.empty(2, 1 << 15)
    with pytest.raises(TooMuchError, match=re.escape("5e+08 elements; up to 3e+08")):
        RunCost().before("matmul", (left, right))


def test_too_many_products_for_a_real_run():
    cost = RunCost()
    with torch.device("meta"):
        layer, result = nn.Linear(1 << 10, 1 << 10), torch.empty(1 << 17, 1 << 10)
    cost.after(layer, result)  # 2^37
    cost.after(layer, result)  # 2^38
    with pytest.raises(TooMuchError, match=re.escape("more than 3e+11 multiplications")):
        cost.after(layer, result)


def test_a_real_run_that_would_take_too_long(monkeypatch):
    def forward(net: Any, x: Tensor) -> Tensor:
        y = net.a(x)
        return net.b(F.relu(y)) if y.sum() < 2 else net.b(y)

    monkeypatch.setattr("autoinit.tracing._run_limits._MOST_PRODUCTS", 100)
    found = trace(Net(forward), ROWS)
    assert taken(found) == [("sum", "1"), ("lt", "true")]
    assert "relu" in found.by_name


# Shapes on meta that torch's kernels are not asked for.


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def attends(*shapes: tuple[int, ...], **options: Any) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    return F.scaled_dot_product_attention, tuple(empty(*shape) for shape in shapes), options


CALLS: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any]]] = {
    "add": (torch.add, (empty(2, 1, 4), empty(3, 1)), {}),
    "add_alpha": (torch.add, (empty(2, 4), empty(4)), {"alpha": 2}),
    "mul_number": (torch.Tensor.mul, (empty(2, 4), 3), {}),
    "div_half": (torch.div, (empty(2, 4, dtype=torch.float16), empty(2, 4)), {}),
    "sub_integers": (torch.sub, (empty(2, 4, dtype=torch.int64), 0.5), {}),
    "exp": (torch.exp, (empty(2, 4),), {}),
    "exp_integers": (torch.exp, (empty(2, 4, dtype=torch.int64),), {}),
    "bicubic": (F.interpolate, (empty(2, 3, 7, 7), (4, 5)), {"mode": "bicubic"}),
    "bilinear": (F.interpolate, (empty(2, 3, 7, 7),), {"size": 9, "mode": "bilinear"}),
    "bilinear_factor": (F.interpolate, (empty(2, 3, 7, 7),), {"scale_factor": 2.0, "mode": "bilinear"}),
    "attention": attends((2, 4, 5, 8), (2, 4, 6, 8), (2, 4, 6, 3)),
    "attention_mask": attends((2, 4, 5, 8), (2, 4, 6, 8), (2, 4, 6, 3), (5, 6)),
    "attention_groups": attends((2, 4, 5, 8), (2, 2, 6, 8), (2, 2, 6, 8), enable_gqa=True),
    "layer_norm": (F.layer_norm, (empty(2, 3, 4), (3, 4), empty(3, 4)), {"eps": 1e-6}),
    "layer_norm_half": (F.layer_norm, (empty(2, 4, dtype=torch.float16), [4]), {}),
    "attention_of_one": attends((5, 8), (6, 8), (6, 8)),
}


@pytest.mark.parametrize("name", CALLS)
def test_shapes_are_those_of_torch(name: str):
    func, args, kwargs = CALLS[name]
    with torch.no_grad():
        found, expected = run(func, args, kwargs), func(*args, **kwargs)
    assert (found.shape, found.dtype, found.device) == (expected.shape, expected.dtype, expected.device)


MISFITS: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any]]] = {
    "add": (torch.add, (empty(2, 4), empty(3)), {}),
    "layer_norm": (F.layer_norm, (empty(2, 4), (2,)), {}),
    "layer_norm_weight": (F.layer_norm, (empty(2, 4), (4,), empty(2)), {}),
    "attention": attends((2, 4, 5, 8), (2, 4, 6, 7), (2, 4, 6, 7)),
    "attention_groups": attends((2, 4, 5, 8), (2, 2, 6, 8), (2, 2, 6, 8)),
    "attention_mask": attends((2, 4, 5, 8), (2, 4, 6, 8), (2, 4, 6, 8), (5, 7)),
}


@pytest.mark.parametrize("name", MISFITS)
def test_what_does_not_fit_fails(name: str):
    func, args, kwargs = MISFITS[name]
    with torch.no_grad(), pytest.raises((RuntimeError, ValueError), match=r"(?i)size|shape|broadcast|match"):
        run(func, args, kwargs)


# Detection models.


@pytest.mark.parametrize("name", ["fasterrcnn_mobilenet_v3_large_320_fpn", "ssd300_vgg16"])
def test_a_detection_model_is_planned_from_meta(name: str):
    """Its boxes are those that its scores leave: all are kept, and no real run is made, which would take seconds."""
    detection = pytest.importorskip("torchvision").models.detection
    with torch.device("meta"):
        model = getattr(detection, name)(weights=None, weights_backbone=None)
    found = plan(model)
    weights = {name for name, parameter in model.named_parameters() if parameter.dim() >= 2}
    assert found.tier == "recorded"
    assert weights == {layer.param for layer in found.layers}
    assert {layer.status for layer in found.layers} == {"planned"}
    assert found.unsupported == ()
    assert any("nms at boxes.py" in note and note.endswith("taken as all kept") for note in found.notes)
    scores = "roi_heads.box_predictor.cls_score" if "rcnn" in name else "head.classification_head.module_list.0"
    assert found[scores].nonlinearity == "softmax"


def test_stand_ins_for_compiled_operators():
    """Of three boxes the second overlaps the first by 1/2 over 3/2, a third of both; the third lies apart."""
    torchvision = pytest.importorskip("torchvision")
    boxes = torch.tensor([[0.0, 0, 1, 1], [0.5, 0, 1.5, 1], [5, 5, 6, 6]])
    scores = torch.tensor([0.5, 0.9, 0.1])
    assert torchvision.ops.nms(boxes, scores, 0.3).tolist() == [1, 2]
    assert torchvision.ops.nms(boxes, scores, 0.4).tolist() == [1, 0, 2]
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    pooled = torchvision.ops.roi_align(ramp, [torch.tensor([[2.0, 2, 6, 6]])], (2, 2), aligned=True)
    assert torch.allclose(pooled, torch.tensor([[2.5, 4.5], [2.5, 4.5]]))  # the middles of 2..4 and 4..6, less a half
