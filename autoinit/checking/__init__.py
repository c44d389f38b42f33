"""Holding a model's weights against its plan: rules, severities, recipes, configuration and baselines."""
