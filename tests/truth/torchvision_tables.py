"""Torchvision's other kinds: segmentation, detection, video and optical flow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torchvision.models import detection, optical_flow, segmentation, video
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from tests.truth.cases import Case
from tests.truth.rows import (
    ADD,
    ATTENTION,
    GATE,
    HARDSIGMOID,
    HARDSWISH,
    OUTPUT,
    RELU,
    SIGMOID,
    SOFTMAX,
    TANH,
    WEIGHT,
    WEIGHT_AND_ADD,
    Row,
    Runs,
    activation,
    normed,
    parted,
)
from tests.truth.vision_tables import resnet50

Table = dict[str, Row]


def on_meta(build: Callable[..., nn.Module], **arguments: Any) -> nn.Module:
    with torch.device("meta"):
        return build(**arguments)


def images(*shape: int, count: int = 1) -> tuple[torch.Tensor, ...]:
    return (torch.empty(shape, device="meta"),) * count


# Segmentation: a backbone without its classifier, and heads on some of its stages.


def resnet50_body(prefix: str) -> Table:
    """ResNet-50 less its classifier. A stage's output leaves after the relu, so that nothing else changes."""
    return {f"{prefix}.{name}": row for name, row in resnet50().items() if name != "fc"}


def fcn_head(prefix: str) -> Table:
    """A normalised and rectified convolution, dropout, and class scores that are resampled and returned."""
    return {f"{prefix}.0": normed(RELU), f"{prefix}.4": OUTPUT}


def fcn_resnet50() -> Table:
    """Long et al. 2015: a head on the last stage, and in training another on the last but one."""
    return resnet50_body("backbone") | fcn_head("classifier") | fcn_head("aux_classifier")


def mobilenet_v3_large_body() -> Table:
    """Howard et al. 2019, table 1.

    A residual block's projection is added. The next block's first convolution reads another one's, and nearly always
    an addition as well; segmentation heads that read it, too, begin with a convolution.
    """
    rectified, hard = normed(RELU), normed(HARDSWISH)
    # (expands, squeezes, activation, is residual) of the fifteen blocks
    blocks = [
        (False, False, rectified, True),  # 16 -> 16
        (True, False, rectified, False),  # 16 -> 24, stride 2
        (True, False, rectified, True),
        (True, True, rectified, False),  # 24 -> 40, stride 2: the segmentation heads' low level
        (True, True, rectified, True),
        (True, True, rectified, True),
        (True, False, hard, False),  # 40 -> 80, stride 2
        (True, False, hard, True),
        (True, False, hard, True),
        (True, False, hard, True),
        (True, True, hard, False),  # 80 -> 112
        (True, True, hard, True),
        (True, True, hard, False),  # 112 -> 160, stride 2, here dilated in its place
        (True, True, hard, True),
        (True, True, hard, True),
    ]
    table = {"backbone.0.0": hard, "backbone.16.0": hard}
    for number, (expands, squeezes, act, adds) in enumerate(blocks, start=1):
        places = iter(range(4))
        for _ in range(1 + expands):
            table[f"backbone.{number}.block.{next(places)}.0"] = act
        if squeezes:
            place = next(places)
            table[f"backbone.{number}.block.{place}.fc1"] = RELU
            table[f"backbone.{number}.block.{place}.fc2"] = HARDSIGMOID
        table[f"backbone.{number}.block.{next(places)}.0"] = normed(ADD if adds else WEIGHT_AND_ADD)
    return table


def lraspp_mobilenet_v3_large() -> Table:
    """Howard et al. 2019, section 6.4: the high level, gated by a sigmoid of its pooled self, and the low level each
    give class scores, which are added."""
    head = {"cbr.0": normed(RELU), "scale.1": SIGMOID, "low_classifier": ADD, "high_classifier": ADD}
    return mobilenet_v3_large_body() | {f"classifier.{name}": row for name, row in head.items()}


def deeplabv3_mobilenet_v3_large() -> Table:
    """Chen et al. 2017: five dilated branches side by side, concatenated, projected and convolved, all rectified.

    The fifth pools its input first. An auxiliary head reads the low level.
    """
    convs = ["0.convs.0.0", "0.convs.1.0", "0.convs.2.0", "0.convs.3.0", "0.convs.4.1", "0.project.0", "1"]
    table = mobilenet_v3_large_body() | {f"classifier.{conv}": normed(RELU) for conv in convs}
    return table | {"classifier.4": OUTPUT} | fcn_head("aux_classifier")


