"""Formats of a report. They arrange what the report holds and compute nothing about the model.

`autoinit.formats` is the table of them all, and the door through which values ask for their forms.
"""
