"""Formulas: gains, fans, schemes, and the integrals behind them, each with its source.

To add an activation, see `activations`; any other formula comes with its source, and a test against an independent one.
"""
