"""Models written by 1, 2 and 4 processes over gloo: the gathered weights are one process's, bit for bit.

One start of the processes runs all cases; each test reads what they told.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import pytest

from tests.sharded.cases import OTHERS, WRITTEN, checkpoint
from tests.sharded.processes import run_in_processes

Told = dict[str, list[Any]]
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """What four processes told of every case."""
    folder = tmp_path_factory.mktemp("four")
    cases = {**WRITTEN, **OTHERS, "checkpoint": functools.partial(checkpoint, str(folder / "checkpoint"))}
    return run_in_processes(cases, 4, folder)


@pytest.fixture(scope="module", params=[1, 2])
def fewer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """What one and two processes told of some."""
    some = {name: WRITTEN[name] for name in ("fsdp", "second_axis", "tensor_parallel", "packed")}
    return run_in_processes(some, request.param, tmp_path_factory.mktemp("fewer"))


def require_right(told: list[Any]) -> None:
    """Each process's account of a case of `WRITTEN`."""
    for each in told:
        assert isinstance(each, dict), each
        assert (each["unlike"], each["pieces"], each["missing"], each["biases"]) == ([], [], [], [])
        assert each["parted"] > 0
        assert [name for name, _ in each["collectives"]] == ["allgather_"] * (2 if len(told) > 1 else 0)
        assert all(size <= MEGABYTE for _, size in each["collectives"])
        assert each["report"] == told[0]["report"]
        require_close(each["report"], each["expected"])


def require_close(report: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """The statistics are those of whole weights: sums in another order, so not to the last digit."""
    assert [each["name"] for each in report] == [each["name"] for each in expected]
    for ours, theirs in zip(report, expected, strict=True):
        for moment in ("before", "after"):
            for field, value in theirs[moment].items():
                assert ours[moment][field] == pytest.approx(value, rel=1e-5, abs=1e-8), (ours["name"], moment, field)


@pytest.mark.parametrize("case", WRITTEN)
def test_the_gathered_weights_are_those_of_one_process(four: Told, case: str) -> None:
    require_right(four[case])


def test_fewer_processes_write_the_same(fewer: Told) -> None:
    for told in fewer.values():
        require_right(told)


@pytest.mark.parametrize("case", ["emptied_fsdp", "emptied_both", "emptied_again_fsdp", "emptied_again_both"])
def test_after_to_empty_rubbish_is_reset_and_no_sign_of_training(four: Told, case: str) -> None:
    """Norms are identities, the embedding N(0, 1): 101 x 24 values, whose std has a standard error of 0.0144."""
    for each in four[case]:
        assert isinstance(each, dict), each
        assert (each["unlike"], each["norms"]) == ([], [])
        assert abs(each["table"] - 1) < 5 * 0.0144
        assert each["notes"][0] == each["notes"][1]


def test_one_seed_is_taken_where_none_is_given(four: Told) -> None:
    """That of the first process: what its generator gives next."""
    seeds = {seed for seed, _ in four["one_seed"]}
    assert seeds == {four["one_seed"][0][1]}


@pytest.mark.parametrize(
    ("case", "error", "text"),
    [
        ("trained", "TrainedModelError", "looks trained.*the gains of 1 norms"),
        ("another_plan", "PlanError", "process 2 applies another plan than process 0"),
        ("another_shape", "PlanError", r"head: planned for shape \(102, 24\), but head.weight has \(101, 24\)"),
        ("orthogonal_too_large", "PlanError", "only the whole matrix gives"),
    ],
)
def test_all_raise_and_nothing_is_written(four: Told, case: str, error: str, text: str) -> None:
    for each in four[case]:
        assert isinstance(each, dict), each
        assert each["error"] == error
        assert re.search(text, each["text"])
        assert not any(each["changed"])


def test_with_a_seed_and_without_a_report_nothing_is_said(four: Told) -> None:
    assert four["silent"] == [([], {}, {})] * 4


def test_stages_of_a_pipeline_tell_of_the_whole_model(four: Told) -> None:
    for unlike, report, expected in four["pipeline"]:
        assert unlike == []
        require_close(report, expected)


def test_a_check_a_report_and_a_prediction_see_the_whole_weights(four: Told) -> None:
    for codes, moments, reports in four["checked"]:
        assert codes[0] == codes[1]
        assert moments[0] == moments[1]
        require = [[row["before"]["numel"] for row in report] for report in reports]
        assert require[0] == require[1]


def test_what_a_forward_has_gathered_is_let_go_first(four: Told) -> None:
    assert four["gathered"] == [[]] * 4


def test_a_checkpoint_of_one_layout_is_read_into_another(four: Told) -> None:
    assert four["checkpoint"] == [[]] * 4
