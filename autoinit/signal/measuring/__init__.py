"""Measuring a signal with real forwards and backwards. Operations are measured as they run: there is none to add."""

from autoinit.signal.measuring.measuring import measure

__all__ = ["measure"]
