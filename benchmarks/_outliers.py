"""Elements far beyond all others (INI006) in timm: one small model of each family, with the command that shows them."""

import re
import time
from collections.abc import Sequence
from typing import Any

import torch
from _libraries import NotConstructibleError, shipped
from _steps import Record, TimeUpError, limited, shortened
from rich.markup import escape
from rich.table import Table

from autoinit.checking.checker import check
from autoinit.errors import AutoinitError

SEED = 0
TITLE = "Elements far beyond all others, in one small model of each family of timm"


def families() -> list[str]:
    """The families of timm that have a model: its modules."""
    import timm

    return [each for each in timm.list_modules() if timm.list_models(module=each)]


def look(library: str, family: str, *, limit: float, most: int) -> Record:
    """What INI006 finds in the smallest model of a family."""
    record: Record = {"library": library, "name": family}
    start = time.perf_counter()
    try:
        with limited(limit):
            record["parameters"], record["model"] = _smallest(family)
            if record["parameters"] > most:
                return {**record, "state": "too large"}
            torch.manual_seed(SEED)
            model = shipped(library, record["model"])
            found = check(model, select=("INI006",)).findings
    except TimeUpError:
        return {**record, "state": "failed", "cause": f"took longer than {limit:g} s"}
    except (NotConstructibleError, AutoinitError) as error:
        return {**record, "state": "failed", "cause": str(error)}
    return {
        **record,
        "state": "checked",
        "seconds": time.perf_counter() - start,
        "found": [_described(each.param, each.expected_std or 0.0, each.message, model) for each in found],
        "command": f"python benchmarks/audit.py --outliers --models {family}",
    }


def _smallest(family: str) -> tuple[int, str]:
    """Parameters and name of the smallest model, of those that can be made without memory; else the first.

    Models for timm's own tests count only where there are no others.
    """
    import timm

    every = timm.list_models(module=family)
    names = [each for each in every if not each.startswith("test_")] or every
    sizes = [(size, name) for name in names if (size := _parameters(timm, name)) is not None]
    if sizes:
        return min(sizes)
    return sum(each.numel() for each in shipped("timm", names[0]).parameters()), names[0]


def _parameters(timm: Any, name: str) -> int | None:
    try:
        with torch.device("meta"):
            return sum(each.numel() for each in timm.create_model(name, pretrained=False).parameters())
    except Exception:  # noqa: BLE001 - what a constructor may raise on meta is not known
        return None


def _described(param: str, sigma: float, message: str, model: torch.nn.Module) -> Record:
    count = re.search(r"has (one|\d+) of \d+ elements", message)
    assert count is not None, message
    peak = float(model.get_parameter(param).detach().abs().max())
    return {"param": param, "count": 1 if count[1] == "one" else int(count[1]), "peak": peak, "sigmas": peak / sigma}


def tables(records: Sequence[Record]) -> list[Table]:
    """The families with such elements, and how many there are of each state."""
    counted = Table(title="Families of timm looked at for elements far beyond all others")
    for column in ("families", "checked", "with such elements", "too large", "failed"):
        counted.add_column(column, justify="right")
    states = [each["state"] for each in records]
    having = [each for each in records if each.get("found")]
    figures = (len(records), states.count("checked"), len(having), states.count("too large"), states.count("failed"))
    counted.add_row(*map(str, figures))
    shown = Table(title=TITLE)
    for column in ("model", "elements", "in parameters", "largest", "times sigma", "command"):
        shown.add_column(column, overflow="fold")
    for each in having:
        found = each["found"]
        worst = max(found, key=lambda one: float(one["sigmas"]))
        figures_of = (sum(one["count"] for one in found), len(found))
        shown.add_row(escape(f"timm:{each['model']}"), *map(str, figures_of), f"{worst['peak']:.3g}",
                      f"{worst['sigmas']:.0f}", escape(each["command"]))  # fmt: skip
    return [counted, shown]


def failures(records: Sequence[Record], width: int) -> list[str]:
    """What was not checked, and why, as lines of markup."""
    return [
        f"[yellow]{each['state']}[/] {escape(each.get('model', each['name']))} "
        f"{escape(shortened(each.get('cause', ''), width))}"
        for each in records
        if each["state"] != "checked"
    ]
