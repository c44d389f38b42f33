"""Rules about biases and norms: INI201, INI202."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.shared.rule_checks import findings, only


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def without_biases(model):
    for name, parameter in model.named_parameters():
        if "bias" in name.rpartition(".")[2]:
            nn.init.zeros_(parameter)
    return model


def net(*layers):
    return without_biases(nn.Sequential(*layers))


def test_ini201_names_torchs_default_as_information():
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    first, second = findings("INI201", model)
    assert (first.severity, first.layer, first.param) == ("info", "0", "0.bias")
    assert (second.severity, second.layer, second.param) == ("info", "2", "2.bias")
    assert "torch's default, within +-0.125" in first.message  # 1 / sqrt(64)
    assert first.actual_std == pytest.approx(0.125 / math.sqrt(3), rel=0.25)
    assert (first.expected_std, first.fix) == (0.0, "nn.init.zeros_(model[0].bias)")
    assert "torch's default" in first.recipe


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(8, 32, 3, groups=2), (1, 8, 6, 6)),
        (nn.ConvTranspose1d(8, 32, 3), (1, 8, 6)),
        (nn.LSTM(8, 32), (3, 1, 8)),
        (nn.GRU(8, 32), (3, 1, 8)),
        (nn.RNN(8, 32), (3, 1, 8)),
    ],
)
def test_ini201_names_the_default_of_every_layer_type(layer, shape):
    found = findings("INI201", layer, torch.randn(shape))
    assert found
    assert all(each.severity == "info" and "torch's default" in each.message for each in found)


def test_ini201_names_a_bias_of_more_than_one_std():
    model = net(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    with torch.no_grad():
        model[0].bias.copy_(torch.linspace(-3, 3, 16))
    finding = only("INI201", model)
    assert (finding.severity, finding.layer, finding.param) == ("warning", "0", "0.bias")
    assert "0.bias goes from -3 to 3" in finding.message
    assert "by up to 3," in finding.message


@pytest.mark.parametrize(("value", "severity"), [(0.1, "info"), (0.99, "info"), (1.01, "warning"), (-2.0, "warning")])
def test_ini201_names_a_constant_bias_by_its_size(value, severity):
    model = net(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    nn.init.constant_(model[0].bias, value)
    finding = only("INI201", model)
    assert finding.severity == severity
    assert f"0.bias is {value:.3g}, expected 0" in finding.message


def test_ini201_names_a_bias_before_a_norm_as_information():
    model = net(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1))
    nn.init.constant_(model[0].bias, 5.0)
    finding = only("INI201", model)
    assert (finding.severity, finding.layer) == ("info", "0")
    assert "the norm that follows" in finding.message


def test_ini201_names_priors_from_data_on_an_output_as_information():
    model = net(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    with torch.no_grad():
        model[2].bias.copy_(torch.tensor([0.7, 0.2, 0.09, 0.01]).log())
    finding = only("INI201", model)
    assert (finding.severity, finding.layer) == ("info", "2")
    assert "prior taken from the data" in finding.message


class Detector(nn.Module):
    """Two heads as in RetinaNet; the class probabilities are given out."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.cls, self.reg = nn.Conv2d(8, 6, 1), nn.Conv2d(8, 4, 1)
        without_biases(self)

    def forward(self, x):
        features = self.stem(x).relu()
        return self.cls(features).sigmoid().flatten(1), self.reg(features).flatten(1)


def test_ini201_names_head_biases_that_are_swapped():
    model = Detector()
    nn.init.constant_(model.reg.bias, -math.log(99))
    finding = only("INI201", model)
    assert (finding.severity, finding.layer, finding.param) == ("warning", "reg", "reg.bias")
    assert "reg.bias is -4.6" in finding.message
    assert "probability 0.01) belongs on cls" in finding.message
    assert finding.fix.splitlines() == [
        "nn.init.zeros_(model.reg.bias)",
        "nn.init.constant_(model.cls.bias, -4.595)",
    ]


def test_ini201_passes_head_biases_where_they_belong():
    model = Detector()
    nn.init.constant_(model.cls.bias, -math.log(99))
    assert findings("INI201", model) == []


