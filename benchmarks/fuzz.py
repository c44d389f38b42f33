"""What damaged and crafted files do to autoinit: kinds of file x kinds of damage.

    python benchmarks/fuzz.py
    python benchmarks/fuzz.py --count 20000 --seed 7 --kinds m.pt2 --json fuzz.json --keep odd/

Each file is read by a command in a process of its own, forked from one that has imported everything. It is a fault
if that process runs code from the file (a name in it would make a directory; the process starts programs, loads
libraries or opens files to write), says "unexpected" or anything but one line, shows a traceback, ends otherwise than
by an exit status of 0, 1 or 2, takes more than ten seconds, or more than a gigabyte.
Exit status 1 if there is a fault.
"""

import argparse
import contextlib
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "COLUMNS": "100", "NO_COLOR": "1"}

import torch
from _damage import NET, WAYS, Kind, damaged, kinds, odd_states, write_surroundings
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

SECONDS = 10
GIGABYTE = 1 << 30
_FORBIDDEN = (
    "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "ctypes.dlopen", "os.mkdir", "socket.connect",
)  # fmt: skip
_BESIDE = ("net.py", "w.safetensors", "w.safetensors.index.json", "pyproject.toml", "known.json", "__pycache__")


@dataclass
class Outcome:
    """What one command made of one file."""

    kind: str
    way: str
    number: int
    command: str
    status: int
    said: str = ""
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0
    memory: int = 0


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="files in all (2000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", metavar="KIND", help="names of files, such as m.pt2; all by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every outcome")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the files of faults")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    known = _baseline()
    whole = kinds(known)
    unknown = set(given.kinds or ()) - {*whole, "odd.pt"}
    if unknown or given.count < 1:
        parser.error(f"--kinds {' '.join(unknown)}: expected some of {' '.join([*whole, 'odd.pt'])}; --count from 1")
    with tempfile.TemporaryDirectory() as folder:
        outcomes = list(_outcomes(whole, Path(folder), given))
    _show(outcomes)
    if given.json:
        given.json.write_text(json.dumps([asdict(each) for each in outcomes], indent=1))
    return 1 if any(each.faults for each in outcomes) else 0


