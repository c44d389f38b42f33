"""What each of several processes does to one model, and tells the test of it."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.placement_types import _StridedShard
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from autoinit import AutoinitError, Plan, Report, plan
from autoinit.tensors.placing import box_of
from autoinit.tensors.sharding import local_piece
from autoinit.writing import _preflight
from tests.sharded.layouts import LAYOUTS, OLD, Layout, Transformer, fsdp, line

Build = Callable[[], nn.Module]


class Tied(Transformer):
    """The head is the embedding's table."""

    def __init__(self) -> None:
        super().__init__()
        self.head.weight = self.embedding.weight


class Experts(nn.Module):
    """Stacked weights, one matrix for each of five experts."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.randn(5, 6, 14))
        self.down = nn.Parameter(torch.randn(5, 14, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.bmm(F.silu(torch.bmm(x, self.up)), self.down)


def convolutional() -> nn.Module:
    """Odd numbers of channels, groups, a transposed convolution, batch norms."""
    return nn.Sequential(
        nn.Conv2d(3, 10, 3), nn.BatchNorm2d(10), nn.ReLU(), nn.Conv2d(10, 15, 3, groups=5), nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(15, 7, 2, stride=2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(9),
    )  # fmt: skip


def settled_convolutional() -> nn.Module:
    model = convolutional()
    model(torch.zeros(2, 3, 9, 9))
    model[1].reset_running_stats()
    return model


def placed(placements: Callable[[str, torch.Tensor], list[Any]], mesh: Callable[[], Any] = line) -> Layout:
    """A layout that places each parameter as told."""

    def lay(model: nn.Module) -> nn.Module:
        for name, each in list(model.named_parameters()):
            owner = model.get_submodule(name.rpartition(".")[0])
            made = distribute_tensor(each.detach(), mesh(), placements(name, each))
            setattr(owner, name.rpartition(".")[2], nn.Parameter(made))
        return model

    return lay


def packed(name: str, each: torch.Tensor) -> list[Any]:
    """q, k and v parted each, everything else copied."""
    return [_StridedShard(0, split_factor=3)] if "qkv" in name else [Replicate()]


def of_experts(name: str, each: torch.Tensor) -> list[Any]:
    """By experts over the first axis of the mesh, by outputs over the second."""
    return [Shard(0), Shard(2)]


def two_rows() -> Any:
    return init_device_mesh("cpu", (2, dist.get_world_size() // 2))


ALL: Mapping[str, Layout] = {**LAYOUTS, "packed": placed(packed), "experts": placed(of_experts, two_rows)}


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor gathered by torch."""
    return tensor.detach().full_tensor() if isinstance(tensor, DTensor) else tensor.detach().clone()


def same(mine: torch.Tensor, right: torch.Tensor) -> bool:
    """Whether a tensor gathered by torch is the right one; its piece, where torch 2.9 would gather it wrong."""
    if OLD and isinstance(mine, DTensor) and any(isinstance(each, _StridedShard) for each in mine.placements):
        return held_right(mine, right)
    return torch.equal(whole(mine), right)


def told(report: Report) -> Mapping[str, Any]:
    """What a report tells of the weights."""
    return json.loads(report.to_json())["layers"]


def held_right(mine: torch.Tensor, right: torch.Tensor) -> bool:
    """Whether this process holds what it should of a tensor."""
    return torch.equal(local_piece(mine), box_of(mine).take(right))


