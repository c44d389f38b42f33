"""Training every network under every start: what was trained once, from the same numbers, is never trained again."""

import copy
import functools
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _practice_fresh import FRESH
from _practice_held import HELD_BACK, SEEN
from _practice_images import IMAGES
from _practice_others import OTHERS
from _practice_sequences import SEQUENCES
from _practice_starts import started
from _practice_task import Practice
from torch import nn

from autoinit.comparing.trials import Course, fingerprint

LEARN: dict[str, Practice] = {**IMAGES, **SEQUENCES, **OTHERS, **SEEN}
"""Those that the rows of the preset were chosen by."""
HELD: dict[str, Practice] = {**HELD_BACK, **FRESH}
"""Those that nothing was chosen by, held back until the preset was fixed."""
NETWORKS = {**LEARN, **HELD}
SEEDS = (0, 1, 2)
LIMIT = 120.0
"""Seconds after which a run is given up."""
CLOSE = 1.2
"""The other seeds are trained at the learning rate that is best by the first, and at the second where its score is at
most so many times the best.
"""


@dataclass
class Runs:
    """Scores of runs by network, fingerprint of the start, seed and rate; in a file that a stopped run goes on from."""

    file: Path | None
    known: dict[tuple[str, str, int, float], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        text = self.file.read_text() if self.file is not None and self.file.exists() else ""
        for line in text.splitlines():
            try:
                found = json.loads(line)
            except json.JSONDecodeError:
                continue  # the line that was being written when the process ended
            key = found["network"], found["start"], found["seed"], found["rate"]
            self.known[key] = math.inf if found["score"] is None else found["score"]

    def score(self, name: str, model: nn.Module, seed: int, rate: float) -> float:
        """Of a model that has its start; it is trained only where that is new."""
        key = name, fingerprint(model)[:16], seed, rate
        if key not in self.known:
            practice = NETWORKS[name]
            course = Course(practice.make, practice.train, practice.steps, practice.score, limit=LIMIT)
            found = course.run("", copy.deepcopy(model), rate, seed)
            line = dict(zip(("network", "start", "seed", "rate"), key, strict=True))
            line |= {"score": found.score if math.isfinite(found.score) else None, "seconds": round(found.seconds, 2)}
            if self.file is not None:
                with self.file.open("a") as lines:
                    lines.write(json.dumps(line) + "\n")
            self.known[key] = found.score
        return self.known[key]


@dataclass(frozen=True)
class Outcome:
    """What a start came to on a network, at its best learning rate.

    Attributes:
        rate: the best by the mean of all seeds, of those that all were trained at.
        scores: of each seed there.
    """

    network: str
    start: str
    rate: float
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over seeds; infinite where one run was."""
        return statistics.fmean(self.scores)

    @property
    def error(self) -> float:
        """The standard error of the mean."""
        if len(self.scores) < 2 or not math.isfinite(self.mean):
            return math.inf
        return statistics.stdev(self.scores) / len(self.scores) ** 0.5

    def as_dict(self) -> dict[str, Any]:
        """For JSON: what is infinite is null."""
        scores = [each if math.isfinite(each) else None for each in self.scores]
        return {"network": self.network, "start": self.start, "rate": self.rate, "scores": scores}


def outcome(runs: Runs, name: str, start: str, seeds: Sequence[int] = SEEDS) -> Outcome | None:
    """Train where need be; None where there is no such start."""
    practice = NETWORKS[name]

    made = functools.cache(lambda seed: started(practice, start, seed))
    if made(seeds[0]) is None:
        return None

    def score(seed: int, rate: float) -> float:
        model = made(seed)
        assert model is not None
        return runs.score(name, model, seed, rate)

    by_rate = {rate: [score(seeds[0], rate)] for rate in practice.rates}
    first, second = sorted(by_rate, key=lambda rate: by_rate[rate][0])[:2]
    kept = [first, second] if by_rate[second][0] <= CLOSE * by_rate[first][0] else [first]
    for rate in kept:
        by_rate[rate] += [score(seed, rate) for seed in seeds[1:]]
    best = min(kept, key=lambda rate: statistics.fmean(by_rate[rate]))
    return Outcome(name, start, best, tuple(by_rate[best]))
