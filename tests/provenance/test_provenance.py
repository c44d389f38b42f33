"""What a recording says of parameters and modules, against what the lines of these tests do."""

from __future__ import annotations

import copy
import gc
import inspect
import linecache
import math
import threading
import weakref
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.nn.modules import module as torch_module
from torch.nn.utils import parametrizations
from torch.overrides import _get_current_function_mode_stack

from autoinit.provenance import Origin, Recording, recording, written

HERE = __file__


def line() -> int:
    """The line of the caller."""
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


def of(log: Recording, tensor: torch.Tensor) -> Origin:
    origin = log.origin(tensor)
    assert origin is not None
    return origin


def at(origin: Origin) -> int:
    """The origin's line, which must be one of this file."""
    assert origin.source is not None
    assert origin.source.file == HERE
    return origin.source.line


def freed(ref: weakref.ReferenceType) -> bool:
    """Whether nothing holds the object; of a storage, torch 2.9 may hand out an empty shell afterwards."""
    found = ref()
    if not isinstance(found, torch.UntypedStorage):
        return found is None
    try:
        return not found.tolist()
    except RuntimeError:
        return True


def library(name: str, text: str) -> ModuleType:
    """A module in a file of its own, as a library of initialisers is."""
    made = ModuleType(name)
    filename = f"<{name}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(True), filename)
    exec(compile(text, filename, "exec"), made.__dict__)
    return made


class TestDefaultsOfTorch:
    """Each module's documented default, in torch's own words."""

    def test_linear(self):
        with recording() as log:
            layer, here = nn.Linear(16, 4), line()
        weight, bias = of(log, layer.weight), of(log, layer.bias)
        assert weight.function == "torch.nn.init.kaiming_uniform_"
        assert weight.arguments == {"a": math.sqrt(5), "mode": "fan_in", "nonlinearity": "leaky_relu"}
        assert (bias.function, bias.arguments) == ("torch.nn.init.uniform_", {"a": -0.25, "b": 0.25})
        for origin in (weight, bias):
            assert (origin.default, origin.then, origin.factor, at(origin)) == (True, (), 1.0, here)

    @pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d])
    def test_convolutions(self, kind):
        with recording() as log:
            layer, here = kind(4, 4, 2), line()
        origin = of(log, layer.weight)
        assert origin.function == "torch.nn.init.kaiming_uniform_"
        assert origin.arguments["a"] == math.sqrt(5)
        assert (origin.default, at(origin)) == (True, here)

    def test_lstm(self):
        with recording() as log:
            layer, here = nn.LSTM(3, 4, num_layers=2, bidirectional=True), line()
        origins = [of(log, parameter) for parameter in layer.parameters()]
        assert len(origins) == 16
        for origin in origins:
            assert (origin.function, origin.arguments) == ("torch.nn.init.uniform_", {"a": -0.5, "b": 0.5})
            assert (origin.default, at(origin)) == (True, here)

    def test_multihead_attention(self):
        with recording() as log:
            layer, here = nn.MultiheadAttention(8, 2), line()
        packed = of(log, layer.in_proj_weight)
        assert (packed.function, packed.arguments) == ("torch.nn.init.xavier_uniform_", {"gain": 1.0})
        assert (packed.default, at(packed)) == (True, here)
        assert of(log, layer.out_proj.weight).function == "torch.nn.init.kaiming_uniform_"
        assert of(log, layer.out_proj.bias).arguments == {"val": 0.0}

    def test_embedding(self):
        with recording() as log:
            plain, padded = nn.Embedding(5, 3), nn.Embedding(5, 3, padding_idx=2)
        origin = of(log, plain.weight)
        assert (origin.function, origin.arguments) == ("torch.nn.init.normal_", {"mean": 0.0, "std": 1.0})
        assert origin.then == ()
        assert of(log, padded.weight).function == "torch.nn.init.normal_"
        assert of(log, padded.weight).then == ("row 2 fill_(0)",)

    def test_norms(self):
        with recording() as log:
            layer = nn.BatchNorm2d(3)
        assert of(log, layer.weight).function == "torch.nn.init.ones_"
        assert of(log, layer.bias).function == "torch.nn.init.zeros_"
        assert of(log, layer.weight).default

    def test_copied_layers_of_a_transformer(self):
        with recording() as log:
            model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
            here = line() - 1
        for layer in model.layers:
            origin = of(log, layer.linear1.weight)
            assert (origin.function, origin.default, at(origin)) == ("torch.nn.init.kaiming_uniform_", True, here)

    def test_reset_again(self):
        with recording() as log:
            layer = nn.Linear(4, 4)
            nn.init.zeros_(layer.weight)
            layer.reset_parameters()
            here = line() - 1
        origin = of(log, layer.weight)
        assert (origin.function, origin.default, at(origin)) == ("torch.nn.init.kaiming_uniform_", True, here)

    def test_lazy(self):
        with recording() as log:
            layer = nn.LazyLinear(4)
            layer(torch.zeros(1, 9))
        assert of(log, layer.weight).arguments["a"] == math.sqrt(5)
        assert of(log, layer.weight).default
        assert of(log, layer.bias).arguments == {"a": pytest.approx(-1 / 3), "b": pytest.approx(1 / 3)}


