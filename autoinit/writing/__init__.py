"""Writing a plan into a model: everything is checked first, then all is written or nothing. The only room that writes.

To add a distribution, add its row to `plans.distributions` and its function to `elementwise`.
"""
