"""Formats of `autoinit check`. They arrange what a check found and look at no model.

To add one, add a file here and its row in `autoinit.formats`.
"""
