"""Recipes for whole models, as their papers and authors' code give them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from autoinit.checking._part import Part
from autoinit.checking.recipes._published import Published
from autoinit.checking.recipes.geometry import (
    blocks,
    fan_outs,
    is_attention,
    is_centred,
    is_conv,
    is_head,
    is_standardised,
    is_tied,
    rows,
    size,
)
from autoinit.checking.recipes.initialisers import framework_default, glorot, he
from autoinit.theory.truncation import TRUNCATED_STD

_T5_HEAD_WIDTHS = (16, 32, 64, 128, 256)
"""What a head may have where no shapes are known."""
_MOST_BLOCKS = 64
"""As many as the deepest image transformer that is published, EVA-02's largest, has."""
_ALMOST_ALL = 0.9


def _resnet(part: Part) -> tuple[float, ...]:
    if is_conv(part):
        return he(part, "fan_out", math.sqrt(2))
    return (*framework_default(part), 0.01, *he(part, "fan_in", 1), *he(part, "fan_in", math.sqrt(2)))


def _gpt2(part: Part) -> tuple[float, ...]:
    return (0.02 / math.sqrt(2 * blocks(part)),) if part.branches > 1 else (0.02,)


def _llama(part: Part) -> tuple[float, ...]:
    """Depth by the number of blocks, or by that of the block itself, counted from 1."""
    if part.branches > 1:
        return tuple(0.02 / math.sqrt(2 * block) for block in range(1, blocks(part) + 1))
    return (0.02, part.place.fan_in**-0.5) if is_head(part) else (0.02,)


def _bert(_: Part) -> tuple[float, ...]:
    return (0.02, TRUNCATED_STD * 0.02)


def _vit(part: Part) -> tuple[float, ...]:
    if is_conv(part):
        lecun = part.place.fan_in**-0.5
        return (0.02, TRUNCATED_STD * 0.02, lecun, TRUNCATED_STD * lecun, *framework_default(part))
    return (0.02, TRUNCATED_STD * 0.02)


def _beit(part: Part) -> tuple[float, ...]:
    """As `vit`, but branches end with 0.02 / sqrt(2 l) in block l, and the head may be a thousandth.

    Blocks count through all stages of a model, branches within one stage only: so l is any that a model may have.
    """
    if part.branches > 1:
        return tuple(0.02 / math.sqrt(2 * block) for block in range(1, _MOST_BLOCKS + 1))
    return (*_vit(part), 0.02 / 1000) if is_head(part) else _vit(part)


def _pvt(part: Part) -> tuple[float, ...]:
    """He for convolutions, with a fan_out that counts groups but not the stride."""
    return (math.sqrt(2 / fan_outs(part)[-1]),) if is_conv(part) else (0.02, TRUNCATED_STD * 0.02)


def _vit_jax(part: Part) -> tuple[float, ...]:
    """LeCun for patches, Xavier elsewhere; torchvision leaves the output projection of attention at the default."""
    lecun = part.place.fan_in**-0.5
    if is_conv(part):
        return (lecun, TRUNCATED_STD * lecun)
    return (*glorot(part), _flat(part), *framework_default(part))


def _t5(part: Part) -> tuple[float, ...]:
    """A head that is the embedding table, of std 1, has its input divided by sqrt(d_model); one of its own has not."""
    plain = part.place.fan_in**-0.5
    if is_head(part):
        return (1.0, plain) if is_tied(part) else (plain,)
    if is_attention(part):
        known = (part.head_width,) if part.head_width else _T5_HEAD_WIDTHS
        widths = [each for each in known if rows(part) % each == 0]
        return (plain, *(plain / math.sqrt(each) for each in widths))
    return (plain,)


def _dit(part: Part) -> tuple[float, ...]:
    """Xavier, a fused projection and a patch convolution taken as one flat matrix."""
    return (*glorot(part), _flat(part), 0.02) if _beside_blocks(part) else (*glorot(part), _flat(part))


def _flat(part: Part) -> float:
    """Xavier of the weight as one matrix, as it is held."""
    return math.sqrt(2 / (size(part, "o") + size(part, "i") * size(part, "k")))


def _beside_blocks(part: Part) -> bool:
    return not (part.skipped_over or is_conv(part) or is_head(part))


def _nfnet(part: Part) -> tuple[float, ...]:
    """A standardised weight may have any scale."""
    if is_standardised(part):
        return (part.actual,)
    return (0.01,) if is_head(part) else he(part, "fan_in", 1)


def _lsuv(part: Part) -> tuple[float, ...]:
    """Scales depend on the data: 1 / sqrt(fan_in q), q the second moment of the layer's input.

    After an activation of a unit Gaussian q is 1 (linear), 0.5 (relu), 0.36 (silu); pooling moves it on: max-pooling
    up to 4, averaging down to 0.16 (relu's mean, squared). So all from 0.5 to 2.5 times 1 / sqrt(fan_in) will do.
    """
    unit = part.place.fan_in**-0.5
    return (min(max(part.actual, 0.5 * unit), 2.5 * unit),)


