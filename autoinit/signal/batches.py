"""Batches to run a model on: what the caller gave, or numbers made up anew for each draw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from autoinit.errors import ArgumentError, TraceError
from autoinit.errors.arguments import refusal
from autoinit.models import ModelView
from autoinit.ops import Trait
from autoinit.tensors.sharding import is_sharded
from autoinit.tracing.attempts import FailedError, listed
from autoinit.tracing.dataflow import Dataflow, Op
from autoinit.tracing.guessing import guessed_inputs
from autoinit.tracing.inputs import Inputs, arguments_of, floats, given_inputs
from autoinit.tracing.tiers import best_guess

Made = TypeVar("Made")
Attempt = Callable[[Inputs, bool, bool], Made]
"""A run on these inputs; in training mode or not; traced on meta beforehand or not. Raises FailedError."""


def stream(seed: int) -> torch.Generator:
    """Numbers apart from those that `torch.manual_seed(seed)` gives: weights drawn after it must not be the inputs."""
    return torch.Generator().manual_seed((seed + _APART) % 2**63)


_APART = 0x5157_0A1D_C0DE


def first_success(
    view: ModelView, example: Any, attempt: Attempt[Made], what: str, dataflow: Dataflow | None = None
) -> Made:
    """The first attempt that succeeds, on the caller's inputs or on the guesses that tracing would try.

    The guess on which the dataflow was recorded comes first, or, where it was on none and arguments may be left out,
    that on which it would be.

    Training mode comes before evaluation mode, and what can be traced on meta before what cannot.

    Raises:
        TraceError: none does. `what` says what the model could not be.
    """
    failures: list[FailedError] = []
    for training, traced in ((True, True), (True, False), (False, True), (False, False)):
        for guess in _candidates(view, example, dataflow):
            trying: Inputs | None = guess
            while trying is not None:
                try:
                    return attempt(trying, training, traced)
                except FailedError as failure:
                    failures.append(failure)
                    trying = trying.after(failure.error)
    advice = "pass example_inputs=..." if example is None else "check that model(example_inputs) itself runs"
    raise TraceError(f"{view.class_name} could not be {what}:{listed(failures)}\nNext: {advice}.")


def _candidates(view: ModelView, example: Any, dataflow: Dataflow | None) -> Iterator[Inputs]:
    if example is not None:
        yield given_inputs(example, view.module)
        return
    best = dataflow.guess if dataflow is not None else None
    if best is None and any(each.default is not each.empty for each in arguments_of(view.module).values()):
        best = best_guess(view)
    if best is not None:
        yield best
    yield from guessed_inputs(view.module)


def require_values(view: ModelView, what: str, instead: str) -> None:
    """Refuse a model whose parameters are on the meta device, or parted among processes.

    Raises:
        ArgumentError: `what` needs their values; `instead` says what does not.
    """
    if view.sharded:
        name = next(name for name, each in view.held.items() if is_sharded(each))
        raise ArgumentError(
            f"{view.class_name} is sharded ({name} is a DTensor), and {what}, which does not work on sharded models. "
            f"Call it before the model is sharded, or use {instead}."
        )
    missing = [name for name, each in view.parameters.items() if each.is_meta]
    if missing:
        more = f" and {len(missing) - 1} more parameters" if len(missing) > 1 else ""
        raise ArgumentError(
            f"{missing[0]}{more} of {view.class_name} have no values, being on the meta device, and "
            f"{what}. Give it some (model.to_empty(device='cpu'), then autoinit(model)), or use {instead}."
        )


@dataclass(frozen=True)
class EmbeddingTable:
    """The smallest embedding that an input's ids look up: its weight, its rows, and the row that is padding."""

    name: str
    rows: int
    padding: int | None


