"""Rules about what the forward does with a weight: INI301 (nothing), INI302 (it is not known what)."""

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