INITIALISERS = [
    ("uniform_", {"a": -0.1, "b": 0.3}, {"a": -0.1, "b": 0.3}),
    ("normal_", {"std": 0.02}, {"mean": 0.0, "std": 0.02}),
    ("trunc_normal_", {"std": 0.02}, {"mean": 0.0, "std": 0.02, "a": -2.0, "b": 2.0}),
    ("trunc_normal_", {"mean": 3.0}, {"mean": 3.0, "std": 1.0, "a": -2.0, "b": 2.0}),
    ("constant_", {"val": 0.5}, {"val": 0.5}),
    ("ones_", {}, {}),
    ("zeros_", {}, {}),
    ("eye_", {}, {}),
    ("xavier_uniform_", {"gain": 2.0}, {"gain": 2.0}),
    ("xavier_normal_", {}, {"gain": 1.0}),
    ("kaiming_uniform_", {"a": 0.2}, {"a": 0.2, "mode": "fan_in", "nonlinearity": "leaky_relu"}),
    (
        "kaiming_normal_",
        {"mode": "fan_out", "nonlinearity": "relu"},
        {"a": 0, "mode": "fan_out", "nonlinearity": "relu"},
    ),
    ("orthogonal_", {"gain": 1.5}, {"gain": 1.5}),
    ("sparse_", {"sparsity": 0.5}, {"sparsity": 0.5, "std": 0.01}),
]


class TestInitialisers:
    @pytest.mark.parametrize(("name", "given", "expected"), INITIALISERS)
    @pytest.mark.parametrize("device", ["cpu", "meta"])
    @pytest.mark.filterwarnings("ignore:mean is more than 2 std")
    def test_each(self, name, given, expected, device):
        if name == "trunc_normal_" and given == {"mean": 3.0} and device == "cpu":
            given, expected = {"mean": 1.9}, {**expected, "mean": 1.9}  # the other branch of its sampling
        with recording() as log:
            layer = nn.Linear(6, 4, device=device)
            getattr(nn.init, name)(layer.weight, **given)
            here = line() - 1
        origin = of(log, layer.weight)
        assert origin == Origin(f"torch.nn.init.{name}", expected, origin.source)
        assert at(origin) == here

    @pytest.mark.parametrize("device", ["cpu", "meta"])
    def test_dirac(self, device):
        with recording() as log:
            layer = nn.Conv2d(4, 4, 3, device=device)
            nn.init.dirac_(layer.weight, groups=2)
        assert of(log, layer.weight).function == "torch.nn.init.dirac_"
        assert of(log, layer.weight).arguments == {"groups": 2}
        assert of(log, layer.weight).then == ()

    def test_of_an_alias(self):
        with recording() as log:
            layers = [nn.Linear(3, 3) for _ in range(4)]
            nn.init.normal_(layers[0].weight.data, std=0.5)
            nn.init.normal_(layers[1].weight.detach(), std=0.5)
            with torch.no_grad():
                nn.init.normal_(layers[2].weight.view(-1), std=0.5)
                nn.init.normal_(layers[3].weight.T, std=0.5)
        for layer in layers:
            assert of(log, layer.weight).arguments == {"mean": 0.0, "std": 0.5}
            assert not of(log, layer.weight).default

    def test_by_apply(self):
        def start(module):
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)

        with recording() as log:
            model = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3))).apply(start)
        for layer in (model[0], model[1][0]):
            origin = of(log, layer.weight)
            assert (origin.function, origin.default) == ("torch.nn.init.xavier_normal_", False)
            assert at(origin) == start.__code__.co_firstlineno + 2
            assert origin.source is not None
            assert origin.source.function == "start"

    def test_by_a_subclass_that_resets_otherwise(self):
        class Small(nn.Linear):
            def reset_parameters(self):
                super().reset_parameters()
                nn.init.normal_(self.weight, std=0.01)

        with recording() as log:
            layer = Small(3, 3)
        first = Small.reset_parameters.__code__.co_firstlineno
        assert (of(log, layer.weight).default, at(of(log, layer.weight))) == (False, first + 2)
        assert (of(log, layer.bias).default, at(of(log, layer.bias))) == (True, first + 1)


