"""What must be measured in a process of its own: memory, and the cost of an import."""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

_IMPORT = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def memory(name: str, layers: int) -> dict[str, float]:
    """MB of the model's process before autoinit, and how far above that the first and the second call peak (Linux).

    The first call also loads the parts of torch that it is the first to use.
    """
    command = [sys.executable, str(HERE / "_processes.py"), name, str(layers)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def import_seconds(repeats: int) -> dict[str, float]:
    """Best of `repeats` fresh processes each, in turn: `import torch`, and `import torch, autoinit`."""
    torch_alone: list[float] = []
    both: list[float] = []
    for _ in range(repeats + (repeats > 1)):
        for modules, into in (("torch", torch_alone), ("torch, autoinit", both)):
            command = [sys.executable, "-c", _IMPORT.format(modules)]
            into.append(float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    # The first of each warms the disk cache.
    best_alone, best_both = (min(found[1:] or found) for found in (torch_alone, both))
    return {"torch": best_alone, "torch_and_autoinit": best_both, "over_torch": best_both - best_alone}


def status_mb(key: str) -> float:
    """One of the memory figures of this process (Linux)."""
    line = next(each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith(f"{key}:"))
    return int(line.split()[1]) / 1024


def _measure(name: str, layers: int) -> dict[str, float]:
    import gc

    from _models import construct

    from autoinit import autoinit

    model = construct(name, layers)
    gc.collect()
    found = {"before_mb": status_mb("VmRSS")}
    for call in ("first", "second"):
        # 5 resets the peak to what is resident now (Linux, proc_pid_clear_refs).
        Path("/proc/self/clear_refs").write_text("5")
        before = status_mb("VmRSS")
        autoinit(model, verbose=False)
        found[f"{call}_above_mb"] = status_mb("VmHWM") - before
    return found


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1], int(sys.argv[2]))))
