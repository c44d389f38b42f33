"""How much of model libraries autoinit plans, without weights and without example inputs.

    python benchmarks/coverage.py
    python benchmarks/coverage.py --every 20 --resume coverage.jsonl --json coverage.json
    python benchmarks/coverage.py --library timm --models 'swin*' 'nfnet_f0'
    python benchmarks/coverage.py --library monai ultralytics diffusers --check

Without --library it takes timm, torchvision and transformers. Any other importable package will do whose models can be
listed: `_packages.py` says how, for some by a rule of their own. Where no input can be guessed for a model and the
benchmark knows one, it is planned with that, and counted.

With --check, each model of up to --largest parameters is also constructed with weights, initialised by `autoinit` and
checked: no finding of warning or above is expected but INI301, of weights that its forward does not use.

Every parameter of two or more dimensions must be found again in the plan: as a layer's weight, as its bias, or among
`others` with its kind; `lost` counts the rest. An unresolved layer is one whose nonlinearity was not found. A model
that its library cannot construct from defaults is counted apart, and is no failure.

A run that was stopped goes on with the same --resume FILE, which has a line for each model that is done: delete it
after changing anything. A model during which the process itself died is tried once more, then given up.
"""

import argparse
import statistics
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from _libraries import LIBRARIES, NotConstructibleError, construct, inputs, names, shipped, shrunk
from _steps import Record, TimeUpError, finish, go_through, limited, shortened, sliced, totalled
from _workers import DiedError, OvertimeError, Worker
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import nn

from autoinit import Plan, autoinit, check, plan
from autoinit.errors import AutoinitError, TraceError

GRACE = 15.0
"""Seconds beyond the limit after which a process that hears no alarm, inside one long call, is ended."""


def attempted(library: str, name: str, limit: float, worker: Worker, small: Worker) -> Record:
    """One model, planned in a process of its own: with its default configuration, else with a shrunken one."""
    record = _apart(library, name, limit, worker)
    if record["state"] != "failed" or library != "transformers":
        return record
    second = _apart(library, name, limit, small)
    return {**second, "default_failed": record["cause"]} if second["state"] == "planned" else record


def _apart(library: str, name: str, limit: float, worker: Worker) -> Record:
    try:
        return worker(library, name)
    except OvertimeError:
        cause, kind = f"took longer than {limit:g} s", "timeout"
    except DiedError as error:
        cause, kind = str(error), "fault"
    return {"library": library, "name": name, "state": "failed", "cause": cause, "kind": kind}


def cover(library: str, name: str, limit: float, *, small: bool = False, largest: float = 0) -> Record:
    """One model, planned; or why not."""
    record: Record = {"library": library, "name": name, "configuration": "shrunken" if small else "default"}
    start = time.perf_counter()
    doing = "constructing"
    try:
        with limited(limit):
            model, record["made_on"] = (shrunk if small else construct)(library, name)
            record["parameters"] = sum(parameter.numel() for parameter in model.parameters())
            doing, start = "planning", time.perf_counter()
            made, record["with_inputs"] = _planned(library, name, model)
            record["seconds"] = time.perf_counter() - start
            record |= {"state": "planned", **described(made, model)}
            if record["parameters"] <= largest:
                doing = "checking"
                record["findings"] = _findings_after(library, name, with_inputs=record["with_inputs"])
        return record
    except TimeUpError:
        state = "not constructible" if doing == "constructing" else "failed"
        return {**record, "state": state, "cause": f"{doing} took longer than {limit:g} s", "kind": "timeout"}
    except NotConstructibleError as error:
        return {**record, "state": "not constructible", "cause": str(error), "kind": "library"}
    except AutoinitError as error:
        record["seconds"] = time.perf_counter() - start
        return {**record, "state": "failed", "cause": str(error), "kind": type(error).__name__}
    except Exception as error:  # noqa: BLE001 - a fault of autoinit, listed like any other failure
        record["seconds"] = time.perf_counter() - start
        at = traceback.extract_tb(error.__traceback__)[-1]
        cause = f"{type(error).__name__} at {Path(at.filename).name}:{at.lineno}: {error}"
        return {**record, "state": "failed", "cause": cause, "kind": "fault"}


def _planned(library: str, name: str, model: nn.Module) -> tuple[Plan, bool]:
    """The plan, and whether it took inputs from outside."""
    try:
        return plan(model), False
    except TraceError:
        given = inputs(library, name)
        if given is None:
            raise
        return plan(model, given), True


