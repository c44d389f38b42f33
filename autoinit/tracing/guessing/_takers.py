"""Which layer takes each argument, read off a symbolic trace."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn

from autoinit.ops import REGISTRY
from autoinit.tracing.guarding import undisturbed
from autoinit.tracing.guessing._arguments import entry_of, made
from autoinit.tracing.guessing._request import BATCH, Request, numbers
from autoinit.tracing.guessing._resizing import repairing
from autoinit.tracing.guessing._sequences import hidden
from autoinit.tracing.guessing._subject import GuessedModel
from autoinit.tracing.guessing._weights import shapes
from autoinit.tracing.inputs import Inputs
from autoinit.tracing.shadow import make_shadow
from autoinit.tracing.symbolic import ShadowTracer

ORIGIN = "guessed from the layers that take the arguments"
_FORMS = 3
_FAR = 64  # nodes

Layer = tuple[str, nn.Module]
"""Its kind, and the module."""


def from_takers(subject: GuessedModel) -> Iterator[Inputs]:
    """Each argument as the layer that it comes to first takes it; nothing where the model cannot be read so.

    First with the arguments that may be left out, where a layer takes them; then without.
    """
    required = subject.positional
    layers = _takers(subject) if len(subject.arguments) > 1 else {}
    optional = [name for name in subject.optional if name in layers]
    for names in dict.fromkeys(((*required, *optional), required)):
        if len(names) > 1 or optional:
            yield from _formed_calls(subject, names, len(required), layers)


def _formed_calls(
    subject: GuessedModel, names: Sequence[str], required: int, layers: Mapping[str, Layer]
) -> Iterator[Inputs]:
    """Calls with arguments of these names, of which so many must be given."""
    given = {name: _named(subject, name, name in layers) for name in names}
    if any(name not in layers and given[name] is None for name in names) or not names:
        return
    for flat, form in itertools.product((False, True) if _indices(layers, given) else (False,), range(_FORMS)):
        made = [_formed(subject, layers[name], flat, form) if given[name] is None else given[name] for name in names]
        if all(each is not None for each in made):
            named = dict(zip(names[required:], made[required:], strict=True))
            yield repairing(Inputs(tuple(made[:required]), named, ORIGIN), names[:required])


def _named(subject: GuessedModel, name: str, taken: bool) -> Any:
    """What the table of arguments makes; nothing where it goes by the first layer and the right one is known."""
    entry = entry_of(name)
    guesswork = entry is not None and entry.make is hidden and not subject.settings.parts
    return None if taken and guesswork else made(Request(subject), name)


def _indices(layers: Mapping[str, Layer], given: Mapping[str, Any]) -> bool:
    return any(kind == "embedding" and given[name] is None for name, (kind, _) in layers.items() if name in given)


def _formed(subject: GuessedModel, layer: Layer, flat: bool, form: int) -> torch.Tensor | None:
    kind, module = layer
    forms = list(shapes(kind, module, ()))
    if kind == "embedding":
        return torch.zeros((BATCH,) if flat else forms[0], dtype=torch.int64)
    return numbers(forms[min(form, len(forms) - 1)], subject.dtype) if forms else None


def _takers(subject: GuessedModel) -> Mapping[str, Layer]:
    shadow = make_shadow(subject.model, "meta")
    try:
        with undisturbed(shadow):
            graph = ShadowTracer().trace(shadow.module)
    except Exception:  # noqa: BLE001 - forward is the user's, and may fail in any way; other guesses follow
        return {}
    found = {}
    for node in graph.find_nodes(op="placeholder"):
        layer = _first_layer(node, shadow.module)
        if layer is not None:
            found[str(node.target)] = layer
    return found


def _first_layer(node: fx.Node, root: nn.Module) -> Layer | None:
    """The nearest layer with weights after a node."""
    waiting, seen = [node], {node}
    for each in itertools.islice(waiting, _FAR):
        if each.op == "call_module":
            module = root.get_submodule(str(each.target))
            spec = REGISTRY.of_module(module)
            if spec is not None and any(True for _ in shapes(spec.name, module, ())):
                return spec.name, module
        users = [user for user in each.users if user not in seen]
        waiting += users
        seen.update(users)
    return None
