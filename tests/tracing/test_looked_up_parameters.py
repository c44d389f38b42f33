"""Forwards that look their parameters up first and use them later: by name, in a list, handed down, functionally.

All models are the same network, Linear(8, 32), ReLU, Linear(32, 4), so that the stds are He's sqrt(2 / 8) = 0.5 and
Xavier's sqrt(2 / (32 + 4)) = 0.235702 in each tier; the SIREN's first layer stands before a sine.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoinit import plan
from autoinit.models import ModelView
from autoinit.planning import plan_dataflow
from autoinit.plans.options import PlanOptions
from autoinit.tracing import trace

STDS = [0.5, 0.235702]


class MetaModule(nn.Module):
    """As in torchmeta: modules that may be given other parameters than their own."""

    def subdict(self, params: Any, key: str) -> Any:
        if params is None:
            return None
        found = re.compile(rf"^{re.escape(key)}\.(.+)")
        return OrderedDict((found.sub(r"\1", name), each) for name, each in params.items() if found.match(name))


class MetaLinear(nn.Linear, MetaModule):
    def forward(self, input: Tensor, params: Any = None) -> Tensor:
        if params is None:
            params = OrderedDict(self.named_parameters())
        return F.linear(input, params["weight"], params.get("bias", None))


class MetaSequential(nn.Sequential, MetaModule):
    def forward(self, input: Tensor, params: Any = None) -> Tensor:
        for name, module in self._modules.items():
            given = {"params": self.subdict(params, name)} if isinstance(module, MetaModule) else {}
            input = module(input, **given)
        return input


class TorchMeta(MetaModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = MetaSequential(MetaLinear(8, 32), nn.ReLU(), MetaLinear(32, 4))

    def forward(self, x: Tensor, params: Any = None) -> Tensor:
        return self.net(x, params=self.subdict(params, "net"))


class HandedDown(TorchMeta):
    """Looked up at the top and handed down."""

    def forward(self, x: Tensor, params: Any = None) -> Tensor:
        params = OrderedDict(self.named_parameters()) if params is None else params
        return self.net(x, params=self.subdict(params, "net"))


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 32), nn.Linear(32, 4)


class ByName(Plain):
    def forward(self, x: Tensor) -> Tensor:
        held = dict(self.named_parameters())
        x = torch.relu(F.linear(x, held["first.weight"], held["first.bias"]))
        return F.linear(x, held["last.weight"], held["last.bias"])


class Transposed(Plain):
    """The weights are transposed before they meet the signal."""

    def forward(self, x: Tensor, weights: Any = None) -> Tensor:
        w1, b1, w2, b2 = weights if weights is not None else list(self.parameters())
        return torch.relu(x @ w1.t() + b1) @ w2.permute(1, 0) + b2


class OfState(Plain):
    def forward(self, x: Tensor) -> Tensor:
        held = self.state_dict(keep_vars=True)
        x = torch.relu(torch.addmm(held["first.bias"], x, held["first.weight"].T))
        return F.linear(x, held["last.weight"], held["last.bias"])


class Vars(nn.Module):
    """As MAML-Pytorch: a ParameterList of weights and biases."""

    def __init__(self) -> None:
        super().__init__()
        held = [torch.randn(32, 8), torch.zeros(32), torch.randn(4, 32), torch.zeros(4)]
        self.vars = nn.ParameterList([nn.Parameter(each) for each in held])

    def forward(self, x: Tensor, vars: Any = None) -> Tensor:
        vars = self.vars if vars is None else vars
        return F.linear(F.relu(F.linear(x, vars[0], vars[1])), vars[2], vars[3])


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))

    def forward(self, x: Tensor, params: Any = None) -> Tensor:
        params = dict(self.inner.named_parameters()) if params is None else params
        return torch.func.functional_call(self.inner, params, (x,))


MODELS = [TorchMeta, HandedDown, ByName, Transposed, OfState, Vars, Functional]


@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
@pytest.mark.parametrize("tier", ["symbolic", "recorded", None])
def test_parameters_that_are_looked_up_are_weights(build: Callable[[], nn.Module], tier: Any):
    model = build()
    made = plan_dataflow(trace(model, tier=tier), ModelView.of(model), PlanOptions())
    assert [layer.std for layer in made.layers] == pytest.approx(STDS, abs=1e-6)
    assert [layer.nonlinearity for layer in made.layers] == ["relu", "linear"]
    assert not [each for each in made.others if each.kind == "uncalled"]


class BatchLinear(nn.Linear, MetaModule):
    """As vsitzmann's SIREN: a matmul with a permuted weight, whatever dimensions stand before."""

    def forward(self, input: Tensor, params: Any = None) -> Tensor:
        if params is None:
            params = OrderedDict(self.named_parameters())
        weight = params["weight"]
        output = input.matmul(weight.permute(*range(len(weight.shape) - 2), -1, -2))
        output += params["bias"].unsqueeze(-2)
        return output


class Field(MetaModule):
    """Its input is a dict of coordinates, which no guess can make."""

    def __init__(self) -> None:
        super().__init__()
        self.net = MetaSequential(BatchLinear(8, 32), nn.ReLU(), BatchLinear(32, 4))

    def forward(self, model_input: Any, params: Any = None) -> Any:
        if params is None:
            params = OrderedDict(self.named_parameters())
        coords = model_input["coords"].clone().detach().requires_grad_(True)
        return {"model_in": coords, "model_out": self.net(coords, params=self.subdict(params, "net"))}


@pytest.mark.parametrize("example", [None, ({"coords": torch.zeros(2, 5, 8)},)], ids=["guessed", "given"])
def test_a_field_of_coordinates_in_a_dict(example: Any):
    made = plan(Field(), example)
    assert [layer.std for layer in made.layers] == pytest.approx(STDS, abs=1e-6)
    assert made.tier == ("symbolic" if example is None else "recorded")


def test_sizes_of_parameters_are_numbers_while_tracing_with_proxies():
    """A forward that loops over `weight.shape[0]` and asks `weight.dim()` is traced: 2 rows, each a linear map."""

    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(2, 8, 8))

        def forward(self, x: Tensor) -> Tensor:
            weight = next(iter(self.parameters()))
            for row in range(weight.shape[0] if weight.dim() == 3 else 1):
                x = torch.relu(F.linear(x, weight[row]))
            return x

    assert trace(Rows(), tier="symbolic").uncalled == ()


def test_a_forward_of_the_instances_own_is_what_is_traced():
    """torch.fx alone would trace the class's forward, which feeds no ReLU."""
    model = nn.Sequential(nn.Linear(8, 32), nn.Linear(32, 4))
    first, last = model[0], model[1]
    model.forward = lambda x: last(torch.relu(first(x)))
    made = plan_dataflow(trace(model, tier="symbolic"), ModelView.of(model), PlanOptions())
    assert [layer.std for layer in made.layers] == pytest.approx(STDS, abs=1e-6)