def _findings_after(library: str, name: str, *, with_inputs: bool) -> dict[str, list[str]]:
    """What `check` says, warnings and errors, of a model that `autoinit` has just written; layers by code."""
    model = shipped(library, name)
    given = inputs(library, name) if with_inputs else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the models' own
        autoinit(model, given, seed=0, force=True, verbose=False)
        findings = check(model, given).findings
    found: dict[str, list[str]] = {}
    for each in findings:
        if each.severity != "info" and each.code != "INI301":
            found.setdefault(each.code, []).append(each.layer)
    return found


def described(made: Plan, model: nn.Module) -> Record:
    """What the plan holds, and which parameters of two or more dimensions it does not."""
    large = {name for name, parameter in model.named_parameters() if parameter.dim() >= 2}
    weights = [layer.param for layer in made.layers]
    biases = [bias for layer in made.layers for bias in layer.biases]
    others = {other.name: other.kind for other in made.others}
    return {
        "tier": made.tier,
        "notes": list(made.notes),
        "layers": len(made.layers),
        "status": dict(Counter(layer.status for layer in made.layers)),
        "unresolved": {layer.name: layer.note for layer in made.layers if layer.status == "unresolved"},
        "unsupported": list(made.unsupported),
        "matrices": len(large),
        "matrices_in_layers": len(large & {*weights, *biases}),
        "matrices_in_others": dict(Counter(kind for name, kind in others.items() if name in large)),
        "open": {name: kind for name, kind in others.items() if name in large and kind in _OPEN},
        "lost": sorted(large - {*weights, *biases, *others}),
        "twice": sorted({name for name, count in Counter(weights).items() if count > 1} | ({*weights} & {*others})),
    }


_OPEN = ("uncalled", "weight", "other")
"""Kinds of other parameters that may be weights not found."""


def run(options: argparse.Namespace) -> tuple[list[Record], bool]:
    """The records of all models that were asked for, and whether it was stopped on the way."""
    chosen = [(library, name) for library in options.library for name in sliced(names(library), options)]
    workers = [
        Worker(
            partial(cover, limit=options.limit, small=small, largest=options.largest if options.check else 0),
            options.limit + GRACE,
            options.memory,
        )
        for small in (False, True)
    ]
    work = partial(attempted, limit=options.limit, worker=workers[0], small=workers[1])
    try:
        return go_through(chosen, options.resume, "planning", work)
    finally:
        for worker in workers:
            worker.end()


def summary(library: str, records: Sequence[Record]) -> Record:
    """One library's totals."""
    planned = [each for each in records if each["state"] == "planned"]
    timed = [each for each in records if "seconds" in each]
    worst = max(timed, key=lambda each: each["seconds"], default=None)
    others: Counter[str] = Counter()
    for each in planned:
        others.update(each["matrices_in_others"])
    return {
        "library": library,
        "models": len(records),
        "not_constructible": sum(each["state"] == "not constructible" for each in records),
        "failed": sum(each["state"] == "failed" for each in records),
        "tiers": dict(Counter(each["tier"] for each in planned)),
        "shrunken": sum(each["configuration"] == "shrunken" for each in planned),
        "with_inputs": sum(each["with_inputs"] for each in planned),
        "checked": sum("findings" in each for each in planned),
        "with_findings": sum(bool(each.get("findings")) for each in planned),
        "findings": dict(Counter(code for each in planned for code in each.get("findings", {})).most_common()),
        "layers": sum(each["layers"] for each in planned),
        "unresolved": sum(len(each["unresolved"]) for each in planned),
        "unsupported": dict(Counter(_operation(op) for each in planned for op in each["unsupported"]).most_common()),
        "matrices": sum(each["matrices"] for each in planned),
        "matrices_in_layers": sum(each["matrices_in_layers"] for each in planned),
        "matrices_in_others": dict(others.most_common()),
        "lost": sum(len(each["lost"]) for each in planned),
        "twice": sum(len(each["twice"]) for each in planned),
        "median_seconds": statistics.median(each["seconds"] for each in timed) if timed else None,
        "worst_seconds": worst["seconds"] if worst else None,
        "worst": worst["name"] if worst else None,
    }


def _operation(unsupported: str) -> str:
    return unsupported.partition(" at ")[0]


