"""The parts of the comparison of methods that train: networks, scores, what they add up to, and a slice."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.shared.started import python

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "methods.py"
pytestmark = pytest.mark.usefixtures("benchmarks")


@pytest.mark.parametrize(
    ("name", "weights"),
    # Of the residual network 20 * 2, the stem and the head; the recurrence has one into, one over, one out.
    [("convolutional_30", 30), ("vgg_19", 19), ("residual_20", 42), ("autoencoder_20", 20), ("recurrent_50", 3)],
)
def test_networks_are_as_deep_as_their_names_say(name: str, weights: int) -> None:
    from _networks import NETWORKS

    model = NETWORKS[name]()
    assert len([each for each in model.parameters() if each.dim() > 1]) == weights
    expected = (2, 1, 8, 8) if name == "autoencoder_20" else (2, 10)
    assert model(torch.zeros(2, 1, 8, 8)).shape == expected


def test_the_recurrence_calls_its_weight_at_every_step_but_the_first() -> None:
    from _networks import Recurrent

    model, calls = Recurrent(), []
    model.over.register_forward_hook(lambda *_: calls.append(1))
    model(torch.zeros(1, 1, 8, 8))
    assert len(calls) == 49


@pytest.mark.parametrize("name", ["gated_30", "tanh_30", "mixed_30", "vgg_19", "residual_20", "recurrent_50"])
def test_what_is_predicted_of_mirrored_plans_is_what_their_weights_make(name: str) -> None:
    """Second moments within a tenth at every layer; of the head behind a mean over 64 positions, which is one draw's
    chance, within a fourth."""
    from _networks import NETWORKS
    from _plain import Plain

    from autoinit import plan
    from autoinit.signal import measure, propagate

    torch.manual_seed(0)
    model = NETWORKS[name]() if name in NETWORKS else Plain("mlp", name.removesuffix("_30"), 30, 64)
    shape = (1, 8, 8) if name in NETWORKS else (64,)
    x = torch.randn(256, *shape, generator=torch.Generator().manual_seed(0))
    made = plan(model, x, method="mirrored")
    made.apply(model, seed=0, force=True)
    predicted, measured = propagate(made, x, model=model), measure(model, x)
    for layer in made:
        near = 0.25 if (name, layer) == ("residual_20", "head") else 0.1
        assert predicted[layer].q == pytest.approx(measured[layer].q, rel=near), layer


def test_scores_follow_by_hand() -> None:
    from _depth import score, squared_error

    logits = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert score(logits, torch.tensor([1, 0, 0, 1])) == 0.75
    images = torch.tensor([[1.0, 5.0], [3.0, 5.0]]).view(2, 1, 1, 2)
    mean = images.mean(0, keepdim=True).expand_as(images)
    # The mean image gives nothing back, half way to the image three quarters, what is worse than the mean is cut off.
    assert score(mean, images) == 0
    assert score((images + mean) / 2, images) == 0.75
    assert score(images * 10, images) == 0
    assert score(torch.full_like(images, torch.nan), images) == 0
    # (1 + 0) / 2 for either image.
    assert float(squared_error(mean, images)) == 0.5


def test_a_run_takes_the_best_rate_of_the_first_seed_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    import _depth

    monkeypatch.setattr(_depth, "EPOCHS", 1)
    monkeypatch.setattr(_depth, "RATES", {"sgd": (0.0, 0.003)})
    record = _depth.deep_trained("mirrored", "autoencoder_20_sgd")
    _, test = _depth.task("autoencoder_20", "sgd")
    model, _ = _depth.started("mirrored", "autoencoder_20", "sgd", 0)
    with torch.no_grad():
        untrained = _depth.score(model(test.inputs), test.targets)
    assert record["scores"]["0"] == [pytest.approx(untrained, abs=1e-4)]
    assert record["rate"] == 0.003
    assert record["best"][0] == record["scores"]["0.003"][0] > untrained
    assert len(set(record["best"])) == 3
    (total,) = _depth.deep_totals([record])
    assert total["score"] == pytest.approx(sum(record["best"]) / 3)
    assert (total["network"], total["seeds"], total["worst"]) == ("autoencoder_20_sgd", 3, min(record["best"]))
    assert _depth.deep_table([total]).row_count == 1


def test_what_diverges_or_stays_at_chance_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    from _depth import trained
    from _networks import NETWORKS

    monkeypatch.setitem(NETWORKS, "small", lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    start = NETWORKS["small"]()
    nn.init.zeros_(start[1].weight)
    assert trained("small", start, "sgd", 1e38) == [0.0]
    at_chance = trained("small", start, "sgd", 0.0)
    assert len(at_chance) == 2
    assert max(at_chance) < 0.2
    assert trained("small", start, "adam", 0.003)[-1] > 0.8
    assert not start[1].weight.any()


def reached(method: str, setting: str, epochs: dict[str, list[int]]) -> dict[str, Any]:
    first_by_rate = [sum(each[rate] > 0 for each in epochs.values()) for rate in range(6)]
    count = sum(any(each) for each in epochs.values())
    name = f"training:{setting}"
    return {
        "library": method, "name": name, "state": "done", "epochs": epochs, "reached": count,
        "first_by_rate": first_by_rate,
    }  # fmt: skip


def test_what_training_adds_up_to() -> None:
    from _learning import learning, learning_table

    never, fast, slow = [0] * 6, [0, 0, 0, 2, 1, 0], [0, 0, 0, 0, 7, 0]
    records = [
        reached("mirrored", "relu_30", {"0": fast, "1": fast, "2": slow}),
        reached("he", "relu_30", {"0": slow, "1": never, "2": never}),
        reached("mirrored", "contrast_relu_30", {"0": slow, "1": slow, "2": never}),
        reached("he", "adam_relu_30", {"0": never, "1": never, "2": slow}),
        reached("he", "relu_200", {"0": never, "1": never, "2": never}),
    ]
    mirrored, he = learning(records, ("mirrored", "lsuv", "he"))
    assert (mirrored["settings"], mirrored["reached"], mirrored["epochs"]) == (3, 3, 3.0)
    assert mirrored["reached_by_kind"] == {"depth 30": [3, 3], "contrast": [2, 3]}
    assert (he["settings"], he["reached"], he["epochs"], he["share"]) == (3, 1, 7.0, pytest.approx(1 / 3))
    # He's one seed takes 7, and mirrored's first rate 1 there.
    assert (he["epochs_there"], he["epochs_of_mirrored"]) == (7.0, 1.0)
    assert he["reached_by_kind"] == {"depth 30": [1, 3], "Adam": [1, 3], "depth 200": [0, 3]}
    assert mirrored["epochs_by_kind"] == {"depth 30": 3.0, "contrast": 7.0}
    shown = learning_table([mirrored, he])
    assert [column.header for column in shown.columns[:5]] == ["", "depth 10 to 60", "depth 30", "contrast", "Adam"]
    cells = [list(column.cells) for column in shown.columns[1:7]]
    assert cells == [["3 of 3 (3.00)", "1 of 3 (7.00)"], ["3 of 3 (3.00)", "1 of 3 (7.00)"], ["2 of 3 (7.00)", ""],
                     ["", "1 of 3 (7.00)"], ["", "0 of 3"], ["3.00", "1.00"]]  # fmt: skip


def test_what_is_stored_is_shown_without_a_run(tmp_path: Path) -> None:
    """Of all runs of depth 3 one is stored: one row, and nothing else is tried."""
    lines = tmp_path / "lines.jsonl"
    known = reached("he", "relu_3", {"0": [0, 0, 0, 4, 5, 0], "1": [0] * 6, "2": [0] * 6})
    lines.write_text(json.dumps(known) + "\n")
    given = ("--part", "training", "deep", "--models", "*_3", "*_sgd", "--resume", str(lines), "--stored")
    done = python(SCRIPT, *given, env={**os.environ, "COLUMNS": "250", "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert "1 of 3 (4.00)" in done.stdout
    assert len(lines.read_text().splitlines()) == 1


def test_a_slice_trains_and_adds_up(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    from methods import TRAINING

    written = tmp_path / "methods.json"
    without = [each for each in TRAINING if each not in ("xavier", "mirrored")]
    command = [SCRIPT, "--part", "training", "deep", "--models", "training:tanh_3"]
    alone = {**os.environ, "COLUMNS": "250", "OMP_NUM_THREADS": "1"}
    done = python(*command, "--without", *without, "--json", written, env=alone)
    assert done.returncode == 0, done.stderr
    assert "3 of 3" in done.stdout
    totals = {each["method"]: each for each in json.loads(written.read_text())["libraries"]}
    # Three layers of tanh train after Xavier; the depth of 3 is none of the 72 settings.
    assert totals["xavier"]["reached_by_kind"] == totals["mirrored"]["reached_by_kind"] == {"depth 3": [3, 3]}
    assert (totals["xavier"]["settings"], totals["xavier"]["share"]) == (0, None)
