"""What `autoinit check` misses, and what it says without cause: on models whose every layer is known by hand.

    python benchmarks/faults.py
    python benchmarks/faults.py --models resnet18 'gpt2*' --kinds 'wrong *' clone --each 20 --json faults.json
    python benchmarks/faults.py --false-alarms --seeds 20 --resume alarms.jsonl

Missed faults: single faults, drawn at random among all of a kind, are written one at a time into a model fresh out of
autoinit. What is a fault, and which rules name it, follows by formulas from the truth tables of the tests, from the
modules' geometry and from the numbers drawn: a std in the accepted range, or off by no more than 10 % and what noise
hides all but once in ten million draws, is `no fault`. `found`: there is a finding about the right layer. `right rule`:
one of them has the code of the fault, or of another fault whose formula gives the same std within 3 % and three
standard errors, or of what is wrong with a call of torch.nn.init that does; `strict`: of one fault within 3 %.
`extra`: findings on other layers, or of wrong codes at warning or above beside the right one.

False alarms: models fresh out of autoinit, by seed, distribution and treatment of residual streams, have no finding.

A run that was stopped goes on with the same --resume FILE: delete it after changing anything.
"""

import argparse
import json
import platform
import random
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from _injections import KINDS, Fault, Ground, is_fault, right_codes
from _places import places
from _truth import CASES, Case, constructed, findings, seen_anew
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from autoinit import plan
from autoinit.checking._subject import Subject, subject
from autoinit.checking.findings import Finding
from autoinit.models import ModelView
from autoinit.planning import plan_dataflow
from autoinit.plans.distributions import DISTRIBUTIONS
from autoinit.plans.options import PlanOptions
from autoinit.tracing import trace

Record = dict[str, Any]

SLOW = ("vgg16_bn",)
"""Too large to be looked at a thousand times: only on request."""
TARGETS = {"right rule and layer, of faults": 0.99, "extra findings, of injections": 0.001}


@dataclass(frozen=True)
class Bench:
    """A model fresh out of autoinit, with what the check knows of it."""

    ground: Ground
    subject: Subject


def fresh(case: Case, seed: int) -> Bench:
    """Constructed on the CPU, and initialised."""
    torch.manual_seed(seed)
    model = constructed(case)
    plan(model).apply(model, seed)
    return Bench(Ground(case.name, model, places(case, model)), subject(ModelView.of(model), trace(model)))


def inject(bench: Bench, fault: Fault) -> tuple[Record, tuple[Finding, ...]]:
    """Write one fault, look, and put everything back."""
    parameters = bench.subject.parameters
    kept = {param: parameters[param].detach().clone() for param in fault.params}
    with torch.no_grad():
        fault.write()
        try:
            record: Record = {"fault": is_fault(fault)}
            found: tuple[Finding, ...] = ()
            if record["fault"]:
                codes = {"codes": right_codes(fault, noisy=True), "strict": right_codes(fault, noisy=False)}
                record |= {name: sorted(each) for name, each in codes.items()}
                found = findings(_looked_at(bench.subject, fault))
        except Exception as error:  # noqa: BLE001 - a fault of autoinit, listed like any other miss
            at = traceback.extract_tb(error.__traceback__)[-1]
            record["crash"] = f"{type(error).__name__} at {Path(at.filename).name}:{at.lineno}: {error}"
        finally:
            for param, values in kept.items():
                parameters[param].detach().copy_(values)
    return record, found


def _looked_at(fresh_subject: Subject, fault: Fault) -> Subject:
    """The subject with the fault in it; planned again where a weight is zero or was, as zero weights are kept."""
    written = [layer.name for layer in fresh_subject.plan.layers if layer.param in fault.params]
    seen = seen_anew(fresh_subject, written)
    if any(seen.is_zero(param) != fresh_subject.is_zero(param) for param in fault.params):
        resolutions = tuple(seen.resolutions.values())
        return replace(seen, plan=plan_dataflow(seen.dataflow, seen.view, PlanOptions(), resolutions))
    return seen


def judged(fault: Fault, record: Record, found: Sequence[Finding]) -> Record:
    """What of the findings is right, and what is too much."""
    here = [each for each in found if each.layer in fault.layers]
    right = [each for each in here if each.code in record["codes"]]
    extra = [
        each
        for each in found
        if (each.code, each.layer) not in fault.beside
        and (each not in here or (right and each not in right and each.severity != "info"))
    ]
    return record | {
        "found": bool(here),
        "right": bool(right),
        "right_strictly": any(each.code in record["strict"] for each in here),
        "said": [f"{each.code} {each.severity} {each.layer}" for each in found],
        "extra": [str(each) for each in extra],
    }


