"""Formats of a report. They arrange what the report holds and compute nothing about the model."""
