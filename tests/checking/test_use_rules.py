"""Rules about what the forward does with a weight: INI301 (nothing), INI302 (it is not known what)."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.shared.rule_checks import findings, only


class Forgotten(nn.Module):
    """fc2 and the auxiliary head are never called; the probe's output goes nowhere; the teacher is frozen."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(8, 8), nn.Linear(8, 8)
        self.aux = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Sequential(nn.ReLU(), nn.Linear(16, 4)))
        self.probe = nn.Linear(8, 2)
        self.teacher = nn.Linear(8, 8).requires_grad_(False)

    def forward(self, x):
        x = self.fc1(x)
        self.probe(x)
        return self.fc1(x)


def test_ini301_names_weights_and_whole_modules_that_do_nothing():
    found = {each.layer: each for each in findings("INI301", Forgotten(), torch.randn(2, 8))}
    assert set(found) == {"fc2", "aux", "probe"}
    assert {each.severity for each in found.values()} == {"warning"}
    assert found["fc2"].param == "fc2.weight"
    assert "fc2.weight (8, 8) is never used" in found["fc2"].message
    assert "no operation of the forward uses it" in found["fc2"].message
    assert "none of its 2 weights (aux.0.weight, aux.2.1.weight; 192 numbers)" in found["aux"].message
    assert (found["aux"].param, found["aux"].fix) == ("aux.0.weight", "del model.aux")
    assert "its output reaches neither an output nor a loss" in found["probe"].message


def test_ini301_names_a_branch_that_is_computed_and_dropped_as_one():
    class Dropped(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk = nn.Linear(8, 8)
            self.branches = nn.ModuleList([nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)) for _ in "ab"])

        def forward(self, x):
            x = self.trunk(x)
            kept, _ = (branch(x) for branch in self.branches)
            return kept

    finding = only("INI301", Dropped())
    assert finding.layer == "branches.1"
    assert "none of its 2 weights (branches.1.0.weight, branches.1.2.weight; 96 numbers)" in finding.message


def test_ini301_names_a_bare_parameter():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.left = nn.Linear(8, 8), nn.Parameter(torch.randn(8, 8))

        def forward(self, x):
            return self.fc(x)

    finding = only("INI301", Bare())
    assert (finding.layer, finding.param, finding.fix) == ("left", "left", "del model.left")


class ActorCritic(nn.Module):
    """The critic is called by another method; the one that sets it up does not count, nor does a forgotten layer."""

    def __init__(self):
        super().__init__()
        self.body, self.actor, self.forgotten = nn.Linear(8, 8), nn.Linear(8, 2), nn.Linear(8, 8)
        self.judge = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
        self.reset_parameters()
        self.spread()

    def reset_parameters(self):
        nn.init.orthogonal_(self.forgotten.weight)

    def spread(self):
        nn.init.zeros_(self.forgotten.bias)

    def forward(self, x):
        return self.actor(self.body(x).tanh())

    @torch.no_grad()
    def value(self, x):
        return self.judge(self.body(x).tanh())


class Branches(nn.Module):
    """Forward calls the decoder on a second input, the auxiliary head where asked, one head of each task."""

    def __init__(self):
        super().__init__()
        self.body, self.decoder, self.aux = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2)
        self.tasks = nn.ModuleDict({"a": nn.Linear(8, 2), "b": nn.Linear(8, 3)})

    def forward(self, x, target=None, task="a", name=""):
        x = self.body(x)
        if target is not None:
            x = x + self.decoder(target)
        if name:
            x = x + getattr(self, "aux")(x)  # noqa: B009 - another spelling
        return self.tasks[task](x)


class Targets(nn.Module):
    """A copy beside the trained network, one named as a target, a pair of critics; nothing here calls them."""

    def __init__(self):
        super().__init__()
        self.online = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
        self.slow = copy.deepcopy(self.online)
        self.target_net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
        self.critic1, self.other = nn.Linear(8, 1), nn.Linear(8, 1)

    def forward(self, x):
        return self.online(x)


class Wrapped(nn.Module):
    """The method that names the critic stands two modules above it."""

    def __init__(self):
        super().__init__()
        self.agent = nn.Module()
        self.agent.pi, self.agent.v, self.agent.left = nn.Linear(8, 2), nn.Linear(8, 1), nn.Linear(8, 1)

    def forward(self, x):
        return self.agent.pi(x)

    def losses(self, x):
        return [self.agent.v(each) for each in x]


