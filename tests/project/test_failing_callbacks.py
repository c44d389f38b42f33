"""Functions that are given as arguments, and fail: an error that names them, with theirs as its cause.

Every argument that is annotated as a function has a row, so that a new one without is a failure here.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

import autoinit
from autoinit.errors import ArgumentError, AutoinitError, CallbackError
from autoinit.ops import REGISTRY
from autoinit.recipes import Facts, Mark, Start, normal
from autoinit.recipes import registry as table_of_recipes
from autoinit.testing import assert_well_initialized
from tests.project.public_calls import BATCH, model, train, wide


class OwnError(Exception):
    """No other code knows it."""


class Act(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.abs() + x


class Product(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


Fail = Callable[..., Any]


def compared(make_model: Any = model, loop: Any = train, starts: Any = ("library",), **given: Any) -> object:
    return autoinit.compare(make_model, loop, starts, lrs=[0.1], steps=3, seeds=1, **given)


def coordinates(make_model: Any = wide, batches: Any = BATCH, **given: Any) -> object:
    return autoinit.coordinate_check(make_model, [4, 8], batches, steps=1, **given)


def recipe(rule: Any, **given: Any) -> str:
    def ours(facts: Facts) -> Start | None:
        """Ours."""
        return rule(facts)

    autoinit.register_recipe("failing", source="nowhere", **given)(ours)
    return "failing"


def operation(module: type[nn.Module], role: str, **given: Any) -> nn.Module:
    autoinit.register_op("failing", role, modules=module, **given)
    return nn.Sequential(nn.Linear(4, 4), module(), nn.Linear(4, 4))


def marked(fail: Fail) -> object:
    recipe(lambda _: None, mark=Mark(fail, 0))
    return autoinit.check(nn.Sequential(*(nn.Linear(64, 64) for _ in range(6))))


ROWS: dict[str, tuple[Callable[[Fail], object], str]] = {
    "compare.make_model": (lambda f: compared(f), r"make_model\(\) for start 'library', seed 0, "),
    "compare.train": (
        lambda f: compared(loop=f),
        r"train\(model, lr\) at step 1 for start 'library', lr 0\.1, seed 0, ",
    ),
    "compare.starts": (lambda f: compared(starts={"mine": f}), r"start 'mine', seed 0, "),
    "compare.score": (lambda f: compared(score=f), r"score\(model\) for start 'library', lr 0\.1, seed 0, "),
    "coordinate_check.make_model": (lambda f: coordinates(f), r"make_model\(4\) "),
    "coordinate_check.batches": (lambda f: coordinates(batches=f), r"batches\(0\) "),
    "coordinate_check.loss": (
        lambda f: coordinates(loss=f),
        r"loss\(output, targets\) of batches\(0\) \(scaled, width 4, seed 0\) ",
    ),
    "assert_well_initialized.model": (assert_well_initialized, r"fail\(\) "),
    "gain.nonlinearity": (autoinit.gain, r"nonlinearity=.*expected a function of a tensor and \[\]; it says: "),
    "Plan.apply.layout": (
        lambda f: autoinit.plan(model()).apply(model(), 0, layout=f),
        r"layout\('0\.weight', \.\.\.\) failed",
    ),
    "register_recipe.rule": (
        lambda f: autoinit.plan(model(), recipe=recipe(f)),
        r"recipe failing for 0\.\w+ ",
    ),
    "register_recipe.variants": (
        lambda f: autoinit.check(model(), recipe=recipe(lambda _: normal(0.02), variants=f)),
        r"variants= of recipe failing for 0\.weight ",
    ),
    "register_recipe.within": (
        lambda f: autoinit.check(model(), recipe=recipe(lambda _: normal(0.02), within=f)),
        r"within= of recipe failing for 0\.weight ",
    ),
    "register_recipe.mark": (marked, r"shown= of the mark of recipe failing "),
    "register_op.weights": (
        lambda f: autoinit.plan(operation(Product, "weight", weights=f)),
        r"weights= of operation 'failing' ",
    ),
    "register_op.variant": (
        lambda f: autoinit.plan(operation(Act, "transparent", variant=f)),
        r"variant= of operation 'failing' ",
    ),
}
NEVER_CALLED = {"register_op.functions": "spellings: functions of the model, which forward calls"}
ELSEWHERE = {"register_op.function": "makes a layer `unresolved`: the next test but one"}


@pytest.fixture(autouse=True)
def _tables(monkeypatch):
    """What a test registers is gone afterwards."""
    monkeypatch.setattr(table_of_recipes, "_found", dict(table_of_recipes.table()))
    for name, value in vars(REGISTRY).items():
        monkeypatch.setattr(REGISTRY, name, dict(value))


def fail(*_: object, **__: object) -> Any:
    raise OwnError("kaputt")


@pytest.mark.parametrize("name", ROWS)
def test_an_error_of_theirs_is_the_cause_of_one_that_names_the_function(name):
    call, said = ROWS[name]
    before = torch.get_rng_state()
    with pytest.raises(AutoinitError, match=rf"^{said}.*kaputt") as caught:
        call(fail)
    assert isinstance(caught.value.__cause__, OwnError)
    if isinstance(caught.value, CallbackError):
        assert re.search(rf"failed at {re.escape(__file__)}:\d+: OwnError: kaputt$", str(caught.value))
    assert torch.equal(torch.get_rng_state(), before) or "register" in name or "Plan" in name, "as it was"


@pytest.mark.parametrize("name", ROWS)
def test_an_interrupt_goes_through(name):
    def interrupt(*_: object, **__: object) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        ROWS[name][0](interrupt)


def test_an_operation_whose_function_fails_is_unresolved():
    made = autoinit.plan(operation(Act, "nonlinearity", function=fail))
    assert made["0"].status == "unresolved"
    assert "failing fails: OwnError: kaputt" in made["0"].note


def test_every_argument_that_is_a_function_has_a_row():
    functions = {name: getattr(autoinit, name) for name in autoinit.__all__}
    functions |= {"assert_well_initialized": assert_well_initialized, "Plan.apply": autoinit.Plan.apply}
    found = {
        f"{name}.{parameter.name}"
        for name, function in functions.items()
        if inspect.isfunction(function)
        for parameter in inspect.signature(function).parameters.values()
        if re.search(r"Callable|\b(Train|Score|Stds|Range|Mark|LocalLayout)\b", str(parameter.annotation))
    }
    assert found | {"register_recipe.rule"} == {*ROWS, *NEVER_CALLED, *ELSEWHERE}


def late(net: nn.Module, _: float) -> Iterator[float]:
    yield 1.0
    raise OwnError("kaputt")


class BadClose:
    """A loop whose end fails."""

    def __iter__(self) -> BadClose:
        return self

    def __next__(self) -> float:
        return 1.0

    def close(self) -> None:
        raise OwnError("kaputt")


class BadNumber:
    def __float__(self) -> float:
        raise OwnError("kaputt")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: compared(loop=late), r"train\(model, lr\) at step 2 for start 'library', lr 0\.1, seed 0, failed"),
        (lambda: compared(loop=lambda *_: BadClose()), r"train\(model, lr\) at step 4 .* kaputt"),
        (lambda: compared(loop=lambda *_: iter([BadNumber()])), r"loss=.*: expected a number"),
        (lambda: compared(loop=lambda *_: iter([10**400])), r"loss=10+ \.\.\.: expected a number"),
        (lambda: compared(starts={"x": {"foo": 1}}), r"start 'x', seed 0, failed: TypeError: unexpected keyword"),
        (lambda: coordinates(batches=lambda _: 5), r"batches\(0\)=5: expected a pair of inputs and targets"),
        (
            lambda: coordinates(batches=(5, 5)),
            r"model\(inputs\) of batches\(0\) \(scaled, width 4, seed 0\) failed: Type",
        ),
        (
            lambda: coordinates(batches=(torch.zeros(2, 5), BATCH[1])),
            r"model\(inputs\) of batches\(0\) .* failed: RuntimeError: mat1 and mat2",
        ),
        (
            lambda: coordinates(batches=(BATCH[0], BATCH[1] + 7)),
            r"loss\(output, targets\) of batches\(0\) .* IndexError: Target 7 is out of bounds",
        ),
        (lambda: coordinates(loss=lambda *_: 5), r"loss\(output, targets\)=5: expected a tensor of one element"),
        (
            lambda: coordinates(loss=lambda y, _: y),
            r"loss\(output, targets\)=tensor\(.*expected a tensor of one element",
        ),
        (lambda: coordinates(loss=lambda *_: torch.tensor(1.0)), r"loss\(output, targets\)=tensor\(1\.\): expected"),
        (lambda: autoinit.gain(torch.linalg.inv), r"nonlinearity=.*it says: linalg\.inv"),
    ],
)
def test_what_they_give_is_refused_where_no_one_can_use_it(call, said):
    with pytest.raises((ArgumentError, CallbackError), match=rf"(?s)^{said}"):
        call()
