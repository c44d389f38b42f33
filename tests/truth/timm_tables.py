"""Models of timm: a small member of each of eight families, and relatives that do the same by other operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import timm
import torch
from torch import nn

from tests.truth.cases import Case
from tests.truth.rows import (
    ADD,
    ATTENTION,
    GATE,
    GELU,
    OUTPUT,
    RELU,
    SIGMOID,
    SILU,
    TANH,
    WEIGHT,
    Row,
    Runs,
    fused_qkv,
    normed,
    parted,
)

Table = dict[str, Row]

SWIN_DEPTHS = (2, 2, 6, 2)
MAXVIT_DEPTHS = (1, 2, 3, 1)
COATNET_DEPTHS = (2, 3, 5, 2)
NFNET_DEPTHS = (1, 2, 6, 3)
REPVGG_DEPTHS = (2, 4, 14, 1)
MOBILEONE_DEPTHS = (2, 8, 10, 1)

# relatives of the eight: as few blocks as show every kind
SWINV2_DEPTHS = (2, 2, 2, 2)
MAXVIT_TF_DEPTHS = (1, 1, 1, 2)
EVA02_BASE_DEPTH = 2


def build(name: str, **arguments: Any) -> nn.Module:
    """A timm model on the meta device."""
    with torch.device("meta"):
        model: nn.Module = timm.create_model(name, **arguments)
    return model


def image(size: int) -> tuple[torch.Tensor]:
    return (torch.empty(2, 3, size, size, device="meta"),)


def blocks_of(depths: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """(stage, block) of every block."""
    return ((stage, block) for stage, depth in enumerate(depths) for block in range(depth))


def qkv_by_heads(heads: int, width: int = 32) -> Row:
    """Query, key and value in one matrix, head by head: `width` rows of each, then the next head's."""

    def runs(part: int) -> Runs:
        return tuple(((3 * head + part) * width, (3 * head + part + 1) * width) for head in range(heads))

    return Row("linear", "attention", slices=tuple((runs(part), ATTENTION) for part in range(3)))


def cosine_qkv(width: int) -> Row:
    """Query, key and value in one matrix; query and key are divided by their length before they meet."""
    return parted(ATTENTION, (width, normed(ATTENTION)), (width, normed(ATTENTION)), (width, ATTENTION))


def mlp(place: str) -> Table:
    """Linear, gelu, linear (layer scale, stochastic depth), added to the input."""
    return {f"{place}.fc1": GELU, f"{place}.fc2": ADD}


def swin_tiny_patch4_window7_224() -> Table:
    """x + attention(norm(x)) over shifted windows, then x + mlp(norm(x)).

    Rolling, partition into windows and back only move positions. A table of biases is added to the logits. The patch
    embedding (normalised after) and the patch merging (norm before) are read by the next block: by its addition, and
    farther on, past its norm, by its query, key and value.
    """
    table = {"patch_embed.proj": normed(ADD)}
    for stage, block in blocks_of(SWIN_DEPTHS):
        place = f"layers.{stage}.blocks.{block}"
        table[f"{place}.attn.qkv"] = fused_qkv(96 * 2**stage)
        table[f"{place}.attn.proj"] = ADD
        table |= mlp(f"{place}.mlp")
    table |= {f"layers.{stage}.downsample.reduction": ADD for stage in (1, 2, 3)}
    return table | {"head.fc": OUTPUT}


def mbconv(place: str, act: Row, projects: bool) -> Table:
    """Batch norm, 1x1 expansion, norm and activation, depthwise, norm and activation, gate, 1x1, added to the input.

    The gate is squeeze-and-excitation with silu. Where the block strides, the input is pooled on its way to the
    addition, and where it also widens (`projects`), expanded by a 1x1 convolution.
    """
    table = {f"{place}.shortcut.expand": ADD} if projects else {}
    return table | {
        f"{place}.conv1_1x1": normed(act),
        f"{place}.conv2_kxk": normed(act),
        f"{place}.se.fc1": SILU,
        f"{place}.se.fc2": SIGMOID,
        f"{place}.conv3_1x1": ADD,
    }