@dataclass(frozen=True)
class Batch:
    """Inputs with values, some of them drawn.

    Attributes:
        made_up: which of the input tensors, by number, hold numbers that only stand for a shape.
        tables: what the input tensors of ids look up, by number; only those whose ids only stand for a shape.
        alike: the weights that are looked up, where all are with ids that are all the same.
    """

    inputs: Inputs
    made_up: frozenset[int] = frozenset()
    tables: Mapping[int, EmbeddingTable] = field(default_factory=dict)
    alike: tuple[str, ...] = ()

    @classmethod
    def of(cls, inputs: Inputs, example: Any, dataflow: Dataflow | None) -> Batch:
        """A batch of inputs that the caller's example, or a guess, has led to.

        Args:
            inputs: the arguments.
            example: the caller's, whose own tensors are taken as they are, except those on the meta device, which stand
                for a shape; None for a guess.
            dataflow: traced on them; tells which ids look up an embedding.
        """
        try:
            own = set(map(id, tensors_in(example)))
        except RecursionError:
            raise refusal("example_inputs", example, "tensors, nested as forward takes them") from None
        tensors = list(tensors_in((inputs.args, dict(inputs.kwargs))))
        made_up = frozenset(
            number
            for number, each in enumerate(tensors)
            if each.is_floating_point()
            and (each.is_meta or (id(each) not in own if example is not None else _stands_for_shape(each)))
        )
        found = _tables(tensors, dataflow) if dataflow is not None else {}
        free = {number: table for number, table in found.items() if example is None or tensors[number].is_meta}
        return cls(inputs, made_up, free, _alike_everywhere(tensors, dataflow) if dataflow and not free else ())

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know about the values."""
        random = "guessed ids are random" if self.inputs.origin != "given" else "ids given by their shape are random"
        return (*((random,) if self.tables else ()), *_notes_on_equal_ids(self.alike))

    def plain(self) -> Batch:
        """With ids as guessed, or zero."""
        return Batch(self.inputs, self.made_up, alike=(*self.alike, *_names(self.tables.values())))

    def drawn(self, generator: torch.Generator) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments of a forward, on the CPU, that share no memory with the caller's."""
        number = -1

        def value(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal number
            number += 1
            if number in self.tables:
                table = self.tables[number]
                ids = torch.randint(table.rows - (table.padding is not None), tensor.shape, generator=generator)
                return (ids + (ids >= table.padding) if table.padding is not None else ids).to(tensor.dtype)
            if number in self.made_up:
                return torch.empty(tensor.shape).normal_(generator=generator).to(tensor.dtype)
            if tensor.is_meta:
                return torch.zeros(tensor.shape, dtype=tensor.dtype)
            return tensor.detach().to("cpu", copy=True)

        args: tuple[Any, ...] = mapped(self.inputs.args, value)
        kwargs: dict[str, Any] = mapped(dict(self.inputs.kwargs), value)
        return args, kwargs


def mapped(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Nested arguments with each tensor changed, in order."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(mapped(each, change) for each in value))
    if isinstance(value, (list, tuple)):
        return type(value)(mapped(each, change) for each in value)
    if isinstance(value, Mapping):
        return {key: mapped(each, change) for key, each in value.items()}
    return value


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """All tensors in nested mappings and sequences, in order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from tensors_in(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from tensors_in(each)


def _stands_for_shape(tensor: torch.Tensor) -> bool:
    """Whether a tensor holds the numbers that guesses are made of."""
    return torch.equal(tensor.cpu(), floats(tensor.shape, tensor.dtype))


def _tables(tensors: list[torch.Tensor], dataflow: Dataflow) -> dict[int, EmbeddingTable]:
    """What ids that are all alike look up, by the number of the tensor."""
    found: dict[int, EmbeddingTable] = {}
    for number, op in _lookups(dataflow):
        if _alike(tensors[number]):
            table = _table(op)
            found[number] = min(found.get(number, table), table, key=lambda each: each.rows)
    return found


def _lookups(dataflow: Dataflow) -> Iterator[tuple[int, Op]]:
    """Each embedding whose ids come from an input, and the number of the input."""
    numbers: dict[Op, int] = {}
    for op in dataflow.graph.nodes:
        if op.op == "input":
            numbers[op] = len(numbers)
    for op in dataflow.graph.nodes:
        source = _looked_up(op) if Trait.LOOKUP in op.traits else None
        if source is not None:
            yield numbers[source], op


def ids_are_free(example: Any) -> bool:
    """Whether all integers among a caller's inputs only stand for their shape."""
    return all(each.is_meta for each in tensors_in(example) if _is_integer(each))


def notes_on_ids(inputs: Inputs, dataflow: Dataflow) -> tuple[str, ...]:
    """What to say of ids that a caller gave, where no two differ."""
    return _notes_on_equal_ids(_alike_everywhere(list(tensors_in((inputs.args, dict(inputs.kwargs)))), dataflow))


def _alike_everywhere(tensors: list[torch.Tensor], dataflow: Dataflow) -> tuple[str, ...]:
    """The weights that ids look up, if these are several and all the same in each of the inputs."""
    looked_up = {op: number for number, op in _lookups(dataflow)}
    several = [tensors[number] for number in looked_up.values() if tensors[number].numel() > 1]
    return _names(map(_table, looked_up)) if several and all(map(_alike, several)) else ()


def _names(tables: Iterable[EmbeddingTable]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(table.name for table in tables))


def _notes_on_equal_ids(names: Sequence[str]) -> tuple[str, ...]:
    if not names:
        return ()
    return (f"all ids given for {', '.join(names)} are the same: each place looks up one row; give different ids",)


def _alike(tensor: torch.Tensor) -> bool:
    """Whether a tensor of integers is the same everywhere, or has no values."""
    if not _is_integer(tensor) or not tensor.numel():
        return False
    return tensor.is_meta or bool((tensor == tensor.flatten()[0]).all())


def _is_integer(tensor: torch.Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype is torch.bool)


def _looked_up(op: Op) -> Op | None:
    """The input that an embedding's ids come from."""
    here = op.operands.get("input")
    while here is not None and here.op != "input":
        here = here.operands.get("input")
    return here


def _table(op: Op) -> EmbeddingTable:
    use = next(use for each in (op, *op.operands.values()) for use in each.params)
    padding = op.constants.get("padding_idx")
    return EmbeddingTable(use.name, use.shape[0], padding % use.shape[0] if isinstance(padding, int) else None)
