"""Hard cases: convolutions of every geometry, convolution as linear and linear as convolution, and what moves positions
or features between a layer and its activation. Fans count the terms of the sum that a layer computes.

Fans of the common two-dimensional convolutions, grouped, strided and transposed, are in `test_planning`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoinit import plan
from tests.shared.written_nets import (
    Layer,
    Net,
    assert_planned,
    gelu,
    he,
    linear,
    mixed,
    normed,
    parted,
    relu,
    sigmoid,
    silu,
    tanh,
)

# Fans: (layer, input, fan_in, fan_out).

CONVS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], float, float]] = {
    "conv1d_dilated": (lambda: nn.Conv1d(4, 6, 3, dilation=4), (2, 4, 20), 12, 18),
    "conv1d_depthwise": (lambda: nn.Conv1d(4, 4, 5, groups=4), (2, 4, 20), 5, 5),
    "conv1d_strided": (lambda: nn.Conv1d(1, 6, 10, stride=5), (2, 1, 40), 10, 12),
    "conv2d_depth_multiplier": (lambda: nn.Conv2d(4, 12, 3, groups=4), (2, 4, 8, 8), 9, 27),
    "conv2d_asymmetric": (lambda: nn.Conv2d(4, 6, (1, 7), padding=(0, 3)), (2, 4, 8, 8), 28, 42),
    "conv2d_same": (lambda: nn.Conv2d(4, 6, 3, padding="same"), (2, 4, 8, 8), 36, 54),
    "conv2d_reflected": (lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (2, 4, 8, 8), 36, 54),
    "conv3d": (lambda: nn.Conv3d(2, 4, (1, 3, 3)), (1, 2, 4, 6, 6), 18, 36),
    "conv3d_grouped_strided": (
        lambda: nn.Conv3d(4, 8, 3, stride=(1, 2, 2), groups=2, padding=1),
        (1, 4, 4, 6, 6),
        54,
        4 * 27 / 4,
    ),
    "tubelets": (lambda: nn.Conv3d(3, 8, (2, 4, 4), (2, 4, 4)), (1, 3, 4, 8, 8), 96, 8),
    "transposed_1d": (lambda: nn.ConvTranspose1d(6, 4, 8, stride=4, padding=2), (2, 6, 5), 6 * 2, 4 * 8),
    "transposed_output_padding": (
        lambda: nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1),
        (2, 6, 5, 5),
        6 * 9 / 4,
        4 * 9,
    ),
    "transposed_dilated": (lambda: nn.ConvTranspose2d(6, 4, 3, dilation=2), (2, 6, 5, 5), 6 * 9, 4 * 9),
    "transposed_depthwise": (lambda: nn.ConvTranspose2d(6, 6, 4, 2, 1, groups=6), (2, 6, 5, 5), 4, 16),
    "transposed_3d": (lambda: nn.ConvTranspose3d(6, 4, 2, stride=2), (1, 6, 3, 3, 3), 6, 4 * 8),
    "transposed_3d_output_padding": (
        lambda: nn.ConvTranspose3d(6, 4, 3, stride=(1, 2, 2), padding=1, output_padding=(0, 1, 1)),
        (1, 6, 3, 3, 3),
        6 * 27 / 4,
        4 * 27,
    ),
    "one_by_one_on_one_position": (lambda: nn.Conv2d(8, 16, 1), (2, 8, 1, 1), 8, 16),
    "kernel_of_the_whole_input": (lambda: nn.Conv2d(8, 16, (4, 4)), (2, 8, 4, 4), 128, 256),
}


@pytest.mark.parametrize("with_input", [False, True], ids=["no_input", "input"])
@pytest.mark.parametrize("key", CONVS)
def test_fans_of_a_convolution(key: str, with_input: bool):
    """He before a relu, std = sqrt(2 / fan_in); the other fan by the plan and by mode="fan_out"."""
    build, shape, fan_in, fan_out = CONVS[key]
    model = nn.Sequential(build(), nn.ReLU())
    made = assert_planned(model, shape if with_input else None, {"0": relu(fan_in)})
    assert (made["0"].fan_in, made["0"].fan_out) == (pytest.approx(fan_in), pytest.approx(fan_out))
    assert plan(model, shape, mode="fan_out")["0"].std == pytest.approx(relu(fan_out).std)


def test_a_transposed_convolution_with_a_given_output_size():
    """The output size is an argument of the call; the sum is the same."""
    model = Net(
        lambda net, x: F.relu(net.up(x, output_size=(2, 4, 10, 10))), up=nn.ConvTranspose2d(6, 4, 3, 2, padding=1)
    )
    assert_planned(model, (2, 6, 5, 5), {"up": relu(6 * 9 / 4)})


# Causal convolutions.


def pad_left(net: Any, x: Tensor) -> Tensor:
    return net.second(F.pad(F.relu(net.first(F.pad(x, (2, 0)))), (4, 0)))


def chomp(net: Any, x: Tensor) -> Tensor:
    """Padded on both sides, then cut on the right (Bai et al. 2018): a slice of positions, not of features."""
    return net.second(F.relu(net.first(F.pad(x, (2, 2)))[:, :, :-2].contiguous()))


def pad_between(net: Any, x: Tensor) -> Tensor:
    """Padding between layer and activation: relu(0) = 0."""
    return net.second(F.relu(F.pad(net.first(x), (2, 0))))


@pytest.mark.parametrize("forward", [pad_left, chomp, pad_between], ids=lambda each: each.__name__)
@pytest.mark.parametrize("inputs", [None, (2, 4, 12)], ids=["no_input", "input"])
def test_causal_padding(forward: Callable[..., Tensor], inputs: Any):
    model = Net(forward, first=nn.Conv1d(4, 6, 3), second=nn.Conv1d(6, 5, 3, dilation=2))
    assert_planned(model, inputs, {"first": relu(12), "second": linear("output", 18, 15)})


@pytest.mark.parametrize("inputs", [None, (2, 4, 12)], ids=["no_input", "input"])
def test_a_dilated_gated_stack(inputs: Any):
    """WaveNet: tanh(filter) sigmoid(gate), a residual and a skip from each block."""

    def forward(net: Any, x: Tensor) -> Tensor:
        skips = 0
        for number, (filters, gate, back, skip) in enumerate(net.blocks):
            y = F.pad(x, (2**number, 0))
            y = torch.tanh(filters(y)) * torch.sigmoid(gate(y))
            x = x + back(y)
            skips = skips + skip(y)
        return net.last(F.relu(skips))

    def block(dilation: int) -> nn.ModuleList:
        convs = [nn.Conv1d(4, 6, 2, dilation=dilation) for _ in range(2)]
        return nn.ModuleList([*convs, nn.Conv1d(6, 4, 1), nn.Conv1d(6, 5, 1)])

    model = Net(forward, blocks=nn.ModuleList([block(1), block(2), block(4)]), last=nn.Conv1d(5, 3, 1))
    expected = {"last": linear("output", 5, 3)}
    for number in range(3):
        expected[f"blocks.{number}.0"] = tanh(8, 12)
        expected[f"blocks.{number}.1"] = sigmoid(8, 12)
        if number < 2:
            expected[f"blocks.{number}.2"] = linear("add", 6, 4)
        expected[f"blocks.{number}.3"] = linear("add", 6, 5)
    expected["blocks.2.2"] = Layer("linear", "unused", None, status="skipped")  # nobody reads the last residual
    assert_planned(model, inputs, expected)


# Convolution as linear, linear as convolution.


def test_convolutions_as_a_classifier():
    """A kernel as large as the input, then 1 x 1 on the one position that is left."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 4), nn.Tanh(), nn.Conv2d(16, 5, 1), nn.Flatten()
    )
    expected = {
        "0": relu(27),
        "2": tanh(8 * 16, 16 * 16),
        "4": linear("output", 16, 5),
    }
    assert_planned(model, (2, 3, 4, 4), expected)


