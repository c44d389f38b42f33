"""A weight operation whose weights are random: a Gaussian field forward, and one for the gradient backward.

Forward (Poole et al. 2016, eq. 3 and 5): given its input, an output feature is Gaussian over the draw of the weights;
second moments are sigma^2 times the sum over the window and the features of the inputs' second moments, correlations
between rows are the inputs'. Backward (Schoenholz et al. 2017, eq. 11 and the independence of forward and backward
weights that it assumes): the gradient of an input is Gaussian in the same way, with the transposed map.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from autoinit.signal.predicting.fields import (
    TINY,
    Axes,
    Covariance,
    covariance,
    draw,
    matched,
    row_moments,
    second_moment,
)
from autoinit.signal.predicting.linear_maps import LinearMap, Mixed, Spread


def drawn_output(
    x: torch.Tensor, linear: LinearMap, sigma: torch.Tensor, shape: tuple[int, ...], generator: torch.Generator
) -> torch.Tensor:
    """An output of the operation, with a gradient.

    Args:
        x: its input.
        linear: how it maps it.
        sigma: std of the weights: a scalar, or one for each output feature, in a shape that fits the output's view.
        shape: of the output.
        generator: of random numbers.
    """
    drawn: torch.Tensor = _MeanField.apply(x, linear, sigma, shape, generator)  # type: ignore[no-untyped-call]
    return drawn


def unit_moment(x: torch.Tensor, linear: LinearMap) -> float:
    """The output's second moment for weights of variance 1."""
    view = x.detach().float().reshape(linear.opened)
    # All samples, and all groups, are spread alike.
    moments = row_moments(view, linear.into)
    alike = linear.into.of("bg")
    if alike:
        moments = moments.mean(dim=alike, keepdim=True)
    return float(linear.spread(moments * linear.features_in()).mean())


FLAT = 1e-3
"""Relative spread of the rows' second moments up to which they count as equal."""


class _MeanField(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        linear: LinearMap,
        sigma: torch.Tensor,
        shape: tuple[int, ...],
        generator: torch.Generator,
    ) -> torch.Tensor:
        ctx.linear, ctx.sigma, ctx.generator, ctx.of = linear, sigma, generator, (tuple(x.shape), x.dtype)
        view = x.detach().float().reshape(linear.opened)
        made = _field(
            view, linear.into, linear.made, linear.out, linear.spread, linear.kept, linear.features_in(), sigma,
            generator, linear.mixed,
        )  # fmt: skip
        return made.reshape(shape).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        linear: LinearMap = ctx.linear
        shape, dtype = ctx.of
        gradient, sigma = grads[0].detach().float().reshape(linear.made), ctx.sigma
        if sigma.numel() > 1:
            gradient, sigma = gradient * sigma, torch.ones(())
        adjoint = _adjoint(linear)
        made = _field(
            gradient, linear.out, linear.opened, linear.into, adjoint, linear.kept_back, linear.features_out(), sigma,
            ctx.generator,
        )  # fmt: skip
        return made.reshape(shape).to(dtype), None, None, None, None


def _field(
    view: torch.Tensor,
    into: Axes,
    made: tuple[int, ...],
    out: Axes,
    spread: Spread,
    kept: float,
    features: int,
    sigma: torch.Tensor,
    generator: torch.Generator,
    mixed: Mixed | None = None,
) -> torch.Tensor:
    """What weights of this std make of a tensor, by sums over so many features."""
    moments = row_moments(view, into)
    profile = spread(_over_samples(moments, into) * features).clamp_min_(0)
    least, most = (float(each) for each in torch.aminmax(moments))
    flat = most - least <= FLAT * most
    if most <= TINY:
        return torch.zeros(made)
    if not math.isfinite(most):
        return torch.full(made, math.inf)
    rows = view if flat else view * moments.clamp_min(TINY).rsqrt()
    unit = _correlations(rows, moments, into, flat=flat)
    wanted = Covariance(1.0, unit.position * kept, unit.sample, unit.apart * kept)
    whole = float(profile.mean())
    scale = profile.sqrt_()
    if mixed is None:
        z = draw(made, out, wanted, generator)
    else:
        z = matched(mixed(view, generator) / scale.clamp_min(TINY), out, wanted)
    field = z.mul_(scale)
    found = second_moment(field)
    # Rows that count for more may have come out larger or smaller than the average row.
    return field.mul_(sigma * (math.sqrt(whole / found) if found > TINY else 1.0))


def _over_samples(moments: torch.Tensor, axes: Axes) -> torch.Tensor:
    """Averaged over samples, which are drawn alike, unless other rows are zero in some of them.

    What samples of few features differ by would else grow from layer to layer, as it does in no wide network.
    """
    samples = axes.of("b")
    if not samples or moments.shape[samples[0]] == 1:
        return moments
    present = moments > TINY
    if not bool((present == present.narrow(samples[0], 0, 1)).all()):
        return moments
    return moments.mean(dim=samples, keepdim=True)


def _correlations(rows: torch.Tensor, moments: torch.Tensor, axes: Axes, *, flat: bool) -> Covariance:
    """Of rows of equal second moments; rows that are zero (padding of tokens) take no part."""
    found = covariance(rows, axes)
    if flat:
        return found.over(found.own)
    present = (moments > TINY).to(rows.dtype)
    pairs = covariance(present, axes)
    return Covariance(
        1.0,
        *(
            part / share if share > TINY else 0.0
            for part, share in (
                (found.position, pairs.position),
                (found.sample, pairs.sample),
                (found.apart, pairs.apart),
            )
        ),
    )


def _adjoint(linear: LinearMap) -> Spread:
    """The transposed map of profiles: by differentiation, since it is linear."""

    def back(profile: torch.Tensor) -> torch.Tensor:
        alone = "cb" if linear.out.size(profile.shape, "b") == 1 else "c"
        shape = [
            1 if letter in alone else size for size, letter in zip(linear.opened, linear.into.letters, strict=True)
        ]
        with torch.enable_grad():
            start = torch.zeros(shape, requires_grad=True)
            reached = linear.spread(start)
            if reached is start:
                return profile
            (gathered,) = torch.autograd.grad(reached, start, profile)
        return gathered

    return back
