"""Formulas: gains, fans, schemes, and the integrals behind them, each with its source."""
