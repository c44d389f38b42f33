"""How long autoinit takes: beside a `kaiming_normal_` loop, beside the model's own initialisation, and by its stages.

    python benchmarks/speed.py
    python benchmarks/speed.py --models resnet50 mlp --repeats 9 --json speed.json

Contenders take turns in one process, and ratios are medians over the rounds of ratios taken in one round, so that a
machine that is busy with something else disturbs both alike. `others` tells how many cores other processes used
meanwhile: above 0.2 the second thread of autoinit is not its own, and the ratios are too high.
It exits with 1 where a target is missed, but for --quick.

The model's own initialisation is the time to construct it less the time to construct it with the methods that fill
tensors switched off.
"""

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import torch
from _models import MLP, MODELS, construct, kaiming_loop, without_filling
from _processes import import_seconds, memory
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from autoinit import autoinit, check, plan
from autoinit.models import ModelView
from autoinit.planning import plan_dataflow
from autoinit.plans.options import PlanOptions
from autoinit.resolving import resolve
from autoinit.tracing import trace
from autoinit.writing.applying import measure
from autoinit.writing.sampling import fill

PARTS = ("models", "filling", "planning", "check", *(("memory",) if sys.platform == "linux" else ()), "import")
TARGETS = {
    "resnet50 / kaiming loop": 1.1,
    "convnext_base / kaiming loop": 0.7,
    "vit_large_patch16_224 / kaiming loop": 0.6,
    "mlp, 2000 layers / kaiming loop": 4.0,
    "filling / normal_, one thread": 1.0,
    "planning 10000 / 1000 layers": 12.0,
    "resnet50: check beyond its planning / planning and one pass": 1.0,
    "convnext_base: check beyond its planning / planning and one pass": 1.0,
    "vit_large_patch16_224: check beyond its planning / planning and one pass": 1.0,
    "vit_large_patch16_224: check, s": 5.0,
    "memory above the model, MB": 100.0,
    "import over torch, s": 0.3,
}
"""Upper limits, on two cores."""

Figures = dict[str, Any]


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call, after a garbage collection."""
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def stages(model: torch.nn.Module) -> dict[str, float]:
    """Seconds of each stage of one autoinit, called one by one."""
    gc.collect()
    at = [time.perf_counter()]
    dataflow = trace(model)
    at.append(time.perf_counter())
    resolve(dataflow)
    at.append(time.perf_counter())
    made = plan_dataflow(dataflow, ModelView.of(model), PlanOptions())
    at.append(time.perf_counter())
    made.apply(model)
    at.append(time.perf_counter())
    traced, resolved, planned, written = (after - before for before, after in pairwise(at))
    # plan_dataflow resolves too.
    return {"trace": traced, "resolve": resolved, "plan": max(0.0, planned - resolved), "write": written}


class OtherLoad:
    """How many cores other processes use, from its making on."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._before = self._busy()

    @staticmethod
    def _busy() -> float:
        times = psutil.cpu_times()
        return float(times.user + times.system) - time.process_time()

    def cores(self) -> float:
        """The mean so far."""
        return max(0.0, self._busy() - self._before) / (time.perf_counter() - self._start)


def time_model(name: str, layers: int, repeats: int, advance: Callable[[], None]) -> Figures:
    """All contenders on one model, in turn; the order of autoinit and the loop alternates from round to round."""
    taken: dict[str, list[float]] = {"autoinit": [], "kaiming": [], "construction": [], "construction_unfilled": []}
    split: dict[str, list[float]] = {"trace": [], "resolve": [], "plan": [], "write": []}
    autoinit(construct(name, layers), verbose=False)
    load = OtherLoad()
    for number in range(repeats):
        made: list[torch.nn.Module] = []
        taken["construction"].append(seconds(lambda made=made: made.append(construct(name, layers))))  # type: ignore[misc]
        with without_filling():
            taken["construction_unfilled"].append(seconds(lambda: construct(name, layers)))
        model = made.pop()
        contenders: dict[str, Callable[[], object]] = {
            "autoinit": lambda model=model: autoinit(model, verbose=False),  # type: ignore[misc]
            "kaiming": lambda model=model: kaiming_loop(model),  # type: ignore[misc]
        }
        for contender in sorted(contenders, reverse=bool(number % 2)):
            taken[contender].append(seconds(contenders[contender]))
        for stage, value in stages(model).items():
            split[stage].append(value)
        advance()
    own = [whole - rest for whole, rest in zip(taken["construction"], taken["construction_unfilled"], strict=True)]
    return {
        "name": name if name != "mlp" else f"mlp, {layers} layers",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seconds": taken,
        "stages": {stage: statistics.median(values) for stage, values in split.items()},
        "autoinit_over_kaiming": median_ratio(taken["autoinit"], taken["kaiming"]),
        "own_init": own,
        "autoinit_over_own_init": median_ratio(taken["autoinit"], own),
        "other_cores": load.cores(),
    }


