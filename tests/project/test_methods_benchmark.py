"""The comparison of methods: its figures where they follow by hand, its ensembles against torch.optim, its table."""

from __future__ import annotations

import json
import math
import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from autoinit.signal import measure
from tests.shared import torchvision_ops
from tests.shared.started import python

assert torchvision_ops
ROOM = Path(__file__).parents[2] / "benchmarks"

pytestmark = pytest.mark.usefixtures("benchmarks")


def methods(*arguments: str) -> subprocess.CompletedProcess[str]:
    return python(ROOM / "methods.py", *arguments, env={**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"})


def test_a_slice_has_the_figures_that_follow_by_hand(tmp_path: Path) -> None:
    written, lines = tmp_path / "methods.json", tmp_path / "methods.jsonl"
    known = {"library": "signal", "name": "plain:mlp_relu_10", "state": "failed", "cause": "as told before"}
    lines.write_text(json.dumps(known) + "\n")
    names = ("plain:mlp_relu_10", "plain:cnn_gelu_10")
    done = methods(
        "--part", "models", "--models", *names, "--without", "lsuv", "orthogonal", "--json", str(written),
        "--resume", str(lines),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "plain networks without normalisation" in done.stdout
    assert "failed signal plain:mlp_relu_10: as told before" in done.stdout

    found = json.loads(written.read_text())
    by_key = {(each["library"], each["name"]): each for each in found["models"]}
    assert len(by_key) == 2 * 7
    xavier = by_key["xavier", "plain:mlp_relu_10"]
    assert (xavier["layers"], xavier["apart"], xavier["dead"]) == (10, 0, 0)
    # 64 -> 128: second moment 64 * 2 / (64 + 128) = 2/3. Then a ReLU and 128 -> 128 halve it each time.
    assert xavier["inside"] == 1
    assert xavier["outside"]["hidden.1"] == pytest.approx(1 / 3, rel=0.5)
    # Inputs that share the weights' seed would share their numbers, and come out half as large again.
    # The gradient: 1 at the ten logits, 10 * 2 / 138 / 2 before them, and half of it at each of the eight before that.
    assert xavier["spread"] == pytest.approx(math.log10(138 / 10 * 2**8), abs=0.5)
    # torch's default: a third of the input's second moment, and a bias of variance 1 / (3 * 64).
    library = by_key["library", "plain:mlp_relu_10"]
    assert library["inside"] == 0
    assert library["outside"]["hidden.0"] == pytest.approx(1 / 3 + 1 / 192, rel=0.5)

    totals = {each["method"]: each for each in found["libraries"]}
    assert (totals["xavier"]["models"], totals["xavier"]["layers"]) == (2, 20)
    assert (totals["signal"]["done"], totals["signal"]["failed"]) == (1, 1)
    inside = sum(by_key["xavier", name]["inside"] for name in names)
    assert totals["xavier"]["share"] == pytest.approx(inside / 20)
    # mlp_relu_10 was not finished by all, so cnn_gelu_10 alone counts.
    assert totals["xavier"]["share_same_models"] == pytest.approx((inside - 1) / 10)
    assert totals["xavier"]["worst_spread"] == max(by_key["xavier", name]["spread"] for name in names)


def test_a_method_out_of_time_is_counted_as_unfinished(monkeypatch: pytest.MonkeyPatch) -> None:
    """The method only waits, so that the alarm cannot ring in a destructor or a callback, where it would be lost."""
    import _preserving
    from methods import summary

    monkeypatch.setattr(_preserving, "initialise", lambda *_: time.sleep(60))
    record = _preserving.preserved("lsuv", "plain:mlp_tanh_30", 0.05)
    assert (record["state"], record["cause"]) == ("unfinished", "took longer than 0.05 s")
    total = summary("lsuv", "plain", [record])
    assert (total["models"], total["done"], total["unfinished"], total["share"]) == (1, 0, 1, None)


def test_an_alarm_that_a_destructor_swallowed_ends_the_block_at_its_end() -> None:
    from _steps import TimeUpError, limited

    def work() -> str:
        with limited(0.05), suppress(TimeUpError):
            time.sleep(60)
        return "as if in time"

    with pytest.raises(TimeUpError, match=r"^$"):
        work()


def test_what_zeros_of_the_author_silence_is_counted_apart() -> None:
    from _preserving import figures

    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(256, 256, bias=False) for _ in range(3)))
    for layer in model:
        nn.init.normal_(layer.weight, std=1 / 16)
    nn.init.zeros_(model[1].weight)
    found = figures(model, measure(model, (torch.randn(16, 256, generator=torch.Generator().manual_seed(1)),)))
    # The first layer keeps its second moment of 1 and has its gradient stopped; nothing comes to the third.
    assert (found["layers"], found["inside"], found["apart"], found["dead"], found["spread"]) == (1, 1, 2, 0, None)

    nn.init.normal_(model[1].weight, std=1e-30)
    found = figures(model, measure(model, (torch.randn(16, 256, generator=torch.Generator().manual_seed(1)),)))
    # Second moments of 1e-58 are zero in float32: these signals have died by themselves.
    assert (found["layers"], found["inside"], found["apart"], found["dead"]) == (3, 1, 0, 1)


def plain_network() -> nn.Module:
    from _plain import plain

    return plain("cnn_gelu_10")


def residual_network() -> nn.Module:
    import torchvision

    return torchvision.models.resnet18(weights=None)


@pytest.mark.parametrize(("make", "shape"), [(plain_network, (1, 8, 8)), (residual_network, (3, 64, 64))])
def test_measured_moments_are_those_of_plain_hooks(make: Any, shape: tuple[int, ...]) -> None:
    from _methods import output_moments

    torch.manual_seed(0)
    model = make()
    batch = torch.randn(4, *shape)
    measured = measure(model, (batch,))
    hooked = output_moments(model, batch, training=True)
    assert set(measured) == set(hooked)
    for name, (moment, std) in hooked.items():
        assert measured[name].q == pytest.approx(moment, rel=1e-3)
        assert std**2 <= moment * 1.1


def test_the_plain_networks_are_as_deep_as_their_names_say() -> None:
    from _plain import ACTIVATIONS, NETS, plain, plain_shape

    assert len(NETS) == 20
    assert {activation for _, activation, _ in NETS.values()} == set(ACTIVATIONS)
    assert len(ACTIVATIONS) == 8
    assert {depth for _, _, depth in NETS.values()} >= {10, 200}
    for name in NETS:
        model = plain(name)
        weights = [each for each in model.parameters() if each.dim() > 1]
        assert len(weights) == int(name.rpartition("_")[2])
        assert model(torch.zeros(2, *plain_shape(name))).shape == (2, 10)


def by_sgd(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    from _training import MOMENTUM

    return torch.optim.SGD(model.parameters(), lr=rate, momentum=MOMENTUM)


def by_adam(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=rate)


@pytest.mark.parametrize(("activation", "optimized"), [("mixed", by_sgd), ("gated", by_sgd), ("mixed", by_adam)])
def test_an_ensemble_trains_each_member_as_torch_does(activation: str, optimized: Any) -> None:
    from _plain import Plain
    from _training import Ensemble

    torch.manual_seed(0)
    members = [Plain("mlp", activation, 4, 16) for _ in range(3)]
    rates = (0.1, 0.05, 0.01)
    ensemble = Ensemble(members, adam=optimized is by_adam)
    # One of them is given up before it begins.
    ensemble.keep(torch.tensor([True, False, True]))
    members, rates = members[::2], rates[::2]
    x, labels = torch.randn(8, 64), torch.randint(10, (8,))
    for _ in range(3):
        losses = ensemble.step(x, labels, torch.tensor(rates))
    logits = ensemble(x)
    for member, rate, loss, made in zip(members, rates, losses, logits, strict=True):
        optimizer = optimized(member, rate)
        for _ in range(3):
            optimizer.zero_grad()
            expected = nn.functional.cross_entropy(member(x), labels)
            expected.backward()
            optimizer.step()
        torch.testing.assert_close(loss, expected.detach())
        torch.testing.assert_close(made, member(x))


def test_training_stops_at_the_first_rate_that_reaches_and_gives_up_the_hopeless() -> None:
    pytest.importorskip("sklearn")
    from _plain import Plain
    from _training import REACHED, Ensemble, digits, train

    torch.manual_seed(0)
    good = Plain("mlp", "relu", 2, 64)
    stuck = Plain("mlp", "relu", 2, 64)
    nn.init.zeros_(stuck.head.weight)
    # Members: one that learns, one at rate 0 of the same seed, one at rate 0 of another.
    seeds, rates = torch.tensor([0, 0, 1]), torch.tensor([0.05, 0.0, 0.0])
    best, reached = train(Ensemble([good, stuck, stuck]), digits(), rates, seeds, 12)
    assert best[0] >= REACHED
    assert reached[0] > 0
    assert reached[1:].tolist() == [0, 0]
    assert float(best[2]) < 0.2


def test_digits_are_standardised_and_alike() -> None:
    pytest.importorskip("sklearn")
    from _training import digits, input_signal

    data = digits()
    # Dua & Graff 2019: 1,797 images of 8 x 8 pixels.
    assert (len(data.train), len(data.test), data.train.shape[1]) == (1347, 450, 64)
    found = input_signal(data.train)
    pairs = data.train[torch.randperm(1347, generator=torch.Generator().manual_seed(1))]
    alike = float((data.train * pairs)[(data.train != pairs).any(1)].mean())
    assert found.q == pytest.approx(float(data.train.square().mean()))
    assert found.s == pytest.approx(alike, abs=0.05)
