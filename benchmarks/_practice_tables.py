"""What the trainings come to: means and standard errors, wins, ties and losses at two standard errors."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from _practice_running import NETWORKS, Outcome
from _practice_starts import OPTIONS, RIVALS, TITLES
from rich.table import Table

CLEAR = 2.0
"""Standard errors of a difference beyond which it counts."""
Found = dict[str, Outcome]
"""The outcomes of one network, by start."""


def by_network(outcomes: Sequence[Outcome]) -> dict[str, Found]:
    """In the order of the outcomes."""
    found: dict[str, Found] = {}
    for each in outcomes:
        found.setdefault(each.network, {})[each.start] = each
    return found


def best_rival(found: Found) -> Outcome | None:
    """The best of what people do without us."""
    return min((found[start] for start in RIVALS if start in found), key=lambda each: each.mean, default=None)


def verdict(ours: Outcome, other: Outcome) -> str:
    """`win`, `tie` or `loss`: at two standard errors of the difference."""
    if math.isinf(ours.mean) or math.isinf(other.mean):
        return "tie" if ours.mean == other.mean else "win" if ours.mean < other.mean else "loss"
    difference = ours.mean - other.mean
    if abs(difference) <= CLEAR * math.hypot(ours.error, other.error):
        return "tie"
    return "win" if difference < 0 else "loss"


def excess(ours: Outcome, other: Outcome) -> float:
    """How much worse, as a share of the other: negative where better."""
    if math.isinf(other.mean):
        return 0.0 if math.isinf(ours.mean) else -1.0
    return ours.mean / other.mean - 1


def counted(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Of each of our starts: wins, ties and losses against each rival, and against the best of them."""
    networks = by_network(outcomes)
    totals = []
    for start in OPTIONS:
        against = {rival: Counter[str]() for rival in (*RIVALS, "best")}
        worst = ("", -1.0)
        for name, found in networks.items():
            if start not in found:
                continue
            rivals = {rival: found[rival] for rival in RIVALS if rival in found}
            best = best_rival(found)
            if best is None:
                continue
            for rival, each in {**rivals, "best": best}.items():
                against[rival][verdict(found[start], each)] += 1
            worst = max(worst, (name, excess(found[start], best)), key=lambda each: each[1])
        if against["best"]:
            totals.append({"start": start, "against": {k: dict(v) for k, v in against.items()}, "worst": worst})
    return totals


MAIN = (*RIVALS, "plain", "train")
"""The starts of the first table."""


def figures(outcomes: Sequence[Outcome], title: str) -> Iterator[Table]:
    """One half: what people do beside the plan and the preset; and our other options."""
    networks = by_network(outcomes)
    shown = Table(title=f"{title}: what people do, autoinit, and its preset for training")
    _head(shown, [*(TITLES[each] for each in MAIN), "preset against the best of five"])
    others = [start for start in OPTIONS if start not in MAIN and any(start in found for found in networks.values())]
    options = Table(title=f"{title}: autoinit's methods and options")
    _head(options, [TITLES[each] for each in others])
    for name, found in networks.items():
        about = f"{NETWORKS[name].about} ({NETWORKS[name].measure})"
        best = best_rival(found)
        told = ""
        if "train" in found and best is not None:
            told = f"{verdict(found['train'], best)}, {100 * excess(found['train'], best):+.0f} %"
        shown.add_row(about, *(_cell(found, each) for each in MAIN), told)
        options.add_row(about, *(_cell(found, each) for each in others))
    yield shown
    if others:
        yield options


def counts(outcomes: Sequence[Outcome], title: str) -> Table:
    """Wins, ties and losses of our starts."""
    shown = Table(title=f"{title}: wins, ties, losses")
    _head(shown, [*(TITLES[each] for each in RIVALS), "the best of five", "worst against it"])
    for each in counted(outcomes):
        cells = [
            " / ".join(str(each["against"][rival].get(what, 0)) for what in ("win", "tie", "loss"))
            for rival in (*RIVALS, "best")
        ]
        name, worst = each["worst"]
        shown.add_row(TITLES[each["start"]], *cells, f"{100 * worst:+.0f} %, {name}")
    return shown


def _head(table: Table, titles: Sequence[str]) -> None:
    table.add_column("")
    for each in titles:
        table.add_column(each, justify="right")


def _cell(found: Found, start: str) -> str:
    """Mean and standard error; empty where there is no such start, as where the literature uses a loop."""
    each = found.get(start)
    if each is None:
        return ""
    if math.isinf(each.mean):
        return f"diverged ({each.rate:g})"
    return f"{each.mean:.3g} ± {each.error:.1g}"
