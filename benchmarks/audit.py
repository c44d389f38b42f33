"""What `autoinit check` finds in the models of torchvision and timm as shipped, and whether the signal bears it out.

    python benchmarks/audit.py
    python benchmarks/audit.py --library timm --every 12 --resume audit.jsonl --json audit.json
    python benchmarks/audit.py --models resnet18 'vit_b*' --kinds 20 --without-recording
    python benchmarks/audit.py --claims
    python benchmarks/audit.py --outliers --resume outliers.jsonl

Each model is constructed on the CPU from a fixed seed, with the weights that its constructor draws, and checked with
`recipe="auto"`. Then it runs once in training mode (dropout and stochastic depth off) on a small Gaussian batch, and
the second moments before and after each weight are held against the findings:

  gain off    output (less its bias) over input second moment, beside the nearest that would do, is outside [1/4, 4]:
              the weight does what an error says that it does. Precision is that share of the layers with an error.
  signal off  the second moment of the layer's own output (bias included) is outside [1/4, 4], whoever is to blame.

Models with more than --most parameters are passed over and counted. Of torchvision the classification models are taken.

--claims holds some public models against the recipe that their libraries or papers claim, and shows what strays and the
command that shows it. --outliers looks for elements far beyond all others (INI006) in the smallest model of each family
of timm.

A run that was stopped goes on with the same --resume FILE, which has a line for each model that is done: delete it
after changing anything.
"""

import argparse
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import _claims
import _outliers
from _audited import audit, kinds
from _libraries import LIBRARIES, classifies, names
from _signals import off
from _steps import Record, finish, go_through, shortened, sliced, totalled
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from autoinit.checking.findings import Severity
from autoinit.checking.rules.registry import rules

COLOURS = {"error": "red", "warning": "yellow", "info": "dim"}


def run(options: argparse.Namespace) -> tuple[list[Record], bool]:
    """The records of all models that were asked for, and whether it was stopped on the way."""
    chosen = [
        (library, name)
        for library in options.library
        for name in sliced([each for each in names(library) if classifies(library, each)], options)
    ]
    work = partial(
        audit,
        limit=options.limit,
        most=round(options.most * 1e6),
        batch=options.batch,
        recorded=options.recording,
        recipe=options.recipe,
    )
    return go_through(chosen, options.resume, "checking", work)


def summary(library: str, records: Sequence[Record]) -> Record:
    """One library's totals."""
    checked = [each for each in records if each["state"] == "checked"]
    found = [(each["name"], finding) for each in checked for finding in each["findings"]]
    layers = [layer for each in checked for layer in each["layers"]]
    worst = sorted(
        {layer["worst"] for layer in layers}, key=lambda each: (each not in list(Severity), _rank(each), each)
    )
    ratios = [each["check_seconds"] / each["plan_seconds"] for each in checked]
    return {
        "library": library,
        "models": len(records),
        **{state.replace(" ", "_"): _count(records, state) for state in ("too large", "not constructible", "failed")},
        "checked": len(checked),
        "not_run": sum("not_run" in each for each in checked),
        "with": {
            str(level): sum(any(finding["severity"] == level for finding in each["findings"]) for each in checked)
            for level in Severity
        },
        "recipes": dict(Counter(each["recipe"] or "none" for each in checked).most_common()),
        "seconds": {
            "plan": sum(each["plan_seconds"] for each in checked),
            "check": sum(each["check_seconds"] for each in checked),
            "median_ratio": statistics.median(ratios) if ratios else None,
        },
        "rules": {code: _by_severity(code, found) for code in sorted({finding["code"] for _, finding in found})},
        "layers": {each: _borne_out([layer for layer in layers if layer["worst"] == each]) for each in worst},
        "kinds": kinds(found),
    }


def _rank(worst: str) -> int:
    return [*Severity, worst].index(worst)


def _count(records: Sequence[Record], state: str) -> int:
    return sum(each["state"] == state for each in records)


