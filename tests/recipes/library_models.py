"""Freshly built models of libraries, the recipe that each follows, and where it strays from it.

A deviation is a parameter (by a glob of its name) whose values the library draws otherwise than the recipe says: each
is named in the table with its reason.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import nn


@dataclass(frozen=True)
class LibraryModel:
    """A model and its recipe.

    Attributes:
        deviations: by a glob of names, what the library does instead.
        unsaid: globs of parameters of which the recipe says nothing.
        allowed: deviations that check takes for variants of the recipe, as other public code has them.
    """

    build: Callable[[], nn.Module]
    recipe: str
    inputs: Any = None
    deviations: Mapping[str, str] = field(default_factory=dict)
    unsaid: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()


_SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
_WORDS = {"vocab_size": 100, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}


def hugging_face(kind: str, head: str, **settings: Any) -> Callable[[], nn.Module]:
    """A model of transformers by the names of its configuration and its class."""

    def build() -> nn.Module:
        import transformers

        config = getattr(transformers, f"{kind}Config")(**settings)
        model: nn.Module = getattr(transformers, f"{kind}{head}")(config)
        return model

    return build


def of_timm(name: str, **settings: Any) -> Callable[[], nn.Module]:
    """A model of timm, with ten classes."""
    return partial(_called, "timm", "create_model", name, num_classes=10, **settings)


def of_torchvision(name: str, **settings: Any) -> Callable[[], nn.Module]:
    """A model of torchvision, with ten classes."""
    return partial(_called, "torchvision.models", name, num_classes=10, **settings)


def _called(module: str, function: str, *arguments: Any, **settings: Any) -> nn.Module:
    """What a library's function makes. The library is loaded now: other tests ask for this table alone."""
    made: nn.Module = getattr(importlib.import_module(module), function)(*arguments, **settings)
    return made


def _nfnet() -> nn.Module:
    import timm

    settings = timm.models.nfnet._dm_nfnet_cfg(depths=(1, 1, 1, 1), channels=(32, 64, 96, 128))
    return timm.models.nfnet.NormFreeNet(replace(settings, group_size=16, stem_chs=32), num_classes=10)


class _SmallLinear(nn.Linear):
    """A sixty-fourth of what is asked for on each side."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs // 64, max(10, outputs // 64))


def _vgg() -> nn.Module:
    """torchvision's constructor and its loop over modules, whose first linear layer has 100 million weights else."""
    import torchvision.models as vision

    with mock.patch.object(nn, "Linear", _SmallLinear):
        return vision.VGG(vision.vgg.make_layers([16, "M", 8, "M"], batch_norm=True), num_classes=10)


def _convnext() -> nn.Module:
    from torchvision.models import convnext

    blocks = [convnext.CNBlockConfig(16, 32, 1), convnext.CNBlockConfig(32, None, 1)]
    return convnext.ConvNeXt(blocks, num_classes=10)


def _resnext() -> nn.Module:
    from torchvision.models import resnet

    return resnet.ResNet(resnet.Bottleneck, [1, 1, 1, 1], num_classes=10, groups=4, width_per_group=16)


_TOKENS = torch.arange(16).reshape(2, 8)

