"""Rules about values that are no weights at all: INI001 (not finite) and INI002 (uninitialised memory)."""

import math

import pytest
import torch
from torch import nn

from autoinit.checking.checker import check
from autoinit.provenance import Origin, recording
from autoinit.tracing.dataflow import SourceLine
from tests.shared.rule_checks import Record, findings, mlp, only, put


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_ini001_names_a_weight_with_one_bad_element(value):
    model = mlp(8, 16, 4)
    put(model[2].weight, (1, 3), value)
    finding = only("INI001", model)
    assert (finding.severity, finding.layer, finding.param) == ("error", "2", "2.weight")
    kind = "NaN" if math.isnan(value) else "infinite"
    assert f"1 of 64 elements of 2.weight are {kind}" in finding.message
    assert "uninitialised" not in finding.message
    assert finding.fix == "nn.init.xavier_normal_(model[2].weight)"


def test_ini001_names_every_kind_of_parameter_and_running_statistics():
    model = nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 8), nn.BatchNorm1d(8))
    for tensor in (model[0].weight, model[1].bias, model[2].weight, model[2].running_var):
        put(tensor.view(-1), slice(0, 2), math.nan)
    found = findings("INI001", model, torch.zeros(3, dtype=torch.long))
    assert [(each.layer, each.param, each.fix) for each in found] == [
        ("0", "0.weight", "nn.init.normal_(model[0].weight, std=0.02)"),
        ("1", "1.bias", "nn.init.zeros_(model[1].bias)"),
        ("2", "2.weight", "nn.init.ones_(model[2].weight)"),
        ("2", "2.running_var", "model[2].reset_running_stats()"),
    ]
    assert all(each.severity == "error" and "2 of " in each.message for each in found)


def test_ini001_names_the_share_of_memory_that_only_looks_finite():
    model = mlp(8, 16, 4)
    put(model[0].weight, 0, torch.tensor([math.nan, 1e30, 3e-41, 0, 0, 7e12, -math.inf, 1e-39]))
    message = only("INI001", model).message
    assert "not finite (1 NaN, 1 infinite)" in message
    assert "looks like uninitialised memory: magnitudes up to 1e+30" in message


def test_ini001_names_a_weight_norm_without_direction():
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)), nn.ReLU(), nn.Linear(3, 2))
    put(model[0].parametrizations.weight.original1, 1, 0.0)  # v of one row: w = g v / |v| = 0 / 0
    finding = only("INI001", model)
    assert finding.layer == "0"
    assert "4 of 12 elements" in finding.message
    assert "as the forward reads it" in finding.message


def test_ini001_passes_finite_models_masks_and_the_meta_device():
    class Causal(nn.Module):
        def __init__(self):
            super().__init__()
            self.qk = nn.Linear(8, 8)
            self.register_buffer("mask", torch.full((4, 4), -math.inf).triu(1))

        def forward(self, x):
            scores = self.qk(x) @ x.mT + self.mask
            return scores.softmax(-1) @ x

    assert findings("INI001", Causal(), torch.randn(2, 4, 8)) == []
    assert findings("INI001", nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).eval()) == []
    assert findings("INI001", mlp(8, 16, 4).to("meta")) == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([3.5e12, 0.1, -2.0, 0.0], "magnitudes up to 3.5e+12"),
        ([4.2e-41, 0.0, 0.0, 1.4e-45], "no magnitude above 4.2e-41"),
        ([5.2e4, 1e-3, 2e-3, 0.0, 1e-4], "magnitudes up to 52000 where the median is"),
    ],
)
def test_ini002_names_values_that_no_initialisation_gives(values, said):
    model = mlp(8, 16, 4)
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor(values).repeat(128)[:128].view(16, 8))
    finding = only("INI002", model)
    assert (finding.severity, finding.layer, finding.param) == ("error", "0", "0.weight")
    assert said in finding.message
    assert "from run to run" in finding.message
    assert finding.recipe == "uninitialised memory"


def test_ini002_names_biases_norms_and_tables_too():
    model = nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 8), nn.LayerNorm(8))
    for tensor in (model[0].weight, model[1].bias, model[2].weight):
        put(tensor.view(-1), 0, 1e9)
    found = findings("INI002", model, torch.zeros(3, dtype=torch.long))
    assert [each.param for each in found] == ["0.weight", "1.bias", "2.weight"]
    assert [each.layer for each in found] == ["0", "1", "2"]


