"""Tensors by themselves: reading, measuring and sharing out their elements. Nothing here knows what a model is."""
