"""Torchvision models built from transformer-like blocks."""

from __future__ import annotations

from functools import partial

from tests.truth.cases import Case
from tests.truth.rows import ADD, GELU, OUTPUT, WEIGHT, WEIGHT_AND_ADD, Row, fused_qkv, normed
from tests.truth.vision_tables import build, image

Table = dict[str, Row]

CONVNEXT_DEPTHS = (3, 3, 9, 3)


def convnext_tiny() -> Table:
    """Depthwise conv, layer norm, linear, gelu, linear, layer scale, stochastic depth, added to the input.

    The stem (normalised after) and the downsampling convolutions (normalised before) are read by the first block's
    convolution and by its addition.
    """
    table = {"features.0.0": normed(WEIGHT_AND_ADD)}
    for stage, depth in zip((1, 3, 5, 7), CONVNEXT_DEPTHS, strict=True):
        for block in range(depth):
            table[f"features.{stage}.{block}.block.0"] = normed(WEIGHT)
            table[f"features.{stage}.{block}.block.3"] = GELU
            table[f"features.{stage}.{block}.block.5"] = ADD
        if stage < 7:
            table[f"features.{stage + 1}.1"] = WEIGHT_AND_ADD
    table["classifier.2"] = OUTPUT
    return table


def vit_b_16() -> Table:
    """The patch embedding (class token and positions joined) is nearest to the first residual addition."""
    table = {"conv_proj": ADD}
    for layer in range(12):
        block = f"encoder.layers.encoder_layer_{layer}"
        table[f"{block}.self_attention.in_proj_weight"] = fused_qkv(768)
        table[f"{block}.self_attention.out_proj"] = ADD
        table[f"{block}.mlp.0"] = GELU
        table[f"{block}.mlp.3"] = ADD
    table["heads.head"] = OUTPUT
    return table


def swin_t() -> Table:
    """Patch embedding (normalised) and patch merging are nearest to the next block's first addition."""
    table = {"features.0.0": normed(ADD)}
    for number, depth in enumerate((2, 2, 6, 2)):
        width = 96 * 2**number
        for block in range(depth):
            place = f"features.{1 + 2 * number}.{block}"
            table[f"{place}.attn.qkv"] = fused_qkv(width)
            table[f"{place}.attn.proj"] = ADD
            table[f"{place}.mlp.0"] = GELU
            table[f"{place}.mlp.3"] = ADD
        if number < 3:
            table[f"features.{2 + 2 * number}.reduction"] = ADD
    table["head"] = OUTPUT
    return table


TRANSFORMER_CASES = (
    Case(
        "convnext_tiny",
        partial(build, "convnext_tiny"),
        image,
        convnext_tiny,
        others=tuple(
            f"features.{stage}.{block}.layer_scale"
            for stage, depth in zip((1, 3, 5, 7), CONVNEXT_DEPTHS, strict=True)
            for block in range(depth)
        ),
    ),
    Case(
        "vit_b_16",
        partial(build, "vit_b_16"),
        image,
        vit_b_16,
        others=("class_token", "encoder.pos_embedding"),
        symbolic=True,
    ),
    Case(
        "swin_t",
        partial(build, "swin_t"),
        image,
        swin_t,
        others=tuple(
            f"features.{1 + 2 * number}.{block}.attn.relative_position_bias_table"
            for number, depth in enumerate((2, 2, 6, 2))
            for block in range(depth)
        ),
    ),
)
