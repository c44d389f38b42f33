"""What parameters, buffers and constants are while a signal is propagated: small stand-ins for what is not there."""

from __future__ import annotations

import math

import torch

from autoinit.models import ModelView
from autoinit.ops import Role, Trait
from autoinit.plans.layers import LayerPlan
from autoinit.plans.mirror import Mirror
from autoinit.plans.plan import Plan
from autoinit.tensors.pairs import has_single_taps, without_partners
from autoinit.tracing.dataflow import Dataflow, Op, ParamUse
from autoinit.writing.reparametrised import effective_weight
from autoinit.writing.sampling import fill

MOST_DRAWN = 1 << 24
"""Elements of the largest weight that is drawn as a whole, for an operation without a rule."""


class TooLargeError(Exception):
    """A weight would have to be drawn as a whole."""


class Values:
    """Stands in for the tensors that a model holds.

    Planned weights are known by their std alone. Other parameters have their values, where there are some. A
    parameter on the meta device has none: a factor becomes 1, a term 0, and `notes` says so.
    """

    def __init__(self, view: ModelView, dataflow: Dataflow, plan: Plan | None, generator: torch.Generator) -> None:
        self.view = view
        self.notes: dict[str, None] = {}
        self._generator = generator
        self._constants = {
            str(node.target): node.meta["constant"]
            for node in dataflow.fx.nodes
            if node.op == "get_attr" and isinstance(node.meta.get("constant"), torch.Tensor)
        }
        self._planned = {layer.param: layer for layer in plan.layers if layer.status == "planned"} if plan else {}
        self._zeroed = {bias for layer in self._planned.values() for bias in layer.biases}
        self._factors = _factors(dataflow)
        self._parametrised = _parametrised(dataflow)
        self._known: dict[str, torch.Tensor] = {}
        self.sigmas: dict[str, torch.Tensor] = {}
        self._paired: dict[str, bool] = {}
        self.mirrors = {name: layer.mirror for name, layer in self._planned.items() if layer.mirror is not None}

    def set_sigma(self, param: str, sigma: torch.Tensor) -> None:
        """Give a weight an std of its own: one number, or one for each of its output rows."""
        self.sigmas[param] = sigma
        self._known.pop(param, None)

    def set_mirror(self, param: str, mirror: Mirror) -> None:
        """Have a weight drawn as a mirrored one."""
        self.mirrors[param] = mirror
        self._known.pop(param, None)

    def has_pairs(self, use: ParamUse) -> bool:
        """Whether a weight starts mirrored, with features in pairs of opposite sign or with single taps.

        What it gives are no independent fields then.
        """
        if use.name in self.mirrors:
            return True
        if use.name not in self._paired:
            own = use.layout is not None and not use.transform and use.name not in self._planned
            tensor = self.view.parameters[use.name]
            axes = use.layout.axes if own and use.layout and not tensor.is_meta else ""
            self._paired[use.name] = bool(axes) and (
                without_partners(tensor, axes) is not tensor or has_single_taps(tensor.detach(), axes)
            )
        return self._paired[use.name]

    def sigma(self, use: ParamUse) -> torch.Tensor:
        """Root mean square of the weight as the operation sees it: a scalar, or one for each of its output rows."""
        if use.name not in self.sigmas:
            self.sigmas[use.name] = self._sigma(use)
        factor = 1.0 if use.factor is None else use.factor
        return self.sigmas[use.name] * (factor or 1.0)

    def _sigma(self, use: ParamUse) -> torch.Tensor:
        layer = self._planned.get(use.name)
        if layer is not None:
            return _planned_sigma(layer)
        tensor = self._held(use.name)
        if tensor.is_meta:
            return torch.tensor(self._assumed(use.name, 0.0, "has no value and no plan: taken as zero"))
        axes = [axis for axis, letter in enumerate(use.layout.axes) if letter != "o"] if use.layout else []
        grouped = use.layout is None or use.layout.transposed or "b" in use.layout.axes
        if grouped or len(axes) in (0, tensor.dim()):
            return _root_mean_square(tensor)
        count = math.prod(tensor.shape[axis] for axis in axes)
        return _norms(tensor, axes).flatten() / math.sqrt(count)

    def _held(self, name: str) -> torch.Tensor:
        """A parameter's value; that of a module's weight as the module computes it from its parametrization."""
        tensor = self.view.parameters[name].detach()
        if name not in self._parametrised or tensor.is_meta:
            return tensor
        weight = effective_weight(self.view, self.view.storage(name))
        return tensor if weight is None else weight

    def _assumed(self, name: str, value: float, what: str) -> float:
        self.notes[f"{name} {what}"] = None
        return value

    def of(self, op: Op) -> torch.Tensor:
        """The value of a parameter or buffer operation."""
        name = str(op.constants["name"])
        if op.op == "parameter" and name in self.view.parameters:
            return self.parameter(name)
        if name not in self._known:
            self._known[name] = self._buffer(name)
        return self._known[name]

    def parameter(self, name: str) -> torch.Tensor:
        """A parameter's value: drawn where it is planned, zero where it is a planned layer's bias."""
        if name not in self._known:
            self._known[name] = self._parameter(name)
        return self._known[name]

    def _parameter(self, name: str) -> torch.Tensor:
        tensor = self.view.parameters[name].detach()
        if name in self._zeroed:
            return torch.zeros(tensor.shape, dtype=tensor.dtype)
        if name in self._planned or name in self.sigmas:
            return self._drawn(name)
        if not tensor.is_meta:
            return tensor.cpu()
        value = 1.0 if name in self._factors else 0.0
        self._assumed(name, value, f"has no value: taken as {value:g}")
        return torch.full(tensor.shape, value, dtype=tensor.dtype)

    def table(self, use: ParamUse, ids: torch.Tensor, *, fresh: bool) -> torch.Tensor:
        """Rows of an embedding table: its own where it has values, else drawn, one for each different token.

        fresh: draw one for each place, whatever the ids.
        """
        tensor = self._held(use.name)
        own = use.name not in self._planned and use.name not in self.sigmas and not tensor.is_meta
        if own and not fresh:
            return tensor[ids.to(tensor.device)].cpu()
        scale = self._table_scale(use.name, tensor)
        if fresh:
            return self._normal((*ids.shape, tensor.shape[-1])).mul_(scale).to(tensor.dtype)
        tokens, places = torch.unique(ids, return_inverse=True)
        return self._normal((len(tokens), tensor.shape[-1])).mul_(scale).to(tensor.dtype)[places]

    def _table_scale(self, name: str, tensor: torch.Tensor) -> float:
        if name in self.sigmas:
            return float(self.sigmas[name].square().mean().sqrt())
        if name in self._planned:
            return self._planned[name].std
        if tensor.is_meta:
            return self._assumed(name, 1.0, "has no value: rows drawn from N(0, 1), torch's default for embeddings")
        return float(_root_mean_square(tensor))

    def _normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.empty(shape).normal_(generator=self._generator)

    def _drawn(self, name: str) -> torch.Tensor:
        """A weight with the std that it is to have.

        Raises:
            TooLargeError: it has more elements than are ever drawn.
        """
        tensor = self.view.parameters[name]
        if tensor.numel() > MOST_DRAWN:
            raise TooLargeError(f"{name} has {tensor.numel():,} elements; up to {MOST_DRAWN:,} are drawn")
        if name in self.mirrors:
            return self._mirrored(name, tensor)
        values = self._normal(tuple(tensor.shape))
        layer = self._planned.get(name)
        sigma = self.sigmas[name] if name in self.sigmas or layer is None else _planned_sigma(layer)
        if sigma.numel() == 1 or layer is None:
            values *= float(sigma.square().mean().sqrt())
        else:
            _scale_rows(values, layer.axes, sigma)
        return values.to(tensor.dtype)

    def _mirrored(self, name: str, like: torch.Tensor) -> torch.Tensor:
        """A mirrored weight: its units are no independent draws, so that no rule of mean-field theory holds."""
        layer = self._planned[name]
        made = torch.empty(like.shape, dtype=like.dtype)
        fill(made, distribution=layer.distribution, std=layer.std, seed=0, name=name, axes=layer.axes,
             mirror=self.mirrors[name])  # fmt: skip
        return made

    def of_module(self, op: Op, *, biased: bool = True) -> dict[str, torch.Tensor]:
        """The parameters of the module that an operation calls, by their names in it; weights drawn."""
        found = {}
        for use in op.params:
            local = use.name.removeprefix(f"{op.module}.") if use.name.startswith(f"{op.module}.") else use.slot
            value = self.parameter(use.name)
            found[local] = torch.zeros_like(value) if use.slot == "bias" and not biased else value
        return found

    def _buffer(self, name: str) -> torch.Tensor:
        held = self.view.tensors.get(name, self._constants.get(name))
        if held is None:
            raise KeyError(f"{name} is no parameter, buffer or constant of the model")
        if held.is_meta:
            self._assumed(name, 0.0, "has no value: taken as 0")
            return torch.zeros(held.shape, dtype=held.dtype)
        return held.detach().cpu().clone()