# Detection: traced in evaluation, since training asks for boxes. No loss is computed then, scores are.


def frozen(table: Table) -> Table:
    """Norms whose statistics are constants normalise nothing: they multiply and add constants."""
    return {name: replace(row, normalised=False) for name, row in table.items()}


def box_deltas(boxes: int, shift: Row, size: Row) -> Row:
    """Two shifts and two log sizes for each of some boxes (Girshick et al. 2014, appendix C).

    A shift is multiplied by the size of the box that it starts from, then added to that box's centre, then to half the
    new size. A log size is cut off at log(1000 / 16) = 4.1 and exponentiated.
    """

    def every_fourth(first: int) -> Runs:
        return tuple((row, row + 1) for row in range(first, 4 * boxes, 4))

    slices = [(every_fourth(first), row) for first, row in enumerate((shift, shift, size, size))]
    return Row(size.nonlinearity, "mixed", slices=tuple(slices))


def anchor_deltas(anchors: int) -> Row:
    """Size and place of an anchor are constants, so that the first other signal that a shift meets is half the new
    size. The cut-off is in reach: exp with it is a function without a name."""
    return box_deltas(anchors, ADD, activation("custom"))


def proposal_deltas(classes: int) -> Row:
    """The sizes of proposals are themselves predicted. Log sizes come in fifths, so that 4.1 is out of reach."""
    return box_deltas(classes, GATE, activation("exp"))


def pyramid(levels: int) -> Table:
    """Lin et al. 2017: the top lateral convolution is read by its output convolution and, resampled, added to the next
    lateral one; these are added at once. Output convolutions are read by the heads' first layers."""
    table: Table = {}
    for level in range(levels):
        table[f"backbone.fpn.inner_blocks.{level}.0"] = WEIGHT if level == levels - 1 else ADD
        table[f"backbone.fpn.layer_blocks.{level}.0"] = WEIGHT
    return table


def fasterrcnn_resnet50_fpn() -> Table:
    """Ren et al. 2015 on a pyramid: proposals with a sigmoid score each, pooled regions with a softmax score each.

    Three anchors at each place, three classes.
    """
    heads = {
        "rpn.head.conv.0.0": RELU,
        "rpn.head.cls_logits": SIGMOID,
        "rpn.head.bbox_pred": anchor_deltas(3),
        "roi_heads.box_head.fc6": RELU,
        "roi_heads.box_head.fc7": RELU,
        "roi_heads.box_predictor.cls_score": SOFTMAX,
        "roi_heads.box_predictor.bbox_pred": proposal_deltas(3),
    }
    return frozen(resnet50_body("backbone.body")) | pyramid(4) | heads


def retinanet_resnet50_fpn() -> Table:
    """Lin et al. 2017b: on every level of the pyramid, four rectified convolutions before scores and before boxes.

    Two more levels are made from the last one: `p6` is read by the heads as it is and by `p7` rectified. Nine anchors
    at each place.
    """
    table = frozen(resnet50_body("backbone.body")) | pyramid(3)
    table |= {"backbone.fpn.extra_blocks.p6": Row("relu", "mixed"), "backbone.fpn.extra_blocks.p7": WEIGHT}
    for head in ("classification_head", "regression_head"):
        table |= {f"head.{head}.conv.{number}.0": RELU for number in range(4)}
    table["head.classification_head.cls_logits"] = SIGMOID
    table["head.regression_head.bbox_reg"] = anchor_deltas(9)
    return table


def build_faster_rcnn() -> nn.Module:
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None)
    return detection.FasterRCNN(backbone, num_classes=3, min_size=64, max_size=64)


def build_retinanet() -> nn.Module:
    levels = {"returned_layers": [2, 3, 4], "extra_blocks": LastLevelP6P7(256, 256)}
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, **levels)
    return detection.RetinaNet(backbone, num_classes=3, min_size=64, max_size=64)


# Video


def r2plus1d_18() -> Table:
    """Tran et al. 2018: each convolution in space is normalised and rectified, then one in time follows.

    What follows that is ResNet-18's: a norm and a relu, or a norm and the addition.
    """
    table = {"stem.0": normed(RELU), "stem.3": normed(RELU)}
    for stage in range(1, 5):
        for block in range(2):
            place = f"layer{stage}.{block}"
            table |= {f"{place}.conv1.0.{number}": normed(RELU) for number in (0, 3)}
            table |= {f"{place}.conv2.0.0": normed(RELU), f"{place}.conv2.0.3": normed(ADD)}
        if stage > 1:
            table[f"layer{stage}.0.downsample.0"] = normed(ADD)
    table["fc"] = OUTPUT
    return table


