"""`preset="train"`: which row a network gets, by hand; that what is given is left as given; what is said of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from torch import Tensor, nn

from autoinit import Plan, autoinit, plan, report
from autoinit.cli import main
from autoinit.errors import ArgumentError
from autoinit.methods.table import METHODS
from autoinit.presets.train import ROWS


class Net(nn.Module):
    """Layers by name, and what the forward makes of its input with them."""

    def __init__(self, forward: Callable[[Any, Tensor], Any], **layers: nn.Module) -> None:
        super().__init__()
        self.run = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


def mlp(*sizes: int, norm: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), *([nn.LayerNorm(outputs)] if norm else []), nn.ReLU()]
    return nn.Sequential(*layers[: -1 - norm])


def encoder() -> nn.Module:
    return nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)


def drawing(*, norm: bool) -> Net:
    def run(s: Any, x: Tensor) -> Tensor:
        mean, spread = s.enc(x).chunk(2, -1)
        made: Tensor = s.dec(mean + torch.exp(0.5 * spread) * torch.randn_like(mean))
        return made

    return Net(run, enc=mlp(8, 16, 8, norm=norm), dec=mlp(4, 16, 8, norm=norm))


def streaming(*, norm: bool, last: bool = False) -> Net:
    """Three blocks that add into a stream, and a head of fewer features than the input has; last: behind a norm."""

    def run(s: Any, x: Tensor) -> Tensor:
        for block in s.blocks:
            x = x + block(x)
        logits: Tensor = s.head(x)
        return logits

    blocks = [nn.Sequential(mlp(16, 16, 16, norm=norm), *[nn.LayerNorm(16)] * last) for _ in range(3)]
    return Net(run, blocks=nn.ModuleList(blocks), head=nn.Linear(16, 4))


def acting(*heads: int) -> Net:
    """Linear heads of so many numbers over two layers."""
    layers = {f"head{number}": nn.Linear(16, size) for number, size in enumerate(heads)}
    return Net(lambda s, x: [getattr(s, name)(s.trunk(x)) for name in layers], trunk=mlp(8, 16, 16), **layers)


def conv(*, strided: bool, norm: bool = False) -> nn.Sequential:
    """An image to an image, as large or by half smaller each way and of one channel."""
    norms = [nn.BatchNorm2d(8)] if norm else []
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2 if strided else 1, 1), *norms, nn.ReLU(), nn.Conv2d(8, 1 if strided else 3, 1)
    )


IMAGE, ROW = (2, 3, 8, 8), (4, 8)
CASES: Mapping[str, tuple[Callable[[], nn.Module], Any, str]] = {
    "sines of a frequency": (
        lambda: Net(lambda s, x: s.c(torch.sin(30 * s.b(torch.sin(30 * s.a(x))))), a=nn.Linear(2, 8), b=nn.Linear(8, 8),
                    c=nn.Linear(8, 1)), (16, 2), "waves",
    ),
    "sines of no frequency": (
        lambda: Net(lambda s, x: s.b(torch.sin(s.a(x))), a=nn.Linear(4, 8), b=nn.Linear(8, 3)), (16, 4),
        "others without norms",
    ),
    "a sine among others": (
        lambda: Net(lambda s, x: s.d(F.relu(s.c(F.relu(s.b(torch.sin(30 * s.a(x))))))), a=nn.Linear(8, 8),
                    b=nn.Linear(8, 8), c=nn.Linear(8, 8), d=nn.Linear(8, 3)), ROW, "others without norms",
    ),
    "one block": (
        lambda: Net(lambda s, x: s.h(x + s.b(x)), b=mlp(8, 16, 8), h=nn.Linear(8, 2)), ROW, "others without norms"
    ),
    "one place": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 5, 3)), IMAGE, "others without norms"
    ),
    "words": (
        lambda: Net(lambda s, x: s.h(s.b(s.e(x))), e=nn.Embedding(9, 16), b=encoder(), h=nn.Linear(16, 9)),
        torch.zeros(2, 5, dtype=torch.long), "language model",
    ),
    "patches": (
        lambda: Net(lambda s, x: s.h(s.b(x).mean(1)), b=encoder(), h=nn.Linear(16, 4)), (2, 5, 16), "attention"
    ),
    "draw": (lambda: drawing(norm=False), ROW, "draw"),
    "draw with norms": (lambda: drawing(norm=True), ROW, "draw with norms"),
    "image to image": (lambda: conv(strided=False), IMAGE, "image to image"),
    "image to image with norms": (lambda: conv(strided=False, norm=True), IMAGE, "dense output with norms"),
    "as many numbers": (lambda: mlp(8, 16, 8), ROW, "dense output"),
    "image to a smaller map": (lambda: conv(strided=True), IMAGE, "map of logits"),
    "norms": (lambda: mlp(8, 16, 4, norm=True), ROW, "norms"),
    "norms written out": (
        lambda: Net(lambda s, x: s.b(torch.relu(s.a(x * x.square().mean(-1, keepdim=True).rsqrt() * s.gain))),
                    a=nn.Linear(8, 8), b=nn.Linear(8, 4), gain=nn.Parameter(torch.ones(8))), ROW, "norms"
    ),
    "stream with norms inside": (lambda: streaming(norm=True), (4, 16), "stream with norms inside"),
    "stream with norms last": (lambda: streaming(norm=True, last=True), (4, 16), "norms"),
    "recurrence": (
        lambda: Net(lambda s, x: s.h(s.r(x)[0][:, -1]), r=nn.GRU(8, 16, batch_first=True), h=nn.Linear(16, 4)),
        (2, 5, 8), "gated recurrence",
    ),
    "recurrence without gates": (
        lambda: Net(lambda s, x: s.h(s.r(x)[0][:, -1]), r=nn.RNN(8, 16, batch_first=True), h=nn.Linear(16, 4)),
        (2, 5, 8), "others without norms",
    ),
    "policy and value": (lambda: acting(2, 1), ROW, "actor-critic"),
    "two heads of one number": (lambda: acting(1, 1), ROW, "others without norms"),
    "two heads of several": (lambda: acting(3, 2), ROW, "others without norms"),
    "policy and value of a stream": (
        lambda: Net(lambda s, x: (s.p(s.t(x)), s.v(s.t(x))), t=streaming(norm=False), p=nn.Linear(4, 3),
                    v=nn.Linear(4, 1)), (4, 16), "residual stream without norms",
    ),
    "stream": (lambda: streaming(norm=False), (4, 16), "residual stream without norms"),
    "plain": (lambda: mlp(8, 16, 4), ROW, "others without norms"),
    "regression": (lambda: mlp(8, 16, 16, 1), ROW, "regression"),
    "regression of one number": (lambda: mlp(1, 16, 16, 1), (16, 1), "regression"),
    "regression by six layers": (lambda: mlp(8, *[16] * 5, 1), ROW, "regression"),
    "regression by seven layers": (lambda: mlp(8, *[16] * 6, 1), ROW, "others without norms"),
    "regression with norms": (lambda: mlp(8, 16, 16, 1, norm=True), ROW, "norms"),
    "one number of an image": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 1)),
        IMAGE, "others without norms",
    ),
    "one number of a stream": (
        lambda: Net(lambda s, x: s.h((y := x + s.a(x)) + s.b(y)), a=mlp(8, 16, 8), b=mlp(8, 16, 8), h=nn.Linear(8, 1)),
        ROW, "residual stream without norms",
    ),
    "one number, bounded": (lambda: nn.Sequential(mlp(8, 16, 1), nn.Sigmoid()), ROW, "others without norms"),
    "one number of a word": (
        lambda: nn.Sequential(nn.Embedding(9, 8), nn.Flatten(), mlp(40, 16, 1)),
        torch.zeros(2, 5, dtype=torch.long), "others without norms",
    ),
    "pooled": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)),
        IMAGE, "others without norms",
    ),
}  # fmt: skip


def test_every_row_has_a_case():
    assert {each.name for each in ROWS} == {row for _, _, row in CASES.values()}


@pytest.mark.parametrize("case", CASES)
def test_the_row_of_a_network_and_a_plan_by_its_options(case: str):
    """The plan is the one by the row's options, given by hand; it says which row, why, and from which source."""
    make, inputs, name = CASES[case]
    torch.manual_seed(0)
    model = make()
    made = plan(model, inputs, preset="train", seed=0)
    assert made.preset == f"train ({name})"
    row = next(each for each in ROWS if each.name == name)
    options = {key: value.format(frequency=30) for key, value in row.options.items()}
    by_hand = plan(model, inputs, seed=0, **options)  # type: ignore[arg-type]
    said = made.notes[-1]
    assert said.startswith(f"preset train, since {row.shows}: ")
    assert all(part in said for part in (row.reason, *(f"{key}={value!r}" for key, value in options.items())))
    assert made.layers == by_hand.layers
    assert (made.method, made.heads, made.recipe) == (by_hand.method, by_hand.heads, by_hand.recipe)
    assert Plan.from_json(made.to_json()) == made


