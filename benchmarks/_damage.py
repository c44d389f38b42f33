"""Files of every kind that autoinit reads, and ways to damage them: flips, cuts, insertions, changes of structure."""

from __future__ import annotations

import io
import json
import pickle
import random
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

NET = """from torch import nn

def build():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
"""
CONFIGURATION = """[tool.autoinit]
models = [
    { spec = "net.py:build", name = "net", weights = "w.safetensors", input-shape = "2,6", recipe = "auto" },
]
select = ["INI1", "INI2"]
ignore = ["INI103"]
fail-level = "error"
tolerance = 0.1
format = "json"
baseline = "known.json"

[[tool.autoinit.ignores]]
layer = "*.0"
codes = ["INI104"]
reason = "a test"
"""

INDEX = """{"metadata": {"total_size": 400}, "weight_map": {"0.weight": "w.safetensors", "0.bias": "w.safetensors",
"2.weight": "w.safetensors", "2.bias": "w.safetensors"}}"""


class Net(nn.Module):
    """A convolution, a norm, a recurrent layer and a head, so that the graph has calls of many kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm1d(4)
        self.lstm = nn.LSTM(4, 4)
        self.head = nn.Linear(4, 2)
        self.register_buffer("scale", torch.full((4,), 2.0), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (n, 3, 8) to (n, 8, 2)."""
        x = torch.relu(self.norm(self.conv(x))).transpose(1, 2)
        found, _ = self.lstm(x * self.scale)
        first, second = found.chunk(2, dim=-1)
        out: torch.Tensor = self.head(torch.cat([torch.sigmoid(first), second], dim=-1))
        return out


@dataclass(frozen=True)
class Kind:
    """A kind of file: its name, the commands that read it, and what a whole one holds."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    content: bytes
    archive: bool = False


def kinds(known: bytes) -> dict[str, Kind]:
    """One whole file of each kind. `known` is a baseline."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(4, 2))
    state = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2)).state_dict()
    program = io.BytesIO()
    torch.export.save(torch.export.export(Net(), (torch.randn(4, 3, 8),)), program)
    weights = ("report", "net.py:build", "--weights", "{}")
    alone = ("report", "{}"), ("check", "{}", "--no-config")
    listed = (
        Kind("m.pt", (("report", "{}"), ("check", "{}", "--no-config")), _saved(model), archive=True),
        Kind("old.pt", (weights, *alone), _saved(state, _use_new_zipfile_serialization=False)),
        Kind("w.pt", (weights, *alone), _saved({"epoch": 3, "state_dict": state}), archive=True),
        Kind("m.pt2", (("report", "{}"), ("signal", "{}")), program.getvalue(), archive=True),
        Kind("w.safetensors", (weights, *alone), save(state)),
        Kind("w.safetensors.index.json", (weights, *alone), INDEX.encode()),
        Kind("pyproject.toml", (("check",),), CONFIGURATION.encode()),
        Kind("known.json", (("check",),), known),
    )
    return {kind.name: kind for kind in listed}


def _saved(value: object, **given: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **given)
    return buffer.getvalue()


def damaged(kind: Kind, way: str, chance: random.Random) -> bytes:
    """The file's bytes after damage of a kind."""
    if way in ("flip", "cut", "insert", "swap"):
        return _bytes_damaged(kind.content, way, chance)
    if kind.archive:
        return _rearchived(kind.content, lambda name, content: _record(name, content, way, chance), chance)
    return _structure(kind.content, kind.name, chance)


WAYS = ("flip", "cut", "insert", "swap", "structure", "record")


