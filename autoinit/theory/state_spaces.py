"""How selective state spaces start (Gu & Dao 2023, section 3.6; state-spaces/mamba, modules/mamba_simple.py)."""

import math
from functools import cache

SHORTEST, LONGEST = 0.001, 0.1
"""The steps between which the first ones are drawn, uniformly on a logarithmic scale."""
_POINTS = 4096


def step_bias(share: float) -> float:
    """The number whose softplus is the step that so large a share of all steps is below."""
    step = SHORTEST * math.pow(LONGEST / SHORTEST, share)
    return step + math.log(-math.expm1(-step))


@cache
def step_bias_moments() -> tuple[float, float]:
    """Mean and std of `step_bias` over all shares, by the midpoint rule."""
    values = [step_bias((number + 0.5) / _POINTS) for number in range(_POINTS)]
    mean = math.fsum(values) / _POINTS
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / _POINTS)


def log_counts(count: int) -> list[float]:
    """The numbers log 1, ..., log n: how fast the states of one channel decay, on a logarithmic scale (S4D-Real)."""
    return [math.log(number) for number in range(1, count + 1)]
