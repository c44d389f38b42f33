"""Weights that their module computes: weight_norm, spectral_norm and other parametrizations.

Writing one gives its effective weight the values drawn where the parametrization can express them, and keeps it
parametrised:

- weight_norm, w = g v / |v|: v takes the values and g its norms, so that w = v.
- spectral_norm, w = v / sigma(v): v takes the values. The norm fixes the scale of w, whatever that of v; about
  1 / (sqrt(out) + sqrt(in)) for independent values. The vectors of the power iteration, which are of no use for
  another matrix, are iterated anew from where they are, as often as torch does at construction; nothing is drawn.
- any other: the values go through `right_inverse`, as in `module.weight = values`. What comes out at the other end
  is the parametrization's own affair (one may normalise, mask or project), so it is measured there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.weight_norm import WeightNorm

from autoinit.errors import PlanError, words_of
from autoinit.models import ModelView, WeightStorage
from autoinit.models.storage import hook_of, parametrizations_of
from autoinit.tracing.rng import untouched_generators
from autoinit.writing import sampling

ITERATED = 0.99
ALIKE = 0.01
"""Norms that differ by no more than this are those of one scale, which a power iteration does not give exactly."""
POWER_ITERATIONS = 15
"""As in the constructor of torch.nn.utils.parametrizations.spectral_norm."""


def effective_weight(view: ModelView, stored: WeightStorage) -> torch.Tensor | None:
    """The weight as forward reads it; None on the meta device, and where a program without modules computes it.

    Runs no hidden random number and moves no buffer.
    """
    source = view.parameters[stored.param].detach()
    if source.is_meta or (stored.kind == "parametrized" and not view.has_modules):
        return None
    if stored.kind == "weight_norm":
        return source * (view.parameters[stored.magnitude].detach() / _norms(view, stored))
    if stored.kind == "spectral_norm":
        matrix, u, v = _spectral_parts(view, stored, source)
        sigma = float(source.norm() if u is None or v is None else _largest(matrix, u, v))
        return source / sigma if sigma else source
    if stored.kind == "parametrized":
        return _effective(view, stored)
    return source


def fixes_scale(view: ModelView, stored: WeightStorage) -> bool:
    """Whether the weight has the same scale whatever that of its originals; changes nothing.

    So under spectral_norm. Any other parametrization is tried on originals twice as large; where it refuses them, on
    the meta device, and without modules, as in an exported program, it is taken to pass scales on.
    """
    if stored.kind != "parametrized":
        return stored.kind == "spectral_norm"
    if not view.has_modules or view.parameters[stored.param].is_meta:
        return False
    parametrizations, _ = _parametrizations(view, stored)
    twice = {name: 2 * original.detach() for name, original in parametrizations.named_parameters(recurse=False)}
    with torch.no_grad(), _unmoved(parametrizations), untouched_generators():
        try:
            doubled = torch.func.functional_call(parametrizations, twice)
        except (RuntimeError, ValueError):
            return False
    once = float(_effective(view, stored).norm())
    return once > 0 and math.isclose(float(doubled.norm()), once, rel_tol=ALIKE)


def effective_shape(view: ModelView, stored: WeightStorage) -> tuple[int, ...]:
    """Shape of the weight as forward reads it."""
    return tuple(_effective(view, stored).shape)


def inverse(
    view: ModelView, stored: WeightStorage, draw: sampling.Draw, like: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """What the originals of a parametrization must be for the effective weight to be as drawn.

    Args:
        view: of the model where the weight is.
        stored: how it is stored.
        draw: its values.
        like: one of its originals, for dtype and device.

    Raises:
        PlanError: the parametrization has no inverse, or refuses.
    """
    parametrizations, label = _parametrizations(view, stored)
    values: torch.Tensor | Sequence[torch.Tensor]
    values = torch.empty(draw.shape, dtype=like.dtype, device=like.device)
    sampling.fill_all_of(values, draw)
    with torch.no_grad(), untouched_generators(draw.seed % 2**63):
        try:
            for each in reversed(list(parametrizations)):
                values = each.right_inverse(values)  # type: ignore[operator]
        except (RuntimeError, ValueError, NotImplementedError) as error:
            raise PlanError(
                f"{stored.weight}: {label} cannot take the weight that is planned ({words_of(error)}). Leave the "
                f"layer out (skip=), or write it before it is parametrised."
            ) from error
    return (values,) if isinstance(values, torch.Tensor) else tuple(values)


def check_invertible(view: ModelView, stored: WeightStorage) -> None:
    """Raises PlanError where a parametrization has no `right_inverse`."""
    if not view.has_modules:
        raise PlanError(
            f"{stored.weight}: an exported program has no modules, so its parametrization cannot be inverted. Write "
            f"the model before it is exported, or leave the layer out (skip=)."
        )
    parametrizations, label = _parametrizations(view, stored)
    if not all(hasattr(each, "right_inverse") for each in parametrizations):
        raise PlanError(
            f"{stored.weight}: its parametrization {label} has no right_inverse, so no weight can be assigned to it. "
            f"Define right_inverse, leave the layer out (skip=), or write it before it is parametrised."
        )


def refresh(view: ModelView, stored: WeightStorage) -> None:
    """Brings what depends on the parameter just written up to date: g, the vectors u and v, a hook's attribute."""
    if stored.kind == "weight_norm":
        view.parameters[stored.magnitude].detach().copy_(_norms(view, stored))
    elif stored.kind == "spectral_norm":
        matrix, u, v = _spectral_parts(view, stored, view.parameters[stored.param].detach())
        if u is not None and v is not None:
            _iterate(matrix, u, v)
    if stored.hooked:
        module, leaf = owner(view, stored)
        hook = hook_of(module, leaf)
        with torch.enable_grad():
            fresh = hook.compute_weight(module) if isinstance(hook, WeightNorm) else hook.compute_weight(module, False)
        setattr(module, leaf, fresh)


