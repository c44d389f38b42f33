"""Over whole model libraries, no parameter is lost: what a plan lists and what its report counts add up to the model.

Every number on the model's side is counted from the model itself. The slices are cut by name; `benchmarks/coverage.py`
goes through all.
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable, Collection
from unittest import mock

import pytest
import timm
import torch
import torchvision
from torch import nn

from autoinit import Plan, autoinit, plan
from autoinit.plans.plan import Report

EVERY_TORCHVISION, EVERY_TIMM = 2, 90


def of_torchvision() -> list[str]:
    models = torchvision.models
    kinds = (models, models.segmentation, models.video)
    return [name for kind in kinds for name in sorted(models.list_models(module=kind))][::EVERY_TORCHVISION]


def of_timm() -> list[str]:
    return sorted(timm.list_models())[::EVERY_TIMM]


def torchvision_model(name: str) -> nn.Module:
    taken = inspect.signature(torchvision.models.get_model_builder(name)).parameters
    options = {option: None for option in ("weights", "weights_backbone") if option in taken}
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    return torchvision.models.get_model(name, **options)


def on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    """The model without memory. Where the constructor reads numbers out of tensors, made on the CPU, never filled."""
    try:
        with torch.device("meta"):
            return make()
    except NotImplementedError:
        with mock.patch.object(torch.Tensor, "normal_", lambda tensor, *_, **__: tensor):
            return make().to("meta")


def assert_accounted_for(model: nn.Module, made: Plan) -> None:
    """Each parameter is exactly once in the plan, in its own shape; their sizes add up to the model's."""
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    biases = {bias for layer in made.layers if layer.status == "planned" for bias in layer.biases}
    listed = [*(layer.param for layer in made.layers), *biases, *(other.name for other in made.others)]
    times = Counter(listed)
    wrong = {name: times[name] for name in {*shapes, *times} if times[name] != 1 or name not in shapes}
    assert not wrong, f"not exactly once: {wrong}"
    held = {each.param: each.shape for each in made.layers} | {each.name: each.shape for each in made.others}
    assert held == {name: shapes[name] for name in held}
    assert made.parameters == sum(parameter.numel() for parameter in model.parameters())
    silent = [each.name for each in made.layers if each.status != "planned" and not each.note]
    silent += [each.name for each in made.others if not each.kind or (each.kind == "uncalled" and not each.note)]
    assert not silent, f"left alone without a reason: {silent}"


def assert_report_adds_up(model: nn.Module, made: Plan) -> None:
    """Layers by status, parameters left and biases that become zero are all the parameters that the model has."""
    text = str(Report(made, {}))
    counts = [int(count) for count in re.findall(r"(?:planned|kept|skipped|unresolved) (\d+)", text.splitlines()[-1])]
    assert len(counts) == 4
    told = re.search(r"^Left as they are: (\d+) parameters? \((.*?)\)\.$", text, re.M | re.S)
    left, kinds = told.groups() if told else ("0", "")
    assert sum(int(count) for count in re.findall(r"\d+", kinds)) == int(left)
    zeroed = len({bias for layer in made.layers if layer.status == "planned" for bias in layer.biases})
    assert sum(counts) + int(left) + zeroed == len(list(model.parameters()))


def assert_nothing_open(model: nn.Module, made: Plan, tables: Collection[str] = ()) -> None:
    """Every operation is known, every layer resolved; what is no layer has a name that says what else it is.

    tables: last parts of the names that parameters of two or more dimensions may have that are not weights.
    """
    assert made.unsupported == ()
    assert [layer.name for layer in made.layers if layer.status == "unresolved"] == []
    large = {name for name, parameter in model.named_parameters() if parameter.dim() > 1}
    others = [each for each in made.others if each.name in large]
    strange = [each for each in others if each.kind != "embedding" and each.name.rpartition(".")[2] not in tables]
    assert not strange
    written = {layer.param for layer in made.layers if layer.status == "planned"}
    assert large == written | {each.name for each in others}


POSITIONS = ("pos_embedding", "relative_position_bias_table", "rel_pos_h", "rel_pos_w", "rel_pos_t")
TORCHVISION_TABLES = (*POSITIONS, "class_token", "layer_scale", "logit_scale", "spatial_pos", "temporal_pos")


@pytest.mark.parametrize("name", of_torchvision())
def test_torchvision(name: str):
    model = on_meta(lambda: torchvision_model(name))
    made = plan(model)
    assert_accounted_for(model, made)
    assert_report_adds_up(model, made)
    assert_nothing_open(model, made, TORCHVISION_TABLES)


TIMM_TABLES = ("pos_embed", "cls_token", "dist_token", "relative_position_bias_table", "temperature")


@pytest.mark.parametrize("name", of_timm())
def test_timm(name: str):
    model = on_meta(lambda: timm.create_model(name, pretrained=False))
    made = plan(model)
    assert_accounted_for(model, made)
    assert_report_adds_up(model, made)
    assert_nothing_open(model, made, TIMM_TABLES)


TRANSFORMERS = {
    "albert": {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "embedding_size": 16},
    "bert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 2},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2},
    "gpt_neox": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "llama": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "mixtral": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2},
    "opt": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 64},
    "segformer": {},
    "t5": {"d_model": 32, "d_kv": 16, "num_layers": 2, "num_heads": 2, "d_ff": 64},
    "vit": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
}
"""Model types and what makes them small."""

TRANSFORMERS_TABLES = ("cls_token", "position_embeddings")


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_transformers(kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(kind, **TRANSFORMERS[kind])
    model = on_meta(lambda: transformers.AutoModel.from_config(config))
    made = plan(model)
    assert_accounted_for(model, made)
    assert_report_adds_up(model, made)
    assert_nothing_open(model, made, TRANSFORMERS_TABLES)


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_report_counts_what_was_written(name: str):
    model = torchvision_model(name)
    report = autoinit(model, seed=0, verbose=False)
    # In these three, all that has two or more dimensions is a weight.
    assert report.weights_written == sum(each.numel() for each in model.parameters() if each.dim() > 1)


@pytest.mark.parametrize("frozen", ["features.0", "classifier"])
def test_what_is_left_alone_adds_up_as_well(frozen: str):
    model = torchvision_model("squeezenet1_1")
    model.get_submodule(frozen).requires_grad_(False)
    with torch.no_grad():
        model.features[3].squeeze.weight.zero_()
    made = plan(model, skip="features.12.*")
    assert_accounted_for(model, made)
    assert_report_adds_up(model, made)
    convs = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    # One is frozen, one is zero, and of the last fire module three are skipped.
    assert Counter(layer.status for layer in made.layers) == {"skipped": 4, "kept": 1, "planned": len(convs) - 5}