def median_ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def time_filling(repeats: int, advance: Callable[[], None]) -> Figures:
    """2^24 normal numbers in one thread, by the sampler and by torch; processor time."""
    tensor, threads = torch.empty(1 << 24), torch.get_num_threads()
    contenders: dict[str, Callable[[], object]] = {
        "filling": lambda: fill(tensor, distribution="normal", std=0.02, seed=0, name="weight"),
        "normal_": lambda: tensor.normal_(0.0, 0.02),
    }
    taken: dict[str, list[float]] = {contender: [] for contender in contenders}
    torch.set_num_threads(1)
    try:
        for number in range(repeats):
            for contender in sorted(contenders, reverse=bool(number % 2)):
                start = time.thread_time()
                contenders[contender]()
                taken[contender].append(time.thread_time() - start)
            advance()
    finally:
        torch.set_num_threads(threads)
    return {"seconds": taken, "over": median_ratio(taken["filling"], taken["normal_"])}


def time_planning(sizes: Sequence[int], repeats: int, advance: Callable[[], None]) -> list[Figures]:
    """`plan` of MLPs of several depths, on the meta device."""
    with torch.device("meta"):
        models = {size: MLP(size) for size in sizes}
    taken: dict[int, list[float]] = {size: [] for size in sizes}
    plan(models[min(sizes)])
    for _ in range(repeats):
        for size, model in models.items():
            taken[size].append(seconds(lambda model=model: plan(model)))  # type: ignore[misc]
        advance()
    return [{"layers": size, "seconds": values} for size, values in taken.items()]


def time_check(name: str, layers: int, repeats: int, advance: Callable[[], None]) -> Figures:
    """`check` of a model that autoinit has initialised, beside its planning and one pass over its weights."""
    model = construct(name, layers)
    autoinit(model, verbose=False)
    made = plan(model)
    contenders: dict[str, Callable[[], object]] = {
        "plan": lambda: plan(model),
        "pass": lambda: measure(made, ModelView.of(model)),
        "check": lambda: check(model),
    }
    taken: dict[str, list[float]] = {contender: [] for contender in contenders}
    check(model)
    load = OtherLoad()
    for number in range(repeats):
        for contender in sorted(contenders, reverse=bool(number % 2)):
            taken[contender].append(seconds(contenders[contender]))
        advance()
    beyond = [whole - planned for whole, planned in zip(taken["check"], taken["plan"], strict=True)]
    both = [planned + once for planned, once in zip(taken["plan"], taken["pass"], strict=True)]
    return {
        "name": name if name != "mlp" else f"mlp, {layers} layers",
        "seconds": taken,
        "beyond_over_plan_and_pass": median_ratio(beyond, both),
        "other_cores": load.cores(),
    }


def run(options: argparse.Namespace) -> Figures:
    """Everything that was asked for."""
    found: Figures = {
        "environment": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "repeats": options.repeats,
        }
    }
    rounds = options.repeats * (2 * len(options.models) + 2) + len(options.models) + 1
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("timing", total=rounds)

        def advance() -> None:
            progress.advance(task)

        if "models" in options.parts:
            found["models"] = [time_model(each, options.layers, options.repeats, advance) for each in options.models]
        if "filling" in options.parts:
            found["filling"] = time_filling(options.repeats, advance)
        if "planning" in options.parts:
            found["planning"] = time_planning(options.sizes, options.repeats, advance)
        if "check" in options.parts:
            found["check"] = [time_check(each, options.layers, options.repeats, advance) for each in options.models]
        if "memory" in options.parts:
            found["memory"] = [{"name": each, **memory(each, options.layers)} for each in options.models]
        if "import" in options.parts:
            found["import"] = import_seconds(options.repeats)
    found["targets"] = compare(found)
    return found


