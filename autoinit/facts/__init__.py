"""What the graph tells of each parameter: its role, its place in a residual stream, what it feeds. No value is read.

Recipes and rules for learning rates ask `Facts`; where a role is found in the graph stands here and nowhere else.
"""

from autoinit.facts._heads import draws, head_rows
from autoinit.facts._roles import looked_up
from autoinit.facts.gathering import gather
from autoinit.facts.parameter import Facts, Kind

__all__ = ["Facts", "Kind", "draws", "gather", "head_rows", "looked_up"]