MODELS: Mapping[str, LibraryModel] = {
    "gpt2, transformers": LibraryModel(
        hugging_face("GPT2", "LMHeadModel", n_layer=2, n_embd=64, n_head=2, n_positions=32, **_WORDS), "gpt2", _TOKENS
    ),
    "llama, transformers": LibraryModel(
        hugging_face("Llama", "ForCausalLM", num_key_value_heads=1, **_SMALL, **_WORDS), "llama", _TOKENS
    ),
    "mixtral, transformers": LibraryModel(
        hugging_face(
            "Mixtral", "ForCausalLM", num_key_value_heads=1, num_local_experts=4, **_SMALL, **_WORDS
        ),
        "llama",
        _TOKENS,
    ),
    "t5, transformers": LibraryModel(
        hugging_face(
            "T5", "ForConditionalGeneration", num_layers=2, d_model=64, d_kv=16, d_ff=128, num_heads=4, vocab_size=100
        ),
        "t5",
        {"input_ids": _TOKENS, "decoder_input_ids": _TOKENS},
    ),
    "bert, transformers": LibraryModel(
        hugging_face("Bert", "ForMaskedLM", **_SMALL, **_WORDS), "bert", _TOKENS
    ),
    "vit, transformers": LibraryModel(
        hugging_face("ViT", "ForImageClassification", image_size=32, patch_size=8, **_SMALL), "bert"
    ),
    "deit, transformers": LibraryModel(
        hugging_face("DeiT", "ForImageClassificationWithTeacher", image_size=32, patch_size=8, **_SMALL),
        "bert",
        deviations={
            "deit.embeddings.cls_token": "zeroed after it is drawn",
            "deit.embeddings.distillation_token": "zeroed after it is drawn",
            "deit.embeddings.position_embeddings": "zeroed after it is drawn",
        },
    ),
    "vit, timm": LibraryModel(of_timm("vit_tiny_patch16_224", depth=2, img_size=32, embed_dim=96), "vit"),
    "deit, timm": LibraryModel(
        of_timm("deit_tiny_distilled_patch16_224", depth=2, img_size=32, embed_dim=96), "deit"
    ),
    "vit_jax, timm": LibraryModel(
        of_timm("vit_tiny_patch16_224", depth=2, img_size=32, embed_dim=96, weight_init="jax"), "vit_jax"
    ),
    "vit_moco, timm": LibraryModel(
        of_timm("vit_tiny_patch16_224", depth=2, img_size=32, embed_dim=96, weight_init="moco"), "vit_moco"
    ),
    "swin, timm": LibraryModel(
        of_timm("swin_tiny_patch4_window7_224", depths=(1, 1), embed_dim=24, num_heads=(1, 2)), "swin"
    ),
    "swin, torchvision": LibraryModel(
        partial(_called, "torchvision.models", "SwinTransformer", [4, 4], 24, [1, 1], [1, 2], [7, 7], num_classes=10),
        "swin",
    ),
    "swin, transformers": LibraryModel(
        hugging_face("Swin", "ForImageClassification", embed_dim=24, depths=[1, 1], num_heads=[1, 2], image_size=56),
        "swin",
        deviations={
            "*patch_embeddings.projection.*": "N(0, 0.02) as every weight, bias 0: upstream leaves torch's default",
            "*relative_position_bias_table": "0: upstream draws it with 0.02",
        },
    ),
    "beit, timm": LibraryModel(
        of_timm("beit_base_patch16_224", depth=2, embed_dim=48, num_heads=3, img_size=32), "beit"
    ),
    "beit, transformers": LibraryModel(
        hugging_face(
            "Beit",
            "ForImageClassification",
            use_relative_position_bias=True,
            layer_scale_init_value=0.1,
            image_size=32,
            patch_size=8,
            **_SMALL,
        ),
        "beit",
        deviations={
            "*patch_embeddings.projection.*": "N(0, 0.02) as every weight, bias 0: upstream leaves torch's default",
            "*.o_proj.weight": "not scaled by depth",
            "*.fc2.weight": "not scaled by depth",
            "classifier.weight": "not a thousandth",
            "*cls_token": "0: upstream draws it with 0.02",
        },
        allowed=("classifier.weight",),
    ),
    "convnext, timm": LibraryModel(of_timm("convnext_atto", depths=(1, 1, 1, 1), dims=(16, 32, 48, 64)), "convnext"),
    "convnext, torchvision": LibraryModel(
        _convnext,
        "convnext",
    ),
    "convnext, transformers": LibraryModel(
        hugging_face("ConvNext", "ForImageClassification", hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 1, 1]),
        "convnext",
    ),
    "resnet, timm": LibraryModel(of_timm("resnet26"), "resnet(zero_init=True)"),
    "resnet, torchvision": LibraryModel(of_torchvision("resnet18"), "resnet"),
    "resnext, torchvision": LibraryModel(
        _resnext,
        "resnet",
        deviations={"layer?.0.conv2.weight": "groups ignored in fan_out (pytorch#23854)"},
    ),
    "efficientnet, timm": LibraryModel(of_timm("efficientnet_b0"), "efficientnet"),
    "efficientnet, torchvision": LibraryModel(
        of_torchvision("efficientnet_b0"),
        "efficientnet",
        deviations={
            "features.[1-7].?.block.1.0.weight": "depthwise: groups ignored in fan_out (pytorch#23854)",
            "features.1.0.block.0.0.weight": "depthwise: groups ignored in fan_out (pytorch#23854)",
        },
    ),
    "mobilenet, timm": LibraryModel(of_timm("mobilenetv3_small_050"), "mobilenet"),
    "mobilenet, torchvision": LibraryModel(
        of_torchvision("mobilenet_v2", width_mult=0.5),
        "mobilenet",
        deviations={
            "features.1.conv.0.0.weight": "depthwise: groups ignored in fan_out (pytorch#23854)",
            "features.*.conv.1.0.weight": "depthwise: groups ignored in fan_out (pytorch#23854)",
            "classifier.1.weight": "N(0, 0.01), a variant that check allows",
        },
        allowed=("classifier.1.weight",),
    ),
    "vgg, torchvision": LibraryModel(_vgg, "vgg"),
    "densenet, torchvision": LibraryModel(
        of_torchvision("DenseNet", growth_rate=8, block_config=(2, 2), num_init_features=16),
        "densenet",
    ),
    "nfnet, timm": LibraryModel(_nfnet, "nfnet"),
    "mixer, timm": LibraryModel(of_timm("mixer_s32_224", img_size=64), "mixer"),
    "mamba, transformers": LibraryModel(
        hugging_face("Mamba", "ForCausalLM", hidden_size=64, num_hidden_layers=2, state_size=8,
                     rescale_prenorm_residual=True, **_WORDS),
        "mamba",
        _TOKENS,
        deviations={
            "*.in_proj.weight": "N(0, 0.1): upstream leaves torch's default",
            "*.x_proj.weight": "N(0, 0.1): upstream leaves torch's default",
            "*.conv1d.bias": "0: upstream leaves torch's default",
            "backbone.embeddings.weight": "N(0, 0.1): upstream 0.02",
        },
    ),
}  # fmt: skip
