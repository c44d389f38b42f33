"""Recurrent layers that are written out: each gate orthogonal by itself, and one bias of an LSTM's forget gate at 1.

A gate has 8 units. Its rows of a matrix of 8 or more columns are orthonormal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import autoinit

INPUTS, UNITS = 12, 8
STEPS = torch.ones(2, 3, INPUTS)
Gates = Callable[["Recurrent", Tensor, Tensor], Sequence[Tensor]]
Cell = Callable[[Sequence[Tensor], Tensor, Tensor], tuple[Tensor, Tensor]]


class Recurrent(nn.Module):
    """Gates of an input and a state, what they make of the state, and a head."""

    def __init__(self, gates: Gates, cell: Cell, **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.gates, self.cell = gates, cell
        for name, part in parts.items():
            setattr(self, name, part)
        self.head = nn.Linear(UNITS, 3)

    def forward(self, x: Tensor) -> Tensor:
        state = memory = x.new_zeros(x.shape[0], UNITS)
        for step in x.unbind(1):
            state, memory = self.cell(self.gates(self, step, state), state, memory)
        return self.head(state)


def lstm(gates: Sequence[Tensor], _state: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    entering, keep, new, out = gates
    memory = torch.sigmoid(keep) * memory + entering.sigmoid() * torch.tanh(new)
    return torch.sigmoid(out) * torch.tanh(memory), memory


def other_order(gates: Sequence[Tensor], _state: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """Forget, output, cell, input; one sigmoid for two gates; terms and factors the other way round."""
    keep, out = torch.cat(tuple(gates[:2]), -1).sigmoid().chunk(2, -1)
    memory = F.tanh(gates[2]) * F.sigmoid(gates[3]) + memory * keep
    return memory.tanh() * out, memory


def gru(gates: Sequence[Tensor], state: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """Gates of the input, and those of the state behind them."""
    reset, update = ((gates[at] + gates[at + 3]).sigmoid() for at in (0, 1))
    new = torch.tanh(gates[2] + reset * gates[5])
    return (1 - update) * new + update * state, memory


def gru_by_difference(gates: Sequence[Tensor], state: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    reset, update = ((gates[at] + gates[at + 3]).sigmoid() for at in (0, 1))
    new = torch.tanh(gates[2] + reset * gates[5])
    return new + update * (state - new), memory


def gru_of_the_reset_state(gates: Sequence[Tensor], state: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    update, new = gates
    return (1 - update) * new + update * state, memory


def joined_twice(net: Recurrent, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """As in Cho et al. 2014: the reset gate multiplies the state before a weight takes it."""
    reset, update = (each(torch.cat([x, h], 1)).sigmoid() for each in (net.reset, net.update))
    return update, net.new(torch.cat([x, reset * h], 1)).tanh()


def weights(*shapes: tuple[int, ...]) -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(shape).normal_()) for shape in shapes]


def of_input_and_state(count: int) -> dict[str, nn.Module]:
    return {"x": nn.Linear(INPUTS, count * UNITS), "h": nn.Linear(UNITS, count * UNITS)}


def by_matmul() -> Recurrent:
    w, u, b = weights((INPUTS, 4 * UNITS), (UNITS, 4 * UNITS), (4 * UNITS,))
    return Recurrent(lambda net, x, h: (x @ net.w + h @ net.u + net.b).chunk(4, -1), lstm, w=w, u=u, b=b)


def by_two_products() -> Recurrent:
    """Each with a bias of its own; the state is no signal at the first step."""
    w, u, b, c = weights((INPUTS, 4 * UNITS), (UNITS, 4 * UNITS), (4 * UNITS,), (4 * UNITS,))
    return Recurrent(
        lambda net, x, h: ((x @ net.w + net.b) + (h @ net.u + net.c)).chunk(4, -1), lstm, w=w, u=u, b=b, c=c
    )


def four(inputs: int, **settings: bool) -> nn.ModuleList:
    return nn.ModuleList([nn.Linear(inputs, UNITS, **settings) for _ in range(4)])


NETWORKS: dict[str, tuple[Callable[[], Recurrent], dict[str, int]]] = {
    "chunk": (
        lambda: Recurrent(lambda net, x, h: (net.x(x) + net.h(h)).chunk(4, 1), lstm, **of_input_and_state(4)),
        {"h.bias": 1},
    ),
    "split": (
        lambda: Recurrent(
            lambda net, x, h: torch.split(net.h(h) + net.x(x), UNITS, dim=-1), lstm, **of_input_and_state(4)
        ),
        {"x.bias": 1},
    ),
    "slices": (
        lambda: Recurrent(
            lambda net, x, h: [(net.x(x) + net.h(h))[:, at * UNITS :][:, :UNITS] for at in range(4)],
            other_order,
            **of_input_and_state(4),
        ),
        {"h.bias": 0},
    ),
    "joined": (
        lambda: Recurrent(
            lambda net, x, h: net.both(torch.cat([x, h], 1)).chunk(4, 1),
            lstm,
            both=nn.Linear(INPUTS + UNITS, 4 * UNITS),
        ),
        {"both.bias": 1},
    ),
    "eight layers": (
        lambda: Recurrent(
            lambda net, x, h: [a(x) + b(h) for a, b in zip(net.x, net.h, strict=True)],
            lstm,
            x=four(INPUTS),
            h=four(UNITS, bias=False),
        ),
        {"x.1.bias": 0},
    ),
    "four layers": (
        lambda: Recurrent(
            lambda net, x, h: [each(torch.cat([h, x], -1)) for each in net.both],
            other_order,
            both=four(INPUTS + UNITS),
        ),
        {"both.0.bias": 0},
    ),
    "matmul": (by_matmul, {"b": 1}),
    "two products": (by_two_products, {"c": 1}),
    "gru": (
        lambda: Recurrent(
            lambda net, x, h: (*net.x(x).chunk(3, 1), *net.h(h).chunk(3, 1)), gru, **of_input_and_state(3)
        ),
        {},
    ),
    "gru by difference": (
        lambda: Recurrent(
            lambda net, x, h: (*net.x(x).chunk(3, 1), *net.h(h).chunk(3, 1)), gru_by_difference, **of_input_and_state(3)
        ),
        {},
    ),
    "gru of the reset state": (
        lambda: Recurrent(
            joined_twice,
            gru_of_the_reset_state,
            **{name: nn.Linear(INPUTS + UNITS, UNITS) for name in ("reset", "update", "new")},
        ),
        {},
    ),
}
"""By spelling the network, and which run of 8 of which bias is the forget gate's: of two the one that is added last."""


