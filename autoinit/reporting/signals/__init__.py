"""A model's signal as a table, a plot's points and a page: formatters, which compute and write nothing.

To add one, add a file here and its row in `autoinit.formats`.
"""
