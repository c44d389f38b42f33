"""Small models whose authors published how to initialise them: the layers as in the papers, at realistic ratios."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """T5's norm: no mean, no bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class T5Attention(nn.Module):
    """Attention that does not divide its logits by sqrt(d_kv): the queries' initialisation does."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(width, heads * head_width, bias=False) for _ in range(3))
        self.o = nn.Linear(heads * head_width, width, bias=False)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        q, k, v = (
            layer(source).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, source in ((self.q, x), (self.k, memory), (self.v, memory))
        )
        weights = F.softmax(q @ k.transpose(-2, -1), dim=-1)
        return self.o((weights @ v).transpose(1, 2).flatten(2))


class T5Block(nn.Module):
    """Self-attention, attention to the encoder if it is a decoder's, and a ReLU feed-forward, norms first."""

    def __init__(self, width: int, heads: int, head_width: int, decoder: bool) -> None:
        super().__init__()
        self.self_attention = T5Attention(width, heads, head_width)
        self.cross_attention = T5Attention(width, heads, head_width) if decoder else None
        self.wi, self.wo = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)
        self.norms = nn.ModuleList([RMSNorm(width) for _ in range(3)])

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        y = self.norms[0](x)
        x = x + self.self_attention(y, y)
        if self.cross_attention is not None:
            x = x + self.cross_attention(self.norms[1](x), memory)
        return x + self.wo(F.relu(self.wi(self.norms[2](x))))


class T5(nn.Module):
    """Encoder and decoder of two blocks each; a head that is the embedding table has its input scaled by d^-0.5."""

    def __init__(
        self, width: int = 256, heads: int = 4, head_width: int = 64, words: int = 500, tied: bool = True
    ) -> None:
        super().__init__()
        self.tied = tied
        self.shared = nn.Embedding(words, width)
        self.encoder, self.decoder = (
            nn.ModuleList([T5Block(width, heads, head_width, decoder) for _ in range(2)]) for decoder in (False, True)
        )
        self.encoder_norm, self.decoder_norm = RMSNorm(width), RMSNorm(width)
        self.lm_head = nn.Linear(width, words, bias=False)
        if tied:
            self.lm_head.weight = self.shared.weight

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        x = self.shared(source)
        for block in self.encoder:
            x = block(x)
        memory, y = self.encoder_norm(x), self.shared(target)
        for block in self.decoder:
            y = block(y, memory)
        y = self.decoder_norm(y)
        return self.lm_head(y * y.shape[-1] ** -0.5 if self.tied else y)


class Attention(nn.Module):
    """Self-attention with one projection for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(x).reshape(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class ViT(nn.Module):
    """Patches of 8 x 8, by a convolution or cut before, three blocks, the mean of the positions, a head."""

    def __init__(self, width: int = 192, heads: int = 3, classes: int = 100, cut: bool = False) -> None:
        super().__init__()
        self.patches = nn.Linear(3 * 8 * 8, width) if cut else nn.Conv2d(3, width, 8, 8)
        self.position = nn.Parameter(torch.zeros(1, 16, width))
        self.attentions = nn.ModuleList([Attention(width, heads) for _ in range(3)])
        self.mlps = nn.ModuleList(
            [nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)) for _ in range(3)]
        )
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(7)])
        self.head = nn.Linear(width, classes)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image)
        if x.dim() == 4:
            x = x.flatten(2).transpose(1, 2)
        x = x + self.position
        for number, (attention, mlp) in enumerate(zip(self.attentions, self.mlps, strict=True)):
            x = x + attention(self.norms[2 * number](x))
            x = x + mlp(self.norms[2 * number + 1](x))
        return self.head(self.norms[-1](x).mean(1))


class PVTBlock(nn.Module):
    """PVT v2's: keys and values from an image at half the size, a depthwise convolution within the MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.proj = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.reduction = nn.Conv2d(width, width, 2, 2)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dwconv = nn.Conv2d(4 * width, 4 * width, 3, 1, 1, groups=4 * width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, image: Tensor) -> Tensor:
        side = image.shape[-1]
        x = image.flatten(2).transpose(1, 2)
        y = self.norm1(x)
        small = self.reduction(y.transpose(1, 2).unflatten(2, (side, side))).flatten(2).transpose(1, 2)
        k, v = self.kv(self.norm2(small)).chunk(2, -1)
        q, k, v = (each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (self.q(y), k, v))
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        y = self.fc1(self.norm3(x)).transpose(1, 2).unflatten(2, (side, side))
        x = x + self.fc2(F.gelu(self.dwconv(y)).flatten(2).transpose(1, 2))
        return x.transpose(1, 2).unflatten(2, (side, side))