def _root_mean_square(tensor: torch.Tensor) -> torch.Tensor:
    """Of all elements, without a copy of them; summed row by row, since one long sum loses small terms."""
    rows = tensor.flatten(1) if tensor.dim() > 1 else tensor[:, None]
    return (_norms(rows, [1]).square().mean() / rows.shape[1]).sqrt()


def _norms(tensor: torch.Tensor, axes: list[int]) -> torch.Tensor:
    dtype = torch.promote_types(tensor.dtype, torch.float32)
    norms: torch.Tensor = torch.linalg.vector_norm(tensor, dim=axes, dtype=dtype)
    return norms.float()


def _planned_sigma(layer: LayerPlan) -> torch.Tensor:
    if not layer.slices:
        return torch.tensor(float(layer.std))
    count = max(stop for part in layer.slices for _, stop in part.rows)
    sigma = torch.zeros(count)
    for part in layer.slices:
        for start, stop in part.rows:
            sigma[start:stop] = part.std
    return sigma


def _scale_rows(values: torch.Tensor, letters: str, sigma: torch.Tensor) -> None:
    """Multiply the output rows of a weight by their stds."""
    outputs = [axis for axis, letter in enumerate(letters) if letter == "o"]
    others = [axis for axis in range(values.dim()) if axis not in outputs]
    order = [*outputs, *others]
    sizes = [values.shape[axis] for axis in order]
    scaled = values.permute(order).reshape(sigma.numel(), -1) * sigma[:, None]
    values.copy_(scaled.reshape(sizes).permute([order.index(axis) for axis in range(values.dim())]))


def _factors(dataflow: Dataflow) -> set[str]:
    """Names of parameters that multiply the signal, wherever they are used first."""
    found = set()
    for op in dataflow.graph.nodes:
        multiplies = op.role is Role.NORM or Trait.SCALING in op.traits
        for slot, operand in op.operands.items():
            if operand.op == "parameter" and multiplies and slot != "bias":
                found.add(str(operand.constants["name"]))
    return found


def _parametrised(dataflow: Dataflow) -> set[str]:
    """Names of the parameters from which a module of the table makes its weight; what functions do to theirs is run."""
    modules = (op for op in dataflow.graph.nodes if op.is_module)
    return {use.name for op in modules for use in op.params if use.transform}