@contextlib.contextmanager
def _inside(folder: str | Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _baseline() -> bytes:
    """A baseline with a finding, as check writes it."""
    with tempfile.TemporaryDirectory() as folder, _inside(folder):
        Path("net.py").write_text(NET.replace(", nn.Linear(8, 2)", ""))
        outcome = _run(("check", "net.py:build", "--write-baseline", "known.json", "-q"))
        assert outcome[0] == 0, outcome
        return Path("known.json").read_bytes()


def _outcomes(whole: dict[str, Kind], folder: Path, given: argparse.Namespace) -> Iterator[Outcome]:
    names = given.kinds or [*whole, "odd.pt"]
    _read_undamaged(whole, folder)
    idle = _apart(lambda: (0, "", ""))[1]
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for number in progress.track(range(given.count)):
            chance = random.Random(f"{given.seed} {number}")
            name = names[number % len(names)]
            turn = number // len(names)
            way = WAYS[turn % len(WAYS)] if name != "odd.pt" else "state"
            content = odd_states(chance) if name == "odd.pt" else damaged(whole[name], way, chance)
            commands = (("report", "{}"), ("check", "{}")) if name == "odd.pt" else whole[name].commands
            command = tuple(each.format(name) for each in commands[turn // len(WAYS) % len(commands)])
            for left in folder.glob("*.pt*"):
                left.unlink()
            write_surroundings(whole, folder)
            (folder / name).write_bytes(content)
            outcome = _read(folder, Outcome(name, way, number, " ".join(command), 0), command, idle)
            if outcome.faults and given.keep:
                given.keep.mkdir(exist_ok=True, parents=True)
                (given.keep / f"{number}-{name}").write_bytes(content)
            yield outcome


def _read_undamaged(whole: dict[str, Kind], folder: Path) -> None:
    """Once each, so that everything has been imported before the first fork."""
    for name, kind in whole.items():
        write_surroundings(whole, folder)
        (folder / name).write_bytes(kind.content)
        with _inside(folder):
            for command in kind.commands:
                status, _, stderr = _run([each.format(name) for each in command])
                assert status in (0, 1), (name, status, stderr)


def _read(folder: Path, outcome: Outcome, command: tuple[str, ...], idle: int) -> Outcome:
    """A command in a process of its own."""
    start = time.perf_counter()
    with _inside(folder):
        found, peak = _apart(lambda: _watched(command))
        for each in sorted(set(os.listdir()) - {*_BESIDE, outcome.kind}):
            outcome.faults.append(f"made {each}")
            shutil.rmtree(each) if Path(each).is_dir() else Path(each).unlink()
    outcome.seconds, outcome.memory = time.perf_counter() - start, peak - idle
    outcome.status, outcome.said = found.get("status", -1), found.get("stderr", "").strip()
    outcome.faults += found.get("events", [])
    if outcome.status not in (0, 1, 2):
        outcome.faults.append(f"ended with {outcome.status}{found.get('signal', '')}")
    if "Traceback" in outcome.said or "error: unexpected" in outcome.said or "please report" in outcome.said:
        outcome.faults.append("a failure that nobody foresaw")
    if outcome.status == 2 and "\n" in outcome.said and "could not be traced" not in outcome.said:
        outcome.faults.append(f"{outcome.said.count(chr(10)) + 1} lines")
    if any(_is_control(each) for each in outcome.said + found.get("stdout", "")):
        outcome.faults.append("control characters")
    if outcome.seconds > SECONDS:
        outcome.faults.append(f"took {outcome.seconds:.0f} s")
    if outcome.memory > GIGABYTE:
        outcome.faults.append(f"took {outcome.memory / GIGABYTE:.1f} GB")
    return outcome


def _is_control(character: str) -> bool:
    return character != "\n" and (ord(character) < 32 or 127 <= ord(character) < 160)


def _watched(command: tuple[str, ...]) -> tuple[int, str, str, list[str]]:
    events: list[str] = []

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in _FORBIDDEN or (writes and not str(arguments[0]).startswith(("/dev/", "/proc/"))):
            events.append(f"{event} {str(arguments[:1])[:80]}")

    sys.addaudithook(watch)
    return *_run(command), events


def _run(command: Any) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command in this process."""
    from autoinit.cli import main as cli

    out, err = io.StringIO(), io.StringIO()
    status: Any = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main(list(command), prog_name="autoinit")
        except SystemExit as end:
            status = end.code
        except BaseException:  # noqa: BLE001 - it is what is looked for
            status = -2
            err.write(traceback.format_exc())
    return status if isinstance(status, int) else 0, out.getvalue(), err.getvalue()


def _apart(work: Any) -> tuple[dict[str, Any], int]:
    """The result of a function in a forked process, and the most memory that it held, in bytes."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        signal.alarm(SECONDS + 1)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(BaseException), os.fdopen(writing, "w") as pipe:
            status, stdout, stderr, *events = work()
            noted = events[0] if events else []
            json.dump({"status": status, "stdout": stdout, "stderr": stderr, "events": noted}, pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    _, ended, usage = os.wait4(child, 0)
    found = json.loads(text) if text else {}
    if os.WIFSIGNALED(ended):
        found["signal"] = f" ({signal.Signals(os.WTERMSIG(ended)).name})"
    return found, usage.ru_maxrss * 1024


def _show(outcomes: list[Outcome]) -> None:
    console = Console()
    table = Table("file", "damage", "files", "read", "refused", "faults", "slowest", "most memory")
    for kind, way in dict.fromkeys((each.kind, each.way) for each in outcomes):
        here = [each for each in outcomes if (each.kind, each.way) == (kind, way)]
        statuses = Counter(each.status == 2 for each in here)
        faults = sum(bool(each.faults) for each in here)
        slowest, most = max(each.seconds for each in here), max(each.memory for each in here)
        counts = (len(here), statuses[False], statuses[True], faults)
        table.add_row(kind, way, *map(str, counts), f"{slowest:.1f} s", f"{most >> 20} MB")
    console.print(table)
    for each in outcomes:
        if each.faults:
            said = each.said.splitlines()[-1][:300] if each.said else ""
            faults = "; ".join(each.faults)
            console.print(f"{each.number} {each.command} ({each.way}): {faults}: {said!r}", markup=False)
    console.print(f"{len(outcomes)} files, {sum(bool(each.faults) for each in outcomes)} faults")


if __name__ == "__main__":
    sys.exit(main())
