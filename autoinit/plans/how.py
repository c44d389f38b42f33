"""How a plan is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from autoinit.tensors.placing import LocalLayout

Rest = Literal["keep", "reset"]
"""What becomes of what a plan does not write: it stays, or takes the values of its module's `reset_parameters`."""


@dataclass(frozen=True)
class How:
    """How a plan is written, beside the seed.

    Attributes:
        measure: whether to tell the statistics before and after.
        force: whether to write a model that looks trained.
        rest: what becomes of what the plan does not write; see `Rest`.
        partial: whether the model may lack layers, as a stage of a pipeline does.
        layout: what a process holds of a parameter, where tensors do not tell.
    """

    measure: bool = True
    force: bool = False
    rest: Rest = "keep"
    partial: bool = False
    layout: LocalLayout | None = None

    @property
    def alike(self) -> tuple[object, ...]:
        """What must be the same in all processes."""
        return self.measure, self.force, self.rest, self.partial
