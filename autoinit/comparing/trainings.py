"""The trainings of a comparison, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from autoinit.comparing.comparison import Comparison
from autoinit.comparing.trials import Course, Trial, Write, fingerprint
from autoinit.errors.calling import calling
from autoinit.tensors.progress import counted

KEPT = 2
"""How many learning rates, the best by the first seed, the other seeds are trained at."""


def run(course: Course, starts: Mapping[str, Write], lrs: tuple[float, ...], seeds: int) -> Comparison:
    """Every start at every rate with the first seed, then with the others at the `KEPT` best rates of each.

    Starts that leave the same numbers share their trainings. A bar shows how far it is, in a terminal or a notebook.
    """
    from rich.console import Console  # loaded late: the package is imported wherever a model is built
    from rich.progress import Progress

    for start, write in starts.items():  # what cannot be written says so before anything is trained
        course.model(start, write, 0)
    known: dict[tuple[str, float, int], Trial] = {}
    trials: list[Trial] = []
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        whole = len(starts) * (len(lrs) + min(KEPT, len(lrs)) * (seeds - 1))
        task = progress.add_task("comparing", total=whole)
        advance = counted(whole)

        def one(start: str, lr: float, seed: int) -> Trial:
            progress.update(task, description=f"{start}, lr {lr:g}, seed {seed}")
            model = course.model(start, starts[start], seed)
            with calling("state_dict() of what make_model() gave"):
                key = fingerprint(model), lr, seed
            if key not in known:
                known[key] = course.run(start, model, lr, seed)
            progress.advance(task)
            advance(1)
            return replace(known[key], start=start)

        for start in starts:
            first = [one(start, lr, 0) for lr in lrs]
            kept = [each.lr for each in sorted(first, key=lambda each: each.score)[:KEPT]]
            trials += first + [one(start, lr, seed) for lr in kept for seed in range(1, seeds)]
    return Comparison(tuple(trials), course.steps, lrs)