def _by_severity(code: str, found: Sequence[tuple[str, Record]]) -> Record:
    mine = [(name, finding) for name, finding in found if finding["code"] == code]
    counted: Record = {level: sum(finding["severity"] == level for _, finding in mine) for level in Severity}
    errors = [finding for _, finding in mine if finding["severity"] == "error"]
    return {**counted, "models": len({name for name, _ in mine}), "errors": _borne_out(errors)}


def _borne_out(layers: Sequence[Record]) -> Record:
    """How many layers there are, were measured, and are off."""
    gains = [each["gain"] for each in layers if "gain" in each]
    signals = [each["leaving"] for each in layers if "leaving" in each]
    return {
        "layers": len(layers),
        "gains": len(gains),
        "gain_off": sum(map(off, gains)),
        "signals": len(signals),
        "signal_off": sum(map(off, signals)),
    }


def tables(totals: Record, most: int) -> Iterator[Table]:
    """One library's totals for people."""
    yield _models(totals)
    by_rule = Table("rule", title=f"{totals['library']}: findings by rule, and what one forward makes of the errors")
    for column in (*Severity, "models", "gain off", "signal off"):
        by_rule.add_column(column, justify="right")
    for code, counts in totals["rules"].items():
        figures = (f"{counts[each]:,}" for each in (*Severity, "models"))
        by_rule.add_row(f"{code} {rules()[code].name}", *figures, *_off(counts["errors"]))
    yield by_rule
    layers = Table("gravest finding of scale", title=f"{totals['library']}: layers, and what one forward makes of them")
    for column in ("layers", "gain off", "signal off"):
        layers.add_column(column, justify="right")
    for worst, counts in totals["layers"].items():
        colour = COLOURS.get(worst, "green")
        layers.add_row(f"[{colour}]{worst}[/]", f"{counts['layers']:,}", *_off(counts))
    yield layers
    yield _kinds(totals, most)


def _off(counts: Record) -> tuple[str, str]:
    """How many gains and signals are off, of those that could be measured."""
    gains = f"{counts['gain_off']:,} {_share(counts['gain_off'], counts['gains'])}"
    signals = f"{counts['signal_off']:,} {_share(counts['signal_off'], counts['signals'])}"
    return gains if counts["gains"] else "", signals if counts["signals"] else ""


def _models(totals: Record) -> Table:
    table = Table(title=totals["library"], show_header=False)
    table.add_column("what")
    table.add_column("figure", justify="right")
    table.add_column("details", style="dim")
    left = {what: totals[what] for what in ("too_large", "not_constructible") if totals[what]}
    table.add_row(
        "models", f"{totals['models']:,}", ", ".join(f"{n} {what.replace('_', ' ')}" for what, n in left.items())
    )
    table.add_row("checked", f"{totals['checked']:,}", f"{totals['not_run']} of them not run" * bool(totals["not_run"]))
    table.add_row("failed", f"[red]{totals['failed']}[/]" if totals["failed"] else "0", "")
    for level, count in totals["with"].items():
        table.add_row(f"  with {level}s", f"{count:,}", _share(count, totals["checked"]))
    seconds = totals["seconds"]
    if seconds["median_ratio"] is not None:
        told = f"planning {seconds['plan']:.1f} s; median ratio {seconds['median_ratio']:.2f}"
        table.add_row("checking, s", f"{seconds['check']:.1f}", told)
    table.add_row("recipes", "", ", ".join(f"{name} {count}" for name, count in totals["recipes"].items()))
    return table


