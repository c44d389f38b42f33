"""What weights really do to a signal: second moments of their inputs and outputs in one forward."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from autoinit.tracing.guessing import guessed_inputs
from autoinit.tracing.inputs import Inputs

MATRICES = {
    torch.ops.aten.mm.default: (0, 1),
    torch.ops.aten.bmm.default: (0, 1),
    torch.ops.aten.addmm.default: (1, 2),
    torch.ops.aten.baddbmm.default: (1, 2),
}
"""Where the two factors stand among the arguments."""


class NotRunError(Exception):
    """The model runs on none of the inputs that can be guessed for it."""


@dataclass
class Moments:
    """Second moments around one weight, means over its uses.

    entering: of what it is multiplied with. leaving: of what comes out, one for each output feature.
    """

    entering: float = 0.0
    leaving: torch.Tensor = field(default_factory=lambda: torch.zeros(()))
    uses: int = 0

    def add(self, given: torch.Tensor, made: torch.Tensor, axis: int) -> None:
        """One use more. axis: of the output features in what comes out."""
        other = [each for each in range(made.dim()) if each != axis % made.dim()]
        leaving = made.detach().float().square().mean(other) if other else made.detach().float().square()
        entering = float(given.detach().float().square().mean())
        self.uses += 1
        share = 1 / self.uses
        self.entering += share * (entering - self.entering)
        self.leaving = self.leaving + share * (leaving - self.leaving)

    def out(self, rows: tuple[tuple[int, int], ...] = ()) -> float:
        """The second moment of what comes out, of these output features or all."""
        chosen = torch.cat([self.leaving[start:stop] for start, stop in rows]) if rows else self.leaving
        return float(chosen.mean())


def second_moments(model: nn.Module, batch: int) -> tuple[Mapping[str, Moments], str]:
    """Moments by parameter name, of one forward in training mode on Gaussian inputs, and the inputs' shapes.

    Dropout and stochastic depth are off. The model's buffers change.

    Raises:
        NotRunError: the model runs on none of the inputs that can be guessed for it.
    """
    model.train()
    for module in model.modules():
        if any(word in type(module).__name__.lower() for word in ("drop", "stochastic")) and not _holds(module):
            module.eval()
    failures = []
    for guess in guessed_inputs(model):
        inputs = _batched(guess, batch)
        try:
            with torch.no_grad(), _watched(model) as found:
                model(*inputs.args, **inputs.kwargs)
        except Exception as error:  # noqa: BLE001 - what a forward raises on a wrong guess is not known
            failures.append(f"{type(error).__name__}: {error}")
        else:
            return found, ", ".join(str(tuple(each.shape)) for each in _tensors(inputs))
    raise NotRunError(failures[0] if failures else "no input could be guessed")


def _holds(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _tensors(inputs: Inputs) -> list[torch.Tensor]:
    return [each for each in (*inputs.args, *inputs.kwargs.values()) if isinstance(each, torch.Tensor)]


def _batched(inputs: Inputs, batch: int) -> Inputs:
    """Gaussian inputs of another batch size, drawn from a seed of their own; integers as guessed."""
    generator = torch.Generator().manual_seed(0)

    def drawn(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.dim() < 2:
            return value
        return torch.empty((batch, *value.shape[1:]), dtype=value.dtype).normal_(generator=generator)

    kwargs = {name: drawn(value) for name, value in inputs.kwargs.items()}
    return Inputs(tuple(drawn(value) for value in inputs.args), kwargs, inputs.origin)


@contextmanager
def _watched(model: nn.Module) -> Iterator[dict[str, Moments]]:
    """Moments of every weight that is used inside: as an operand, else (standardised weights) as its module's."""
    found: dict[str, Moments] = {}
    by_module: dict[str, Moments] = {}
    hooks = []
    for path, module in model.named_modules():
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
            param = f"{path}.weight".lstrip(".")
            axis = -1 if isinstance(module, nn.Linear) else 1

            def note(_: nn.Module, given: Any, made: Any, param: str = param, axis: int = axis) -> None:
                if given and isinstance(made, torch.Tensor):
                    by_module.setdefault(param, Moments()).add(given[0], made, axis)

            hooks.append(module.register_forward_hook(note))
    try:
        with _Operands(model, found):
            yield found
    finally:
        for hook in hooks:
            hook.remove()
    for param, moments in by_module.items():
        found.setdefault(param, moments)


class _Operands(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the products and convolutions that have a parameter, or a view of one, as an operand."""

    def __init__(self, model: nn.Module, found: dict[str, Moments]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = found
        self.names = {
            parameter.untyped_storage().data_ptr(): name
            for name, parameter in model.named_parameters()
            if parameter.dim() >= 2 and not parameter.is_meta
        }

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default:
            self._note(args[1], args[0], made, 1)
        elif func in MATRICES:
            first, second = (args[at] for at in MATRICES[func])
            self._note(second, first, made, -1)
            self._note(first, second, made, -2)
        return made

    def _note(self, weight: torch.Tensor, given: torch.Tensor, made: torch.Tensor, axis: int) -> None:
        name = self.names.get(weight.untyped_storage().data_ptr())
        if name is not None:
            self.found.setdefault(name, Moments()).add(given, made, axis)


def off(value: float) -> bool:
    """Whether a power is outside [1/4, 4], or no number at all."""
    return not (math.isfinite(value) and 0.25 <= value <= 4)
