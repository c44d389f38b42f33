"""Measuring a signal with real forwards and backwards."""

from autoinit.signal.measuring.measuring import measure

__all__ = ["measure"]
