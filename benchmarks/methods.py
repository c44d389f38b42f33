"""Initialisations compared: what they do to signals and gradients, how long they take, and what trains after them.

    python benchmarks/methods.py --resume methods.jsonl --json methods.json
    python benchmarks/methods.py --part models --models 'torchvision:vgg*' --without lsuv

Methods: the model's own initialisation, kaiming_normal_ (relu), xavier_normal_ and orthogonal_ on every weight, lsuv,
and autoinit's four; in the parts that train, also GradInit and MetaInit, which tune He's weights by gradients.

Part `models`: of the 62 smallest of torchvision's 80 classification models (up to 88.6 million parameters) and of 20
plain networks without normalisation, 10 to 200 weights deep: the share of weight layers whose pre-activation has a
second moment in [1/2, 2], and the spread of the second moments of its gradient, log10 of largest over smallest. Both
are measured by `autoinit.signal.measure`, in training mode, on a batch that no method has seen. --models takes any of
the 80. The seconds are those of initialising; for the model's own initialisation, of its construction. Layers whose
weight is zero, and those that get no signal because of such weights, are counted apart. lsuv may take --limit seconds
for a model. The column "same models" leaves out, for every method, the models that any method did not finish.

Part `lsuv`: resnet50, 4 images of 224 pixels: lsuv against method="data", by the clock, and by the layers whose
output has std 1 +- 0.1 on that batch.

Part `training`: plain networks on scikit-learn's digits, 8 activations, 3 depths, 3 seeds; SGD with momentum at the
same six learning rates for every method, 12 epochs: the share of settings that reach 90 % test accuracy at one of the
rates, after how many epochs (beside `mirrored`'s where both reach), and how often each rate was the first to. The rest
of a setting's rates stop there; hopeless ones are given up on the way. autoinit's `signal` and `data` are there twice,
the second time with orthogonal weights, as lsuv has them; `mirrored` the second time with Gaussian ones. Beside these
72 settings there are networks of 200 layers, of 3 and of 5; 30 layers by Adam; and images of which half have their
contrast inverted, which no linear function can tell (95 %, 30 layers).

Part `deep`: plain convolutional networks of 10, 30 and 60 layers, VGG-19, a residual network of 20 blocks, an
autoencoder of 20 layers and a recurrence over 50 steps, all without norms, on images of digits; SGD with momentum and
Adam, 5 epochs. Each method's best of five learning rates by the first seed, and there the mean over three seeds of the
best test accuracy (of the autoencoder, the share of the variance that it gives back).

The JSON has what `propagate` predicts of each: output, gradients by layer, depth at which inputs look alike.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from _depth import RUNS, deep_table, deep_totals, deep_trained
from _learning import learning, learning_table
from _methods import LEARNT, METHODS, TITLES, VARIANTS
from _preserving import BATCH, chosen_names, preserved
from _steps import Key, Record, go_through, stored, write
from _training import ADAM, CONTRAST, DEEPEST, SEEDS, SETTINGS, SHALLOW, trained
from _versus import RIVALS, contested
from rich.console import Console
from rich.table import Table

TRAINING = (*METHODS, *LEARNT, *VARIANTS)
"""The methods of the parts that train."""
PARTS = ("models", "lsuv", "training", "deep")
GROUPS = {"torchvision": "torchvision's classification models", "plain": "plain networks without normalisation"}


def chosen(options: argparse.Namespace) -> list[Key]:
    """Method and name of all that is to be done, model by model."""
    methods = taken(METHODS, options)
    training = taken(TRAINING, options)

    def matching(names: Sequence[str]) -> list[str]:
        globs = options.models or ["*"]
        return [name for name in names if any(fnmatchcase(name, glob) for glob in globs)]

    keys: list[Key] = []
    if "models" in options.part:
        names = matching(list(chosen_names(every=options.models is not None)))
        keys += [(method, name) for name in names for method in methods]
    if "lsuv" in options.part:
        keys += [(method, "versus:resnet50") for method in RIVALS if method in methods]
    if "training" in options.part:
        names = matching([f"training:{setting}" for setting in (*SETTINGS, *DEEPEST, *SHALLOW, *CONTRAST, *ADAM)])
        keys += [(method, name) for name in names for method in training]
    if "deep" in options.part:
        keys += [(method, name) for name in matching([f"deep:{run}" for run in RUNS]) for method in training]
    return keys


def taken(methods: Sequence[str], options: argparse.Namespace) -> list[str]:
    """Those that --without leaves."""
    return [each for each in methods if each not in options.without]


def done(method: str, name: str, limit: float, seeds: Sequence[int] = SEEDS) -> Record:
    """One method on one model or setting. seeds: of the parts that train."""
    part, _, rest = name.partition(":")
    try:
        if part == "versus":
            return contested(method, rest)
        if part == "training":
            return trained(method, rest, seeds)
        if part == "deep":
            return deep_trained(method, rest, seeds)
        return preserved(method, name, limit if method == "lsuv" else None)
    except Exception as error:  # noqa: BLE001 - listed like any other failure
        cause = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return {"library": method, "name": name, "state": "failed", "cause": cause}


def summary(method: str, group: str, records: Sequence[Record]) -> Record:
    """One method's totals over one group of models. records: of all methods and groups."""
    inside_group = [each for each in records if each["name"].startswith(f"{group}:")]
    lacking = {each["name"] for each in inside_group if each["state"] != "done"}
    mine = [each for each in inside_group if each["library"] == method]
    finished = [each for each in mine if each["state"] == "done"]
    spreads = [math.inf if each["spread"] is None else each["spread"] for each in finished]
    seconds = [each["seconds"] for each in finished]
    return {
        "method": method,
        "group": group,
        "models": len(mine),
        **{state: sum(each["state"] == state for each in mine) for state in ("done", "unfinished", "failed")},
        **{what: sum(each[what] for each in finished) for what in ("layers", "inside", "apart")},
        "share": _share(finished),
        "share_same_models": _share([each for each in finished if each["name"] not in lacking]),
        "dying": sum(math.isinf(each) for each in spreads),
        "median_spread": _finite(statistics.median(spreads)) if spreads else None,
        "worst_spread": _finite(max(spreads)) if spreads else None,
        "median_seconds": statistics.median(seconds) if seconds else None,
        "seconds": sum(seconds),
    }


