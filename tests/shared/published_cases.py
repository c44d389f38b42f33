"""Correct models whose weights follow published recipes, written as the references say, and what to feed them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tests.shared.models import dcgan
from tests.shared.models.gpt2 import GPT2, FlashAttention, NewGELU
from tests.shared.models.llama import FeedForward, LLaMA
from tests.shared.models.published import (
    PVT,
    T5,
    ControlNet,
    ConvNeXt,
    DiT,
    NFNet,
    ResNet,
    ScaledStdConv2d,
    T5Attention,
    T5Block,
    ViT,
)

WEIGHT_LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.Embedding)


def every_weight(model: nn.Module, write: Callable[[torch.Tensor], Any]) -> nn.Module:
    """Writes the weights of all layers, and zeros into their biases."""
    for module in model.modules():
        if isinstance(module, WEIGHT_LAYERS):
            write(module.weight)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)
    return model


def normal(std: float) -> Callable[[torch.Tensor], Any]:
    return lambda weight: nn.init.normal_(weight, std=std)


def gpt2() -> nn.Module:
    """Radford et al. 2019, section 2.3; N(0, 0.02) and the scale of 2L residual projections: openai/gpt-2, nanoGPT."""
    model = every_weight(GPT2(FlashAttention, NewGELU, width=256), normal(0.02))
    model.lm_head.weight = model.wte.weight
    for block in model.blocks:
        nn.init.normal_(block.attn.c_proj.weight, std=0.02 / math.sqrt(2 * len(model.blocks)))
        nn.init.normal_(block.mlp["c_proj"].weight, std=0.02 / math.sqrt(2 * len(model.blocks)))
    return model


def llama(by_block: bool = False) -> nn.Module:
    """Megatron-LM's scaled_init_method_normal on both branches' ends; torchtitan's depth_init goes by the block."""
    model = LLaMA(width=192, head=64)
    for layer in model.layers:
        layer.feed_forward = FeedForward(192, 512)
    every_weight(model, normal(0.02))
    for number, layer in enumerate(model.layers, 1):
        depth = 2 * (number if by_block else len(model.layers))
        nn.init.normal_(layer.attention.wo.weight, std=0.02 / math.sqrt(depth))
        nn.init.normal_(layer.feed_forward.w2.weight, std=0.02 / math.sqrt(depth))
    return model


def t5(width: int = 256, heads: int = 4, head_width: int = 64, tied: bool = True) -> nn.Module:
    """Mesh TensorFlow's scaling (Raffel et al. 2020), as transformers' T5PreTrainedModel._init_weights has it."""
    model = T5(width, heads, head_width, tied=tied)
    nn.init.normal_(model.shared.weight, std=1.0)
    if not tied:
        nn.init.normal_(model.lm_head.weight, std=width**-0.5)
    for module in model.modules():
        if isinstance(module, T5Attention):
            nn.init.normal_(module.q.weight, std=(width * head_width) ** -0.5)
            nn.init.normal_(module.k.weight, std=width**-0.5)
            nn.init.normal_(module.v.weight, std=width**-0.5)
            nn.init.normal_(module.o.weight, std=(module.heads * head_width) ** -0.5)
        if isinstance(module, T5Block):
            nn.init.normal_(module.wi.weight, std=width**-0.5)
            nn.init.normal_(module.wo.weight, std=(4 * width) ** -0.5)
    return model


def vit(cut: bool = False) -> nn.Module:
    """timm's init_weights_vit_timm: every linear layer trunc_normal(0.02); the patches stay at torch's default."""
    model = ViT(cut=cut)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    nn.init.trunc_normal_(model.position, std=0.02)
    return model


def vit_with_zero_head() -> nn.Module:
    """As torchvision has it for patches and head: LeCun and zeros (Dosovitskiy et al. 2021, appendix D.1)."""
    model = vit()
    fan_in = 3 * 8 * 8
    nn.init.trunc_normal_(model.patches.weight, std=fan_in**-0.5)
    nn.init.zeros_(model.head.weight)
    return model


