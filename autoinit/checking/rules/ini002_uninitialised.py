"""INI002: uninitialised memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from autoinit.checking._subject import Subject
from autoinit.checking._wording import number
from autoinit.checking.findings import Finding, Severity
from autoinit.checking.rules._lookup import ALLOCATING, all_stats, anew, owner, pasted, written_by
from autoinit.checking.rules.registry import About, rule
from autoinit.tensors.measuring import WeightStats
from autoinit.tensors.unwritten import HUGE, LARGE, SPREAD, TINY


@rule("INI002", "uninitialised memory", Severity.ERROR, About.VALUES, undrawn=True, echoes=True, alone=Severity.ERROR)
def look(subject: Subject) -> Iterator[Finding]:
    """A parameter holds what its memory held before: it was allocated and never written.

    ## What it is

    Either the record says so (the last thing that touched the parameter was `to_empty` or `torch.empty`), or the
    values do: finite, but above 1e6; or above 100 and 10,000 times the median magnitude; or all of them below 1e-30
    without being zero, as integers and pointers look when read as floats. A record is proof whatever the values: fresh
    pages of memory are zero and look harmless.

    ## Why it matters

    The values may be other ones on the next run, in another process or on another machine. A test that passes today
    says nothing; ranks of one job can start from different models; the first overflow makes the loss NaN.

    ## Example

        with torch.device("meta"):
            model = Model()
        model.to_empty(device="cuda")               # allocated, never written
        scale = nn.Parameter(torch.empty(512))      # neither

    ## What to do

        model.to_empty(device="cuda")
        autoinit(model)                             # and write norms, embeddings and tables, or load a state_dict
        scale = nn.Parameter(torch.ones(512))

    ## References

    - [torch.empty](https://pytorch.org/docs/stable/generated/torch.empty.html): "filled with uninitialized data"
    - huggingface/transformers#35437, sgl-project/sglang#26772, Lightning-AI/pytorch-lightning#17627
    """
    for param, stats in all_stats(subject):
        if stats.nonfinite or subject.parameters[param].is_meta:
            continue
        function = written_by(subject, param)
        if function in ALLOCATING:
            yield _finding(subject, param, f"was allocated by {function} and never written", stats)
        elif (why := extreme(stats)) is not None or (why := _scattered(subject, param, stats)) is not None:
            yield _finding(subject, param, f"looks like uninitialised memory: {why}", stats)


def extreme(stats: WeightStats) -> str | None:
    """What about the finite values betrays memory; None if nothing does."""
    peak = max(abs(stats.minimum), abs(stats.maximum))
    if peak > HUGE and stats.minimum != stats.maximum:
        return f"magnitudes up to {number(peak)}, beyond any initialisation"
    if 0 < peak < TINY:
        return f"no magnitude above {number(peak)}, and yet not all zero"
    return None


def _scattered(subject: Subject, param: str, stats: WeightStats) -> str | None:
    """A few large values among ones of quite another order of magnitude."""
    peak = max(abs(stats.minimum), abs(stats.maximum))
    if not peak > LARGE or stats.minimum == stats.maximum:
        return None
    values = subject.parameters[param].detach().abs().to("cpu", torch.float64)
    median = float(values.median())
    if peak <= SPREAD * median:
        return None
    return f"magnitudes up to {number(peak)} where the median is {number(median)}"


def _finding(subject: Subject, param: str, why: str, stats: WeightStats) -> Finding:
    layer, fix = owner(subject, param), anew(subject, param)
    return Finding(
        code="INI002",
        severity=Severity.ERROR,
        layer=layer,
        param=param,
        message=(
            f"{layer}: {param} {why} (std {number(stats.std)}); expected values that something wrote. They may differ "
            f"from run to run and from rank to rank. Write it after it is allocated: {pasted(fix)}"
        ),
        actual_std=stats.std,
        recipe="uninitialised memory",
        fix=fix,
        location=subject.location(param),
    )
