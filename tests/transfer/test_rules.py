"""The formula against hand-derived values of maximal update parametrisation, CompleteP and Muon."""

from __future__ import annotations

import math

import pytest
import torch

from autoinit.transfer.rules import Growth, multipliers

M = 8.0


@pytest.mark.parametrize(
    ("grown", "std", "adam", "sgd", "eps"),
    [
        pytest.param(Growth(1, M), 1, 1, M, 1 / M, id="input layers, depthwise, tables, biases, norms, LoRA B"),
        pytest.param(Growth(M, M), M**-0.5, 1 / M, 1, 1 / M, id="hidden"),
        pytest.param(Growth(M, 1), 1 / M, 1 / M, 1 / M, 1, id="head, router, LoRA A, the norm before a tied head"),
        pytest.param(Growth(M, 4 * M), M**-0.5, 1 / M, 4, 1 / (4 * M), id="features grow more than fan_in"),
        pytest.param(Growth(4 * M, M), 1 / (4 * M) * M**0.5, 1 / (4 * M), 0.25, 1 / M, id="fan_in grows more"),
        pytest.param(Growth(), 1, 1, 1, 1, id="nothing grows"),
        pytest.param(Growth(1 / M, 1 / M), M**0.5, M, 1, M, id="hidden, narrower than the base"),
        pytest.param(Growth(1 / M, 1), M, M, M, 1, id="head, narrower than the base"),
    ],
)
def test_table_of_widths(grown, std, adam, sgd, eps):
    """Yang et al. 2022, table 8, with the multipliers of the forward pass absorbed."""
    for optimizer, lr in (("adamw", adam), ("adam", adam), ("sgd", sgd)):
        found = multipliers(grown, optimizer)
        assert (found.std, found.lr, found.weight_decay) == pytest.approx((std, lr, 1 / lr))
        assert found.eps == pytest.approx(1 if optimizer == "sgd" else eps)


@pytest.mark.parametrize("alpha", [0.5, 0.75, 1.0])
def test_depth(alpha):
    """Dey et al. 2025, table 1, the branch's multiplier m_L^-alpha in the weight that ends it, w = m_L^-alpha w'.

    Adam steps w' by lr m_L^(alpha - 1), so w by m_L^-alpha times that: 1 / m_L. SGD steps w' by lr m_L^(2 alpha - 1);
    the gradient of w is that of w' times m_L^alpha, so w steps by m_L^(2 alpha - 1) m_L^-2alpha: 1 / m_L again. The
    gradient inside a branch has a factor m_L^-alpha, that of the weight that ends it has none.
    """
    end, inside = Growth(branches=4.0, place="end"), Growth(branches=4.0, place="inside")
    for optimizer in ("adamw", "sgd"):
        assert multipliers(end, optimizer, alpha).std == pytest.approx(4**-alpha)
        assert multipliers(end, optimizer, alpha).lr == pytest.approx(1 / 4)
        assert multipliers(inside, optimizer, alpha).std == 1
    assert multipliers(inside, "adamw", alpha).lr == pytest.approx(4 ** (alpha - 1))
    assert multipliers(inside, "sgd", alpha).lr == pytest.approx(4 ** (2 * alpha - 1))
    assert multipliers(inside, "adamw", alpha).eps == pytest.approx(4**-alpha)
    assert multipliers(end, "adamw", alpha).eps == 1
    assert multipliers(Growth(branches=4.0), "adamw", alpha).lr == 1  # outside of the stream


def test_width_and_depth_multiply():
    found = multipliers(Growth(2.0, 2.0, 4.0, "end"), "adamw")
    assert (found.std, found.lr, found.weight_decay) == pytest.approx((0.5**0.5 / 4, 1 / 8, 8))


@pytest.mark.parametrize("shape", [(256, 256), (1024, 256), (256, 1024)])
@pytest.mark.parametrize("adjustment", ["original", "match_rms_adamw"])
def test_muon(shape, adjustment):
    """The optimizer's own step, measured: its spectral norm is to grow as sqrt(features / fan_in).

    Rows and columns are four times those of the base, so that norm stays; with unlike growth it does not.
    """
    rows, columns = shape
    for by_rows, by_columns in ((4, 4), (4, 1), (1, 4)):
        grown = Growth(by_columns, by_rows, rows=rows, columns=columns)
        lr = multipliers(grown, "muon", muon=adjustment).lr
        wide = _step_norm(rows, columns, adjustment)
        narrow = _step_norm(rows // by_rows, columns // by_columns, adjustment)
        assert lr * wide / narrow == pytest.approx(math.sqrt(by_rows / by_columns), rel=0.3)


def test_muons_named_values():
    """For a square matrix 1 by the original adjustment, m^-1/2 by the one that matches AdamW's steps."""
    grown = Growth(M, M, rows=512, columns=512)
    assert multipliers(grown, "muon", muon="original").lr == pytest.approx(1)
    assert multipliers(grown, "muon", muon="match_rms_adamw").lr == pytest.approx(M**-0.5)
    assert multipliers(grown, "muon", muon="original").eps == 1
    assert multipliers(grown, "muon").lr == pytest.approx(1 / M)  # of a parameter that AdamW updates


def _step_norm(rows: int, columns: int, adjustment: str) -> float:
    """The norm of a step of torch.optim.Muon with lr 1, whose singular values lie in 0.7 to 1.2, all taken together."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.zeros(rows, columns))
    optimizer = torch.optim.Muon([weight], lr=1.0, weight_decay=0.0, adjust_lr_fn=adjustment)
    weight.grad = torch.randn(rows, columns)
    optimizer.step()
    return float(torch.linalg.svdvals(weight.detach()).mean())
