"""Signal reports written by hand, whose pictures and pages are known."""

from collections.abc import Sequence

from autoinit.signal.report import OperationSignal, SignalReport, SignalRow


def layer(name: str, depth: int, row: SignalRow | None, note: str = "") -> OperationSignal:
    """A linear layer and its pre-activation."""
    return OperationSignal(name, "linear", "weight", name, depth, name, row=row, note=note, weights=(name,))


def stream(name: str, depth: int, row: SignalRow) -> OperationSignal:
    """A sum of a residual stream."""
    return OperationSignal(name, "add", "add", "block", depth, stream=True, row=row)


def report(
    *operations: OperationSignal,
    kind: str = "predicted",
    model: str = "Net",
    outputs: Sequence[SignalRow] = (),
    notes: Sequence[str] = (),
) -> SignalReport:
    """A report of these operations."""
    rows = {each.layer: each.row for each in operations if each.layer and each.row is not None}
    return SignalReport(kind, model, rows, operations, tuple(outputs), tuple(notes), 0.25)


def chain(*moments: tuple[float, float | None], kind: str = "predicted", model: str = "Net") -> SignalReport:
    """Layers `0`, `1`, ... one after the other, each with its q and grad."""
    layers = [layer(str(at), at + 1, SignalRow(q, grad=grad)) for at, (q, grad) in enumerate(moments)]
    return report(*layers, kind=kind, model=model)
