"""Oracles: a count by hand, real operations on Gaussian signals, and torch.nn.init where it is right."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F
from torch.nn.init import _calculate_fan_in_and_fan_out as torch_fans

from autoinit.errors import ArgumentError
from autoinit.theory.fans import Fans, fans
from autoinit.theory.layouts import Layout


@pytest.mark.parametrize(
    ("layout", "shape", "expected"),
    [
        (Layout("oi"), (7, 5), Fans(5, 7)),
        (Layout("io"), (5, 7), Fans(5, 7)),
        (Layout("bio"), (8, 5, 7), Fans(5, 7)),
        (Layout("boi"), (8, 7, 5), Fans(5, 7)),
        (Layout("oii"), (7, 5, 3), Fans(15, 7)),
        (Layout("ioo"), (12, 4, 3), Fans(12, 12)),  # einsum "btd,dhk->bthk"
        (Layout("iio"), (4, 3, 10), Fans(12, 10)),  # einsum "bthk,hkd->btd"
        (Layout("oik"), (8, 4, 3), Fans(12, 24)),
        (Layout("oikk"), (8, 4, 3, 5), Fans(60, 120)),
        (Layout("oikkk"), (8, 4, 3, 3, 3), Fans(108, 216)),
        (Layout("oikk", stride_area=4), (8, 4, 3, 3), Fans(36, 18)),
        (Layout("oikk", groups=2), (8, 4, 3, 3), Fans(36, 36)),
        (Layout("oikk", groups=8), (8, 1, 3, 3), Fans(9, 9)),  # depthwise
        (Layout("oikk", groups=2, stride_area=4), (8, 4, 3, 3), Fans(36, 9)),
        (Layout("oikk", stride_area=256), (768, 3, 16, 16), Fans(768, 768)),  # patch embedding
        (Layout("iokk", transposed=True), (4, 8, 3, 3), Fans(36, 72)),
        (Layout("iokk", stride_area=4, transposed=True), (4, 8, 4, 4), Fans(16, 128)),
        (Layout("iokk", groups=2, stride_area=4, transposed=True), (4, 8, 4, 4), Fans(8, 128)),
        (Layout("oi"), (0, 5), Fans(5, 0)),
    ],
)
def test_fans_counted_by_hand(layout, shape, expected):
    assert fans(layout, shape) == expected


@pytest.mark.parametrize(
    ("layout", "shape", "rows", "expected"),
    [
        (Layout("oi"), (12, 4), [(4, 8)], Fans(4, 4)),  # one of q, k, v
        (Layout("io"), (4, 12), [(0, 4)], Fans(4, 4)),
        (Layout("ioo"), (12, 3, 4), [(0, 2), (3, 6)], Fans(12, 5)),
        (Layout("oikk", stride_area=4), (8, 4, 3, 3), [(0, 2)], Fans(36, 4.5)),
        (Layout("iokk", stride_area=4, transposed=True), (4, 8, 4, 4), [(6, 8)], Fans(16, 32)),
    ],
)
def test_rows_take_the_place_of_the_outputs(layout, shape, rows, expected):
    assert fans(layout, shape, rows) == expected


@pytest.mark.parametrize(
    ("layout", "shape", "rows", "expected"),
    [
        (Layout("oikk", groups=16), (16, 1, 3, 3), [(0, 8)], Fans(9, 9)),  # NAFNet: one output channel of each group
        (Layout("oikk", groups=12), (12, 1, 3, 3), [(4, 8)], Fans(9, 9)),  # Restormer: keys of q, k, v
        (Layout("oikk", groups=2), (8, 4, 3, 3), [(0, 4)], Fans(36, 36)),  # the first group, whole
        (Layout("oikk", groups=2), (8, 4, 3, 3), [(2, 6)], Fans(36, 18)),  # half of each
        (Layout("oikk", groups=2), (8, 4, 3, 3), [(0, 2), (3, 5)], Fans(36, 18)),  # 3 rows of one, 1 of the other
        (Layout("oikk", groups=4, stride_area=4), (8, 1, 3, 3), [(0, 1), (2, 3)], Fans(9, 2.25)),  # first of each pair
        (Layout("iokk", groups=2, transposed=True), (4, 8, 3, 3), [(8, 16)], Fans(18, 72)),  # the second group of 8
        (Layout("iokk", groups=4, transposed=True), (4, 1, 3, 3), [(0, 2)], Fans(9, 9)),
    ],
)
def test_rows_of_a_grouped_convolution_count_their_own_groups(layout, shape, rows, expected):
    """fan_out: rows of the slice over the groups that hold some of them, times kernel area, over stride area."""
    assert fans(layout, shape, rows) == expected


def test_a_slice_of_a_grouped_convolution_has_the_gradient_of_its_groups():
    """Half of a depthwise convolution: away from the borders each of its inputs reaches 9 outputs."""
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(64, 1, 3, 3, generator=generator)
    x = torch.randn(64, 64, 12, 12, generator=generator).requires_grad_()
    y = F.conv2d(x, weight, padding=1, groups=64)[:, :32]
    (gradient,) = torch.autograd.grad(y, x, torch.randn(y.shape, generator=generator))
    inside = gradient[:, :32, 1:-1, 1:-1].square().mean().item()
    found = fans(Layout("oikk", groups=64), weight.shape, [(0, 32)]).fan_out * weight[:32].square().mean().item()
    assert inside == pytest.approx(found, rel=0.03)


Apply = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def inner(x: torch.Tensor, dims: int, margin: int, size: int) -> torch.Tensor:
    """The last `dims` axes from `margin` on, `size` positions each: away from borders, whole periods of a stride."""
    for axis in range(x.dim() - dims, x.dim()):
        x = x.narrow(axis, margin, size)
    return x


MEASURED = {
    # name: (layout, weight shape, input shape, op, spatial dims, margin and size of outputs, of inputs)
    "linear": (Layout("oi"), (24, 40), (4000, 40), F.linear, 0, (0, 0), (0, 0)),
    "matmul": (Layout("io"), (40, 24), (4000, 40), torch.matmul, 0, (0, 0), (0, 0)),
    "experts": (Layout("bio"), (4, 40, 24), (4, 1000, 40), torch.bmm, 0, (0, 0), (0, 0)),
    "heads out": (
        *(Layout("ioo"), (40, 4, 6), (4000, 40), lambda x, w: torch.einsum("nd,dhk->nhk", x, w)),
        *(0, (0, 0), (0, 0)),
    ),
    "heads in": (
        *(Layout("iio"), (4, 10, 24), (4000, 4, 10), lambda x, w: torch.einsum("nhk,hkd->nd", x, w)),
        *(0, (0, 0), (0, 0)),
    ),
    "conv1d": (Layout("oik"), (24, 16, 5), (8, 16, 408), F.conv1d, 1, (0, 400), (4, 400)),
    "conv2d": (Layout("oikk"), (16, 12, 3, 3), (4, 12, 44, 44), F.conv2d, 2, (0, 42), (2, 40)),
    "conv2d stride 2": (
        *(Layout("oikk", stride_area=4), (16, 12, 3, 3), (4, 12, 65, 65)),
        *(lambda x, w: F.conv2d(x, w, stride=2), 2, (0, 32), (2, 60)),
    ),
    "conv2d kernel 2, stride 3": (
        *(Layout("oikk", stride_area=9), (16, 12, 2, 2), (4, 12, 62, 62)),
        *(lambda x, w: F.conv2d(x, w, stride=3), 2, (0, 21), (3, 54)),
    ),
    "conv2d grouped": (
        *(Layout("oikk", groups=4), (16, 3, 3, 3), (4, 12, 44, 44)),
        *(lambda x, w: F.conv2d(x, w, groups=4), 2, (0, 42), (2, 40)),
    ),
    "conv2d depthwise, stride 2": (
        *(Layout("oikk", groups=12, stride_area=4), (24, 1, 4, 4), (4, 12, 66, 66)),
        *(lambda x, w: F.conv2d(x, w, stride=2, groups=12), 2, (0, 32), (4, 58)),
    ),
    "conv3d": (Layout("oikkk"), (8, 6, 3, 3, 3), (2, 6, 16, 16, 16), F.conv3d, 3, (0, 14), (2, 12)),
    "conv_transpose2d": (
        *(Layout("iokk", transposed=True), (12, 16, 3, 3), (4, 12, 44, 44)),
        *(F.conv_transpose2d, 2, (2, 40), (0, 44)),
    ),
    "conv_transpose2d stride 2": (
        *(Layout("iokk", stride_area=4, transposed=True), (12, 16, 3, 3), (4, 12, 32, 32)),
        *(lambda x, w: F.conv_transpose2d(x, w, stride=2), 2, (2, 60), (0, 32)),
    ),
    "conv_transpose2d grouped": (
        *(Layout("iokk", groups=3, stride_area=4, transposed=True), (12, 4, 4, 4), (4, 12, 32, 32)),
        *(lambda x, w: F.conv_transpose2d(x, w, stride=2, groups=3), 2, (2, 60), (0, 32)),
    ),
}


@pytest.mark.parametrize("name", MEASURED)
def test_fans_are_those_of_a_real_operation(name):
    layout, shape, input_shape, apply, dims, outputs, inputs = MEASURED[name]
    generator = torch.Generator().manual_seed(11)
    weight = torch.randn(shape, generator=generator)
    # The realised mean square in place of std^2 leaves the signal as the only source of sampling error.
    variance = weight.square().mean().item()
    x = torch.randn(input_shape, generator=generator).requires_grad_()
    y = apply(x, weight)
    (gradient,) = torch.autograd.grad(y, x, torch.randn(y.shape, generator=generator))
    forward = inner(y.detach(), dims, *outputs).square().mean().item()
    backward = inner(gradient, dims, *inputs).square().mean().item()
    expected = fans(layout, shape)
    assert forward == pytest.approx(expected.fan_in * variance, rel=0.03)
    assert backward == pytest.approx(expected.fan_out * variance, rel=0.03)


def test_bilinear_fans_are_those_of_a_real_operation():
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(24, 10, 6, generator=generator)
    variance = weight.square().mean().item()
    first = torch.randn(20_000, 10, generator=generator).requires_grad_()
    second = torch.randn(20_000, 6, generator=generator).requires_grad_()
    y = F.bilinear(first, second, weight)
    upstream = torch.randn(y.shape, generator=generator)
    by_first, by_second = torch.autograd.grad(y, (first, second), upstream)
    by_product = torch.einsum("no,oij->nij", upstream, weight)
    expected = fans(Layout("oii"), weight.shape)
    assert y.square().mean().item() == pytest.approx(expected.fan_in * variance, rel=0.03)
    assert by_product.square().mean().item() == pytest.approx(expected.fan_out * variance, rel=0.03)
    assert by_first.square().mean().item() == pytest.approx(6 * expected.fan_out * variance, rel=0.03)
    assert by_second.square().mean().item() == pytest.approx(10 * expected.fan_out * variance, rel=0.03)


def test_a_slice_of_rows_has_the_gradient_of_its_rows():
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(24, 40, generator=generator)
    x = torch.randn(4000, 40, generator=generator).requires_grad_()
    y = F.linear(x, weight)[:, 6:14]
    (gradient,) = torch.autograd.grad(y, x, torch.randn(y.shape, generator=generator))
    expected = fans(Layout("oi"), weight.shape, rows=[(6, 14)]).fan_out * weight[6:14].square().mean().item()
    assert gradient.square().mean().item() == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        (Layout("oi"), (7, 5)),
        (Layout("oik"), (8, 4, 3)),
        (Layout("oikk"), (8, 4, 3, 3)),
        (Layout("oikkk"), (8, 4, 3, 3, 3)),
    ],
)
def test_torch_agrees_for_plain_linears_and_convs(layout, shape):
    assert fans(layout, shape) == Fans(*map(float, torch_fans(torch.empty(shape))))


@pytest.mark.parametrize(
    ("layout", "shape", "torch_says", "truth"),
    [
        # Transposed convolution: torch takes the output axis for the input's.
        (Layout("iokk", transposed=True), (4, 8, 3, 3), (72, 36), Fans(36, 72)),
        # Groups: torch counts the outputs of every group as reached by each input.
        (Layout("oikk", groups=8), (8, 1, 3, 3), (9, 72), Fans(9, 9)),
        # Stride: torch counts windows that the stride skips.
        (Layout("oikk", stride_area=4), (8, 4, 3, 3), (36, 72), Fans(36, 18)),
        # x @ W: torch reads W as a linear layer's (out, in).
        (Layout("io"), (5, 7), (7, 5), Fans(5, 7)),
        # Stacked experts: torch reads the first axis as outputs and the last as kernel positions.
        (Layout("bio"), (8, 5, 7), (35, 56), Fans(5, 7)),
    ],
)
def test_torch_differs_where_the_shape_does_not_say(layout, shape, torch_says, truth):
    assert torch_fans(torch.empty(shape)) == torch_says
    assert fans(layout, shape) == truth


@pytest.mark.parametrize(
    ("layout", "shape", "rows", "message"),
    [
        (Layout("oi"), (3, 4, 5), (), r"'oi' describes 2 axes, the weight has shape \(3, 4, 5\)"),
        (Layout("ox"), (3, 4), (), r"unknown axes x; expected letters of 'oikb'"),
        (Layout("oi"), (3, -4), (), r"shape \(3, -4\) has a negative size"),
        (
            Layout("oi"),
            (3, 4),
            [(0, 4)],
            r"rows=\[\(0, 4\)\] of a weight with 3 .*; expected runs within 0 to 3",
        ),
        (Layout("oi"), (3, 4), [(1, 1)], r"rows=\[\(1, 1\)\] of a weight with 3 output rows"),
        (Layout("oi"), (3, 4), [(0, 1), (2, 4)], r"rows=\[\(0, 1\), \(2, 4\)\] of a weight with 3 output rows"),
        (Layout("oi"), (3, 4), [(-1, 1)], r"rows=\[\(-1, 1\)\] of a weight with 3 output rows"),
        (Layout("oikk", groups=0), (3, 4, 1, 1), (), r"groups=0 and stride_area=1; expected at least 1 each"),
        (Layout("oikk", stride_area=0), (3, 4, 1, 1), (), r"groups=1 and stride_area=0; expected at least 1 each"),
        (Layout("oikk", groups=2), (3, 4, 1, 1), (), r"2 groups do not divide the 3 features on axis 'o'"),
        (
            *(Layout("iokk", groups=2, transposed=True), (3, 4, 1, 1), ()),
            r"2 groups do not divide the 3 features on axis 'i'",
        ),
    ],
)
def test_refuses_what_does_not_fit(layout, shape, rows, message):
    with pytest.raises(ArgumentError, match=message):
        fans(layout, shape, rows)


def test_fans_may_be_fractions():
    assert math.isclose(fans(Layout("oikk", stride_area=9), (16, 12, 2, 2)).fan_out, 64 / 9)
