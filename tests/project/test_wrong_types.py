"""Arguments of a wrong type, of every public function and method: refused by name, with what was expected."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

import autoinit
from autoinit import Plan, coordinate_check, gain, register_op, register_recipe, resolve, scaling, trace
from autoinit.errors import ArgumentError, PlanError, RegistrationError
from autoinit.errors.arguments import refusal
from autoinit.signal import propagate
from autoinit.testing import assert_well_initialized
from autoinit.transfer.record import Scaling


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("nobody may see it")


ODD = {
    "number": 5,
    "fraction": 1.5,
    "lists": [[None]],
    "dict": {1: 2},
    "bytes": b"x",
    "object": object(),
    "unprintable": Unprintable(),
    "class": nn.Linear,
    "tensor": torch.zeros(3),
    "dtype": torch.float32,
    "range": range(3),
}
"""None of them is a text, a truth value, or any value of this package."""


@cache
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))


@cache
def made(what: str) -> Any:
    return {
        "report": lambda: autoinit.report(model()),
        "check": lambda: autoinit.check(model()),
        "signal": lambda: propagate(model(), (2, 4)),
        "scaling": lambda: scaling(model(), width=2.0),
        "weights": lambda: autoinit.report(model().state_dict()),
    }[what]()


def batches(_: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(2, 4), torch.zeros(2, dtype=torch.long)


def op(**given: Any) -> object:
    return register_op(**{"name": "never", "role": "nonlinearity", "function": torch.relu, **given})


Call = Callable[[Any], object]
ARGUMENTS: dict[str, Call] = {
    "tier": lambda odd: trace(model(), tier=odd),
    "dataflow": resolve,
    "verbose": lambda odd: autoinit.autoinit(model(), verbose=odd),
    "recipe": lambda odd: autoinit.plan(model(), recipe=odd),
    "standard": lambda odd: coordinate_check(nn.Identity, (1, 2), batches, standard=odd),
    "allow_empty": lambda odd: assert_well_initialized(model(), allow_empty=odd),
    "baseline": lambda odd: assert_well_initialized(model(), baseline=odd),
    "name": lambda odd: op(name=odd),
    "role": lambda odd: op(role=odd),
    "signature": lambda odd: op(signature=odd),
    "acts": lambda odd: op(acts=odd),
    "replace": lambda odd: op(replace=odd),
    "source": lambda odd: register_recipe("never", source=odd),
    "text": Plan.from_json,
    "labels": lambda odd: made("signal").to_html(labels=odd),
    "beside": lambda odd: made("signal").plot(beside=odd),
    "path": lambda odd: made("signal").plot(odd),
    "plan": lambda odd: made("signal").to_html(plan=odd),
    "console": lambda odd: made("report").print(console=odd),
    "file": lambda odd: made("check").print(odd),
    "full": lambda odd: made("weights").print(io.StringIO(), full=odd),
}
TAKEN = {("text", "bytes")}
"""What is of a right type all the same."""


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("name", ARGUMENTS)
def test_an_argument_of_a_wrong_type_is_refused_by_name(name, kind):
    if (name, kind) in TAKEN:
        return
    with pytest.raises(ArgumentError, match=rf"^{name}=.*expected "):
        ARGUMENTS[name](ODD[kind])


@pytest.mark.parametrize("form", [5, None, [[]], "x"], ids=str)
@pytest.mark.parametrize("what", ["report", "check", "scaling", "weights"])
def test_a_format_that_there_is_not(what, form):
    with pytest.raises(ArgumentError, match=r"^no format .*; there are "):
        made(what).to(form)


def test_gains_of_what_is_no_function():
    for odd in (5, [[None]], {1: 2}, torch.zeros(3), Unprintable(), None):
        with pytest.raises(ArgumentError, match=r"^nonlinearity=.*expected a name, or a function of a tensor"):
            gain(odd)
    with pytest.raises(ArgumentError, match=r"expected a function of a tensor and \['a'\]"):
        gain(lambda: 1, a=2)
    for odd in (5, [3], torch.zeros(3), "x"):
        with pytest.raises(ArgumentError, match=r"^params=.*expected a mapping from names to numbers"):
            gain("relu", odd)


def test_spellings_of_an_operation():
    for odd in (5, [3], torch.zeros(3), None):
        with pytest.raises(ArgumentError, match=r"^names=.*expected a text or a sequence of texts"):
            op(names=odd)
        with pytest.raises(ArgumentError, match=r"^modules=.*expected classes of modules"):
            op(modules=odd)
    for odd in (5, torch.zeros(3), "x"):
        with pytest.raises(ArgumentError, match=r"^attributes=.*expected a mapping"):
            op(attributes=odd)
    with pytest.raises(RegistrationError, match="is not a Python argument list"):
        op(signature="\ud800")


@pytest.mark.parametrize("read", [Plan.from_json, Scaling.from_json])
def test_a_text_that_cannot_be_encoded_is_no_document(read):
    with pytest.raises(PlanError, match=r"^not a .*: .*surrogates"):
        read("\ud800")


@pytest.mark.parametrize("name", ["lr", "weight_decay", "eps", "muon_lr"])
def test_rates_are_numbers(name):
    for odd in (torch.zeros(3), "x", [1], -1.0):
        with pytest.raises(ArgumentError, match=rf"^{name}=.*expected a number"):
            made("scaling").groups(model(), **{"lr": 0.1, name: odd})


def test_a_class_is_no_model():
    for call in (autoinit.plan, autoinit.check, autoinit.report, lambda m: made("report").plan.apply(m, 0)):
        with pytest.raises(ArgumentError, match="model is a type: expected a"):
            call(nn.ReLU)


def test_functions_are_called_as_they_can_be():
    """Before anything is built: a factory that needs arguments, a loop that takes no learning rate."""
    for name, call in (
        ("model", lambda: assert_well_initialized(nn.Linear)),
        ("make_model", lambda: autoinit.compare(nn.Linear, lambda model, lr: iter([1.0]), lrs=[0.1], steps=1)),
        ("train", lambda: autoinit.compare(nn.ReLU, lambda model: iter([1.0]), lrs=[0.1], steps=1)),
        ("make_model", lambda: coordinate_check(lambda: nn.ReLU(), (1, 2), batches)),
        ("batches", lambda: coordinate_check(nn.Identity, (1, 2), lambda: None)),
    ):
        with pytest.raises(ArgumentError, match=rf"^{name}=.*expected a function to be called with [012] arguments \("):
            call()


def test_what_cannot_be_shown_is_named_by_its_class():
    assert str(refusal("x", Unprintable(), "a number")) == "x=a Unprintable: expected a number"
