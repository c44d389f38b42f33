"""The table of methods, for functions, commands, errors and documents. A method's own file is loaded when it plans."""

from __future__ import annotations

import difflib
import inspect
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from autoinit.errors import ArgumentError
from autoinit.errors.arguments import require
from autoinit.plans.options import PlanArguments, PlanOptions, plan_options

if TYPE_CHECKING:
    from autoinit.models import ModelView
    from autoinit.plans.plan import Plan
    from autoinit.tracing.dataflow import Dataflow


@dataclass(frozen=True)
class Method:
    """A way to find the stds of a plan.

    Attributes:
        help: what it does, as a phrase that follows its name.
        function: `module:function`, called with the view of the model, its dataflow, the options and the example
            inputs; gives the plan.
        needs_shapes: whether the dataflow must know them; then values of example inputs may be made up from shapes.
        needs_seed: whether the stds hold for the values of one seed, so that plan and apply must share it.
        refuses: options that mean nothing to it, and why.
        defaults: of options whose default is another one here.
    """

    name: str
    help: str
    function: str
    needs_shapes: bool = False
    needs_seed: bool = False
    refuses: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, object] = field(default_factory=dict)

    @property
    def document(self) -> str:
        """What it does, why and when to use it, in Markdown: the docstring of its module."""
        module = pkgutil.resolve_name(self.function.partition(":")[0])
        _, _, manual = inspect.cleandoc(module.__doc__ or "").partition("\n\n")
        return manual

    def plan(self, view: ModelView, dataflow: Dataflow, options: PlanOptions, example_inputs: Any) -> Plan:
        """The plan that it makes; what becomes of heads then is no matter of the method."""
        return cast("Plan", pkgutil.resolve_name(self.function)(view, dataflow, options, example_inputs))


RECIPE = "recipe"
"""The method that an option chooses by itself."""
_NO_TAPS = {"taps": "only mirrored convolutions have such taps"}
METHODS: Mapping[str, Method] = {
    each.name: each
    for each in (
        Method(
            "nonlinearity",
            "each std from what its weight feeds",
            "autoinit.methods.nonlinearity:plan_by_nonlinearity",
            refuses=_NO_TAPS,
        ),
        Method(
            "signal",
            "such that the predicted second moment of each pre-activation is 1",
            "autoinit.methods.signal:plan_by_signal",
            refuses=_NO_TAPS,
            needs_shapes=True,
        ),
        Method(
            "data",
            "such that on the example inputs the variance of each pre-activation is 1",
            "autoinit.methods.data:plan_by_data",
            refuses=_NO_TAPS,
            needs_shapes=True,
            needs_seed=True,
        ),
        Method(
            "mirrored",
            "units in pairs and orthogonal matrices, so that a deep network without norms starts as a linear map",
            "autoinit.methods.mirrored:plan_by_mirroring",
            needs_shapes=True,
            refuses={"mode": "its matrices are orthogonal", "residual": "branch ends are always divided by sqrt(L)"},
            defaults={"distribution": "orthogonal"},
        ),
        Method(
            RECIPE,
            "as the published recipe has it that recipe= names, which chooses this method by itself",
            "autoinit.methods.recipe:plan_by_recipe",
            refuses={
                "mode": "the recipe says which fan",
                "residual": "the recipe says how branches end",
                "heads": "the recipe says how heads start",
                "preset": "the recipe says how all of it starts",
                "distribution": "the recipe says from which each is drawn",
                **_NO_TAPS,
            },
        ),
    )
}
MEANINGS: Mapping[str, str] = {name: each.help for name, each in METHODS.items()}


def complete(given: PlanArguments) -> PlanOptions:
    """The options of a caller: what was not given has the method's default.

    Raises:
        TypeError: there is no such option.
        ArgumentError: a value has no meaning, by itself or with the method.
    """
    known = plan_options()
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise TypeError(f"unexpected keyword argument {name!r}: {hint}expected one of {', '.join(known)}")
    require("recipe", given.get("recipe", ""), str, "the name of a recipe")
    chosen_method = given.get("method", RECIPE if given.get("recipe") else PlanOptions.method)
    method = METHODS[PlanOptions(chosen_method).method]
    defaults = {name: method.defaults.get(name, option.default) for name, option in known.items()}
    chosen = {**defaults, **{name: known[name].read(value) for name, value in given.items()}, "method": method.name}
    options = PlanOptions(**chosen)
    for name, why in method.refuses.items():
        if chosen[name] != defaults[name]:
            raise ArgumentError(f"{name}={chosen[name]!r} has no meaning for method={method.name!r}: {why}")
    if method.name != RECIPE and chosen["recipe"]:
        raise ArgumentError(f"recipe={chosen['recipe']!r} has no meaning for method={method.name!r}: leave one out")
    if method.name == RECIPE and not chosen["recipe"]:
        raise ArgumentError("method='recipe' without a recipe: expected recipe='gpt2' or another of `autoinit recipes`")
    return options
