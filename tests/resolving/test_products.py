"""Products: beside what no weight made the walk goes on; where nothing is summed, or a parameter is bent, no weight is.

A weight's gain stands for what its layer feeds behind such a product. Fans are counted from the sums by hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoinit import autoinit, check, plan
from tests.shared.written_nets import Layer, Many, Net, assert_planned, linear, numbers, relu, softmax, softplus, tanh

WIDTH, HIDDEN, CLASSES, NODES = 6, 8, 3, 5


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0)))


# Beside what no weight made.

INPUT_MATRIX = (numbers(NODES, WIDTH), torch.rand(NODES, NODES, generator=torch.Generator().manual_seed(0)))
INPUT_MASK = (numbers(2, NODES, WIDTH), torch.ones(2, NODES))

PASSED: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], tuple[Tensor, Tensor]]] = {
    "matmul": (lambda h, a: a @ h, INPUT_MATRIX),
    "mm": (lambda h, a: torch.mm(a, h), INPUT_MATRIX),
    "einsum": (lambda h, a: torch.einsum("uv,vf->uf", a, h), INPUT_MATRIX),
    "sparse_mm": (lambda h, a: torch.sparse.mm(a.to_sparse(), h), INPUT_MATRIX),
    "spmm": (lambda h, a: torch.spmm(a.to_sparse().coalesce(), h), INPUT_MATRIX),
    "sparse_csr": (lambda h, a: a.to_sparse_csr() @ h, INPUT_MATRIX),
    "addmm": (lambda h, a: torch.addmm(torch.zeros(HIDDEN), a, h), INPUT_MATRIX),
    "normalised": (lambda h, a: (a / a.sum(1, keepdim=True)) @ h, INPUT_MATRIX),
    "symmetrically_normalised": (
        lambda h, a: (a.sum(1).rsqrt()[:, None] * a * a.sum(0).rsqrt()[None]) @ h,
        INPUT_MATRIX,
    ),
    "mask_times": (lambda h, m: h * m.unsqueeze(-1), INPUT_MASK),
    "mask_method": (lambda h, m: m[..., None].mul(h), INPUT_MASK),
    "mask_in_place": (lambda h, m: h.mul_(m[..., None]), INPUT_MASK),
    "mask_einsum": (lambda h, m: torch.einsum("bt,btf->btf", m, h), INPUT_MASK),
    "length": (lambda h, m: h / m.sum(1)[:, None, None], INPUT_MASK),
}


@pytest.mark.parametrize("key", PASSED)
def test_a_product_with_an_input_is_passed(key: str):
    """relu(A lin(x)), relu(m lin(x)): the layer feeds the relu, as it does behind a sum by index_add."""
    multiply, inputs = PASSED[key]
    model = Many(
        lambda net, x, given: net.last(F.relu(multiply(net.first(x), given))),
        first=nn.Linear(WIDTH, HIDDEN),
        last=nn.Linear(HIDDEN, CLASSES),
    )
    expected = {"first": relu(WIDTH), "last": linear("output", HIDDEN, CLASSES)}
    assert_planned(model, inputs, expected)


@pytest.mark.parametrize("key", sorted(PASSED.keys() - {"sparse_mm", "spmm", "sparse_csr", "mask_in_place"}))
def test_a_product_with_an_input_is_passed_in_an_exported_program(key: str):
    multiply, inputs = PASSED[key]
    model = Many(
        lambda net, x, given: net.last(F.relu(multiply(net.first(x), given))),
        first=nn.Linear(WIDTH, HIDDEN),
        last=nn.Linear(HIDDEN, CLASSES),
    )
    assert plan(torch.export.export(model, inputs))["first"].nonlinearity == "relu"


class TwoInputs(nn.Module):
    """A graph convolution that the symbolic tier can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        return torch.log_softmax(self.last(adjacency @ F.relu(adjacency @ self.first(x))), -1)


@pytest.mark.parametrize("inputs", [None, INPUT_MATRIX], ids=["no_input", "input"])
def test_a_graph_convolution(inputs: Any):
    """Kipf & Welling 2017: A relu(A X W) W'."""
    assert_planned(TwoInputs(), inputs, {"first": relu(WIDTH), "last": softmax(HIDDEN, CLASSES)})


MADE: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "gate": (lambda net, x: net.first(x) * net.second(x), "gate"),
    "quotient": (lambda net, x: net.first(x) / net.second(x), "gate"),
    "einsum_gate": (lambda net, x: torch.einsum("bf,bf->bf", net.first(x), net.second(x)), "attention"),
    "matmul": (lambda net, x: net.first(x) @ net.second(x).T, "attention"),
    "embedding": (lambda net, x: net.first(x) * net.table(torch.zeros(2, dtype=torch.long)), "gate"),
    "sdpa_keys": (lambda net, x: F.scaled_dot_product_attention(net.first(x), net.second(x), x), "attention"),
}


