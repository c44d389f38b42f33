"""Whether the same code gets the same verdict on every run: models built anew by seed, and what `check` says of each.

    python benchmarks/verdicts.py --resume verdicts.jsonl
    python benchmarks/verdicts.py --models 'linear*' policy --seeds 1000 --json verdicts.json

Each model is drawn by its own constructor, so only the values differ. `verdicts`: how many different sets of (code,
layer, severity) there were, `exit`: how many exit statuses; one of each is right. What was not said on every run is
listed, with its share.

A run that was stopped goes on with the same --resume FILE, which has a line for each model that is done: delete it
after changing anything.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _truth import constructed  # noqa: F401  (declares torchvision's operators before it is imported)
from rich.console import Console
from rich.table import Table
from torch import nn

from autoinit import check
from tests.shared.small_nets import SMALL_NETS

Record = dict[str, Any]
Built = tuple[Callable[[], nn.Module], Any]


def libraries() -> dict[str, Built]:
    """Small models of torchvision and timm."""
    import timm
    import torchvision

    images = (1, 3, 64, 64)
    found: dict[str, Built] = {"torchvision squeezenet1_1": (torchvision.models.squeezenet1_1, images)}
    for name in ("test_efficientnet", "test_convnext", "test_resnet"):
        found[f"timm {name}"] = (partial(timm.create_model, name), images)
    return found


def measure(name: str, built: Built, seeds: int) -> Record:
    """What is said of one model over so many seeds."""
    build, inputs = built
    started = time.perf_counter()
    verdicts: Counter[frozenset[tuple[str, str, str]]] = Counter()
    exits: Counter[bool] = Counter()
    for seed in range(seeds):
        torch.manual_seed(seed)
        result = check(build(), inputs)
        verdicts[frozenset((each.layer, each.code, str(each.severity)) for each in result.findings)] += 1
        exits[result.ok] += 1
    said = Counter(finding for verdict, count in verdicts.items() for finding in verdict for _ in range(count))
    unsteady = {" ".join(finding): count / seeds for finding, count in said.items() if count < seeds}
    return {
        "model": name, "seeds": seeds, "verdicts": len(verdicts), "exits": len(exits), "findings": len(said),
        "unsteady": unsteady, "seconds": time.perf_counter() - started,
    }  # fmt: skip


def resumed(file: Path | None, models: Mapping[str, Built], seeds: int) -> Iterator[Record]:
    """The record of each model: from the file if it is there, else measured, and added to it."""
    lines = file.read_text().splitlines() if file is not None and file.exists() else []
    done = {record["model"]: record for record in map(json.loads, lines) if record["seeds"] == seeds}
    for name, built in models.items():
        record = done.get(name) or measure(name, built, seeds)
        if file is not None and name not in done:
            with file.open("a") as opened:
                opened.write(json.dumps(record) + "\n")
        yield record


def report(records: Sequence[Record], console: Console) -> bool:
    """Prints the table; whether every verdict held."""
    made = Table(title="One verdict for the same code", title_justify="left")
    for column in ("model", "seeds", "findings", "verdicts", "exit", "seconds"):
        made.add_column(column, justify="left" if column == "model" else "right")
    for each in records:
        colour = "green" if each["verdicts"] == each["exits"] == 1 else "red"
        told = f"[{colour}]{each['verdicts']}[/]", f"[{colour}]{each['exits']}[/]"
        made.add_row(each["model"], str(each["seeds"]), str(each["findings"]), *told, f"{each['seconds']:.0f}")
    console.print(made)
    for each in records:
        for finding, share in each["unsteady"].items():
            console.print(f"{each['model']}: {finding} on {share:.1%} of the runs", highlight=False)
    return all(each["verdicts"] == each["exits"] == 1 for each in records)


def main() -> int:
    """Measure, print, and write the JSON; 1 where a verdict changed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", metavar="GLOB", default=["*"], help="names of models (default all)")
    parser.add_argument("--seeds", type=int, default=200, metavar="N", help="of each model (default 200)")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="go on from, and add to, these JSON lines")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here")
    options = parser.parse_args()
    models = {**SMALL_NETS, **libraries()}
    chosen = [name for name in models if any(fnmatchcase(name, glob) for glob in options.models)]
    records = list(resumed(options.resume, {name: models[name] for name in chosen}, options.seeds))
    held = report(records, Console())
    if options.json is not None:
        options.json.write_text(json.dumps(records, indent=2) + "\n")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
