"""What models show of the recipe that they follow, beside their stds."""

from __future__ import annotations

from collections.abc import Sequence

from autoinit.recipes.registry import Measured


def attends(parts: Sequence[Measured]) -> bool:
    """Whether at least one weight in eight leads to attention."""
    return 8 * sum(part.facts.reason == "attention" for part in parts) >= len(parts)


def sees(parts: Sequence[Measured]) -> bool:
    """Whether it attends, and has convolutions."""
    return attends(parts) and any(part.facts.is_conv for part in parts)


def has_depth(parts: Sequence[Measured]) -> bool:
    """Whether a residual stream with several branches runs through it."""
    return any(part.facts.ends_branch and part.facts.branches > 1 for part in parts)