@pytest.mark.parametrize("module", [False, True], ids=["function", "module"])
def test_a_linear_layer_on_patches(module: bool):
    """A 3 x 3 convolution by unfold: each output sums 4 * 9 numbers, like the convolution's."""
    unfold = nn.Unfold(3, padding=1) if module else (lambda x: F.unfold(x, 3, padding=1))

    def forward(net: Any, x: Tensor) -> Tensor:
        columns = unfold(x).transpose(1, 2)
        return net.head(F.relu(net.body(columns)).mean(1))

    model = Net(forward, body=nn.Linear(36, 8), head=nn.Linear(8, 3))
    assert_planned(model, (2, 4, 6, 6), {"body": relu(36), "head": linear("output", 8, 3)})


@pytest.mark.parametrize("module", [False, True], ids=["function", "module"])
def test_patches_put_back_together(module: bool):
    """A linear layer makes 2 x 2 patches of 3 channels; fold lays them out; then the activation."""
    fold = nn.Fold((8, 8), 2, stride=2) if module else (lambda x: F.fold(x, (8, 8), 2, stride=2))

    def forward(net: Any, x: Tensor) -> Tensor:
        return net.conv(F.silu(fold(net.body(x).transpose(1, 2))))

    model = Net(forward, body=nn.Linear(6, 12), conv=nn.Conv2d(3, 5, 3))
    assert_planned(model, (2, 16, 6), {"body": silu(6), "conv": linear("output", 27, 45)})


