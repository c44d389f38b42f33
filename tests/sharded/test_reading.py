"""A plan of a model that is parted among processes is that of the bare model, whichever process makes it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from autoinit import ArgumentError, Plan, TraceError, check, plan, report, trace
from autoinit.signal import measure, propagate
from tests.sharded.layouts import LAYOUTS, Transformer, compiled, fsdp
from tests.sharded.processes import stand_in_process

TOKENS = torch.zeros(2, 7, dtype=torch.long)


@pytest.fixture
def last() -> Iterator[None]:
    """Being the last of four: the one with the short and the empty shards."""
    with stand_in_process(3, 4):
        yield


def told(made: Plan) -> object:
    """A plan without how it was come by: the tier's notes and the time that it took."""
    document = json.loads(made.to_json())
    return {name: each for name, each in document.items() if name not in ("notes", "seconds")}


def on_meta() -> Transformer:
    with torch.device("meta"):
        return Transformer()


def state(model: nn.Module) -> list[object]:
    """What reading might change: objects, classes, hooks, modes and numbers."""
    modules = [
        (
            name,
            type(each),
            each.training,
            *(len(getattr(each, hooks)) for hooks in ("_forward_hooks", "_forward_pre_hooks")),
        )
        for name, each in model.named_modules()
    ]
    tensors = [(name, id(each), each._version, each.requires_grad) for name, each in model.named_parameters()]
    held = [
        each.detach().to_local().clone()
        for each in model.parameters()
        if hasattr(each, "to_local") and not each.is_meta
    ]
    return [modules, tensors, [each.numpy().tobytes() for each in held], torch.get_rng_state().numpy().tobytes()]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_plan_is_the_bare_models(layout: str, last: None) -> None:
    names = dict(Transformer().named_parameters())
    bare = {options: told(plan(Transformer(), **dict(options))) for options in ((), (("residual", "depth"),))}
    with_inputs, by_signal = told(plan(Transformer(), TOKENS)), told(plan(on_meta(), method="signal"))
    for model in (LAYOUTS[layout](Transformer()), LAYOUTS[layout](on_meta())):
        before = state(model)
        for options, expected in bare.items():
            assert told(plan(model, **dict(options))) == expected
        assert told(plan(model, TOKENS)) == with_inputs
        assert told(plan(model, method="signal")) == by_signal
        assert {use.name for op in trace(model).graph.nodes for use in op.params} == {*names}
        assert state(model) == before


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_model_without_values_is_reported_checked_and_predicted(layout: str, last: None) -> None:
    model, bare = LAYOUTS[layout](on_meta()), on_meta()
    assert told(report(model).plan) == told(report(bare).plan)
    assert [each.code for each in check(model).findings] == [each.code for each in check(bare).findings]
    ours, theirs = propagate(model), propagate(bare)
    assert {name: row.q for name, row in ours.items()} == {name: row.q for name, row in theirs.items()}


def test_a_compiled_module_is_read_as_written() -> None:
    assert told(plan(compiled(Transformer()))) == told(plan(Transformer()))


def test_a_weight_whose_piece_is_zero_is_kept_as_a_whole_one_is(last: None) -> None:
    model = Transformer()
    nn.init.zeros_(model.blocks[0].down.weight)
    assert plan(model)["blocks.0.down"].status == "kept"
    assert plan(fsdp(model))["blocks.0.down"].status == "kept"


def test_parametrised_weights_are_planned_alike(last: None) -> None:
    def model() -> nn.Module:
        return nn.Sequential(parametrizations.weight_norm(nn.Linear(8, 12)), nn.ReLU(), nn.Linear(12, 4))

    expected = told(plan(model()))
    assert told(plan(fsdp(model()))) == expected


def test_a_hook_of_the_users_is_told_and_the_engines_are_not(last: None) -> None:
    model = Transformer()
    model.norm.register_forward_hook(lambda *_: None)
    notes = [note for note in plan(fsdp(model)).notes if "hook" in note]
    assert notes == ["1 user hook not run while tracing"]


def test_what_must_run_the_model_says_that_it_cannot(last: None) -> None:
    model = fsdp(Transformer())
    for run in (lambda: plan(model, TOKENS, method="data"), lambda: measure(model, TOKENS)):
        with pytest.raises(
            ArgumentError, match=r"is sharded \(embedding.weight is a DTensor\).*not work on sharded.*before"
        ):
            run()


def test_a_model_that_cannot_be_traced_names_the_users_line(last: None) -> None:
    class Stuck(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no way through here")

    with pytest.raises(TraceError, match="no way through here"):
        plan(fsdp(Stuck()))


@pytest.mark.parametrize("rank", range(4))
def test_every_process_makes_the_same_plan(rank: int) -> None:
    expected = told(plan(Transformer()))
    with stand_in_process(rank, 4):
        assert told(plan(LAYOUTS["both"](Transformer()))) == expected
