"""Interrupts that hit while something is taken back: the process is as it was all the same."""

from __future__ import annotations

import gc
import random

import pytest
import torch
from torch import nn
from torch.fx import _symbolic_trace as fx

from autoinit import plan, trace
from autoinit.tensors.parallel import one_thread
from autoinit.tensors.process_state import collector_paused, surely
from autoinit.tracing.rng import untouched_generators


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))


def interrupted_at(monkeypatch, holder, name: str, number: int) -> None:
    """Ctrl-C at a call of a function, the number-th; the others do what they do."""
    real, calls = getattr(holder, name), []

    def function(*given):
        calls.append(given)
        if len(calls) == number:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(holder, name, function)


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("kind", ["_PatchedFnSetAttr", "_PatchedFnSetItem"])
def test_an_interrupt_while_fx_takes_its_patches_back(monkeypatch, kind, number):
    """torch.fx replaces nn.Module.__call__: left so, no module of the process could be called any more."""
    before = nn.Module.__call__, nn.Module.__getattr__
    made = model()
    interrupted_at(monkeypatch, getattr(fx, kind), "revert", number)
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        trace(made, tier="symbolic")
    assert (nn.Module.__call__, nn.Module.__getattr__) == before
    assert fx.CURRENT_PATCHER is None
    assert not fx.is_fx_symbolic_tracing()
    assert made(torch.ones(2, 4)).shape == (2, 4)
    monkeypatch.undo()
    assert list(plan(made)) == ["0", "2"]


@pytest.mark.parametrize("number", [1, 2])
def test_an_interrupt_at_either_end_of_one_thread(monkeypatch, number):
    """set_num_threads is called once in front (for this thread, another for threads to come), and once behind."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        interrupted_at(monkeypatch, torch, "set_num_threads", 1 if number == 1 else 3)
        with pytest.raises(KeyboardInterrupt, match=r"^$"), one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
    finally:
        monkeypatch.undo()
        torch.set_num_threads(before)


def test_an_interrupt_while_generators_are_put_back(monkeypatch):
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    interrupted_at(monkeypatch, random, "setstate", 1)
    with pytest.raises(KeyboardInterrupt, match=r"^$"), untouched_generators(3):
        torch.rand(2), random.random()
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert random.getstate() == python_state


def test_an_interrupt_while_the_collector_is_switched_on(monkeypatch):
    interrupted_at(monkeypatch, gc, "enable", 1)
    with pytest.raises(KeyboardInterrupt, match=r"^$"), collector_paused():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_what_is_taken_back_is_so_once_where_nothing_interrupts():
    calls = []
    surely(lambda: calls.append(1))
    assert calls == [1]
