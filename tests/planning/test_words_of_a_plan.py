"""What a plan says in words: what it does not know and where that is, which layers there are, why a std is smaller."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from autoinit import plan
from autoinit.errors import ArgumentError
from autoinit.models import ModelView
from autoinit.planning import plan_dataflow
from autoinit.plans.options import PlanOptions
from autoinit.tracing import SourceLine, Unsupported, trace


@pytest.mark.parametrize(
    ("unsupported", "said"),
    [
        (Unsupported("warp", "warp_1", "block", SourceLine("net.py", 7, "forward")), "warp at net.py:7"),
        (Unsupported("warp", "warp_1", "block"), "warp at block"),
        (Unsupported("warp", "warp_1", ""), "warp at warp_1"),
    ],
    ids=["line", "module", "name"],
)
def test_an_unknown_operation_is_named_with_the_nearest_place_that_is_known(unsupported: Unsupported, said: str):
    model = nn.Linear(4, 4)
    dataflow = replace(trace(model, (2, 4)), unsupported=(unsupported,))
    assert plan_dataflow(dataflow, ModelView.of(model), PlanOptions()).unsupported == (said,)


def test_a_glob_that_matches_nothing_is_refused_with_the_first_four_layers():
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(6)))
    with pytest.raises(ArgumentError, match=r"^only='head' matches none of the 6 layers \(0, 1, 2, 3, \.\.\.\)$"):
        plan(model, (2, 4), only="head")


def test_a_weight_that_ends_branches_of_two_streams_is_scaled_for_the_longer_one():
    """It ends one of three branches of the first stream, and the only one of the second: std / sqrt(3)."""

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared, self.second, self.third = (nn.Linear(8, 8) for _ in range(3))
            self.between, self.head = nn.Linear(8, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            for layer in (self.shared, self.second, self.third):
                x = x + layer(torch.relu(x))
            x = self.between(x)
            return self.head(x + self.shared(torch.relu(x)))

    kept, deep = plan(Shared(), (2, 8)), plan(Shared(), (2, 8), residual="depth")
    assert deep["shared"].std == pytest.approx(kept["shared"].std / 3**0.5)
    assert "one of 3 branches of its residual stream" in deep["shared"].note
    assert deep["head"].std == kept["head"].std