def vit_jax() -> nn.Module:
    """Dosovitskiy et al. 2021 in Flax: LeCun for the patches, Xavier for each matrix, zeros for the head."""
    model = ViT()
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    nn.init.normal_(model.patches.weight, std=(3 * 8 * 8) ** -0.5)
    nn.init.normal_(model.position, std=0.02)
    nn.init.zeros_(model.head.weight)
    return model


def bert() -> nn.Module:
    """Devlin et al. 2019: every weight from a normal distribution of std 0.02, cut at two sigma or not."""
    return every_weight(GPT2(FlashAttention, NewGELU, width=256), normal(0.02))


def beit(cut: bool = False) -> nn.Module:
    """microsoft/unilm, beit/modeling_finetune.py: branch ends of block l / sqrt(2 l), the head / 1000."""
    model = vit(cut)
    with torch.no_grad():
        for number, (attention, mlp) in enumerate(zip(model.attentions, model.mlps, strict=True), 1):
            attention.proj.weight /= math.sqrt(2 * number)
            mlp[2].weight /= math.sqrt(2 * number)
        model.head.weight /= 1000
    return model


def eva() -> nn.Module:
    """Fang et al. 2023 (EVA-02): BEiT's recipe for gated MLPs; baaivision/EVA, EVA-02/asuka/modeling_finetune.py."""
    model = ViT()
    model.mlps = nn.ModuleList([FeedForward(192, 512) for _ in model.mlps])
    nn.init.trunc_normal_(model.position, std=0.02)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
    for number, (attention, mlp) in enumerate(zip(model.attentions, model.mlps, strict=True), 1):
        nn.init.trunc_normal_(attention.proj.weight, std=0.02 / math.sqrt(2 * number))
        nn.init.trunc_normal_(mlp.w2.weight, std=0.02 / math.sqrt(2 * number))
    return model


def beit_in_stages() -> nn.Module:
    """Ryali et al. 2023 (Hiera): blocks count through the stages, each of which has a residual stream of its own."""
    model = PVT()
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
    for number, block in enumerate((block for stage in model.stages for block in stage), 1):
        nn.init.trunc_normal_(block.proj.weight, std=0.02 / math.sqrt(2 * number))
        nn.init.trunc_normal_(block.fc2.weight, std=0.02 / math.sqrt(2 * number))
    return model


def pvt() -> nn.Module:
    """whai362/PVT, pvt_v2.py, _init_weights; Meituan-AutoML/Twins, gvt.py has the same."""
    model = PVT()
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
    return model


def convnext() -> nn.Module:
    """facebookresearch/ConvNeXt, models/convnext.py, _init_weights; so has sail-sg/metaformer all its models."""
    return every_weight(ConvNeXt(), lambda weight: nn.init.trunc_normal_(weight, std=0.02))


def resnet() -> nn.Module:
    """He et al. 2015, eq. 14, as in torchvision's resnet.py; the head stays at torch's default."""
    model = ResNet()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


def dit() -> nn.Module:
    """Peebles & Xie 2023; facebookresearch/DiT, models.py, initialize_weights."""
    model = DiT()
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    nn.init.xavier_uniform_(model.patches.weight.view(model.patches.out_channels, -1))
    nn.init.zeros_(model.patches.bias)
    for embedder in (model.label, model.timestep[0], model.timestep[2]):
        nn.init.normal_(embedder.weight, std=0.02)
    for zero in (*(block.modulation[1] for block in model.blocks), model.modulation[1], model.final):
        nn.init.zeros_(zero.weight)
        nn.init.zeros_(zero.bias)
    return model


