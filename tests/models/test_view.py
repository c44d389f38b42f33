"""A model is seen without its wrappers: names, classes and plans are those of the bare model."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed._composable.replicate import replicate
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

from autoinit import plan
from autoinit.errors import PlanError
from autoinit.models import ModelView, WeightStorage, user_name

NAMES = ["0.weight", "0.bias", "2.weight", "2.bias"]


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


@pytest.fixture
def group() -> Iterator[None]:
    """A process group of one."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def checkpointed() -> nn.Module:
    model = net()
    model[0] = checkpoint_wrapper(model[0])
    return checkpoint_wrapper(model)


def nested() -> nn.Module:
    model = net()
    model[2] = torch.compile(checkpoint_wrapper(model[2]), backend="eager")
    return nn.DataParallel(model)


@pytest.mark.parametrize("wrapped", [net, checkpointed, nested, lambda: torch.compile(net(), backend="eager")])
def test_names_are_those_of_the_bare_model(wrapped: Callable[[], nn.Module]) -> None:
    model = wrapped()
    view = ModelView.of(model)
    assert list(view.parameters) == NAMES
    assert view.class_name == "Sequential"
    assert view.submodule("2").weight is view.parameters["2.weight"]
    made = plan(model)
    assert list(made) == ["0", "2"]
    assert [made[name].nonlinearity for name in made] == ["relu", "linear"]


@pytest.mark.usefixtures("group")
def test_classes_that_sharding_puts_before_the_users_are_seen_through() -> None:
    sharded = net()
    fully_shard(sharded, mesh=init_device_mesh("cpu", (1,)))
    assert type(sharded).__name__ == "FSDPSequential"
    assert ModelView.of(sharded).class_name == "Sequential"
    copied = replicate(net())
    assert ModelView.of(copied).class_name == "Sequential"
    assert list(ModelView.of(copied).parameters) == NAMES


@pytest.mark.usefixtures("group")
def test_distributed_data_parallel_is_seen_through() -> None:
    view = ModelView.of(nn.parallel.DistributedDataParallel(net()))
    assert list(view.parameters) == NAMES


def test_a_class_that_a_parametrization_made_is_called_by_the_users_name() -> None:
    model = parametrizations.weight_norm(nn.Linear(4, 3))
    assert type(model).__name__ == "ParametrizedLinear"
    assert ModelView.of(model).class_name == "Linear"


def test_segments_that_only_wrappers_have_go_without_a_model() -> None:
    assert user_name("body._orig_mod._checkpoint_wrapped_module.weight") == "body.weight"
    assert user_name("module.weight") == "module.weight"
    assert user_name("module.weight", nn.DataParallel(nn.Linear(2, 2))) == "weight"


class Tied(nn.Module):
    """One weight under two names, one buffer under two."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
        self.two.weight = self.one.weight
        self.norm = self.again = nn.BatchNorm1d(4, affine=False)


def test_tied_tensors_are_listed_once_and_found_under_each_name() -> None:
    view = ModelView.of(Tied())
    assert list(view.parameters) == ["one.weight", "one.bias"]
    assert view.first_names == {"one.weight": "one.weight", "one.bias": "one.bias", "two.weight": "one.weight"}
    assert list(view.buffers) == ["norm.running_mean", "norm.running_var", "norm.num_batches_tracked"]
    assert view.tensors["again.running_var"] is view.buffers["norm.running_var"]
    assert view.tensors["two.weight"] is view.parameters["one.weight"]
    assert view.storage("two.weight") == WeightStorage("one.weight", "plain", "one.weight")


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Linear(3, 4)
        self.body = nn.DataParallel(torch.compile(nn.Linear(3, 4), backend="eager"))
        self.again = self.module


def test_names_are_the_users() -> None:
    model = Nested()
    expected = ["module.weight", "module.bias", "body.weight", "body.bias"]
    assert list(ModelView.of(model).parameters) == expected
    assert [user_name(name, model) for name, _ in model.named_parameters()] == expected
    assert user_name("body._orig_mod.weight") == "body.weight"
    assert ModelView.of(model).first_names["again.weight"] == "module.weight"
    assert ModelView.of(model).storage("body.weight").kind == "plain"


@pytest.mark.parametrize(
    ("wrap", "kind", "param", "others"),
    [
        (weight_norm, "weight_norm", "0.weight_v", ("0.weight_g",)),
        (
            parametrizations.weight_norm,
            "weight_norm",
            "0.parametrizations.weight.original1",
            ("0.parametrizations.weight.original0",),
        ),
        (spectral_norm, "spectral_norm", "0.weight_orig", ()),
        (parametrizations.spectral_norm, "spectral_norm", "0.parametrizations.weight.original", ()),
        (parametrizations.orthogonal, "parametrized", "0.parametrizations.weight.original", ()),
    ],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
def test_how_a_weight_is_stored(
    wrap: Callable[[nn.Module], nn.Module], kind: str, param: str, others: tuple[str, ...]
) -> None:
    model = nn.Sequential(wrap(nn.Linear(4, 4)))
    stored = ModelView.of(model).storage("0.weight")
    assert (stored.weight, stored.kind, stored.written) == ("0.weight", kind, (param, *others))
    for name in stored.written:
        assert ModelView.of(model).storage(name) == stored
    assert ModelView.of(model).storage("0.bias").kind == "plain"


def test_a_view_shows_what_is_written_in_place() -> None:
    model = net()
    view = ModelView.of(model)
    assert view.parameters["0.weight"].any()
    nn.init.zeros_(model[0].weight)
    assert not view.parameters["0.weight"].any()


def test_what_the_model_does_not_have_is_named() -> None:
    view = ModelView.of(net())
    with pytest.raises(PlanError, match=r"7: Sequential has no such module"):
        view.submodule("7")
    with pytest.raises(PlanError, match=r"2\.scale: Linear has no parameter 'scale'"):
        view.storage("2.scale")


def test_an_exported_program_is_seen_by_its_names() -> None:
    torch.manual_seed(0)
    program = torch.export.export(net(), (torch.zeros(1, 4),))
    view = ModelView.of(program)
    assert list(view.parameters) == NAMES
    assert not view.has_modules
    assert view.storage("2.weight") == WeightStorage("2.weight", "plain", "2.weight")
    with pytest.raises(PlanError, match=r"2\.scale: ExportedProgram has no parameter 'scale'"):
        view.storage("2.scale")
    with pytest.raises(PlanError, match=r"0: ExportedProgram has no such module"):
        view.submodule("0")
