"""Multipliers, stds and whole trainings against mup 1.0.0 (Yang et al. 2022), the authors' own library.

mup divides what a read-out reads by m, the growth of the width, where this package divides its weight. Both are the
same function, and the same training, if the weight w of the one is w' / m of the other: an Adam step of w' by lr is one
of w by lr / m; an SGD step of w' by lr has the gradient of w over m and so is one of w by lr / m^2; the decay
lr * weight_decay is the same. The norm before a tied read-out takes the 1 / m in its gain and bias.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import mup
import pytest
import torch
from mup.init import _inf_fan_adjust_kaiming
from torch import nn
from torch.nn import functional as F

from autoinit import scaling
from tests.transfer.families import GPT, MLP, ResNet, TiedHead

NARROW, WIDE = 16, 64
GROWTH = WIDE / NARROW


def mlp(width, head=nn.Linear):
    return MLP(width, head)


def gpt(width, head=nn.Linear):
    return GPT(width, head=head)


def tied_gpt(width, head=nn.Linear):
    return GPT(width, tied=TiedHead if head is nn.Linear else lambda table: mup.MuSharedReadout(table, bias=False))


def resnet(width, head=nn.Linear):
    return ResNet(width, head=head)


FAMILIES = [mlp, gpt, tied_gpt, resnet]
MUP_OPTIMIZERS = {"adamw": mup.MuAdamW, "sgd": mup.MuSGD}


def with_mup(family, width=WIDE):
    """mup's own model of a family, against its narrow base."""
    model = family(width, mup.MuReadout)
    return mup.set_base_shapes(model, family(NARROW, mup.MuReadout), rescale_params=False)


def is_read_out(name: str) -> bool:
    return name == "head.weight"


def batches(family) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    random = torch.Generator().manual_seed(1)
    while True:
        if family is mlp:
            yield torch.randn(8, 12, generator=random).double(), torch.randint(5, (8,), generator=random)
        elif family is resnet:
            yield torch.randn(8, 3, 6, 6, generator=random).double(), torch.randint(7, (8,), generator=random)
        else:
            ids = torch.randint(11, (8, 7), generator=random)
            yield ids[:, :6], ids[:, 1:].reshape(-1)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("family", FAMILIES)
def test_multipliers_are_those_of_mup(family, optimizer):
    theirs = with_mup(family)
    made = MUP_OPTIMIZERS[optimizer](theirs.parameters(), lr=1.0, weight_decay=1.0)
    groups = {id(each): group for group in made.param_groups for each in group["params"]}
    found = scaling(family(WIDE), base=family(NARROW), optimizer=optimizer)
    assert set(found) == {name for name, _ in theirs.named_parameters()}
    for name, parameter in theirs.named_parameters():
        lr, decay = groups[id(parameter)]["lr"], groups[id(parameter)]["weight_decay"]
        if is_read_out(name) or (family is tied_gpt and name.startswith("norm.")):
            factor = GROWTH if optimizer == "adamw" else GROWTH**2
            lr, decay = lr / factor, decay * factor
        assert found[name].lr == pytest.approx(lr), name
        assert found[name].weight_decay == pytest.approx(decay), name


@pytest.mark.parametrize("family", [mlp, gpt, resnet])
def test_stds_are_those_of_mups_kaiming_normal(family):
    """mup's own factor on gain / sqrt(fan_in), for the weights that feed a ReLU, a GELU or nothing."""
    theirs = dict(with_mup(family).named_parameters())
    narrow = scaling(family(NARROW), base=family(NARROW))
    found = scaling(family(WIDE), base=family(NARROW))
    weights = [name for name in found if found[name].std is not None]
    assert len(weights) > 3
    for name in weights:
        gain_over_fan = narrow[name].std * math.sqrt(_fan_in(theirs[name].infshape, base=True))
        wanted = _inf_fan_adjust_kaiming(
            gain_over_fan / math.sqrt(_fan_in(theirs[name].infshape, base=False)), theirs[name], "fan_in"
        )
        assert found[name].std == pytest.approx(wanted / (GROWTH if is_read_out(name) else 1), rel=1e-6), name


def _fan_in(shape, *, base: bool) -> int:
    return math.prod((each.base_dim or each.dim) if base else each.dim for each in shape[1:])


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("family", FAMILIES)
def test_trainings_are_those_of_mup(family, optimizer):
    """Thirty steps in float64: the same losses, from the same start, by the standard model and by mup's."""
    torch.manual_seed(0)
    scaled = scaling(family(WIDE), base=family(NARROW), optimizer=optimizer)
    ours, theirs = family(WIDE).double(), with_mup(family).double()
    with torch.no_grad():
        scaled.apply(ours, seed=3)
        for name, parameter in theirs.named_parameters():
            parameter.copy_(dict(ours.named_parameters())[name])
        if family is tied_gpt:
            theirs.norm.weight.mul_(GROWTH)
        else:
            theirs.head.weight.mul_(GROWTH)
    settings = {"lr": 0.02, "weight_decay": 0.1}
    if optimizer == "adamw":
        made = torch.optim.AdamW(scaled.groups(ours, **settings, eps=1e-30))
        peer = mup.MuAdamW(theirs.parameters(), **settings, eps=1e-30)
    else:
        made = torch.optim.SGD(scaled.groups(ours, **settings), lr=1.0, momentum=0.9)
        peer = mup.MuSGD(theirs.parameters(), **settings, momentum=0.9)
    seen = [_trained(model, each, batches(family)) for model, each in ((ours, made), (theirs, peer))]
    assert max(seen[0]) - min(seen[0]) > 0.05  # it trains: labels are drawn anew for each batch
    assert seen[0] == pytest.approx(seen[1], abs=1e-9)


def _trained(model, optimizer, batches) -> list[float]:
    losses = []
    for _ in range(30):
        inputs, targets = next(batches)
        loss = F.cross_entropy(model(inputs).flatten(0, -2), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_a_copy_of_the_scaling_is_the_scaling():
    made = scaling(mlp(WIDE), base=mlp(NARROW))
    assert type(made).from_json(made.to_json()) == copy.deepcopy(made) == made
