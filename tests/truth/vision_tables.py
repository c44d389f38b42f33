"""Convolutional torchvision models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torchvision.models
from torch import nn

from tests.truth.cases import Case
from tests.truth.rows import (
    ADD,
    HARDSIGMOID,
    HARDSWISH,
    OUTPUT,
    RELU,
    RELU6,
    SIGMOID,
    SILU,
    WEIGHT,
    WEIGHT_AND_ADD,
    Row,
    normed,
)

Table = dict[str, Row]


def build(name: str, **arguments: Any) -> nn.Module:
    """A torchvision model on the meta device."""
    with torch.device("meta"):
        model: nn.Module = getattr(torchvision.models, name)(**arguments)
    return model


def image() -> tuple[torch.Tensor]:
    return (torch.empty(2, 3, 224, 224, device="meta"),)


def resnet18() -> Table:
    """Basic blocks: conv, norm, relu, conv, norm, added to the input or its 1x1 projection; then a relu."""
    table = {"conv1": normed(RELU)}
    for stage in range(1, 5):
        for block in range(2):
            table[f"layer{stage}.{block}.conv1"] = normed(RELU)
            table[f"layer{stage}.{block}.conv2"] = normed(ADD)
        if stage > 1:
            table[f"layer{stage}.0.downsample.0"] = normed(ADD)
    table["fc"] = OUTPUT
    return table


def resnet50() -> Table:
    """Bottlenecks: two rectified convolutions and a third that is added; every stage begins with a projection."""
    table = {"conv1": normed(RELU)}
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            table[f"layer{stage}.{block}.conv1"] = normed(RELU)
            table[f"layer{stage}.{block}.conv2"] = normed(RELU)
            table[f"layer{stage}.{block}.conv3"] = normed(ADD)
        table[f"layer{stage}.0.downsample.0"] = normed(ADD)
    table["fc"] = OUTPUT
    return table


def vgg16_bn() -> Table:
    """Each convolution takes three places (conv, norm, relu) in `features`, each max-pooling one."""
    table: Table = {}
    place = 0
    for convolutions in (2, 2, 3, 3, 3):
        for _ in range(convolutions):
            table[f"features.{place}"] = normed(RELU)
            place += 3
        place += 1
    return table | {"classifier.0": RELU, "classifier.3": RELU, "classifier.6": OUTPUT}


def _projections(residual: list[bool]) -> Iterator[Row]:
    """What the last convolution of each inverted residual feeds.

    A residual block adds it. Otherwise the next block's first convolution reads it and, where the next block is
    residual, an addition as well. A norm lies before either.
    """
    for block, adds in enumerate(residual):
        next_adds = block + 1 < len(residual) and residual[block + 1]
        yield normed(ADD if adds else WEIGHT_AND_ADD if next_adds else WEIGHT)


def mobilenet_v2() -> Table:
    """Inverted residuals: (1x1 expansion, relu6,) depthwise, relu6, 1x1 projection without activation."""
    table = {"features.0.0": normed(RELU6)}
    repeats = (1, 2, 3, 4, 3, 3, 1)
    # the first block of a group changes the width and is not residual; the others are
    residual = [repeat > 0 for count in repeats for repeat in range(count)]
    for block, projection in enumerate(_projections(residual), start=1):
        convs = f"features.{block}.conv"
        table[f"{convs}.0.0"] = normed(RELU6)
        if block > 1:
            table[f"{convs}.1.0"] = normed(RELU6)
        table[f"{convs}.{1 if block == 1 else 2}"] = projection
    return table | {"features.18.0": normed(RELU6), "classifier.1": OUTPUT}


def mobilenet_v3_small() -> Table:
    """Inverted residuals with squeeze-and-excitation: its fc1 feeds a relu, its fc2 a hardsigmoid."""
    rectified, hard = normed(RELU), normed(HARDSWISH)
    # (has an expansion, has squeeze-and-excitation, activation, is residual)
    blocks = [
        (False, True, rectified, False),  # 16 -> 16, stride 2
        (True, False, rectified, False),  # 16 -> 24, stride 2
        (True, False, rectified, True),  # 24 -> 24
        (True, True, hard, False),  # 24 -> 40, stride 2
        (True, True, hard, True),  # 40 -> 40
        (True, True, hard, True),  # 40 -> 40
        (True, True, hard, False),  # 40 -> 48
        (True, True, hard, True),  # 48 -> 48
        (True, True, hard, False),  # 48 -> 96, stride 2
        (True, True, hard, True),  # 96 -> 96
        (True, True, hard, True),  # 96 -> 96
    ]
    table = {"features.0.0": hard}
    projections = _projections([adds for *_, adds in blocks])
    for number, ((expands, squeezes, act, _), projection) in enumerate(zip(blocks, projections, strict=True), 1):
        place = 0
        for _ in range(1 + expands):
            table[f"features.{number}.block.{place}.0"] = act
            place += 1
        if squeezes:
            table[f"features.{number}.block.{place}.fc1"] = RELU
            table[f"features.{number}.block.{place}.fc2"] = HARDSIGMOID
            place += 1
        table[f"features.{number}.block.{place}.0"] = projection
    return table | {"features.12.0": hard, "classifier.0": HARDSWISH, "classifier.3": OUTPUT}


def efficientnet_b0() -> Table:
    """MBConv: (expansion, silu,) depthwise, silu, squeeze-and-excitation, projection (stochastic depth, add)."""
    table = {"features.0.0": normed(SILU)}
    repeats = (1, 2, 2, 3, 3, 4, 1)
    projections = _projections([repeat > 0 for count in repeats for repeat in range(count)])
    for stage, count in enumerate(repeats, start=1):
        for repeat in range(count):
            block = f"features.{stage}.{repeat}.block"
            place = 0
            for _ in range(1 if stage == 1 else 2):
                table[f"{block}.{place}.0"] = normed(SILU)
                place += 1
            table[f"{block}.{place}.fc1"] = SILU
            table[f"{block}.{place}.fc2"] = SIGMOID
            table[f"{block}.{place + 1}.0"] = next(projections)
    return table | {"features.8.0": normed(SILU), "classifier.1": OUTPUT}


def densenet121() -> Table:
    """Pre-activation: whatever a convolution gives, every reader concatenates it, normalises it and rectifies it."""
    table = {"features.conv0": normed(RELU)}
    for block, layers in enumerate((6, 12, 24, 16), start=1):
        for layer in range(1, layers + 1):
            table[f"features.denseblock{block}.denselayer{layer}.conv1"] = normed(RELU)
            table[f"features.denseblock{block}.denselayer{layer}.conv2"] = normed(RELU)
        if block < 4:
            table[f"features.transition{block}.conv"] = normed(RELU)
    table["classifier"] = OUTPUT
    return table


def googlenet() -> Table:
    """Every convolution is normalised and rectified; both auxiliary heads run in training."""
    convs = ["conv1", "conv2", "conv3", "aux1.conv", "aux2.conv"]
    for block in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        branches = ("branch1", "branch2.0", "branch2.1", "branch3.0", "branch3.1", "branch4.1")
        convs += [f"inception{block}.{branch}" for branch in branches]
    table = {f"{conv}.conv": normed(RELU) for conv in convs}
    for aux in ("aux1", "aux2"):
        table |= {f"{aux}.fc1": RELU, f"{aux}.fc2": OUTPUT}
    return table | {"fc": OUTPUT}


def _case(table: Callable[[], Table], **arguments: Any) -> Case:
    name = table.__name__
    symbolic = name != "efficientnet_b0"  # torchvision wraps stochastic depth so that torch.fx cannot see into it
    return Case(name, partial(build, name, **arguments), image, table, symbolic=symbolic)


VISION_CASES = (
    _case(resnet18),
    _case(resnet50),
    _case(vgg16_bn),
    _case(mobilenet_v2),
    _case(mobilenet_v3_small),
    _case(efficientnet_b0),
    _case(densenet121),
    _case(googlenet, init_weights=False),
)
