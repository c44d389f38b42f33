"""Predicted against measured signals: second moments of pre-activations and of their gradients.

    python benchmarks/predictions.py
    python benchmarks/predictions.py --models 'torchvision:resnet*' --init ours --json predictions.json

Each model is initialised three ways: as its library does (`library`), by kaiming_normal_ everywhere (`he`), and by
autoinit's plan (`ours`). `propagate` predicts from the stds; `measure` runs the model, batch 8, in training mode with
dropout, once for each of --seeds draws of the weights, inputs and output gradients, and takes the mean. Shown is
|ln(predicted / measured)| of each weight layer. Weights that are exactly zero in the library's own initialisation stay
zero in all three; layers without a signal on either side are left out of the ratios and counted.

The mean over --seeds draws scatters itself, in narrow and deep networks by more than a factor of 2. Of the layers that
are further off than 0.15, "sure" counts those that are off by more than 3 standard errors of the measured mean.
"""

import argparse
import gc
import math
import statistics
import sys
import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from _models import kaiming_loop
from _steps import Record, go_through, write
from _zoo import BATCH, Entry, entries
from rich.console import Console
from rich.table import Table
from torch import nn

from autoinit import plan
from autoinit.signal import measure, propagate

INITS = ("library", "he", "ours")
TINY = 1e-30
DRAWS = 4
"""Of the surrogates: a mean over weights is predicted, and in narrow layers one draw scatters."""
FAR, SURE = 0.15, 3.0
APART = 1 << 20
"""Between seeds of inputs and of weights: equal seeds draw equal numbers."""


