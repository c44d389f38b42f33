"""Predicting a signal without data, from the stds of the weights alone."""