def nfnet() -> nn.Module:
    """Brock et al. 2021; deepmind-research, nfnets: convolutions of variance 1 / fan_in, the head N(0, 0.01)."""
    model = NFNet()
    for module in model.modules():
        if isinstance(module, ScaledStdConv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            nn.init.zeros_(module.bias)
    nn.init.normal_(model.fc.weight, std=0.01)
    nn.init.zeros_(model.fc.bias)
    return model


def lsuv(model: nn.Module, batch: torch.Tensor) -> nn.Module:
    """Mishkin & Matas 2016, algorithm 1: orthogonal weights, then layer by layer unit variance of the output."""
    seen: dict[nn.Module, float] = {}
    layers = [each for each in model.modules() if isinstance(each, WEIGHT_LAYERS)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight)
        nn.init.zeros_(layer.bias)
        layer.register_forward_hook(lambda module, _, output: seen.update({module: output.var().item()}))
    with torch.no_grad():
        for layer in layers:
            for _ in range(5):
                model(batch)
                layer.weight /= math.sqrt(seen[layer])
    for layer in layers:
        layer._forward_hooks.clear()
    return model


def lsuv_mlp() -> nn.Module:
    sizes = (64, 256, 256, 256, 256)
    hidden = [each for n, m in itertools.pairwise(sizes) for each in (nn.Linear(n, m), nn.ReLU())]
    return lsuv(nn.Sequential(*hidden, nn.Linear(256, 10)), torch.randn(256, 64))


def lsuv_cnn() -> nn.Module:
    layers = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()]
    layers += [nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1024, 10)]
    return lsuv(nn.Sequential(*layers), torch.randn(32, 3, 16, 16))


def dcgan_part(model: nn.Module) -> nn.Module:
    """Radford et al. 2016, section 4: all weights N(0, 0.02); norms N(1, 0.02) in pytorch/examples, dcgan/main.py."""
    return every_weight(model, normal(0.02))


@dataclass(frozen=True)
class Case:
    """A correct model, the recipe that it follows, and the one that is recognised unasked, if any."""

    build: Callable[[], nn.Module]
    recipe: str
    inputs: Any
    recognised: str | None = None


WORDS = torch.arange(12).view(2, 6)
IMAGES = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
PATCHES = torch.linspace(-1, 1, 2 * 16 * 192).view(2, 16, 192)
LATENTS = torch.linspace(-1, 1, 2 * 4 * 8 * 8).view(2, 4, 8, 8)
CASES = {
    "gpt2": Case(gpt2, "gpt2", WORDS, "gpt2"),
    "llama": Case(llama, "llama(depth=layer)", WORDS, "llama(depth=layer)"),
    "llama_by_block": Case(lambda: llama(by_block=True), "llama(depth=layer)", WORDS, "llama(depth=layer)"),
    "t5": Case(t5, "t5", (WORDS, WORDS), "t5"),
    "vit": Case(vit, "vit", IMAGES, "vit"),
    "vit_zero_head": Case(vit_with_zero_head, "vit", IMAGES, "vit"),
    "vit_cut": Case(lambda: vit(cut=True), "vit", PATCHES, "bert"),
    "vit_jax": Case(vit_jax, "vit_jax", IMAGES),
    "bert": Case(bert, "bert", WORDS, "bert"),
    "pvt": Case(pvt, "pvt", IMAGES, "pvt"),
    "beit": Case(beit, "beit", IMAGES, "beit"),
    "beit_cut": Case(lambda: beit(cut=True), "beit", PATCHES, "beit"),
    "beit_in_stages": Case(beit_in_stages, "beit", IMAGES, "beit"),
    "eva": Case(eva, "beit", IMAGES, "beit"),
    "convnext": Case(convnext, "convnext", IMAGES, "convnext"),
    "resnet": Case(resnet, "resnet", IMAGES),
    "dit": Case(dit, "dit", (LATENTS, torch.ones(2, 256), torch.tensor([1, 2])), "dit"),
    "controlnet": Case(ControlNet, "torch", (LATENTS, torch.ones(2, 3, 8, 8))),
    "nfnet": Case(nfnet, "nfnet", IMAGES, "nfnet"),
    "lsuv_mlp": Case(lsuv_mlp, "lsuv", torch.ones(2, 64)),
    "lsuv_cnn": Case(lsuv_cnn, "lsuv", torch.ones(2, 3, 16, 16)),
    "dcgan_g": Case(lambda: dcgan_part(dcgan.Generator(100, 64)), "dcgan", torch.ones(2, 100, 1, 1)),
    "dcgan_d": Case(lambda: dcgan_part(dcgan.Discriminator(64)), "dcgan", IMAGES),
}
