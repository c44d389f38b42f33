"""Hidden states, masks, time series, and the arguments of models that are no language model."""

from __future__ import annotations

from collections.abc import Callable

import torch

from autoinit.tracing.guessing import _sound as sound
from autoinit.tracing.guessing import _vision as vision
from autoinit.tracing.guessing._request import BATCH, LENGTH, Made, Request

_WIDTHS = ("hidden_size", "d_model", "n_embd", "embed_dim", "dim", "width")
_OUTER_WIDTHS = ("encoder_hidden_size", "context_dim", "cross_attention_hidden_size", "cross_attention_dim")


def hidden(request: Request, name: str) -> Made:
    """(batch, tokens, width), then (tokens, width); patches where a grid of them goes along."""
    if name == "hidden_states" and any(each.endswith("grid_thw") for each in request.subject.arguments):
        return vision.pixels(request, name)
    outer = name.startswith(("encoder_", "context", "memory", "cond"))
    width = request.settings.number(*(_OUTER_WIDTHS if outer else ()), *_WIDTHS)
    first = request.subject.first(("linear", "conv1d", "layer_norm"))
    forms = []
    if width is None and first is not None:
        width = getattr(first, "in_features", None)
    if width is not None:
        forms = [(BATCH, LENGTH, width), (BATCH, width, LENGTH), (BATCH, width)]
    if hasattr(first, "kernel_size"):
        forms.append((BATCH, first.in_channels, sound.SAMPLES))
    return forms


def latents(request: Request, _name: str) -> Made:
    """(batch, width, steps): what an encoder of sound gives."""
    first = request.subject.first(("conv1d", "conv_transpose1d", "linear"))
    if first is None:
        return ()
    width = first.in_channels if hasattr(first, "in_channels") else first.in_features
    return ((BATCH, width, LENGTH), (BATCH, LENGTH, width))


def mask(request: Request, name: str) -> Made:
    """All ones, along what the mask is for."""
    given = request.given.get(_masked(request, name))
    if name.startswith("image") and isinstance(given, torch.Tensor) and given.dim() == 5:  # which tokens see which
        return (torch.ones(BATCH, LENGTH, given.shape[1], dtype=torch.int64),)
    if not isinstance(given, torch.Tensor):
        return (torch.ones(BATCH, LENGTH, dtype=torch.int64),)
    if given.dim() < 3:
        return (torch.ones(given.shape, dtype=torch.int64),)
    if name.startswith("pixel") and given.dim() == 5:  # which images there are
        return (torch.ones(given.shape[:2], dtype=torch.bool),)
    if name.startswith(("pixel", "prompt")) and given.dim() == 4:
        return (torch.ones(given.shape[0], *given.shape[2:], dtype=torch.int64),)
    axis = 1 if given.shape[-1] == sound.width(request) else -1  # not that of the features
    return (torch.ones(given.shape[0], given.shape[axis], dtype=torch.bool),)


def open_mask(request: Request, _name: str) -> Made:
    """(steps, steps) of zeros, as attention adds them: each step sees every other."""
    return (torch.zeros(LENGTH, LENGTH, dtype=request.subject.dtype),)


def first_step(_request: Request, _name: str) -> Made:
    """(batch, steps): the first step alone."""
    return (torch.eye(1, LENGTH, dtype=torch.int64).expand(BATCH, -1).clone(),)


def nothing_padded(_request: Request, _name: str) -> Made:
    """(batch, steps): true where a step is padding, and none is."""
    return (torch.zeros(BATCH, LENGTH, dtype=torch.bool),)


def _masked(request: Request, name: str) -> str:
    """The argument that a mask is for: the one whose name shares most with the mask's."""
    stem = name.replace("attention_mask", "").replace("mask", "").replace("padding", "").strip("_")
    names = list(request.given)
    close = [each for each in names if stem and each.startswith("pixel" if stem == "image" else stem)]
    about = [each for each in names if stem and stem in each]
    return next(iter(close or about), names[0] if names else "")


def padding(request: Request, name: str) -> Made:
    """Zeros: nothing of the argument before `_padding` is padding."""
    given = request.given.get(name.removesuffix("_padding"))
    return (torch.zeros(given.shape, dtype=torch.int64),) if isinstance(given, torch.Tensor) else ()


def series(request: Request, _name: str) -> Made:
    """(batch, context, channels), or one channel without its axis."""
    context = request.settings.number("context_length", "seq_length", "max_context") or 64
    channels = request.settings.number("num_input_channels", "input_size", "num_channels")
    flat = (BATCH, context)
    return ((BATCH, context, channels), flat) if channels else (flat, (BATCH, context, 1))


def of_width(*names: str) -> Callable[[Request, str], Made]:
    """A maker of (batch, steps, width), the width named in the configuration."""

    def make(request: Request, _name: str) -> Made:
        width = request.settings.number(*names)
        return ((BATCH, LENGTH, width),) if width else ()

    return make


def scalars(_request: Request, _name: str) -> Made:
    """(batch, steps, 1)."""
    return ((BATCH, LENGTH, 1),)


def steps(request: Request, _name: str) -> Made:
    """(batch, steps) of whole numbers from 0; where nothing else has steps, one number for each sample."""
    if "states" in request.subject.arguments:
        return (torch.arange(LENGTH).expand(BATCH, -1).clone(),)
    return (torch.arange(1, BATCH + 1),)


def language(request: Request, _name: str) -> Made:
    """(batch,): the first of the languages that the configuration lists."""
    return zeros(request, "") if request.settings.value("languages") else ()


def zeros(_request: Request, _name: str) -> Made:
    """(batch,) of zeros."""
    return (torch.zeros(BATCH, dtype=torch.int64),)


def lengths(_request: Request, _name: str) -> Made:
    """(batch,): every row is full."""
    return (torch.full((BATCH,), LENGTH),)


def edges(_request: Request, _name: str) -> Made:
    """(2, edges): from each node to the next."""
    nodes = torch.arange(BATCH)
    return (torch.stack([nodes, nodes.roll(1)]),)


def zero_rows(_request: Request, _name: str) -> Made:
    """(batch, 1) of zeros."""
    return (torch.zeros(BATCH, 1, dtype=torch.int64),)


def ones(_request: Request, _name: str) -> Made:
    """(batch,) of ones."""
    return (torch.ones(BATCH, dtype=torch.int64),)


def false(_request: Request, _name: str) -> Made:
    """A switch, turned off."""
    return (False,)