@pytest.mark.parametrize("function", ["to_empty", "torch.empty", "Tensor.new_empty"])
def test_ini002_names_memory_that_looks_harmless_by_its_record(function):
    model = mlp(8, 16, 4)
    nn.init.zeros_(model[0].weight)
    line = SourceLine("net.py", 7, "build")
    record = Record([(model[0].weight, Origin(function, source=line)), (model[2].weight, Origin("kaiming_uniform_"))])
    finding = only("INI002", model, provenance=record)
    assert (finding.param, finding.location) == ("0.weight", line)
    assert f"was allocated by {function.rpartition('.')[2]} and never written" in finding.message


def test_ini002_names_a_model_that_was_only_materialised_by_a_real_record():
    with recording() as record:
        model = mlp(8, 16, 4).to("meta").to_empty(device="cpu")
        for parameter in model.parameters():
            parameter.data.zero_() if parameter.dim() == 1 else None
    with torch.no_grad():  # what the memory held, here such as no test of values would notice
        model[0].weight.copy_(torch.randn(16, 8))
        model[2].weight.zero_()
    found = findings("INI002", model, provenance=record)
    assert [each.param for each in found] == ["0.weight", "2.weight"]
    assert all(each.location is not None and each.location.file == __file__ for each in found)


def test_ini002_passes_memory_that_was_written_after_it_was_allocated():
    model = mlp(8, 16, 4)
    record = Record([(model[0].weight, Origin("torch.empty", then=("normal_(std=0.1)",)))])
    assert findings("INI002", model, provenance=record) == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    "init",
    [
        nn.init.kaiming_uniform_,
        nn.init.orthogonal_,
        nn.init.eye_,
        nn.init.zeros_,
        lambda weight: nn.init.sparse_(weight, 0.9, std=1.0),
        lambda weight: nn.init.constant_(weight, 1e-8),
        lambda weight: nn.init.normal_(weight, std=5.0),
        lambda weight: nn.init.normal_(weight, std=1e-4).add_(torch.eye(64)),
    ],
)
def test_ini002_passes_every_initialisation(init, dtype):
    model = mlp(64, 64, 64)
    with torch.no_grad():
        init(model[0].weight)
    assert findings("INI002", model.to(dtype), torch.zeros(2, 64, dtype=dtype)) == []


def test_ini002_passes_large_constants_and_leaves_nan_to_ini001():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.low = nn.Linear(8, 8), nn.Parameter(torch.full((8,), -1e9))

        def forward(self, x):
            return self.fc(x) + self.low

    assert findings("INI002", Masked()) == []
    model = mlp(8, 16, 4)
    put(model[0].weight, 0, torch.tensor([math.nan, 1e30, 3e-41, 0, 0, 7e12, 1.0, 1e-39]))
    assert findings("INI002", model) == []
    assert findings("INI002", model.to("meta")) == []


@pytest.mark.parametrize(("value", "code"), [(math.nan, "INI001"), (math.inf, "INI001"), (1e30, "INI002")])
@pytest.mark.parametrize("where", ["2.weight", "2.bias", "0.weight"])
def test_what_means_nothing_has_no_echo_in_the_rules_about_depth(where, value, code):
    """Every signal behind it and every gradient before it is not finite: that is the same fault, named once."""
    model = mlp(8, 16, 16, 4)
    put(model.get_parameter(where).view(-1), 0, value)
    result = check(model, (4, 8), select=["INI0", "INI4"])
    assert [(each.code, each.layer) for each in result.findings] == [(code, where.partition(".")[0])]
    assert f"nothing is said about depth (INI4) until {where[0]} is mended" in " ".join(result.notes)


def test_equal_filters_do_not_silence_the_rules_about_depth():
    """A constant 1e5 makes 16 * 1e10 of the power of independent inputs: finite, and a finding of its own."""
    model = mlp(8, 16, 16, 4)
    put(model[2].weight, slice(None), 1e5)
    codes = {each.code for each in check(model, (4, 8), select=["INI0", "INI4"]).findings}
    assert {"INI004", "INI401"} <= codes
