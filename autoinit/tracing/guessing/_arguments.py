"""The table of arguments: by their usual names, how to make each from the model's configuration and weights."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from autoinit.tracing.guessing import _sequences as sequences
from autoinit.tracing.guessing import _sound as sound
from autoinit.tracing.guessing import _tokens as tokens
from autoinit.tracing.guessing import _vision as vision
from autoinit.tracing.guessing._request import Made, Request, numbers

Maker = Callable[[Request, str], Made]


@dataclass(frozen=True)
class ArgumentRule:
    """How to make the arguments whose whole name matches the pattern.

    Attributes:
        wanted: it brings in a part of the model of its own, so it is given even where it has a default.
        companion: some models cannot do without it, so it is given after a failure that looks like a missing value.
    """

    pattern: re.Pattern[str]
    make: Maker
    wanted: bool = False
    companion: bool = False


def _entry(pattern: str, make: Maker, *, wanted: bool = False, companion: bool = False) -> ArgumentRule:
    return ArgumentRule(re.compile(pattern), make, wanted, companion)


TABLE = (
    _entry(r"(decoder_|qformer_|classes_|tasks_|audio_)?input_ids", tokens.token_ids, wanted=True),
    _entry(r".*pixel_values.*|prompt_masks", vision.pixels, wanted=True),
    _entry(r"images?|imgs?|pixels|visual", vision.pixels, wanted=True),
    _entry(r"texts?|tokens|token_ids|text_tokens|captions?|text_input", tokens.token_ids, wanted=True),
    _entry(r".*grid_(thw|hw)", vision.grids, wanted=True),
    _entry(r"flattened_patches", vision.numbered_patches, wanted=True),
    _entry(r"spatial_shapes|target_sizes(_videos)?", vision.shapes_of_grids, wanted=True),
    _entry(r".*(pixel|image)_position_ids", vision.patch_positions),
    _entry(r"aspect_ratio_ids", vision.one_for_each_image),
    _entry(r"aspect_ratio_mask", vision.tiles_of_images, companion=True),
    _entry(r"image_sizes", vision.image_sizes, companion=True),
    _entry(r"input_features|audio_mel", sound.features, wanted=True),
    _entry(r"(decoder_)?input_values", sound.waves, wanted=True),
    _entry(r"input_values_cutoffs", sound.ends, companion=True),
    _entry(r"latents", sequences.latents, wanted=True),
    _entry(r"bbox", tokens.boxes, wanted=True),
    _entry(r"past_values", sequences.series, wanted=True),
    _entry(r".*_padding", sequences.padding),
    _entry(r"states?", sequences.of_width("state_dim", "max_state_dim"), wanted=True),
    _entry(r"actions", sequences.of_width("act_dim", "action_dim"), wanted=True),
    _entry(r"visual_feats", sequences.of_width("visual_feat_dim"), wanted=True),
    _entry(r"visual_pos", sequences.of_width("visual_pos_dim"), wanted=True),
    _entry(r"lang_ids", sequences.language, wanted=True),
    _entry(r"rewards|returns_to_go", sequences.scalars, wanted=True),
    _entry(r"timesteps?|t|time|sigmas?", sequences.steps, wanted=True),
    _entry(
        r".*(feature|features|audio|values|patch|pixel|image|position)_(attention_)?mask",
        sequences.mask,
        companion=True,
    ),
    _entry(r"global_attention_mask", sequences.first_step, wanted=True),
    _entry(r"(.*_)?key_padding_mask", sequences.nothing_padded),
    _entry(r"(src|tgt|trg|memory|attn|causal)_mask", sequences.open_mask),
    _entry(r".*mask.*", sequences.mask),
    _entry(r"use_cache", sequences.false),
    _entry(r".*token_type_ids", tokens.token_types),
    _entry(r"entity_ids", tokens.like_tokens, wanted=True),
    _entry(r"entity_position_ids", tokens.mentions, companion=True),
    _entry(r".*position_ids", tokens.positions),
    _entry(r"hidden_states|.*_hidden_states|.*embeds|inputs", sequences.hidden),
    _entry(r"context|memory|cond|conditioning", sequences.hidden),
    _entry(r"task_inputs", tokens.of_task),
    _entry(r"edge_index", sequences.edges),
    _entry(r"batch(_index)?", sequences.zeros),
    _entry(r"(?!max|min)(.*_)?(lengths?|lens?)", sequences.lengths),
    _entry(r"freq", sequences.zero_rows),
    _entry(r"merge_sizes|classes_structure", sequences.ones),
    _entry(r".*_ids", tokens.like_tokens),
)


def entry_of(name: str) -> ArgumentRule | None:
    """The first entry of the table that knows the name."""
    return next((each for each in TABLE if each.pattern.fullmatch(name)), None)


def made(request: Request, name: str) -> Any:
    """An argument's value; None where the table does not know it or the model does not tell enough."""
    entry = entry_of(name)
    alternatives = entry.make(request, name) if entry is not None else ()
    if not alternatives:
        return None
    choice = request.choice if request.varied.search(name) else 0
    chosen = alternatives[min(choice, len(alternatives) - 1)]
    if (wanted := request.axes.get(_axes(chosen))) is not None:
        chosen = next((each for each in alternatives if _axes(each) == wanted), chosen)
    return numbers(chosen, request.subject.dtype) if isinstance(chosen, tuple) else chosen


def _axes(made: Any) -> int:
    """How many axes what was made has; -1 if it is no tensor."""
    return len(made) if isinstance(made, tuple) else made.dim() if isinstance(made, torch.Tensor) else -1
