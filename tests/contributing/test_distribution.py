"""A new distribution: its name and row in the table, and the function that draws it.

Laplace's, of unit std: -sign(u) log(1 - 2 |u|) / sqrt(2) for u uniform in (-1/2, 1/2). Its density is
exp(-sqrt(2) |z|) / sqrt(2), its 2k-th moment (2k)! / 2^k, and half of its numbers are within log(2) / sqrt(2) of zero.
"""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from tests.contributing.copying import Copy
from tests.contributing.guide import promised

TABLE, DRAWING = "autoinit/plans/distributions.py", "autoinit/writing/elementwise.py"
FUNCTION = '''def laplace(bits: Bits, out: Array) -> None:
    """Laplace's distribution of unit std, by its inverse distribution function."""
    uniform = (bits + np.float64(0.5)) / 2**32
    np.copyto(out, -np.sign(uniform) * np.log1p(-2 * np.abs(uniform)) / np.sqrt(2), casting="same_kind")


def constant('''


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    made = Copy(tmp_path_factory.mktemp("distribution"))
    made.edit(TABLE, '"orthogonal"]\n', '"orthogonal", "laplace"]\n')
    made.edit(
        TABLE,
        'scaled to the std"),\n',
        'scaled to the std"),\n'
        '    "laplace": DistributionRow("heavy tails", "autoinit.writing.elementwise:laplace"),\n',
    )
    made.edit(DRAWING, "def constant(", FUNCTION)
    (made.folder / "nets.py").write_text("from torch import nn\ndef build():\n    return nn.Linear(400, 250)\n")
    return made


@pytest.fixture(scope="module")
def found(copy: Copy) -> dict[str, Any]:
    return json.loads(
        copy.run("""
        import inspect, json
        import autoinit
        from nets import build
        from tests.contributing.within import command, fails

        model = build()
        autoinit.autoinit(model, distribution="laplace", seed=0, verbose=False)
        made = autoinit.plan(model, distribution="laplace")
        try:
            autoinit.plan(model, distribution="laplacian")
        except autoinit.ArgumentError as error:
            said = str(error)
        weight = model.weight.detach().double() / made["weight"].std
        print(json.dumps({
            "square": weight.square().mean().item(),
            "fourth": weight.pow(4).mean().item(),
            "median": weight.abs().median().item(),
            "again": autoinit.Plan.from_json(made.to_json())["weight"].distribution,
            "signature": str(inspect.signature(autoinit.autoinit)),
            "unknown": said,
            "json": command("report", "nets.py:build", "--distribution", "laplace", "--format", "json"),
            "asks": fails("tests.writing.test_sampling:test_every_distribution_has_an_oracle"),
        }))
    """)
    )


def test_it_is_a_row_and_a_function(copy: Copy):
    assert copy.touched == [TABLE, DRAWING]
    assert promised("distribution", copy.touched)


def test_values_are_drawn_from_it(found: dict[str, Any]):
    """Standard errors of n = 100,000 numbers: sqrt((6 - 1) / n) of the square, sqrt((8! / 16 - 36) / n) of the fourth
    power, and 1 / (2 f sqrt(n)) of the median of |z|, whose density f is sqrt(2) / 2 there; four of each."""
    n = 100_000
    assert found["square"] == pytest.approx(1, abs=4 * math.sqrt(5 / n))
    assert found["fourth"] == pytest.approx(6, abs=4 * math.sqrt((2520 - 36) / n))
    assert found["median"] == pytest.approx(math.log(2) / math.sqrt(2), abs=4 / (math.sqrt(2) * math.sqrt(n)))


def test_plans_signatures_and_errors_have_it(found: dict[str, Any]):
    assert found["again"] == "laplace"
    assert "'orthogonal', 'laplace']" in found["signature"]
    assert found["unknown"].endswith("'truncated_normal', 'orthogonal', 'laplace'")


@pytest.mark.parametrize("command", ["report", "apply", "signal"])
def test_commands_have_it(copy: Copy, command: str):
    said = " ".join(copy.command(command, "--help").split())
    assert "--distribution [normal|uniform|truncated_normal|orthogonal|laplace]" in said
    assert "laplace: heavy tails" in said


def test_json_has_it(found: dict[str, Any]):
    assert json.loads(found["json"])["layers"][0]["distribution"] == "laplace"


def test_the_tests_ask_for_an_oracle(found: dict[str, Any]):
    assert found["asks"]