@pytest.mark.parametrize("name", NETWORKS)
def test_gates_are_orthogonal_and_one_bias_opens_the_forget_gate(name: str):
    build, opened = NETWORKS[name]
    model = build()
    before = model.head.weight.clone()
    autoinit.autoinit(model, STEPS, recipe="lstm(0.5)", seed=0, verbose=False)
    assert torch.equal(model.head.weight, before)
    for parameter, values in model.named_parameters():
        if parameter.startswith("head"):
            continue
        rows = values.mT if parameter in ("w", "u") else values
        gates = rows.chunk(len(rows) // UNITS)
        for at, gate in enumerate(gates):
            if gate.dim() > 1:
                torch.testing.assert_close(gate @ gate.T, torch.eye(UNITS), rtol=0, atol=1e-5, msg=parameter)
            else:
                assert torch.equal(gate, torch.full((UNITS,), 0.5 * (opened.get(parameter) == at))), parameter
    told = autoinit.check(model, STEPS, recipe="lstm(0.5)").findings
    assert [str(each) for each in told if "by the recipe" in each.message or each.severity != "info"] == []


class Unlike(nn.Module):
    """What has the form of gates, and makes no state: WaveNet's gate on a stream, two such units, a highway."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.both, self.way = nn.Linear(UNITS, UNITS), nn.Linear(UNITS, 4 * UNITS), nn.Linear(UNITS, UNITS)
        self.gate, self.head = nn.Linear(UNITS, UNITS), nn.Linear(UNITS, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        first, one, second, two = self.both(x).chunk(4, -1)
        x = x + torch.tanh(first) * torch.sigmoid(one)
        x = torch.tanh(first) * torch.sigmoid(one) + torch.tanh(second) * torch.sigmoid(two) + x
        share = torch.sigmoid(self.gate(x))
        return self.head(share * F.relu(self.way(x)) + (1 - share) * x)


def test_what_looks_like_gates_and_makes_no_state_is_kept():
    made = autoinit.plan(Unlike(), torch.ones(2, UNITS), recipe="lstm")
    assert ({each.status for each in made.layers}, made.rest) == ({"kept"}, ())


def test_a_state_that_another_network_starts():
    """The first step reads what a linear layer makes of a code; the next one what the step before made."""

    class Decoder(Recurrent):
        def forward(self, x: Tensor) -> Tensor:
            state, memory = self.start(x[:, 0]), self.start(x[:, 1])
            for step in x.unbind(1):
                state, memory = self.cell(self.gates(self, step, state), state, memory)
            return self.head(state)

    spelled = {"lstm": (lstm, 4), "gru": (gru, 3)}
    for cell, count in spelled.values():
        parts = {**of_input_and_state(count), "start": nn.Linear(INPUTS, UNITS)}
        gates: Gates = (
            (lambda net, x, h: (net.x(x) + net.h(h)).chunk(4, 1))
            if count == 4
            else (lambda net, x, h: (*net.x(x).chunk(3, 1), *net.h(h).chunk(3, 1)))
        )
        made = autoinit.plan(Decoder(gates, cell, **parts), STEPS, recipe="lstm")
        assert {each.param for each in made.layers if each.status == "planned"} == {"x.weight", "h.weight"}
