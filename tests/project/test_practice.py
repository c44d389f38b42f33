"""The benchmark of everyday networks: its split, its scores, what it counts, and that it goes on from its file."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
pytestmark = pytest.mark.usefixtures("benchmarks")
pytest.importorskip("sklearn")
pytest.importorskip("lsuv")


def test_networks_are_split_in_parts_that_share_none() -> None:
    from _practice_running import HELD, LEARN, NETWORKS

    assert set(LEARN) | set(HELD) == set(NETWORKS)
    assert not set(LEARN) & set(HELD)
    assert (len(LEARN), len(HELD)) == (24, 8)


@pytest.mark.parametrize("name", ["vgg", "unet", "vae", "dcgan", "detector", "gpt", "encoder", "mixer", "gru", "graph",
                                  "points", "siren", "field", "actor_critic", "densenet", "regression", "flow",
                                  "characters", "spacer", "waves", "convnext", "ratings", "reverser",
                                  "equation"])  # fmt: skip
def test_a_network_takes_its_batch_and_a_step_and_has_a_score(name: str) -> None:
    from _practice_running import NETWORKS

    practice = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = practice.make()
        model(practice.batch())
        before = {key: each.clone() for key, each in model.named_parameters()}
        loss = next(practice.train(model, practice.rates[0]))
        assert loss.isfinite()
        assert any(not torch.equal(each, before[key]) for key, each in model.named_parameters())
        assert 0 <= practice.score(model) < math.inf


class Told(nn.Module):
    """Gives what it was told, whatever it is asked."""

    def __init__(self, answer: torch.Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.answer


def test_a_detector_that_knows_all_scores_0_and_one_that_knows_nothing_nearly_1() -> None:
    """Of constant logits the precision is about the share of positives, 1 in 100."""
    from _practice_images import focal, judge_detector, scenes

    _, y = scenes(test=True)
    assert judge_detector(Told(y)) == pytest.approx(0, abs=1e-6)
    assert 0.95 < judge_detector(Told(torch.zeros_like(y))) < 1
    assert 0.005 < float(y.mean()) < 0.015
    # Logits 0: 0.25 * 0.25 * ln 2 for a positive, 0.75 * 0.25 * ln 2 for each of three others, over one positive.
    expected = math.log(2) * (1 / 16 + 3 * 3 / 16)
    assert float(focal(torch.zeros(4), torch.tensor([1.0, 0, 0, 0]))) == pytest.approx(expected)


def test_the_bound_of_a_vae_by_hand() -> None:
    """Half the square of 2 and 0 is 2; half of (1 + e - 1 - 1) for mean 1 and log-variance 1 is (e - 1) / 2."""
    from _practice_images import bound

    one = torch.ones(1, 1)
    x = torch.tensor([[3.0, 1.0]])
    assert float(bound((torch.ones(1, 2), one, one), x)) == pytest.approx(2 + (math.e - 1) / 2)


def test_a_pole_falls_that_is_pushed_one_way() -> None:
    """Pushed to the right it falls to the left in about 10 steps, as in gymnasium; its successor is upright again."""
    from _practice_others import CartPoles

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        carts = CartPoles(32)
        fallen_at = torch.zeros(32)
        for step in range(1, 13):
            fallen, late = carts.step(torch.ones(32))
            fallen_at = torch.where(fallen & (fallen_at == 0), step, fallen_at)
            assert not late.any()
    assert ((fallen_at >= 8) & (fallen_at <= 11)).all()
    assert bool((carts.state[:, 2].abs() < 0.21).all())


def outcome(start: str, scores: tuple[float, ...], network: str = "vae"):
    from _practice_running import Outcome

    return Outcome(network, start, 0.1, scores)


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        (
            (0.1, 1.1, 2.1),
            "tie",
        ),  # a difference of 0.9, standard errors 0.577 each: twice their root of squares is 1.63
        ((-0.5, 0.5, 1.5), "tie"),  # 1.5
        ((-0.7, 0.3, 1.3), "win"),  # 1.7
        ((2.7, 3.7, 4.7), "loss"),
        ((math.inf, 0.0, 0.0), "loss"),
    ],
)
def test_two_standard_errors_tell_a_win(ours: tuple[float, ...], expected: str) -> None:
    from _practice_tables import verdict

    assert verdict(outcome("plain", ours), outcome("he", (1.0, 2.0, 3.0))) == expected


def test_wins_ties_and_losses_add_up() -> None:
    """The best rival is He on the first network, where ours is better, and Xavier on the second, three times better."""
    from _practice_tables import counted

    sure = [(2.0, 2.0), (3.0, 3.0), (1.0, 1.0)]
    first = [outcome(start, scores) for start, scores in zip(("he", "xavier", "plain"), sure, strict=True)]
    second = [outcome(start, scores, "unet") for start, scores in zip(("he", "plain", "xavier"), sure, strict=True)]
    (plain,) = counted([*first, *second])
    assert plain["against"]["best"] == {"win": 1, "loss": 1}
    assert plain["against"]["he"] == {"win": 1, "loss": 1}
    assert plain["against"]["lsuv"] == {}
    assert plain["worst"] == ("unet", 2.0)


def test_what_was_trained_from_the_same_numbers_is_not_trained_again(tmp_path: Path) -> None:
    """Three rates by the first seed, one or two by the others. A network without residual streams has the same weights
    with residual="depth".
    """
    from _practice_running import NETWORKS, Runs
    from _practice_running import outcome as trained

    file = tmp_path / "runs.jsonl"
    first = trained(Runs(file), "graph", "plain")
    lines = file.read_text().splitlines()
    assert len(lines) in (5, 7)
    assert {json.loads(each)["rate"] for each in lines} == set(NETWORKS["graph"].rates)
    with file.open("a") as stream:
        stream.write('{"network": "graph", "sta')
    again = trained(Runs(file), "graph", "depth")
    assert file.read_text().count("\n") == len(lines)
    assert first is not None
    assert again is not None
    assert (again.rate, again.scores) == (first.rate, first.scores)


def test_a_loop_as_the_literatures_recipe_is_no_start_of_its_own() -> None:
    from _practice_running import Runs
    from _practice_running import outcome as trained

    assert trained(Runs(None), "graph", "recipe") is None


def test_the_presets_figures_are_those_that_are_recorded() -> None:
    """`autoinit.presets` names a network, and its means of the plain assignment and of the preset."""
    from _practice_running import NETWORKS
    from _practice_starts import TITLES

    from autoinit.presets.train import ROWS

    names = {f"{each.about} ({each.measure})": name for name, each in NETWORKS.items()}
    means: dict[tuple[str, str], float] = {}
    for table in json.loads((RESULTS / "practice.json").read_text(encoding="utf-8"))["tables"]:
        for row in table["rows"]:
            cells = dict(zip(table["columns"], row, strict=True))
            for start in ("plain", "train"):
                if row[0] in names and TITLES[start] in cells:
                    mean = cells[TITLES[start]].partition(" ")[0]
                    means[names[row[0]], start] = math.inf if mean == "diverged" else float(mean)
    assert set(names.values()) == {name for name, _ in means}
    for figure in (each for row in ROWS for each in row.figures):
        assert means[figure.network, "plain"] == pytest.approx(figure.plain, rel=0.005)
        assert means[figure.network, "train"] == pytest.approx(figure.chosen, rel=0.005)