def test_ini201_names_a_prior_on_logits_as_information_beside_sigmoid_gates():
    """The sigmoid of a squeeze-and-excite gate is no head that the prior could have been meant for."""

    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.gate, self.logits = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 6, 1)
            without_biases(self)

        def forward(self, x):
            x = self.stem(x).relu()
            return self.logits(x * self.gate(x.mean((2, 3), keepdim=True)).sigmoid())

    model = Gated()
    nn.init.constant_(model.logits.bias, -math.log(99))
    finding = only("INI201", model)
    assert (finding.severity, finding.layer) == ("info", "logits")
    assert "probability 0.01" in finding.message


@pytest.mark.parametrize("forget", [1.0, 2.0])
def test_ini201_passes_the_forget_gate_bias_and_names_what_is_beside_it(forget):
    model = without_biases(nn.LSTM(8, 16))
    with torch.no_grad():
        model.bias_ih_l0[16:32] = forget  # Jozefowicz et al. 2015; torch's order is input, forget, cell, output
    assert findings("INI201", model, torch.randn(3, 1, 8)) == []
    with torch.no_grad():
        model.bias_ih_l0[32:48] = 3.0
    finding = only("INI201", model, torch.randn(3, 1, 8))
    assert (finding.severity, finding.param) == ("warning", "bias_ih_l0")
    assert "bias_ih_l0 is 3, expected 0" in finding.message


def test_ini201_names_gate_biases_of_many_values_as_information():
    model = without_biases(nn.LSTM(8, 16))
    with torch.no_grad():  # chrono initialisation, Tallec & Ollivier 2018: memories of up to 100 steps
        model.bias_hh_l0[16:32] = torch.rand(16).mul(98).add(1).log()
        model.bias_hh_l0[:16] = -model.bias_hh_l0[16:32]
    finding = only("INI201", model, torch.randn(3, 1, 8))
    assert (finding.severity, finding.param) == ("info", "bias_hh_l0")
    assert "how far gates open" in finding.message


def test_ini201_names_the_time_step_of_a_state_space_as_information():
    step = nn.Linear(8, 16)
    with torch.no_grad():  # Gu & Dao 2023: softplus of the bias is log-uniform in [0.001, 0.1]
        wanted = torch.rand(16).mul(math.log(100)).add(math.log(0.001)).exp()
        step.bias.copy_(wanted.expm1().log())
    model = nn.Sequential(step, nn.Softplus(), without_biases(nn.Linear(16, 4)))
    finding = only("INI201", model)
    assert (finding.severity, finding.layer) == ("info", "0")


def test_ini201_passes_the_opening_of_a_highway_gate():
    class Highway(nn.Module):
        def __init__(self):
            super().__init__()
            self.h, self.t = nn.Linear(8, 8), nn.Linear(8, 8)
            without_biases(self)
            nn.init.constant_(self.t.bias, -2.0)  # Srivastava et al. 2015

        def forward(self, x):
            gate = self.t(x).sigmoid()
            return self.h(x).relu() * gate + x * (1 - gate)

    assert findings("INI201", Highway()) == []


def test_ini201_passes_biases_as_small_as_those_of_vision_transformers():
    model = net(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64))
    nn.init.normal_(model[0].bias, std=1e-6)  # Dosovitskiy et al. 2021, in the authors' code
    assert findings("INI201", model) == []


def test_ini201_passes_zero_frozen_and_skipped_biases_and_those_of_norms():
    model = net(nn.Linear(8, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
    assert findings("INI201", model) == []
    nn.init.constant_(model[1].bias, 3.0)
    nn.init.constant_(model[3].bias, 3.0)
    model[3].bias.requires_grad_(False)
    nn.init.constant_(model[5].bias, 3.0)
    nn.init.zeros_(model[5].weight)  # kept as it is, its bias too
    assert findings("INI201", model) == []
    model[3].bias.requires_grad_(True)
    model[3].weight.requires_grad_(False)  # skipped
    assert findings("INI201", model) == []


def test_ini202_names_a_gain_and_a_bias_once_for_each_norm():
    model = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 4))
    nn.init.constant_(model[1].weight, 0.5)
    nn.init.uniform_(model[1].bias, 1.0, 2.0)
    finding = only("INI202", model)
    assert (finding.severity, finding.layer, finding.param) == ("info", "1", "1.weight")
    assert "gain weight is 0.5, expected 1" in finding.message
    assert "bias is from 1." in finding.message
    assert finding.fix.splitlines() == ["nn.init.ones_(model[1].weight)", "nn.init.zeros_(model[1].bias)"]


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(16), nn.GroupNorm(4, 16), nn.InstanceNorm2d(16, affine=True)])
def test_ini202_names_every_kind_of_norm(norm):
    model = nn.Sequential(nn.Conv2d(3, 16, 3), norm, nn.ReLU(), nn.Conv2d(16, 4, 1))
    assert findings("INI202", model) == []
    nn.init.uniform_(norm.weight)
    assert "gain weight is from 0." in only("INI202", model).message


