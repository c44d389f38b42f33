"""Recurrent modules written out for `mirrored`: each step a product with the input, one with the state, a nonlinearity.

`nn.RNN` and `nn.RNNCell` compute W_ih x + W_hh h and its nonlinearity in one operation. Written out as operations of
the table, their weights are followed like those of a loop that an author wrote.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import networkx as nx
import torch
from torch.nn import functional as F

from autoinit.ops import REGISTRY, Role
from autoinit.theory.layouts import Layout
from autoinit.tracing.dataflow import Call, Dataflow, Op, OpGraph, ParamUse
from autoinit.tracing.rerunning import substitute

LONGEST = 256
"""Steps that are written out at most; later ones repeat what these are."""
_CURVES = {"tanh": torch.tanh, "relu": torch.relu}


def unrolled(dataflow: Dataflow) -> Dataflow:
    """The same dataflow with every step of `nn.RNN` and `nn.RNNCell` as operations of its own.

    Those whose input has no known shape of samples, steps and features stay as they are.
    """
    if not any(map(_is_written_out, dataflow.graph.nodes)):
        return dataflow
    state = _Unrolling(dataflow.graph)
    for op in dataflow.graph.nodes:
        state.add(op)
    return replace(dataflow, graph=state.graph)


def _is_written_out(op: Op) -> bool:
    """Whether an operation is a recurrent module whose steps are known."""
    if op.op not in ("rnn", "rnn_cell") or not op.is_module or "input" not in op.operands:
        return False
    shape = op.operands["input"].shape
    return shape is not None and len(shape) == (3 if op.op == "rnn" else 2)


@dataclass
class _Unrolling:
    """The new graph while it is made.

    Attributes:
        old: the graph that is written out.
        made: what stands for each operation of the old one.
        pieces: what stands for each of the things that a recurrent module returns.
    """

    old: OpGraph
    graph: OpGraph = field(default_factory=nx.DiGraph)
    made: dict[Op, Op] = field(default_factory=dict)
    pieces: dict[Op, tuple[Op, ...]] = field(default_factory=dict)

    def add(self, op: Op) -> None:
        """Take over an operation of the old graph, or what stands for it."""
        source = op.operands.get("input")
        if _is_written_out(op):
            self._unroll(op)
        elif source in self.pieces and op.op == "getitem":
            self.made[op] = self.pieces[source][op.constants["index"]]
        else:
            self.made[op] = self._taken_over(op)

    def _taken_over(self, op: Op) -> Op:
        call = op.call
        if call is not None:
            call = replace(call, args=substitute(call.args, self.made), kwargs=substitute(dict(call.kwargs), self.made))
        operands = {slot: self.made[each] for slot, each in op.operands.items()}
        taken = replace(op, operands=operands, call=call)
        self.graph.add_node(taken)
        for before in self.old.predecessors(op):
            self.graph.add_edge(self.made[before], taken, slots=self.old.edges[before, op]["slots"])
        return taken

    def _placed(self, op: Op) -> Op:
        """A new operation, connected to what it takes."""
        self.graph.add_node(op)
        for slot, each in op.operands.items():
            self.graph.add_edge(each, op, slots=(slot,))
        return op

    def _unroll(self, op: Op) -> None:
        x = self.made[op.operands["input"]]
        given = self.made[op.operands["hx"]] if "hx" in op.operands else None
        if op.op == "rnn_cell":
            self.made[op] = self._step(op, "", 0, x, given)
            return
        assert x.shape is not None
        time = 1 if op.constants.get("batch_first") else 0
        steps: Sequence[Op] = [self._piece(op, x, time, at) for at in range(min(x.shape[time], LONGEST))]
        lasts: list[Op] = []
        for layer in range(op.constants.get("num_layers") or 1):
            ways = []
            for way in ("", "_reverse") if op.constants.get("bidirectional") else ("",):
                state, made = None, list[Op]()
                for at, step in enumerate(reversed(steps) if way else steps):
                    state = self._step(op, f"_l{layer}{way}", at, step, state)
                    made.append(state)
                ways.append(made[::-1] if way else made)
                lasts.append(made[-1])
            steps = [self._joined(op, "cat", torch.cat, each, -1) for each in zip(*ways, strict=True)]
        whole = self._joined(op, "stack", torch.stack, steps, time)
        self.pieces[op] = (whole, self._joined(op, "stack", torch.stack, lasts, 0))
        self.made[op] = whole

    def _step(self, op: Op, place: str, at: int, x: Op, state: Op | None) -> Op:
        """One step: the new state."""
        uses = {use.slot: use for use in op.params}
        name = f"{op.name}{place}/{at}"
        terms = [self._product(op, f"{name}/ih", uses[f"weight_ih{place}"], uses.get(f"bias_ih{place}"), x)]
        if state is not None:
            weight, bias = uses[f"weight_hh{place}"], uses.get(f"bias_hh{place}")
            terms.append(self._product(op, f"{name}/hh", weight, bias, state))
        if len(terms) > 1:
            terms = [self._made(op, f"{name}/add", "add", torch.add, terms, {"input": terms[0], "other": terms[1]})]
        curve = str(op.constants.get("nonlinearity", "tanh"))
        return self._made(op, name, curve, _CURVES[curve], terms, {"input": terms[0]})

    def _product(self, op: Op, name: str, weight: ParamUse, bias: ParamUse | None, x: Op) -> Op:
        assert x.shape is not None
        biases = () if bias is None else (replace(bias, slot="bias"),)
        params = (replace(weight, slot="weight", layout=Layout("oi")), *biases)
        call = Call(F.linear, (x,), {}, REGISTRY.specs["linear"])
        shape = (*x.shape[:-1], weight.shape[0])
        return self._placed(
            Op(name, "linear", Role.WEIGHT, op.module, params, {}, shape, op.source, True, True, {"input": x}, call)
        )

    def _piece(self, op: Op, x: Op, time: int, at: int) -> Op:
        assert x.shape is not None
        index = (slice(None), at) if time else at
        shape = (*x.shape[:time], *x.shape[time + 1 :])
        call = Call(operator.getitem, (x, index), {}, REGISTRY.specs["getitem"])
        spec, name = REGISTRY.specs["getitem"], f"{op.name}/x{at}"
        constants = {"index": index}
        return self._placed(
            Op(name, "getitem", spec.role, op.module, (), constants, shape, op.source, x.signal, x.made, {"input": x},
               call, spec.acts.value)
        )  # fmt: skip

    def _joined(self, op: Op, name: str, function: Any, parts: Sequence[Op], dim: int) -> Op:
        if len(parts) == 1 and name == "cat":
            return parts[0]
        operands = {f"tensors.{place}": each for place, each in enumerate(parts)}
        return self._made(op, f"{op.name}/{name}{len(self.graph)}", name, function, [list(parts), dim], operands)

    def _made(self, op: Op, name: str, kind: str, function: Any, args: Sequence[Any], operands: Mapping[str, Op]) -> Op:
        """An operation of the table without a weight, whose shape is that of its result."""
        spec = REGISTRY.specs[kind]
        shapes = {each: torch.empty(each.shape or (), device="meta") for each in operands.values()}
        result = function(*substitute(list(args), shapes))
        constants = {"dim": args[1]} if kind in ("cat", "stack") else {}
        call = Call(function, tuple(args), {}, spec)
        return self._placed(
            Op(name, kind, spec.role, op.module, (), constants, tuple(result.shape), op.source, True, True, operands,
               call, spec.acts.value)
        )  # fmt: skip
