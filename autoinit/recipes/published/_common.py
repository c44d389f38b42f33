"""What several recipes have in common: He's, Xavier's and torch's own stds, and what most leave unsaid."""

from __future__ import annotations

import math

from autoinit.facts import Facts
from autoinit.ops import recurrent_gates
from autoinit.recipes.starts import ZERO, Start, constant, normal, uniform
from autoinit.theory.fans import Mode


def usual(facts: Facts) -> Start | None:
    """Biases at zero, norms as the identity; nothing of anything else."""
    if facts.kind == "bias":
        return ZERO
    if facts.kind in ("norm_gain", "norm_shift"):
        return constant(facts.neutral)
    return None


def unstrided_fan_out(facts: Facts) -> float:
    """The fan_out of He et al. 2015, eq. 14, and of torch.nn.init, but with its groups: the stride does not count."""
    return facts.fan_out * (1 if facts.layout.transposed else facts.layout.stride_area)


def he(facts: Facts, mode: Mode = "fan_in", gain: float = math.sqrt(2), *, strided: bool = False) -> float:
    """Gain / sqrt(fan) (He et al. 2015, eq. 10 and 14; Glorot & Bengio 2010, eq. 12).

    strided: whether the stride counts in the fan_out, as it does by geometry.
    """
    outputs = facts.fan_out if strided else unstrided_fan_out(facts)
    return gain / math.sqrt({"fan_in": facts.fan_in, "fan_out": outputs}.get(mode, (facts.fan_in + outputs) / 2))


def glorot(facts: Facts, gain: float = 1.0) -> Start:
    """Xavier's uniform distribution, of std gain sqrt(2 / (fan_in + fan_out))."""
    return uniform(math.sqrt(3) * he(facts, "fan_avg", gain))


def glorot_flat(facts: Facts) -> Start:
    """Xavier's uniform distribution for the weight as one matrix, as it is held: fused projections count together."""
    return uniform(math.sqrt(6 / (facts.size("o") + facts.size("i") * facts.size("k"))))


def torch_default(facts: Facts) -> Start | None:
    """What the constructors of torch.nn give a weight, its bias, a norm, an embedding or PReLU's slope.

    Linear and convolutions: U(-1/sqrt(n), 1/sqrt(n)) with n = shape[1] * kernel (kaiming_uniform with a = sqrt(5)), and
    their biases. Bilinear: n = in1. Recurrent layers: n = hidden size. The projections of MultiheadAttention:
    xavier_uniform over each matrix as it is held, the packed one included, and biases of zero. Embedding tables, one
    that serves as head too: N(0, 1). Of a bare parameter nothing: it has no default.
    """
    if facts.kind in ("weight", "bias"):
        return _default_of_layer(facts)
    if facts.kind == "embedding" or (facts.kind == "position" and facts.op == "embedding"):
        return normal(1.0)
    if facts.kind == "slope":
        return constant(0.25)
    return usual(facts)


def _default_of_layer(facts: Facts) -> Start | None:
    is_bias, weight = facts.kind == "bias", facts.weight_shape
    leaf = facts.param.rpartition(".")[2]
    if facts.op == "multi_head_attention":
        if is_bias:
            return ZERO
        if leaf.endswith("_proj_weight"):
            return glorot_flat(facts)
    if gates := recurrent_gates(facts.op):
        hidden = weight[1] if "weight_hr" in leaf else weight[0] // gates
        return uniform(hidden**-0.5)
    if facts.tied and not is_bias:
        return normal(1.0)
    if facts.op == "bilinear" or facts.layout.transposed:
        return uniform((weight[1] * facts.size("k")) ** -0.5)
    is_module = facts.layout.axes.startswith("o") and facts.layout.axes.count("o") == 1
    return uniform((facts.size("i") * facts.size("k")) ** -0.5) if is_module else None
