"""`preset="train"`: for each kind of network the start that trained best, by what its graph shows.

The rows are asked from the first to the last, and the first that fits chooses: a method, what becomes of residual
branches and of heads, or a published recipe. What the caller gives is left as given. The report names the row.

Each row has a reason that does not rest on the benchmark, and the figures of `benchmarks/practice.py` that bear it out:
the loss or the error after a short training at the best of several learning rates, as the plain assignment starts the
network and as the row does. Lower is better. A network with a weight of more than 4 million elements keeps normal ones
where a row says orthogonal: these would take long to draw.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from autoinit.presets._seeing import Seen


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
        return f"{self.about}: {self.plain:.3g} becomes {self.chosen:.3g}"


@dataclass(frozen=True)
class Decision:
    """A row of the decision table.

    Attributes:
        name: what a network is that it is for.
        shows: what the graph shows of such a network, in words.
        fits: the same as a condition.
        options: what it chooses; `{frequency}` in them stands for what the graph shows of that.
        reason: why, with its source.
        figures: that bear it out.
        advises: whether reports of the plain assignment name it.
    """

    name: str
    shows: str
    fits: Callable[[Seen], bool]
    options: Mapping[str, str]
    reason: str
    figures: tuple[Figure, ...] = ()
    advises: bool = False

    @property
    def spelled(self) -> str:
        """The options as they are given to a function."""
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())


_FAR_FROM_THE_PRIOR = (
    "a variance is exp of what a head gives, so that one at full scale begins far from the prior that the loss holds "
    "it to (Kingma & Welling 2014, appendix C.2)"
)
_DOUBLES_THE_ERROR = (
    "a random output of unit variance doubles the squared error, and its gradient reaches all layers (Zhang et al. "
    "2019, section 3: the last layer at zero)"
)
_DIRECTIONS = (
    "they take the scale of a weight away and leave its directions: orthogonal ones are all apart (Saxe et al. 2014; "
    "Hu, Xiao & Pennington 2020)"
)
MIRRORED = {"method": "mirrored"}
ORTHOGONAL = {"distribution": "orthogonal"}
ROWS: tuple[Decision, ...] = (
    Decision(
        "waves",
        "most layers feed sin, of an argument that a number multiplies",
        lambda seen: seen.frequency > 1,
        {"recipe": "siren({frequency:.4g})"},
        "the first layer sets the frequencies of all others, and wants the whole number as their range "
        "(Sitzmann et al. 2020, section 3.2)",
        (Figure("siren", "SIREN of an image", 0.014, 0.00247),),
        advises=True,
    ),
    Decision(
        "language model",
        "it has attention, and looks up what it is given in a table",
        lambda seen: seen.attends and seen.reads_tokens,
        {"recipe": "small_init"},
        "its branches start weaker than what they are added to, the more of them the weaker (Nguyen & Salazar 2019, "
        "section 2.2)",
        (Figure("gpt", "GPT on characters", 2.41, 2.35),),
        advises=True,
    ),
    Decision(
        "attention",
        "it has attention, and reads numbers",
        lambda seen: seen.attends,
        ORTHOGONAL,
        "its norms see to the scale, and orthogonal weights keep directions apart (Saxe et al. 2014, section 3)",
        (
            Figure("vit", "ViT of 4 blocks", 0.163, 0.15),
            Figure("encoder", "encoder transformer", 0.0631, 0.0591),
        ),
    ),
    Decision(
        "draw with norms",
        "a Gaussian is drawn whose mean and variance the network gives, and there are norms",
        lambda seen: seen.draws and seen.norms,
        {"distribution": "orthogonal", "heads": "small"},
        _FAR_FROM_THE_PRIOR,
    ),
    Decision(
        "draw",
        "a Gaussian is drawn whose mean and variance the network gives, and there are no norms",
        lambda seen: seen.draws,
        {"method": "mirrored", "heads": "small"},
        _FAR_FROM_THE_PRIOR,
        (Figure("vae", "variational autoencoder", 13.3, 12.3),),
        advises=True,
    ),
    Decision(
        "regression",
        "up to six linear layers in a row give one number of numbers, and there are no norms",
        lambda seen: seen.fits and not (seen.norms or seen.reads_tokens),
        {"recipe": "torch"},
        "the weaker the start, the smoother the function that few samples are fitted by (Woodworth et al. 2020, "
        "section 3; Chizat, Oyallon & Bach 2019), and torch's own is the weakest in use",
        (Figure("regression", "MLP of GELU, a regression", 0.0757, 0.0111),),
        advises=True,
    ),
    Decision(
        "dense output with norms",
        "its output is as large as its input, or a map, and there are norms",
        lambda seen: seen.dense and seen.norms,
        {"distribution": "orthogonal", "heads": "small"},
        _DOUBLES_THE_ERROR,
    ),
    Decision(
        "map of logits",
        "its output is a map with fewer numbers than its input, and there are no norms",
        lambda seen: seen.dense and not seen.full,
        {"method": "signal", "residual": "depth", "heads": "zero"},
        "of many places few are positive, so that random logits make most of the loss (Lin et al. 2017, section 3.3)",
        (Figure("detector", "detector of rare objects", 0.145, 0.0423),),
    ),
    Decision(
        "image to image",
        "its output is an image as large as its input, and there are no norms",
        lambda seen: seen.dense and seen.places,
        {"heads": "small"},
        _DOUBLES_THE_ERROR,
        (Figure("unet", "U-Net that takes noise off", 0.0889, 0.0805),),
        advises=True,
    ),
    Decision(
        "dense output",
        "it gives as many numbers as it is given, and there are no norms",
        lambda seen: seen.dense,
        {"method": "mirrored", "heads": "small"},
        f"{_DOUBLES_THE_ERROR}; orthogonal weights in pairs lose no direction on the way there",
        (Figure("autoencoder", "autoencoder of 6 layers", 0.158, 0.114),),
        advises=True,
    ),
    Decision(
        "stream with norms inside",
        "branches add into a residual stream with no norm behind them, though there are norms, and no attention",
        lambda seen: seen.norms and seen.branches > 0 and seen.bare,
        {"residual": "depth", "distribution": "orthogonal"},
        "no norm is behind what adds up, so that each of L branches gives 1 / L of the power (Radford et al. 2019, "
        "section 2.3)",
        (Figure("mixer", "MLP-mixer", 0.0684, 0.0516),),
    ),
    Decision(
        "norms",
        "it has norms",
        lambda seen: seen.norms,
        ORTHOGONAL,
        _DIRECTIONS,
        (
            Figure("resnet_bn", "ResNet with batch norms", 0.0551, 0.0382),
            Figure("vgg_bn", "VGG with batch norms", 0.0582, 0.04),
            Figure("dcgan", "DCGAN", 5.49, 5.12),
        ),
    ),
    Decision(
        "gated recurrence",
        "it has LSTM or GRU layers, and no norms",
        lambda seen: seen.gated,
        {},
        "gates carry the state over time, and nothing can be paired in them (Hochreiter & Schmidhuber 1997)",
    ),
    Decision(
        "residual stream without norms",
        "branches add into a residual stream, and there are no norms",
        lambda seen: seen.branches > 0,
        MIRRORED,
        "each of L branches gives 1 / L of the power, so that the stream does not grow with depth (Zhang et al. 2019), "
        "and keeps its directions inside (Balduzzi et al. 2017)",
        (Figure("resnet", "ResNet of 12 blocks without norms", 0.788, 0.538),),
        advises=True,
    ),
    Decision(
        "actor-critic",
        "one linear head gives one number, another several, and there are no norms",
        lambda seen: seen.acts,
        {"recipe": "rl"},
        "a policy that is sure of nothing explores; a value needs its full scale (Andrychowicz et al. 2021, section "
        "3.2; Engstrom et al. 2020)",
        (Figure("actor_critic", "actor-critic on CartPole", 0.101, 0.0611),),
    ),
    Decision(
        "others without norms",
        "it has no norms",
        lambda _: True,
        MIRRORED,
        "independent weights lose directions of the signal with each layer, orthogonal ones in pairs do not "
        "(Balduzzi et al. 2017; Xiao et al. 2018)",
        (
            Figure("vgg", "VGG-like", 0.0556, 0.0373),
            Figure("mlp_8", "eight layers", 0.0387, 0.024),
        ),
    ),
)
"""The decision table, first to last."""


def row(seen: Seen) -> Decision:
    """The first row that fits, its options for what the graph shows; the last one always does."""
    found = next(each for each in ROWS if each.fits(seen))
    options = {name: value.format(frequency=seen.frequency) for name, value in found.options.items()}
    if seen.large:
        options.pop("distribution", None)
    return replace(found, options=options)


def document() -> str:
    """The table in Markdown, for `autoinit explain train` and the manual."""
    head = "| the graph shows that | chosen | since | in the benchmark |\n| --- | --- | --- | --- |"
    lines = (
        f"| {each.shows} | {f'`{each.spelled}`' if each.options else 'the plain assignment'} | {each.reason} "
        f"| {'; '.join(map(str, each.figures))} |"
        for each in ROWS
    )
    introduction = inspect.cleandoc(__doc__ or "").partition("\n\n")[2]
    return f"{introduction}\n\n{chr(10).join((head, *lines))}"
