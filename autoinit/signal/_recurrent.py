"""Recurrent modules written out step by step, so that what each of their weights makes is seen.

The modules compute all steps in one call. Written out they compute the same: for each layer and direction
W_ih x + b_ih of all steps, then step by step W_hh h + b_hh of the state before, the gates and, in an LSTM with
projections, W_hr of the new state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

State = tuple[torch.Tensor, ...]
Seen = Callable[[str, Sequence[torch.Tensor]], None]
"""Called with the name of a weight in its module, and what it makes of each step: (samples, rows).

Steps whose state is zero do not count for W_hh: there is no signal yet.
"""

NO_STATE = "it meets no state but zeros"
"""Why W_hh has no product, in a sequence of one step or a cell's first call."""

_KINDS = (nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell)


def is_recurrent(module: nn.Module) -> bool:
    """Whether a module can be written out: torch's own recurrent modules, with the forward that torch gives them."""
    return any(isinstance(module, kind) and type(module).forward is kind.forward for kind in _KINDS)


def _weights_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """The weights and biases that a recurrent module uses, parametrized or not, by their names in it."""
    cell = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    held = {name: getattr(module, name) for name in getattr(module, "_flat_weights_names", cell)}
    return {name: value for name, value in held.items() if value is not None}


def written_out(module: nn.Module, seen: Seen) -> Callable[..., Any]:
    """A forward that computes what the module's own does, and tells what each weight makes."""
    weights = _weights_of(module)
    if isinstance(module, nn.RNNCellBase):
        return partial(_cell, _Recurrence(module, weights, seen))
    assert isinstance(module, nn.RNNBase)
    return partial(_network, _Recurrence(module, weights, seen))


@dataclass(frozen=True)
class _Recurrence:
    module: Any
    weights: Mapping[str, torch.Tensor]
    seen: Seen

    @property
    def states(self) -> int:
        """Tensors in a state: an LSTM has two."""
        return 2 if isinstance(self.module, (nn.LSTM, nn.LSTMCell)) else 1

    def times(self, which: str, place: str, x: torch.Tensor) -> torch.Tensor:
        """A weight's product, and its bias."""
        return functional.linear(x, self.weights[f"weight_{which}{place}"], self.weights.get(f"bias_{which}{place}"))

    def over(self, steps: Sequence[torch.Tensor], state: State, place: str) -> tuple[list[torch.Tensor], State]:
        """One layer in one direction: what it gives at each step, and its last state.

        steps: (samples, features) each. Of packed sequences only the first samples are in a step; the others keep
        their state. place: the end of the weights' names.
        """
        sizes = [len(step) for step in steps]
        of_inputs = torch.split(self.times("ih", place, torch.cat(list(steps))), sizes)
        of_states, projected, given = [], [], list(of_inputs)
        places = range(len(steps))
        for at in reversed(places) if place.endswith("_reverse") else places:
            here = tuple(each[: sizes[at]] for each in state)
            product = self.times("hh", place, here[0])
            if bool(here[0].any()):
                of_states.append(product)
            after = self._step(of_inputs[at], product, here)
            if f"weight_hr{place}" in self.weights:
                projected.append(self.times("hr", place, after[0]))
                after = (projected[-1], *after[1:])
            given[at] = after[0]
            state = tuple(torch.cat([new, old[sizes[at] :]]) for new, old in zip(after, state, strict=True))
        self.seen(f"weight_ih{place}", of_inputs)
        self.seen(f"weight_hh{place}", of_states)
        if projected:
            self.seen(f"weight_hr{place}", projected)
        return given, state

    def _step(self, of_input: torch.Tensor, of_state: torch.Tensor, state: State) -> State:
        """The new state."""
        if self.states == 2:
            i, f, g, o = (of_input + of_state).chunk(4, -1)
            cell = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
            return o.sigmoid() * cell.tanh(), cell
        if isinstance(self.module, (nn.GRU, nn.GRUCell)):
            (r, z, n), (state_r, state_z, state_n) = of_input.chunk(3, -1), of_state.chunk(3, -1)
            new, kept = (n + (r + state_r).sigmoid() * state_n).tanh(), (z + state_z).sigmoid()
            return ((1 - kept) * new + kept * state[0],)
        total = of_input + of_state
        return (total.relu() if self.module.nonlinearity == "relu" else total.tanh(),)


def _cell(recurrence: _Recurrence, input: torch.Tensor, hx: Any = None) -> Any:
    """The forward of a cell: one step."""
    x = input if input.dim() == 2 else input.unsqueeze(0)
    if hx is None:
        state: State = (x.new_zeros(len(x), recurrence.module.hidden_size),) * recurrence.states
    else:
        given = hx if recurrence.states == 2 else (hx,)
        state = tuple(each if each.dim() == 2 else each.unsqueeze(0) for each in given)
    _, state = recurrence.over([x], state, "")
    made = state if input.dim() == 2 else tuple(each.squeeze(0) for each in state)
    return made if recurrence.states == 2 else made[0]


def _network(recurrence: _Recurrence, input: Any, hx: Any = None) -> Any:
    """The forward of `nn.LSTM`, `nn.GRU` and `nn.RNN`: all layers and directions, dropout between layers."""
    module = recurrence.module
    if isinstance(input, tuple):
        input = PackedSequence(*input)  # a trace holds its fields alone
        x, sizes = input.data, input.batch_sizes.tolist()
    else:
        batched = input if input.dim() == 3 else input.unsqueeze(1)
        steps_first = batched.transpose(0, 1) if module.batch_first and input.dim() == 3 else batched
        x, sizes = steps_first.flatten(0, 1), [steps_first.shape[1]] * steps_first.shape[0]
    states = _start(recurrence, input, hx, x, sizes[0])
    last: list[State] = []
    for layer in range(module.num_layers):
        made = []
        for end in ("", "_reverse")[: 1 + module.bidirectional]:
            given, after = recurrence.over(torch.split(x, sizes), states[len(last)], f"_l{layer}{end}")
            made.append(torch.cat(given))
            last.append(after)
        x = torch.cat(made, -1)
        if module.dropout and layer + 1 < module.num_layers:
            x = functional.dropout(x, module.dropout, module.training)
    ends = tuple(torch.stack(each) for each in zip(*last, strict=True))
    if isinstance(input, PackedSequence):
        output: Any = PackedSequence(x, input.batch_sizes, input.sorted_indices, input.unsorted_indices)
        if input.unsorted_indices is not None:
            ends = tuple(each.index_select(1, input.unsorted_indices) for each in ends)
    elif input.dim() == 2:
        output, ends = x, tuple(each.squeeze(1) for each in ends)
    else:
        output = x.reshape(*steps_first.shape[:2], -1)
        output = output.transpose(0, 1) if module.batch_first else output
    return output, ends if recurrence.states == 2 else ends[0]


def _start(recurrence: _Recurrence, input: Any, hx: Any, x: torch.Tensor, samples: int) -> list[State]:
    """The state before the first step, for each layer and direction."""
    module = recurrence.module
    count = module.num_layers * (1 + module.bidirectional)
    if hx is None:
        width = module.proj_size or module.hidden_size
        one = (x.new_zeros(samples, width), x.new_zeros(samples, module.hidden_size))[: recurrence.states]
        return [one] * count
    given = hx if recurrence.states == 2 else (hx,)
    if isinstance(input, PackedSequence):
        order = input.sorted_indices
        given = tuple(each if order is None else each.index_select(1, order) for each in given)
    elif input.dim() == 2:
        given = tuple(each.unsqueeze(1) for each in given)
    return list(zip(*(each.unbind(0) for each in given), strict=True))
