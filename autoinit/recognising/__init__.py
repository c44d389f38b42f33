"""What produced a weight, as far as its values can tell.

To add an initialiser, add its candidates to `_candidates`: what std it gives for which fans and gains.
"""
