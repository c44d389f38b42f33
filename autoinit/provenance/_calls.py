"""What a torch function does to values, read from its name and operands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from autoinit.provenance.origins import shown


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


REPLACING = _words(
    "bernoulli_ cauchy_ copy_ exponential_ fill_ geometric_ log_normal_ normal_ random_ uniform_ zero_"
) | frozenset(name for name in torch.nn.init.__all__ if name.endswith("_"))
"""Functions in place that replace every value."""

NOT_WRITING = _words(
    "as_strided_ detach_ rename_ requires_grad_ resize_ resize_as_ set_ share_memory_ squeeze_ swapaxes_ swapdims_ t_ "
    "transpose_ unsqueeze_"
)
"""Methods in place that leave the values as they are."""

KEEPING = _words(
    "__deepcopy__ __getitem__ __copy__ alias as_strided as_tensor asarray bfloat16 broadcast_to chunk clone contiguous "
    "cpu cuda detach diagonal double expand expand_as flatten flip float half index_select movedim narrow permute "
    "pin_memory ravel repeat reshape reshape_as roll select split squeeze swapaxes swapdims t tile to transpose type "
    "type_as unbind unfold unsqueeze view view_as"
)
"""Functions whose result holds values of their operand, rearranged, cast or copied."""

REPEATING = _words("repeat tile")
"""Those of them whose result holds a value several times."""

ELEMENTWISE = _words(
    "abs absolute acos add asin atan ceil clamp clamp_max clamp_min clip cos cosh div divide elu erf erfc erfinv exp "
    "exp2 expm1 floor float_power floordiv fmod frac gelu hardtanh leaky_relu log log10 log1p log2 logit masked_fill "
    "maximum minimum mod mul multiply neg negative nan_to_num pow radd rdiv reciprocal relu remainder rmul round rpow "
    "rsqrt rsub rtruediv sgn sigmoid sign silu sin sinh softplus sqrt square sub subtract tan tanh tril triu "
    "true_divide truediv trunc"
)
"""Functions that compute each value from the one in its place, by their names without underscores around them."""

_SIGNATURES: Mapping[str, tuple[tuple[str, float | None], ...]] = {
    "bernoulli_": (("p", 0.5),),
    "cauchy_": (("median", 0.0), ("sigma", 1.0)),
    "exponential_": (("lambd", 1.0),),
    "fill_": (("value", None),),
    "full": (("size", None), ("fill_value", None)),
    "full_like": (("fill_value", None),),
    "geometric_": (("p", None),),
    "log_normal_": (("mean", 1.0), ("std", 2.0)),
    "new_full": (("size", None), ("fill_value", None)),
    "normal": (("mean", 0.0), ("std", 1.0)),
    "normal_": (("mean", 0.0), ("std", 1.0)),
    "random_": (("from", None), ("to", None)),
    "uniform_": (("from", 0.0), ("to", 1.0)),
}
"""Names and defaults of the numbers that compiled functions take by position, after the tensor."""

_OF_THE_TENSOR = _words("device dtype generator layout memory_format names out pin_memory requires_grad size")
"""Arguments that say what kind of tensor is made, not which values."""


def full_name(func: Any) -> str:
    """A torch function's name as a user writes it: `torch.randn`, `Tensor.normal_`."""
    name = str(getattr(func, "__name__", func))
    module = getattr(func, "__module__", None) or "torch"
    if hasattr(func, "__objclass__") or getattr(func, "__qualname__", "").startswith("Tensor."):
        return f"Tensor.{name}"
    if module.startswith("torch._C") or module == "torch":
        return f"Tensor.{name}" if writes(name) else f"torch.{name.replace('linalg_', 'linalg.')}"
    return f"{module}.{name}"


def writes(name: str) -> bool:
    """Whether a function of this name writes to its first operand."""
    return name.endswith("_") and not name.endswith("__") and name not in NOT_WRITING


def arguments(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers, strings and bools of a call by name, defaults included where they are known."""
    positional = args[1:] if args and isinstance(args[0], torch.Tensor) else args
    signature = _SIGNATURES.get(name, ())
    found: dict[str, Any] = dict(signature)
    found.update(zip((key for key, _ in signature), positional, strict=False))
    found.update(kwargs)
    return {
        key: value
        for key, value in found.items()
        if isinstance(value, (bool, int, float, str)) and key not in _OF_THE_TENSOR
    }


def described(name: str, operands: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """A change as text: `mul_(0.1)`, `clamp_(min=-2, max=2)`, `add_(...)` for operands that are no numbers."""
    texts = [_operand(value) for value in operands]
    texts += [f"{key}={_operand(value)}" for key, value in kwargs.items() if value is not None]
    return f"{name.strip('_') + '_' * (not name.endswith('__') and name.endswith('_'))}({', '.join(texts)})"


def _operand(value: Any) -> str:
    number = scalar(value)
    if number is not None:
        return shown(number)
    return str(value) if isinstance(value, (bool, str)) else "..."


def scalar(value: Any) -> float | None:
    """A number, or the one that a tensor without axes holds; None for everything else."""
    if isinstance(value, torch.Tensor):
        if type(value) not in (torch.Tensor, torch.nn.Parameter) or value.dim() or value.device.type != "cpu":
            return None
        try:
            value = value.item()
        except RuntimeError:  # a transform of torch.func is at work, where tensors hold no values
            return None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    return None


def factor(name: str, operands: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float:
    """What a function multiplies each value of a tensor with; 1 if that is not one number.

    Args:
        name: of the function.
        operands: its operands without the tensor.
        kwargs: its keyword arguments.
    """
    root = name.strip("_")
    if root in ("neg", "negative"):
        return -1.0
    values = (*operands, *kwargs.values())
    number = scalar(values[0]) if len(values) == 1 else None
    if number is None:
        return 1.0
    if root in ("mul", "multiply", "rmul", "imul"):
        return number
    if root in ("div", "divide", "true_divide", "truediv", "itruediv") and number:
        return 1.0 / number
    return 1.0


def item(values: Any, position: int) -> Any:
    """What of an operand belongs to one of the tensors that a call writes to: an item of a list, else all of it."""
    return values[position] if isinstance(values, (list, tuple)) and position < len(values) else values


def tensors_in(values: Any) -> Iterator[torch.Tensor]:
    """Tensors of a value, or of the lists, tuples and dicts that it consists of."""
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from tensors_in(value)
    elif isinstance(values, Mapping):
        yield from tensors_in(list(values.values()))
