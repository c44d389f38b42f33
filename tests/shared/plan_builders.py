"""Plans made by hand, for tests of what is done with a plan."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from autoinit.plans.layers import LayerPlan, SlicePlan
from autoinit.plans.plan import Plan


def slice_plan(rows: tuple[tuple[int, int], ...], std: float) -> SlicePlan:
    return SlicePlan(
        rows=rows,
        nonlinearity="linear",
        params={},
        reason="output",
        path=(),
        normalised=False,
        scheme="he",
        mode="fan_in",
        gain=1.0,
        fan_in=1.0,
        fan_out=1.0,
        std=std,
    )


def layer_plan(param: str, shape: tuple[int, ...], /, **fields: Any) -> LayerPlan:
    known: dict[str, Any] = {
        "name": param.removesuffix(".weight"),
        "param": param,
        "shape": tuple(shape),
        "axes": "o" + "i" * (len(shape) > 1) + "k" * (len(shape) - 2),
        "op": "linear",
        "nonlinearity": "relu",
        "params": {},
        "reason": "activation",
        "path": (),
        "normalised": False,
        "scheme": "he",
        "mode": "fan_in",
        "gain": math.sqrt(2.0),
        "fan_in": 1.0,
        "fan_out": 1.0,
        "std": 0.1,
        "distribution": "normal",
    }
    return LayerPlan(**(known | fields))


def plan_of(*layers: LayerPlan, model: str = "Model") -> Plan:
    return Plan(layers=layers, model=model, parameters=0, tier="symbolic")


def plan_all(model: nn.Module, overrides: Mapping[str, Mapping[str, Any]] | None = None, **fields: Any) -> Plan:
    """Plans every parameter named `weight` of two or more dimensions, with the bias beside it."""
    names = dict(model.named_parameters())
    layers = []
    for name, parameter in names.items():
        if name.endswith("weight") and parameter.dim() >= 2:
            bias = name.removesuffix("weight") + "bias"
            own = dict(fields, biases=(bias,) if bias in names else ())
            layers.append(layer_plan(name, tuple(parameter.shape), **(own | dict((overrides or {}).get(name, {})))))
    return plan_of(*layers, model=type(model).__name__)
