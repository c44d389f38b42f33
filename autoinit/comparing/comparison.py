"""What a comparison of starts came to."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from autoinit import formats
from autoinit.comparing.trials import Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Verdict = Literal["best", "tie", "worse", "not known"]
CLEAR = 2.0
"""Standard errors of a difference beyond which it counts."""


@dataclass(frozen=True)
class RankedStart:
    """A start at its best learning rate.

    Attributes:
        start: its name.
        lr: the rate with the lowest mean score, of those that every seed was trained at.
        score: mean over seeds; lower is better, infinite where one was given up.
        error: the standard error of that mean; None of one seed, or where one was given up.
        first: mean of the first losses there.
        given_up: how many of the start's trainings were, at all rates.
        trained: how many there were.
        verdict: against the start whose score is lowest: `tie` within two standard errors of the difference.
    """

    start: str
    lr: float
    score: float
    error: float | None
    first: float
    given_up: int
    trained: int
    verdict: Verdict


@dataclass(frozen=True)
class Comparison(formats.Printable):
    """Trainings of one model from several starts.

    Attributes:
        trials: all of them, by start, in the order in which they ran.
        steps: asked for.
        lrs: the learning rates, ascending.
    """

    _kind = "comparison"

    trials: tuple[Trial, ...]
    steps: int
    lrs: tuple[float, ...]

    @cached_property
    def ranking(self) -> tuple[RankedStart, ...]:
        """The starts, best first."""
        chosen = {start: self._at_best(start) for start in dict.fromkeys(each.start for each in self.trials)}
        means = {start: statistics.fmean(each.score for each in trials) for start, trials in chosen.items()}
        ranked = sorted(means, key=means.__getitem__)
        return tuple(self._ranked(start, chosen[start], chosen[ranked[0]]) for start in ranked)

    @property
    def best(self) -> str:
        """The name of the start whose score is lowest."""
        return self.ranking[0].start

    @cached_property
    def curves(self) -> Mapping[str, tuple[float, ...]]:
        """By start the loss at each step, the mean over seeds at its best learning rate, as far as all of them went."""
        found = {}
        for each in self.ranking:
            losses = zip(*(trial.losses for trial in self._at_best(each.start)), strict=False)
            found[each.start] = tuple(statistics.fmean(step) for step in losses)
        return found

    def _at_best(self, start: str) -> list[Trial]:
        """The trials of a start at its best rate, of the rates that most seeds were trained at."""
        by_rate: dict[float, list[Trial]] = {}
        for each in self.trials:
            if each.start == start:
                by_rate.setdefault(each.lr, []).append(each)
        most = max(map(len, by_rate.values()))
        whole = [trials for trials in by_rate.values() if len(trials) == most]
        return min(whole, key=lambda trials: statistics.fmean(each.score for each in trials))

    def _ranked(self, start: str, trials: list[Trial], best: list[Trial]) -> RankedStart:
        of_start = [each for each in self.trials if each.start == start]
        return RankedStart(
            start=start,
            lr=trials[0].lr,
            score=statistics.fmean(each.score for each in trials),
            error=standard_error([each.score for each in trials]),
            first=statistics.fmean(each.losses[0] for each in trials),
            given_up=sum(bool(each.given_up) for each in of_start),
            trained=len(of_start),
            verdict=_verdict(trials, best),
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What makes the comparison say less than it seems to."""
        found = []
        edges = {self.lrs[0], self.lrs[-1]}
        outside = [each.start for each in self.ranking if each.lr in edges and math.isfinite(each.score)]
        if len(self.lrs) > 1 and outside:
            found.append(f"best at the lowest or highest of `lrs`, so try more: {', '.join(outside)}")
        if any(each.error is None and math.isfinite(each.score) for each in self.ranking):
            found.append("one seed tells no difference from chance: `seeds=3` or more")
        return tuple(found)

    def _repr_html_(self) -> str:
        """The table in a notebook."""
        return self.to("html")

    def plot(self) -> Figure:
        """Loss against steps for each start at its best learning rate. Needs matplotlib."""
        made: Figure = formats.tool("comparison figure")(self)
        return made


def standard_error(scores: list[float]) -> float | None:
    """Of their mean; None of one score, or of one that is infinite."""
    if len(scores) < 2 or not all(map(math.isfinite, scores)):
        return None
    return statistics.stdev(scores) / math.sqrt(len(scores))


def _verdict(trials: list[Trial], best: list[Trial]) -> Verdict:
    """Of a start against the best one."""
    if trials is best:
        return "best" if math.isfinite(trials[0].score) else "not known"
    mine, its = [each.score for each in trials], [each.score for each in best]
    difference = statistics.fmean(mine) - statistics.fmean(its)
    if math.isinf(difference):
        return "worse"
    errors = standard_error(mine), standard_error(its)
    if math.isnan(difference) or None in errors:
        return "not known"
    return "tie" if difference <= CLEAR * math.hypot(*filter(None, errors)) else "worse"
