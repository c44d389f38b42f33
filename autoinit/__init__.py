"""Computes from a PyTorch model's dataflow how each weight should start, sets it, and says why.

    from autoinit import autoinit
    autoinit(model)                  # initialise in place, print the report

`plan` shows what would be written, `report` sets it beside what is there, `check` says what is wrong with it, `trace`
and `resolve` are the analysis.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from autoinit._version import __version__
from autoinit.errors import (
    ApplyError,
    ArgumentError,
    AutoinitError,
    CallbackError,
    ConfigurationError,
    InitializationError,
    LazyModuleError,
    LoadError,
    MemoryLimitError,
    PlanError,
    RegistrationError,
    TraceError,
    TrainedModelError,
)

if TYPE_CHECKING:
    from autoinit import callbacks as callbacks
    from autoinit import testing as testing
    from autoinit.api import autoinit, compare, gain, plan, report
    from autoinit.callbacks import InitializationCheck
    from autoinit.checking.checker import check
    from autoinit.checking.findings import CheckResult, Finding
    from autoinit.comparing.comparison import Comparison, RankedStart
    from autoinit.comparing.trials import Trial
    from autoinit.ops import Role, register_op
    from autoinit.plans.layers import LayerPlan, OtherParameter, SlicePlan
    from autoinit.plans.plan import Plan, Report
    from autoinit.provenance import Origin, Recording, recording
    from autoinit.recipes import Facts, Start, register_recipe
    from autoinit.recognising.alone import TensorRow, WeightsReport
    from autoinit.resolving import Ending, Reason, Resolution, SliceResolution, resolve
    from autoinit.tensors.boxes import Box, FlatRun
    from autoinit.tensors.measuring import WeightStats
    from autoinit.theory.fans import Fans
    from autoinit.theory.layouts import Layout
    from autoinit.tracing import Dataflow, Op, ParamUse, SourceLine, Unsupported, trace
    from autoinit.transfer.coordinates import CoordinateCheck, coordinate_check
    from autoinit.transfer.making import scaling
    from autoinit.transfer.record import Scaled, Scaling

__all__ = [
    "ApplyError",
    "ArgumentError",
    "AutoinitError",
    "Box",
    "CallbackError",
    "CheckResult",
    "Comparison",
    "ConfigurationError",
    "CoordinateCheck",
    "Dataflow",
    "Ending",
    "Facts",
    "Fans",
    "Finding",
    "FlatRun",
    "InitializationCheck",
    "InitializationError",
    "LayerPlan",
    "Layout",
    "LazyModuleError",
    "LoadError",
    "MemoryLimitError",
    "Op",
    "Origin",
    "OtherParameter",
    "ParamUse",
    "Plan",
    "PlanError",
    "RankedStart",
    "Reason",
    "Recording",
    "RegistrationError",
    "Report",
    "Resolution",
    "Role",
    "Scaled",
    "Scaling",
    "SlicePlan",
    "SliceResolution",
    "SourceLine",
    "Start",
    "TensorRow",
    "TraceError",
    "TrainedModelError",
    "Trial",
    "Unsupported",
    "WeightStats",
    "WeightsReport",
    "__version__",
    "autoinit",
    "check",
    "compare",
    "coordinate_check",
    "gain",
    "plan",
    "recording",
    "register_op",
    "register_recipe",
    "report",
    "resolve",
    "scaling",
    "trace",
]

_LAZY = {
    "autoinit.api": ("autoinit", "compare", "gain", "plan", "report"),
    "autoinit.callbacks": ("InitializationCheck",),
    "autoinit.checking.checker": ("check",),
    "autoinit.checking.findings": ("CheckResult", "Finding"),
    "autoinit.comparing.comparison": ("Comparison", "RankedStart"),
    "autoinit.comparing.trials": ("Trial",),
    "autoinit.tensors.boxes": ("Box", "FlatRun"),
    "autoinit.tensors.measuring": ("WeightStats",),
    "autoinit.ops": ("Role", "register_op"),
    "autoinit.plans.layers": ("LayerPlan", "OtherParameter", "SlicePlan"),
    "autoinit.plans.plan": ("Plan", "Report"),
    "autoinit.provenance": ("Origin", "Recording", "recording"),
    "autoinit.recipes": ("Facts", "Start", "register_recipe"),
    "autoinit.recognising.alone": ("TensorRow", "WeightsReport"),
    "autoinit.resolving": ("Ending", "Reason", "Resolution", "SliceResolution", "resolve"),
    "autoinit.theory.fans": ("Fans",),
    "autoinit.theory.layouts": ("Layout",),
    "autoinit.transfer.coordinates": ("CoordinateCheck", "coordinate_check"),
    "autoinit.transfer.making": ("scaling",),
    "autoinit.transfer.record": ("Scaled", "Scaling"),
    "autoinit.tracing": ("Dataflow", "Op", "ParamUse", "SourceLine", "Unsupported", "trace"),
}
"""What is imported when it is first asked for: pytest loads this package at every start, and torch takes seconds."""
_HOMES = {name: module for module, names in _LAZY.items() for name in names}

if not TYPE_CHECKING:  # a type checker that saw it would take any name for one that exists

    def __getattr__(name: str) -> object:
        """Import a public name, or a module of the package, when it is first used (PEP 562)."""
        if name in _HOMES:
            value = getattr(importlib.import_module(_HOMES[name]), name)
            globals()[name] = value
            return value
        module = f"{__name__}.{name}"
        if not name.startswith("_"):
            try:
                return importlib.import_module(module)
            except ModuleNotFoundError as error:
                if error.name != module:
                    raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
