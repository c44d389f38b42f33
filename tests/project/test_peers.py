"""GradInit and MetaInit of the benchmarks: against what their papers' equations give by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

pytestmark = pytest.mark.usefixtures("benchmarks")


def scalar(weight: float) -> nn.Linear:
    """weight * x, without a bias."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, weight)
    return model


def test_the_gradient_quotient_is_the_curvature_relative_to_the_gradient() -> None:
    from _peers import gradient_quotient

    # MetaInit, eq. (1): the mean of |(g - H g) / g - 1| = |H g / g|.
    theta = torch.tensor([1.0, -2.0], requires_grad=True)

    def quotient(loss: Tensor) -> float:
        return float(gradient_quotient(loss, [theta]).detach())

    # 1/2 (2 a^2 + b^2 / 2): H is diagonal, and the quotient the mean of 2 and 1/2, wherever it is taken.
    bowl = (torch.tensor([2.0, 0.5]) * theta.square()).sum() / 2
    assert quotient(bowl) == pytest.approx(1.25, rel=1e-4)
    # a * b at (1, -2): g = (-2, 1), H g = (1, -2); the quotient is the mean of 1/2 and 2.
    assert quotient(theta[0] * theta[1]) == pytest.approx(1.25, rel=1e-4)
    # 3 a + b^2 / 2: what is linear has none, so the mean of 0 and 1.
    assert quotient(3 * theta[0] + theta[1].square() / 2) == pytest.approx(0.5, rel=1e-4)


def test_a_gradient_of_zero_is_no_division_by_zero() -> None:
    from _peers import gradient_quotient

    theta = torch.tensor([0.0, 1.0], requires_grad=True)
    # a * b at (0, 1): g = (1, 0), H g = (0, 1), and a gradient of 0 counts as + 1e-5: |0 - 1 / 1e-5 - 1| for b.
    found = gradient_quotient(theta[0] * theta[1], [theta])
    assert float(found.detach()) == pytest.approx((100_000 + 1) / 2, abs=0.1)


@pytest.mark.parametrize(
    ("weight", "steps", "expected"),
    [(2.0, 1, 1.9), (-2.0, 1, -1.9), (2.0, 2, 2 - 0.1 - 0.19)],
)
def test_metainit_moves_norms_by_signs_with_momentum(weight: float, steps: int, expected: float) -> None:
    from _peers import metainit

    # Mean of (w x)^4 / 4: H g / g = 3 w^2 mean(x^4) grows with |w|, so every step is down: 0.1, then 0.9 * 0.1 + 0.1.
    model = scalar(weight)
    metainit(model, torch.zeros(4, 1), torch.zeros(4, 1), lambda made, _: made.pow(4).mean() / 4, 0, steps)
    assert float(model.weight.detach()) == pytest.approx(expected, rel=1e-4)


def test_metainit_leaves_biases_and_directions_alone() -> None:
    from _peers import metainit

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    before = {name: each.detach().clone() for name, each in model.named_parameters()}
    metainit(model, torch.zeros(4, 4), torch.arange(3), nn.functional.cross_entropy, 0, 3)
    for name, each in model.named_parameters():
        ratio = each.detach() / before[name]
        assert ratio.std() < 1e-6
        assert (float(ratio.mean()) == 1) == name.endswith("bias")


def ones() -> Tensor:
    return torch.ones(64, 1)


def bowl(made: Tensor, _target: Tensor) -> Tensor:
    return made.square().mean() / 2


def hill(made: Tensor, _target: Tensor) -> Tensor:
    return -made.square().mean() / 2


@pytest.mark.parametrize(
    ("weight", "loss", "steps", "expected", "within"),
    [
        # The gradient is w: 2 is above gamma = 0.1 / 0.1, and the factor follows it down, by Adam's first step.
        (2.0, bowl, 1, 2 * 0.99, 1e-5),
        # Below gamma the loss after a step of 0.1, (w - 0.1)^2 / 2, is least where that step ends in the minimum.
        (0.8, bowl, 390, 0.1, 0.03),
        # -(w + 0.1)^2 / 2 falls as w grows: only gamma holds it.
        (0.5, hill, 390, 1.0, 0.05),
        (0.5, hill, 1, 0.5 * 1.01, 1e-5),
        # A factor stays at 0.01 at least: here the step would end in the minimum at w = 0.1 / 100.
        (-30.0, bowl, 390, -0.3, 1e-4),
    ],
)
def test_gradinit_lowers_the_loss_after_a_step_within_gamma(
    weight: float, loss: Callable[[Tensor, Tensor], Tensor], steps: int, expected: float, within: float
) -> None:
    from _peers import gradinit

    model = scalar(weight)
    gradinit(model, ones(), ones(), loss, 0, steps=steps)
    assert float(model.weight.detach()) == pytest.approx(expected, abs=within)


@pytest.mark.parametrize(("adam", "expected"), [(True, 0.99), (False, 1.01)])
def test_gradinit_measures_the_gradient_by_the_norm_of_the_optimizer(adam: bool, expected: float) -> None:
    from _peers import gradinit

    # -(s x)^2 / 2 with s the sum of two weights: the gradient is -s for each, its 1-norm 2 s, its 2-norm 1.41 s.
    # Adam's gamma is 0.1 / 0.001 = 100, SGD's 1: at s = 60 and 0.6 the 1-norm is above, the 2-norm below.
    model = nn.Linear(2, 1, bias=False)
    nn.init.constant_(model.weight, 30.0 if adam else 0.3)
    before = float(model.weight[0, 0].detach())
    gradinit(model, torch.ones(64, 2), ones(), hill, 0, adam=adam, steps=1)
    assert float(model.weight[0, 0].detach()) / before == pytest.approx(expected, abs=1e-5)


def test_half_of_the_batch_after_gradinit_s_step_is_new() -> None:
    from _peers import gradinit

    seen: list[Tensor] = []

    def loss(made: Tensor, targets: Tensor) -> Tensor:
        seen.append(targets.long())
        return made.square().mean() / 2

    gradinit(scalar(0.5), torch.ones(10_000, 1), torch.arange(10_000.0), loss, 0, steps=1)
    before, after = seen
    assert torch.equal(before[:32], after[:32])
    assert not set(before[32:].tolist()) & set(after[32:].tolist())


@pytest.mark.parametrize("method", ["gradinit", "metainit"])
def test_peers_begin_with_he_and_change_nothing_but_norms(method: str) -> None:
    from _methods import Task, initialise
    from _networks import Autoencoder

    peer, he = Autoencoder(depth=4), Autoencoder(depth=4)
    images = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    initialise(method, peer, images, 0, Task(images, images, nn.functional.mse_loss))
    initialise("he", he, images, 0)
    for changed, start in zip(peer.parameters(), he.parameters(), strict=True):
        ratio = torch.nan_to_num(changed.detach() / start.detach(), 1.0)
        assert ratio.std() < 1e-5
        assert (abs(float(ratio.mean()) - 1) > 1e-3) == (start.dim() > 1)


def test_gradinit_stops_where_the_gradient_is_not_finite() -> None:
    from _peers import gradinit

    model = scalar(1e30)
    gradinit(model, ones(), ones(), bowl, 0, steps=3)
    assert float(model.weight.detach()) == pytest.approx(1e30)
