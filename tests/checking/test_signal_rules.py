"""INI401 to INI403: signals that vanish or explode over depth, by closed forms; and norms whose eps outweighs them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

import tests.shared.torchvision_ops  # noqa: F401
from autoinit import autoinit
from autoinit.checking.checker import check
from autoinit.checking.findings import CheckResult, Finding
from autoinit.errors import TraceError
from tests.shared.models.gpt2 import GPT2, FlashAttention
from tests.shared.rule_checks import findings, only

WIDTH = 96
INPUT = (4, WIDTH)


def layer(variance: float, outputs: int = WIDTH) -> nn.Linear:
    """A linear layer whose weight has exactly this variance times fan_in, without a bias."""
    made = nn.Linear(WIDTH, outputs, bias=False)
    with torch.no_grad():
        drawn = torch.randn(made.weight.shape, generator=torch.Generator().manual_seed(0))
        made.weight.copy_(drawn / drawn.square().mean(dim=1, keepdim=True).sqrt() * math.sqrt(variance / WIDTH))
    return made


def chain(depth: int, variance: float, *between: Callable[[], nn.Module]) -> nn.Sequential:
    layers = [each for _ in range(depth) for each in (layer(variance), *(make() for make in between))]
    return nn.Sequential(*layers[: len(layers) - len(between)])


def default(depth: int, act: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(each for _ in range(depth) for each in (nn.Linear(WIDTH, WIDTH), act())), nn.Linear(WIDTH, 10)
    )


def written(model: nn.Module, init: Callable[..., object], **options: object) -> nn.Module:
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            init(module.weight, **options)
            nn.init.zeros_(module.bias)
    return model


def codes(found: Sequence[Finding]) -> list[str]:
    return sorted(each.code for each in found)


def about_depth(model: nn.Module, inputs: object = INPUT, **options: object) -> CheckResult:
    return check(model, inputs, select=["INI4"], **options)


def test_ini401_names_the_layer_where_the_signal_vanishes() -> None:
    """0.2^8 = 2.6e-6, 0.2^9 = 5.1e-7."""
    found = only("INI401", chain(14, 0.2), INPUT)
    assert (found.layer, found.param, found.severity) == ("8", "", "error")
    assert "vanishes: second moment 5.1e-07 here, after 9 weight layers, each multiplying it by 0.2 " in found.message
    assert found.fix == 'autoinit(model, method="signal")'
    assert found.fix in found.message


def test_ini401_names_the_layer_where_the_signal_explodes() -> None:
    """5^8 = 3.9e5, 5^9 = 2.0e6."""
    found = only("INI401", chain(14, 5.0), INPUT)
    assert found.layer == "8"
    assert "explodes: second moment 2.0e+06 here, after 9 weight layers, each multiplying it by 5 " in found.message


def test_ini401_names_one_layer_that_makes_most_of_it() -> None:
    model = chain(6, 1.0)
    model[3] = layer(1e-9)
    found = only("INI401", model, INPUT)
    assert found.layer == "3"
    told = re.search(r"most of it 3 \((\S+) times\)", found.message)
    assert told is not None, found.message
    assert float(told[1]) == pytest.approx(1e-9, rel=0.2)


def test_ini401_names_a_signal_that_biases_cover() -> None:
    """Torch's default makes 1/6 of what differs: 0.33 / 6^7 = 1.2e-6, 0.33 / 6^8 = 2e-7; biases keep 1 / (3 fan_in)."""
    found = only("INI401", default(40), INPUT)
    assert found.layer in ("14", "16")
    assert "differs between inputs" in found.message
    assert re.search(r"each multiplying it by 0\.1[5-9] on average", found.message)


def test_ini401_names_an_overflow() -> None:
    """16 times per layer exceed what a float holds at the 32nd."""
    found = only("INI401", written(default(45), nn.init.normal_, std=4 * math.sqrt(2 / WIDTH)), INPUT)
    assert "explodes" in found.message


