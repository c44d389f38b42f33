"""The benchmark that looks for elements far beyond all others."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def outliers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("_outliers")


def strayed() -> nn.Module:
    """Two elements of 4,096 at 2 where the others have std 0.02: 100 sigma."""
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
    nn.init.normal_(model[0].weight, std=0.02)
    with torch.no_grad():
        model[0].weight[3, 5] = model[0].weight[7, 1] = -2.0
    return model


def test_elements_are_counted_and_shown(outliers: ModuleType, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(outliers, "_smallest", lambda _family: (4680, "strayed"))
    monkeypatch.setattr(outliers, "shipped", lambda _library, _name: strayed())
    record = outliers.look("timm", "family", limit=60, most=10_000)
    (found,) = record["found"]
    assert (found["param"], found["count"], found["peak"]) == ("0.weight", 2, 2.0)
    assert found["sigmas"] == pytest.approx(100, rel=0.05)
    assert record["command"] == "python benchmarks/audit.py --outliers --models family"
    assert outliers.look("timm", "family", limit=60, most=4000)["state"] == "too large"
    counted, shown = outliers.tables([record])
    assert [list(column.cells) for column in counted.columns] == [["1"], ["1"], ["1"], ["0"], ["0"]]
    assert [list(column.cells) for column in shown.columns][:4] == [["timm:strayed"], ["2"], ["1"], ["2"]]


def test_the_smallest_model_of_a_family(outliers: ModuleType):
    """ConvMixer's have 21.1, 24.4 and 51.6 million parameters (Trockman & Kolter 2022, table 1)."""
    size, name = outliers._smallest("convmixer")
    assert (round(size / 1e6, 1), name) == (21.1, "convmixer_768_32")