def _share(records: Sequence[Record]) -> float | None:
    layers = sum(each["layers"] for each in records)
    return sum(each["inside"] for each in records) / layers if layers else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def table(group: str, totals: Sequence[Record]) -> Table:
    """One group's totals for people."""
    found = Table(title=f"{GROUPS[group]}, batch {BATCH}")
    found.add_column("")
    heads = (
        "models",
        "layers",
        "in [1/2, 2]",
        "same models",
        "apart",
        "gradient: median",
        "worst",
        "median, s",
        "all, s",
    )
    for head in heads:
        found.add_column(head, justify="right")
    for each in totals:
        lacking = each["models"] - each["done"]
        models = f"{each['done']}" + (f" of {each['models']}" if lacking else "")
        spreads = [_spread(each[what], each["done"]) for what in ("median_spread", "worst_spread")]
        found.add_row(
            TITLES[each["method"]], models, f"{each['layers']:,}", _percent(each["share"]),
            _percent(each["share_same_models"]), str(each["apart"]), *spreads,
            _seconds(each["median_seconds"]), _seconds(each["seconds"]),
        )  # fmt: skip
    return found


def _spread(value: float | None, models: int) -> str:
    if not models:
        return ""
    return "dead" if value is None else f"{value:.2f}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def versus(records: Sequence[Record]) -> tuple[Record, Table] | None:
    """Seconds and layers within the tolerance, of both, and their ratio."""
    found = {each["library"]: each for each in records if each["name"] == "versus:resnet50" and each["state"] == "done"}
    if set(found) != set(RIVALS):
        return None
    times = found["lsuv"]["seconds"] / found["data"]["seconds"]
    shown = Table(title=f"resnet50, 4 images of 224 pixels: {times:.1f} times faster than lsuv")
    for head in ("", "seconds", "layers", "std 1 +- 0.1", "worst std"):
        shown.add_column(head, justify="right" if head else "left")
    for method, each in found.items():
        shown.add_row(
            TITLES[method], f"{each['seconds']:.2f}", str(each["layers"]), str(each["within"]), f"{each['worst']:.3f}"
        )
    return {"part": "lsuv", "times_faster": times, **found}, shown


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    parser.add_argument(
        "--models", nargs="+", metavar="GLOB", help="names to take, such as 'torchvision:res*', 'plain:*'"
    )
    parser.add_argument("--without", nargs="+", choices=TRAINING, default=[], metavar="METHOD", help="leave these out")
    parser.add_argument("--limit", type=float, default=30.0, metavar="SECONDS", help="of lsuv for a model (default 30)")
    parser.add_argument(
        "--seeds", type=int, choices=range(1, len(SEEDS) + 1), default=len(SEEDS), help="to train with (default 3)"
    )
    parser.add_argument("--resume", type=Path, metavar="FILE", help="go on from, and add to, these JSON lines")
    parser.add_argument("--stored", action="store_true", help="run nothing that is not in the file of --resume")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures and records here")
    options = parser.parse_args(arguments)
    if not options.limit > 0:
        parser.error("--limit takes a number above 0")
    return options


def main() -> int:
    """Compare, print, and write the JSON; 130 if it was stopped."""
    options = parse()
    held = stored(options.resume)
    records, stopped = go_through(
        [key for key in chosen(options) if not options.stored or key in held],
        options.resume,
        "comparing",
        lambda method, name: done(method, name, options.limit, SEEDS[: options.seeds]),
    )
    console = Console(width=max(130, Console().width))
    totals: list[Record] = []
    methods = taken(METHODS, options)
    for group in GROUPS:
        found = [summary(method, group, records) for method in methods]
        if any(each["models"] for each in found):
            console.print(table(group, found))
            totals += found
    race = versus(records)
    if race is not None:
        totals.append(race[0])
        console.print(race[1])
    learnt = learning(records, taken(TRAINING, options))
    if learnt:
        console.print(learning_table(learnt))
        totals += learnt
    deep = deep_totals(records)
    if deep:
        console.print(deep_table(deep))
        totals += deep
    for each in records:
        if each["state"] != "done":
            console.print(f"{each['state']} {each['library']} {each['name']}: {each['cause']}", highlight=False)
    if options.json is not None:
        write(options.json, totals, records, complete=not stopped)
    return 130 if stopped else 0


if __name__ == "__main__":
    sys.exit(main())
