"""INI202: norm layer not at identity."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from autoinit.checking._subject import Subject
from autoinit.checking._wording import expression, number
from autoinit.checking.findings import Finding, Severity
from autoinit.checking.rules._lookup import buffers, pasted
from autoinit.checking.rules.ini002_uninitialised import extreme
from autoinit.checking.rules.registry import About, rule
from autoinit.ops import Role
from autoinit.tensors.measuring import WeightStats, weight_stats

DCGAN_STD = 0.02
SIGMAS = 5.0


@dataclass(frozen=True)
class _Off:
    """One tensor of a norm that is not as it starts: what is said of it, how it is put back, what produced it."""

    param: str
    said: str
    fix: str
    recipe: str = ""


@rule("INI202", "norm layer not at identity", Severity.INFO, About.START)
def look(subject: Subject) -> Iterator[Finding]:
    """A norm's gain is not 1, its bias not 0, or its running statistics are not those of a new module.

    ## What it is

    Batch, layer, group, instance and RMS norms that are affine, one finding for each. A gain of zero is never one: it
    is how the last norm of a residual branch starts, and how norms that compute `1 + gain` write the identity. Frozen
    norms are left out.

    ## Why it matters

    Scales are planned for a norm that gives second moment 1. A gain of g multiplies the signal, and every gradient
    that comes back through it, by g at each norm. Running statistics that have moved say that the model has run in
    training mode: it is not as constructed.

    ## Example

        nn.init.uniform_(norm.weight)                                # torch's default until 1.0
        nn.init.normal_(norm.weight, 0.0, 0.02)                      # DCGAN's is N(1, 0.02)

    ## What to do

        nn.init.ones_(norm.weight)
        nn.init.zeros_(norm.bias)
        norm.reset_running_stats()

    ## References

    - Ioffe & Szegedy 2015, "Batch normalization", arXiv:1502.03167
    - Goyal et al. 2017, "Accurate, large minibatch SGD", arXiv:1706.02677, section 5.1: zero gain at the end of each
      residual branch
    - Radford et al. 2016, "Unsupervised representation learning with DCGAN", arXiv:1511.06434: N(1, 0.02) in the
      authors' code
    """
    found: dict[str, list[_Off]] = {}
    for param in subject.parameters:
        off = _parameter(subject, param)
        if off is not None:
            found.setdefault(param.rpartition(".")[0] or param, []).append(off)
    for name, buffer in buffers(subject, "running_mean", "running_var"):
        path, _, leaf = name.rpartition(".")
        fresh = int(leaf == "running_var")
        stats = weight_stats(buffer) if not _frozen(subject, path) else None
        if stats is not None and not stats.nonfinite and not _throughout(stats, fresh):
            said = f"{leaf} is {_range(stats)}, expected {fresh}, as before the first batch"
            found.setdefault(path or name, []).append(_Off(name, said, f"{expression(path)}.reset_running_stats()"))
    for layer, offs in found.items():
        yield _finding(subject, layer, offs)


def _parameter(subject: Subject, param: str) -> _Off | None:
    """What is off about a parameter; None if it is no trainable norm's, or as it should be."""
    stats = subject.other_stats.get(param)
    slots = {slot for op, slot in subject.uses.get(param, ()) if op.role is Role.NORM}
    if not slots and _is_written_gain(subject, param):
        slots = {"weight"}
    if not slots or stats is None or stats.nonfinite or extreme(stats) or not subject.parameters[param].requires_grad:
        return None
    gain = "weight" in slots
    if _throughout(stats, 0.0) or (gain and _throughout(stats, 1.0)):
        return None
    target, leaf = expression(param), param.rpartition(".")[2]
    if gain:
        recipe = "normal(1, 0.02), as in DCGAN" if _as_in_dcgan(stats) else ""
        remark = f" ({recipe}, Radford et al. 2016)" if recipe else ""
        return _Off(param, f"gain {leaf} is {_range(stats)}{remark}, expected 1", f"nn.init.ones_({target})", recipe)
    return _Off(param, f"{leaf} is {_range(stats)}, expected 0", f"nn.init.zeros_({target})")


def _is_written_gain(subject: Subject, param: str) -> bool:
    """Whether a vector is itself a factor, at each use, of a norm that is written out in simpler operations."""
    uses = subject.uses.get(param, ())
    multiplies = bool(uses) and all(op.op == "mul" for op, _ in uses)
    return multiplies and subject.parameters[param].dim() == 1 and param in subject.norm_parameters


def _frozen(subject: Subject, path: str) -> bool:
    """Whether the norm at a path has parameters that are frozen."""
    beside = (subject.parameters.get(f"{path}.{leaf}".lstrip(".")) for leaf in ("weight", "bias"))
    return any(parameter is not None and not parameter.requires_grad for parameter in beside)


def _throughout(stats: WeightStats, value: float) -> bool:
    return stats.minimum == value == stats.maximum


def _range(stats: WeightStats) -> str:
    if stats.minimum == stats.maximum:
        return number(stats.minimum)
    return f"from {number(stats.minimum)} to {number(stats.maximum)}"


def _as_in_dcgan(stats: WeightStats) -> bool:
    """Whether gains could be draws from N(1, 0.02)."""
    error = SIGMAS * DCGAN_STD / math.sqrt(stats.numel)
    return stats.numel > 1 and abs(stats.mean - 1) < error and abs(stats.std - DCGAN_STD) < error / math.sqrt(2)


def _finding(subject: Subject, layer: str, offs: list[_Off]) -> Finding:
    fix = "\n".join(dict.fromkeys(off.fix for off in offs))
    recipe = next((off.recipe for off in offs if off.recipe), "")
    origin = subject.origin(offs[0].param)
    return Finding(
        code="INI202",
        severity=Severity.INFO,
        layer=layer,
        param=offs[0].param,
        message=(
            f"{layer}: {'; '.join(off.said for off in offs)}. The scales that follow are planned for a norm that gives "
            f"mean 0 and second moment 1. Set: {pasted(fix)}"
        ),
        recipe=str(origin) if origin is not None else recipe,
        fix=fix,
        location=subject.location(offs[0].param),
    )
