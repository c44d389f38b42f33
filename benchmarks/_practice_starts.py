"""The starts that are compared, and how a network gets one."""

from _methods import loop, lsuv
from _practice_task import Practice
from torch import nn

from autoinit import autoinit
from autoinit.comparing.trials import Course, Write

RIVALS = ("library", "he", "xavier", "lsuv", "recipe")
"""What people do without us."""
OPTIONS = {
    "plain": {},
    "depth": {"residual": "depth"},
    "signal": {"method": "signal"},
    "data": {"method": "data"},
    "mirrored": {"method": "mirrored"},
    "small": {"heads": "small"},
    "zero": {"heads": "zero"},
    "all": {"method": "signal", "residual": "depth", "heads": "small"},
    "train": {"preset": "train"},
}
"""Arguments of `autoinit`, by start."""
STARTS = (*RIVALS, *OPTIONS)
TITLES = {
    "library": "library default", "he": "He loop", "xavier": "Xavier loop", "lsuv": "LSUV", "recipe": "literature",
    "plain": "autoinit", "depth": "residual depth", "signal": "signal", "data": "data",
    "mirrored": "mirrored", "small": "heads small", "zero": "heads zero", "all": "signal, depth, small",
    "train": "preset",
}  # fmt: skip


def started(practice: Practice, start: str, seed: int) -> nn.Module | None:
    """A network as a start leaves it; None where the literature's recipe is one of the loops."""
    write = writer(practice, start)
    return None if write is None else Course(practice.make, practice.train, 0).model(start, write, seed)


def writer(practice: Practice, start: str) -> Write | None:
    """What writes the weights of a start."""
    batch = practice.batch()
    if start == "library":
        return lambda *_: None
    if start in ("he", "xavier"):
        return lambda model, _: loop(start, model)
    if start == "lsuv":
        return lambda model, _: lsuv(model, batch)
    recipe = practice.recipe
    if start != "recipe":
        options = OPTIONS[start]
    elif isinstance(recipe, str):
        options = {"recipe": recipe}
    else:
        return recipe and (lambda model, _: recipe(model))
    return lambda model, seed: autoinit(model, (batch,), seed=seed, force=True, verbose=False, **options)
