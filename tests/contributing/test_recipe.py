"""A published recipe is one entry of one file; without a case a completeness test fails."""

from __future__ import annotations

import json
from pathlib import Path

from autoinit.checking.recipes import names
from tests.contributing.copying import Copy
from tests.contributing.guide import promised

MODELS, INITIALISERS = "autoinit/checking/recipes/models.py", "autoinit/checking/recipes/initialisers.py"
CHECKED = """
    import json
    import torch
    from torch import nn
    from autoinit import check

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256))
    for layer in (model[0], model[2]):
        nn.init.normal_(layer.weight, std=0.03)
        nn.init.zeros_(layer.bias)
    result = check(model, (2, 256), recipe="{recipe}")
    print(json.dumps([result.recipe, [each.severity for each in result.findings]]))
"""


def test_a_recipe_of_a_model_family_is_one_entry(tmp_path: Path):
    """0.03 before a ReLU is a third of sqrt(2 / 256): an error, unless the recipe that says so is declared."""
    copy = Copy(tmp_path)
    copy.edit(MODELS, "MODELS = (\n", 'MODELS = (\n    Published("mynet", "Me 2026, section 3", lambda _: (0.03,)),\n')
    assert json.loads(copy.run(CHECKED.format(recipe="mynet"))) == ["mynet", ["info", "info"]]
    assert copy.touched == [MODELS]
    assert promised("recipe of a model family", copy.touched)
    assert "mynet" not in names()


def test_a_recipe_of_an_initialiser_is_one_file(tmp_path: Path):
    copy = Copy(tmp_path)
    made = 'lambda _: Published("three", "Me 2026, section 3", lambda _: (0.03,))'
    copy.edit(INITIALISERS, '    "torch": Init', f'    "three": Initialiser({made}, "three"),\n    "torch": Init')
    assert json.loads(copy.run(CHECKED.format(recipe="three"))) == ["three", ["info", "info"]]
    said = copy.run(
        """
        from autoinit import check
        from torch import nn
        try:
            check(nn.Linear(2, 2), (1, 2), recipe="tree")
        except ValueError as error:
            print(error)
        """
    )
    assert said.startswith("no recipe 'tree'; did you mean three")
    assert copy.touched == [INITIALISERS]
    assert promised("recipe of an initialiser", copy.touched)