WRAPPERS = """
import math
import torch
from torch import nn

def _cut_normal_(tensor, mean, std, a, b):
    tensor.uniform_(-0.9, 0.9)
    tensor.erfinv_()
    tensor.mul_(std * math.sqrt(2.0))
    tensor.add_(mean)
    tensor.clamp_(min=a, max=b)
    return tensor

def cut_normal_(tensor, mean=0.0, std=1.0, a=-2.0, b=2.0):
    with torch.no_grad():
        _cut_normal_(tensor, 0, 1.0, a, b)
        tensor.mul_(std).add_(mean)

@torch.no_grad()
def guarded_(tensor, *, gain=1.0, seen=False):
    if not seen:
        nn.init.orthogonal_(tensor, gain=gain)

def from_copy_(tensor, std=0.1):
    with torch.no_grad():
        tensor.copy_(torch.randn(tensor.shape) * std)

def halve_(tensor):
    with torch.no_grad():
        tensor.mul_(0.5)
"""


class TestInitialisersOfLibraries:
    """One call of a library's initialiser is one origin, named by the outermost function that was given the tensor."""

    lib = library("painter", WRAPPERS)

    @pytest.mark.parametrize("device", ["cpu", "meta"])
    def test_several_steps_are_one_origin(self, device):
        with recording() as log:
            layer = nn.Linear(3, 3, device=device)
            self.lib.cut_normal_(layer.weight, std=0.02)
            here = line() - 1
        origin = of(log, layer.weight)
        assert origin.function == "painter.cut_normal_"
        assert origin.arguments == {"mean": 0.0, "std": 0.02, "a": -2.0, "b": 2.0}
        assert (origin.then, origin.factor, at(origin)) == ((), 1.0, here)

    def test_wrapper_of_torch(self):
        with recording() as log:
            layer = nn.Linear(3, 3)
            self.lib.guarded_(layer.weight, gain=0.5)
            here = line() - 1
        origin = of(log, layer.weight)
        assert (origin.function, origin.arguments) == ("painter.guarded_", {"gain": 0.5, "seen": False})
        assert at(origin) == here

    def test_values_made_beside_the_tensor(self):
        with recording() as log:
            layer = nn.Linear(3, 3)
            self.lib.from_copy_(layer.weight)
        assert of(log, layer.weight).call == "from_copy_(std=0.1)"

    def test_a_function_that_only_scales_is_no_origin(self):
        with recording() as log:
            layer = nn.Linear(3, 3)
            self.lib.cut_normal_(layer.weight)
            self.lib.halve_(layer.weight)
            self.lib.halve_(layer.weight)
        origin = of(log, layer.weight)
        assert (origin.function, origin.then) == ("painter.cut_normal_", ("mul_(0.5)", "mul_(0.5)"))
        assert origin.factor == 0.25

    def test_on_a_part(self):
        with recording() as log:
            layer = nn.Linear(3, 6)
            with torch.no_grad():
                self.lib.cut_normal_(layer.weight[:2], std=0.5)
        assert of(log, layer.weight).function == "torch.nn.init.kaiming_uniform_"
        assert of(log, layer.weight).then == ("rows 0:2 cut_normal_(mean=0, std=0.5, a=-2, b=2)",)

    def test_torch_patched_to_call_the_library(self, monkeypatch):
        """As transformers does while it builds a model."""
        original = nn.init.constant_

        def constant_(tensor, val):
            return original(tensor, val)

        monkeypatch.setattr(nn.init, "constant_", constant_)
        with recording() as log:
            layer = nn.Linear(3, 3)
            nn.init.constant_(layer.weight, 2.0)
        assert of(log, layer.weight).arguments == {"val": 2.0}
        assert of(log, layer.weight).then == ()


