"""Part: rows of a weight that have one plan of their own, as rules and recipes look at them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from autoinit.facts import Facts
from autoinit.plans.layers import LayerPlan, RowsPlan
from autoinit.plans.options import HEAD_FACTORS
from autoinit.recognising.portrait import Portrait
from autoinit.recognising.recognition import Recognition, recognise, usual_stds
from autoinit.theory.layouts import Layout


@dataclass(frozen=True, eq=False)
class Part:
    """A weight, or some of its output rows, that has one plan of its own.

    The others: what `surroundings` says of all the layer's uses.

    Attributes:
        layer: the plan of the whole weight.
        rows: half-open runs of output rows; empty for all of them.
        place: what these rows feed, their fans and the std that is called for.
        portrait: what the whole weight looks like.
        layout: what its axes mean.
        branches: `Stream.count` of the residual stream that these rows end a branch of; 1 if they end none.
        normalised: whether a norm takes the scale away, of what the layer gives or of the weight itself.
        centred: whether what normalises the weight itself takes a mean off it.
        gains: of all that the layer feeds, where that is several things.
        fixed: whether the weight has the same scale whatever values its parameter is given (spectral_norm).
        head: whether they are a head's (see `facts.head_rows`).
        carried_past: whether weights of another branch bring the signal past it to a sum.
        facts: what the graph tells of these rows.
    """

    layer: LayerPlan
    rows: tuple[tuple[int, int], ...]
    place: RowsPlan
    portrait: Portrait
    layout: Layout
    facts: Facts
    branches: int = 1
    normalised: bool = False
    gains: tuple[float, ...] = ()
    fixed: bool = False
    skipped_over: bool = False
    renormalised: bool = False
    faded: bool = False
    gated: bool = False
    muted: bool = False
    starved: bool = False
    final: bool = False
    centred: bool = False
    carried_past: bool = False
    head: bool = False

    @cached_property
    def actual(self) -> float:
        """Root mean square of the elements: the std, as weights have mean zero."""
        return self.portrait.rms(self.rows)

    @cached_property
    def count(self) -> int:
        """How many elements there are."""
        return self.portrait.count(self.rows)

    @cached_property
    def recognition(self) -> Recognition:
        """What could have produced it, by its statistics."""
        return recognise(self.portrait, self.layer, self.rows)

    @cached_property
    def usual(self) -> tuple[float, ...]:
        """The stds that the most usual recipes give, whatever the values are."""
        return usual_stds(self.layer, self.rows)

    @cached_property
    def scales(self) -> tuple[float, float]:
        """The least and the greatest std that are as good as the planned one.

        For a gain of the Xavier kind, everything from the gain over sqrt(fan_in), which keeps the forward signal, to
        Xavier's compromise. For tanh, from the gain of 1 that Xavier was derived with (Glorot & Bengio 2010). Where
        what the layer feeds is mixed, the gains of all that it feeds. At the end of one of L branches of a residual
        stream, down to 1 / sqrt(L) of it.
        """
        place, factor = self.place, self._factor
        chosen = [place.std]
        if place.scheme == "xavier" and place.mode == "fan_avg":
            chosen.append(factor * place.gain / math.sqrt(place.fan_in))
        if place.nonlinearity == "tanh":
            chosen.append(min(chosen) / place.gain)
        if place.reason == "mixed":
            chosen += [place.std * each / place.gain for each in self.gains]
        return min(chosen) / math.sqrt(self.branches), max(chosen)

    @property
    def small(self) -> tuple[float, float] | None:
        """The same of a head that starts small on purpose; None of any other weight."""
        return (self.scales[0] * HEAD_FACTORS["small"], self.scales[1] * HEAD_FACTORS["small"]) if self.head else None

    @cached_property
    def _factor(self) -> float:
        """What the planned std was multiplied by, beside gain and fan."""
        place = self.place
        fan = {"fan_in": place.fan_in, "fan_out": place.fan_out}.get(place.mode, (place.fan_in + place.fan_out) / 2)
        return place.std * math.sqrt(fan) / place.gain
