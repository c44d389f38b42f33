"""Every parameter of freshly built library models against the recipe that they follow, within sampling error.

A sample of n numbers has the relative standard error sqrt((kurtosis - 1) / (4 n)) of its root mean square, at most
1 / sqrt(2 n) here; five of these are allowed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fnmatch import fnmatchcase

import pytest
import torch
from torch import Tensor, nn

import autoinit
from autoinit.plans.plan import Plan
from tests.recipes.library_models import MODELS, LibraryModel


def strays(plan: Plan, parameters: dict[str, Tensor]) -> Iterator[str]:
    """The parameters whose values are not such as the plan would write."""
    for layer in plan.layers:
        assert layer.status == "planned", (layer.name, layer.note)
        weight = parameters[layer.param].movedim(layer.axes.index("o"), 0)
        for part in layer.slices or (layer,):
            rows = getattr(part, "rows", ())
            values = torch.cat([weight[start:stop] for start, stop in rows]) if rows else weight
            if not fits(values, part.std, 0.0):
                yield layer.param
    for rest in plan.rest:
        if not fits(parameters[rest.name], rest.std, rest.mean):
            yield rest.name


def fits(values: Tensor, std: float, mean: float) -> bool:
    if std == 0:
        return bool(torch.allclose(values, torch.full_like(values, mean), rtol=1e-6, atol=0))
    actual = (values - mean).square().mean().sqrt().item()
    return abs(actual / std - 1) < 5 / math.sqrt(2 * values.numel()) + 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_a_fresh_model_has_what_its_recipe_writes(name: str):
    case = MODELS[name]
    if "transformers" in name:
        pytest.importorskip("transformers", reason="there is none for Python 3.10")
    torch.manual_seed(0)
    model = case.build()
    plan = autoinit.plan(model, case.inputs, recipe=case.recipe, zeros="reset")
    parameters = {name: each.detach() for name, each in model.named_parameters()}
    found = set(strays(plan, parameters))
    assert {name for name in found if not any(fnmatchcase(name, glob) for glob in case.deviations)} == set()
    assert {glob for glob in case.deviations if not any(fnmatchcase(name, glob) for name in found)} == set()
    unsaid = {each.name for each in plan.others}
    assert {name for name in unsaid if not any(fnmatchcase(name, glob) for glob in case.unsaid)} == set()
    assert len(plan.layers) + len(plan.rest) + len(unsaid) == len(parameters)


def names(model: nn.Module, case: LibraryModel) -> set[str]:
    """The parameters that check says stray from the recipe."""
    findings = autoinit.check(model, case.inputs, recipe=case.recipe).findings
    return {each.param for each in findings if "by the recipe" in each.message}


@pytest.mark.parametrize("name", MODELS)
def test_check_names_exactly_the_deviations_and_is_clean_after_writing(name: str):
    case = MODELS[name]
    if "transformers" in name:
        pytest.importorskip("transformers", reason="there is none for Python 3.10")
    torch.manual_seed(0)
    model = case.build()
    found = names(model, case)
    expected = {glob for glob in case.deviations if glob not in case.allowed}
    assert {param for param in found if not any(fnmatchcase(param, glob) for glob in expected)} == set()
    assert {glob for glob in expected if not any(fnmatchcase(param, glob) for param in found)} == set()
    autoinit.autoinit(model, case.inputs, recipe=case.recipe, seed=0, zeros="reset", verbose=False)
    assert names(model, case) == set()
    result = autoinit.check(model, case.inputs, recipe=case.recipe)
    assert [str(each) for each in result.findings if each.severity != "info"] == []