def _kinds(totals: Record, most: int) -> Table:
    table = Table(title=f"{totals['library']}: the {most} most frequent kinds of each rule (medians)")
    for column in ("rule", "layers", "feeds", "produced by", "example"):
        table.add_column(column, overflow="fold")
    for column in ("count", "models", "std", "gain", "output"):
        table.add_column(column, justify="right")
    shown: Counter[str] = Counter()
    for each in totals["kinds"]:
        shown[each["code"]] += 1
        if shown[each["code"]] <= most:
            code = f"[{COLOURS[each['severity']]}]{each['code']}[/]"
            texts = (each["pattern"], each["feeds"], shortened(each["produced"], 60), each["example"])
            figures = (_figure(each[name]) for name in ("ratio", "gain", "leaving"))
            table.add_row(code, *map(escape, texts), f"{each['count']:,}", f"{each['models']:,}", *figures)
    return table


def _figure(value: float | None) -> str:
    return f"{value:.2g}" if value is not None else ""


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else ""


def failures(records: Sequence[Record], width: int) -> Iterator[str]:
    """What went wrong, model by model, as lines of markup."""
    for each in records:
        label = f"[bold]{escape(each['library'])} {escape(each['name'])}[/]"
        if each["state"] in ("failed", "not constructible"):
            yield f"[red]{each['state']}[/] {label} ({each['kind']}): {escape(shortened(each['cause'], width))}"
        if "not_run" in each:
            yield f"[yellow]not run[/] {label}: {escape(shortened(each['not_run'], width))}"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add: Callable[..., object] = parser.add_argument
    add("--library", nargs="+", choices=LIBRARIES, default=["torchvision", "timm"], help="default: torchvision timm")
    add("--models", nargs="+", metavar="GLOB", default=["*"], help="names to take (default all)")
    add("--every", type=int, default=1, metavar="N", help="take every N-th of them")
    add("--offset", type=int, default=0, metavar="K", help="start at the K-th, counted from 0")
    add("--most", type=float, default=100.0, metavar="M", help="million parameters of a model (default 100)")
    add("--batch", type=int, default=2, metavar="N", help="of the forward (default 2)")
    add("--recipe", default="auto", help="as check takes it (default auto)")
    add("--without-recording", dest="recording", action="store_false", help="judge by the values alone")
    add("--limit", type=float, default=120.0, metavar="SECONDS", help="for one model's check, and its forward")
    add("--kinds", type=int, default=8, metavar="N", help="rows of each rule in the last table (default 8)")
    add("--claims", action="store_true", help="hold public models against the recipe that they claim, and no more")
    add("--outliers", action="store_true", help="look for INI006 in each family of timm, and no more")
    add("--resume", type=Path, metavar="FILE", help="go on from, and add to, these JSON lines")
    add("--json", type=Path, metavar="FILE", help="write all figures and records here")
    options = parser.parse_args(arguments)
    if options.every < 1 or options.offset < 0 or options.batch < 2 or min(options.limit, options.most) <= 0:
        parser.error("--every, --limit and --most take numbers above 0, --offset 0 or more, --batch 2 or more")
    return options


def outliers(console: Console, options: argparse.Namespace) -> int:
    """What INI006 finds in timm's families, printed."""
    chosen = [("timm", each) for each in sliced(_outliers.families(), options)]
    work = partial(_outliers.look, limit=options.limit, most=round(options.most * 1e6))
    records, stopped = go_through(chosen, options.resume, "checking", work)
    shown = [_outliers.failures(records, max(60, console.width - 40)), _outliers.tables(records)]
    return finish(console, shown, [], records, options.json, complete=not stopped)


def main() -> int:
    """Check, print, and write the JSON; 130 if it was stopped."""
    options = parse()
    console = Console(width=None if sys.stdout.isatty() else 200)
    if options.claims:
        claimed = list(_claims.audited())
        return finish(console, [[_claims.table(claimed)]], [], claimed, options.json, complete=True)
    if options.outliers:
        return outliers(console, options)
    records, stopped = run(options)
    totals = totalled(records, options.library, summary)
    shown = [failures(records, max(60, console.width - 24)), *(tables(each, options.kinds) for each in totals)]
    return finish(console, shown, totals, records, options.json, complete=not stopped)


if __name__ == "__main__":
    sys.exit(main())