def _bytes_damaged(content: bytes, way: str, chance: random.Random) -> bytes:
    changed = bytearray(content)
    at = chance.randrange(len(changed))
    if way == "flip":
        for _ in range(chance.choice((1, 1, 2, 8, 64))):
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    elif way == "cut":
        del changed[at : chance.choice((len(changed), at + chance.randrange(1, 200)))]
    elif way == "insert":
        changed[at:at] = chance.choice(
            (chance.randbytes(chance.randrange(1, 64)), *(text.encode(errors="surrogatepass") for text in TEXTS))
        )
    else:
        other = chance.randrange(len(changed))
        changed[at : at + 16], changed[other : other + 16] = changed[other : other + 16], changed[at : at + 16]
    return bytes(changed)


TEXTS = (
    "", "\0", "\n::error ::x", "\r", "\x1b[31m", "`", "![x](javascript:1)", "__import__('os').mkdir('ran')", "é" * 300,
    "torch.ops.aten.relu.default", "torch.ops.aten.from_file.default", "torch.ops.aten.repeat.default",
    "posix.mkdir", "Symbol('s0')", "1" * 5000, "-" * 20000, "../../etc/passwd", "/dev/zero", "\ud800",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    *TEXTS, None, True, False, 0, -1, 1, 7, 2**31, 2**62, 2**63, -(2**63), 10**30, 1e308, 0.5, [], {}, [[]], [1, 2],
    {"as_int": 3}, {"as_int": 10**12}, {"as_none": True}, {"as_tensor": {"name": "x"}}, {"as_string": "x"},
    {"as_ints": [10**6, 10**6]}, {"as_tensors": []}, {"as_sym_int": {"as_int": 2}},
)  # fmt: skip


def _rearchived(content: bytes, change: Callable[[str, bytes], bytes | None], chance: random.Random) -> bytes:
    new = io.BytesIO()
    packing = chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(new, "w", packing) as archive:
        entries = old.infolist()
        hit = chance.choice([entry.filename for entry in entries if entry.file_size])
        graph = [entry.filename for entry in entries if entry.filename.endswith((".json", "data.pkl"))]
        hit = chance.choice([hit, *graph])
        for entry in entries:
            record: bytes | None = old.read(entry)
            if entry.filename == hit:
                record = change(entry.filename, record or b"")
            if record is not None:
                archive.writestr(entry.filename, record)
    return new.getvalue()


def _record(name: str, content: bytes, way: str, chance: random.Random) -> bytes | None:
    """A record of an archive, changed by its structure; or damaged, dropped or emptied."""
    if way == "structure":
        return _structure(content, name, chance)
    return chance.choice((None, b"", _bytes_damaged(content, chance.choice(("flip", "cut", "insert")), chance)))


def _structure(content: bytes, name: str, chance: random.Random) -> bytes:
    """A change that its reader's grammar allows."""
    if name.endswith(".json"):
        return _json_changed(content, chance)
    if name.endswith(".toml"):
        return _toml_changed(content, chance)
    if name.endswith("data.pkl") or name == "old.pt":
        return _pickle_changed(content, chance)
    if name.endswith(".safetensors"):
        length = int.from_bytes(content[:8], "little")
        header = _json_changed(content[8 : 8 + length], chance)
        return len(header).to_bytes(8, "little") + header + content[8 + length :]
    return _bytes_damaged(content, "flip", chance)


def _json_changed(content: bytes, chance: random.Random) -> bytes:
    document = json.loads(content)
    for _ in range(chance.choice((1, 1, 2, 4))):
        places = list(_places(document))
        if not places:  # what was there is gone
            break
        holder, key = chance.choice(places)
        what = chance.random()
        if what < 0.6:
            holder[key] = chance.choice(VALUES)
        elif what < 0.75:
            del holder[key]
        elif what < 0.9:
            other, place = chance.choice(places)
            if isinstance(place, str) or place < len(other):
                holder[key] = json.loads(json.dumps(other.get(place) if isinstance(other, dict) else other[place]))
        elif isinstance(holder, dict):
            holder[chance.choice(TEXTS)] = chance.choice(VALUES)
        else:
            holder.insert(key, chance.choice(VALUES))
    return json.dumps(document, allow_nan=True).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in list(items):
        yield value, key
        yield from _places(each)


