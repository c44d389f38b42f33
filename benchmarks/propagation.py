"""What one propagation takes: resnet50 at 224 pixels, and LLaMA-sized models on the meta device.

    python benchmarks/propagation.py

One thread. Seconds are medians of --repeats calls after a first one, each behind a garbage collection; memory is the
peak above what the process holds with the model constructed, of the first call (Linux; elsewhere it is left out).
"""

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _processes import status_mb
from _zoo import Tokens
from rich.console import Console
from rich.table import Table
from torch import nn

from autoinit.signal import propagate

LLAMA_70B = {
    "vocab_size": 32000, "hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64,
    "num_key_value_heads": 8, "intermediate_size": 28672,
}  # fmt: skip

LLAMA_8B = {
    "vocab_size": 128256, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 14336,
}  # fmt: skip


def resnet50() -> nn.Module:
    """As torchvision initialises it."""
    import torchvision

    made: nn.Module = torchvision.models.resnet50(weights=None)
    return made


def llama(options: dict[str, int]) -> nn.Module:
    """Without weights."""
    with torch.device("meta"):
        return Tokens("llama", "AutoModelForCausalLM", options)()


CASES: tuple[tuple[str, Callable[[], nn.Module], Any, bool], ...] = (
    ("resnet50", resnet50, (2, 3, 224, 224), True),
    ("resnet50, no gradients", resnet50, (2, 3, 224, 224), False),
    ("LLaMA-70B-sized, meta", partial(llama, LLAMA_70B), None, True),
    (
        "LLaMA-8B-sized, meta, 512 tokens",
        partial(llama, LLAMA_8B),
        torch.empty(1, 512, dtype=torch.long, device="meta"),
        True,
    ),
)


def cost(make: Callable[[], nn.Module], inputs: Any, *, backward: bool, repeats: int) -> tuple[float, float | None]:
    """Seconds, and MB above what was held before."""
    model = make()
    gc.collect()
    before = None
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")  # the peak is from now on
        before = status_mb("VmRSS")
    propagate(model, inputs, backward=backward)
    above = status_mb("VmHWM") - before if before is not None else None
    taken = []
    for _ in range(repeats):
        gc.collect()
        start = time.perf_counter()
        propagate(model, inputs, backward=backward)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken), above


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="calls that are timed (default 5)")
    repeats = parser.parse_args().repeats
    if repeats < 1:
        parser.error("--repeats takes a number above 0")
    torch.set_num_threads(1)
    found = Table(title="one propagation")
    for head in ("", "seconds", "MB above"):
        found.add_column(head, justify="right" if head else "left")
    for name, make, inputs, backward in CASES:
        seconds, above = cost(make, inputs, backward=backward, repeats=repeats)
        found.add_row(name, f"{seconds:.2f}", "" if above is None else f"{above:.0f}")
    Console().print(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
