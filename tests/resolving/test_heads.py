"""What a classifier's last layer feeds: softmax in whichever form, a sigmoid, or nothing but the output."""

from __future__ import annotations

import math

import pytest
import torch

import autoinit
from autoinit.resolving import resolve
from autoinit.tracing import trace
from tests.shared.models.heads import (
    CLASSES,
    FEATURES,
    HIDDEN,
    LINEAR_LOSSES,
    OUTPUT_ENDS,
    SIGMOID_ENDS,
    SOFTMAX_ENDS,
    SOFTMAX_LOSSES,
    Classifier,
    Trained,
)
from tests.truth import rows_of
from tests.truth.rows import OUTPUT, RELU, SIGMOID, SOFTMAX

BATCH = torch.linspace(-1, 1, 3 * FEATURES).view(3, FEATURES)
LABELS = torch.tensor([0, 1, 2])
TARGETS = torch.zeros(3, CLASSES)

ENDS = [
    pytest.param(end, head, id=name)
    for ends, head in ((SOFTMAX_ENDS, SOFTMAX), (OUTPUT_ENDS, OUTPUT), (SIGMOID_ENDS, SIGMOID))
    for name, end in ends.items()
]
LOSSES = [
    pytest.param(loss, target, head, id=name)
    for losses, target, head in ((SOFTMAX_LOSSES, LABELS, SOFTMAX), (LINEAR_LOSSES, TARGETS, OUTPUT))
    for name, loss in losses.items()
]


@pytest.mark.parametrize("tier", [None, "symbolic", "recorded"])
@pytest.mark.parametrize(("end", "head"), ENDS)
def test_head_by_its_end(end, head, tier):
    assert rows_of(resolve(trace(Classifier(end), tier=tier))) == {"fc": RELU, "head": head}


@pytest.mark.parametrize(("end", "head"), ENDS)
def test_head_of_an_exported_program(end, head):
    program = torch.export.export(Classifier(end), (BATCH,))
    assert rows_of(resolve(trace(program))) == {"fc": RELU, "head": head}


@pytest.mark.parametrize("tier", ["symbolic", "recorded"])
@pytest.mark.parametrize(("loss", "target", "head"), LOSSES)
def test_head_by_its_loss(loss, target, head, tier):
    assert rows_of(resolve(trace(Trained(loss), (BATCH, target), tier=tier))) == {"fc": RELU, "head": head}


@pytest.mark.parametrize(("loss", "target", "head"), LOSSES)
def test_head_by_its_loss_in_an_exported_program(loss, target, head):
    program = torch.export.export(Trained(loss), (BATCH, target))
    assert rows_of(resolve(trace(program))) == {"fc": RELU, "head": head}


@pytest.mark.parametrize(("end", "head"), ENDS)
def test_head_is_xavier_with_gain_one(end, head):
    layer = autoinit.plan(Classifier(end))["head"]
    assert (layer.scheme, layer.gain) == ("xavier", 1.0)
    assert layer.reason == head.reason
    assert layer.std == pytest.approx(math.sqrt(2 / (HIDDEN + CLASSES)), rel=1e-12)


@pytest.mark.parametrize(("loss", "target", "head"), LOSSES)
def test_head_with_a_loss_is_xavier_with_gain_one(loss, target, head):
    layer = autoinit.plan(Trained(loss), example_inputs=(BATCH, target))["head"]
    assert (layer.scheme, layer.gain) == ("xavier", 1.0)
    assert layer.std == pytest.approx(math.sqrt(2 / (HIDDEN + CLASSES)), rel=1e-12)


def test_logits_that_feed_an_activation_and_the_output_are_mixed():
    resolutions = {each.name: each for each in resolve(trace(Classifier(lambda logits: (logits, logits.relu()))))}
    head = resolutions["head"]
    assert (head.nonlinearity, str(head.reason)) == ("relu", "mixed")
    found = {(each.nonlinearity, str(each.reason)) for each in head.alternatives}
    assert found == {("linear", "output"), ("relu", "activation")}
