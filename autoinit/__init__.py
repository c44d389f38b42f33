"""Computes from a model's dataflow how each weight should start."""
