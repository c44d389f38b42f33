"""The one line that says how a check went; shared by every format that people read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from autoinit.checking.findings import CheckFailure, CheckResult, CheckRun
from autoinit.reporting import _wording as wording

BASELINE = "baseline"


def summary(run: CheckRun, hint: str = "") -> str:
    """`3 errors, 1 warning, 12 info in 54 layers; 2 suppressed by the baseline`.

    hint: said behind the number of infos, where these are not shown.
    """
    layers = wording.plural(sum(result.layers for result in run.results), "layer")
    looked = layers if len(run.results) == 1 else f"{layers} of {len(run.results)} models"
    if not run.results:
        parts = ["nothing was checked"]
    elif any(run.counts.values()):
        parts = [f"{counted(run.counts, hint)} in {looked}"]
    else:
        parts = [f"clean: no findings in {looked}"]
    parts += suppressed(*run.results)
    unused = sum(len(result.unused_ignores) for result in run.results)
    if unused:
        parts.append(wording.plural(unused, "unused ignore"))
    if run.failures:
        parts.append(f"{wording.plural(len(run.failures), 'model')} could not be checked")
    return "; ".join(parts)


def counted(counts: Mapping[str, int], hint: str = "") -> str:
    """`3 errors, 1 warning, 12 info`, without what there is none of; `clean` where there is nothing."""
    words = []
    for severity, number in counts.items():
        noun = "info" if severity == "info" else severity if number == 1 else f"{severity}s"
        if number:
            words.append(f"{number} {noun}{hint if severity == 'info' else ''}")
    return ", ".join(words) or "clean"


def suppressed(*results: CheckResult) -> list[str]:
    """How many findings the baseline took out, and how many the ignores: at most one phrase for both."""
    by = Counter(
        "the baseline" if each.by == BASELINE else "ignores" for result in results for each in result.suppressed
    )
    words = [f"{by[source]} by {source}" for source in ("the baseline", "ignores") if by[source]]
    return [", ".join(words).replace(" by ", " suppressed by ", 1)] if words else []


def reason(failure: CheckFailure) -> str:
    """Why a model could not be checked, without its name at the beginning."""
    return failure.error.removeprefix(f"{failure.model}:").strip()
