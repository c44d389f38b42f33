"""What an operation is: one canonical name and one role, whatever its spelling.

To add an activation, see `theory.activations`. To add another operation, add one `register_op` call to the file that
its role names: `nonlinearities`, `norms`, `pooling`, `shapes`, `combining`, `weights` or `sources`.
"""

from autoinit.ops import combining, nonlinearities, norms, pooling, shapes, sources, weights
from autoinit.ops.registry import REGISTRY, Acts, NamedOperator, OpSpec, WeightSlot, register_op
from autoinit.ops.roles import Role, Trait
from autoinit.ops.weights import WEIGHTED_SUM, recurrent_gates
from autoinit.theory.activations import Fact

__all__ = [
    "REGISTRY",
    "WEIGHTED_SUM",
    "Acts",
    "Fact",
    "NamedOperator",
    "OpSpec",
    "Role",
    "Trait",
    "WeightSlot",
    "combining",
    "nonlinearities",
    "norms",
    "pooling",
    "recurrent_gates",
    "register_op",
    "shapes",
    "sources",
    "weights",
]
