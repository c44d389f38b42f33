"""The starts that are compared, and how a network gets one."""

import contextlib
import hashlib
import io
from collections.abc import Callable

import torch
from _methods import _loop, _lsuv
from _practice_task import Practice
from torch import nn

from autoinit import autoinit

RIVALS = ("library", "he", "xavier", "lsuv", "recipe")
"""What people do without us."""
OPTIONS = {
    "plain": {},
    "depth": {"residual": "depth"},
    "signal": {"method": "signal"},
    "signal_depth": {"method": "signal", "residual": "depth"},
    "small": {"heads": "small"},
    "zero": {"heads": "zero"},
    "depth_small": {"residual": "depth", "heads": "small"},
    "all": {"method": "signal", "residual": "depth", "heads": "small"},
    "train": {"preset": "train"},
}
"""Arguments of `autoinit`, by start."""
STARTS = (*RIVALS, *OPTIONS)
TITLES = {
    "library": "library", "he": "He", "xavier": "Xavier", "lsuv": "LSUV", "recipe": "recipe", "plain": "autoinit",
    "depth": "depth", "signal": "signal", "signal_depth": "signal, depth", "small": "heads small",
    "zero": "heads zero", "depth_small": "depth, small", "all": "signal, depth, small", "train": "preset",
}  # fmt: skip


def started(practice: Practice, start: str, seed: int) -> nn.Module | None:
    """A network as a start leaves it; None where the literature's recipe is one of the loops."""
    torch.manual_seed(seed)
    model = practice.make()
    write = writer(practice, start, seed)
    if write is None:
        return None
    torch.manual_seed(seed)
    write(model)
    return model


def writer(practice: Practice, start: str, seed: int) -> Callable[[nn.Module], object] | None:
    """What writes the weights of a start."""
    batch = practice.batch()
    if start == "library":
        return lambda _: None
    if start in ("he", "xavier"):
        return lambda model: _loop(start, model)
    if start == "lsuv":
        return lambda model: _lsuv(model, batch)
    if start == "recipe":
        if not isinstance(practice.recipe, str):
            return practice.recipe
        options = {"recipe": practice.recipe}
    else:
        options = OPTIONS[start]
    return lambda model: autoinit(model, (batch,), seed=seed, force=True, verbose=False, **options)


def fingerprint(model: nn.Module) -> str:
    """The same for models that start from the same numbers."""
    found = hashlib.sha256()
    for name, each in model.state_dict().items():
        found.update(name.encode() + each.detach().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]
