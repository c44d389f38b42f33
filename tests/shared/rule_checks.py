"""Running one rule on a model, models to run it on, and recordings made by hand."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from autoinit.checking._subject import subject
from autoinit.checking.findings import Finding
from autoinit.checking.rules.registry import rules
from autoinit.models import ModelView
from autoinit.provenance import Origin
from autoinit.tracing import trace


def findings(code: str, model: nn.Module, inputs: Any = None, provenance: Any = None) -> list[Finding]:
    """What a rule finds."""
    looked_at = subject(ModelView.of(model), trace(model, inputs), name="model", provenance=provenance)
    return list(rules()[code].look(looked_at))


def only(code: str, model: nn.Module, inputs: Any = None, provenance: Any = None) -> Finding:
    """The one thing that a rule finds."""
    found = findings(code, model, inputs, provenance)
    assert len(found) == 1, [str(each) for each in found]
    assert found[0].code == code
    assert found[0].message.startswith(f"{found[0].layer}: ")
    return found[0]


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers of these sizes, with ReLU between."""
    layers = [each for one, other in itertools.pairwise(sizes) for each in (nn.Linear(one, other), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def put(tensor: torch.Tensor, index: Any, value: Any) -> None:
    """`tensor[index] = value`, of a parameter too."""
    with torch.no_grad():
        tensor[index] = value


def frozen(layer: nn.Module) -> nn.Module:
    """The layer, its parameters frozen."""
    return layer.requires_grad_(False)


def filled(layer: Any, init: Callable[..., Any], *arguments: Any) -> Any:
    """The layer, its weight written by `init`."""
    with torch.no_grad():
        init(layer.weight, *arguments)
    return layer


class Record:
    """A recording in which some parameters have an origin."""

    def __init__(self, origins: Iterable[tuple[nn.Parameter, Origin]]) -> None:
        self.origins = {id(parameter): origin for parameter, origin in origins}

    def origin(self, parameter: nn.Parameter) -> Origin | None:
        return self.origins.get(id(parameter))

    def registered_at(self, parameter: nn.Parameter) -> None:
        return None

    def built_at(self, module: nn.Module) -> None:
        return None