def table(totals: Record) -> Table:
    """One library's totals for people."""
    found = Table(title=totals["library"], show_header=False)
    found.add_column("what")
    found.add_column("figure", justify="right")
    found.add_column("details", style="dim")
    constructible = totals["models"] - totals["not_constructible"]
    traced = sum(totals["tiers"].values())
    left = totals["not_constructible"]
    found.add_row("models", f"{constructible:,}", f"{left} more not constructible from defaults" if left else "")
    share = f"{100 * traced / constructible:.1f} %" if constructible else ""
    small = [f"{totals['shrunken']} with a shrunken configuration"] if totals["shrunken"] else []
    found.add_row("planned", f"{traced:,}", ", ".join([share, *_counts(totals["tiers"]), *small]))
    if totals["with_inputs"]:
        found.add_row("  with inputs given", f"{totals['with_inputs']:,}", "none could be guessed")
    found.add_row("failed", _red(totals["failed"]), "")
    if totals["checked"]:
        found.add_row("initialised and checked", f"{totals['checked']:,}", "")
        found.add_row("  with findings", _red(totals["with_findings"]), ", ".join(_counts(totals["findings"])))
    found.add_row("weight layers", f"{totals['layers']:,}", "")
    found.add_row("unresolved", _red(totals["unresolved"]), "")
    unsupported = totals["unsupported"]
    found.add_row("unsupported operations", _red(sum(unsupported.values())), ", ".join(_counts(unsupported)))
    others = totals["matrices_in_others"]
    found.add_row("parameters of 2 or more dimensions", f"{totals['matrices']:,}", "")
    found.add_row("  in layers", f"{totals['matrices_in_layers']:,}", "")
    found.add_row("  others", f"{sum(others.values()):,}", ", ".join(_counts(others)))
    found.add_row("  lost", _red(totals["lost"]), "")
    found.add_row("  counted twice", _red(totals["twice"]), "")
    if totals["worst"] is not None:
        found.add_row("median, s", f"{totals['median_seconds']:.2f}", "")
        found.add_row("worst, s", f"{totals['worst_seconds']:.2f}", totals["worst"])
    return found


def _counts(counted: dict[str, int]) -> list[str]:
    return [f"{name} {count:,}" for name, count in counted.items()]


def _red(count: int) -> str:
    return f"[red]{count:,}[/]" if count else "0"


def failures(records: Sequence[Record], width: int) -> Iterator[str]:
    """What went wrong, model by model, as lines of markup."""
    for each in records:
        label = f"{each['library']} {each['name']}"
        if each["state"] == "failed":
            first, *tiers = each["cause"].splitlines()
            yield f"[red]failed[/] [bold]{escape(label)}[/] ({each['kind']})"
            yield from (f"    {escape(shortened(line, width))}" for line in tiers or [first])
        elif each["state"] == "not constructible":
            yield f"[dim]not constructible {escape(label)}: {escape(shortened(each['cause'], width))}[/]"
        else:
            for what in ("unresolved", "unsupported", "lost", "twice", "findings"):
                if each.get(what):
                    yield f"[yellow]{what}[/] [bold]{escape(label)}[/]: {escape(shortened(_joined(each[what]), width))}"


def _joined(found: dict[str, Any] | list[str]) -> str:
    some = [f"{name} ({note})" for name, note in found.items()] if isinstance(found, dict) else found
    rest = f", and {len(some) - 3} more" if len(some) > 3 else ""
    return ", ".join(some[:3]) + rest


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", nargs="+", default=list(LIBRARIES), help=f"default: {', '.join(LIBRARIES)}")
    parser.add_argument("--models", nargs="+", metavar="GLOB", default=["*"], help="names to take (default all)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every N-th of them")
    parser.add_argument("--offset", type=int, default=0, metavar="K", help="start at the K-th, counted from 0")
    parser.add_argument("--limit", type=float, default=60.0, metavar="SECONDS", help="for one model (default 60)")
    parser.add_argument("--memory", type=float, default=12.0, metavar="GB", help="address space (default 12)")
    parser.add_argument("--check", action="store_true", help="also initialise each model and check it")
    parser.add_argument("--largest", type=float, default=1e8, metavar="N", help="parameters up to which (default 1e8)")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="go on from, and add to, these JSON lines")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures and records here")
    options = parser.parse_args(arguments)
    for library in options.library:
        try:
            names(library)
        except ImportError as error:
            parser.error(f"--library {library}: {error}")
    if options.every < 1 or options.offset < 0 or options.limit <= 0 or options.memory <= 0:
        parser.error("--every, --limit and --memory take numbers above 0, --offset 0 or more")
    return options


def main() -> int:
    """Plan, print, and write the JSON; 130 if it was stopped."""
    options = parse()
    records, stopped = run(options)
    console = Console()
    totals = totalled(records, options.library, summary)
    shown = [failures(records, max(60, console.width - 24)), map(table, totals)]
    return finish(console, shown, totals, records, options.json, complete=not stopped)


if __name__ == "__main__":
    sys.exit(main())