class PVT(nn.Module):
    """Two stages of two blocks each, at a quarter and an eighth of the image, each after an overlapping embedding."""

    def __init__(self, width: int = 64, classes: int = 100) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(
            [nn.Conv2d(3, width, 7, 4, 3), nn.Conv2d(width, 2 * width, 3, 2, 1)],
        )
        self.norms = nn.ModuleList([nn.GroupNorm(1, each) for each in (width, 2 * width, 2 * width)])
        self.stages = nn.ModuleList(
            [nn.Sequential(*(PVTBlock(each, each // 32) for _ in range(2))) for each in (width, 2 * width)]
        )
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        for embedding, norm, stage in zip(self.embeddings, self.norms, self.stages, strict=False):
            x = stage(norm(embedding(x)))
        return self.head(self.norms[-1](x).mean((2, 3)))


class ConvNeXtBlock(nn.Module):
    """A depthwise convolution, a norm, an MLP and a layer scale, beside a skip connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.GroupNorm(1, width)
        self.fc1, self.fc2 = nn.Conv2d(width, 4 * width, 1), nn.Conv2d(4 * width, width, 1)
        self.gamma = nn.Parameter(torch.full((width, 1, 1), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gamma * self.fc2(F.gelu(self.fc1(self.norm(self.dwconv(x)))))


class ConvNeXt(nn.Module):
    """A stem, two stages of three blocks each, a norm before the downsampling and one before the head."""

    def __init__(self, width: int = 64, classes: int = 100) -> None:
        super().__init__()
        self.stem, self.down = nn.Conv2d(3, width, 4, 4), nn.Conv2d(width, 2 * width, 2, 2)
        self.norms = nn.ModuleList([nn.GroupNorm(1, each) for each in (width, width, 2 * width)])
        self.stages = nn.ModuleList(
            [nn.Sequential(*(ConvNeXtBlock(each) for _ in range(3))) for each in (width, 2 * width)]
        )
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages[0](self.norms[0](self.stem(x)))
        x = self.stages[1](self.down(self.norms[1](x)))
        return self.head(self.norms[2](x.mean((2, 3), keepdim=True)).flatten(1))


class BasicBlock(nn.Module):
    """He's block of two convolutions, a projection where the shape changes."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.shortcut = None
        if stride > 1 or inputs != width:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet(nn.Module):
    """A stem, four blocks in three stages, a linear head."""

    def __init__(self, width: int = 32, classes: int = 100) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        shapes = ((width, width, 1), (width, width, 1), (width, 2 * width, 2), (2 * width, 4 * width, 2))
        self.blocks = nn.Sequential(*(BasicBlock(*shape) for shape in shapes))
        self.fc = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn(self.stem(x))), 3, 2, 1)
        return self.fc(self.blocks(x).mean((2, 3)))


class DiTBlock(nn.Module):
    """adaLN-Zero: shift, scale and gate of both branches are computed from the condition."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))
        self.norm1, self.norm2 = (nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition).unsqueeze(1).chunk(6, dim=2)
        x = x + gate1 * self.attn(self.norm1(x) * (1 + scale1) + shift1)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


class DiT(nn.Module):
    """Patches of 2 x 2 of a latent image, two blocks, a final layer of zeros."""

    def __init__(self, width: int = 192, heads: int = 3, classes: int = 10) -> None:
        super().__init__()
        self.patches = nn.Conv2d(4, width, 2, 2)
        self.timestep = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(classes, width)
        self.blocks = nn.ModuleList([DiTBlock(width, heads) for _ in range(2)])
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.final = nn.Linear(width, 2 * 2 * 8)

    def forward(self, latent: Tensor, time: Tensor, label: Tensor) -> Tensor:
        condition = self.timestep(time) + self.label(label)
        x = self.patches(latent).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x, condition)
        shift, scale = self.modulation(condition).unsqueeze(1).chunk(2, dim=2)
        return self.final(self.norm(x) * (1 + scale) + shift)


class DiffusionBlock(nn.Module):
    """GroupNorm, SiLU, convolution, twice, beside a skip connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, width), nn.Conv2d(width, width, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(8, width), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))