def swinv2_tiny_window8_256() -> Table:
    """x + norm(attention(x)), then x + norm(mlp(x)): whatever is added is normalised first, patch merging included.

    Query and key have length one when they meet, the value does not. The bias of the logits is 16 * sigmoid of an mlp
    with relu of the logarithmic distance.
    """
    table = {"patch_embed.proj": normed(ADD)}
    for stage, block in blocks_of(SWINV2_DEPTHS):
        place = f"layers.{stage}.blocks.{block}"
        table[f"{place}.attn.qkv"] = cosine_qkv(96 * 2**stage)
        table |= {f"{place}.attn.cpb_mlp.0": RELU, f"{place}.attn.cpb_mlp.2": SIGMOID}
        table |= {f"{place}.attn.proj": normed(ADD), f"{place}.mlp.fc1": GELU, f"{place}.mlp.fc2": normed(ADD)}
    table |= {f"layers.{stage}.downsample.reduction": normed(ADD) for stage in (1, 2, 3)}
    return table | {"head.fc": OUTPUT}


def maxvit_rmlp_nano_rw_256() -> Table:
    """MBConv, then attention within blocks and within a grid, each followed by an mlp; all residual.

    Query, key and value come head by head. The bias of the logits is an mlp of the logarithmic distance between two
    positions: linear, relu, linear, looked up for every pair and handed to the attention as its mask.

    The stem's second convolution is as wide as the first stage: pooled, it is added at the end of the first MBConv,
    and normalised, it is read by the expansion; the way to the addition is called first.
    """
    table = {"stem.conv1": normed(SILU), "stem.conv2": ADD}
    for stage, block in blocks_of(MAXVIT_DEPTHS):
        place = f"stages.{stage}.blocks.{block}"
        table |= mbconv(f"{place}.conv", SILU, projects=stage > 0 and block == 0)
        for part in ("attn_block", "attn_grid"):
            table[f"{place}.{part}.attn.qkv"] = qkv_by_heads(2 * 2**stage)
            table[f"{place}.{part}.attn.rel_pos.mlp.fc1"] = RELU
            table[f"{place}.{part}.attn.rel_pos.mlp.fc2"] = ATTENTION
            table[f"{place}.{part}.attn.proj"] = ADD
            table |= mlp(f"{place}.{part}.mlp")
    return table | {"head.fc": OUTPUT}


def maxvit_tiny_tf_224() -> Table:
    """The published MaxViT: gelu by its tanh formula, query, key and value apart, a hidden layer with tanh in the head.

    The bias of the logits is a table, looked up by products with one-hot matrices: no weight, since no signal passes.
    """
    table = {"stem.conv1": normed(GELU), "stem.conv2": ADD}
    for stage, block in blocks_of(MAXVIT_TF_DEPTHS):
        place = f"stages.{stage}.blocks.{block}"
        table |= mbconv(f"{place}.conv", GELU, projects=stage > 0 and block == 0)
        for part in ("attn_block", "attn_grid"):
            table[f"{place}.{part}.attn.qkv"] = fused_qkv(64 * 2**stage)
            table[f"{place}.{part}.attn.proj"] = ADD
            table |= mlp(f"{place}.{part}.mlp")
    return table | {"head.pre_logits.fc": TANH, "head.fc": OUTPUT}


def coatnet_0_224() -> Table:
    """Two stages of MBConv with gelu, two of attention with a table of relative biases; a hidden layer with tanh.

    The stem's second convolution is read by two weights: by the first block's shortcut (pooled) and by its expansion
    (normalised), so that not all its ways are normalised. In a block that strides, query, key and value read the
    pooled norm of the input and the shortcut its pooled and widened self.
    """
    table = {"stem.conv1": normed(GELU), "stem.conv2": WEIGHT}
    for stage, block in blocks_of(COATNET_DEPTHS):
        place = f"stages.{stage}.blocks.{block}"
        if stage < 2:
            table |= mbconv(place, GELU, projects=block == 0)
            continue
        if block == 0:
            table[f"{place}.shortcut.expand"] = ADD
        table[f"{place}.attn.qkv"] = qkv_by_heads(3 * 2**stage)
        table[f"{place}.attn.proj"] = ADD
        table |= mlp(f"{place}.mlp")
    return table | {"head.pre_logits.fc": TANH, "head.fc": OUTPUT}


