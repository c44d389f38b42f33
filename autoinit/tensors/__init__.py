"""Tensors by themselves: reading, measuring and sharing out their elements. Nothing here knows what a model is.

What two rooms do to tensors is added here, as a module of functions.
"""