def _toml_changed(content: bytes, chance: random.Random) -> bytes:
    lines = content.decode().splitlines()
    at = chance.randrange(len(lines))
    values = (
        '"x"', "true", "[]", "{}", "[[[]]]", "-1", "1e400", "nan", "[" * 2000, '"' + "é" * 500 + '"', "0x" + "f" * 99,
    )  # fmt: skip
    key = lines[at].partition("=")[0] if "=" in lines[at] else "select"
    other = lines[chance.randrange(len(lines))]
    lines[at] = chance.choice((f"{key} = {chance.choice(values)}", "", other, "[[x]]", '"\u0000" = 1'))
    return "\n".join(lines).encode()


def _pickle_changed(content: bytes, chance: random.Random) -> bytes:
    """Globals renamed, numbers and strings replaced: still a pickle, mostly."""
    renamed = (
        (b"ctorch._utils\n_rebuild_tensor_v2\n", b"cposix\nmkdir\n"),
        (b"_rebuild_tensor_v2", b"_rebuild_qtensor"),
        (b"_rebuild_tensor_v2", b"_rebuild_sparse_tensor"),
        (b"torch.nn.modules.conv\nConv1d", b"torch.nn.modules.linear\nLinear"),
        (b"torch\nFloatStorage", b"torch\nLongStorage"),
        (b"torch\nFloatStorage", b"torch\nQInt8Storage"),
        (b"collections\nOrderedDict", b"builtins\nset"),
        (b"collections\nOrderedDict", b"torch\nSize"),
        (b"K\x04", b"J\xff\xff\xff\x7f"), (b"K\x03", b"J\xff\xff\xff\xff"), (b"K\x01", b"M\xff\xff"),
        (b"\x89", b"\x88"), (b"N", b"}"), (b"weight", b"wei\nht"), (b"in_channels", b"training\0\0\0"),
        (b"_parameters", b"_buffers\0\0\0"), (b"_modules", b"forward\0"), (b"groups", b"dtype\0"),
    )  # fmt: skip
    for _ in range(chance.choice((1, 1, 2))):
        old, new = chance.choice(renamed)
        where = [at for at in range(len(content)) if content.startswith(old, at)]
        if where:
            at = chance.choice(where)
            content = content[:at] + new + content[at + len(old) :]
    return content


def odd_states(chance: random.Random) -> bytes:
    """A model of torch.nn whose modules hold what no constructor leaves there."""
    model = nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(4, 2))
    odd: tuple[Any, ...] = (
        *(text for text in TEXTS if text.isprintable()), None, -1, 0, 10**9, 10**30, 0.5, float("nan"), True, [], {},
        (), (1,), torch.zeros(0), torch.zeros(3, 3), torch.ones(1).expand(10**6, 10**6), torch.zeros(2).bool(),
        nn.Parameter(torch.zeros(2, 2)), nn.ReLU(), torch.device("meta"), torch.zeros(2, device="meta"), torch.float32,
        torch.eye(3).to_sparse(), torch.zeros(2, dtype=torch.complex64), {1: 2}, {"a": None}, nn.functional.relu,
    )  # fmt: skip
    modules = list(model.modules())
    for _ in range(chance.choice((1, 1, 2))):
        module = chance.choice(modules)
        held = chance.choice([module.__dict__, module._parameters, module._buffers, module._modules])
        key = chance.choice([*held, "extra"])
        held[key] = chance.choice(odd)  # type: ignore[assignment]
    try:
        return _saved(model)
    except (TypeError, AttributeError, RuntimeError, pickle.PicklingError, RecursionError):
        return odd_states(chance)


def write_surroundings(kinds: dict[str, Kind], folder: Path) -> None:
    """The files that a damaged one is read beside."""
    (folder / "net.py").write_text(NET)
    for name in ("w.safetensors", "pyproject.toml", "known.json"):
        (folder / name).write_bytes(kinds[name].content)