def nfnet_f0() -> Table:
    """Pre-activation bottlenecks without norms: out = alpha * gate(conv3(gelu(...))) + shortcut.

    Every convolution standardises its weight, times a learned gain for each output channel; that is no norm of the
    signal. An activation is scaled by a constant (beta, 1 / the expected std of the block's input), which leaves it a
    gelu. Each stage's first block takes its shortcut from the scaled activation, through pooling and a 1x1
    convolution. The third convolution of a block is multiplied by the gate (squeeze-and-excitation with relu), and
    farther on, averaged over positions, read by it.
    """
    table = {f"stem.conv{number}": GELU for number in (1, 2, 3, 4)}
    for stage, block in blocks_of(NFNET_DEPTHS):
        place = f"stages.{stage}.{block}"
        if block == 0:
            table[f"{place}.downsample.conv"] = ADD
        table |= {f"{place}.{conv}": GELU for conv in ("conv1", "conv2", "conv2b")}
        table |= {f"{place}.conv3": GATE, f"{place}.attn_last.fc1": RELU, f"{place}.attn_last.fc2": SIGMOID}
    return table | {"final_conv": GELU, "head.fc": OUTPUT}


def dm_nfnet_f0() -> Table:
    """The same network; each gelu is multiplied in place by a constant and each branch by a learned scalar."""
    return nfnet_f0()


def repvgg_a0() -> Table:
    """relu(norm(3x3 convolution) + norm(1x1 convolution) + norm(input)), the last where the shape is kept.

    An addition lies before the relu for every convolution: each is linear.
    """
    places = ["stem", *(f"stages.{stage}.{block}" for stage, block in blocks_of(REPVGG_DEPTHS))]
    table = {f"{place}.{branch}.conv": normed(ADD) for place in places for branch in ("conv_1x1", "conv_kxk")}
    return table | {"head.fc": OUTPUT}


def mobileone_s1() -> Table:
    """Depthwise blocks add a 3x3 and a 1x1 convolution; pointwise blocks have one convolution; a norm after each.

    The norm of the input is added, too, where the shape is kept: in every pointwise block but the first of its stage.
    That one adds its only branch to the number zero: no addition of signals lies before its relu.
    """
    table = {"stem.conv_kxk.0.conv": normed(ADD), "stem.conv_scale.conv": normed(ADD)}
    for stage, pair in blocks_of(MOBILEONE_DEPTHS):
        depthwise, pointwise = f"stages.{stage}.{2 * pair}", f"stages.{stage}.{2 * pair + 1}"
        table |= {f"{depthwise}.conv_kxk.0.conv": normed(ADD), f"{depthwise}.conv_scale.conv": normed(ADD)}
        table[f"{pointwise}.conv_kxk.0.conv"] = normed(ADD if pair else RELU)
    return table | {"head.fc": OUTPUT}


def mixer_s32_224() -> Table:
    """An mlp over the positions of each channel (transposed before and after), then one over the channels."""
    table = {"stem.proj": ADD}
    for block in range(8):
        table |= mlp(f"blocks.{block}.mlp_tokens") | mlp(f"blocks.{block}.mlp_channels")
    return table | {"head": OUTPUT}


def resmlp_12_224() -> Table:
    """One linear layer over the positions in place of the mixer's first mlp; learned affine maps in place of norms."""
    table = {"stem.proj": ADD}
    for block in range(12):
        table |= {f"blocks.{block}.linear_tokens": ADD} | mlp(f"blocks.{block}.mlp_channels")
    return table | {"head": OUTPUT}


def gmlp_s16_224() -> Table:
    """Linear, gelu, half of it times a linear map over the positions of the other half's norm; linear, added."""
    table = {"stem.proj": ADD}
    for block in range(30):
        place = f"blocks.{block}.mlp_channels"
        table |= mlp(place) | {f"{place}.gate.proj": GATE}
    return table | {"head": OUTPUT}


def xcit_nano_12_p16_224() -> Table:
    """Attention between channels, a local convolution block and an mlp, each with layer scale; two class attentions.

    Query and key have length one over the positions before they meet, so they are normalised and the value is not. The
    local block is a depthwise convolution, gelu, norm, depthwise convolution. Four convolutions with gelu between them
    embed the patches; a projection of sines and cosines of the position is added. Class attention has separate query
    (of the class token alone), key and value; its projection is joined to the other tokens before the addition, and so
    is the mlp of the class token.
    """
    table = {f"patch_embed.proj.{place}.0": normed(GELU) for place in (0, 2, 4)}
    table |= {"patch_embed.proj.6.0": normed(ADD), "pos_embed.token_projection": ADD}
    for block in range(12):
        place = f"blocks.{block}"
        table |= {f"{place}.attn.qkv": cosine_qkv(128), f"{place}.attn.proj": ADD}
        table |= {f"{place}.local_mp.conv1": GELU, f"{place}.local_mp.conv2": ADD}
        table |= mlp(f"{place}.mlp")
    for block in range(2):
        place = f"cls_attn_blocks.{block}"
        table |= {f"{place}.attn.{part}": ATTENTION for part in "qkv"}
        table[f"{place}.attn.proj"] = ADD
        table |= mlp(f"{place}.mlp")
    return table | {"head": OUTPUT}