def test_words_are_no_numbers():
    """A recurrent model of words gives as many logits as it is given words, and is none with a dense output."""
    model = Net(
        lambda s, x: s.head(s.lstm(s.table(x.clamp(max=3)))[0][:, -1]),
        table=nn.Embedding(4, 8), lstm=nn.LSTM(8, 16, batch_first=True), head=nn.Linear(16, 4),
    )  # fmt: skip
    assert plan(model, torch.zeros(2, 4, dtype=torch.long), preset="train").preset == "train (gated recurrence)"


def test_numbers_that_a_weight_turns_into_words_stay_numbers():
    """As in a VQ-VAE: as many numbers come out as were given, though rows of a table are taken on the way."""
    model = Net(
        lambda s, x: s.decoder(s.table(s.encoder(x).argmax(-1))),
        encoder=nn.Linear(8, 4), table=nn.Embedding(4, 16), decoder=mlp(16, 16, 8),
    )  # fmt: skip
    assert plan(model, ROW, preset="train").preset == "train (dense output)"


@pytest.mark.parametrize(("width", "distribution"), [(2048, "orthogonal"), (2049, "normal")])
def test_large_weights_stay_normal(width: int, distribution: str):
    """2048 x 2048 are 2^22 elements."""
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(8, 2048), nn.LayerNorm(2048), nn.ReLU(), nn.Linear(2048, width), nn.ReLU(),
                              nn.Linear(width, 4))  # fmt: skip
    made = plan(model, ROW, preset="train")
    assert (made.preset, made["3"].distribution) == ("train (norms)", distribution)
    assert ("distribution='orthogonal'" in made.notes[-1]) == (width == 2048)


