"""Starts compared on models of one weight w, trained by gradient descent on w^2: a step multiplies w by 1 - 2 lr."""

import json
import math
import random

import numpy as np
import pytest
import torch
from torch import nn

from autoinit import ArgumentError, CallbackError, Comparison, TraceError, compare
from autoinit.comparing.trials import Trial
from autoinit.reporting.comparisons.plotting import smoothed


class Weight(nn.Module):
    """One weight, 1 as built."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(()))


def descend(model, lr):
    """Losses w^2."""
    while True:
        loss = model.w.square()
        yield loss
        model.w.data.mul_(1 - 2 * lr)


def at(value):
    """A start: w is this."""
    return lambda model: model.w.data.fill_(value)


def test_losses_are_those_of_the_loop():
    """w = 2, 1, 1/2 at lr 1/4: losses 4, 1, 1/4; the score is the last tenth of three losses, the last one."""
    result = compare(Weight, descend, {"two": at(2.0), "library": {}}, lrs=[0.25], steps=3, seeds=1)
    two, library = result.trials
    assert two == Trial("two", 0.25, 0, (4.0, 1.0, 0.25), 0.25, "", two.seconds)
    assert library.losses == (1.0, 0.25, 0.0625)
    assert [each.start for each in result.ranking] == ["library", "two"]
    assert result.best == "library"
    assert result.curves["two"] == (4.0, 1.0, 0.25)


def test_without_a_score_the_last_tenth_of_the_losses_counts():
    """Losses 0, 1, ..., 19: the mean of the last two is 18.5."""
    count = compare(Weight, lambda *_: iter(range(30)), ["library"], lrs=[1.0], steps=20, seeds=1)
    assert count.trials[0].score == 18.5


def test_each_start_stands_at_its_best_rate():
    """lr 1/2 ends at once, 1/4 halves, 1/8 takes a quarter off. The other seeds are trained at the two best."""
    result = compare(Weight, descend, {"one": {}}, lrs=[0.125, 0.5, 0.25], steps=4, seeds=3)
    assert [(each.lr, each.seed) for each in result.trials] == [
        (0.125, 0), (0.25, 0), (0.5, 0), (0.5, 1), (0.5, 2), (0.25, 1), (0.25, 2),
    ]  # fmt: skip
    (one,) = result.ranking
    assert (one.lr, one.score, one.error, one.trained, one.verdict) == (0.5, 0.0, 0.0, 7, "best")
    assert result.notes == ("best at the lowest or highest of `lrs`, so try more: one",)


def test_a_training_that_diverges_is_given_up():
    """lr 2 multiplies w by -3: losses 1, 9, 81, 729, of which the fourth is more than 100 times the first."""
    result = compare(Weight, descend, {"one": {}, "small": at(0.1)}, lrs=[2.0], steps=50, seeds=2)
    one, _, small, _ = result.trials
    assert one.losses == (1.0, 9.0, 81.0, 729.0)
    assert one.score == math.inf
    assert one.given_up == "the loss is 729 at step 4, 1 at the first"
    assert len(small.losses) == 6, "0.01 * 9^5 = 590, more than 100 times 1"
    assert [each.given_up for each in result.ranking] == [2, 2]
    assert {each.verdict for each in result.ranking} == {"not known"}
    assert "given up" in str(result)


def test_a_loss_that_is_no_number_ends_a_training():
    def train(model, lr):
        yield 1.0
        yield torch.tensor(math.nan)
        raise AssertionError("one step too many")

    (only,) = compare(Weight, train, ["library"], lrs=[1.0], seeds=1).trials
    assert only.given_up == "the loss is nan at step 2"


def test_a_training_ends_with_its_time():
    (only,) = compare(Weight, descend, ["library"], lrs=[0.1], seeds=1, limit=0).trials
    assert (only.given_up, only.losses) == ("0 seconds were over at step 1", (1.0,))


def test_a_loop_is_closed():
    closed = []

    def train(model, lr):
        try:
            while True:
                yield 0.0
        finally:
            closed.append(lr)

    compare(Weight, train, ["library"], lrs=[1.0, 2.0], steps=2, seeds=1)
    assert closed == [1.0, 2.0]


def drawing(model, lr):
    """Losses are random numbers."""
    while True:
        yield float(torch.rand(())) + random.random() + float(np.random.rand())


def test_random_numbers_follow_from_the_seed_and_go_on_as_before():
    """Starts see the same batches, seeds see others."""
    starts = {"one": at(1.0), "two": at(2.0)}
    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    expected = float(torch.rand(())), random.random(), float(np.random.rand())
    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    first = compare(Weight, drawing, starts, lrs=[1.0], steps=3, seeds=2)
    assert (float(torch.rand(())), random.random(), float(np.random.rand())) == expected
    again = compare(Weight, drawing, starts, lrs=[1.0], steps=3, seeds=2)
    losses = [each.losses for each in first.trials]
    assert losses == [each.losses for each in again.trials]
    assert losses[0] == losses[2] != losses[1] == losses[3]


def test_random_numbers_go_on_as_before_after_an_error():
    def train(model, lr):
        yield torch.rand(())
        raise KeyError("the loop's own")

    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    with pytest.raises(CallbackError, match="the loop's own"):
        compare(Weight, train, ["library"], lrs=[1.0], seeds=1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]


def test_weights_are_not_the_numbers_of_the_batches():
    def train(model, lr):
        yield float((torch.randn(3, 4) == model.weight).any())

    assert compare(lambda: _normal(nn.Linear(4, 3)), train, ["library"], lrs=[1.0], seeds=1).trials[0].losses == (0.0,)


def _normal(layer):
    nn.init.normal_(layer.weight)
    return layer


def test_starts_of_equal_numbers_share_their_trainings():
    """Three starts, two of which leave w = 1: two trainings."""
    trained = []

    def train(model, lr):
        trained.append(model.w.item())
        yield trained[-1]

    result = compare(Weight, train, {"one": {}, "two": at(2.0), "same": at(1.0)}, lrs=[1.0], seeds=1)
    assert trained == [1.0, 2.0]
    assert [(each.start, each.score) for each in result.trials] == [("one", 1.0), ("two", 2.0), ("same", 1.0)]


def test_a_score_is_asked_of_the_trained_model_in_evaluation_mode():
    """At lr 1/4, w is 1/4 after the second step."""

    def score(model):
        assert not model.training
        assert not torch.is_grad_enabled()
        return model.w

    def train(model, lr):
        assert model.training
        yield from (loss for loss in _two(model, lr))

    def _two(model, lr):
        for _ in range(2):
            model.w.data.mul_(1 - 2 * lr)
            yield 0.0

    (only,) = compare(Weight, train, ["library"], lrs=[0.25], steps=5, seeds=1, score=score).trials
    assert (only.score, only.losses) == (0.25, (0.0, 0.0))


def test_names_are_options_of_autoinit():
    """64 inputs: He everywhere sqrt(2 / 64), though no ReLU follows; Xavier and autoinit sqrt(2 / (64 + 256))."""

    def train(model, lr):
        yield model.weight.detach().std()

    made = compare(lambda: nn.Linear(64, 256), train, ["he", "xavier", "autoinit", "library"], lrs=[1.0], seeds=1)
    stds = {each.start: each.score for each in made.trials}
    assert stds["he"] == pytest.approx(math.sqrt(2 / 64), rel=0.03)
    assert stds["xavier"] == pytest.approx(math.sqrt(2 / 320), rel=0.03)
    assert stds["autoinit"] == pytest.approx(math.sqrt(2 / 320), rel=0.03)
    assert stds["library"] == pytest.approx(1 / math.sqrt(3 * 64), rel=0.03)


def trials(start, scores, lr=1.0):
    return [Trial(start, lr, seed, (1.0,), score, "", 0.0) for seed, score in enumerate(scores)]


@pytest.mark.parametrize(
    ("scores", "verdict"),
    [
        (
            (1.9, 2.9, 3.9),
            "tie",
        ),  # a difference of 0.9, standard errors 0.577 each: twice their root of squares is 1.63
        ((2.6, 3.6, 4.6), "tie"),  # 1.6
        ((2.7, 3.7, 4.7), "worse"),  # 1.7
        ((math.inf, 2.0, 3.0), "worse"),
    ],
)
def test_two_standard_errors_tell_a_tie(scores, verdict):
    made = Comparison((*trials("a", (1.0, 2.0, 3.0)), *trials("b", scores)), 1, (1.0,))
    best, other = made.ranking
    assert (best.start, best.verdict, best.error) == ("a", "best", pytest.approx(1 / math.sqrt(3)))
    assert (other.start, other.verdict) == ("b", verdict)


def test_one_seed_tells_no_difference():
    made = Comparison((*trials("a", (1.0,)), *trials("b", (9.0,))), 1, (1.0,))
    assert [each.verdict for each in made.ranking] == ["best", "not known"]
    assert made.notes == ("one seed tells no difference from chance: `seeds=3` or more",)


def test_it_shows_itself():
    made = Comparison((*trials("<a>", (1.0, 3.0)), *trials("b", (math.inf, 3.0))), 7, (1.0,))
    assert "autoinit comparison  7 steps, lr 1, 2 seeds" in str(made)
    assert "2 ± 1" in str(made)
    assert "<td>&lt;a&gt;</td><td>2 ± 1</td><td>best</td>" in made._repr_html_()
    document = json.loads(made.to_json())
    assert [each["score"] for each in document["ranking"]] == [2.0, None]
    assert document["trials"][0] == {
        "start": "<a>", "lr": 1.0, "seed": 0, "losses": [1.0], "score": 1.0, "given_up": "", "seconds": 0.0,
    }  # fmt: skip


def test_it_draws_a_line_for_each_start():
    pytest.importorskip("matplotlib")
    made = compare(Weight, descend, {"one": {}, "two": at(2.0)}, lrs=[0.25], steps=3, seeds=1)
    lines = made.plot().axes[0].get_lines()
    assert [(each.get_label(), list(each.get_ydata())) for each in lines] == [
        ("one, lr 0.25", [1.0, 0.25, 0.0625]),
        ("two, lr 0.25", [4.0, 1.0, 0.25]),
    ]


def test_lines_are_smoothed_over_a_twenty_fifth_of_the_steps():
    """Of 50 losses each is the mean of two, the first of itself."""
    assert smoothed([0.0, 2.0] * 25) == [0.0] + [1.0] * 49


def test_no_bar_without_a_terminal(capsys):
    compare(Weight, descend, ["library"], lrs=[0.25], steps=2, seeds=1)
    assert capsys.readouterr() == ("", "")


class Untraceable(Weight):
    def forward(self, x):
        raise ValueError("not on this path")


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"make_model": Weight()}, ArgumentError, r"make_model=Weight\(\): expected a function that builds"),
        ({"make_model": "model"}, ArgumentError, "make_model='model': expected a function"),
        ({"make_model": dict}, ArgumentError, r"make_model\(\)=\{\}: expected a module"),
        ({"train": 3}, ArgumentError, "train=3: expected a function"),
        ({"train": lambda *_: 3}, ArgumentError, r"train\(model, lr\)=3: expected a generator"),
        ({"train": lambda *_: iter(())}, ArgumentError, "yielded no loss"),
        ({"train": lambda *_: iter(["x"])}, ArgumentError, "loss='x': expected a number"),
        ({"train": lambda *_: iter([torch.ones(2)])}, ArgumentError, r"loss=tensor\(.*expected a number"),
        ({"starts": ["best"]}, ArgumentError, "starts: no 'best'; expected some of library, he, xavier"),
        ({"starts": []}, ArgumentError, "expected one start at least"),
        ({"starts": {"a": 3}}, ArgumentError, "starts=3: expected options of `autoinit`, or a function"),
        ({"lrs": 0.1}, ArgumentError, "lrs=0.1: expected learning rates"),
        ({"lrs": [0.1, -1.0]}, ArgumentError, "expected learning rates above 0"),
        ({"lrs": []}, ArgumentError, "expected learning rates above 0"),
        ({"steps": 0}, ArgumentError, "steps=0: expected a number, 1 at least"),
        ({"seeds": 1.5}, ArgumentError, "seeds=1.5: expected a number, 1 at least"),
        ({"score": 1}, ArgumentError, "score=1: expected a function"),
        ({"limit": None}, ArgumentError, "limit=None: expected seconds"),
        ({"give_up": "x"}, ArgumentError, "give_up='x': expected a factor"),
        ({"make_model": Untraceable, "starts": ["library", "autoinit"]}, TraceError, "not on this path"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, error, match):
    given = {"make_model": Weight, "train": descend, "starts": ["library"], "lrs": [0.1], "steps": 2, "seeds": 1}
    with pytest.raises(error, match=match):
        compare(**(given | arguments))


def test_a_start_that_fails_is_found_before_anything_is_trained():
    trained = []
    with pytest.raises(TraceError, match="not on this path"):
        compare(Untraceable, lambda *_: iter(trained), ["library", "autoinit"], lrs=[1.0], seeds=1)
