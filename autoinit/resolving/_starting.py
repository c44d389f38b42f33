"""Where the features of a weight stand in what its operation gives, and in which shape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from autoinit.tracing.dataflow import Op, ParamUse


def features(op: Op, use: ParamUse) -> tuple[tuple[int, ...], list[int]] | None:
    """The axes of the operation's output that hold the weight's output features, counted from the end, and their sizes.

    None where that is not known.
    """
    spec = op.call.spec if op.call is not None else None
    slots = spec.weights(op.constants) if spec is not None and spec.weights is not None else ()
    slot = next((named for each in slots if (named := each.named(use.slot))), None)
    if slot is None or slot.features is None or use.layout is None:
        return None
    sizes = [size for size, letter in zip(use.shape, use.layout.axes, strict=True) if letter == "o"]
    if use.layout.transposed:
        sizes = [size * use.layout.groups for size in sizes]
    axes = slot.features(op.constants, use.shape)
    return (axes, sizes) if len(axes) == len(sizes) else None


def likely_shapes(axes: Sequence[int], sizes: Sequence[int]) -> list[tuple[int, ...]]:
    """Shapes that the output may have where the tier knows none."""
    if len(axes) > 1:
        return []
    if axes[0] == -1:
        return [(3, sizes[0]), (3, 5, sizes[0])]
    return [(3, sizes[0], *(7,) * (-axes[0] - 1))]


def likely_outputs(op: Op) -> Iterator[tuple[int, ...]]:
    """Shapes that a weight operation's output may have."""
    for use in op.params:
        found = features(op, use)
        if found is not None:
            yield from likely_shapes(*found)