def test_what_is_given_is_left_as_given():
    model = drawing(norm=False)
    kept = plan(model, ROW, preset="train", heads="zero")
    assert (kept.method, kept.heads, kept.preset) == ("mirrored", "zero", "train (draw)")
    assert "method='mirrored';" in kept.notes[-1]  # and no word of the heads that it did not choose
    other = plan(model, ROW, preset="train", method="nonlinearity", distribution="uniform", skip="enc.0")
    assert (other.method, other.heads, other["enc.0"].status) == ("nonlinearity", "small", "skipped")
    assert other["dec.0"].distribution == "uniform"


def test_of_a_row_only_that_is_taken_for_which_the_given_method_has_a_use():
    """`mirrored` refuses residual=; of the row's method, residual and heads the heads are left."""
    made = plan(mlp(8, 16, 8), ROW, preset="train", method="mirrored")
    assert (made.preset, made.method, made.heads) == ("train (dense output)", "mirrored", "small")
    make, words, _ = CASES["words"]
    made = plan(make(), words, preset="train", method="signal")
    assert (made.preset, made.method, made.recipe) == ("train (language model)", "signal", "")
    assert "no more than what is given" not in made.notes[-1]


def test_contradictions_are_refused_by_name():
    make, words, _ = CASES["words"]
    with pytest.raises(
        ArgumentError, match=r"preset='train' has no meaning for method='recipe': the recipe says how all"
    ):
        plan(make(), words, preset="train", recipe="gpt2")
    chose = r"\(language model\) preset='train' chose recipe='small_init': leave that option out, or name a method"
    with pytest.raises(ArgumentError, match=rf"heads='zero' has no meaning for method='recipe'.*{chose}"):
        plan(make(), words, preset="train", heads="zero")
    with pytest.raises(ArgumentError, match=r"preset='best': expected one of 'none', 'train'"):
        plan(make(), words, preset="best")  # type: ignore[arg-type]


