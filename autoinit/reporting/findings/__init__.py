"""Formats of `autoinit check`. They arrange what a check found and look at no model."""