def test_ini202_names_an_rms_norm_and_functional_norms():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.rms = nn.Linear(8, 16), nn.RMSNorm(16)
            self.gain, self.shift = nn.Parameter(torch.ones(16)), nn.Parameter(torch.zeros(16))

        def forward(self, x):
            return functional.layer_norm(self.rms(self.fc(x)), (16,), self.gain, self.shift)

    model = Functional()
    assert findings("INI202", model) == []
    nn.init.constant_(model.rms.weight, 2.0)
    nn.init.constant_(model.shift, 2.0)
    found = {(each.layer, each.param) for each in findings("INI202", model)}
    assert found == {("rms", "rms.weight"), ("shift", "shift")}


def test_ini202_names_the_dcgan_recipe():
    model = nn.Sequential(nn.Conv2d(3, 256, 3), nn.BatchNorm2d(256), nn.ReLU(), nn.Conv2d(256, 4, 1))
    nn.init.normal_(model[1].weight, 1.0, 0.02)
    finding = only("INI202", model)
    assert finding.recipe == "normal(1, 0.02), as in DCGAN"
    assert "Radford et al. 2016" in finding.message
    nn.init.normal_(model[1].weight, 0.0, 0.02)
    assert only("INI202", model).recipe == ""


def test_ini202_names_running_statistics_that_have_moved():
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 4, 1))
    model(torch.randn(4, 3, 8, 8))
    finding = only("INI202", model)
    assert (finding.severity, finding.layer, finding.param) == ("info", "1", "1.running_mean")
    assert "running_mean is from -" in finding.message
    assert "running_var is from 0.9" in finding.message
    assert finding.fix == "model[1].reset_running_stats()"


def test_ini202_passes_zero_gains_and_frozen_norms():
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 4, 1))
    nn.init.zeros_(model[1].weight)  # Goyal et al. 2017
    assert findings("INI202", model) == []
    nn.init.uniform_(model[1].weight)
    model[1].running_var.fill_(3.0)
    model[1].requires_grad_(False)
    assert findings("INI202", model) == []


def test_ini202_passes_gains_that_are_one_more_and_layer_scale():
    class Gemma(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.out = nn.Linear(8, 16), nn.Linear(16, 16)
            self.gain, self.scale = nn.Parameter(torch.zeros(16)), nn.Parameter(torch.full((16,), 1e-5))

        def forward(self, x):
            x = self.fc(x)
            normed = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * (1 + self.gain)
            return x + self.scale * self.out(normed)

    assert findings("INI202", Gemma()) == []


def times_a_buffer(h, gain, buffer):
    return h + gain * buffer


def times_a_buffer_that_is_cast(h, gain, buffer):
    return h * (buffer.double().float() * gain)


def times_a_normalised_buffer(h, gain, buffer):
    return h * (functional.normalize(buffer, dim=0) * gain)


@pytest.mark.parametrize("mixed", [times_a_buffer, times_a_buffer_that_is_cast, times_a_normalised_buffer])
def test_ini202_passes_a_vector_that_scales_a_buffer(mixed):
    """No signal is normalised: the vector scales what is the same for every input."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.gain = nn.Linear(8, 16), nn.Parameter(torch.rand(16))
            self.register_buffer("table", torch.rand(16))

        def forward(self, x):
            return mixed(self.fc(x), self.gain, self.table)

    assert findings("INI202", Model(), torch.randn(4, 8)) == []


def test_ini202_names_the_gain_of_a_written_norm_behind_a_move():
    """An RMS norm written out, its features turned to the last axis before the gain."""

    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.gain, self.out = nn.Conv1d(8, 16, 1), nn.Parameter(torch.ones(16)), nn.Linear(16, 16)

        def forward(self, x):
            x = self.fc(x)
            normed = x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-6)
            return self.out(normed.transpose(1, 2) * self.gain)

    model = Turned()
    assert findings("INI202", model, torch.randn(4, 8, 5)) == []
    nn.init.constant_(model.gain, 3.0)
    finding = only("INI202", model, torch.randn(4, 8, 5))
    assert (finding.param, finding.message.partition(".")[0]) == ("gain", "gain: gain gain is 3, expected 1")
