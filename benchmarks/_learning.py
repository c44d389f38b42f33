"""What the part `training` adds up to: settings that reach their accuracy, by kind, and in how many epochs."""

import statistics
from collections.abc import Sequence

from _methods import TITLES
from _steps import Record
from _training import ADAM, CONTRAST, RATES, SETTINGS
from rich.table import Table

LEARNING = "Settings that reach 90 % (95 % with contrast inverted), and after how many epochs"
OURS = "mirrored"
"""The method whose epochs are set beside each other's, where both reach."""


def kind(setting: str) -> str:
    """The column that a setting counts in."""
    if setting in CONTRAST:
        return "contrast"
    return "Adam" if setting in ADAM else f"depth {setting.rpartition('_')[2]}"


def first_epochs(record: Record) -> dict[str, int]:
    """For each seed that reached: the epoch at which the first of its rates did."""
    found = {seed: [each for each in by_rate if each] for seed, by_rate in record["epochs"].items()}
    return {seed: min(epochs) for seed, epochs in found.items() if epochs}


def learning(records: Sequence[Record], methods: Sequence[str]) -> list[Record]:
    """Each method's totals.

    settings, reached, share: of the plain networks of depth 10, 30 and 60, each seed for itself. epochs: the mean over
    those that reach; epochs_by_kind: the same of each kind. epochs_of_mirrored: its mean over those of them that
    `mirrored` reaches too, and epochs_there the method's.
    """
    done = {
        (each["library"], each["name"].removeprefix("training:")): each
        for each in records
        if each["name"].startswith("training:") and each["state"] == "done"
    }
    found = []
    for method in methods:
        mine = {setting: each for (library, setting), each in done.items() if library == method}
        if not mine:
            continue
        kinds: dict[str, list[int]] = {}
        epochs: dict[str, list[int]] = {}
        for setting, each in mine.items():
            counted = kinds.setdefault(kind(setting), [0, 0])
            counted[0] += each["reached"]
            counted[1] += len(each["epochs"])
            epochs.setdefault(kind(setting), []).extend(first_epochs(each).values())
        plain = {setting: each for setting, each in mine.items() if setting in SETTINGS}
        settings = sum(len(each["epochs"]) for each in plain.values())
        reached = sum(each["reached"] for each in plain.values())
        by_rate = [sum(each["first_by_rate"][i] for each in plain.values()) for i in range(len(RATES))]
        found.append(
            {
                "part": "training",
                "method": method,
                "settings": settings,
                "reached": reached,
                "share": reached / settings if settings else None,
                "first_by_rate": dict(zip(map(str, RATES), by_rate, strict=True)),
                "reached_by_kind": kinds,
                "epochs_by_kind": {kind: statistics.mean(found) for kind, found in epochs.items() if found},
                **_epochs(plain, {setting: done[OURS, setting] for setting in plain if (OURS, setting) in done}),
            }
        )
    return found


def _epochs(plain: dict[str, Record], ours: dict[str, Record]) -> Record:
    mine = {(setting, seed): epoch for setting, each in plain.items() for seed, epoch in first_epochs(each).items()}
    theirs = {(setting, seed): epoch for setting, each in ours.items() for seed, epoch in first_epochs(each).items()}
    both = mine.keys() & theirs.keys()
    return {
        "epochs": statistics.mean(mine.values()) if mine else None,
        "epochs_there": statistics.mean(mine[each] for each in both) if both else None,
        "epochs_of_mirrored": statistics.mean(theirs[each] for each in both) if both else None,
    }


def learning_table(totals: Sequence[Record]) -> Table:
    """The same for people; a column for each kind of setting that any method was tried on."""
    found = Table(title=LEARNING)
    found.add_column("")
    kinds = list(dict.fromkeys(kind for each in totals for kind in each["reached_by_kind"]))
    for head in ("depth 10 to 60", *kinds, "mirrored's epochs there", *(f"first by {each:g}" for each in RATES)):
        found.add_column(head, justify="right")
    for each in totals:
        counts = [_counted(each["reached_by_kind"].get(kind), each["epochs_by_kind"].get(kind)) for kind in kinds]
        share = _counted((each["reached"], each["settings"]), each["epochs"]) if each["settings"] else ""
        there = "" if each["epochs_of_mirrored"] is None else f"{each['epochs_of_mirrored']:.2f}"
        found.add_row(TITLES[each["method"]], share, *counts, there, *map(str, each["first_by_rate"].values()))
    return found


def _counted(counted: Sequence[int] | None, epochs: float | None) -> str:
    """How many of how many, and after how many epochs."""
    if counted is None:
        return ""
    return f"{counted[0]} of {counted[1]}" + (f" ({epochs:.2f})" if epochs is not None else "")
