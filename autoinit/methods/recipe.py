"""`plan(recipe="gpt2")`: every parameter that a published recipe speaks of starts as the recipe says.

The recipe's rows are asked in their order, by what the graph shows of a parameter and not by its name. Parameters of
which it says nothing are kept as they are.

## When to use it

To start a model as a published one was started: to compare with it, or since its training depends on it.
`autoinit recipes` lists the recipes with their sources, and `autoinit explain gpt2` documents one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from autoinit.errors import ArgumentError
from autoinit.facts import Facts, gather
from autoinit.facts.parameter import Rows
from autoinit.models import ModelView
from autoinit.planning import plan_dataflow
from autoinit.plans.layers import LayerPlan, OtherParameter, RestPlan, RestSlice, SlicePlan, root_mean_square
from autoinit.plans.options import PlanOptions
from autoinit.plans.plan import Plan
from autoinit.recipes import DeclaredRecipe, Start, declared
from autoinit.resolving import resolve
from autoinit.tracing.dataflow import Dataflow


def plan_by_recipe(view: ModelView, dataflow: Dataflow, options: PlanOptions, _example_inputs: Any = None) -> Plan:
    """A plan in which each parameter has the recipe's distribution; those of which it says nothing are kept.

    Raises:
        ArgumentError: there is no such recipe, it cannot be written, or it cannot be told for some parameter.
    """
    recipe = declared(options.recipe)
    if recipe.entry.writes:
        raise ArgumentError(f"recipe={options.recipe!r} is for check alone: {recipe.entry.writes}")
    resolutions = resolve(dataflow)
    made = plan_dataflow(dataflow, view, options, resolutions)
    facts: dict[str, list[Facts]] = {}
    for each in gather(dataflow, resolutions):
        facts.setdefault(each.param, []).append(each)
    rest = _Rest(recipe, view, options, made, facts)
    written = tuple(rest.plans())
    layers = tuple(_layer(recipe, layer, facts.get(layer.param, ())) for layer in made.layers)
    others = tuple(rest.others({each.name for each in written}))
    return replace(made, recipe=recipe.text, layers=layers, rest=written, others=others)


def _layer(recipe: DeclaredRecipe, layer: LayerPlan, facts: Sequence[Facts]) -> LayerPlan:
    """A layer as the recipe has it; what becomes of its biases stands with the rest of the parameters."""
    if layer.status != "planned":
        return replace(layer, biases=())
    starts = _starts(recipe, layer.name, facts, centred=True)
    if not starts:
        return replace(layer, status="kept", note=_silent(recipe), biases=())
    (first, *_) = starts.values()
    slices = tuple(replace(part, std=starts[part.rows].std) for part in layer.slices)
    if facts[0].gates and first.distribution == "orthogonal":
        shared = {**layer.shared(), "std": first.std}
        slices = tuple(SlicePlan(**shared, rows=rows) for rows, _ in facts[0].gates)
    if len({part.std for part in slices}) == 1 and first.distribution != "orthogonal":
        std = slices[0].std
    else:
        std = root_mean_square(slices) if slices else first.std
    return replace(layer, distribution=first.distribution, slices=slices, std=std, biases=(), note=_place(facts[0]))


def _starts(recipe: DeclaredRecipe, name: str, facts: Sequence[Facts], *, centred: bool = False) -> dict[Rows, Start]:
    """How the rows of one parameter start; empty where the recipe says nothing of it.

    centred: whether their mean must be 0.

    Raises:
        ArgumentError: it speaks of some rows alone, or gives them several distributions.
    """
    starts = {each.rows: recipe.start(each) for each in facts}
    said = {rows: start for rows, start in starts.items() if start is not None}
    distributions = {start.distribution for start in said.values()}
    if said and (len(said) < len(starts) or len(distributions) > 1 or (centred and any(s.mean for s in said.values()))):
        different = "; ".join(f"rows {rows or 'all'}: {start or 'nothing'}" for rows, start in starts.items())
        raise ArgumentError(
            f"recipe {recipe.text}: {name} would get {different}. Expected one distribution "
            f"{'of mean 0 ' if centred else ''}for all rows"
        )
    return said


def _place(facts: Facts) -> str:
    """What a reader should know of a weight's place that its row does not show."""
    said = [f"ends branch {facts.branch} of {facts.branches}"] if facts.ends_branch and facts.branches > 1 else []
    return "; ".join([*said, *(["tied to an embedding, whose table it is too"] if facts.tied else [])])


def _silent(recipe: DeclaredRecipe) -> str:
    return f"the recipe {recipe.text} says nothing of it"


@dataclass(frozen=True)
class _Rest:
    """The parameters that are no layer's weight.

    Attributes:
        made: the plan by the dataflow.
    """

    recipe: DeclaredRecipe
    view: ModelView
    options: PlanOptions
    made: Plan
    facts: Mapping[str, Sequence[Facts]]

    def plans(self) -> Iterator[RestPlan]:
        """What the recipe writes of them, in the model's order."""
        for name, parameter in self._parameters():
            if name in self.facts and not self._left(name):
                starts = _starts(self.recipe, name, self.facts[name])
                if starts:
                    (first, *_) = starts.values()
                    parts = ((rows, each) for rows, each in starts.items() if each != first)
                    yield RestPlan(
                        name=name,
                        shape=tuple(parameter.shape),
                        kind=self.facts[name][0].kind,
                        distribution=first.distribution,
                        std=first.std,
                        mean=first.mean,
                        slices=tuple(RestSlice(rows, each.std, each.mean) for rows, each in parts),
                    )

    def others(self, written: set[str]) -> Iterator[OtherParameter]:
        """Those that it leaves, and why."""
        known = {each.name: each for each in self.made.others}
        for name, parameter in self._parameters():
            if name in written:
                continue
            kind = self.facts[name][0].kind if name in self.facts else known[name].kind if name in known else "bias"
            note = self._left(name) or (known[name].note if name in known else "") or _silent(self.recipe)
            yield OtherParameter(name, tuple(parameter.shape), kind, note)

    def _parameters(self) -> Iterator[tuple[str, Any]]:
        weights = {layer.param for layer in self.made.layers}
        return ((name, each) for name, each in self.view.parameters.items() if name not in weights)

    def _left(self, name: str) -> str:
        """Why a parameter is not written although the recipe may speak of it; empty if nothing is in the way."""
        parameter = self.view.parameters[name]
        layer = next((each for each in self.made.layers if name in each.biases), None)
        if name in self._stored:
            return self._stored[name]
        if self.options.only and not _matches(name, self.options.only):
            return "not in only="
        if glob := _matches(name, self.options.skip):
            return f"skip={glob!r}"
        if not parameter.requires_grad:
            return "frozen: requires_grad is False"
        if not parameter.is_floating_point() or not parameter.numel():
            return "it has no floating-point elements"
        if layer is not None and layer.status != "planned":
            return f"its layer {layer.name} is {layer.status}"
        return ""

    @property
    def _stored(self) -> Mapping[str, str]:
        """Parameters that are set together with a weight, and those that stand in a weight's place and are none."""
        parts = [name for layer in self.made.layers for name in self.view.storage(layer.param).written]
        return dict.fromkeys(parts, "part of a parametrised weight, set together with it")


def _matches(name: str, globs: Sequence[str]) -> str:
    """The first glob that fits a parameter's name, or that of the module that holds it."""
    path = name.rpartition(".")[0]
    return next((glob for glob in globs if fnmatchcase(name, glob) or fnmatchcase(path, glob)), "")
