"""Holding a model's weights against its plan: rules, severities, recipes, configuration and baselines.

To add a rule, add a file to `rules`; a published recipe, to `autoinit.recipes`. `README.md` beside this file says how
a verdict comes about.
"""
