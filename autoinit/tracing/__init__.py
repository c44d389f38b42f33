"""Model -> torch.fx.Graph -> Dataflow."""

from autoinit.tracing.dataflow import Call, Dataflow, Op, ParamUse, SourceLine, Unsupported
from autoinit.tracing.exported import ExportedModel
from autoinit.tracing.tiers import trace

__all__ = ["Call", "Dataflow", "ExportedModel", "Op", "ParamUse", "SourceLine", "Unsupported", "trace"]
