"""Models that start mirrored: their weights are held against the mirrored plan, not against each layer's own place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from autoinit.checking._part import Part
from autoinit.checking._subject import Subject
from autoinit.errors import AutoinitError
from autoinit.methods.mirrored import plan_by_mirroring
from autoinit.methods.signal import with_std
from autoinit.methods.table import complete
from autoinit.planning.heads import with_heads
from autoinit.plans.mirror import Mirror
from autoinit.plans.options import HEAD_FACTORS, Heads
from autoinit.plans.plan import Plan
from autoinit.recognising.noise import spread
from autoinit.resolving import resolve
from autoinit.tensors.pairs import without_partners
from autoinit.theory.mirrored import ZETA
from autoinit.tracing.tiers import trace_view

_MOST_FOLLOW, _EXACT = 0.8, 0.03
_LEAST_KEPT = 0.25
"""The share of its input's second moment that a layer is taken to keep at least, whatever padding takes."""
_BY_SIZE = 2.0
"""By how much the std of a layer that is planned by `signal` is taken to depend on the size of the input at most."""
_BY_VALUES = 1.5
"""The same of a mirrored layer that reads others' features, on the values of embeddings and others that are kept."""


def held_as_mirrored(looked_at: Subject, *, known_inputs: bool) -> Subject:
    """The same model held against the mirrored plan, if most of its weights have that plan's stds.

    A model is tried if one of its weights holds features in pairs of opposite sign, or is orthogonal: where nearly all
    others have norms, a head may be all that is mirrored. What a layer reads from outside of mirrored ones has a second
    moment that depends on the input's size: without known inputs such a layer is held against the std that it has.
    """
    has_pairs = _has_pairs(looked_at)
    if not (has_pairs or any(part.portrait.orthogonal or _has_single_taps(part) for part in looked_at.parts)):
        return looked_at
    with suppress(AutoinitError):  # a forward that cannot be recorded knows no shapes, and has no mirrored plan
        here = as_recorded(looked_at)
        tried = _against(here, "xavier")
        if has_small_heads(tried.parts):
            tried = _against(here, "small")
        exactly = known_inputs or not _is_recurrent(tried.plan)
        follows = partial(_follows, same_size=known_inputs, same_length=exactly)
        drawn = [part for part in tried.parts if part.layer.status == "planned" and not part.fixed]
        tested = [part for part in drawn if part.layer.mirror is not None and _is_fixed(part.layer.mirror, exactly)]
        if not has_pairs:  # which never come by chance
            tested += [part for part in drawn if part.layer.mirror is None]
        if (tested or has_pairs) and sum(map(follows, tested)) >= _MOST_FOLLOW * len(tested):
            return _as_they_are(tried, known_inputs=known_inputs, exactly=exactly)
    return looked_at


def as_recorded(looked_at: Subject) -> Subject:
    """The model by a dataflow that knows shapes.

    Raises:
        AutoinitError: no forward can be recorded.
    """
    if looked_at.dataflow.tier != "symbolic":
        return looked_at
    dataflow = trace_view(looked_at.view, tier="recorded")
    return replace(looked_at, dataflow=dataflow, resolutions={each.name: each for each in resolve(dataflow)})


def _against(looked_at: Subject, heads: Heads) -> Subject:
    """The model held against the mirrored plan whose heads start so."""
    options = complete({"method": "mirrored", "heads": heads})
    mirrored = with_heads(
        plan_by_mirroring(looked_at.view, looked_at.dataflow, options), looked_at.dataflow, options.heads
    )
    return replace(looked_at, plan=replace(mirrored, model=looked_at.plan.model))


def has_small_heads(parts: Sequence[Part]) -> bool:
    """Whether heads are nearer to a small start than to that of their place: what reads a draw from them sees it."""
    heads = [part for part in parts if part.head]
    return bool(heads) and all(part.actual < part.place.std * math.sqrt(HEAD_FACTORS["small"]) for part in heads)


def _is_recurrent(plan: Plan) -> bool:
    """Whether some layers drive a recurrence, so that stds depend on the number of steps."""
    return any(layer.mirror is not None and layer.mirror.steps > 1 for layer in plan.layers)


def _is_fixed(mirror: Mirror, exactly: bool) -> bool:
    """Whether a std follows from the network alone.

    exactly: also of those whose inputs come from nonlinearities that are driven the less, the more steps there are.
    """
    makes_up = any(run.factor != 1 for run in mirror.inputs) and mirror.a == 1
    return mirror.moment is None and (exactly or (mirror.steps == 1 and not makes_up))


def _as_they_are(tried: Subject, *, known_inputs: bool, exactly: bool) -> Subject:
    """Without a word on layers whose std depends on what is not known: the size of the input or its number of steps, or
    the values that other layers had when the plan was made.
    """

    def depends(part: Part) -> bool:
        mirror = part.layer.mirror
        if mirror is None:
            return not known_inputs and _follows(part, same_size=False, same_length=exactly)
        if known_inputs:
            return mirror.moment is not None and 1 / _BY_VALUES < part.actual / part.place.std < _BY_VALUES
        return not (_is_fixed(mirror, exactly) and mirror.kept == 1 and (exactly or mirror.a == 1))

    actual = {part.layer.name: with_std(part.layer, part.actual) for part in tried.parts if depends(part)}
    layers = tuple(actual.get(layer.name, layer) for layer in tried.plan.layers)
    return replace(tried, plan=replace(tried.plan, layers=layers))


def _has_pairs(looked_at: Subject) -> bool:
    weights = ((looked_at.parameters[each.param], each.axes) for each in looked_at.plan.layers if not each.reparam)
    real = ((weight, axes) for weight, axes in weights if not (weight.is_meta or weight.is_complex()))
    return any(without_partners(weight, axes).shape != weight.shape for weight, axes in real)


def _has_single_taps(part: Part) -> bool:
    """Whether all but one tap of each input channel of a convolution are zero."""
    sizes = zip(part.layer.shape, part.layer.axes, strict=True)
    area = math.prod(size for size, axis in sizes if axis == "k")
    return area > 1 and math.isclose(part.portrait.stats.zeros, 1 - 1 / area, abs_tol=1e-9)


def _follows(part: Part, *, same_size: bool, same_length: bool) -> bool:
    """Whether a weight has the plan's std.

    same_size: for inputs of just this size, since padding takes less of a larger one. same_length: for as many steps,
    since over more of them an odd nonlinearity is driven less.
    """
    less, more = spread(part.count)
    low, high = less / (1 + _EXACT), more * (1 + _EXACT)
    mirror = part.layer.mirror
    if mirror is None and not same_size:
        low, high = low / _BY_SIZE, high * _BY_SIZE
    if mirror is not None and mirror.kept != 1 and not same_size:
        low, high = low * math.sqrt(mirror.kept), high * math.sqrt(mirror.kept / _LEAST_KEPT)
    if mirror is not None and mirror.a != 1 and not same_length:
        low, high = low / math.sqrt(ZETA), high * math.sqrt(ZETA)
    return low <= part.actual / part.place.std <= high
