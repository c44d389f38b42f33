"""The notebooks run from scratch without an error, and are committed with their outputs.

`python -m tests.test_notebooks NAME...` runs some anew and writes their outputs; read the difference before it is kept.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOM = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(ROOM.glob("*.ipynb"))


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(notebook: nbformat.NotebookNode) -> set[str]:
    """Types of output, and the media types of those that have data."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return {output.output_type for output in outputs} | {kind for output in outputs for kind in output.get("data", ())}


def printed(notebook: nbformat.NotebookNode) -> str:
    return "".join(output.get("text", "") for cell in code_cells(notebook) for output in cell.outputs)


def executed(path: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs that it has when it runs from scratch."""
    notebook = nbformat.read(path, as_version=4)
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
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
    committed, notebook = nbformat.read(path, as_version=4), executed(path)
    assert "error" not in kinds(notebook)
    assert "image/png" in kinds(notebook)
    # Outputs hold times, so it is their shape that must agree with what is committed.
    assert kinds(notebook) - {"stderr"} == kinds(committed)
    assert len(printed(notebook).splitlines()) == len(printed(committed).splitlines())


if __name__ == "__main__":
    for path in (path for path in NOTEBOOKS if path.stem in sys.argv[1:]):
        notebook = executed(path)
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)
        nbformat.write(notebook, path)