@pytest.mark.parametrize("inputs", [None, (2, 4, 5, 5)], ids=["no_input", "input"])
def test_a_linear_layer_on_channels_last(inputs: Any):
    """ConvNeXt's block: depthwise convolution, permuted norm and linear layers, permuted back, added."""

    def forward(net: Any, x: Tensor) -> Tensor:
        y = net.norm(net.depthwise(x).permute(0, 2, 3, 1))
        return net.last(x + net.down(F.gelu(net.up(y))).permute(0, 3, 1, 2))

    model = Net(
        forward,
        depthwise=nn.Conv2d(4, 4, 3, padding=1, groups=4),
        norm=nn.LayerNorm(4),
        up=nn.Linear(4, 16),
        down=nn.Linear(16, 4),
        last=nn.Conv2d(4, 3, 1),
    )
    expected = {
        "depthwise": normed(linear("weight", 9, 9)),
        "up": gelu(4),
        "down": linear("add", 16, 4),
        "last": linear("output", 4, 3),
    }
    assert_planned(model, inputs, expected)


# Moves between a layer and its activation.

SHUFFLES: dict[str, Callable[[Tensor], Tensor]] = {
    "pixel_shuffle": lambda x: F.pixel_shuffle(x, 2),
    "pixel_shuffle_module": nn.PixelShuffle(2),
    "pixel_unshuffle": lambda x: F.pixel_unshuffle(x, 2),
    "pixel_unshuffle_module": nn.PixelUnshuffle(2),
    "channel_shuffle": lambda x: F.channel_shuffle(x, 2),
    "channel_shuffle_written_out": lambda x: x.view(2, 2, 4, 6, 6).transpose(1, 2).reshape(2, 8, 6, 6),
    "space_to_depth": lambda x: x.reshape(2, 8, 3, 2, 3, 2).permute(0, 3, 5, 1, 2, 4).reshape(2, 32, 3, 3),
    "depth_to_space": lambda x: x.view(2, 2, 2, 2, 6, 6).permute(0, 1, 4, 2, 5, 3).reshape(2, 2, 12, 12),
    "strided_pieces": lambda x: torch.cat([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], 1),
    "upsample": lambda x: F.interpolate(x, scale_factor=2, mode="nearest"),
    "upsample_module": nn.Upsample(scale_factor=2, mode="bilinear"),
    "repeat": lambda x: x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3),
    "pool": lambda x: F.max_pool2d(x, 2),
    "adaptive_pool": lambda x: F.adaptive_avg_pool2d(x, 1),
    "roll": lambda x: torch.roll(x, shifts=(-1, -2), dims=(2, 3)),
    "flip": lambda x: x.flip(-1),
    "windows": lambda x: x.view(2, 8, 2, 3, 2, 3).permute(0, 2, 4, 3, 5, 1).reshape(8, 9, 8),
    "crop": lambda x: x[:, :, 1:-1, 1:-1],
    "grid_sample": lambda x: F.grid_sample(x, torch.zeros(2, 3, 3, 2), align_corners=False),
    "unfold": lambda x: F.unfold(x, 2, stride=2),
    "tensor_unfold": lambda x: x.unfold(2, 2, 2).unfold(3, 2, 2),
}


