"""What each parameter is that no plan touches, and why it is left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from autoinit.models import ModelView
from autoinit.models.storage import owner_and_weight
from autoinit.ops import Trait
from autoinit.plans.layers import LayerPlan, OtherParameter
from autoinit.resolving.noise import noise_layers
from autoinit.resolving.normalising import norm_parameters
from autoinit.tracing import Dataflow


def other_parameters(
    view: ModelView,
    kinds: Mapping[str, str],
    dataflow: Dataflow,
    layers: Sequence[LayerPlan],
    read: Mapping[str, str],
) -> Iterator[OtherParameter]:
    """Every parameter that is neither a layer's weight nor a bias that becomes zero with it, with what it is.

    read: what reads a parameter for its own sake, by name (`read_whole`).
    """
    planned = {layer.param for layer in layers}
    left = {name: f"{reader} reads it for its own sake" for name, reader in read.items()} | _left(dataflow)
    kinds = dict(kinds) | {name: "magnitude" for layer in layers for name in view.storage(layer.param).written}
    biases = {bias for layer in layers for bias in layer.biases if layer.status == "planned"}
    made = {owner_and_weight(param): param for param in planned}
    for name, parameter in view.parameters.items():
        if name not in planned and name not in biases:
            maker = name not in kinds and owner_and_weight(name) in made  # such as a LoRA that is a parametrization
            kind = "other" if maker else kinds.get(name, "uncalled")
            note = _MAKER if maker else left.get(name, _NOTES.get(kind, ""))
            yield OtherParameter(name, tuple(parameter.shape), kind, note)


def _left(dataflow: Dataflow) -> dict[str, str]:
    """Why parameters that stand in a weight's place are none to be scaled."""
    noise = {use.name: _LEFT["noise"] for op in noise_layers(dataflow).values() for use in op.params}
    return noise | {
        use.name: _LEFT[use.left].format(op=op.op, way=", ".join(use.transform) or "nothing")
        for op in dataflow.graph.nodes
        for use in op.params
        if use.left
    }


_LEFT = {
    "bent": "left as it is: {op} uses it through {way}, which is not proportional to it",
    "unsummed": "left as it is: {op} multiplies by it, and sums nothing over it",
    "mixed": "left as it is: shares mix its entries into the weight of {op}, and its axes are not told by that",
    "noise": "left as it is: it scales the noise that is added to another parameter",
}
_MAKER = "left as it is: a parametrization computes a weight with it"
_NOTES = {
    "uncalled": "no operation used it",
    "magnitude": "part of a parametrised weight, set together with it",
    "weight": "its place could not be traced back from the operation that uses it",
}


def parameter_kinds(dataflow: Dataflow) -> dict[str, str]:
    """What each parameter is, from the operations that use it."""
    kinds: dict[str, str] = {}
    for op in dataflow.graph.nodes:
        for use in op.params:
            if op.op == "parameter":
                if dataflow.graph.out_degree(op):
                    kinds.setdefault(use.name, "other")
            elif op.role.value == "norm":
                kinds[use.name] = "norm"
            elif Trait.LOOKUP in op.traits:
                kinds[use.name] = "embedding"
            elif use.slot.startswith("bias") or "_bias" in use.slot or use.slot.startswith("params."):
                kinds[use.name] = "bias"
            else:
                kinds.setdefault(use.name, "other")
        for slot, operand in op.operands.items():
            for use in operand.params if operand.op == "parameter" else ():
                if op.role.value == "norm":
                    kinds[use.name] = "norm"
                elif Trait.LOOKUP in op.traits and slot == "weight":
                    kinds[use.name] = "embedding"
                elif slot == "bias":
                    kinds[use.name] = "bias"
    return kinds | dict.fromkeys(norm_parameters(dataflow), "norm")


_READING = frozenset(
    {"det", "logdet", "slogdet", "inverse", "inv", "inv_ex", "pinverse", "pinv", "solve", "solve_ex", "lu", "lu_factor"}
    | {"lu_factor_ex", "cholesky", "cholesky_ex", "cholesky_inverse", "lstsq", "matrix_exp", "matrix_power", "eig"}
    | {"eigh", "eigvals", "eigvalsh", "svd", "svdvals", "qr", "householder_product"}
)
"""What is taken of a matrix whose values mean something: an invertible map, a metric."""


def read_whole(dataflow: Dataflow) -> dict[str, str]:
    """The parameters that such an operation takes, and the operation."""
    found: dict[str, str] = {}
    for op in dataflow.graph.nodes:
        reader = op.call.name if op.call is not None else ""
        if reader not in _READING:
            continue
        waiting, seen = list(op.operands.values()) or list(dataflow.graph.predecessors(op)), set()
        while waiting:
            here = waiting.pop()
            if here not in seen and not here.signal:
                seen.add(here)
                waiting += here.operands.values()
                found.update(dict.fromkeys((use.name for use in here.params if here.op == "parameter"), reader))
    return found
