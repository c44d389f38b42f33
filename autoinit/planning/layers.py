"""From what each weight feeds to the standard deviation it is to have."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import torch

from autoinit.errors import ArgumentError
from autoinit.errors.arguments import shown
from autoinit.models import ModelView
from autoinit.ops import WEIGHTED_SUM
from autoinit.planning._others import other_parameters, parameter_kinds, read_whole
from autoinit.plans.layers import Alternative, LayerPlan, SlicePlan, Status, root_mean_square
from autoinit.plans.options import PlanOptions
from autoinit.plans.plan import ALL_ZERO, Plan
from autoinit.resolving import Ending, Reason, Resolution, SliceResolution, resolve
from autoinit.resolving.residual import branch_counts
from autoinit.tensors.fixed_patterns import fixed_pattern, is_one_number
from autoinit.tensors.measuring import is_zero
from autoinit.theory import gains
from autoinit.theory.fans import Mode, fans
from autoinit.tracing import Dataflow
from autoinit.tracing.flow import flow_of


def plan_dataflow(
    dataflow: Dataflow, view: ModelView, options: PlanOptions, resolutions: Sequence[Resolution] | None = None
) -> Plan:
    """Plan the weights of a traced model, each by what it feeds.

    Args:
        dataflow: traced from the model.
        view: of the model: gives the parameters.
        options: what the caller chose. Its method is only noted: `signal` builds the others on this.
        resolutions: of the dataflow, where they are known already.

    Raises:
        ArgumentError: a glob matches no layer.
    """
    resolutions = resolve(dataflow) if resolutions is None else resolutions
    counts = branch_counts(dataflow) if options.residual == "depth" else {}
    kinds = parameter_kinds(dataflow)
    tables = {name for name, kind in kinds.items() if kind == "embedding"}
    read = read_whole(dataflow)
    layers = _without_intent(
        tuple(
            _layer(view, resolution, options, counts, tables, read)
            for resolution in resolutions
            if resolution.param in view.parameters
        )
    )
    others = tuple(other_parameters(view, kinds, dataflow, layers, read))
    named = [layer.name for layer in layers]
    if options.recipe:
        named += (each for other in others for each in (other.name, other.name.rpartition(".")[0]))
    _check_globs(options, named)
    return Plan(
        layers=layers,
        model=view.class_name,
        parameters=sum(parameter.numel() for parameter in view.parameters.values()),
        tier=dataflow.tier,
        method=options.method,
        residual=options.residual,
        others=others,
        unsupported=tuple(f"{each.op} at {each.source or each.module or each.name}" for each in dataflow.unsupported),
        notes=dataflow.notes,
        flow=flow_of(dataflow),
    )


def _check_globs(options: PlanOptions, names: Sequence[str]) -> None:
    for option, globs in (("only", options.only), ("skip", options.skip)):
        for glob in globs:
            if not any(fnmatchcase(name, glob) for name in names):
                some = ", ".join(names[:4])
                raise ArgumentError(f"{option}={shown(glob)} matches none of the {len(names)} layers ({some}, ...)")


def _layer(
    view: ModelView,
    resolution: Resolution,
    options: PlanOptions,
    counts: Mapping[str, int],
    tables: Collection[str],
    read: Mapping[str, str],
) -> LayerPlan:
    """One weight's plan."""
    stored = view.storage(resolution.param)
    branches = max((counts.get(f"{use}/{resolution.param}", 1) for use in resolution.uses), default=1)
    factor = 1 / math.sqrt(branches) / (resolution.factor or 1.0) / resolution.input_factor
    parts = tuple(_slice(resolution, part, options, factor) for part in resolution.slices)
    whole = _slice(resolution, SliceResolution((), resolution.ending), options, factor)
    if parts:
        first = parts[0]
        std = root_mean_square(parts)
        whole = replace(whole, gain=first.gain, fan_in=first.fan_in, fan_out=first.fan_out, std=std)
    made = LayerPlan(
        name=resolution.name,
        param=stored.param,
        shape=tuple(view.parameters[resolution.param].shape),
        axes=resolution.layout.axes,
        op=resolution.op,
        distribution=options.distribution,
        slices=parts,
        biases=resolution.biases,
        uses=resolution.uses,
        alternatives=tuple(_alternative(ending) for ending in resolution.alternatives),
        reparam=stored.reparam,
        source=str(resolution.source or ""),
        groups=resolution.layout.groups,
        stride_area=resolution.layout.stride_area,
        **whole.shared(),
    )
    written = [view.parameters[name] for name in stored.written if name in view.parameters]
    status, note = _status(made, resolution, written, options)
    if status == "planned" and options.zeros == "keep" and (why := _intent(made, written, read)):
        status, note = "kept", f"{why}: the author's intent (zeros='reset' overrides)"
    notes = [note, resolution.ending.note if resolution.ending.note != note else ""]
    if branches > 1:
        notes.append(_on_branches(sum(f"{use}/{resolution.param}" in counts for use in resolution.uses), branches))
    notes += _factors(resolution)
    if transform := [each for each in resolution.transform if each not in _QUIET]:
        way = ", ".join(transform) + (", scaled by a signal" if resolution.modulated else "")
        notes.append(f"reaches {resolution.op} through {way}{_scaling(resolution.factor)}")
    if resolution.param in tables:
        notes.append("tied to an embedding, whose table it is too")
    note = "; ".join(filter(None, notes))
    return replace(made, status=status, note=note) if note or status != made.status else made


