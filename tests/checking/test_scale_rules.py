"""INI101 to INI109: which fault explains a wrong scale, and what it is graded by."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from autoinit.checking._wording import expression
from autoinit.checking.checker import check
from autoinit.checking.findings import CheckResult, Finding
from autoinit.provenance import recording

WIDTH = 256
XAVIER, HE = math.sqrt(1 / WIDTH), math.sqrt(2 / WIDTH)
"""Of a square layer."""


class Net(nn.Module):
    """inner -> act -> outer, beside a skip connection and behind a norm if wanted."""

    def __init__(self, act: Callable = F.relu, skip: bool = False, norm: nn.Module | None = None, outputs: int = WIDTH):
        super().__init__()
        self.inner, self.outer = nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, outputs, bias=False)
        self.act, self.skip, self.norm = act, skip, norm
        nn.init.kaiming_normal_(self.inner.weight)
        nn.init.xavier_normal_(self.outer.weight)

    def forward(self, x):
        hidden = self.inner(x)
        branch = self.outer(self.act(hidden if self.norm is None else self.norm(hidden)))
        return x + branch if self.skip else branch


def drawn(layer: nn.Module, init: Callable, *arguments, **named) -> nn.Module:
    init(layer.weight, *arguments, **named)
    return layer


def result(model: nn.Module, inputs=(2, WIDTH), **options) -> CheckResult:
    return check(model, inputs, **options)


def only(model: nn.Module, inputs=(2, WIDTH), **options) -> Finding:
    found = result(model, inputs, **options).findings
    assert len(found) == 1, [str(each) for each in found]
    return found[0]


def net(init: Callable, *arguments, layer: str = "inner", **options) -> Net:
    torch.manual_seed(0)
    model = Net(**options)
    init(getattr(model, layer).weight, *arguments)
    return model


def normal(weight: torch.Tensor, std: float) -> None:
    nn.init.normal_(weight, std=std)


# Which rule.


def test_ini101_names_a_std_that_no_recipe_explains():
    found = only(net(normal, HE / 2.83))
    assert (found.code, found.layer) == ("INI101", "inner")
    assert found.expected_std == pytest.approx(HE)


def test_ini102_names_a_std_that_no_recipe_explains():
    found = only(net(normal, HE * 2.83))
    assert (found.code, found.severity) == ("INI102", "error")


def test_ini102_passes_within_the_tolerance():
    assert not result(net(normal, HE * 1.08)).findings
    assert not result(net(normal, HE / 1.08)).findings
    assert only(net(normal, HE * 1.08), tolerance=0.05).code.startswith("INI10")


def test_ini103_names_the_default_of_each_layer_type():
    torch.manual_seed(0)
    layers = {
        "linear": (nn.Linear(64, 64, bias=False), (2, 64)),
        "conv": (nn.Conv2d(32, 32, 3, padding=1, bias=False), (2, 32, 9, 9)),
        "conv1d": (nn.Conv1d(64, 64, 5, padding=2, bias=False), (2, 64, 20)),
        "grouped": (nn.Conv2d(64, 64, 3, padding=1, groups=4, bias=False), (2, 64, 9, 9)),
    }
    for name, (layer, shape) in layers.items():
        model = nn.Sequential(layer, nn.ReLU(), layer.__class__(**_like(layer)))
        found = [each for each in check(model, shape).findings if each.layer == "0"]
        assert [each.code for each in found] == ["INI103"], name


def _like(layer: nn.Module) -> dict:
    if isinstance(layer, nn.Linear):
        return {"in_features": 64, "out_features": 64, "bias": False}
    return {
        "in_channels": layer.out_channels, "out_channels": 32, "kernel_size": layer.kernel_size[0], "bias": False,
    }  # fmt: skip


def test_ini103_passes_where_the_default_is_declared():
    model = Net()
    for layer in (model.inner, model.outer):
        layer.reset_parameters()
    found = result(model, recipe="torch")
    assert found.ok
    assert {each.severity for each in found.findings} == {"info"}


def test_ini104_names_a_rectifier_gain_before_an_addition():
    found = only(net(nn.init.kaiming_normal_, layer="outer", skip=True))
    assert (found.code, found.layer, found.severity) == ("INI104", "outer", "warning")
    assert found.fix == "nn.init.xavier_normal_(model.outer.weight)"
    assert found.expected_std == pytest.approx(XAVIER)
    assert found.actual_std == pytest.approx(HE, rel=0.02)


def test_ini104_names_a_rectifier_gain_before_softmax():
    model = nn.Sequential(net(nn.init.kaiming_normal_, layer="outer"), nn.Softmax(-1))
    assert only(model).code == "INI104"


def test_ini104_passes_xavier_and_lecun():
    assert not result(net(nn.init.xavier_uniform_, layer="outer")).findings
    assert not result(net(normal, math.sqrt(1 / WIDTH), layer="outer", outputs=32)).findings


def test_ini104_leaves_a_gain_that_no_nonlinearity_has_to_ini102():
    found = only(net(nn.init.xavier_normal_, 20.0, layer="outer"))
    assert (found.code, found.severity) == ("INI102", "error")


def test_ini105_names_xavier_before_a_rectifier():
    found = only(net(nn.init.xavier_normal_))
    assert (found.code, found.severity) == ("INI105", "warning")
    assert found.fix == 'nn.init.kaiming_normal_(model.inner.weight, nonlinearity="relu")'
    assert "relu" in found.message


def test_ini105_names_the_gain_of_another_activation():
    found = only(net(nn.init.kaiming_normal_, act=nn.LeakyReLU(1.0 - 1e-3)))
    assert found.code == "INI105"
    assert only(net(nn.init.xavier_normal_, act=F.silu)).code == "INI105"


def test_ini105_passes_the_right_slope_and_one_too_near_to_tell():
    assert not result(net(nn.init.kaiming_normal_, 0.2, act=nn.LeakyReLU(0.2))).findings
    assert not result(net(nn.init.kaiming_normal_, 0.0, act=nn.LeakyReLU(0.2))).findings


def deconv(std: float) -> nn.Module:
    torch.manual_seed(0)
    first = drawn(nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1, bias=False), nn.init.normal_, std=std)
    return nn.Sequential(first, nn.ReLU(), drawn(nn.Conv2d(32, 16, 3, bias=False), nn.init.xavier_normal_))


def test_ini106_names_the_fan_that_torch_reads_from_a_transposed_convolution():
    found = only(deconv(math.sqrt(2 / (32 * 16))), (1, 64, 6, 6))
    assert found.code == "INI106"
    assert found.expected_std == pytest.approx(math.sqrt(2 / (64 * 16 / 4)))


def test_ini106_names_fan_out():
    torch.manual_seed(0)
    first = drawn(nn.Conv2d(64, 512, 3, bias=False), nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu")
    model = nn.Sequential(first, nn.ReLU(), drawn(nn.Conv2d(512, 8, 1, bias=False), nn.init.xavier_normal_))
    found = only(model, (1, 64, 6, 6))
    assert (found.code, found.layer) == ("INI106", "0")
    assert found.severity == "error"  # sqrt(8) times too small


def test_ini106_passes_the_true_fan():
    assert not result(deconv(math.sqrt(2 / (64 * 16 / 4))), (1, 64, 6, 6)).findings


class Qkv(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(96, 288, bias=False), nn.Linear(96, 96, bias=False)
        nn.init.xavier_normal_(self.out.weight)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return x + self.out(F.scaled_dot_product_attention(q, k, v))


def test_ini107_names_a_fused_projection_scaled_as_one():
    torch.manual_seed(0)
    model = Qkv()
    nn.init.xavier_normal_(model.qkv.weight)
    found = only(model, (2, 5, 96))
    assert (found.code, found.layer, found.rows) == ("INI107", "qkv", ())
    assert found.actual_std == pytest.approx(math.sqrt(2 / (96 + 288)), rel=0.02)
    assert found.expected_std == pytest.approx(math.sqrt(2 / (96 + 96)))


def test_ini107_passes_each_projection_scaled_on_its_own():
    torch.manual_seed(0)
    model = Qkv()
    for piece in model.qkv.weight.chunk(3):
        nn.init.xavier_normal_(piece)
    assert not result(model, (2, 5, 96)).findings


def test_rows_of_one_projection_alone_are_named():
    torch.manual_seed(0)
    model = Qkv()
    for piece, gain in zip(model.qkv.weight.chunk(3), (1.0, 0.3, 1.0), strict=True):
        nn.init.xavier_normal_(piece, gain)
    found = only(model, (2, 5, 96))
    assert found.rows == ((96, 192),)
    assert found.actual_std == pytest.approx(0.3 * math.sqrt(1 / 96), rel=0.03)
    assert "rows 96:192" in found.message
    assert found.fix.startswith("nn.init.normal_(model.qkv.weight[96:192], std=")


def truncated(weight: torch.Tensor, std: float) -> None:
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


def test_ini108_names_a_std_lost_to_truncation():
    found = only(net(truncated, HE))
    assert (found.code, found.severity) == ("INI108", "info")
    assert found.actual_std == pytest.approx(0.8796 * HE, rel=0.02)


def test_ini108_passes_a_truncation_that_is_corrected():
    assert not result(net(truncated, HE / 0.8796)).findings


def test_ini109_names_an_absolute_std():
    found = only(net(normal, 0.02))
    assert (found.code, found.severity) == ("INI109", "error")
    assert found.recipe == "normal(0.02)"


def test_ini109_passes_an_absolute_std_that_is_right():
    model = net(normal, 0.0625, layer="outer")  # 1 / sqrt(256)
    assert not result(model).findings


# How grave.


def test_a_norm_behind_makes_it_info():
    found = only(net(normal, HE * 5, norm=nn.BatchNorm1d(WIDTH)))
    assert found.severity == "info"


@pytest.mark.parametrize(("ratio", "severity"), [(0.6, "warning"), (1.8, "warning"), (0.4, "error"), (2.5, "error")])
def test_up_to_a_factor_of_two_is_a_warning(ratio: float, severity: str):
    assert only(net(normal, HE * ratio)).severity == severity


def test_a_branch_that_is_too_weak_is_a_warning_and_one_too_strong_an_error():
    assert only(net(normal, XAVIER / 7, layer="outer", skip=True)).severity == "warning"
    assert only(net(normal, XAVIER * 7, layer="outer", skip=True)).severity == "error"


def test_an_output_that_starts_small_is_info_and_one_too_large_an_error():
    assert only(net(normal, XAVIER / 7, layer="outer")).severity == "info"
    assert only(net(normal, XAVIER * 7, layer="outer")).severity == "error"


def test_before_a_zero_weight_inside_the_network_it_is_a_warning_and_before_a_zero_head_an_error():
    class Modulated(Net):
        def forward(self, x):
            return self.head(x * (1 + super().forward(x)))

    def graded(model: nn.Module) -> list[str]:
        nn.init.zeros_(model.outer.weight)
        return [each.severity for each in result(model).findings if each.layer == "inner"]

    torch.manual_seed(0)
    model = Modulated()
    model.head = drawn(nn.Linear(WIDTH, WIDTH, bias=False), nn.init.xavier_normal_)
    nn.init.normal_(model.inner.weight, std=HE / 7)
    assert graded(model) == ["warning"]
    assert graded(net(normal, HE / 7)) == ["error"]


class Squeeze(nn.Module):
    """Squeeze-and-excite: x times a gate in [0, 1] of its mean over positions."""

    def __init__(self, std: float):
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(64, 16, 1, bias=False), nn.Conv2d(16, 64, 1, bias=False)
        nn.init.normal_(self.reduce.weight, std=std * math.sqrt(2 / 64))
        nn.init.xavier_normal_(self.expand.weight)
        self.end = drawn(nn.Conv2d(64, 64, 1, bias=False), nn.init.xavier_normal_)

    def forward(self, x):
        gate = torch.sigmoid(self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True)))))
        return self.end(x * gate)


@pytest.mark.parametrize(("ratio", "severity"), [(0.1, "warning"), (4.0, "warning"), (9.0, "error")])
def test_before_a_gate_the_harm_is_bounded(ratio: float, severity: str):
    torch.manual_seed(0)
    assert only(Squeeze(ratio), (2, 64, 5, 5)).severity == severity


def test_an_explicit_std_on_record_is_told_by_the_fan_that_it_came_from():
    torch.manual_seed(0)
    with recording() as log:
        model = nn.Sequential(nn.Conv2d(96, 4, 1, bias=False), nn.SiLU(), nn.Conv2d(4, 4, 1, bias=False))
        nn.init.normal_(model[0].weight, 0, math.sqrt(2 / 4))
        nn.init.xavier_normal_(model[2].weight)
    assert only(model, (1, 96, 5, 5), provenance=log).code == "INI106"


def test_of_a_wrong_gain_over_a_wrong_fan_the_graver_is_named():
    torch.manual_seed(0)
    with recording() as log:
        model = nn.Sequential(nn.Conv2d(64, 64, 3, groups=64, bias=False), nn.Conv2d(64, 64, 1, bias=False))
        nn.init.kaiming_normal_(model[0].weight, mode="fan_out", nonlinearity="relu")
        nn.init.xavier_normal_(model[1].weight)
    assert only(model, (1, 64, 9, 9), provenance=log).code == "INI106"


def test_before_a_norm_further_on_it_is_a_warning():
    torch.manual_seed(0)
    model = nn.Sequential(net(normal, HE / 7), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 4, bias=False))
    nn.init.xavier_normal_(model[2].weight)
    assert [each.severity for each in result(model).findings] == ["warning"]


def test_standardised_weights_have_no_scale():
    class Standardised(nn.Linear):
        def forward(self, x):
            weight = self.weight - self.weight.mean(1, keepdim=True)
            return F.linear(x, weight / (weight.std(1, keepdim=True) + 1e-6))

    torch.manual_seed(0)
    model = Net()
    model.inner = drawn(Standardised(WIDTH, WIDTH, bias=False), nn.init.normal_, std=5.0)
    assert only(model).severity == "info"


def test_depth_scaled_branch_ends_pass():
    class Stack(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(Net() for _ in range(6))

        def forward(self, x):
            for block in self.blocks:
                x = x + block(x)
            return x

    torch.manual_seed(0)
    model = Stack()
    for block in model.blocks:
        nn.init.normal_(block.outer.weight, std=XAVIER / math.sqrt(6))
    assert not result(model).findings


# What is looked at, and what is said.


def test_small_layers_get_the_tolerance_of_their_size():
    for seed in range(200):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2, bias=False))
        nn.init.kaiming_normal_(model[0].weight)
        nn.init.xavier_normal_(model[2].weight)
        assert not check(model, (2, 3)).findings


def test_frozen_and_zero_weights_are_not_judged():
    model = net(normal, 5.0)
    model.inner.requires_grad_(False)
    nn.init.zeros_(model.outer.weight)
    assert not result(model).findings


def test_a_constant_weight_has_one_finding():
    found = only(net(nn.init.constant_, 0.5))
    assert found.code == "INI004"


def test_a_record_decides_what_statistics_cannot():
    torch.manual_seed(0)
    with recording() as log:
        model = Net(act=nn.LeakyReLU(0.5))
        nn.init.kaiming_normal_(model.inner.weight, a=0.01)
    found = only(model, provenance=log)
    assert found.code == "INI105"
    assert "a=0.01" in found.recipe
    assert found.location is not None
    assert found.location.file == __file__


def test_a_record_of_fan_out_is_a_wrong_fan():
    torch.manual_seed(0)
    with recording() as log:
        model = nn.Sequential(nn.Linear(256, 128, bias=False), nn.ReLU(), nn.Linear(128, 128, bias=False))
        nn.init.kaiming_normal_(model[0].weight, mode="fan_out", nonlinearity="linear")  # as large as fan_in with relu
        nn.init.kaiming_normal_(model[0].weight, mode="fan_out", nonlinearity="relu")
        nn.init.xavier_normal_(model[2].weight)
    assert only(model, (2, 256), provenance=log).code == "INI106"


def test_expressions_can_be_pasted():
    assert expression("layers.0.conv1.weight") == "model.layers[0].conv1.weight"
    assert expression("weight") == "model.weight"


def test_fixes_repair():
    model = net(nn.init.xavier_normal_)
    exec(only(model).fix, {"nn": nn, "model": model})
    assert not result(model).findings


def test_checking_changes_nothing():
    model = net(nn.init.xavier_normal_).train()
    state = {name: each.clone() for name, each in model.state_dict().items()}
    random = torch.get_rng_state()
    result(model)
    assert torch.equal(random, torch.get_rng_state())
    assert model.training
    assert all(torch.equal(each, state[name]) for name, each in model.state_dict().items())


class ToExpAndRelu(nn.Module):
    """A weight that feeds a function without a name of its own in the table of gains, and a rectifier."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.fc = nn.Linear(400, 400, bias=False)
        nn.init.normal_(self.fc.weight, std=gain / 400**0.5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        z = self.fc(x)
        return z.exp(), z.relu()


@pytest.mark.parametrize(("gain", "passes"), [(0.25, False), (math.exp(-1), True), (2**0.5, True), (2.0, False)])
def test_scales_between_all_gains_pass_where_what_is_fed_is_mixed(gain: float, passes: bool) -> None:
    """1 / sqrt(E exp(2 z)) = exp(-1) for exp, sqrt(2) for relu."""
    torch.manual_seed(0)
    found = check(ToExpAndRelu(gain), select=["INI1"], recipe="none").findings
    assert (found == ()) is passes