def test_ini401_names_what_a_declared_recipe_does() -> None:
    model = written(default(30), nn.init.normal_, std=0.02)
    assert "INI401" in codes(about_depth(model, recipe="normal(0.02)").findings)


def test_ini401_names_no_scale_as_the_cure_of_sigmoids() -> None:
    found = only("INI401", written(default(20, nn.Sigmoid), nn.init.xavier_normal_), INPUT)
    assert "No scale keeps it behind sigmoids alone" in found.message


class Faint(nn.Module):
    """A branch that a parameter makes faint on purpose, and an output of it alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.gamma = layer(1.0), layer(1.0), nn.Parameter(torch.full((WIDTH,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.gamma * self.first(x))


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(lambda: chain(40, 1.0), id="kept"),
        pytest.param(lambda: chain(40, 2.0, nn.ReLU), id="he"),
        pytest.param(lambda: nn.Sequential(chain(14, 0.2), nn.LayerNorm(WIDTH, eps=0.0), layer(1.0)), id="norm_behind"),
        pytest.param(
            lambda: nn.Sequential(chain(14, 5.0), nn.LayerNorm(WIDTH), layer(1.0)), id="norm_behind_explosion"
        ),
        pytest.param(lambda: nn.Sequential(chain(3, 1.0), layer(0.0)), id="zero_head"),
        pytest.param(lambda: nn.Sequential(chain(3, 1.0), layer(1e-12)), id="small_head"),
        pytest.param(Faint, id="faint_on_purpose"),
    ],
)
def test_ini401_passes_what_comes_back_or_is_meant(model: Callable[[], nn.Module]) -> None:
    assert findings("INI401", model(), INPUT) == []


def test_ini401_passes_what_the_tracing_knows_no_shapes_of() -> None:
    assert findings("INI401", chain(14, 0.2)) == []


def test_ini402_names_the_layer_where_the_gradient_vanishes() -> None:
    """Of 20 layers, behind 12: 0.2^12 = 4.1e-9, 0.2^11 = 2.0e-8."""
    found = only("INI402", chain(20, 0.2), INPUT)
    assert (found.layer, found.param, found.severity) == ("7", "", "error")
    assert "vanishes on the way here: 4.1e-09 times its energy at the outputs, after 12 weight layers" in found.message


def test_ini402_names_the_layer_where_the_gradient_explodes() -> None:
    """5^11 = 4.9e7, 5^12 = 2.4e8."""
    found = only("INI402", chain(20, 5.0), INPUT)
    assert found.layer == "7"
    assert "explodes on the way here: 2.4e+08 times" in found.message


@pytest.mark.parametrize("inputs", [INPUT, (1, WIDTH)], ids=["batch", "one_sample"])
def test_ini402_names_torch_s_default_over_40_layers(inputs: tuple[int, ...]) -> None:
    """1/6 with each layer, 1/3 of it elementwise at a head of 10: 6^-10 = 1.7e-8 and 6^-11 = 2.8e-9."""
    found = only("INI402", default(40), inputs)
    assert found.layer in ("56", "58", "60")


def test_ini402_names_deep_sigmoids() -> None:
    found = only("INI402", written(default(20, nn.Sigmoid), nn.init.xavier_normal_), INPUT)
    assert "No scale keeps it behind sigmoids alone" in found.message


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(lambda: chain(40, 1.0), id="kept"),
        pytest.param(lambda: chain(40, 2.0, nn.ReLU), id="he"),
        pytest.param(lambda: nn.Sequential(chain(3, 1.0), layer(0.0)), id="zero_head"),
        pytest.param(lambda: nn.Sequential(chain(3, 1.0), layer(1e-12)), id="small_head"),
        pytest.param(Faint, id="faint_on_purpose"),
    ],
)
def test_ini402_passes_what_arrives_or_is_meant(model: Callable[[], nn.Module]) -> None:
    assert findings("INI402", model(), INPUT) == []


@pytest.mark.parametrize("samples", [2, 4, 32])
def test_ini402_passes_batch_norms_over_few_samples(samples: int) -> None:
    """Of n values a batch norm keeps 1 - 2 / n of the gradient: nothing of two, whatever the weights."""
    torch.manual_seed(0)
    blocks = (each for _ in range(10) for each in (layer(2.0), nn.BatchNorm1d(WIDTH), nn.ReLU()))
    assert findings("INI402", nn.Sequential(*blocks, layer(1.0)), (samples, WIDTH)) == []


class Residual(nn.Module):
    """x + W x, `depth` times, with a norm at the end if wanted."""

    def __init__(self, depth: int, norm: nn.Module | None = None, variance: float = 1.0) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(layer(variance) for _ in range(depth))
        self.norm, self.head = norm or nn.Identity(), layer(1.0)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        return self.head(self.norm(x))


def test_ini403_names_a_stream_that_doubles() -> None:
    """2, 4, ... 2^12 = 4096; surrogates of few features stray from it."""
    found = only("INI403", Residual(12), INPUT)
    assert (found.layer, found.severity) == ("blocks.0", "warning")
    told = re.search(r"over its 12 branches from second moment (\S+) to (\S+), 2(\.\d)? times with each", found.message)
    assert told is not None, found.message
    assert float(told[2]) / float(told[1]) == pytest.approx(2**11, rel=0.5)
    assert found.fix == 'autoinit(model, residual="depth")'


def test_ini403_passes_a_stream_with_a_norm_at_its_end() -> None:
    assert findings("INI403", Residual(12, nn.LayerNorm(WIDTH)), INPUT) == []


def test_ini403_passes_a_stream_scaled_by_depth() -> None:
    """(1 + 1/12)^11 = 2.4."""
    assert findings("INI403", Residual(12, variance=1 / 12), INPUT) == []
    model = Residual(12)
    autoinit(model, residual="depth", seed=0, verbose=False)
    assert about_depth(model).findings == ()


def test_ini403_passes_a_short_stream() -> None:
    assert findings("INI403", Residual(3, variance=9.0), INPUT) == []


def test_what_the_findings_say_to_do_is_enough() -> None:
    model = default(40)
    assert codes(about_depth(model).findings) == ["INI401", "INI402"]
    autoinit(model, method="signal", seed=0, verbose=False)
    assert about_depth(model).findings == ()


def test_a_layer_s_ignore_takes_the_finding_out() -> None:
    result = about_depth(chain(14, 0.2), ignore=["INI402"])
    assert [each.layer for each in result.findings] == ["8"]
    assert about_depth(chain(14, 0.2), ignore=["INI401", "INI402"]).findings == ()


@pytest.mark.parametrize("select", [["INI4"], ["ini401"], ["INI1", "INI402", "INI401"]])
def test_selecting_a_rule_about_depth_has_an_input_guessed(select: list[str]) -> None:
    assert "INI401" in codes(check(chain(14, 0.2), select=select).findings)


@pytest.mark.parametrize("select", [[], ["INI"], ["INI1"]])
def test_nothing_is_guessed_or_said_where_nobody_asked(select: list[str]) -> None:
    result = check(chain(14, 0.2), select=select)
    assert not {"INI401", "INI402"} & set(codes(result.findings))
    assert not any("INI4" in note for note in result.notes)


def test_a_model_without_values_is_said_to_have_no_signal() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    result = check(model, (2, 8), select=["INI4"])
    assert result.findings == ()
    assert any("not propagated" in note and "meta device" in note for note in result.notes)


class Choosy(nn.Module):
    """Takes an input that nobody can guess."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.reshape(7, 11, 8))


