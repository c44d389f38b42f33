"""A new activation, in one file: every room that speaks of activations knows it.

Snake (Ziyin et al. 2020): x + sin(a x)^2 / a. With z ~ N(0, 1), E[cos 2az] = exp(-2 a^2), so that
E[(z + sin(az)^2 / a)^2] = 1 + E[sin(az)^4] / a^2 = 1 + (3 - 4 exp(-2 a^2) + exp(-8 a^2)) / (8 a^2).
"""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from tests.contributing.copying import Copy
from tests.contributing.guide import promised

FAMILY = "autoinit/theory/activations/saturating.py"

PARTS = '''

class Snake(nn.Module):
    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(alpha))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _snake(x, self.alpha)


def _snake(x: torch.Tensor, a: float) -> torch.Tensor:
    return x + torch.sin(a * x) ** 2 / a


def _fit_snake(phi: Curve) -> Mapping[str, float] | None:
    """By the even part e(x) = sin(ax)^2 / a: e(2x) / e(x) = 4 cos(ax)^2."""
    once, twice = ((phi.at(x) + phi.at(-x)) / 2 for x in (0.125, 0.25))
    if not 0 < twice < 4 * once:
        return None
    return {"a": math.acos(math.sqrt(twice / once) / 2) / 0.125}
'''

ENTRY = """SATURATING = (
    Activation(
        "snake",
        _snake,
        facts=Fact.HOMOGENEOUS_NEAR_ZERO,
        spelling=Spelling((Snake,), functions=(_snake,), attributes={"a": "alpha"}),
        defaults={"a": 1.0},
        condition=("a > 0", lambda a: a > 0),
        fit=_fit_snake,
    ),
"""

MODELS = '''
import math
import torch
import torch.nn.functional as F
from torch import nn
from autoinit.theory.activations.saturating import Snake, _snake


class By(nn.Module):
    """Two layers with a function between them."""

    def __init__(self, function):
        super().__init__()
        self.before, self.after = nn.Linear(64, 64), nn.Linear(64, 64)
        self.function = function

    def forward(self, x):
        return self.after(self.function(self.before(x)))
'''


def gain(a: float) -> float:
    fourth = (3 - 4 * math.exp(-2 * a * a) + math.exp(-8 * a * a)) / 8
    return 1 / math.sqrt(1 + fourth / a**2)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    made = Copy(tmp_path_factory.mktemp("activation"))
    made.edit(FAMILY, "from collections.abc import Mapping\n", "import math\nfrom collections.abc import Mapping\n")
    made.edit(FAMILY, "\n\ndef _fit_hardtanh", PARTS + "\n\ndef _fit_hardtanh")
    made.edit(FAMILY, "SATURATING = (\n", ENTRY)
    (made.folder / "models.py").write_text(MODELS, encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def found(copy: Copy) -> dict[str, Any]:
    return json.loads(
        copy.run("""
        import json, torch
        from torch import nn
        import autoinit
        from autoinit.ops import REGISTRY, Fact
        from models import By, Snake, _snake

        spelled = {
            "module": Snake(0.5),
            "function": lambda x: _snake(x, 0.5),
            "by hand": lambda x: x + (0.5 * x).sin().square() * 2,
            "by hand with cos": lambda x: x + (1 - torch.cos(1.0 * x)),
        }
        torch.save(nn.Sequential(nn.Linear(64, 64), Snake(0.5), nn.Linear(64, 64)), "saved.pt")
        learned = By(Snake(0.5))
        plans = {
            f"{name}, {how}": autoinit.plan(By(function), inputs)["before"]
            for name, function in spelled.items()
            for how, inputs in (("symbolic", None), ("recorded", (2, 64)))
        }
        print(json.dumps({
            "plans": {name: (each.nonlinearity, dict(each.params), each.gain) for name, each in plans.items()},
            "gain": autoinit.gain("snake", a=0.5),
            "facts": [Fact.HOMOGENEOUS_NEAR_ZERO in REGISTRY.specs["snake"].facts],
            "report": str(autoinit.report(By(Snake(0.5)))),
            "ops": [each.op for each in autoinit.trace(By(Snake(0.5))).graph],
            "codes": [each.code for each in autoinit.check(By(Snake(0.5)), select=["INI302"]).findings],
        }))
    """)
    )


def test_it_is_added_in_one_file(copy: Copy):
    assert copy.touched == [FAMILY]
    assert promised("activation", copy.touched)
    assert promised("activation", copy.touched)


@pytest.mark.parametrize("tier", ["symbolic", "recorded"])
@pytest.mark.parametrize("spelling", ["module", "function", "by hand", "by hand with cos"])
def test_every_spelling_bears_its_name(found: dict[str, Any], spelling: str, tier: str):
    name, params, made = found["plans"][f"{spelling}, {tier}"]
    assert (name, params) == ("snake", pytest.approx({"a": 0.5}, rel=1e-5))
    assert made == pytest.approx(gain(0.5), rel=1e-5)


def test_its_gain_is_known_by_name(found: dict[str, Any]):
    assert found["gain"] == pytest.approx(gain(0.5), rel=1e-10)


def test_reports_and_checks_know_it(found: dict[str, Any]):
    assert "snake(0.5)" in found["report"]
    assert (found["facts"], found["codes"]) == ([True], [])
    assert found["ops"] == ["input", "linear", "snake", "linear", "output"]


@pytest.mark.usefixtures("found")
def test_its_module_is_loaded_safely(copy: Copy):
    assert "snake(0.5)" in copy.command("report", "saved.pt")
