"""Exported programs on disk, whole and tampered with."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn


class Doubled(nn.Module):
    """A linear layer and ReLU on an input twice, so that the graph has a size that is a product."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return torch.relu(self.layer(torch.cat([x, x])))


def write_program(path: str | Path) -> Doubled:
    """The model, of which `path` is the exported program with a batch of any size from 2 to 64."""
    model = Doubled()
    batch = torch.export.Dim("batch", min=2, max=64)
    torch.export.save(torch.export.export(model, (torch.randn(6, 4),), dynamic_shapes={"x": {0: batch}}), path)
    return model


def rewritten(source: str | Path, target: str | Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """A copy of an archive with each record's content passed through change(name, content); None drops it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            content = change(entry.filename, old.read(entry))
            if content is not None:
                new.writestr(entry.filename, content)


def redocumented(source: str | Path, target: str | Path, change: Callable[[dict[str, Any]], None]) -> None:
    """A copy of an exported program whose document `change` has altered."""

    def changed(name: str, content: bytes) -> bytes:
        if not name.endswith("models/model.json"):
            return content
        document = json.loads(content)
        change(document)
        return json.dumps(document).encode()

    rewritten(source, target, changed)


def pickled(payload: object) -> bytes:
    """What torch.save writes of it."""
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    return buffer.getvalue()
