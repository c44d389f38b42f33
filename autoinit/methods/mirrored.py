"""`plan(method="mirrored")`: a start at which deep networks without norms are orthogonal linear maps.

Each weight that feeds a nonlinearity gets its output units in pairs of opposite sign, and what reads them gets its
columns in pairs: the odd part of the nonlinearity is all that the next layer sees (`theory.mirrored`). The matrices are
orthogonal, so that no direction of the signal or of the gradient is lost over depth, and the start depends neither on
depth nor on width. What cannot be mirrored is planned by `signal`, and says why.

A weight is mirrored if it is linear or a convolution, plain or transposed, of any groups, and each of its uses feeds
the same nonlinearity, with an odd part, whose output is read in whole pairs by weights that are mirrored too, with
nothing on the way that mixes features or bends them; or if it feeds no nonlinearity (the end of a residual branch, a
head). What gates and what is gated may be made by weights of their own. A depthwise convolution passes pairs on: its
filters are equal for both of a pair, and positive where it stands between two nonlinearities, of which relu(p relu(z))
is p relu(z), and others are driven as one. A weight whose own outputs cannot be paired, or that is zero, still reads
pairs. In front of the nonlinearity outputs of several mirrored weights may be added up: a recurrence keeps its own
state, and what drives it shares the rest. Behind nonlinearities sums of pairs are pairs.

In a residual network only the insides of branches are paired. Each of L branches gives 1 / L of the stream's power; it
is the weight in front of its last nonlinearity that is divided by sqrt(L), where there is one, for that is the one that
learns faster the smaller it is.

## When to use it

For networks without norms that are deep: 20 nonlinearities in a row and more, recurrences over as many steps, residual
networks. Reports of other methods say when a model is one.

## When not to

With norms everywhere there is nothing to gain: layers in front of a norm are planned by `signal`. Networks of three to
five layers train as after He. Where the nonlinearity has no odd part (|x|, cos, x^2), where max pooling or a gate that
is no half (SwiGLU) follows, nothing is paired. A start for these
exists, deep kernel shaping (Martens et al. 2021), which moves and scales the nonlinearity itself. It is left out:
absorbed into weights and biases it needs biases everywhere, zero padding breaks it in convolutions, whose borders have
another mean than the activation, and no network that was measured needed it.

## References

Balduzzi et al. 2017, "The shattered gradients problem"; Burkholz & Dubatovka 2019, "Initialization of ReLUs for
dynamical isometry"; Xiao et al. 2018, "Dynamical isometry and a mean field theory of CNNs"; Martens et al. 2021, "Rapid
training of deep neural networks without skip connections or normalization layers using deep kernel shaping".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from autoinit.methods._gates import gated_products
from autoinit.methods._pairing import MirrorableLayer, Share, mirrorable, pads, share_of_sum
from autoinit.methods._settling import Settled, settle, unpaired
from autoinit.methods._taps import share_through_taps, taps_seen
from autoinit.methods._unrolling import unrolled
from autoinit.methods.signal import MakeMirror, plan_by_signal, with_std
from autoinit.models import ModelView
from autoinit.planning import plan_dataflow
from autoinit.planning.layers import is_kept_zero
from autoinit.plans.layers import LayerPlan
from autoinit.plans.mirror import Mirror, Taps
from autoinit.plans.options import PlanOptions
from autoinit.plans.plan import Plan
from autoinit.resolving import Reason, endings, resolve
from autoinit.resolving.residual import branch_counts
from autoinit.tracing import Dataflow

_OUTPUTS = (Reason.OUTPUT, Reason.SOFTMAX)


def plan_by_mirroring(view: ModelView, dataflow: Dataflow, options: PlanOptions, example_inputs: Any = None) -> Plan:
    """A plan in which every layer that can be is mirrored, and the others are as by `signal`.

    Args:
        view: of the model.
        dataflow: traced from it, with shapes.
        options: as for `plan`; `distribution` is that of the matrices that are mirrored: orthogonal, or another; `taps`
            says where they stand in a convolution's kernel.
        example_inputs: as for `plan`; only shapes and integers matter.
    """
    opened = unrolled(dataflow)
    resolutions = resolve(opened)
    by_param = {each.param: each for each in resolutions}
    reasons: dict[str, str] = {}
    layers: dict[str, MirrorableLayer] = {}
    follow = endings(opened)
    products = gated_products(opened, follow)
    for each in plan_dataflow(opened, view, options, resolutions).layers:
        if each.status == "planned" or is_kept_zero(each):
            found = mirrorable(each, by_param[each.param], opened, follow, products)
            reasons[each.param] = found if isinstance(found, str) else found.reads_only
            if not isinstance(found, str):
                layers[each.param] = found
    makers = _makers(opened, layers, reasons, options.taps)
    signal = plan_by_signal(view, dataflow, replace(options, residual="depth"), example_inputs, makers)
    planned = tuple(_replanned(each, reasons.get(each.param, "")) for each in signal.layers)
    return replace(signal, layers=planned, method="mirrored")


def _makers(
    dataflow: Dataflow, layers: Mapping[str, MirrorableLayer], reasons: dict[str, str], taps: Taps
) -> dict[str, MakeMirror]:
    """What makes the mirror of each weight that is mirrored, by parameter; why the others are not goes to `reasons`."""
    counts = branch_counts(dataflow)
    ends = {op: counts.get(f"{op.name}/{name}", 1) for name, layer in layers.items() for op in layer.uses}
    settled = settle(dataflow, layers, ends, reasons)
    made: dict[str, MakeMirror] = {}
    for name, layer in settled.layers.items():
        alone = layer.reads_only or (layer.bends and name not in settled.tangents)
        if alone and settled.reads(layer) is None and settled.copies(layer) is None:
            continue
        branches = max(ends[op] for op in layer.uses)
        summed = share_of_sum(layer, settled.layers.values(), settled.recurrent)
        share = summed if branches == 1 else Share(1 / branches)
        made[name] = partial(_mirror, layer, settled, share, taps)
    return made


def _mirror(layer: MirrorableLayer, settled: Settled, given: Share, taps: Taps, moment: float, share: float) -> Mirror:
    """How the layer's weight is made.

    given: of the variance that its place asks for, what the layer gives. moment: the second moment of what it reads,
    for features of no mirrored layer. share: of the second moment of features of mirrored layers, what padding leaves:
    zeros at the border would else take it away layer by layer.
    """
    here = settled.tangents.get(layer.plan.param)
    factor = 1 / math.sqrt(moment)
    if layer.ending.reason in _OUTPUTS:  # what was averaged before it may be less white than predicted
        factor = min(factor, 1.0)
    reader, copies = settled.reads(layer), settled.copies(layer)
    kept = 1.0
    if pads(layer) and (reader is not None or copies is not None):
        kept = share_through_taps(layer.uses[0], layer.kernel, taps, share, transposed=layer.transposed)
    if copies is not None:
        factor = 1 / math.sqrt(kept) / settled.before_depthwise(layer)
    if reader is None:
        inputs = tuple(replace(run, factor=factor) for run in unpaired(layer.inputs, layer.plan.groups))
    else:
        found = settled.input_runs(layer, reader, factor)
        inputs = tuple(replace(run, factor=run.factor / math.sqrt(kept)) for run in found)
    follows = copies is not None or (reader is not None and bool(settled.found.columns[reader].all()))
    a = here.a if here is not None else 1.0
    alternating = layer.gate != 0 and layer.plan.groups == 1
    before = (1.0 if layer.rows else layer.ending.before) * settled.factor_in_sum(layer)
    return Mirror(
        outputs=settled.output_runs(layer),
        inputs=inputs,
        scale=a * math.sqrt(given.part / given.steps * layer.spread) / before / layer.factor,
        taps=taps,
        seen=taps_seen(layer.uses[0], layer.kernel, transposed=layer.transposed),
        moment=None if follows else moment,
        kept=kept,
        steps=given.steps,
        a=a,
        c=here.c if here is not None else 1.0,
        groups=layer.plan.groups,
        parts=2 if alternating else 1,
        turn=abs(layer.gate) if alternating and abs(layer.gate) < layer.features else 0,
        copies=tuple(run for run in copies or () if run.paired),
        positive=settled.goes_again(layer),
    )


def _replanned(layer: LayerPlan, why: str) -> LayerPlan:
    """The layer's plan with the std of what is written, or with the reason why it is not mirrored."""
    if layer.status != "planned":
        return layer
    if layer.mirror is None:
        note = f"not mirrored: {why}" if why else "not mirrored"
        return replace(layer, distribution="normal", note="; ".join(filter(None, (layer.note, note))))
    kernel = math.prod(size for size, axis in zip(layer.shape, layer.axes, strict=True) if axis == "k")
    note = f"its output units are not paired: {why}" if why else ""
    parts = tuple(with_std(part, layer.mirror.std_of(part.rows) / math.sqrt(kernel)) for part in layer.slices)
    made: LayerPlan = with_std(layer, layer.mirror.std / math.sqrt(kernel))
    return replace(made, slices=parts, note=note)