@pytest.mark.parametrize("key", SHUFFLES)
def test_moves_between_a_layer_and_its_activation(key: str):
    """(2, 4, 6, 6) -> convolution to 8 channels -> a move -> sigmoid."""
    model = Net(lambda net, x: torch.sigmoid(SHUFFLES[key](net.conv(x))), conv=nn.Conv2d(4, 8, 3, padding=1))
    made = assert_planned(model, (2, 4, 6, 6), {"conv": sigmoid(36, 72)})
    assert made.unsupported == ()


@pytest.mark.parametrize("inputs", [None, (1, 4, 6, 6)], ids=["no_input", "input"])
def test_super_resolution(inputs: Any):
    """Sub-pixel convolutions (Shi et al. 2016): shuffled before their activation, the last before a sigmoid."""
    model = nn.Sequential(
        nn.Conv2d(4, 16, 3, padding=1),
        nn.PixelShuffle(2),
        nn.PReLU(),
        nn.Conv2d(4, 12, 3, padding=1),
        nn.PixelShuffle(2),
        nn.Sigmoid(),
    )
    assert_planned(model, inputs, {"0": he("prelu", (1 + 0.0625) / 2, 36, weight=0.25), "3": sigmoid(36, 108)})


def test_patch_merging():
    """Swin: neighbours beside each other, a norm, and a linear layer on four times the features."""

    def forward(net: Any, x: Tensor) -> Tensor:
        x = net.proj(x)
        x = torch.cat([x[:, i::2, j::2, :] for j in (0, 1) for i in (0, 1)], -1)
        return net.head(F.gelu(net.reduction(net.norm(x))))

    model = Net(
        forward,
        proj=nn.Linear(4, 6),
        norm=nn.LayerNorm(24),
        reduction=nn.Linear(24, 12, bias=False),
        head=nn.Linear(12, 3),
    )
    expected = {
        "proj": normed(linear("weight", 4, 6)),
        "reduction": gelu(24),
        "head": linear("output", 12, 3),
    }
    assert_planned(model, (2, 8, 8, 4), expected)


@pytest.mark.parametrize("shift", [0, 1])
def test_windows_of_attention(shift: int):
    """Swin's block on (2, 4, 4, 6): roll, cut into windows of 2 x 2, attend, put back, roll back, add."""

    def forward(net: Any, x: Tensor) -> Tensor:
        y = torch.roll(net.norm(x), (-shift, -shift), (1, 2)) if shift else net.norm(x)
        y = y.view(2, 2, 2, 2, 2, 6).permute(0, 1, 3, 2, 4, 5).reshape(8, 4, 6)
        q, k, v = net.qkv(y).reshape(8, 4, 3, 2, 3).permute(2, 0, 3, 1, 4)
        scores = (q * 3**-0.5) @ k.transpose(-2, -1) + net.bias
        y = net.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(8, 4, 6))
        y = y.view(2, 2, 2, 2, 2, 6).permute(0, 1, 3, 2, 4, 5).reshape(2, 4, 4, 6)
        y = torch.roll(y, (shift, shift), (1, 2)) if shift else y
        return net.head(x + y)

    model = Net(
        forward,
        norm=nn.LayerNorm(6),
        qkv=nn.Linear(6, 18),
        bias=nn.Parameter(torch.zeros(2, 4, 4)),
        proj=nn.Linear(6, 6),
        head=nn.Linear(6, 3),
    )
    third = linear("attention", 6, 6)
    expected = {
        "qkv": parted(third, (6, third), (6, third), (6, third)),
        "proj": linear("add", 6, 6),
        "head": linear("output", 6, 3),
    }
    assert_planned(model, (2, 4, 4, 6), expected)


