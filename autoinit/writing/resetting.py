"""`rest="reset"`: what a plan does not write gets the values that its module's own `reset_parameters` gives.

Where a module has none, the model's `_init_weights(module)` is asked, if it has one.

The method runs on a copy of the module whose tensors have the global shapes, under a seed of its own, so that the
values are a function of (seed, name, shape) as others are, whatever the layout; each process keeps its part. An
embedding's table may be as large as a model: its N(0, 1) is drawn part by part like a weight.
"""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from operator import methodcaller

import torch
from torch import nn

from autoinit.errors import PlanError, words_of
from autoinit.models import ModelView
from autoinit.models.wrappers import user_class
from autoinit.tensors.process_state import silenced
from autoinit.tracing.rng import untouched_generators
from autoinit.tracing.shadow import make_shadow
from autoinit.writing.pieces import LocalPiece, Pieces, piece_of
from autoinit.writing.sampling import Draw, fill_all_of

MOST_MADE = 1 << 26
"""Elements of one module that are made whole, on every process, to be reset."""
_TABLES = (nn.Embedding.reset_parameters, nn.EmbeddingBag.reset_parameters)
_METHODS = ("reset_parameters", "_reset_parameters")


@dataclass(frozen=True, eq=False)
class Reset:
    """One module's tensors that are reset.

    Attributes:
        module: the module.
        path: its path, which seeds the values.
        method: the name of what resets it.
        run: calls that on a copy of the module.
        pieces: what is here of each tensor, by its name in the model.
        leaves: its name in the module, by that.
    """

    module: nn.Module
    path: str
    method: str
    run: Callable[[nn.Module], object]
    pieces: Mapping[str, LocalPiece]
    leaves: Mapping[str, str]

    def write(self, seed: int) -> None:
        """Give them their values."""
        if self._is_table:
            for name, piece in self.pieces.items():
                fill_all_of(piece.tensor, Draw("normal", 1.0, seed, name, piece.shape, box=piece.part))
                padding = getattr(self.module, "padding_idx", None)
                if padding is not None:
                    piece.row(padding).zero_()
            return
        made = self.made(seed)
        for name, piece in self.pieces.items():
            piece.tensor.copy_(piece.region.take(made[name]))

    def made(self, seed: int) -> Mapping[str, torch.Tensor]:
        """What the module's method gives, whole, by name; without what it does not write, or only with other modules.

        Raises:
            PlanError: the method fails, or the tensors are too large.
        """
        if self._is_table:
            return {name: piece.tensor for name, piece in self.pieces.items()}
        size = sum(math.prod(piece.shape) for piece in self.pieces.values())
        if size > MOST_MADE:
            raise PlanError(
                f"{self.path}: rest='reset' makes its {size:,} elements whole to reset them; up to {MOST_MADE:,} are "
                f"made. Plan it, or reset it yourself."
            )
        twin = make_shadow(self.module, "meta").module
        for name, leaf in self.leaves.items():
            piece = self.pieces[name]
            blank = torch.zeros(piece.shape, dtype=piece.tensor.dtype)
            if twin._parameters.get(leaf) is not None:
                twin._parameters[leaf] = nn.Parameter(blank, requires_grad=False)
            else:
                twin._buffers[leaf] = blank
        before = _content(twin, self.leaves, fill=True)
        key = hashlib.blake2b(f"{seed}/{self.path}".encode(), digest_size=8).digest()
        with untouched_generators(int.from_bytes(key, "little")), torch.no_grad(), silenced():
            try:
                self.run(twin)
            except Exception as error:  # the user's own code may raise anything
                kind = type(error).__name__
                raise PlanError(f"{self.path}: its {self.method} fails ({kind}: {words_of(error)}).") from error
        after = _content(twin, self.leaves)
        return {
            name: values
            for name, (values, version) in after.items()
            if not (values.is_meta or _same(before[name], (values, version)))
        }

    @property
    def _is_table(self) -> bool:
        """Whether it is an embedding whose method is torch's own."""
        return getattr(user_class(self.module), "reset_parameters", None) in _TABLES


Content = tuple[torch.Tensor, int]


def _content(module: nn.Module, leaves: Mapping[str, str], *, fill: bool = False) -> dict[str, Content]:
    """Values and versions. `fill`: with marks first, that hardly any method leaves."""
    found = {}
    for name, leaf in leaves.items():
        tensor = {**module._buffers, **module._parameters}[leaf]
        assert tensor is not None
        if fill:
            with torch.no_grad():
                tensor.fill_(math.nan if tensor.is_floating_point() else 1)
        found[name] = (tensor.detach() if not fill else tensor.detach().clone(), tensor._version)
    return found


def _same(before: Content, after: Content) -> bool:
    """Whether nothing was written: also nothing through `.data`, which leaves the version as it was."""
    return before[1] == after[1] and torch.equal(before[0].isnan(), after[0].isnan())


def resets(view: ModelView, pieces: Pieces, written: Collection[str]) -> tuple[tuple[Reset, ...], tuple[str, ...]]:
    """What is to be reset beside the tensors that are written, and the names of what cannot be.

    Raises:
        PlanError: a module's method fails.
    """
    if not view.has_modules:
        return (), tuple(name for name in view.held if name not in written)
    found: list[Reset] = []
    left: list[str] = []
    seen = {id(view.held[name]) for name in written}
    for prefix, module in view.modules:
        leaves = {}
        for leaf, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None and id(tensor) not in seen:
                seen.add(id(tensor))
                leaves[prefix + leaf] = leaf
        if not leaves:
            continue
        way = _way(view, module)
        if way is None:
            left += leaves
            continue
        held = {name: pieces.of(name) if name in view.held else piece_of(name, module._buffers[leaf])  # type: ignore[arg-type]
                for name, leaf in leaves.items()}  # fmt: skip
        reset = Reset(module, prefix.rstrip("."), *way, held, leaves)
        given = reset.made(0)
        left += (name for name in leaves if name not in given)
        some = {name: leaf for name, leaf in leaves.items() if name in given}
        if some:
            found.append(Reset(module, reset.path, *way, {name: held[name] for name in some}, some))
    return tuple(found), tuple(left)


def _way(view: ModelView, module: nn.Module) -> tuple[str, Callable[[nn.Module], object]] | None:
    """The name of what resets a module, and a call of it on a copy; None if there is nothing.

    Its own method comes first, then `_init_weights(module)` of the whole model, as transformers' models have it; the
    model's own tensors may also be what an `_init_weights()` writes.
    """
    for name in _METHODS:
        if callable(getattr(module, name, None)):
            return name, methodcaller(name)
    models = getattr(view.module, "_init_weights", None)
    if not callable(models):
        return None
    if module is view.module:  # by the copy's own method, which may write to itself
        return "_init_weights", lambda twin: twin._init_weights(*[twin][: _takes_a_module(models)])
    return ("_init_weights", models) if _takes_a_module(models) else None


def _takes_a_module(method: Callable[..., object]) -> bool:
    """Whether it resets the module that it is given, as in transformers, and not all that it finds in itself."""
    try:
        inspect.signature(method).bind(None)
    except TypeError:
        return False
    return True
