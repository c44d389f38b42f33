"""Weights whose scale is not the one called for: how far off, by which fault, and how much harm it does there."""