@pytest.mark.parametrize("inputs", [None, (2, 3, 8, 8)], ids=["no_input", "input"])
def test_decoder_with_upsampling(inputs: Any):
    """Resize, then convolve; and a skip joined by concatenation, whose layers feed the next one's weight."""

    def forward(net: Any, x: Tensor) -> Tensor:
        skip = F.leaky_relu(net.enc(x), 0.2)
        y = F.relu(net.norm(F.interpolate(net.low(F.avg_pool2d(skip, 2)), size=skip.shape[-2:], mode="bilinear")))
        return torch.tanh(net.out(torch.cat([y, net.lateral(skip)], 1)))

    model = Net(
        forward,
        enc=nn.Conv2d(3, 4, 3, padding=1),
        low=nn.Conv2d(4, 6, 3, padding=1),
        norm=nn.InstanceNorm2d(6, affine=True),
        lateral=nn.Conv2d(4, 2, 1),
        out=nn.Conv2d(8, 3, 3, padding=1),
    )
    expected = {
        "enc": he("leaky_relu", (1 + 0.04) / 2, 27, negative_slope=0.2),
        "low": normed(relu(36)),
        "lateral": linear("weight", 4, 2),
        "out": tanh(72, 27),
    }
    assert_planned(model, inputs, expected)


@pytest.mark.parametrize("inputs", [None, (1, 3, 4, 8, 8)], ids=["no_input", "input"])
def test_factorised_video_convolution(inputs: Any):
    """(2 + 1)-dimensional: space, norm, relu, time; the sum with the skip comes before the last relu."""

    def forward(net: Any, x: Tensor) -> Tensor:
        x = net.stem(x)
        y = net.time(F.relu(net.norm(net.space(x))))
        return net.head(F.relu(x + y).mean((2, 3, 4)))

    model = Net(
        forward,
        stem=nn.Conv3d(3, 4, 1),
        space=nn.Conv3d(4, 6, (1, 3, 3), padding=(0, 1, 1)),
        norm=nn.BatchNorm3d(6),
        time=nn.Conv3d(6, 4, (3, 1, 1), padding=(1, 0, 0)),
        head=nn.Linear(4, 2),
    )
    expected = {
        "stem": linear("weight", 3, 4),
        "space": normed(relu(36)),
        "time": linear("add", 18, 12),
        "head": linear("output", 4, 2),
    }
    assert_planned(model, inputs, expected)


@pytest.mark.parametrize("inputs", [None, (1, 4, 6)], ids=["no_input", "input"])
def test_vocoder_upsampling(inputs: Any):
    """HiFi-GAN's step: leaky_relu, a transposed convolution that feeds a residual block (its first convolution, past a
    leaky_relu, and the sum).
    """

    def forward(net: Any, x: Tensor) -> Tensor:
        x = net.up(F.leaky_relu(net.first(x), 0.1))
        x = x + net.res2(F.leaky_relu(net.res1(F.leaky_relu(x, 0.1)), 0.1))
        return torch.tanh(net.last(F.leaky_relu(x)))

    def leaky(fan_in: float) -> Layer:
        return he("leaky_relu", (1 + 0.01) / 2, fan_in, negative_slope=0.1)

    model = Net(
        forward,
        first=nn.Conv1d(4, 8, 7, padding=3),
        up=nn.ConvTranspose1d(8, 4, 16, stride=8, padding=4),
        res1=nn.Conv1d(4, 4, 3, padding=1),
        res2=nn.Conv1d(4, 4, 3, padding=3, dilation=3),
        last=nn.Conv1d(4, 1, 7, padding=3),
    )
    expected = {
        "first": leaky(28),
        "up": mixed(leaky(8 * 2)),
        "res1": leaky(12),
        "res2": linear("add", 12, 12),
        "last": tanh(28, 7),
    }
    assert_planned(model, inputs, expected)