class TestChangesInPlace:
    def test_scaling(self):
        with recording() as log:
            layer = nn.Linear(3, 3)
            layer.weight.data.mul_(0.1)
            with torch.no_grad():
                layer.weight.div_(math.sqrt(6))
                layer.weight *= 2
                layer.weight /= 4
        origin = of(log, layer.weight)
        assert origin.function == "torch.nn.init.kaiming_uniform_"
        assert origin.then == ("mul_(0.1)", "div_(2.449)", "mul_(2)", "div_(4)")
        assert origin.factor == pytest.approx(0.1 / math.sqrt(6) * 2 / 4)

    def test_scaling_by_a_tensor_without_axes(self):
        with recording() as log:
            layer = nn.Linear(3, 3)
            layer.weight.data.mul_(torch.tensor(0.25))
        assert of(log, layer.weight).factor == 0.25

    def test_changes_that_do_not_scale(self):
        with recording() as log:
            layer = nn.Linear(3, 3)
            with torch.no_grad():
                layer.weight.clamp_(-2, 2).add_(torch.ones(3))
                layer.weight.mul_(torch.ones(3))
        assert of(log, layer.weight).then == ("clamp_(-2, 2)", "add_(...)", "mul_(...)")
        assert of(log, layer.weight).factor == 1.0

    def test_many_tensors_at_once(self):
        with recording() as log:
            layer = nn.Linear(3, 3)
            with torch.no_grad():
                torch._foreach_mul_([layer.weight, layer.bias], 0.5)
                torch._foreach_mul_([layer.weight, layer.bias], [0.5, 3.0])
        assert of(log, layer.weight).factor == 0.25
        assert of(log, layer.bias).then == ("mul_(0.5)", "mul_(3)")

    @pytest.mark.parametrize(
        ("write", "function", "arguments"),
        [
            (lambda w: w.normal_(), "Tensor.normal_", {"mean": 0.0, "std": 1.0}),
            (lambda w: w.normal_(0, std=0.02), "Tensor.normal_", {"mean": 0, "std": 0.02}),
            (lambda w: w.uniform_(-0.5, 0.5), "Tensor.uniform_", {"from": -0.5, "to": 0.5}),
            (lambda w: w.fill_(3), "Tensor.fill_", {"value": 3}),
            (lambda w: w.zero_(), "Tensor.zero_", {}),
            (lambda w: torch.zero_(w), "Tensor.zero_", {}),
            (lambda w: w.__setitem__(slice(None), 3.0), "Tensor.fill_", {"value": 3.0}),
            (lambda w: torch.normal(0.0, 0.02, w.shape, out=w), "torch.normal", {"mean": 0.0, "std": 0.02}),
        ],
    )
    def test_new_values_are_a_new_origin(self, write, function, arguments):
        with recording() as log:
            layer = nn.Linear(3, 3)
            with torch.no_grad():
                layer.weight.mul_(0.1)
                write(layer.weight)
        origin = of(log, layer.weight)
        assert origin == Origin(function, arguments, origin.source)
        assert at(origin) in (line() - 4, write.__code__.co_firstlineno)

    def test_no_change_of_values(self):
        with recording() as log:
            layer = nn.Linear(3, 3)
            layer.weight.requires_grad_(False).share_memory_()
            layer.weight.data = layer.weight.data
        assert of(log, layer.weight).then == ()


