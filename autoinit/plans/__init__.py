"""Values that say what weights are to become and what they became. They compute nothing and know no model."""

from autoinit.plans.plan import Alternative, Distribution, LayerPlan, OtherParameter, Plan, SlicePlan, Status
from autoinit.plans.report import Report

__all__ = [
    "Alternative",
    "Distribution",
    "LayerPlan",
    "OtherParameter",
    "Plan",
    "Report",
    "SlicePlan",
    "Status",
]