def buffers(view: ModelView, stored: WeightStorage) -> list[tuple[nn.Module, str]]:
    """The buffers that writing the weight can move."""
    if stored.kind == "spectral_norm" and stored.hooked:
        module, leaf = owner(view, stored)
        return [(module, f"{leaf}_u"), (module, f"{leaf}_v")]
    if stored.kind in ("spectral_norm", "parametrized"):
        parametrizations, _ = _parametrizations(view, stored)
        return [(module, name) for module in parametrizations.modules() for name in module._buffers]
    return []


def _iterate(matrix: torch.Tensor, u: torch.Tensor, v: torch.Tensor) -> None:
    for _ in range(POWER_ITERATIONS):
        v.copy_(functional.normalize(matrix.T @ u, dim=0, eps=1e-12))
        u.copy_(functional.normalize(matrix @ v, dim=0, eps=1e-12))


def _largest(matrix: torch.Tensor, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The spectral norm as forward has it.

    Iterating ends with u along `matrix @ v` and v along `matrix.T @ u`; before it, either may be random. A single
    output's u is 1 or -1, so that v alone tells.
    """
    reached = max(float((matrix @ v).norm()), float((matrix.T @ u).norm()))
    if float(u @ (matrix @ v)) < ITERATED * reached:
        u, v = u.clone(), v.clone()
        _iterate(matrix, u, v)
    return u @ (matrix @ v)


def owner(view: ModelView, stored: WeightStorage) -> tuple[nn.Module, str]:
    """The module that holds the weight, and the weight's attribute there."""
    path, _, leaf = stored.weight.rpartition(".")
    return view.submodule(path), leaf


def _parametrizations(view: ModelView, stored: WeightStorage) -> tuple[nn.utils.parametrize.ParametrizationList, str]:
    module, leaf = owner(view, stored)
    found = parametrizations_of(module, leaf)
    return found, " after ".join(type(each).__name__ for each in reversed(list(found)))


def _norms(view: ModelView, stored: WeightStorage) -> torch.Tensor:
    """The norms of v over the axes on which g has one entry."""
    v, g = view.parameters[stored.param].detach(), view.parameters[stored.magnitude].detach()
    axes = [axis for axis in range(v.dim()) if g.dim() == 0 or g.shape[axis] == 1]
    norms = torch.linalg.vector_norm(v, dim=axes, keepdim=True) if axes else v.abs()
    return norms.reshape(g.shape)


def _spectral_parts(
    view: ModelView, stored: WeightStorage, source: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """(the weight as the matrix whose norm is taken, u, v); no vectors for a weight of one axis."""
    module, leaf = owner(view, stored)
    if stored.hooked:
        axis = int(hook_of(module, leaf).dim)
        u, v = getattr(module, f"{leaf}_u"), getattr(module, f"{leaf}_v")
    else:
        norm = parametrizations_of(module, leaf)[0]
        if source.dim() == 1:
            return source[None], None, None
        axis, u, v = int(norm.dim), norm._u, norm._v  # type: ignore[arg-type]
    return source.movedim(axis, 0).flatten(1), u, v


def _effective(view: ModelView, stored: WeightStorage) -> torch.Tensor:
    parametrizations, _ = _parametrizations(view, stored)
    with torch.no_grad(), _unmoved(parametrizations), untouched_generators():
        weight = parametrizations()
    assert isinstance(weight, torch.Tensor)
    return weight


@contextmanager
def _unmoved(module: nn.Module) -> Iterator[None]:
    """Puts the module's buffers back: a parametrization may move its own in forward, as spectral_norm does."""
    kept = [
        (each, name, old, old.clone())
        for each in module.modules()
        for name, old in each._buffers.items()
        if old is not None
    ]
    try:
        yield
    finally:
        for each, name, old, copy in kept:
            each._buffers[name] = old
            old.copy_(copy)