class TestParts:
    """A write to a part is noted, and does not hide where the rest comes from."""

    @pytest.mark.parametrize(
        ("write", "text"),
        [
            (lambda w: w[2].fill_(0), "row 2 fill_(0)"),
            (lambda w: w[2].zero_(), "row 2 zero_()"),
            (lambda w: w[:2].normal_(0, 0.5), "rows 0:2 normal_(0, 0.5)"),
            (lambda w: w[-1].mul_(3), "row 3 mul_(3)"),
            (lambda w: w[:, 1:].zero_(), "columns 1:3 zero_()"),
            (lambda w: w[:, 0].zero_(), "column 0 zero_()"),
            (lambda w: w[1:3, :2].zero_(), "a part zero_()"),
            (lambda w: w.__setitem__(1, 0.5), "row 1 fill_(0.5)"),
            (lambda w: w.__setitem__((slice(None), 1), 2), "column 1 fill_(2)"),
            (lambda w: w.__setitem__(0, torch.ones(3) * 2), "row 0 ones() mul(2)"),
            (lambda w: w.__setitem__([0, 2], 0.0), "some elements fill_(0)"),
            (lambda w: w.chunk(2)[1].uniform_(), "rows 2:4 uniform_(0, 1)"),
            (lambda w: nn.init.xavier_uniform_(w[:2]), "rows 0:2 xavier_uniform_(gain=1)"),
            (lambda w: w.masked_fill_(torch.eye(4, 3) > 0, 0.0), "masked_fill_(..., 0)"),
        ],
    )
    def test_of_a_weight(self, write, text):
        with recording() as log:
            layer = nn.Linear(3, 4)
            with torch.no_grad():
                write(layer.weight)
        origin = of(log, layer.weight)
        assert (origin.function, origin.then, origin.factor) == ("torch.nn.init.kaiming_uniform_", (text,), 1.0)

    def test_of_a_bias(self):
        with recording() as log:
            layer = nn.Linear(3, 4)
            layer.bias.data[1:3] = 1
        assert of(log, layer.bias).then == ("elements 1:3 fill_(1)",)

    def test_scaling_a_slice_in_place(self):
        with recording() as log:
            layer = nn.Linear(3, 4)
            with torch.no_grad():
                layer.weight[:2] *= 0.1
        assert of(log, layer.weight).then == ("rows 0:2 mul_(0.1)",)

    def test_are_gone_with_the_next_whole_write(self):
        with recording() as log:
            layer = nn.Linear(3, 4)
            layer.weight.data[0].zero_()
            nn.init.normal_(layer.weight)
        assert of(log, layer.weight).then == ()

    def test_row_by_row(self):
        with recording() as log:
            layers = [nn.Linear(3, 6) for _ in range(3)]
            with torch.no_grad():
                for row in range(5):
                    layers[0].weight[row] = 0.5
                    layers[1].weight[row + 1] *= 2
                for row in range(6):
                    nn.init.normal_(layers[2].weight[row], std=0.5)
                layers[2].weight.mul_(2)
        assert of(log, layers[0].weight).then == ("rows 0:5 fill_(0.5)",)
        assert of(log, layers[1].weight).then == ("rows 1:6 mul_(2)",)
        assert of(log, layers[2].weight).call == "normal_(mean=0, std=0.5)"
        assert of(log, layers[2].weight).then == ("mul_(2)",)

    def test_thousands_of_writes_are_kept_in_bounds(self):
        with recording() as log:
            layer = nn.Linear(1, 3000)
            with torch.no_grad():
                for row in range(0, 3000, 2):
                    layer.weight[row] = 0.0
        then = of(log, layer.weight).then
        assert then[:2] == ("row 0 fill_(0)", "row 2 fill_(0)")
        assert then[-1] == "a part changed further"
        assert len(then) == 999

    def test_parameters_in_one_buffer(self):
        """Each is whole in itself, though a part of the storage."""
        with recording() as log:
            flat = torch.zeros(20)
            first, second = nn.Parameter(flat[:12].view(4, 3)), nn.Parameter(flat[12:])
            nn.init.normal_(first, std=0.5)
            second.data.mul_(2)
        assert of(log, first).function == "torch.nn.init.normal_"
        assert of(log, first).then == ()
        assert (of(log, second).function, of(log, second).then) == ("torch.zeros", ("mul_(2)",))
        assert of(log, flat).then == ("elements 0:12 normal_(mean=0, std=0.5)", "elements 12:20 mul_(2)")


