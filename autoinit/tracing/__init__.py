"""Model -> torch.fx.Graph -> Dataflow.

Three tiers write one kind of graph (`symbolic`, `recording`, `exported`; `tiers` chooses), and `building` reads it. To
guess another kind of input, add to `guessing`.
"""

from autoinit.tracing.dataflow import Call, Dataflow, Op, ParamUse, SourceLine, Unsupported
from autoinit.tracing.exported import ExportedModel
from autoinit.tracing.tiers import trace

__all__ = ["Call", "Dataflow", "ExportedModel", "Op", "ParamUse", "SourceLine", "Unsupported", "trace"]
