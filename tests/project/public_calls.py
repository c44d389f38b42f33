"""Every public function and method that takes arguments, and how it is called when nothing is wrong.

What there is, is read from the package: one that has no call here fails a test.
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable, Iterator
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import nn

import autoinit
from autoinit import callbacks, recipes, signal, testing
from autoinit.plans.options import plan_options

MODULES: dict[ModuleType, list[str]] = {
    autoinit: autoinit.__all__,
    signal: signal.__all__,
    recipes: recipes.__all__,
    testing: ["assert_well_initialized"],
    callbacks: ["InitializationCheck"],
}
BETWEEN_ROOMS = {
    "Ending.behind_step", "Origin.changed", "WeightStats.scaled", "Box.spans", "Box.take", "FlatRun.spans",
    "FlatRun.take", "DeclaredRecipe.stds", "DeclaredRecipe.bounds", "DeclaredRecipe.start", "SignalRow.average",
}  # fmt: skip
"""Methods of public values that other modules of the package call; the manual does not show them."""


VALUES = ["Plan", "Report", "WeightsReport", "CheckResult", "Scaling", "Comparison", "CoordinateCheck", "SignalReport"]
"""Those that print themselves and have formats, or one of both."""


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))


def wide(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 2))


def train(net: nn.Module, _: float) -> Iterator[torch.Tensor]:
    while True:
        yield net(torch.ones(2, 6)).square().mean()


BATCH = torch.zeros(2, 6), torch.zeros(2, dtype=torch.long)


@cache
def made(what: str) -> Any:
    """A value whose methods are called."""
    return {
        "Plan": lambda: autoinit.plan(model()),
        "Report": lambda: autoinit.report(model()),
        "WeightsReport": lambda: autoinit.report(model().state_dict()),
        "CheckResult": lambda: autoinit.check(model()),
        "Scaling": lambda: autoinit.scaling(wide(16), wide(8)),
        "SignalReport": lambda: signal.propagate(model(), (2, 6)),
        "Comparison": lambda: autoinit.compare(model, train, ["library"], lrs=[0.1], steps=2, seeds=1),
        "CoordinateCheck": lambda: autoinit.coordinate_check(wide, [4, 8], BATCH, steps=1),
        "LayerPlan": lambda: autoinit.plan(model())["0"],
        "Recording": _recording,
        "DeclaredRecipe": lambda: recipes.declared("gpt2"),
        "Facts": _facts,
    }[what]()


def _recording() -> autoinit.Recording:
    with autoinit.recording() as log:
        model()
    return log


def _facts() -> autoinit.Facts:
    seen: list[autoinit.Facts] = []

    def rule(facts: autoinit.Facts) -> None:
        """Notes the facts."""
        seen.append(facts)

    recipes.registry._found["noting"] = recipes.RecipeEntry("noting", "nowhere", rule, "Notes.", "noting")
    try:
        autoinit.plan(model(), recipe="noting")
    finally:
        del recipes.registry._found["noting"]
    return seen[0]


def calls() -> dict[str, tuple[Callable[..., object], Callable[[], dict[str, Any]]]]:
    """Each function with what gives the arguments of a call that works."""
    found: dict[str, tuple[Callable[..., object], Callable[[], dict[str, Any]]]] = {
        "autoinit": (autoinit.autoinit, lambda: {"model": model(), "verbose": False}),
        "plan": (autoinit.plan, lambda: {"model": model()}),
        "report": (autoinit.report, lambda: {"model": model()}),
        "check": (autoinit.check, lambda: {"model": model()}),
        "propagate": (signal.propagate, lambda: {"subject": model()}),
        "measure": (signal.measure, lambda: {"model": model(), "example_inputs": (2, 6)}),
        "trace": (autoinit.trace, lambda: {"model": model()}),
        "resolve": (autoinit.resolve, lambda: {"dataflow": autoinit.trace(model())}),
        "scaling": (autoinit.scaling, lambda: {"model": wide(16), "base": wide(8)}),
        "compare": (
            autoinit.compare,
            lambda: {
                "make_model": model,
                "train": train,
                "starts": ["he", "library"],
                "lrs": [0.1],
                "steps": 2,
                "seeds": 1,
                "limit": 0.2,
            },
        ),
        "coordinate_check": (
            autoinit.coordinate_check,
            lambda: {"make_model": wide, "widths": [4, 8], "batches": BATCH, "steps": 1, "standard": False},
        ),
        "gain": (autoinit.gain, lambda: {"nonlinearity": "leaky_relu"}),
        "register_op": (
            autoinit.register_op,
            lambda: {"name": "drawn", "role": "nonlinearity", "function": torch.relu},
        ),
        "register_recipe": (autoinit.register_recipe, lambda: {"name": "random", "source": "nowhere"}),
        "assert_well_initialized": (
            testing.assert_well_initialized,
            lambda: {"model": model(), "fail_level": "error", "select": ["INI0"]},
        ),
        "InitializationCheck": (checked, dict),
        "declared": (recipes.declared, lambda: {"text": "gpt2"}),
        "entry": (recipes.entry, lambda: {"name": "gpt2"}),
        "normal": (recipes.normal, lambda: {"std": 0.1}),
        "truncated": (recipes.truncated, lambda: {"std": 0.1}),
        "uniform": (recipes.uniform, lambda: {"bound": 0.1}),
        "constant": (recipes.constant, lambda: {"value": 0.1}),
        "orthogonal": (recipes.orthogonal, lambda: {"rows": 2, "columns": 3}),
        "Plan.apply": (made("Plan").apply, lambda: {"model": model(), "seed": 0}),
        "Plan.from_json": (autoinit.Plan.from_json, lambda: {"text": made("Plan").to_json()}),
        "Scaling.apply": (made("Scaling").apply, lambda: {"model": wide(16)}),
        "Scaling.groups": (made("Scaling").groups, lambda: {"model": wide(16), "lr": 0.1}),
        "Scaling.from_json": (autoinit.Scaling.from_json, lambda: {"text": made("Scaling").to_json()}),
        "SignalReport.to_html": (made("SignalReport").to_html, dict),
        "SignalReport.plot": (made("SignalReport").plot, dict),
        "CoordinateCheck.worst": (made("CoordinateCheck").worst, dict),
        "LayerPlan.size": (made("LayerPlan").size, lambda: {"letter": "o"}),
        "Facts.size": (made("Facts").size, lambda: {"letter": "o"}),
        "Box.whole": (autoinit.Box.whole, lambda: {"shape": (2, 3)}),
        "Recording.built_at": (made("Recording").built_at, lambda: {"module": model()}),
        "Recording.origin": (made("Recording").origin, lambda: {"tensor": torch.zeros(2)}),
        "Recording.registered_at": (made("Recording").registered_at, lambda: {"tensor": torch.zeros(2)}),
    }
    for of in VALUES:
        if hasattr(made(of), "print"):
            found[f"{of}.print"] = made(of).print, lambda: {"file": io.StringIO()}
        if hasattr(made(of), "to"):
            found[f"{of}.to"] = made(of).to, lambda: {"form": "json"}
    return found


def checked(model_of: Any = None, **options: Any) -> object:
    """A callback that is made, and called."""
    return autoinit.InitializationCheck(**{"select": ["INI0"], **options})(model() if model_of is None else model_of)


def arguments(name: str) -> list[str]:
    """The names of a function's arguments."""
    if name in ("autoinit", "plan", "report"):
        beside = {"autoinit": ["force", "verbose"]}.get(name, [])
        return ["model", "example_inputs", *beside, *plan_options()]
    if name == "InitializationCheck":
        beside = ["model_of", "example_inputs", "submodule", "fail_level", "allow_empty"]
        return [*beside, *testing.CheckOptions.__annotations__]
    signature = inspect.signature(calls()[name][0])
    found = [each.name for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    return [*found, *(testing.CheckOptions.__annotations__ if name == "assert_well_initialized" else ())]


def public() -> set[str]:
    """Functions and methods of the package that take arguments, as `function` and `Class.method`."""
    found = set()
    for module, names in MODULES.items():
        for name in names:
            value = getattr(module, name)
            if inspect.isfunction(value) and inspect.signature(value).parameters:
                found.add(name)
            elif inspect.isclass(value):
                found |= {f"{name}.{each}" for each in _methods(value)}
    return found - BETWEEN_ROOMS | {"InitializationCheck"}


def _methods(kind: type) -> Iterator[str]:
    for name in dir(kind):
        static = inspect.getattr_static(kind, name)
        function = getattr(static, "__func__", static)
        if name.startswith("_") or not inspect.isfunction(function) or not function.__module__.startswith("autoinit"):
            continue
        if len(inspect.signature(function).parameters) > (not isinstance(static, staticmethod)):
            yield name