class TestValuesMadeElsewhere:
    def test_scaled_factory(self):
        with recording() as log:
            weight, here = nn.Parameter(torch.randn(3, 4) * 0.02), line()
        origin = of(log, weight)
        assert origin == Origin("torch.randn", {}, origin.source, then=("mul(0.02)",), factor=0.02)
        assert at(origin) == here

    @pytest.mark.parametrize(
        ("make", "function", "factor"),
        [
            (lambda: 0.5 * torch.rand(3, 3), "torch.rand", 0.5),
            (lambda: -torch.rand(3, 3), "torch.rand", -1.0),
            (lambda: torch.randn(3, 3) / 4, "torch.randn", 0.25),
            (lambda: torch.randn(3, 3).mul(2).div(8), "torch.randn", 0.25),
            (lambda: torch.randn(3, 3).clamp(-1, 1), "torch.randn", 1.0),
            (lambda: 2 / torch.ones(3, 3), "torch.ones", 1.0),
            (lambda: torch.mul(input=torch.randn(3, 3), other=0.5), "torch.randn", 0.5),
            (lambda: torch.randn(3, 3).to(torch.float64).t().contiguous(), "torch.randn", 1.0),
            (lambda: torch.ones(3, 3).normal_(), "Tensor.normal_", 1.0),
            (lambda: nn.init.orthogonal_(torch.empty(3, 3)), "torch.nn.init.orthogonal_", 1.0),
            (lambda: torch.randn(3, 3) + torch.randn(3, 3), "Tensor.add", 1.0),
            (lambda: torch.cat([torch.randn(3, 3), torch.zeros(3, 3)]), "torch.cat", 1.0),
            (lambda: torch.randn_like(torch.zeros(3, 3)), "torch.randn_like", 1.0),
            (lambda: torch.zeros(3, 3).new_ones(2), "Tensor.new_ones", 1.0),
            (lambda: torch.linalg.qr(torch.randn(3, 3))[0], "torch.linalg.qr", 1.0),
            (lambda: torch.randn(3, 3) @ torch.eye(3), "Tensor.matmul", 1.0),
            (lambda: torch.tensor([1.0, 2.0]), "torch.tensor", 1.0),
            (lambda: torch.empty(3, 3), "torch.empty", 1.0),
            (lambda: copy.deepcopy(torch.randn(3, 3)), "torch.randn", 1.0),
        ],
    )
    def test_origin_follows_the_values(self, make, function, factor):
        with recording() as log:
            weight = nn.Parameter(make())
        assert (of(log, weight).function, of(log, weight).factor) == (function, factor)
        assert at(of(log, weight)) == make.__code__.co_firstlineno

    def test_arguments_of_factories(self):
        with recording() as log:
            full, drawn = torch.full((2, 2), 0.5), torch.normal(0.0, 0.1, (2, 2))
        assert of(log, full).arguments == {"fill_value": 0.5}
        assert of(log, drawn).arguments == {"mean": 0.0, "std": 0.1}

    def test_repeated_values_are_told(self):
        with recording() as log:
            weight = nn.Parameter(torch.randn(1, 3).repeat(4, 1))
        assert (of(log, weight).function, of(log, weight).then) == ("torch.randn", ("repeat(4, 1)",))

    def test_deepcopy(self):
        with recording() as log:
            layer, here = nn.Linear(3, 3), line()
            layer.weight.data.mul_(0.5)
            twin = copy.deepcopy(layer)
            nn.init.zeros_(layer.weight)
        assert of(log, layer.weight).function == "torch.nn.init.zeros_"
        origin = of(log, twin.weight)
        assert (origin.function, origin.then, at(origin)) == ("torch.nn.init.kaiming_uniform_", ("mul_(0.5)",), here)

    def test_moved_and_cast(self):
        with recording() as log:
            layer = nn.Linear(3, 3).double()
        assert layer.weight.dtype is torch.float64
        assert of(log, layer.weight).arguments["a"] == math.sqrt(5)

    def test_copy(self):
        outside = torch.randn(3, 3)
        with recording() as log:
            first, second = nn.Linear(3, 3), nn.Linear(3, 3)
            first.weight.data.copy_(torch.rand(3, 3))
            second.weight.data.copy_(outside)
            here = line() - 1
        assert of(log, first.weight).function == "torch.rand"
        assert (of(log, second.weight).function, at(of(log, second.weight))) == ("copy_", here)

    def test_replaced_data(self):
        with recording() as log:
            layer = nn.Linear(3, 3)
            layer.weight.data = torch.eye(3) * 2
        assert (of(log, layer.weight).function, of(log, layer.weight).factor) == ("torch.eye", 2.0)

    @pytest.mark.parametrize("assign", [False, True])
    def test_load_state_dict(self, assign):
        saved = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).state_dict()
        with recording() as log:
            model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
            model.load_state_dict(saved, assign=assign)
            here = line() - 1
        for parameter in model.parameters():
            origin = of(log, parameter)
            assert (origin.function, origin.default, at(origin)) == ("load_state_dict", False, here)

    def test_load_state_dict_by_swapping(self):
        saved = nn.Linear(3, 3).state_dict()
        torch.__future__.set_swap_module_params_on_conversion(True)
        try:
            with recording() as log:
                layer = nn.Linear(3, 3)
                layer.load_state_dict(saved)
        finally:
            torch.__future__.set_swap_module_params_on_conversion(False)
        assert of(log, layer.weight).function == "load_state_dict"

    def test_to_empty(self):
        with recording() as log:
            layer = nn.Linear(3, 3, device="meta").to_empty(device="cpu")
            here = line() - 1
        origin = of(log, layer.weight)
        assert (origin.function, origin.default, at(origin)) == ("to_empty", False, here)

    def test_tied(self):
        with recording() as log:
            embedding, head = nn.Embedding(5, 3), nn.Linear(3, 5)
            head.weight = embedding.weight
            head.weight.data.mul_(0.5)
        assert of(log, embedding.weight) == of(log, head.weight)
        assert of(log, head.weight).function == "torch.nn.init.normal_"
        assert of(log, head.weight).factor == 0.5

    def test_weight_norm(self):
        with recording() as log:
            layer = parametrizations.weight_norm(nn.Linear(3, 3))
            layer.weight.data.normal_(0, 0.01)  # lost: it is written to what was computed
        held = layer.parametrizations.weight
        assert of(log, held.original1).function == "torch.nn.init.kaiming_uniform_"
        assert of(log, held.original0).function == "torch.norm_except_dim"


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.scale = nn.Parameter(torch.ones(3))
        self._add()

    def _add(self):
        self.late = nn.Parameter(torch.zeros(3))