@pytest.mark.parametrize("key", MADE)
def test_a_product_of_two_that_weights_made_is_not_passed(key: str):
    multiply, reason = MADE[key]
    model = Net(
        lambda net, x: F.relu(multiply(net, x)),
        first=nn.Linear(WIDTH, WIDTH),
        second=nn.Linear(WIDTH, WIDTH),
        table=nn.Embedding(4, WIDTH),
    )
    made = plan(model, (numbers(2, WIDTH),))
    assert (made["first"].nonlinearity, made["first"].reason) == ("linear", reason)


def test_attention_of_inputs_passes_its_values():
    """Queries and keys are inputs: their softmax is a matrix that no weight made, and the values feed the relu."""
    model = Net(
        lambda net, x: F.relu(F.scaled_dot_product_attention(x, x, net.value(x))), value=nn.Linear(WIDTH, WIDTH)
    )
    assert_planned(model, (numbers(2, NODES, WIDTH),), {"value": relu(WIDTH)})


@pytest.mark.parametrize(("side", "parted"), [("left", True), ("right", False)])
def test_halves_behind_a_matrix(side: str, parted: bool):
    """A h keeps the features apart, h A mixes them: then each row feeds both, and the smaller gain stands."""

    def forward(net: Any, x: Tensor, matrix: Tensor) -> Tensor:
        h = net.first(x)
        a, b = (matrix @ h if side == "left" else h @ matrix).chunk(2, -1)
        return F.relu(a) + torch.tanh(b)

    model = Many(forward, first=nn.Linear(WIDTH, HIDDEN))
    made = plan(model, (numbers(HIDDEN, WIDTH), numbers(HIDDEN, HIDDEN)))["first"]
    assert [part.rows for part in made.slices] == ([((0, 4),), ((4, 8),)] if parted else [])
    assert made.reason == "mixed"


# Nothing is summed, or a parameter is bent.

UNSUMMED: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "mamba": lambda net, x: torch.einsum("bld,dn->bldn", F.softplus(net.first(x)), -torch.exp(net.w)),
    "scale": lambda net, x: torch.einsum("bld,dn->bldn", F.softplus(net.first(x)), net.w),
    "tensordot": lambda net, x: torch.tensordot(F.softplus(net.first(x)), net.w, dims=0),
    "outer": lambda net, x: torch.outer(F.softplus(net.first(x)).flatten(), net.w.flatten()),
    "kron": lambda net, x: torch.kron(F.softplus(net.first(x)), net.w),
    "product": lambda net, x: F.softplus(net.first(x)).unsqueeze(-1) * -torch.exp(net.w),
}


@pytest.mark.parametrize("key", UNSUMMED)
def test_what_nothing_is_summed_over_is_no_weight(key: str):
    """Each output is one product: W is a scale, listed among the other parameters."""
    model = Net(lambda net, x: UNSUMMED[key](net, x), first=nn.Linear(WIDTH, WIDTH), w=parameter(WIDTH, 4))
    made = assert_planned(model, (numbers(2, NODES, WIDTH),), {"first": softplus(WIDTH)})
    assert {each.name: each.kind for each in made.others} == {"w": "other"}


def test_what_nothing_is_summed_over_is_listed_with_the_reason():
    model = Net(lambda net, x: UNSUMMED["mamba"](net, x), first=nn.Linear(WIDTH, WIDTH), w=parameter(WIDTH, 4))
    (other,) = plan(model, (numbers(2, NODES, WIDTH),)).others
    assert other.note == "left as it is: einsum multiplies by it, and sums nothing over it"


def test_mamba_keeps_its_rates():
    """exp(dt A) with A = -exp(A_log), A_log the logarithms of 1 to n: autoinit writes dt's layer and nothing else."""
    rates = nn.Parameter(torch.arange(1.0, 5.0).log().expand(WIDTH, 4).clone())
    model = Net(lambda net, x: torch.exp(UNSUMMED["mamba"](net, x)), first=nn.Linear(WIDTH, WIDTH), w=rates)
    before = rates.detach().clone()
    autoinit(model, (numbers(2, NODES, WIDTH),), verbose=False)
    assert torch.equal(rates, before)


BENT: dict[str, Callable[[Tensor], Tensor]] = {
    "exp": torch.exp,
    "minus_exp": lambda w: -torch.exp(w),
    "softplus": F.softplus,
    "sigmoid": torch.sigmoid,
    "square": torch.square,
    "cos": torch.cos,
    "softmax": lambda w: w.softmax(-1),
    "nalu": lambda w: torch.tanh(w) * torch.sigmoid(w),
}
USES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "linear": lambda x, w: F.linear(x, w),
    "matmul": lambda x, w: x @ w.T,
    "einsum": lambda x, w: torch.einsum("bi,oi->bo", x, w),
    "conv": lambda x, w: F.conv1d(x.unsqueeze(-1), w.unsqueeze(-1)),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("key", BENT)
