"""Modules in a file hold what torch.nn's classes declare; what else a pickle puts there is told in a line."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from autoinit.cli import main
from autoinit.errors import LoadError
from autoinit.loading import load


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def model() -> nn.Sequential:
    return nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(4, 2))


def put(place: int | None, **held: object) -> Callable[[nn.Sequential], object]:
    """Attributes of a layer, or of the model itself."""
    return lambda made: (made if place is None else made[place]).__dict__.update(held)


def add(**named: object) -> Callable[[nn.Sequential], object]:
    """Modules by name."""
    return lambda made: made._modules.update({name.replace("_DOT_", "."): each for name, each in named.items()})


def enter(kind: str, **held: object) -> Callable[[nn.Sequential], object]:
    """Entries of a dictionary of the last layer."""
    return lambda made: getattr(made[4], kind).update(held)


ODD: dict[str, tuple[Callable[[nn.Sequential], object], str]] = {
    "a text for a number": (put(0, in_channels="3"), r"0 \(Conv1d\) holds in_channels = '3', expected int"),
    "nothing for a number": (put(2, negative_slope=None), "negative_slope = None, expected float"),
    "a number for sizes": (put(0, stride=2), r"stride = 2, expected tuple\[int, \.\.\.\]"),
    "sizes of texts": (put(0, dilation=("1",)), "dilation = a tuple, expected tuple"),
    "another mode": (put(0, padding_mode="x\n::error::"), r"padding_mode = 'x\\n::error::', expected"),
    "no switch": (put(None, training=0), r"the model \(Sequential\) holds training = 0, expected bool"),
    "no dictionary": (put(None, _modules=[1]), r"the model \(Sequential\) has no dictionary _modules"),
    "a tensor for a module": (add(five=torch.zeros(2)), r"holds _modules\['five'\] = a Tensor, expected Module"),
    "a text for a parameter": (enter("_parameters", weight="x"), r"_parameters\['weight'\] = 'x', expected Parameter"),
    "a tensor for a parameter": (enter("_parameters", weight=torch.zeros(2)), "= a Tensor, expected Parameter"),
    "a number for a buffer": (enter("_buffers", running_mean=3), r"\(Linear\) holds _buffers\['running_mean'\] = 3"),
    "no hook": (lambda m: m[4]._forward_hooks.update({1: "x"}), r"_forward_hooks\[1\] = 'x', expected"),
    "a name with dots": (add(a_DOT_b=nn.ReLU()), r"something named 'a\.b', expected a name of whole"),
    "a name of nothing": (lambda m: m._modules.update({"": nn.ReLU()}), "something named '', expected a name of whole"),
    "half a character": (lambda m: m._modules.update({"\ud800": nn.ReLU()}), r"something named '\\ud800', expected"),
    "itself": (lambda m: m._modules.update({"5": m}), "5 holds the module that it is in; a model is a tree"),
    "what holds it": (lambda m: m[0]._modules.update({"up": m}), r"0\.up holds the module that it is in"),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_states_are_one_line_that_names_what_is_there(here, kind):
    change, said = ODD[kind]
    made = model()
    change(made)
    torch.save(made, "odd.pt")
    with pytest.raises(LoadError, match=rf"^odd\.pt: [^\n]*({said})[^\n]*$"):
        load("odd.pt")


def test_states_that_constructors_leave_are_none(here):
    """Of every layer of torch.nn that has few arguments; and what users put beside."""
    made = nn.Sequential(
        nn.Conv2d(2, 2, 3, padding="same", padding_mode="circular"),
        nn.MaxPool2d([2, 2]),
        nn.Dropout(0),
        nn.LayerNorm(4),
        nn.LayerNorm([4]),
        nn.Softmax(),
        nn.Upsample(scale_factor=2),
        nn.Upsample(scale_factor=(2, 2.0)),
        nn.BatchNorm2d(4, momentum=None, affine=False),
        nn.GroupNorm(2, 4),
        nn.LSTM(2, 2, bidirectional=True),
        nn.MultiheadAttention(4, 2, kdim=3, vdim=3),
        nn.Embedding(3, 4, padding_idx=0),
        nn.TransformerEncoderLayer(4, 2, 8, activation=nn.functional.gelu),
        nn.ParameterList([nn.Parameter(torch.zeros(2))]),
        nn.ModuleDict({"a": nn.PReLU()}),
        nn.utils.spectral_norm(nn.Linear(2, 2)),
    )
    made.extra = OrderedDict(a=1)
    made[0].register_forward_hook(nn.functional.relu)
    torch.save(made, "model.pt")
    assert len(load("model.pt").model) == 17


def test_what_goes_wrong_beyond_that_is_said_of_the_file(here, monkeypatch):
    torch.save(model(), "model.pt")

    def fail(*args, **kwargs):
        raise KeyError("weight")

    monkeypatch.setattr("autoinit.api.report", fail)
    result = CliRunner().invoke(main, ["report", "model.pt"])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: model.pt holds a model that cannot be analysed: KeyError: 'weight'; ")
    assert result.stderr.count("\n") == 1
