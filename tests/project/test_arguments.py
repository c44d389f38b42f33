"""Arguments of any type: a result or an AutoinitError, and on error the model as it was."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from autoinit import autoinit, check, plan
from autoinit.api import report
from autoinit.errors import ArgumentError, AutoinitError, PlanError
from autoinit.plans.options import plan_options
from autoinit.signal import measure, propagate

FUNCTIONS: dict[str, Callable[..., object]] = {
    "autoinit": lambda model, **given: autoinit(model, verbose=False, **given),
    "plan": plan,
    "report": report,
    "check": check,
    "propagate": propagate,
    "measure": measure,
}
NAMES = {
    "autoinit": ["example_inputs", "force", *plan_options()],
    "plan": ["example_inputs", *plan_options()],
    "report": ["example_inputs", *plan_options()],
    **{
        name: [each for each in inspect.signature(FUNCTIONS[name]).parameters if each not in ("model", "subject")]
        for name in ("check", "propagate", "measure")
    },
}
VALUES: tuple[Any, ...] = (
    5, -1, 0, 3, 1.5, math.nan, "foo", "", None, True, b"x", [], {}, (), [1], ["a"], ("a", 1), {"a"}, {"a": 1},
    object(), torch.zeros(2), torch.float32, lambda: 1, nn.Linear, print,
)  # fmt: skip
calls = st.sampled_from(sorted(FUNCTIONS)).flatmap(
    lambda name: st.tuples(
        st.just(name), st.dictionaries(st.sampled_from(NAMES[name]), st.sampled_from(VALUES), min_size=1, max_size=2)
    )
)


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))


@settings(derandomize=True, deadline=None, max_examples=150)
@given(calls)
def test_a_result_or_an_error_of_autoinits(call):
    name, arguments = call
    made, before = model(), model().state_dict()
    try:
        FUNCTIONS[name](made, **arguments)
    except AutoinitError:
        failed = True
    else:
        failed = False
    if failed or name != "autoinit":
        assert all(torch.equal(each, before[key]) for key, each in made.state_dict().items())
    assert all(module.training for module in made.modules())


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("odd", [5, None, "x", nn.Linear, {}, {"weight": torch.zeros(2)}], ids=str)
def test_what_is_no_model_is_refused(name, odd):
    with pytest.raises(AutoinitError, match=r"expected|model"):
        FUNCTIONS[name](odd)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m: plan(m, only=5), r"only=5: expected a text or a sequence of texts"),
        (lambda m: plan(m, skip=[1]), r"skip=\[1\]: expected a text or a sequence of texts"),
        (lambda m: check(m, tolerance="x"), r"tolerance='x': expected a fraction between 0 and 1"),
        (lambda m: check(m, select=None), r"select=None: expected a text or a sequence of texts"),
        (lambda m: check(m, ignores="foo"), r"ignores='foo': expected a sequence of Ignore"),
        (lambda m: check(m, provenance=5), r"provenance=5: expected what recording\(\) gave"),
        (lambda m: propagate(m, inputs=5), r"inputs=5: expected an InputSignal"),
        (lambda m: propagate(m, seed=1.5), r"seed=1\.5: expected a whole number"),
        (lambda m: measure(m, backward=5), r"backward=5: expected True or False"),
    ],
)
def test_the_message_names_argument_value_and_what_was_expected(call, said):
    with pytest.raises(ArgumentError, match=f"^{said}"):
        call(model())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_module_that_is_inside_itself_is_refused(name):
    made = model()
    made.add_module("inner", nn.Sequential())
    made.inner.add_module("outer", made)
    with pytest.raises(PlanError, match=r"^inner\.outer is the module that it is in, expected a tree of modules"):
        FUNCTIONS[name](made)
