"""A published recipe is one file; without a case a completeness test fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autoinit.recipes import table
from tests.contributing.copying import Copy
from tests.contributing.guide import promised

FILE = "autoinit/recipes/published/mynet.py"
RECIPE = '''"""MyNet's recipe."""

from __future__ import annotations

from autoinit.facts import Facts
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import Start, normal


@register_recipe("mynet", source="Me 2026, section 3")
def mynet(facts: Facts, std: float = 0.03) -> Start | None:
    """Every weight N(0, 0.03^2)."""
    return normal(std) if facts.is_weight else None
'''
USED = """
    import json
    import torch
    from torch import nn
    from autoinit import autoinit, check
    from tests.contributing.within import command, fails

    model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256))
    autoinit(model, recipe="mynet(0.04)", seed=0, verbose=False)
    for layer in (model[0], model[2]):
        nn.init.zeros_(layer.bias)
    result = check(model, (2, 256), recipe="mynet(0.04)")
    print(json.dumps({
        "recipe": result.recipe,
        "severities": [each.severity for each in result.findings],
        "std": model[0].weight.std().item(),
        "listed": "Me 2026, section 3" in command("recipes"),
        "explained": "Every weight N(0, 0.03^2)." in command("explain", "mynet"),
        "asks": fails("tests.checking.test_declared_recipes:test_every_recipe_has_a_case"),
    }))
"""


def test_a_recipe_is_one_file(tmp_path: Path):
    """0.04 before a ReLU is less than half of sqrt(2 / 256): an error, unless the recipe that says so is declared.

    The std of 65,536 numbers has a relative standard error of 0.3 %.
    """
    pytest.importorskip("transformers", reason="a test that is run here needs it; there is none for Python 3.10")
    copy = Copy(tmp_path)
    copy.add(FILE, RECIPE)
    found = json.loads(copy.run(USED))
    assert abs(found.pop("std") / 0.04 - 1) < 0.015
    assert found == {
        "recipe": "mynet(0.04)", "severities": ["info", "info"], "listed": True, "explained": True, "asks": True,
    }  # fmt: skip
    assert copy.touched == [FILE]
    assert promised("recipe", copy.touched)
    assert "mynet" not in table()