class Wide(nn.Linear):
    def __init__(self, width):
        super().__init__(width, 4 * width)


class TestBuilding:
    first = Block.__init__.__code__.co_firstlineno

    def built(self, log, module):
        found = log.built_at(module)
        assert found is not None
        assert found.file == HERE
        return found.line

    def test_modules(self):
        with recording() as log:
            model = nn.Sequential(
                nn.Linear(3, 3),
                nn.ReLU(),
                Block(),
            )
            start = line() - 5
        assert self.built(log, model) == start
        assert self.built(log, model[0]) == start + 1
        assert self.built(log, model[2]) == start + 3
        assert self.built(log, model[2].fc) == self.first + 2

    def test_subclass_of_a_torch_module(self):
        with recording() as log:
            layer, here = Wide(3), line()
        assert self.built(log, layer) == here

    def test_module_with_nothing_of_its_own(self):
        with recording() as log:
            act = nn.ReLU()
            model = nn.Sequential(act)
            here = line() - 1
        assert self.built(log, act) == self.built(log, model) == here

    def test_module_with_a_buffer_only(self):
        class Table(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("positions", torch.arange(3))

        with recording() as log:
            table, here = Table(), line()
        assert self.built(log, table) == here

    def test_inside_torch(self):
        with recording() as log:
            layer, here = nn.TransformerEncoderLayer(8, 2), line()
        assert self.built(log, layer) == self.built(log, layer.self_attn.out_proj) == here

    def test_registered(self):
        with recording() as log:
            block = Block()
        scale, late = log.registered_at(block.scale), log.registered_at(block.late)
        assert scale is not None
        assert (scale.file, scale.line, scale.function) == (HERE, self.first + 3, "__init__")
        assert late is not None
        assert (late.line, late.function) == (Block._add.__code__.co_firstlineno + 1, "_add")
        assert log.registered_at(block.fc.weight) is None

    def test_registered_first_by_torch(self):
        with recording() as log:
            layer = nn.Linear(3, 3)
            with torch.no_grad():
                layer.weight *= 2  # sets the attribute again
        assert log.registered_at(layer.weight) is None


class TestUnseen:
    def test_what_was_there_before(self):
        layer = nn.Linear(3, 3)
        with recording() as log:
            layer.weight.data.mul_(0.5)
            layer.bias.data[0] = 1
            twin = copy.deepcopy(layer)
        assert log.origin(layer.weight) is None
        assert log.origin(layer.bias) is None
        assert log.origin(twin.weight) is None
        assert log.built_at(layer) is None
        assert log.registered_at(layer.weight) is None

    def test_what_comes_after(self):
        with recording() as log:
            layer = nn.Linear(3, 3)
        nn.init.zeros_(layer.weight)
        later = nn.Linear(3, 3)
        assert of(log, layer.weight).function == "torch.nn.init.kaiming_uniform_"
        assert log.origin(later.weight) is None
        assert log.built_at(later) is None

    def test_tensor_without_storage(self):
        with recording() as log:
            sparse = torch.eye(3).to_sparse()
            sparse.mul_(2)
        assert log.origin(sparse) is None

    def test_another_thread(self):
        made = []
        with recording() as log:
            thread = threading.Thread(target=lambda: made.append(nn.Sequential(nn.Linear(3, 3))))
            thread.start()
            thread.join()
        assert log.origin(made[0][0].weight) is None
        assert log.built_at(made[0]) is None

    def test_can_be_told(self):
        with recording() as log:
            layer = nn.Linear(3, 3)
            written(layer.weight, "autoinit", {"std": 0.5})
            here = line() - 1
        written(layer.bias, "autoinit", {})
        origin = of(log, layer.weight)
        assert origin == Origin("autoinit", {"std": 0.5}, origin.source)
        assert at(origin) == here
        assert of(log, layer.bias).function == "torch.nn.init.uniform_"


def hooks() -> list[dict]:
    return [
        dict(torch_module._global_parameter_registration_hooks),
        dict(torch_module._global_module_registration_hooks),
        dict(torch_module._global_buffer_registration_hooks),
    ]


def build() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 4), Block())
    with torch.no_grad():
        nn.init.trunc_normal_(model[0].weight, std=0.5)
        nn.init.orthogonal_(model[4].weight)
        nn.init.sparse_(model[4].weight, 0.5)
        model[4].weight[:2].normal_()
        model[5].fc.weight[[0, 1]] = torch.randn(2, 3) * 0.1
    return copy.deepcopy(model)


