"""lsuv against method="data" on one model."""

import statistics

import torch
from _methods import INPUTS_SEED, initialise, output_moments
from _steps import Record

TOLERANCE = 0.1
"""lsuv's own."""
RIVALS = ("lsuv", "data")
_TIMES = {"lsuv": 1, "data": 3}
"""How often each is timed; the median counts."""


def contested(method: str, name: str) -> Record:
    """One of them on one of torchvision's models: 4 images of 224 pixels, N(0, 1).

    Each is judged in the mode that it runs the model in: lsuv's is evaluation.
    """
    import _torchvision

    assert _torchvision.torchvision_ops
    import torchvision

    batch = torch.empty(4, 3, 224, 224).normal_(generator=torch.Generator().manual_seed(INPUTS_SEED))
    seconds = []
    for _ in range(_TIMES[method]):
        torch.manual_seed(0)
        model = torchvision.models.get_model(name, weights=None)
        seconds.append(initialise(method, model, batch, 0))
    stds = [std for _, std in output_moments(model, batch, training=method != "lsuv").values()]
    return {
        "library": method,
        "name": f"versus:{name}",
        "state": "done",
        "seconds": statistics.median(seconds),
        "all_seconds": seconds,
        "threads": torch.get_num_threads(),
        "layers": len(stds),
        "within": sum(abs(std - 1) <= TOLERANCE for std in stds),
        "worst": max(stds, key=lambda std: abs(std - 1)),
    }