def compared(library: str, name: str, seeds: int) -> Record:
    """One model under one initialisation. `library` is the initialisation: the first half of a record's key."""
    entry = next(each for each in entries() if each.name == name)
    record: Record = {"library": library, "name": name, "kind": entry.kind}
    try:
        return {**record, "state": "done", **_compared(entry, library, seeds)}
    except Exception as error:  # noqa: BLE001 - listed like any other failure
        return {**record, "state": "failed", "cause": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    finally:
        gc.collect()


def _compared(entry: Entry, init: str, seeds: int) -> Record:
    torch.manual_seed(0)
    model = entry.make()
    made = plan(model) if init == "ours" else None
    _initialised(model, init, made, 0)
    shapes = entry.inputs(torch.Generator().manual_seed(APART))
    start = time.perf_counter()
    given = {"seeds": DRAWS}
    predicted = propagate(model, shapes, **given) if made is None else propagate(made, shapes, model=model, **given)
    seconds = time.perf_counter() - start
    found: dict[str, list[tuple[float, float | None]]] = {}
    for seed in range(seeds):
        torch.manual_seed(seed)
        if init == "library" and seed:
            model = entry.make()
        _initialised(model, init, made, seed)
        report = measure(model, entry.inputs(torch.Generator().manual_seed(APART + seed)), seed=seed)
        for layer, row in report.items():
            found.setdefault(layer, []).append((row.q, row.grad))
    rows = {layer: _row(predicted.rows.get(layer), taken) for layer, taken in found.items()}
    return {"seconds": seconds, "layers": rows, "notes": list(predicted.notes)}


def _initialised(model: nn.Module, init: str, made: Any, seed: int) -> None:
    if init == "he":
        zeros = [each for each in model.parameters() if each.dim() > 1 and not bool(each.any())]
        torch.manual_seed(seed)
        kaiming_loop(model)
        with torch.no_grad():
            for each in zeros:
                each.zero_()
    elif made is not None:
        made.apply(model, seed, force=True)


def _row(predicted: Any, taken: Sequence[tuple[float, float | None]]) -> Record:
    q = statistics.fmean(each for each, _ in taken)
    grads = [each for _, each in taken if each is not None]
    grad = statistics.fmean(grads) if grads else None
    return {
        "q": q,
        "grad": grad,
        "predicted_q": predicted.q if predicted is not None else None,
        "predicted_grad": predicted.grad if predicted is not None else None,
        "error": _standard_error([each for each, _ in taken]),
        "off": _ratio(predicted.q if predicted is not None else None, q),
        "grad_off": _ratio(predicted.grad if predicted is not None else None, grad),
    }


def _standard_error(values: Sequence[float]) -> float | None:
    """Of the mean's logarithm."""
    mean = statistics.fmean(values)
    if len(values) < 2 or mean < TINY:
        return None
    return statistics.stdev(values) / mean / math.sqrt(len(values))


def _ratio(predicted: float | None, measured: float | None) -> float | None:
    if predicted is None or measured is None or predicted < TINY or measured < TINY:
        return None
    return math.log(predicted / measured)


def summary(init: str, records: Sequence[Record]) -> Record:
    """Totals over the models of one initialisation."""
    done = [each for each in records if each["state"] == "done"]
    rows = [(each["name"], layer, row) for each in done for layer, row in each["layers"].items()]
    total: Record = {"init": init, "models": len(done), "failed": len(records) - len(done), "layers": len(rows)}
    for what in ("off", "grad_off"):
        known = sorted(abs(row[what]) for _, _, row in rows if row[what] is not None)
        total[what] = {
            "known": len(known),
            "median": statistics.median(known) if known else None,
            "p95": known[int(0.95 * (len(known) - 1))] if known else None,
            "worst": known[-1] if known else None,
            "beyond_2": sum(each > math.log(2) for each in known),
        }
    told = [row for _, _, row in rows if row["off"] is not None and row["error"] is not None and abs(row["off"]) > FAR]
    total["far"] = len(told)
    total["far_for_sure"] = sum(abs(row["off"]) > SURE * row["error"] for row in told)
    total["seconds"] = statistics.median(each["seconds"] for each in done) if done else None
    worst = sorted(rows, key=lambda each: -abs(each[2]["off"] or 0))[:12]
    total["worst_layers"] = [{"model": model, "layer": layer, **row} for model, layer, row in worst]
    return total


def table(totals: Sequence[Record]) -> Table:
    """The totals for people."""
    found = Table(title=f"|ln(predicted / measured)|, batch {BATCH}")
    for head in (
        "",
        "models",
        "layers",
        "median",
        "95 %",
        "worst",
        "beyond 2x",
        "> 0.15",
        "sure",
        "gradient: median",
        "95 %",
        "seconds",
    ):
        found.add_column(head, justify="left" if not head else "right")
    for each in totals:
        forward, backward = each["off"], each["grad_off"]
        figures = (forward["median"], forward["p95"], forward["worst"])
        found.add_row(
            each["init"], str(each["models"]), str(each["layers"]), *map(_told, figures),
            str(forward["beyond_2"]), str(each["far"]), str(each["far_for_sure"]),
            _told(backward["median"]), _told(backward["p95"]), _told(each["seconds"]),
        )  # fmt: skip
    return found


def _told(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", metavar="GLOB", default=["*"], help="names to take (default all)")
    parser.add_argument("--init", nargs="+", choices=INITS, default=list(INITS), help="default: all")
    parser.add_argument("--seeds", type=int, default=8, help="draws of the weights (default 8)")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="go on from, and add to, these JSON lines")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error("--seeds takes a number above 0")
    return options


def main() -> int:
    """Compare, print, and write the JSON; 130 if it was stopped."""
    options = parse()
    names = [each.name for each in entries() if any(fnmatchcase(each.name, glob) for glob in options.models)]
    chosen = [(init, name) for name in names for init in options.init]
    records, stopped = go_through(
        chosen, options.resume, "predicting", lambda init, name: compared(init, name, options.seeds)
    )
    console = Console(width=max(130, Console().width))
    totals = [summary(init, [each for each in records if each["library"] == init]) for init in options.init]
    console.print(table(totals))
    for total in totals:
        for each in total["worst_layers"]:
            if each["off"] is not None:
                console.print(f"{total['init']} {each['model']} {each['layer']}: {each['off']:+.2f}", highlight=False)
    for each in records:
        if each["state"] != "done":
            console.print(f"failed {each['library']} {each['name']}: {each['cause']}", highlight=False)
    if options.json is not None:
        write(options.json, totals, records, complete=not stopped)
    return 130 if stopped else 0


if __name__ == "__main__":
    sys.exit(main())