def test_a_parameter_behind_a_function_not_proportional_to_it_is_left(key: str, use: str):
    """No std of w gives f(w) a wanted one; the layer before feeds a weight all the same."""
    model = Net(
        lambda net, x: F.relu(USES[use](net.first(x), BENT[key](net.w))),
        first=nn.Linear(WIDTH, HIDDEN),
        w=parameter(CLASSES, HIDDEN),
    )
    made = assert_planned(model, (numbers(2, WIDTH),), {"first": linear("weight", WIDTH, HIDDEN)})
    (other,) = made.others
    assert (other.name, other.kind) == ("w", "other")
    assert "which is not proportional to it" in other.note


PROPORTIONAL: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "times": (lambda w: 3 * w, 3.0),
    "magnitudes": (torch.abs, math.sqrt(1 - 2 / math.pi)),
    "bounded": (lambda w: w.clamp(-100, 100), 1.0),
}


@pytest.mark.parametrize("key", PROPORTIONAL)
def test_a_parameter_behind_a_proportional_function_is_a_weight(key: str):
    """The std of |w| is sqrt(1 - 2 / pi) that of w."""
    change, factor = PROPORTIONAL[key]
    model = Net(lambda net, x: F.relu(F.linear(x, change(net.w))), w=parameter(64, 128))
    assert plan(model, (numbers(2, 128),))["w"].std == pytest.approx(math.sqrt(2 / 128) / factor, rel=0.03)


EXPERTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "einsum_shared_input": lambda x, w: torch.einsum("ni,eio->eno", x, w),
    "einsum_features_last": lambda x, w: torch.einsum("ni,eio->neo", x, w),
    "einsum_own_inputs": lambda x, w: torch.einsum("eni,eio->eno", x.expand(4, -1, -1), w),
    "bmm": lambda x, w: torch.bmm(x.expand(4, -1, -1), w),
    "matmul": lambda x, w: x @ w,
    "einsum_transposed": lambda x, w: torch.einsum("ni,eoi->eno", x, w.transpose(1, 2)),
}


@pytest.mark.parametrize("key", EXPERTS)
def test_stacked_experts(key: str):
    """Four matrices of 64 -> 96: sqrt(2 / (64 + 96)) = 0.1118 however they are written."""
    model = Net(lambda net, x: EXPERTS[key](x, net.w), w=parameter(4, 64, 96))
    made = plan(model, (numbers(3, 64),))["w"]
    assert (made.fan_in, made.fan_out, made.std) == (64, 96, pytest.approx(0.1118, rel=1e-3))


# Vectors.


def column(nonlinearity: str, reason: str, count: int) -> Layer:
    """A weight of one output: sqrt(2 / (count + 1))."""
    return Layer(nonlinearity, reason, math.sqrt(2 / (count + 1)))


SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "matmul": lambda h, v: h @ v,
    "method": lambda h, v: h.matmul(v),
    "einsum": lambda h, v: torch.einsum("btf,f->bt", h, v),
    "column": lambda h, v: (h @ v.unsqueeze(-1)).squeeze(-1),
    "linear": lambda h, v: F.linear(h, v),
    "linear_of_a_row": lambda h, v: F.linear(h, v[None]).squeeze(-1),
}


@pytest.mark.parametrize("way", ["recorded", "guessed", "exported"])
@pytest.mark.parametrize("key", SCORES)
def test_additive_attention(key: str, way: str):
    """Bahdanau et al. 2015: softmax over positions of v tanh(W h). v is a weight of 64 inputs and one output."""

    def forward(net: Any, h: Tensor) -> Tensor:
        scores = SCORES[key](torch.tanh(net.W(h)), net.v)
        return (torch.softmax(scores, -1).unsqueeze(-1) * h).sum(1)

    model = Net(forward, W=nn.Linear(64, 64), v=parameter(64))
    x = torch.zeros(2, NODES, 64)
    given = torch.export.export(model, (x,)) if way == "exported" else model
    made = assert_planned(
        given, x if way == "recorded" else None, {"W": tanh(64, 64), "v": column("softmax", "softmax", 64)}
    )
    assert not made.others


@pytest.mark.parametrize("distribution", ["normal", "uniform", "truncated_normal", "orthogonal"])
def test_a_vector_is_written_and_found_right(distribution: Any):
    """F.linear with a weight of shape (300,): std sqrt(2 / 301)."""
    model = Net(lambda net, x: F.linear(F.relu(net.first(x)), net.v), first=nn.Linear(8, 300), v=parameter(300))
    x = numbers(4, 8)
    autoinit(model, x, seed=0, verbose=False, distribution=distribution)
    assert model.v.std().item() == pytest.approx(math.sqrt(2 / 301), rel=0.15)
    assert check(model, x).ok