class TestDoesNoHarm:
    @pytest.mark.parametrize("fails", [False, True])
    def test_leaves_nothing_behind(self, fails):
        before, modes = hooks(), len(_get_current_function_mode_stack())
        initialise = nn.Module.__init__, nn.init.kaiming_uniform_, torch.Tensor.normal_
        if fails:
            with pytest.raises(RuntimeError, match="mat1"), recording():
                build()(torch.zeros(1, 3, 9, 9))
        else:
            with recording():
                build()
        assert hooks() == before
        assert len(_get_current_function_mode_stack()) == modes
        assert (nn.Module.__init__, nn.init.kaiming_uniform_, torch.Tensor.normal_) == initialise

    def test_an_initialiser_that_fails_is_no_origin(self):
        with recording() as log:
            layer = nn.Linear(3, 3)
            with pytest.raises(ValueError, match="Unsupported nonlinearity"):
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="gelu")
        assert of(log, layer.weight).default

    def test_values_are_the_same_as_without(self):
        torch.manual_seed(3)
        plain = build()
        state = torch.get_rng_state()
        torch.manual_seed(3)
        with recording(), recording():
            seen = build()
        assert torch.equal(torch.get_rng_state(), state)
        for (name, expected), (other, value) in zip(plain.state_dict().items(), seen.state_dict().items(), strict=True):
            assert name == other
            assert torch.equal(expected, value)

    def test_models_can_be_freed(self):
        with recording() as log:
            model = build()
            seen = [weakref.ref(model), weakref.ref(model[0].weight), weakref.ref(model[0].weight.untyped_storage())]
            del model
            gc.collect()
            assert all(map(freed, seen))
        assert isinstance(log, Recording)

    def test_the_freed_are_forgotten(self):
        with recording() as log:
            kept = torch.randn(2)
            for _ in range(9000):
                torch.zeros(1)
        assert len(log._ledger) < 5000
        assert of(log, kept).function == "torch.randn"

    def test_new_memory_at_an_old_address_is_not_confused(self):
        with recording() as log:
            layers = [nn.Linear(64, 64) for _ in range(3)]
            del layers
        fresh = [torch.zeros(64, 64) for _ in range(20)]
        assert [log.origin(each) for each in fresh] == [None] * 20

    def test_nested(self):
        with recording() as outer:
            first = nn.Linear(3, 3)
            with recording() as inner:
                second, here = nn.Linear(3, 3), line()
                nn.init.kaiming_normal_(first.weight)
            nn.init.zeros_(second.bias)
        assert of(outer, second.weight) == of(inner, second.weight)
        assert at(of(outer, second.weight)) == here
        assert of(outer, first.weight) == of(inner, first.weight)
        assert of(inner, first.weight).function == "torch.nn.init.kaiming_normal_"
        assert inner.origin(first.bias) is None
        assert of(inner, second.bias).function == "torch.nn.init.uniform_"
        assert of(outer, second.bias).function == "torch.nn.init.zeros_"

    @pytest.mark.parametrize("device_first", [False, True])
    def test_with_a_default_device(self, device_first):
        device = torch.device("meta")
        if device_first:
            with device, recording() as log:
                layer, here = nn.Linear(3, 3), line()
        else:
            with recording() as log, device:
                layer, here = nn.Linear(3, 3), line()
        assert layer.weight.is_meta
        origin = of(log, layer.weight)
        assert (origin.function, origin.default, at(origin)) == ("torch.nn.init.kaiming_uniform_", True, here)

    def test_under_a_transform_without_values(self):
        def scaled(x, s):
            return x * s

        with recording():
            result = torch.func.vmap(scaled)(torch.ones(3, 2), torch.arange(3.0))
        assert torch.equal(result, torch.arange(3.0)[:, None].expand(3, 2))


def test_an_origin_prints_itself():
    with recording() as log:
        layer = nn.Linear(16, 4)
        layer.weight.data.mul_(0.1)
    text = "kaiming_uniform_(a=2.236, mode=fan_in, nonlinearity=leaky_relu), torch's default, then mul_(0.1)"
    assert str(of(log, layer.weight)) == text