def _on_branches(ended: int, count: int) -> str:
    """What a layer is told that ends branches of a residual stream."""
    if ended < 2:
        return f"one of {count} branches of its residual stream: std / sqrt({count})"
    return f"ends {ended} branches of its residual stream, which add up in step: std / sqrt({count})"


def _factors(resolution: Resolution) -> Iterator[str]:
    """The numbers around the nonlinearity, and on the input, that the std makes up for."""
    ending = resolution.ending
    if ending.before != 1:
        yield f"its output is multiplied by {ending.before:.3g} before {ending.nonlinearity}: std / {ending.before:.3g}"
    if ending.behind != 1:
        yield f"{ending.nonlinearity} is multiplied by {ending.behind:.3g}: std / {ending.behind:.3g}"
    if resolution.input_factor != 1:
        yield f"its input is multiplied by {resolution.input_factor:.3g}: std / {resolution.input_factor:.3g}"


def _scaling(factor: float | None) -> str:
    """What the operations between parameter and use do to the scale."""
    if factor is None:
        return ", whose effect on its scale is unknown"
    if factor == 0:
        return ", which normalises its scale away"
    return "" if factor == 1 else f", which multiplies its std by {factor:.3g}: planned is std / {factor:.3g}"


_QUIET = frozenset({"transpose", "permute", "view", "unsqueeze", "squeeze", "weight_norm", "getitem", "select", "size"})


def _slice(resolution: Resolution, part: SliceResolution, options: PlanOptions, factor: float) -> SlicePlan:
    """Scheme, fans and std for some rows; for the whole weight if `rows` is empty."""
    ending = part.ending
    here = fans(resolution.layout, resolution.shape, part.rows)
    chosen = gains.scheme(ending.nonlinearity)
    mode: Mode = options.mode or ("fan_in" if chosen == "he" else "fan_avg")
    return SlicePlan(
        rows=part.rows,
        nonlinearity=ending.nonlinearity,
        params=dict(ending.params),
        reason=str(ending.reason),
        path=ending.path,
        normalised=ending.normalised,
        scheme=chosen,
        mode=mode,
        gain=ending.gain,
        fan_in=here.fan_in,
        fan_out=here.fan_out,
        std=gains.std(ending.scale, here, mode) * factor,
    )


def _alternative(ending: Ending) -> Alternative:
    return Alternative(ending.nonlinearity, str(ending.reason), dict(ending.params), ending.path)


def _status(
    layer: LayerPlan, resolution: Resolution, written: Sequence[torch.nn.Parameter], options: PlanOptions
) -> tuple[Status, str]:
    """What happens to the weight, and why if it is not written. The caller's word comes first."""
    if options.only and not _matches(layer.name, options.only):
        return "skipped", "not in only="
    if glob := _matches(layer.name, options.skip):
        return "skipped", f"skip={glob!r}"
    if not all(parameter.requires_grad for parameter in written):
        return "skipped", "frozen: requires_grad is False"
    if not all(parameter.numel() for parameter in written):
        return "skipped", "empty: it has no elements"
    if not all(parameter.is_floating_point() for parameter in written):
        return "skipped", f"holds {written[0].dtype}, not floating-point numbers"
    if resolution.reason is Reason.UNRESOLVED:
        return "unresolved", resolution.ending.note
    if resolution.reason is Reason.UNUSED:
        return "skipped", "unused: its output reaches neither an output nor a loss"
    return "planned", ""


_ZERO = "exactly zero"


def _intent(layer: LayerPlan, written: Sequence[torch.nn.Parameter], read: Mapping[str, str]) -> str:
    """What shows that the author has set a weight; empty if nothing does."""
    if any(not parameter.is_meta and is_zero(parameter) for parameter in written):
        return _ZERO
    if reader := read.get(layer.param):
        return f"{reader} reads it for its own sake"
    if layer.reparam:
        return ""
    if layer.op == WEIGHTED_SUM and is_one_number(written[0]):
        return "one number everywhere, as a gain is"
    return fixed_pattern(written[0], layer.axes, layer.groups)


def is_kept_zero(layer: LayerPlan) -> bool:
    """Whether a weight is kept because it is zero."""
    return layer.status == "kept" and layer.note.startswith(_ZERO)


def _without_intent(layers: tuple[LayerPlan, ...]) -> tuple[LayerPlan, ...]:
    """The layers as they are; planned all the same if every weight is zero: no author means that."""
    if len(layers) < 2 or not all(map(is_kept_zero, layers)):
        return layers
    return tuple(replace(layer, status="planned", note=ALL_ZERO) for layer in layers)


def _matches(name: str, globs: Sequence[str]) -> str:
    return next((glob for glob in globs if fnmatchcase(name, glob)), "")