def test_selecting_a_rule_about_depth_fails_where_no_input_can_be_guessed() -> None:
    assert check(Choosy()).layers == 1
    with pytest.raises(TraceError, match="pass example_inputs"):
        check(Choosy(), select=["INI4"])


def normed(std: float) -> nn.Sequential:
    torch.manual_seed(0)
    inner = nn.Linear(256, 256, bias=False)
    nn.init.normal_(inner.weight, std=std)
    outer = nn.Linear(256, 256, bias=False)
    nn.init.xavier_normal_(outer.weight)
    return nn.Sequential(inner, nn.LayerNorm(256), nn.ReLU(), outer)


def test_a_norm_whose_eps_outweighs_the_signal_does_not_make_it_harmless() -> None:
    """256 * 1e-8 = 2.56e-6 before it, 2.56e-6 / (2.56e-6 + 1e-5) = 0.20 after it."""
    (found,) = (each for each in check(normed(1e-4), (8, 256)).findings if each.layer == "0")
    assert found.severity == "error"
    assert (
        "1 does not restore it, since its eps outweighs it: second moment 0.2 after the norm, expected 1."
        in found.message
    )


def test_a_norm_that_restores_the_signal_makes_it_harmless() -> None:
    """256 * 4e-4 = 0.1 before it."""
    (found,) = (each for each in check(normed(0.02), (8, 256)).findings if each.layer == "0")
    assert found.severity == "info"