def s3d() -> Table:
    """Xie et al. 2018: Inception blocks whose convolutions part into space and time; each is normalised and rectified.

    The scores of all places are averaged.
    """
    convs = ["0.0", "0.1", "2", "3.0", "3.1"]
    for block in (5, 6, 8, 9, 10, 11, 12, 14, 15):
        branches = ["branch0", "branch3.1"]
        for branch in ("branch1", "branch2"):
            branches += [f"{branch}.0", f"{branch}.1.0", f"{branch}.1.1"]
        convs += [f"{block}.{branch}" for branch in branches]
    return {f"features.{conv}.0": normed(RELU) for conv in convs} | {"classifier.1": OUTPUT}


# Optical flow


def raft_encoder(prefix: str, norm: Callable[[Row], Row], last: Row) -> Table:
    """A stem, three stages of two bottlenecks whose convolutions are all rectified, and a 1x1 convolution.

    The second and third stage begin with a projection that is added.
    """
    table = {f"{prefix}.convnormrelu.0": norm(RELU), f"{prefix}.conv": last}
    for stage in (1, 2, 3):
        for block in range(2):
            convs = (f"{prefix}.layer{stage}.{block}.convnormrelu{number}.0" for number in (1, 2, 3))
            table |= dict.fromkeys(convs, norm(RELU))
        if stage > 1:
            table[f"{prefix}.layer{stage}.0.downsample.0"] = norm(ADD)
    return table


def raft_small() -> Table:
    """Teed & Deng 2020, appendix A, the small model.

    Features of both images are multiplied, each place with each. The context parts into the first state of a
    recurrent unit (tanh) and its constant input (relu). The unit, a GRU of convolutions, is called twelve times; what
    it finds is added to the flow.
    """
    context = parted(Row("relu", "mixed"), (96, TANH), (64, RELU))
    update = {
        "motion_encoder.convcorr1.0": RELU,
        "motion_encoder.convflow1.0": RELU,
        "motion_encoder.convflow2.0": RELU,
        "motion_encoder.conv.0": RELU,
        "recurrent_block.convgru1.convz": SIGMOID,
        "recurrent_block.convgru1.convr": SIGMOID,
        "recurrent_block.convgru1.convq": TANH,
        "flow_head.conv1": RELU,
        "flow_head.conv2": ADD,
    }
    table = raft_encoder("feature_encoder", normed, ATTENTION)
    table |= raft_encoder("context_encoder", lambda row: row, context)
    return table | {f"update_block.{name}": row for name, row in update.items()}


def _case(
    table: Callable[[], Table],
    build: Callable[..., nn.Module],
    inputs: Callable[[], tuple[torch.Tensor, ...]],
    *,
    symbolic: bool = False,
    **arguments: Any,
) -> Case:
    return Case(table.__name__, partial(on_meta, build, **arguments), inputs, table, symbolic=symbolic)


SEGMENTED = partial(images, 2, 3, 64, 64)
DETECTED = partial(images, 1, 3, 64, 64)
FILMED = partial(images, 1, 3, 16, 64, 64)
FILMED_LARGE = partial(images, 1, 3, 16, 224, 224)
COMPARED = partial(images, 1, 3, 128, 128, count=2)
BARE: dict[str, Any] = {"weights": None, "weights_backbone": None}

CASES = (
    _case(fcn_resnet50, segmentation.fcn_resnet50, SEGMENTED, aux_loss=True, **BARE, symbolic=True),
    _case(lraspp_mobilenet_v3_large, segmentation.lraspp_mobilenet_v3_large, SEGMENTED, **BARE, symbolic=True),
    _case(
        deeplabv3_mobilenet_v3_large,
        segmentation.deeplabv3_mobilenet_v3_large,
        SEGMENTED,
        aux_loss=True,
        **BARE,
        symbolic=True,
    ),
    _case(fasterrcnn_resnet50_fpn, build_faster_rcnn, DETECTED),
    _case(retinanet_resnet50_fpn, build_retinanet, DETECTED),
    _case(r2plus1d_18, video.r2plus1d_18, FILMED, symbolic=True),
    _case(s3d, video.s3d, FILMED_LARGE, symbolic=True),
    _case(raft_small, optical_flow.raft_small, COMPARED),
)
