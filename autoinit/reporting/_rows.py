"""The rows of a report: one for each weight, its slices below it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from autoinit.plans.layers import LayerPlan, RestPlan, SlicePlan
from autoinit.plans.plan import Plan, Report
from autoinit.reporting import _wording as wording
from autoinit.tensors.measuring import WeightStats


@dataclass(frozen=True)
class Row:
    """One line of the table, in words.

    Attributes:
        name: of the layer, or the rows of a slice.
        nonlinearity, why: what it feeds and the reason.
        feeds: both in one phrase.
        before, after: std, one value for each weight that the row stands for; `after` is the planned std where nothing
            was written.
        status: the layer's.
        via: operations walked.
        remarks: lines that belong under the row.
        count: weights that the row stands for.
        slices: rows of the parts of the weight.
        sampled: whether `before` is of samples.
    """

    name: str
    op: str
    nonlinearity: str
    why: str
    feeds: str
    scheme: str
    fan: str
    before: tuple[float | None, ...]
    after: tuple[float | None, ...]
    status: str = "planned"
    via: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    count: int = 1
    slices: tuple[Row, ...] = ()
    sampled: bool = False

    @property
    def was(self) -> str:
        """The old std; behind a tilde where it is a sample's."""
        return ("~" if self.sampled else "") + wording.spread(self.before) if self.op else ""

    @property
    def result(self) -> str:
        """The new std; for a weight that gets none, its status (an unresolved one says so in what it feeds)."""
        if self.status == "planned":
            return wording.spread(self.after)
        return "" if self.status == "unresolved" else self.status


def rows_of(report: Report, *, full: bool) -> tuple[Row, ...]:
    """One row for each layer, in the plan's order; unless `full`, equal neighbouring slices share a row."""
    recipe = report.plan.recipe.partition("(")[0]
    rows = (_row(layer, report.before, report.after, full=full) for layer in report.plan.layers)
    return tuple(_by_recipe(row, recipe) if recipe else row for row in rows)


def _by_recipe(row: Row, recipe: str) -> Row:
    """A row of a plan whose stds follow from no scheme and no fan, but from a recipe."""
    planned = row.status == "planned"
    return replace(
        row,
        scheme=recipe if planned else "-",
        fan="-",
        slices=tuple(replace(part, scheme="", fan="") for part in row.slices),
    )


def status_counts(plan: Plan) -> dict[str, int]:
    """How many layers have each status; every status is present."""
    counts = Counter(layer.status for layer in plan.layers)
    return {status: counts[status] for status in ("planned", "kept", "skipped", "unresolved")}


def kind_counts(plan: Plan) -> dict[str, int]:
    """How many parameters of each kind the plan does not touch, the most frequent first."""
    return dict(Counter(other.kind for other in plan.others).most_common())


def rest_line(plan: Plan) -> str:
    """What a recipe writes beside the layers' weights: parameters of each kind, and how they start."""
    counts = Counter((each.kind.replace("_", " "), _starts(each)) for each in plan.rest)
    shown = ", ".join(f"{kind} {number} ({start})" for (kind, start), number in counts.items())
    return f"By the recipe, too: {shown}." if shown else ""


def _starts(rest: RestPlan) -> str:
    others = dict.fromkeys(_start(rest.distribution, each.std, each.mean) for each in rest.slices)
    first = _start(rest.distribution, rest.std, rest.mean)
    return f"{first}, but {', '.join(others)} for some rows" if others else first


def _start(distribution: str, std: float, mean: float) -> str:
    if distribution == "constant":
        return f"{mean:g}"
    if distribution == "log_counts":
        return "log 1, log 2, ..."
    around = f" around {mean:g}" if mean else ""
    return f"{wording.distribution(distribution)} of std {std:.3g}{around}"


def _row(
    layer: LayerPlan, before: Mapping[str, WeightStats], after: Mapping[str, WeightStats] | None, *, full: bool
) -> Row:
    old = before.get(layer.name)
    new = after.get(layer.name) if after is not None else None
    unresolved = layer.status == "unresolved"
    return Row(
        name=layer.name,
        op=layer.op,
        nonlinearity="?" if unresolved else wording.function(layer.nonlinearity, layer.params),
        why=layer.reason,
        feeds=layer.reason if unresolved else wording.feeds(layer.nonlinearity, layer.params, layer.reason),
        scheme=_scheme(layer),
        fan="-" if unresolved else wording.fan(layer.mode, layer.fan_in, layer.fan_out),
        before=(None if old is None else old.std,),
        after=(layer.std if after is None else None if new is None else new.std,),
        status=layer.status,
        via=layer.path,
        remarks=tuple(_remarks(layer)),
        slices=tuple(_slices(layer, full=full)),
        sampled=old is not None and old.sampled,
    )


def _scheme(layer: LayerPlan) -> str:
    """Whose scheme the std follows; of a mirrored weight, on which side its features are paired."""
    if layer.status == "unresolved":
        return "-"
    if layer.mirror is None:
        return wording.scheme(layer.scheme)
    sides = {"out": layer.mirror.outputs, "in": layer.mirror.inputs}
    paired = [side for side, runs in sides.items() if any(run.paired for run in runs)]
    return f"pairs {' + '.join(paired)}" if paired else "mirrored"


def _slices(layer: LayerPlan, *, full: bool) -> list[Row]:
    runs: list[list[SlicePlan]] = []
    for part in layer.slices:
        if runs and not full and _alike(runs[-1][-1], part):
            runs[-1].append(part)
        else:
            runs.append([part])
    return [_slice(run, layer.status) for run in runs]


def _slice(run: list[SlicePlan], status: str) -> Row:
    part = run[0]
    return Row(
        name=wording.rows(part.rows) if len(run) == 1 else f"{len(run)} x {part.count} rows",
        op="",
        nonlinearity=wording.function(part.nonlinearity, part.params),
        why=part.reason,
        feeds=wording.feeds(part.nonlinearity, part.params, part.reason),
        scheme=wording.scheme(part.scheme),
        fan=wording.fan(part.mode, part.fan_in, part.fan_out),
        before=(None,),
        after=(part.std,),
        status=status,
        via=part.path,
    )


def _alike(one: SlicePlan, other: SlicePlan) -> bool:
    """Whether two slices differ in nothing but where their rows and their operations are."""
    return one.count == other.count and replace(one, rows=(), path=()) == replace(other, rows=(), path=())


def _remarks(layer: LayerPlan) -> list[str]:
    remarks = []
    if layer.note:
        remarks.append(layer.note if layer.status == "planned" else f"{layer.status}: {layer.note}")
    if layer.alternatives:
        ways = "; ".join(wording.feeds(way.nonlinearity, way.params, way.reason) for way in layer.alternatives)
        remarks.append(f"feeds several: {ways}")
    if layer.reparam:
        remarks.append(f"stays parametrised by {layer.reparam}")
    return remarks
