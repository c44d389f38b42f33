"""The t5 recipe: queries by the width of a head, as the graph shows it; a head by whether it is the embedding."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoinit import plan
from autoinit.checking.checker import check
from tests.shared.models.published import T5Attention
from tests.shared.published_cases import WORDS, t5

HEADS, HEAD_WIDTH, WIDTH = 6, 16, 64
Spelling = Callable[[Tensor, Tensor, Tensor], Tensor]


def _by_einsum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (each.reshape(*each.shape[:2], HEADS, HEAD_WIDTH) for each in (q, k, v))
    weights = torch.einsum("bqhd,bkhd->bhqk", q, k).softmax(-1)
    return torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2)


def _by_view(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (each.view(each.shape[0], -1, HEADS, HEAD_WIDTH).permute(0, 2, 1, 3) for each in (q, k, v))
    return (F.softmax(torch.matmul(q, k.mT), dim=-1) @ v).transpose(1, 2).flatten(2)


def _by_torch(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (each.unflatten(-1, (HEADS, HEAD_WIDTH)).transpose(1, 2) for each in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, scale=1.0).transpose(1, 2).flatten(2)


SPELLINGS: dict[str, Spelling] = {"einsum": _by_einsum, "view": _by_view, "sdpa": _by_torch}


@pytest.fixture(params=SPELLINGS.values(), ids=SPELLINGS)
def spelled(request, monkeypatch):
    """T5's attention, written in one of several ways."""
    spelling: Spelling = request.param

    def forward(self: T5Attention, x: Tensor, memory: Tensor) -> Tensor:
        return self.o(spelling(self.q(x), self.k(memory), self.v(memory)))

    monkeypatch.setattr(T5Attention, "forward", forward)


def told(model: nn.Module, recipe: str) -> dict[str, tuple[float | None, str]]:
    """By parameter, the std expected and the severity of every finding about a scale."""
    findings = check(model, (WORDS, WORDS), recipe=recipe, select=["INI1"]).findings
    return {each.param: (each.expected_std, each.severity) for each in findings if each.severity != "info"}


@pytest.mark.usefixtures("spelled")
@pytest.mark.parametrize("recipe", ["t5", "auto"])
def test_queries_are_held_against_the_width_of_a_head(recipe):
    """d_model 64, d_kv 16, six heads: q has (64 * 16)^-1/2 = 1 / 32 = 0.03125.

    With the d_kv of 64 that the published models have it would be 1 / 64: half of it.
    """
    torch.manual_seed(0)
    model = t5(WIDTH, HEADS, HEAD_WIDTH)
    assert model.encoder[0].self_attention.q.weight.std().item() == pytest.approx(0.03125, rel=0.03)
    assert told(model, recipe) == {}
    with torch.no_grad():
        model.encoder[1].self_attention.q.weight.mul_(0.5)
    found = told(model, recipe)
    assert found.keys() == {"encoder.1.self_attention.q.weight"}
    assert found["encoder.1.self_attention.q.weight"][0] == pytest.approx(0.03125)


@pytest.mark.parametrize("recipe", ["t5", "auto"])
@pytest.mark.parametrize("width", [64, 256])
def test_an_untied_head_of_std_1_is_a_fault(width, recipe):
    """What a norm gives has power 1, so that logits have std sqrt(width) (22.6 at 512); width^-1/2 makes it 1.

    A tied one of std 1 gets its input times width^-1/2, which is as good.
    """
    torch.manual_seed(0)
    assert told(t5(width), recipe) == {}
    model = t5(width, tied=False)
    assert told(model, recipe) == {}
    nn.init.normal_(model.lm_head.weight)
    assert told(model, recipe) == {"lm_head.weight": (pytest.approx(width**-0.5), "error")}
    assert told(model, "t5(head=transformers)") == {}


def test_an_untied_head_is_written_as_either_library_has_it():
    """Mesh TensorFlow: a dense layer, width^-1/2; transformers' `_init_weights`: N(0, 1), tied or not."""
    for recipe, std in {"t5": 1 / 8, "t5(head=transformers)": 1}.items():
        assert plan(t5(64, tied=False), (WORDS, WORDS), recipe=recipe)["lm_head"].std == std