class UnitLength(nn.Module):
    """A hand-written RMSNorm: rows of length 1, times sqrt(256)."""

    def __init__(self, spelling: str, eps: float = 1e-12) -> None:
        super().__init__()
        self.spelling, self.eps = spelling, eps
        self.gain = nn.Parameter(torch.ones(256))

    def forward(self, x: Tensor) -> Tensor:
        unit = nn.functional.normalize(x, dim=-1, eps=self.eps)
        match self.spelling:
            case "gain last":
                return unit * 256**0.5 * self.gain
            case "gain first":
                return unit * self.gain * 256**0.5
            case "channels first":
                return nn.functional.normalize(x[:, :, None], dim=1, eps=self.eps)[..., 0] * 16.0 * self.gain
            case _:
                return unit


@pytest.mark.parametrize("spelling", ["gain last", "gain first", "channels first", "no factor"])
def test_rows_of_length_one_are_no_outweighed_norm(spelling: str) -> None:
    """256 numbers of length 1 have mean square 1 / 256 whatever the scale before: no eps has a part in it.

    A std of 0.02 is beside Xavier's 0.0625, so that the layer is named, as information.
    """
    model = normed(0.02)
    model[1] = UnitLength(spelling)
    (found,) = (each for each in check(model, (8, 256)).findings if each.layer == "0")
    assert found.severity == "info"
    assert "eps" not in found.message


def test_rows_that_a_large_eps_leaves_short_are_outweighed() -> None:
    """Rows of second moment 256 * 1e-8 have length 0.0256; over an eps of 1 in place of that, 2.6e-6 for 1 / 256."""
    model = normed(1e-4)
    model[1] = UnitLength("gain last", eps=1.0)
    (found,) = (each for each in check(model, (8, 256)).findings if each.layer == "0")
    assert found.severity == "error"
    assert "its eps outweighs it: second moment 2.6e-06 after the norm, expected 0.0039." in found.message


def test_without_shapes_a_norm_is_believed() -> None:
    (found,) = (each for each in check(normed(1e-4)).findings if each.layer == "0")
    assert found.severity == "info"


@pytest.mark.parametrize("planned", [False, True], ids=["as_constructed", "as_planned"])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "gpt2"])
def test_sound_models_have_no_finding_about_depth(name: str, planned: bool) -> None:
    import torchvision

    torch.manual_seed(0)
    model = GPT2(FlashAttention, nn.GELU) if name == "gpt2" else getattr(torchvision.models, name)()
    if planned:
        autoinit(model, seed=0, verbose=False)
    result = about_depth(model, None if name == "gpt2" else (2, 3, 64, 64))
    assert result.findings == ()
    assert not any("not propagated" in note for note in result.notes)
