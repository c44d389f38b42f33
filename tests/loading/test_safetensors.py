"""safetensors: what the library writes is read, and a header that its file does not bear out is refused in a line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file

from autoinit.errors import LoadError
from autoinit.loading import load
from autoinit.loading._opening import opened
from autoinit.loading.safetensors_files import Described, described


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text("from torch import nn\nmodel = nn.Linear(3, 4)\n")
    return tmp_path


def read(path: str) -> dict[str, torch.Tensor]:
    with opened(Path(path)) as file:
        return {name: each.read() for name, each in described(file, path).items()}


def test_every_dtype_and_shape_is_what_the_library_wrote():
    chance = torch.Generator().manual_seed(0)
    numbers = torch.randint(0, 100, (3, 4), generator=chance)
    held = {str(dtype): numbers.to(dtype) for dtype in (
        torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16,
        torch.float32, torch.float64, torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2,
        torch.complex64,
    )}  # fmt: skip
    held |= {"none": torch.zeros(0, 5), "one": torch.tensor(7.0), "odd é\u2028name": torch.ones(1)}
    save_file(held, "w.safetensors", metadata={"format": "pt"})
    found = read("w.safetensors")
    assert found.keys() == held.keys()
    for name, each in held.items():
        assert (found[name].dtype, found[name].shape) == (each.dtype, each.shape)
        assert torch.equal(found[name].flatten().view(torch.uint8), each.flatten().view(torch.uint8)), name


def written(header: Any, data: bytes = bytes(8)) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    Path("w.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)


def one(**changed: Any) -> dict[str, Any]:
    return {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changed}


REFUSED: dict[str, tuple[Any, str]] = {
    "more than the file": (
        one(shape=[10**6, 10**6], data_offsets=[0, 4 * 10**12]),
        "its tensors have 4,000,000,000,000 bytes, and 8 follow",
    ),
    "other bytes than the shape": (
        one(shape=[3]), r"w of shape \(3,\) and dtype F32 lies at bytes 0 to 8, expected 0 to 12",
    ),
    "a hole": (one(data_offsets=[4, 12]), "lies at bytes 4 to 12, expected 0 to 8"),
    "overlapping": (one() | {"v": one()["w"]}, "lies at bytes 0 to 8, expected 8 to 16"),
    "backwards": (one(data_offsets=[8, 0]), "lies at bytes 8 to 0"),
    "negative": (one(shape=[-2]), "Expected `int` >= 0"),
    "huge": (one(shape=[2**70]), "Expected `int`|out of range"),
    "an unknown dtype": (one(dtype="F4"), "has the dtype 'F4', expected one of BOOL, U8"),
    "a dtype of torch": (one(dtype="load"), "has the dtype 'load'"),
    "more fields": (one(code="import os"), "unknown field `code`"),
    "no field": ({"w": {"dtype": "F32"}}, "missing required field"),
    "a name twice": (
        b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"w":{"dtype":"I32","shape":[2],"data_offsets":[0,8]}}',
        "its header has 'w' twice",
    ),
    "a field twice": (b'{"w":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}}', "has 'shape' twice"),
    "no JSON": (b"{w}", "damaged"),
    "half a character": (b'{"\\ud800": {}}', "damaged"),
    "nested": (b'{"w": ' + b"[" * 100_000, "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_headers_that_their_files_do_not_bear_out_are_refused(case):
    header, said = REFUSED[case]
    written(header)
    with pytest.raises(LoadError, match=r"^w\.safetensors is damaged, or no safetensors file: [^\n]*$") as caught:
        load("net.py:model", weights_file="w.safetensors")
    assert re.search(said, str(caught.value))


def test_a_header_longer_than_the_file_is_refused():
    Path("w.safetensors").write_bytes((10**12).to_bytes(8, "little") + b"{}")
    with pytest.raises(LoadError, match=r"its header has 1,000,000,000,000 bytes, expected up to 2$"):
        read("w.safetensors")


def test_weights_that_do_not_fit_are_refused_before_they_are_read(monkeypatch):
    save_file({"weight": torch.zeros(4, 3), "bias": torch.zeros(5)}, "w.safetensors")

    def refuse(*given: Any) -> None:
        raise AssertionError("a tensor was read")

    monkeypatch.setattr(Described, "read", refuse)
    with pytest.raises(LoadError, match=r"does not fit Linear: 1 of another shape: bias \(5,\) for \(4,\)"):
        load("net.py:model", weights_file="w.safetensors")


def test_a_file_that_ends_while_it_is_read_is_refused():
    Path("w.safetensors").write_bytes(save({"w": torch.zeros(100_000)}))
    with opened(Path("w.safetensors")) as file:
        listed = described(file, "w.safetensors")
        Path("w.safetensors").write_bytes(Path("w.safetensors").read_bytes()[:-1000])
        with pytest.raises(OSError, match="ended while it was read"):
            listed["w"].read()
