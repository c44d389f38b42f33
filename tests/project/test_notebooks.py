"""The notebooks run from scratch without an error, and are committed with their outputs.

`python -m tests.project.test_notebooks NAME...` runs some whole and writes their outputs; read the difference before
it is kept.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import nbformat
import pytest
import torch
from nbclient import NotebookClient

ROOM = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(ROOM.glob("*.ipynb"))
SMALLER: dict[str, dict[str, str]] = {
    "ci_check": {"SEEDS = range(3)": "SEEDS = range(1)"},
    "deep_networks": {
        "DEPTH, WIDTH = 200, 32": "DEPTH, WIDTH = 40, 16",
        "made.layers[100]": "made.layers[20]",
        "(0.0003, 0.001), 2, 32": "(0.0003, 0.001), 1, 64",
    },
    "learning_rate_transfer": {
        "[64, 128, 256, 512]": "[64, 128]",
        "[64, 128, 256]": "[64, 128]",
        "(64, 512), (-10, -9, -8, -7, -6, -5, -4), 30,": "(64, 128), (-10, -7, -4), 5,",
        "(32, 128), (-10, -9, -8, -7, -6, -5), 30,": "(32, 64), (-10, -7, -5), 5,",
    },
    "residual_block": {"= 64, 48, 8, 4, range(5), 0.2": "= 16, 16, 8, 4, range(2), 0.2"},
    "sharded": {
        "mp.spawn(": 'mp.start_processes(start_method="fork", fn=',
        "(sys.argv[1],), nprocs=4": "args=(sys.argv[1],), nprocs=4",
    },
    "signal_propagation": {
        "DEPTH, WIDTH, SEEDS = 30, 64, range(3)": "DEPTH, WIDTH, SEEDS = 10, 64, range(2)",
        "RATES, EPOCHS = (0.0003, 0.001, 0.003), 4": "RATES, EPOCHS = (0.0003, 0.003), 1",
        "TALL, SHOWN = 200, (10, 30, 100, 200)": "TALL, SHOWN = 40, (10, 20, 30, 40)",
        "(10, 50, 100, 199)": "(10, 20, 30, 39)",
    },
}
"""What stands in a notebook, and what its test puts in its place: every cell runs, in a fraction of the time."""
if torch.__version__.startswith("2.9."):  # its own full_tensor gathers uneven pieces of pieces in the wrong order
    SMALLER["sharded"]["width=50, vocabulary=101"] = "width=48, vocabulary=100"


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(notebook: nbformat.NotebookNode) -> set[str]:
    """Types of output, and the media types of those that have data."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return {output.output_type for output in outputs} | {kind for output in outputs for kind in output.get("data", ())}


def printed(notebook: nbformat.NotebookNode) -> str:
    return "".join(output.get("text", "") for cell in code_cells(notebook) for output in cell.outputs)


def executed(path: Path, smaller: Mapping[str, str]) -> nbformat.NotebookNode:
    """The notebook with the outputs that it has when it runs from scratch, some sizes made smaller."""
    notebook = nbformat.read(path, as_version=4)
    assert all(any(size in cell.source for cell in code_cells(notebook)) for size in smaller), path.stem
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
        for size, other in smaller.items():
            cell.source = cell.source.replace(size, other)
    client = NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(ROOM)}})
    client.execute()
    for cell in code_cells(notebook):
        cell.outputs = [output for output in cell.outputs if not is_bar(output)]
    return notebook


def is_bar(output: nbformat.NotebookNode) -> bool:
    """Whether it is a bar of progress, which slow machines alone show."""
    return "<progress" in output.get("data", {}).get("text/html", "")


def test_long_work_shows_a_bar_in_a_notebook_and_short_work_none() -> None:
    """Half of the work is done after more than a second."""
    lines = "import time", "from autoinit.tensors.progress import counted", "step = counted(2)", "time.sleep({})"
    source = "\n".join((*lines, "step(1)", "step(1)"))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source.format(wait)) for wait in (1.05, 0)])
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    long, short = (cell.outputs for cell in notebook.cells)
    assert ([is_bar(output) for output in long], short) == ([True], [])
    assert "value='100'" in long[0].data["text/html"]


def test_there_are_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == [
        "ci_check",
        "deep_networks",
        "learning_rate_transfer",
        "residual_block",
        "sharded",
        "signal_propagation",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_names_no_directory_of_a_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not [place for place in (ROOM.parent, Path.home(), tempfile.gettempdir()) if f"{place}/" in text]


def test_the_check_ends_green() -> None:
    notebook = nbformat.read(ROOM / "ci_check.ipynb", as_version=4)
    shown = [cell.outputs[0].text for cell in code_cells(notebook) if cell.source.startswith('run("autoinit check")')]
    assert [text.splitlines()[-1] for text in shown] == ["exit status 1", "exit status 0"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_committed_with_its_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert [cell.execution_count for cell in code_cells(notebook)] == list(range(1, len(code_cells(notebook)) + 1))
    assert "image/png" in kinds(notebook)
    assert "error" not in kinds(notebook)
    assert not {output.get("name") for cell in code_cells(notebook) for output in cell.outputs} & {"stderr"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore:.*(asyncio|event loop|Proactor|zmq|tornado|IPKernel|Kernel is running).*")
def test_runs_from_scratch(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its tensors are small: threads that wait for each other on a busy machine cost more than they bring.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    committed, notebook = nbformat.read(path, as_version=4), executed(path, SMALLER[path.stem])
    assert "error" not in kinds(notebook)
    assert "image/png" in kinds(notebook)
    # Outputs hold times, so it is their shape that must agree with what is committed.
    assert kinds(notebook) - {"stderr"} == kinds(committed)
    assert len(printed(notebook).splitlines()) == len(printed(committed).splitlines())


if __name__ == "__main__":
    for path in (path for path in NOTEBOOKS if path.stem in sys.argv[1:]):
        notebook = executed(path, {})
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)
        nbformat.write(notebook, path)
