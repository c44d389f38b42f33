"""`preset="train"`: for each kind of network the start that trained best, by what its graph shows.

The rows are asked from the first to the last, and the first that fits chooses: a method, what becomes of residual
branches and of heads, or a published recipe. What the caller gives is left as given. The report names the row.

Each row has a reason that does not rest on the benchmark, and the figures of `benchmarks/practice.py` that bear it out:
the loss or the error after a short training at the best of several learning rates, as the plain assignment starts the
network and as the row does. Lower is better.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from autoinit.presets._shown import Shown


@dataclass(frozen=True)
class Figure:
    """What a network of the benchmark came to.

    Attributes:
        network: its name there.
        about: what it is, in a few words.
        plain, chosen: the mean score, after the plain assignment and after the preset's.
    """

    network: str
    about: str
    plain: float
    chosen: float

    def __str__(self) -> str:
        return f"{self.about}: {self.plain:.3g} plain, {self.chosen:.3g} so"


@dataclass(frozen=True)
class Row:
    """A row of the decision table.

    Attributes:
        name: what a network is that it is for.
        shows: what the graph shows of such a network, in words.
        fits: the same as a condition.
        options: what it chooses; `{frequency}` in them stands for what the graph shows of that.
        reason: why, with its source.
        figures: that bear it out.
    """

    name: str
    shows: str
    fits: Callable[[Shown], bool]
    options: Mapping[str, str]
    reason: str
    figures: tuple[Figure, ...] = ()

    @property
    def spelled(self) -> str:
        """The options as they are given to a function."""
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())


ROWS: tuple[Row, ...] = (
    Row(
        "waves",
        "most layers feed sin, of an argument that a number multiplies",
        lambda seen: seen.frequency > 1,
        {"recipe": "siren({frequency:.4g})"},
        "the first layer sets the frequencies of all others, and wants the whole number as their range "
        "(Sitzmann et al. 2020, section 3.2)",
        (Figure("siren", "SIREN of an image", 0.0153, 0.0024),),
    ),
    Row(
        "draw",
        "a Gaussian is drawn whose mean and variance the network gives",
        lambda seen: seen.draws,
        {"method": "signal", "heads": "small"},
        "a variance goes through exp, so that heads of full scale begin far from the prior that the loss holds them to "
        "(Kingma & Welling 2014, appendix B)",
        (Figure("vae", "variational autoencoder", 13.6, 12.4),),
    ),
    Row("others", "none of these holds", lambda _: True, {}, "there is nothing that He and Xavier do not see to"),
)
"""The decision table, first to last."""


def row(seen: Shown) -> Row:
    """The first row that fits, its options for what the graph shows; the last one always does."""
    found = next(each for each in ROWS if each.fits(seen))
    options = {name: value.format(frequency=seen.frequency) for name, value in found.options.items()}
    return replace(found, options=options)


def document() -> str:
    """The table in Markdown, for `autoinit explain train` and the manual."""
    head = "| the graph shows that | chosen | since | plain, preset |\n| --- | --- | --- | --- |"
    lines = (
        f"| {each.shows} | `{each.spelled}` | {each.reason} | {'; '.join(map(str, each.figures))} |" for each in ROWS
    )
    told = inspect.cleandoc(__doc__ or "").partition("\n\n")[2]
    return f"{told}\n\n{chr(10).join((head, *lines))}"