@contextmanager
def collectives() -> Iterator[list[tuple[str, int]]]:
    """Every collective that is called, and the bytes that one process gives to it."""
    found: list[tuple[str, int]] = []

    class Listening(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func.namespace in ("c10d", "_c10d_functional"):
                tensors = [
                    each for each in torch.utils._pytree.tree_leaves(args[1:2]) if isinstance(each, torch.Tensor)
                ]
                found.append((func._opname, sum(each.nbytes for each in tensors)))
            return func(*args, **(kwargs or {}))

    with Listening():
        yield found


def written(
    build: Build, layout: str, rank: int, *, dtype: torch.dtype = torch.float32, **options: Any
) -> Mapping[str, Any]:
    """A model written by one process beside the same one parted among all."""
    torch.manual_seed(3)
    one = build().to(dtype)
    made = plan(one, **options)
    many = ALL[layout](copy.deepcopy(one))
    expected = told(made.apply(one, seed=11))
    with collectives() as called:
        report = made.apply(many, seed=11)
    names = {name.replace("_orig_mod.", "").replace("_checkpoint_wrapped_module.", ""): each
             for name, each in (*many.named_parameters(), *many.named_buffers())}  # fmt: skip
    right = {**dict(one.named_parameters()), **dict(one.named_buffers())}
    return {
        "unlike": [name for name, each in right.items() if not same(names[name], each)],
        "pieces": [name for name, each in right.items() if not held_right(names[name], each)],
        "missing": sorted(names.keys() ^ right.keys()),
        "biases": [name for name in made for bias in made[name].biases if whole(names[bias]).any()],
        "parted": sum(isinstance(each, DTensor) for each in names.values()),
        "collectives": called,
        "report": told(report),
        "expected": expected,
    }


def rubbish(piece: torch.Tensor) -> None:
    piece.fill_(float("nan") if piece.dim() > 1 else 1e30)
    piece.view(-1)[::2] = 1e-42


def other_weights(piece: torch.Tensor) -> None:
    """As of a model that was here before: clean numbers, but those of weights where gains should be."""
    piece.copy_(torch.linspace(-1.5, 1, piece.numel()).view(piece.shape))


def after_to_empty(layout: str, left: Callable[[torch.Tensor], None], rank: int) -> Mapping[str, Any]:
    """The flow from the meta device, over memory that holds what other tensors left there.

    Through `.data`, so that torch does not count it as written, as memory that is given out again.
    """
    with torch.device("meta"):
        model, bare = Transformer(), Transformer()
    made = plan(model)
    model = LAYOUTS[layout](model)
    model.to_empty(device="cpu")
    bare.to_empty(device="cpu")
    for each in (*model.parameters(), *bare.parameters()):
        left(local_piece(each).data)
    notes = made.apply(bare, seed=5, rest="reset").plan.notes
    many = made.apply(model, seed=5, rest="reset")
    right = dict(bare.named_parameters())
    return {
        "unlike": [name for name, each in model.named_parameters() if not same(each, right[name])],
        "norms": [name for name, each in right.items() if "norm" in name and (each != float("weight" in name)).any()],
        "table": float(right["embedding.weight"].std()),
        "notes": (notes, many.plan.notes),
    }


def one_seed(rank: int) -> Any:
    """Each process has another state of torch's generator; none gives a seed."""
    model, made = fsdp(Transformer()), plan(Transformer())
    torch.manual_seed(100 + rank)
    report = made.apply(model)
    torch.manual_seed(100)
    return report.seed, int(torch.randint(2**63 - 1, ())) if rank == 0 else None


def refused(change: Callable[[nn.Module, int], Plan], rank: int) -> Mapping[str, Any]:
    """What stands against writing in one process, or in all."""
    torch.manual_seed(3)
    model = fsdp(Transformer())
    made = change(model, rank)
    before = [local_piece(each).clone() for each in model.parameters()]
    try:
        made.apply(model, seed=1)
        error = None
    except AutoinitError as raised:
        error = raised
    after = [local_piece(each) for each in model.parameters()]
    return {
        "error": type(error).__name__,
        "text": str(error),
        "changed": [not torch.equal(b, a) for b, a in zip(before, after, strict=True)],
    }


def trained_in_one(model: nn.Module, rank: int) -> Plan:
    """Gains that differ, in the second process alone."""
    made = plan(model)
    if rank == 1:
        with torch.no_grad():
            local_piece(model.blocks[0].norm.weight).mul_(torch.linspace(0.5, 1.5, 6))
    return made


def another_plan_in_one(model: nn.Module, rank: int) -> Plan:
    return plan(model, residual="depth" if rank == 2 else "keep")


def another_shape(model: nn.Module, rank: int) -> Plan:
    """A plan of a model whose head is larger."""
    other = Transformer()
    other.head = nn.Linear(24, 102, bias=False)
    return plan(other)


def too_large_orthogonal(model: nn.Module, rank: int) -> Plan:
    made = plan(model, distribution="orthogonal")
    large = dataclasses.replace(made.layers[-1], shape=(_preflight.MOST_WHOLE // 24 + 1, 24))
    return dataclasses.replace(made, layers=(large,))


def silent(rank: int) -> Any:
    """With a seed and without a report nothing is said."""
    model = fsdp(Transformer())
    with collectives() as called:
        report = plan(Transformer()).apply(model, seed=1, report=False)
    return called, dict(report.before), dict(report.after or {})


def pipeline(rank: int) -> Any:
    """Two stages in two processes each."""
    torch.manual_seed(0)
    whole_model = Transformer()
    made = plan(whole_model)
    stage = copy.deepcopy(whole_model)
    mine = rank % 2
    del stage.blocks[1 - mine]
    if mine:
        stage.blocks = nn.ModuleDict({"1": stage.blocks[0]})
        del stage.embedding
    else:
        del stage.head, stage.norm
    expected = made.apply(whole_model, seed=2)
    report = made.apply(stage, seed=2, partial=True)
    right = dict(whole_model.named_parameters())
    unlike = [name for name, each in stage.named_parameters() if not torch.equal(each, right[name])]
    return unlike, told(report), told(expected)


def checked(rank: int) -> Any:
    """A check reads the whole weights."""
    from autoinit import check, report
    from autoinit.signal import propagate

    torch.manual_seed(0)
    one = Transformer()
    many = fsdp(copy.deepcopy(one))
    codes = [[(each.code, each.layer) for each in check(model).findings] for model in (one, many)]
    moments = [{name: row.q for name, row in propagate(model).items()} for model in (one, many)]
    return codes, moments, [told(report(model)) for model in (one, many)]


def checkpoint(folder: str, rank: int) -> Any:
    """Written by torch from one layout, read into another."""
    from torch.distributed import checkpoint as dcp

    made = plan(Transformer())
    first, second = fsdp(Transformer()), LAYOUTS["both"](Transformer())
    made.apply(first, seed=4)
    dcp.save(first.state_dict(), checkpoint_id=folder)
    state = second.state_dict()
    dcp.load(state, checkpoint_id=folder)
    second.load_state_dict(state)
    alone = Transformer()
    made.apply(alone, seed=4)
    right = dict(alone.named_parameters())
    planned = {layer.param for layer in made.layers}
    return [name for name, each in second.named_parameters() if name in planned and not held_right(each, right[name])]


def gathered_for_a_forward(rank: int) -> Any:
    """A model whose weights FSDP2 has gathered and not let go of."""
    torch.manual_seed(0)
    model = fsdp(Transformer(), reshard_after_forward=False)
    made = plan(Transformer())
    model(torch.zeros(1, 3, dtype=torch.long))
    made.apply(model, seed=6)
    alone = Transformer()
    made.apply(alone, seed=6)
    right = dict(alone.named_parameters())
    planned = {layer.param for layer in made.layers}
    return [name for name, each in model.named_parameters() if name in planned and not held_right(each, right[name])]


WRITTEN: Mapping[str, Callable[[int], Mapping[str, Any]]] = {
    **{each: functools.partial(written, Transformer, each) for each in LAYOUTS},
    "packed": functools.partial(written, Transformer, "packed"),
    "experts": functools.partial(written, Experts, "experts"),
    "tied": functools.partial(written, Tied, "fsdp"),
    "convolutional": functools.partial(written, settled_convolutional, "fsdp"),
    "bfloat16": functools.partial(written, Transformer, "fsdp", dtype=torch.bfloat16),
    "uniform": functools.partial(written, Transformer, "fsdp", distribution="uniform"),
    "truncated": functools.partial(written, Transformer, "tensor_parallel", distribution="truncated_normal"),
    "depth": functools.partial(written, Transformer, "hybrid", residual="depth"),
    "orthogonal": functools.partial(written, Transformer, "both", distribution="orthogonal"),
}
OTHERS: Mapping[str, Callable[[int], Any]] = {
    "emptied_fsdp": functools.partial(after_to_empty, "fsdp", rubbish),
    "emptied_both": functools.partial(after_to_empty, "both", rubbish),
    "emptied_again_fsdp": functools.partial(after_to_empty, "fsdp", other_weights),
    "emptied_again_both": functools.partial(after_to_empty, "both", other_weights),
    "one_seed": one_seed,
    "trained": functools.partial(refused, trained_in_one),
    "another_plan": functools.partial(refused, another_plan_in_one),
    "another_shape": functools.partial(refused, another_shape),
    "orthogonal_too_large": functools.partial(refused, too_large_orthogonal),
    "silent": silent,
    "pipeline": pipeline,
    "checked": checked,
    "gathered": gathered_for_a_forward,
}
