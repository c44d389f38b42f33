"""Predicting a signal without data, from the stds of the weights alone.

An operation with weights is added in `_weighing`, its map in `linear_maps`; all others are run on stand-ins.
"""