class ControlNet(nn.Module):
    """A locked encoder, its trainable copy, and zero convolutions before and behind the copy."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.locked_in = nn.Conv2d(4, width, 3, padding=1)
        self.locked = nn.ModuleList([DiffusionBlock(width) for _ in range(2)])
        self.locked_out = nn.Conv2d(width, 4, 3, padding=1)
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        self.hint = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.SiLU(), nn.Conv2d(32, 64, 3, padding=1), nn.SiLU())
        self.zero_in = nn.Conv2d(64, width, 1)
        self.copied = copy.deepcopy(self.locked).requires_grad_(True)
        self.zero_out = nn.ModuleList([nn.Conv2d(width, width, 1) for _ in range(2)])
        for zero in (self.zero_in, *self.zero_out):
            nn.init.zeros_(zero.weight)
            nn.init.zeros_(zero.bias)

    def forward(self, latent: Tensor, hint: Tensor) -> Tensor:
        x = self.locked_in(latent)
        y = x + self.zero_in(self.hint(hint))
        for block, twin, zero in zip(self.locked, self.copied, self.zero_out, strict=True):
            y = twin(y)
            x = block(x) + zero(y)
        return self.locked_out(x)


class ScaledStdConv2d(nn.Conv2d):
    """Scaled weight standardisation (Brock et al. 2021, section 2): gain * (w - mean) / sqrt(fan_in * var)."""

    def __init__(self, *arguments: int) -> None:
        super().__init__(*arguments)
        self.gain = nn.Parameter(torch.ones(self.out_channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        var, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        scale = torch.rsqrt(torch.clamp(var * self.weight[0].numel(), min=1e-4)) * self.gain
        return F.conv2d(x, (self.weight - mean) * scale, self.bias, self.stride, self.padding)


class NFBlock(nn.Module):
    """A bottleneck of standardised convolutions, scaled activations and a gain of zero at its end."""

    def __init__(self, width: int, beta: float) -> None:
        super().__init__()
        self.conv0 = ScaledStdConv2d(width, width // 2, 1)
        self.conv1 = ScaledStdConv2d(width // 2, width // 2, 3, 1, 1)
        self.conv2 = ScaledStdConv2d(width // 2, width, 1)
        self.beta, self.skip_gain = beta, nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv0(F.gelu(x) * 1.7015 * self.beta)
        y = self.conv2(F.gelu(self.conv1(F.gelu(y) * 1.7015)) * 1.7015)
        return x + 0.2 * self.skip_gain * y


class NFNet(nn.Module):
    """A stem, two blocks, a last convolution and a linear head."""

    def __init__(self, width: int = 128, classes: int = 100) -> None:
        super().__init__()
        self.stem = ScaledStdConv2d(3, width, 3, 2, 1)
        self.blocks = nn.Sequential(NFBlock(width, 1.0), NFBlock(width, (1 + 0.2**2) ** -0.5))
        self.final_conv = ScaledStdConv2d(width, 6 * width, 1)
        self.fc = nn.Linear(6 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.final_conv(self.blocks(self.stem(x)))) * 1.7015
        return self.fc(x.mean((2, 3)))