@pytest.mark.parametrize(
    ("build", "elsewhere", "faults"),
    [
        (ActorCritic, {"judge": "ActorCritic.value uses it"}, {"forgotten"}),
        (
            Branches,
            dict.fromkeys(["decoder", "aux", "tasks.b"], "another branch of Branches.forward uses it"),
            set(),
        ),
        (
            Targets,
            {
                "slow": "it is a copy of online, as a target network is",
                "target_net": "a network called target_net is for the training loop to call",
                "critic1": "a network called critic1 is for the training loop to call",
            },
            {"other"},
        ),
        (Wrapped, {"agent.v": "Wrapped.losses uses it"}, {"agent.left"}),
    ],
)
def test_ini301_of_weights_that_are_not_on_this_forward_advises_no_deletion(build, elsewhere, faults):
    """What another method, branch or training loop calls is no fault; what nothing calls still is."""
    found = {each.layer: each for each in findings("INI301", build(), torch.randn(2, 8))}
    assert {name for name, each in found.items() if each.severity == "warning"} == faults
    assert all(found[name].fix == f"del model.{name}" for name in faults)
    assert found.keys() - faults == elsewhere.keys()
    for name, user in elsewhere.items():
        assert (found[name].severity, found[name].fix) == ("info", "")
        assert f"not on this forward, as is expected: {user}. " in found[name].message
        assert "remove" not in found[name].message


def test_ini301_takes_no_layer_of_a_stack_of_copies_for_a_target_network():
    class Stack(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.Linear(8, 8)
            self.layers = nn.ModuleList(copy.deepcopy(layer) for _ in range(3))

        def forward(self, x):
            for layer in self.layers[:2]:
                x = layer(x).relu()
            return x

    finding = only("INI301", Stack())
    assert (finding.layer, finding.severity) == ("layers.2", "warning")


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)), (2, 8)),
        (nn.LSTM(8, 16, num_layers=2, bidirectional=True, proj_size=4), (3, 2, 8)),
        (nn.TransformerEncoderLayer(16, 2, 32), (3, 2, 16)),
        (nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)), (2, 8)),
        (nn.DataParallel(nn.Sequential(nn.Linear(8, 8), nn.Bilinear(8, 8, 4).requires_grad_(False))[:1]), (2, 8)),
    ],
)
def test_ini301_passes_models_that_use_all_they_have(model, inputs):
    assert findings("INI301", model, torch.randn(inputs)) == []


@torch.library.custom_op("autoinit_rule_tests::squash", mutates_args=())
def squash(x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x) * 2


@squash.register_fake
def _(x):
    return torch.empty_like(x)


class Squashed(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x):
        return self.two(squash(self.one(x)))


def test_ini302_names_the_operation_at_which_the_way_ends():
    finding = only("INI302", Squashed(), torch.randn(2, 8))
    assert (finding.severity, finding.layer, finding.param) == ("warning", "one", "one.weight")
    assert "squash" in finding.message
    operator = "torch.ops.autoinit_rule_tests.squash"
    assert finding.fix == f'autoinit.register_op("squash", "nonlinearity", functions={operator}, function={operator})'
    assert f"ends at {operator} ({__file__}:" in finding.message
    assert finding.location is not None
    assert finding.location.file == __file__


def test_ini302_names_a_module_that_is_a_leaf():
    class Leaf(nn.Module):
        def forward(self, x):
            return torch.ops.autoinit_rule_tests.squash(x)

    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), Leaf(), nn.Linear(16, 4))
    finding = only("INI302", model, torch.randn(2, 8))
    assert (finding.layer, finding.severity) == ("2", "warning")


def test_ini302_names_an_operation_that_no_weight_leads_to():
    class Front(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(8, 4)

        def forward(self, x):
            return self.fc(squash(squash(x)))

    finding = only("INI302", Front(), torch.randn(2, 8))
    assert (finding.severity, finding.param) == ("warning", "")
    assert "squash" in finding.message
    assert "and 1 more place" in finding.message


def test_ini302_names_an_operation_beside_a_known_nonlinearity():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 4)

        def forward(self, x):
            x = self.one(x)
            return self.two(x.relu()) + self.two(squash(x))

    finding = only("INI302", Both(), torch.randn(2, 8))
    assert finding.param == ""
    assert "squash" in finding.message


def test_ini302_passes_known_and_composite_nonlinearities():
    class Known(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.three = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x):
            x = self.one(x)
            x = self.two(x * torch.sigmoid(1.7 * x))
            return self.three(x * torch.tanh(functional.softplus(x)))

    assert findings("INI302", Known()) == []
