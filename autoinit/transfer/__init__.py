"""How far each weight may move: starts and learning rates that fit a wider or deeper model as they fit a small one.

The rules stand in `rules`, one formula for every kind of parameter; an optimizer is a row of its table.
"""
