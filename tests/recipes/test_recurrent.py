"""The recipe of recurrent layers: each gate orthogonal by itself, and one bias of the forget gate at 1."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import autoinit
from autoinit import PlanError

STEPS = torch.ones(2, 3, 12)


class Stack(nn.Module):
    """Two layers of 8 units in both directions, and a head."""

    def __init__(self, kind: type[nn.RNNBase], **settings: int) -> None:
        super().__init__()
        self.rnn = kind(12, 8, 2, batch_first=True, bidirectional=True, **settings)
        self.head = nn.Linear(2 * settings.get("proj_size", 8), 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


class Cells(nn.Module):
    """A cell that is called in a loop."""

    def __init__(self, kind: type[nn.RNNCellBase]) -> None:
        super().__init__()
        self.rnn, self.head = kind(12, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for step in x.unbind(1):
            state = self.rnn(step, state)
        return self.head(state[0] if isinstance(state, tuple) else state)


class Functional(nn.Module):
    """torch.lstm with its weights in a list."""

    def __init__(self) -> None:
        super().__init__()
        sizes = {"weight_ih": (32, 12), "weight_hh": (32, 8), "bias_ih": (32,), "bias_hh": (32,)}
        for name, size in sizes.items():
            self.register_parameter(name, nn.Parameter(torch.ones(size).normal_()))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        zero = x.new_zeros(1, x.shape[0], 8)
        weights = [self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh]
        return self.head(torch.lstm(x, (zero, zero), weights, True, 1, 0.0, False, False, True)[0][:, -1])


GATES = {nn.LSTM: 4, nn.LSTMCell: 4, nn.GRU: 3, nn.GRUCell: 3, nn.RNN: 1, nn.RNNCell: 1}
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    **{kind.__name__: (lambda kind=kind: Stack(kind), GATES[kind]) for kind in (nn.LSTM, nn.GRU, nn.RNN)},
    **{kind.__name__: (lambda kind=kind: Cells(kind), GATES[kind]) for kind in (nn.LSTMCell, nn.GRUCell, nn.RNNCell)},
    "torch.lstm": (Functional, 4),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_gates_are_orthogonal_and_the_forget_gate_of_an_lstm_opens(name: str):
    """Torch's order of an LSTM's gates is input, forget, cell, output: elements 8 to 16 of a bias of 32.

    A gate's matrix has 8 rows and 8 or more columns: its rows are orthonormal.
    """
    build, gates = NETWORKS[name]
    model = build()
    before = model.head.weight.clone()
    autoinit.autoinit(model, STEPS, recipe="lstm", seed=0, verbose=False)
    for parameter, values in model.named_parameters():
        if "weight_ih" in parameter or "weight_hh" in parameter:
            for gate in values.chunk(gates):
                torch.testing.assert_close(gate @ gate.T, torch.eye(8), rtol=0, atol=1e-5, msg=parameter)
        elif "bias_ih" in parameter or "bias_hh" in parameter:
            expected = torch.zeros(8 * gates)
            if gates == 4 and "bias_hh" in parameter:
                expected[8:16] = 1
            assert torch.equal(values, expected), parameter
    assert torch.equal(model.head.weight, before)
    told = autoinit.check(model, STEPS, recipe="lstm").findings
    assert [str(each) for each in told if "by the recipe" in each.message or each.severity != "info"] == []


def test_the_projection_of_a_state_is_kept():
    made = autoinit.plan(Stack(nn.LSTM, proj_size=4), STEPS, recipe="lstm")
    assert {each.param for each in made.layers if each.status == "kept"} == {
        "head.weight",
        *(f"rnn.weight_hr_l{layer}{way}" for layer in (0, 1) for way in ("", "_reverse")),
    }


def test_the_rows_of_a_bias_are_planned_told_stored_and_checked():
    model = Cells(nn.LSTMCell)
    made = autoinit.plan(model, STEPS, recipe="lstm(0.5)")
    (state,) = (each for each in made.rest if each.name == "rnn.bias_hh")
    assert (state.mean, [(part.rows, part.std, part.mean) for part in state.slices]) == (0, [(((8, 16),), 0, 0.5)])
    assert autoinit.Plan.from_json(made.to_json()) == made
    report = made.apply(model, 0)
    assert "bias 1 (0, but 0.5 for some rows)" in " ".join(str(report).split())
    with torch.no_grad():
        model.rnn.bias_hh[8:16] = 0
    told = [each.message for each in autoinit.check(model, STEPS, recipe="lstm(0.5)").findings if each.code == "INI203"]
    assert len(told) == 1
    assert "rnn.bias_hh (bias) is 0 throughout, expected 0.5 by the recipe lstm(0.5)" in told[0]
    wrong = json.loads(made.to_json())
    next(each for each in wrong["rest"] if each["slices"])["slices"][0]["rows"] = [[8, 40]]
    with pytest.raises(PlanError, match=r"rows 8:40, but rnn\.bias_hh has 32"):
        autoinit.Plan.from_json(json.dumps(wrong)).apply(model, 0)
