"""From what each weight feeds to the std that it is to have; what other methods than `nonlinearity` start from.

An option that all methods heed is a field of `plans.options.PlanOptions`, and is heeded in `layers`.
"""

from autoinit.planning.layers import plan_dataflow

__all__ = ["plan_dataflow"]