def compare(found: Figures) -> list[Figures]:
    """Every target that was measured."""
    measured = {f"{each['name']} / kaiming loop": each["autoinit_over_kaiming"] for each in found.get("models", ())}
    if "filling" in found:
        measured["filling / normal_, one thread"] = found["filling"]["over"]
    planned = {each["layers"]: statistics.median(each["seconds"]) for each in found.get("planning", ())}
    if {1000, 10000} <= planned.keys():
        measured["planning 10000 / 1000 layers"] = planned[10000] / planned[1000]
    for each in found.get("check", ()):
        over = f"{each['name']}: check beyond its planning / planning and one pass"
        measured[over] = each["beyond_over_plan_and_pass"]
        measured[f"{each['name']}: check, s"] = statistics.median(each["seconds"]["check"])
    if found.get("memory"):
        measured["memory above the model, MB"] = max(each["first_above_mb"] for each in found["memory"])
    if "import" in found:
        measured["import over torch, s"] = found["import"]["over_torch"]
    return [
        {"what": what, "measured": measured[what], "limit": limit, "met": measured[what] <= limit}
        for what, limit in TARGETS.items()
        if what in measured
    ]


def tables(found: Figures) -> list[Table]:
    """The figures for people."""
    made = []
    if found.get("models"):
        made.append(_models_table(found["models"]))
    if found.get("planning"):
        table = Table("layers", "seconds", "ms a layer", title="plan(model) alone, on the meta device")
        for each in found["planning"]:
            median = statistics.median(each["seconds"])
            table.add_row(f"{each['layers']:,}", f"{median:.3f}", f"{1000 * median / each['layers']:.3f}")
        made.append(table)
    if found.get("check"):
        table = Table("model", "plan", "one pass", "check", "beyond / (plan + pass)", "others", title="check, seconds")
        for each in found["check"]:
            medians = [f"{statistics.median(values):.3f}" for values in each["seconds"].values()]
            ratio, others = each["beyond_over_plan_and_pass"], each["other_cores"]
            table.add_row(each["name"], *medians, f"[bold]{ratio:.2f}[/]", f"{others:.1f}")
        made.append(table)
    if found.get("memory"):
        table = Table("model", "process before", "first call", "second call", title="Peak memory above the model's, MB")
        for each in found["memory"]:
            table.add_row(each["name"], *(f"{each[k]:.0f}" for k in ("before_mb", "first_above_mb", "second_above_mb")))
        made.append(table)
    if found["targets"]:
        table = Table("target", "measured", "limit", "", title="Targets")
        for each in found["targets"]:
            mark = "[green]met[/]" if each["met"] else "[red]missed[/]"
            table.add_row(each["what"], f"{each['measured']:.2f}", f"{each['limit']:g}", mark)
        made.append(table)
    return made


def _models_table(models: Sequence[Figures]) -> Table:
    table = Table(title="autoinit(model, verbose=False), medians, seconds")
    for column in ("model", "M params", "autoinit", "loop", "/ loop", "own init", "/ own init"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for column in ("trace", "resolve", "plan", "write", "others"):
        table.add_column(column, justify="right", style="dim")
    for each in models:
        taken = {name: statistics.median(values) for name, values in each["seconds"].items()}
        table.add_row(
            each["name"],
            f"{each['parameters'] / 1e6:.1f}",
            f"{taken['autoinit']:.3f}",
            f"{taken['kaiming']:.3f}",
            f"[bold]{each['autoinit_over_kaiming']:.2f}[/]",
            f"{statistics.median(each['own_init']):.3f}",
            f"{each['autoinit_over_own_init']:.2f}",
            *(f"{value:.3f}" for value in each["stages"].values()),
            f"{each['other_cores']:.1f}",
        )
    return table


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="default: all")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="rounds (default 5)")
    parser.add_argument("--layers", type=int, default=2000, metavar="N", help="layers of the MLP (default 2000)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 10000], metavar="N", help="MLPs to plan")
    parser.add_argument("--quick", action="store_true", help="one round, MLPs of 10 and 100 layers: only a test")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here")
    options = parser.parse_args(arguments)
    if min(options.repeats, options.layers, *options.sizes) < 1:
        parser.error("--repeats, --layers and --sizes take numbers above 0")
    if options.quick:
        options.repeats, options.sizes = 1, [10, 100]
    return options


def main() -> None:
    """Measure, print, and write the JSON."""
    options = parse()
    found = run(options)
    console = Console(width=None if sys.stdout.isatty() else 130)
    for table in tables(found):
        console.print(table)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    if not options.quick and not all(each["met"] for each in found["targets"]):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
