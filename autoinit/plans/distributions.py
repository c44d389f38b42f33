"""Distributions that a weight's values can be drawn from: one table, for options, errors, commands and the sampler.

To add one: its name and its row here, and its function in `writing.elementwise`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Distribution = Literal["normal", "uniform", "truncated_normal", "orthogonal"]
RecipeDistribution = Distribution | Literal["truncated_normal_3", "step_bias", "log_counts", "constant"]
"""Those and what only published recipes write."""


@dataclass(frozen=True)
class DistributionRow:
    """A distribution of mean 0.

    Attributes:
        help: what it is.
        elements: `module:function`, called with random integers (int32, uniform over all) and an array of as many
            float32 numbers, to which it gives values of unit std; empty where whole matrices are drawn.
    """

    help: str
    elements: str = ""

    @property
    def by_element(self) -> bool:
        """Whether each value is drawn on its own, so that any part of a weight can be filled apart."""
        return bool(self.elements)


DISTRIBUTIONS: Mapping[Distribution, DistributionRow] = {
    "normal": DistributionRow("N(0, std^2)", "autoinit.writing.elementwise:normal"),
    "uniform": DistributionRow("within sqrt(3) std of zero", "autoinit.writing.elementwise:uniform"),
    "truncated_normal": DistributionRow(
        "normal, cut at two of its standard deviations, and of the planned std after the cut",
        "autoinit.writing.elementwise:truncated_normal",
    ),
    "orthogonal": DistributionRow("part of a random orthogonal matrix, scaled to the std"),
}
RECIPE_DISTRIBUTIONS: Mapping[RecipeDistribution, DistributionRow] = {
    **dict[RecipeDistribution, DistributionRow](DISTRIBUTIONS.items()),
    "truncated_normal_3": DistributionRow(
        "normal, cut at three of its standard deviations, and of the planned std after the cut",
        "autoinit.writing.elementwise:truncated_normal_3",
    ),
    "step_bias": DistributionRow(
        "what softplus makes steps of, log-uniform from 0.001 to 0.1 (Mamba)", "autoinit.writing.elementwise:step_bias"
    ),
    "log_counts": DistributionRow("log 1, log 2, ... along the last axis", "autoinit.writing.elementwise:constant"),
    "constant": DistributionRow("one value throughout", "autoinit.writing.elementwise:constant"),
}
