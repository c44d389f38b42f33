"""Weights whose scale is not the one called for: how far off, by which fault, and how much harm it does there.

A fault is added as a rule under `declaring.rule_of_scale`; a place where a wrong scale does less harm, in `reach`.
"""