def eva02_tiny_patch14_224() -> Table:
    """A vision transformer with rotary positions and SwiGLU: silu of the first half times the second.

    The patch embedding, joined to the class token and given its positions, is nearest to the first addition. The
    weight of query, key and value is handed to a function, with a bias joined from three; rotation mixes pairs of
    features within query and within key. The model comes without a head.
    """
    gated = parted(Row("silu", "mixed"), (512, SILU), (512, GATE))
    table = {"patch_embed.proj": ADD}
    for block in range(12):
        place = f"blocks.{block}"
        table |= {f"{place}.attn.qkv": fused_qkv(192), f"{place}.attn.proj": ADD}
        table |= {f"{place}.mlp.fc1": gated, f"{place}.mlp.fc2": ADD}
    return table


def eva02_base_patch14_224() -> Table:
    """Query, key and value, gate and value of the SwiGLU are matrices of their own; a norm precedes its last one."""
    table = {"patch_embed.proj": ADD}
    for block in range(EVA02_BASE_DEPTH):
        place = f"blocks.{block}"
        table |= {f"{place}.attn.{part}_proj": ATTENTION for part in "qkv"}
        table |= {f"{place}.attn.proj": ADD}
        table |= {f"{place}.mlp.fc1_g": SILU, f"{place}.mlp.fc1_x": GATE, f"{place}.mlp.fc2": ADD}
    return table


def _nfnet_gains() -> tuple[str, ...]:
    convs = [name for name, row in nfnet_f0().items() if name != "head.fc" and ".attn_last." not in name]
    return tuple(f"{conv}.gain" for conv in convs)


def _case(
    table: Callable[[], Table],
    others: tuple[str, ...] = (),
    size: int = 224,
    symbolic: bool = False,
    **arguments: Any,
) -> Case:
    name = table.__name__
    return Case(name, partial(build, name, **arguments), partial(image, size), table, others, symbolic)


CASES = (
    _case(
        swin_tiny_patch4_window7_224,
        others=tuple(
            f"layers.{stage}.blocks.{block}.attn.relative_position_bias_table"
            for stage, block in blocks_of(SWIN_DEPTHS)
        ),
    ),
    _case(
        swinv2_tiny_window8_256,
        others=tuple(f"layers.{stage}.blocks.{block}.attn.logit_scale" for stage, block in blocks_of(SWINV2_DEPTHS)),
        size=256,
        depths=SWINV2_DEPTHS,
    ),
    _case(maxvit_rmlp_nano_rw_256, size=256),
    _case(
        maxvit_tiny_tf_224,
        others=tuple(
            f"stages.{stage}.blocks.{block}.{part}.attn.rel_pos.relative_position_bias_table"
            for stage, block in blocks_of(MAXVIT_TF_DEPTHS)
            for part in ("attn_block", "attn_grid")
        ),
        depths=MAXVIT_TF_DEPTHS,
    ),
    _case(
        coatnet_0_224,
        others=tuple(
            f"stages.{stage}.blocks.{block}.attn.rel_pos.relative_position_bias_table"
            for stage, block in blocks_of(COATNET_DEPTHS)
            if stage >= 2
        ),
    ),
    _case(nfnet_f0, others=_nfnet_gains(), size=192, symbolic=True),
    _case(dm_nfnet_f0, others=_nfnet_gains(), size=192),
    _case(repvgg_a0, symbolic=True),
    _case(mobileone_s1, symbolic=True),
    _case(mixer_s32_224, symbolic=True),
    _case(
        resmlp_12_224,
        others=tuple(
            f"{norm}.{part}"
            for norm in ("norm", *(f"blocks.{block}.norm{number}" for block in range(12) for number in (1, 2)))
            for part in ("alpha", "beta")
        ),
        symbolic=True,
    ),
    _case(gmlp_s16_224, symbolic=True),
    _case(
        xcit_nano_12_p16_224,
        others=("cls_token", *(f"blocks.{block}.attn.temperature" for block in range(12))),
    ),
    _case(eva02_tiny_patch14_224, others=("cls_token", "pos_embed")),
    _case(eva02_base_patch14_224, others=("cls_token", "pos_embed"), symbolic=True, depth=EVA02_BASE_DEPTH),
)
