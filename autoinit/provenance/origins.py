"""Origin: what last wrote a parameter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from autoinit.tracing.dataflow import SourceLine


@dataclass(frozen=True)
class Origin:
    """What last wrote all values of a parameter, and what was done to them since.

    Attributes:
        function: `torch.nn.init.kaiming_uniform_`, `Tensor.normal_`, `torch.randn`, `copy_` (of values with no recorded
            origin), `load_state_dict`, `to_empty`, `timm.layers.weight_init.trunc_normal_`, ...
        arguments: numbers, strings and bools of the call by name, defaults included.
        source: the innermost line outside torch, autoinit and the initialiser itself; None if there is none.
        default: whether a module of torch.nn made the call itself, as it was constructed or reset.
        then: later changes in order: `mul_(0.1)`, `clamp_(-2, 2)`, `row 0 fill_(0)`.
        factor: product of the numbers that all values were multiplied with since.
    """

    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    source: SourceLine | None = None
    default: bool = False
    then: tuple[str, ...] = ()
    factor: float = 1.0

    @property
    def call(self) -> str:
        """The call, without its module: `kaiming_uniform_(a=2.236, mode=fan_in, nonlinearity=leaky_relu)`.

        A method of a tensor goes without names: `fill_(0)`.
        """
        holder, _, name = self.function.rpartition(".")
        bare = holder == "Tensor"
        texts = [shown(value) if bare else f"{key}={shown(value)}" for key, value in self.arguments.items()]
        return f"{name}({', '.join(texts)})"

    def changed(self, text: str, factor: float = 1.0) -> Origin:
        """The origin after one more change; `factor` is what it multiplied all values with."""
        return replace(self, then=(*self.then, text), factor=self.factor * factor)

    def __str__(self) -> str:
        steps = "".join(f", then {step}" for step in self.then)
        default = ", torch's default" if self.default else ""
        return f"{self.call}{default}{steps}"


def shown(value: Any) -> str:
    """An argument in a text: floats to four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
