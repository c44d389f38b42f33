"""Signal: what flows through a model, predicted without data, measured with it.

Elementwise functions need nothing of their own, as they are run; a rule for an operation that mixes axes is added in
`predicting`.
"""

from autoinit.signal.measuring.measuring import measure
from autoinit.signal.predicting.propagating import InputSignal, propagate
from autoinit.signal.report import OperationSignal, SignalReport, SignalRow

__all__ = ["InputSignal", "OperationSignal", "SignalReport", "SignalRow", "measure", "propagate"]
