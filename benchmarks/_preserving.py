"""How well an initialisation preserves a model's signal: the models, and the figures of one."""

import copy
import gc
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from functools import lru_cache
from typing import Any

import torch
from _libraries import classifies, construct, names
from _methods import INPUTS_SEED, initialise, rounded, spread
from _plain import NETS, plain, plain_shape
from _steps import Record, TimeUpError, limited
from torch import nn

from autoinit.signal import SignalReport, SignalRow, measure

BATCH = 4
SIDE = 64
LARGEST = 88.7e6
"""Parameters up to which torchvision's classification models are taken: the 62 smallest of 80."""
_MADE: Mapping[str, tuple[int, dict[str, Any]]] = {
    "googlenet": (96, {"aux_logits": False}),
    "inception_v3": (96, {"aux_logits": False}),
    "maxvit_t": (224, {}),
    "squeezenet1_0": (96, {}),
    "squeezenet1_1": (96, {}),
    **{name: (64, {"image_size": 64}) for name in ("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32")},
}
"""Size of the images, and arguments, where these differ. Heads for auxiliary losses need larger images."""


def chosen_names(*, every: bool) -> Iterator[str]:
    """`torchvision:NAME` and `plain:NAME` of all models; of torchvision's those up to `LARGEST`, or every one."""
    for name in names("torchvision"):
        if classifies("torchvision", name) and (every or _small(name)):
            yield f"torchvision:{name}"
    yield from (f"plain:{name}" for name in NETS)


def _small(name: str) -> bool:
    model, _ = construct("torchvision", name)
    return sum(each.numel() for each in model.parameters()) <= LARGEST


@lru_cache(maxsize=1)
def _constructed(name: str) -> tuple[nn.Module, tuple[int, ...], float]:
    """A model as its library makes it, the shape of one sample, and the seconds that construction took."""
    group, _, name = name.partition(":")
    torch.manual_seed(0)
    start = time.perf_counter()
    if group == "plain":
        return plain(name), plain_shape(name), time.perf_counter() - start
    import torchvision

    side, options = _MADE.get(name, (SIDE, {}))
    if name in ("googlenet", "inception_v3"):
        options = {**options, "init_weights": True}
    model: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    return model, (3, side, side), time.perf_counter() - start


def preserved(method: str, name: str, limit: float | None) -> Record:
    """One model under one method, initialised within a time.

    `library` is the method: the first half of a record's key.
    """
    record: Record = {"library": method, "name": name}
    try:
        made, shape, constructing = _constructed(name)
        model = copy.deepcopy(made)
        batches = torch.Generator().manual_seed(INPUTS_SEED)
        batch = torch.empty(BATCH, *shape).normal_(generator=batches)
        with limited(limit) if limit is not None else nullcontext():
            record["seconds"] = initialise(method, model, batch, 0)
        if method == "library":
            record["seconds"] = constructing
        fresh = torch.empty(BATCH, *shape).normal_(generator=batches)
        return {**record, "state": "done", **figures(model, measure(model, (fresh,)))}
    except TimeUpError:
        return {**record, "state": "unfinished", "cause": f"took longer than {limit:g} s"}
    finally:
        gc.collect()


def figures(model: nn.Module, report: SignalReport) -> Record:
    """What a measured report says of a model's weight layers.

    `apart` are layers whose weight is zero, or that get no signal in a model with such weights or norm gains, whose
    zero gradients do not count either. A layer whose signal has died on the way by itself is outside, and its gradient
    dead.
    """
    zeros = {name for name, each in model.named_parameters() if not name.endswith("bias") and not bool(each.any())}
    rows = {name: row for name, row in report.items() if not _apart(name, row, zeros)}
    grads = [row.grad for row in rows.values() if row.grad is not None and (row.grad != 0 or not zeros)]
    outside = {name: row.q for name, row in rows.items() if not 0.5 <= row.q <= 2}
    return {
        "layers": len(rows),
        "inside": len(rows) - len(outside),
        "apart": len(report) - len(rows),
        "spread": spread(grads),
        "dead": sum(not 0 < each < math.inf for each in grads),
        "output": rounded(report.outputs[0].q) if report.outputs else None,
        "outside": {name: rounded(q) for name, q in outside.items()},
        "notes": list(report.notes),
    }


def _apart(name: str, row: SignalRow, zeros: set[str]) -> bool:
    return name in zeros or f"{name}.weight" in zeros or (row.q == 0 and bool(zeros))
