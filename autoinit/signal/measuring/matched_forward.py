"""A real forward of a shadow, followed operation by operation as the `Dataflow` of an earlier tracing names them."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx

from autoinit.errors import AutoinitError
from autoinit.signal._attention import Linear, is_attention, probing, row_in
from autoinit.tracing.attempts import FailedError, in_mode
from autoinit.tracing.dataflow import Dataflow, Op, ParamUse
from autoinit.tracing.expanding import STANDS_FOR
from autoinit.tracing.guarding import undisturbed
from autoinit.tracing.recording import Recorder
from autoinit.tracing.rng import untouched_generators
from autoinit.tracing.shadow import Shadow


@dataclass(frozen=True, eq=False)
class Projection:
    """`linear(x, weight, bias)` inside an attention module; `weight` are the rows from `row` on of the parameter."""

    use: ParamUse
    linear: Linear
    x: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None
    row: int

    def __call__(self) -> torch.Tensor:
        """The result: (tokens, batch, rows), or (tokens * batch, rows) for the last one."""
        return self.linear(self.x, self.weight, self.bias)


class Follower(Recorder):
    """Runs a module for real and matches what it calls, in order, to the operations of a dataflow.

    Subclasses say what to do with each result (`met`, `met_several`) and with the linear maps inside
    `nn.MultiheadAttention` (`projected`).

    Attributes:
        left: the operation at which the forward left the dataflow, if it did; nothing is matched from there on.
    """

    def __init__(self, shadow: Shadow, values: Mapping[str, torch.Tensor], dataflow: Dataflow | None) -> None:
        super().__init__(shadow.module, values)
        self.shadow = shadow
        nodes, ops = (list(dataflow.fx.nodes), list(dataflow.graph.nodes)) if dataflow is not None else ([], [])
        self._expected = list(zip(nodes, ops, strict=True))
        self._at = 0
        self._open = dataflow is not None
        self._ops: dict[torch.fx.Node, Op] = {}
        self._followed: torch.fx.Node | None = None
        self.left = "" if dataflow is not None else "the start"
        self.result: Any = None

    def met(self, op: Op, result: torch.Tensor) -> None:
        """A result that carries the signal, before the model goes on with it; may be changed in place."""

    def met_several(self, op: Op, results: Any) -> None:
        """The same of an operation that gives several tensors; `met` is called with each later."""

    def projected(self, projection: Projection) -> torch.Tensor:
        """The result of one linear map inside an attention module."""
        return projection()

    @property
    def expected(self) -> Op | None:
        """The next operation, while the forward follows the dataflow."""
        return self._expected[self._at][1] if self._open and self._at < len(self._expected) else None

    def follow(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Run the module; afterwards its forwards are its own again."""
        own = {module: module.__dict__.get("forward") for module in self.module.modules()}
        try:
            with _eager(), undisturbed(self.shadow):
                self.run(args, kwargs)
        finally:
            self._open = False
            for module, forward in own.items():
                module.__dict__.pop("forward", None)
                if forward is not None:
                    module.__dict__["forward"] = forward

    def forward(self, arguments: tuple[tuple[Any, ...], Mapping[str, Any]], seed: int, origin: str) -> None:
        """`follow` with random numbers of a seed.

        Raises:
            FailedError: the module does not run on the arguments.
        """
        with untouched_generators(seed):
            try:
                self.follow(*arguments)
            except AutoinitError:
                raise
            except Exception as error:
                mode = in_mode(self.module.training)
                raise FailedError(f"run on the CPU{mode}, input {origin}", error, self.failed) from error

    def outputs(self) -> list[torch.Tensor]:
        """The tensors that the module returned, each once."""
        held: dict[torch.fx.Node, torch.Tensor] = {self._nodes[tensor]: tensor for tensor in list(self._nodes)}
        sink = next(node for node in self.graph.nodes if node.op == "output")
        return [held[node] for node in sink.all_input_nodes if node in held]

    def _wrap_forwards(self) -> None:
        probed = [module for module in self.module.modules() if is_attention(module)]
        for module in probed:
            module.__dict__["forward"] = probing(module, self._project)
        super()._wrap_forwards()
        forward = self.module.__dict__["forward"]

        def keep(*args: Any, **kwargs: Any) -> Any:
            self.result = forward(*args, **kwargs)
            return self.result

        self.module.__dict__["forward"] = keep

    def _project(self, linear: Linear, args: tuple[Any, ...]) -> torch.Tensor:
        """A linear map inside an attention module, which is itself matched afterwards: it is the next one expected."""
        op = self.expected
        if op is None or op.op != "multi_head_attention":
            return linear(*args)
        for use in op.params:
            row = row_in(args[1], self.module.get_parameter(use.name)) if use.layout is not None else None
            if row is not None:
                x, part, bias = (*args, None)[:3]
                return self.projected(Projection(use, linear, x, part, bias, row))
        return linear(*args)

    def _create(self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.fx.Node:
        node = super()._create(kind, target, args, kwargs)
        self._match(node)
        return node

    def _note(self, result: Any, node: torch.fx.Node) -> None:
        if node.op == "placeholder" and node not in self._ops:
            self._match(node)
        op = self._ops.get(node)
        several = not isinstance(result, torch.Tensor)
        if self._open and op is not None and op.signal and several:
            self.met_several(op, result)
        super()._note(result, node)
        if self._open and op is not None and op.signal and not several:
            self.met(op, result)

    def _match(self, node: torch.fx.Node) -> None:
        if not self._open:
            return
        run = self._written_out()
        if not run or not _alike(node, run[0].meta.get(STANDS_FOR, run[0])):
            self._open, self.left = False, node.name
            return
        self._at += len(run)
        self._ops[node] = self._expected[self._at - 1][1]

    def _written_out(self) -> list[torch.fx.Node]:
        """The next operation that is expected; all that one call was written out as. The last one is its result."""
        left = (self._expected[at][0] for at in range(self._at, len(self._expected)))
        first = next(left, None)
        if first is None or STANDS_FOR not in first.meta:
            return [] if first is None else [first]
        call = first.meta[STANDS_FOR]
        return [first, *itertools.takewhile(lambda each: each.meta.get(STANDS_FOR) is call, left)]


def _alike(made: torch.fx.Node, expected: torch.fx.Node) -> bool:
    """Whether two nodes are the same call; constants are numbered as they come, placeholders named by position."""
    if made.op != expected.op:
        return False
    if made.op == "placeholder":
        return True
    names = str(made.target), str(expected.target)
    return made.target == expected.target or all(name.startswith("_tensor") for name in names)


@contextmanager
def _eager() -> Iterator[None]:
    """Functions under torch.compile run as written."""
    if "torch._dynamo" in sys.modules:
        with torch.compiler.set_stance("force_eager"):
            yield
    else:
        yield
