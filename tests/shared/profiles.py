"""How hypothesis draws: always the same examples in the suite, new ones in `benchmarks/explore.py`.

`suite` is loaded for every test; `pytest --hypothesis-profile=explore --hypothesis-seed=N` draws anew for each N.
"""

from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis.internal.conjecture import providers
from hypothesis.internal.conjecture.engine import ConjectureRunner

SUITE, EXPLORE = "suite", "explore"


def load() -> None:
    """Register both profiles and load `suite`.

    Derandomised or seeded, hypothesis still mixes in the numbers and strings that it finds in the source of whatever
    modules are loaded by then: examples would differ with every change of the package, and with the tests run before.
    It also makes examples of others, by what parts of them have in common; that is told by hashes, some of them of
    addresses, so that the state of Python's caches would change the examples: derandomised, every one is drawn.
    The suite shows what fails as drawn, since shrinking takes minutes; no check of how long drawing takes can fail it.
    """
    providers._get_local_constants = lambda: providers._local_constants  # empty, as nothing fills it
    ConjectureRunner.generate_mutations_from = _mutate  # type: ignore[method-assign]
    common = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
    settings.register_profile(SUITE, common, derandomize=True, phases=[Phase.explicit, Phase.generate])
    settings.register_profile(EXPLORE, common, derandomize=False, phases=[Phase.generate, Phase.shrink])
    settings.load_profile(SUITE)


_mutated = ConjectureRunner.generate_mutations_from


def _mutate(runner: ConjectureRunner, example: Any) -> None:
    if not runner.settings.derandomize:
        _mutated(runner, example)
