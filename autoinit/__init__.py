"""Computes from a PyTorch model's dataflow how each weight should start, sets it, and says why.

    from autoinit import autoinit
    autoinit(model)                  # initialise in place, print the report

`plan` shows what would be written, `report` sets it beside what is there, `trace` and `resolve` are the analysis.
"""

from autoinit._version import __version__
from autoinit.api import autoinit, gain, report
from autoinit.errors import (
    ApplyError,
    ArgumentError,
    AutoinitError,
    LazyModuleError,
    LoadError,
    PlanError,
    RegistrationError,
    TraceError,
    TrainedModelError,
)
from autoinit.measuring import WeightStats
from autoinit.ops import Role, register_op
from autoinit.planning import plan
from autoinit.plans import LayerPlan, OtherParameter, Plan, SlicePlan
from autoinit.reports import Report
from autoinit.resolving import Ending, Reason, Resolution, SliceResolution, resolve
from autoinit.theory.fans import Fans
from autoinit.theory.layouts import Layout
from autoinit.tracing import Dataflow, Op, ParamUse, SourceLine, Unsupported, trace

__all__ = [
    "ApplyError",
    "ArgumentError",
    "AutoinitError",
    "Dataflow",
    "Ending",
    "Fans",
    "LayerPlan",
    "Layout",
    "LazyModuleError",
    "LoadError",
    "Op",
    "OtherParameter",
    "ParamUse",
    "Plan",
    "PlanError",
    "Reason",
    "RegistrationError",
    "Report",
    "Resolution",
    "Role",
    "SlicePlan",
    "SliceResolution",
    "SourceLine",
    "TraceError",
    "TrainedModelError",
    "Unsupported",
    "WeightStats",
    "__version__",
    "autoinit",
    "gain",
    "plan",
    "register_op",
    "report",
    "resolve",
    "trace",
]