def missed(case: Case, options: argparse.Namespace) -> Record:
    """One model: so many faults of each kind, drawn at random among all."""
    bench = fresh(case, options.seed)
    alarms = [str(each) for each in findings(bench.subject)]
    injected: list[Record] = []
    for kind, faults in KINDS.items():
        if not any(fnmatchcase(kind, glob) for glob in options.kinds):
            continue
        chooser = random.Random(f"{options.seed} {case.name} {kind}")
        every = list(faults(bench.ground))
        torch.manual_seed(chooser.randrange(1 << 31))
        for fault in chooser.sample(every, min(options.each, len(every))):
            record, found = inject(bench, fault)
            where = {"model": case.name, "kind": kind, "layer": fault.layers[0], "told": fault.told}
            injected.append(where | (judged(fault, record, found) if record["fault"] else record))
    return {"model": case.name, "alarms": alarms, "injections": injected}


def false_alarms(case: Case, options: argparse.Namespace) -> Record:
    """One model: every seed, distribution and treatment of residual streams, and all that is found."""
    torch.manual_seed(options.seed)
    model = constructed(case)
    dataflow = trace(model)
    looked_at: Subject | None = None
    record: Record = {"model": case.name, "checks": 0, "alarms": []}
    for residual in ("keep", "depth"):
        for distribution in options.distributions:
            planned = plan(model, residual=residual, distribution=distribution)
            for seed in range(options.seed, options.seed + options.seeds):
                planned.apply(model, seed)
                looked_at = subject(ModelView.of(model), dataflow) if looked_at is None else seen_anew(looked_at)
                record["checks"] += 1
                record["alarms"] += [
                    f"{residual}, {distribution}, seed {seed}: {finding}" for finding in findings(looked_at)
                ]
    return record


def run(options: argparse.Namespace, work: Callable[[Case, argparse.Namespace], Record]) -> tuple[list[Record], bool]:
    """The records of all models that were asked for, and whether it was stopped on the way."""
    done = _resumed(options.resume)
    chosen = [case for case in CASES if _chosen(case.name, options)][options.offset :: options.every]
    records: list[Record] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("checking", total=len(chosen))
        for case in chosen:
            progress.update(task, description=case.name.ljust(20))
            try:
                started = time.perf_counter()
                record = done.get(case.name) or work(case, options)
            except KeyboardInterrupt:
                return records, True
            records.append({"seconds": time.perf_counter() - started} | record)
            if options.resume is not None and case.name not in done:
                with options.resume.open("a") as lines:
                    lines.write(json.dumps(records[-1]) + "\n")
            progress.advance(task)
    return records, False


def _chosen(name: str, options: argparse.Namespace) -> bool:
    if options.models:
        return any(fnmatchcase(name, glob) for glob in options.models)
    return name not in SLOW or options.false_alarms


def _resumed(file: Path | None) -> dict[str, Record]:
    lines = file.read_text().splitlines() if file is not None and file.exists() else []
    return {record["model"]: record for record in map(json.loads, lines)}


COLUMNS = ("injected", "no fault", "faults", "found", "right rule", "strict", "extra")


def counts(injections: Sequence[Record]) -> dict[str, int]:
    """The columns of the tables."""
    faults = [each for each in injections if each["fault"]]
    return dict(zip(COLUMNS, (
        len(injections), len(injections) - len(faults), len(faults), sum(each["found"] for each in faults),
        sum(each["right"] for each in faults), sum(each["right_strictly"] for each in faults),
        sum(len(each["extra"]) for each in faults),
    ), strict=True))  # fmt: skip


def table(title: str, key: str, injections: Sequence[Record]) -> Table:
    """Counts by kind of fault or by model, and of all."""
    made = Table(title=title, title_justify="left")
    made.add_column("")
    for column in COLUMNS:
        made.add_column(column, justify="right")
    made.add_column("right, %", justify="right")
    names = list(dict.fromkeys(each[key] for each in injections))
    groups = [(name, [each for each in injections if each[key] == name]) for name in names]
    for name, group in [*groups, ("all", injections)]:
        told = counts(group)
        share = f"{100 * told['right rule'] / told['faults']:.1f}" if told["faults"] else ""
        made.add_row(name, *(f"{each:,}" for each in told.values()), share, end_section=name == names[-1])
    return made