def test_a_model_is_written_as_the_preset_plans_it():
    """The seed of the plan, where a method draws with it, is that of the values."""
    model = mlp(8, 64, 64, 4)
    done = autoinit(model, ROW, preset="train", verbose=False)
    assert done.plan.preset == "train (others without norms)"
    assert done.seed is not None
    again = plan(model, ROW, preset="train", seed=done.seed)
    assert replace(done.plan, seconds=0) == replace(again, seconds=0)
    first = model[0].weight.detach()
    assert torch.equal(first[:32], -first[32:])  # pairs of opposite sign: mirrored


def test_a_report_tells_the_row():
    done = report(mlp(8, 16, 8), ROW, preset="train")
    for text in (str(done), done.to_markdown()):
        assert "preset train (dense output)" in " ".join(text.replace("\\", "").split())
    assert json.loads(done.to_json())["preset"] == "train (dense output)"
    assert "preset" not in json.loads(report(mlp(8, 16, 4), ROW).to_json())


def test_commands_take_it(tmp_path: Path):
    torch.save(mlp(8, 16, 4), tmp_path / "net.pt")
    for command in (["report"], ["signal"], ["apply", "-o", str(tmp_path / "new.pt")]):
        words = [command[0], str(tmp_path / "net.pt"), "--preset", "train", "--input-shape", "4,8", *command[1:]]
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, done.output
        assert "it has no norms" in done.output
    told = CliRunner().invoke(main, ["explain", "train"])
    assert told.exit_code == 0
    for row in ROWS:
        assert all(part in told.output for part in (row.shows, row.reason, *map(str, row.figures)))


@pytest.mark.parametrize("case", CASES)
def test_a_plain_report_names_the_preset_where_it_is_known_to_help(case: str):
    make, inputs, name = CASES[case]
    row = next(each for each in ROWS if each.name == name)
    notes = plan(make(), inputs).notes
    told = [each for each in notes if "preset='train'" in each]
    assert len(told) == row.advises
    if told:
        options = ", ".join(f"{key}={value.format(frequency=30)!r}" for key, value in row.options.items())
        assert told[0] == f"{row.shows}: preset='train' ({options}) trains better there ({row.figures[0]})"


@pytest.mark.parametrize(
    "chosen", [{"heads": "small"}, {"method": "signal"}, {"residual": "depth"}, {"preset": "train"}]
)
def test_who_has_chosen_is_not_advised(chosen: Any):
    assert not [each for each in plan(mlp(8, 16, 8), ROW, **chosen).notes if "trains better" in each]


def test_a_part_of_a_model_is_not_advised():
    """A residual block: nothing is known of the loss behind it."""
    block = Net(lambda s, x: x + s.b(F.relu(s.a(x))), a=nn.Conv2d(3, 3, 3, padding=1), b=nn.Conv2d(3, 3, 3, padding=1))
    assert plan(block, IMAGE).notes == ()


def test_rows_are_complete():
    """Each has a reason with a source, options that there are, and figures that say that it trains better."""
    names = [each.name for each in ROWS]
    assert len(set(names)) == len(names)
    for row in ROWS:
        assert any(year in row.reason for year in map(str, range(1990, 2027))), row.name
        assert row.options.get("method", "nonlinearity") in METHODS
        assert all(each.chosen < each.plain for each in row.figures)
        assert row.figures or not row.advises
