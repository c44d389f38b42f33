"""Arguments of any type: a result or an AutoinitError, and on error the model as it was."""

from __future__ import annotations

import contextlib
import copy
import io
import math
import sys
import tempfile
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from autoinit import CheckResult, Plan, autoinit, check, plan, recipes, trace
from autoinit.api import report
from autoinit.checking.fixing import fix
from autoinit.errors import ArgumentError, AutoinitError, PlanError
from autoinit.ops import REGISTRY
from autoinit.signal import measure, propagate
from autoinit.tracing.rng import as_torch_takes
from tests.project.public_calls import arguments, calls, model, public

CALLS = calls()
FUNCTIONS: dict[str, Callable[..., object]] = {
    "autoinit": lambda model, **given: autoinit(model, verbose=False, **given),
    "plan": plan,
    "report": report,
    "check": check,
    "propagate": propagate,
    "measure": measure,
}


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("nobody may see it")


VALUES: tuple[Any, ...] = (
    5, -1, 0, 3, 10**30, 1.5, math.nan, math.inf, 1j, "foo", "", "\ud800", None, True, b"x", [], {}, (), [1],
    ["a"], ("a", 1), {"a"}, {"a": 1}, {1: 2}, range(10**12), object(), Unprintable(), torch.zeros(2), torch.zeros(0, 6),
    torch.zeros(2, 6), torch.float32, np.zeros((2, 6)), np.float32(0.1), lambda: 1, nn.Linear, nn.Sequential(), print,
    "x" * 3000, io.BytesIO(), sys.stdout, "gpt2", "gpt2(", "trunc_normal(1e308)", "zero", "mirrored", "muon", "full",
)  # fmt: skip
drawn = st.sampled_from(sorted(CALLS)).flatmap(
    lambda name: st.tuples(
        st.just(name),
        st.dictionaries(st.sampled_from(arguments(name)), st.sampled_from(range(len(VALUES))), min_size=1, max_size=2),
    )
)
WRITING = {"autoinit", "Plan.apply", "Scaling.apply"}


def test_every_public_function_takes_part():
    assert public() == set(CALLS)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_is_right(name):
    function, given_to_it = CALLS[name]
    with aside():
        function(**given_to_it())