def _dcgan(_: Part) -> tuple[float, ...]:
    return (0.02,)


def _scaled_by_depth(parts: Sequence[Part]) -> bool:
    return any(part.branches > 1 for part in parts)


def _gated(parts: Sequence[Part]) -> bool:
    """A gated language model: image transformers, gated or not, embed patches by a convolution."""
    return _scaled_by_depth(parts) and any(part.place.reason == "gate" for part in parts) and not _sees(parts)


def _attends(parts: Sequence[Part]) -> bool:
    return 8 * sum(is_attention(part) for part in parts) >= len(parts)


def _sees(parts: Sequence[Part]) -> bool:
    return _attends(parts) and any(is_conv(part) for part in parts)


def _attends_by_depth(parts: Sequence[Part]) -> bool:
    return _attends(parts) and _scaled_by_depth(parts)


def _mixes(parts: Sequence[Part]) -> bool:
    """A MetaFormer's mark: its norms and skip connections make up for a scale that knows no fan.

    Nearly every weight lies beside a skip connection or has its scale taken away; at least half do the former, and at
    least one in six (the ends of branches, where the norm comes first) the latter.
    """
    normalised = [part.normalised or part.renormalised for part in parts]
    skipped_over = [part.skipped_over for part in parts]
    made_up_for = sum(map(any, zip(normalised, skipped_over, strict=True)))
    return (
        any(is_conv(part) for part in parts)
        and made_up_for >= _ALMOST_ALL * len(parts)
        and 2 * sum(skipped_over) >= len(parts)
        and 6 * sum(normalised) >= len(parts)
    )


def _asks_softly(parts: Sequence[Part]) -> bool:
    """T5's mark: some of what attention uses is far below 1 / sqrt(fan_in)."""

    def most(part: Part) -> float:
        """Half as much again as queries have; a quarter where the width of the heads is not known."""
        return 1.5 / math.sqrt(part.head_width) if part.head_width else 0.25

    return any(is_attention(part) and part.actual < most(part) * part.place.fan_in**-0.5 for part in parts)


def _conditioned(parts: Sequence[Part]) -> bool:
    """DiT's mark beside attention: a timestep MLP whose weights are at 0.02, far from Xavier's."""
    beside = [part for part in parts if _beside_blocks(part) and abs(part.actual - 0.02) < 0.001]
    return _attends(parts) and sum(min(glorot(part)) > 0.025 for part in beside) >= 2


def _standardised(parts: Sequence[Part]) -> bool:
    return 2 * sum(is_centred(part) for part in parts) >= len(parts)


def _paints(parts: Sequence[Part]) -> bool:
    return any(part.layer.op.startswith("conv_transpose") for part in parts) and all(is_conv(part) for part in parts)


MODELS = (
    Published(
        "llama", "Megatron-LM, scaled_init_method_normal; torchtitan, models/llama3 (depth_init)", _llama, _gated
    ),
    Published("gpt2", "Radford et al. 2019, section 2.3; openai/gpt-2, src/model.py", _gpt2, _scaled_by_depth),
    Published(
        "t5", "Raffel et al. 2020; Mesh TensorFlow's scaling, in transformers' modeling_t5.py", _t5, _asks_softly
    ),
    Published("vit", "Touvron et al. 2021 (DeiT); init_weights_vit_timm in timm's vision_transformer.py", _vit, _sees),
    Published(
        "pvt", "Wang et al. 2022 (PVT v2), whai362/PVT, pvt_v2.py (_init_weights); Chu et al. 2021 (Twins)", _pvt, _sees
    ),
    Published(
        "beit",
        "Bao et al. 2022, Pre-training setup; microsoft/unilm, beit/modeling_finetune.py (fix_init_weight)",
        _beit,
        _attends_by_depth,
    ),
    Published("vit_jax", "Dosovitskiy et al. 2021; torchvision's vision_transformer.py", _vit_jax),
    Published(
        "bert",
        "Devlin et al. 2019; google-research/bert, modeling.py; N(0, 0.02) is the default in transformers",
        _bert,
        _attends,
    ),
    Published(
        "convnext",
        "Liu et al. 2022; facebookresearch/ConvNeXt, models/convnext.py; MetaFormers: sail-sg/metaformer",
        _bert,
        _mixes,
    ),
    Published("dcgan", "Radford et al. 2016, section 4", _dcgan, _paints),
    Published("resnet", "He et al. 2015, eq. 14; torchvision's resnet.py; head 0.01: Goyal et al. 2017, 5.1", _resnet),
    Published(
        "dit",
        "Peebles & Xie 2023, facebookresearch/DiT, models.py (initialize_weights)",
        _dit,
        _conditioned,
        uniform=True,
    ),
    Published("nfnet", "Brock et al. 2021; deepmind-research, nfnets/nfnet.py", _nfnet, _standardised),
    Published("lsuv", "Mishkin & Matas 2016, algorithm 1", _lsuv),
)
