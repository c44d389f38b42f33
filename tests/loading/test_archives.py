"""Archives that two readers may see differently are refused, whatever they hold."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest
import torch
from torch import nn

from autoinit.errors import LoadError
from autoinit.loading import load


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.fc(x))


def archive(kind: str) -> bytes:
    """A file of each kind that is an archive."""
    buffer = io.BytesIO()
    if kind == "program":
        torch.export.save(torch.export.export(Net(), (torch.ones(2, 4),)), buffer)
    else:
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))
        torch.save(model.state_dict() if kind == "weights" else model, buffer)
    return buffer.getvalue()


def copied(content: bytes, path, more=()) -> None:
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            new.writestr(entry, old.read(entry))
        for entry in more:
            new.writestr(entry, b"x")


def read(path):
    return load(str(path), alone=True)


KINDS = {"weights": "w.pt", "model": "m.pt", "program": "p.pt2"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_with_nothing_changed_is_read(kind, tmp_path):
    copied(archive(kind), tmp_path / KINDS[kind])
    read(tmp_path / KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_without_a_name(kind, tmp_path):
    copied(archive(kind), tmp_path / KINDS[kind], [zipfile.ZipInfo("")])
    with pytest.raises(LoadError, match="it holds a record without a name"):
        read(tmp_path / KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("back", [1, 40])
def test_records_that_overlap(kind, back, tmp_path):
    """The last record's place in the directory is moved into the record in front of it.

    A directory entry begins with PK 1 2 and has the place of its record at byte 42 (APPNOTE.TXT 4.3.12).
    """
    copied(archive(kind), tmp_path / KINDS[kind])
    content = bytearray((tmp_path / KINDS[kind]).read_bytes())
    at = content.rindex(b"PK\x01\x02") + 42
    (place,) = struct.unpack_from("<I", content, at)
    struct.pack_into("<I", content, at, place - back)
    (tmp_path / KINDS[kind]).write_bytes(content)
    with pytest.raises(LoadError, match="lies over another record"):
        read(tmp_path / KINDS[kind])