def misses(injections: Sequence[Record], most: int) -> Iterator[str]:
    """What was not found, wrongly named, or found too much, as lines of markup."""
    faults = [each for each in injections if each["fault"]]
    wrong = [each for each in faults if not each["right"]]
    for each in wrong[:most]:
        what = "[yellow]wrong rule[/]" if each["found"] else "[red]missed[/]"
        said = ", ".join(each["said"]) or each.get("crash", "nothing")
        expected = " or ".join(each["codes"])
        yield f"{what} {escape(_told(each))}: expected {expected}, said {escape(said)}"
    extra = [(each, finding) for each in faults for finding in each["extra"]]
    for each, finding in extra[:most]:
        yield f"[magenta]extra[/] {escape(_told(each))}: {escape(finding)}"
    if max(len(wrong), len(extra)) > most:
        yield f"[dim]{len(wrong)} misses and {len(extra)} extra findings in all: see the JSON.[/]"


def _told(injection: Record) -> str:
    return f"{injection['model']} {injection['layer']}: {injection['told']} ({injection['kind']})"


def report_missed(records: Sequence[Record], console: Console, most: int) -> Record:
    """Prints the tables; returns the figures."""
    injections = [each for record in records for each in record["injections"]]
    if not injections:
        return {}
    for line in misses(injections, most):
        console.print(line, soft_wrap=True, highlight=False)
    console.print(table("By model", "model", injections))
    console.print(table("By kind of fault", "kind", injections))
    told = counts(injections)
    shares = (told["right rule"] / max(1, told["faults"]), told["extra"] / max(1, told["faults"]))
    met = shares[0] >= TARGETS["right rule and layer, of faults"], shares[1] <= TARGETS["extra findings, of injections"]
    for (name, target), share, good in zip(TARGETS.items(), shares, met, strict=True):
        colour, sign = ("green" if good else "red"), (">=" if target > 0.5 else "<=")
        console.print(f"{name}: [{colour}]{100 * share:.2f} %[/] (target {sign} {100 * target:g} %)")
    return {"totals": told, "right": shares[0], "extra": shares[1], "met": all(met)}


def report_alarms(records: Sequence[Record], console: Console, most: int) -> Record:
    """Prints the table; returns the figures."""
    made = Table(title="False alarms", title_justify="left")
    for column in ("model", "checks", "alarms", "seconds"):
        made.add_column(column, justify="left" if column == "model" else "right")
    for record in records:
        told = [str(len(record["alarms"])), f"{record['seconds']:.0f}"]
        made.add_row(record["model"], f"{record['checks']:,}", *told)
    alarms = [f"{record['model']}: {alarm}" for record in records for alarm in record["alarms"]]
    for alarm in alarms[:most]:
        console.print(f"[red]alarm[/] {escape(alarm)}", soft_wrap=True, highlight=False)
    console.print(made)
    checks = sum(record["checks"] for record in records)
    console.print(f"{checks:,} checks, [{'red' if alarms else 'green'}]{len(alarms):,}[/] findings (target 0)")
    return {"checks": checks, "alarms": len(alarms), "met": not alarms}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--false-alarms", action="store_true", help="look at fresh models in place of faulty ones")
    parser.add_argument("--models", nargs="+", metavar="GLOB", help=f"truth models (default all but {', '.join(SLOW)})")
    parser.add_argument("--kinds", nargs="+", metavar="GLOB", default=["*"], help=f"of {', '.join(KINDS)}")
    parser.add_argument("--each", type=int, default=12, metavar="N", help="faults of a kind and model (default 12)")
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="of fresh models (default 20)")
    parser.add_argument(
        "--distributions", nargs="+", choices=DISTRIBUTIONS, default=[*DISTRIBUTIONS], help="default all"
    )
    parser.add_argument("--seed", type=int, default=0, help="the first, and of the choice of faults")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every N-th model")
    parser.add_argument("--offset", type=int, default=0, metavar="K", help="start at the K-th, counted from 0")
    parser.add_argument("--most", type=int, default=40, metavar="N", help="misses to print (default 40)")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="go on from, and add to, these JSON lines")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures and records here")
    options = parser.parse_args(arguments)
    if min(options.each, options.seeds, options.every) < 1 or min(options.offset, options.most) < 0:
        parser.error("--each, --seeds and --every take numbers above 0, --offset and --most 0 or more")
    return options


def main() -> int:
    """Check, print, and write the JSON; 130 if it was stopped."""
    options = parse()
    records, stopped = run(options, false_alarms if options.false_alarms else missed)
    console = Console()
    if not records:
        console.print(f"no truth model matches; there are {', '.join(case.name for case in CASES)}")
        return 130 if stopped else 2
    figures = (report_alarms if options.false_alarms else report_missed)(records, console, options.most)
    if options.json is not None:
        environment = {"python": platform.python_version(), "torch": torch.__version__, "seed": options.seed}
        found = {"environment": environment, "complete": not stopped, **figures, "models": records}
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 130 if stopped else 0


if __name__ == "__main__":
    sys.exit(main())
