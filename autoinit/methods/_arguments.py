"""Numbers between a weight and its nonlinearity: it is the argument of the nonlinearity that is to have variance 1."""

from __future__ import annotations

import torch

from autoinit.resolving import SliceResolution, resolve
from autoinit.tracing.dataflow import Dataflow


def argument_factors(dataflow: Dataflow) -> dict[str, torch.Tensor]:
    """1 / |c| for the weights that feed phi(c z), by parameter: one number, or one for each output row."""
    found: dict[str, torch.Tensor] = {}
    for each in resolve(dataflow):
        parts = each.slices or (SliceResolution(((0, 1),), each.ending),)
        factor = torch.ones(max(stop for part in parts for _, stop in part.rows))
        for part in parts:
            for start, stop in part.rows:
                factor[start:stop] = 1 / abs(part.ending.before)
        if bool((factor != 1).any()):
            found[each.param] = factor
    return found
