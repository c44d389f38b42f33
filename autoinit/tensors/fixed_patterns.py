"""Weights that their author has set by a pattern: identities, Dirac, averaging and interpolating kernels.

No independent draws make one. A weight that is drawn is known by its first row or its first two kernels.
"""

from __future__ import annotations

import torch

_CLOSE = 1e-5
_MOST_REPEATS = 4
"""Outputs for each input in an identity: the gates of a recurrent layer."""


def fixed_pattern(weight: torch.Tensor, axes: str, groups: int = 1) -> str:
    """What a weight is, if it follows from a pattern; empty if it does not, or is on the meta device.

    Args:
        weight: its values.
        axes: what its axes are: `o` outputs, `i` inputs, `k` the kernel's.
        groups: of a convolution.
    """
    readable = weight.is_floating_point() and not weight.is_meta and weight.layout is torch.strided
    if not readable or set(axes) - set("oik") or weight.numel() < 2:
        return ""
    with torch.no_grad():
        if axes == "oi" and min(weight.shape) > 1 and bool(weight[0].all()):
            return ""  # the usual case in short
        order = [at for letter in "oik" for at, each in enumerate(axes) if each == letter]
        outputs = _product(weight, axes, "o")
        turned = weight.detach().permute(order).reshape(outputs, _product(weight, axes, "i"), -1)
        if groups > 1 and axes.startswith("i"):  # transposed: all inputs, and the outputs of one group
            turned = turned.transpose(0, 1)
        return _of_one_element(turned) or _of_one_kernel(turned, groups) or _average(turned)


def is_one_number(weight: torch.Tensor) -> bool:
    """Whether all elements are equal and not zero, as those of a gain are; False on the meta device."""
    readable = weight.is_floating_point() and not weight.is_meta and weight.layout is torch.strided
    return readable and weight.numel() > 1 and _equal(weight.detach())


def _product(weight: torch.Tensor, axes: str, letter: str) -> int:
    sizes = [size for size, axis in zip(weight.shape, axes, strict=True) if axis == letter]
    return int(torch.Size(sizes).numel())


def _of_one_element(turned: torch.Tensor) -> str:
    """An identity, a permutation or a Dirac kernel: one equal element for each output, at different inputs."""
    outputs, inputs, area = turned.shape
    if inputs * area < 2 or outputs < 2 or int(turned[0].count_nonzero()) > 1:
        return ""
    flat = turned.reshape(outputs, -1)
    filled = flat != 0
    values = flat[filled]
    if int(filled.sum(1).max()) > 1 or values.numel() < min(outputs, inputs) or not _equal(values):
        return ""
    used = filled.reshape(outputs, inputs, area).any(2).sum(0)
    if inputs > 1 and int(used.max()) > min(_MOST_REPEATS, max(1, outputs // inputs)):
        return ""
    return "a Dirac kernel" if area > 1 else "an identity"


def _of_one_kernel(turned: torch.Tensor, groups: int) -> str:
    """One kernel for each channel, the same for all: an average, an interpolation, a blur."""
    outputs, inputs, area = turned.shape
    if area < 2 or (inputs == 1 and outputs > 1 and groups != outputs):  # several equal outputs of one input: a fault
        return ""
    kernels = _kernels(turned)
    if kernels is None:
        return ""
    first = kernels[0]
    same = len(kernels) > 1 and bool((kernels == first).all())
    alone = len(kernels) == 1 and bool((first == first.flip(0)).all()) and bool((first >= 0).all())
    if not (same or alone):
        return ""
    return "an averaging kernel" if _equal(first) else "an interpolating kernel, the same for each channel"


def _kernels(turned: torch.Tensor) -> torch.Tensor | None:
    """(outputs, area): the one kernel of each output that is not zero, each of another input; None if it is not so."""
    outputs, inputs, _ = turned.shape
    if inputs == 1:
        return turned[:, 0]
    if int(turned[0].any(1).sum()) != 1:
        return None
    filled = turned.any(2)
    if int(filled.sum(1).max()) > 1 or int(filled.sum(1).min()) < 1 or int(filled.sum(0).max()) > 1:
        return None
    return turned[torch.arange(outputs, device=turned.device), filled.int().argmax(1)]


def _average(turned: torch.Tensor) -> str:
    """The mean of all inputs, or for each output that of some, which are no other output's."""
    flat = turned.reshape(len(turned), -1)
    if len(flat) > 1 and bool(flat[0].all()):  # as where it is drawn
        return ""
    filled = flat != 0
    counts = filled.sum(1, keepdim=True)
    if int(counts.min()) < 2 or int(filled.sum(0).max()) > 1:
        return ""
    return "an average" if bool(((flat * counts - filled.float()).abs() < _CLOSE).all()) else ""


def _equal(values: torch.Tensor) -> bool:
    low, high = float(values.min()), float(values.max())
    return high - low <= _CLOSE * max(abs(low), abs(high)) and high != 0
