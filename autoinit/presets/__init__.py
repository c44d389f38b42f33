"""Presets: which options a model's graph calls for. To add one, add its table here and its name in `plans.options`."""