@contextlib.contextmanager
def aside():
    """What is registered and written is gone afterwards."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        for name, value in vars(REGISTRY).items():
            patch.setattr(REGISTRY, name, dict(value))
        patch.setattr(recipes.registry, "_found", dict(recipes.table()))
        patch.chdir(folder)
        yield


@settings(derandomize=True, deadline=None, max_examples=700)
@given(drawn)
def test_a_result_or_an_error_of_autoinits(call):
    name, odd = call
    function, given_to_it = CALLS[name]
    whole = {**given_to_it(), **{argument: VALUES[number] for argument, number in odd.items()}}
    made = next((each for each in whole.values() if isinstance(each, nn.Module)), nn.Identity())
    before, random_state = copy.deepcopy(made.state_dict()), torch.get_rng_state()
    with aside():
        try:
            function(**whole)
        except (AutoinitError, AssertionError) as error:
            failed = error
        else:
            failed = None
    assert len(str(failed)) < 4000
    assert name == "assert_well_initialized" or not isinstance(failed, AssertionError)
    if failed or name not in WRITING:
        assert all(torch.equal(each, before[key]) for key, each in made.state_dict().items())
    assert all(module.training for module in made.modules())
    if name not in WRITING and name != "InitializationCheck":
        assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("odd", [5, None, "x", nn.Linear, {}, {"weight": 2}], ids=str)
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


ALL: dict[str, Callable[..., object]] = {
    **FUNCTIONS,
    "trace": trace,
    "apply": lambda made: planned().apply(made, 1),
    "fix": lambda made: fix(made, faulty(), seed=1),
}


@cache
def planned() -> Plan:
    return plan(model())


@cache
def faulty() -> CheckResult:
    made = model()
    nn.init.normal_(made[0].weight, std=100.0)
    return check(made)


@pytest.fixture(autouse=True, scope="module")
def _made_beforehand() -> None:
    planned()
    faulty()


def with_first(weight: Callable[[torch.Tensor], torch.Tensor]) -> nn.Sequential:
    made = model()
    made[0].weight = nn.Parameter(weight(made[0].weight.detach()))
    return made


def fake() -> nn.Sequential:
    with FakeTensorMode():
        return model()


def fake_buffer() -> nn.Sequential:
    made = model()
    with FakeTensorMode():
        made[2].register_buffer("mask", torch.ones(3))
    return made


def partly_scripted() -> nn.Sequential:
    made = model()
    made[2] = torch.jit.script(made[2])
    return made


def fake_program() -> torch.export.ExportedProgram:
    with FakeTensorMode(allow_non_fake_inputs=True):
        return torch.export.export(model(), (torch.zeros(2, 6),))


@pytest.mark.parametrize("name", [each for each in ALL if each != "measure"])
def test_a_program_of_fake_tensors_is_refused(name):
    with pytest.raises(PlanError, match=r"^0\.weight is a fake tensor"):
        ALL[name](fake_program())


UNREADABLE: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "fake": (fake, r"^0\.weight is a fake tensor, which has no values: build the model outside of FakeTensorMode"),
    "fake_in_a_wrapper": (lambda: nn.DataParallel(fake()), r"^0\.weight is a fake tensor"),
    "fake_buffer": (fake_buffer, r"^2\.mask is a fake tensor"),
    "sparse": (lambda: with_first(torch.Tensor.to_sparse), r"^0\.weight has layout torch\.sparse_coo; expected torch"),
    "rows": (
        lambda: with_first(torch.Tensor.to_sparse_csr),
        r"^0\.weight has layout torch\.sparse_csr; expected",
    ),
    "scripted": (lambda: torch.jit.script(model()), r"TorchScript modules, which have no Python to trace"),
    "traced": (lambda: torch.jit.trace(model(), torch.zeros(2, 6)), r"TorchScript modules, which have no Python"),
    "partly_scripted": (partly_scripted, r"TorchScript modules, which have no Python to trace"),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta:UserWarning")
@pytest.mark.parametrize("kind", UNREADABLE)
@pytest.mark.parametrize("name", ALL)
def test_a_model_that_cannot_be_read_is_refused_by_every_function(name, kind):
    made, said = UNREADABLE[kind]
    with pytest.raises(AutoinitError, match=said):
        ALL[name](made())


@pytest.mark.parametrize("name", ALL)
def test_a_fake_tensor_mode_around_is_refused(name):
    made = model()
    with FakeTensorMode(), pytest.raises(PlanError, match=r"^a FakeTensorMode is active, in which no tensor has"):
        ALL[name](made)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ALL)
def test_a_default_device_around_changes_nothing(name, dtype):
    made, beside = model().to(dtype), model().to(dtype)
    torch.manual_seed(1)
    with torch.device("meta"):
        ALL[name](made)
    torch.manual_seed(1)
    ALL[name](beside)
    assert all(torch.equal(each, beside.state_dict()[key]) for key, each in made.state_dict().items())
    assert made[0].weight.device.type == "cpu"


@pytest.mark.parametrize(
    ("inputs", "shape"),
    [((0, 6), r"\(0, 6\)"), (torch.zeros(0, 6), r"\(0, 6\)"), (torch.zeros(2, 0, 6), r"\(2, 0, 6\)")],
)
@pytest.mark.parametrize("call", [propagate, partial(plan, method="signal")], ids=["propagate", "plan"])
def test_an_empty_batch_has_no_signal(call, inputs, shape):
    with pytest.raises(ArgumentError, match=rf"^example_inputs: \w+ has shape {shape}: expected at least one element"):
        call(model(), inputs)


@pytest.mark.parametrize("seeds", [0, -1, 1001, 10**30])
@pytest.mark.parametrize("call", [propagate, measure])
def test_more_draws_than_end_are_refused(call, seeds):
    with pytest.raises(ArgumentError, match=rf"^seeds={seeds}: expected a whole number of draws from 1 to 1000"):
        call(model(), seeds=seeds)


@pytest.mark.parametrize("seed", [10**30, -(10**30), 2**64])
@pytest.mark.parametrize("method", ["signal", "data"])
def test_any_integer_is_a_seed(seed, method):
    """The last 64 bits count where torch draws."""
    assert [as_torch_takes(each) for each in (7, -1, 2**64 - 1, 2**64 + 7)] == [7, 2**64 - 1, 2**64 - 1, 7]
    assert plan(model(), (4, 6), method=method, seed=seed)
    for call in (propagate, measure):
        assert call(model(), (4, 6), seed=seed)["0"].q == call(model(), (4, 6), seed=seed % 2**64)["0"].q


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_module_that_is_inside_itself_is_refused(name):
    made = model()
    made.add_module("inner", nn.Sequential())
    made.inner.add_module("outer", made)
    with pytest.raises(PlanError, match=r"^inner\.outer is the module that it is in, expected a tree of modules"):
        FUNCTIONS[name](made)
