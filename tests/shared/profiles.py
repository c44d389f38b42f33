"""How hypothesis draws: always the same examples in the suite, new ones in `benchmarks/explore.py`.

`suite` is loaded for every test; `pytest --hypothesis-profile=explore --hypothesis-seed=N` draws anew for each N.
"""

from hypothesis import HealthCheck, Phase, settings
from hypothesis.internal.conjecture import providers

SUITE, EXPLORE = "suite", "explore"


def load() -> None:
    """Register both profiles and load `suite`.

    Derandomised or seeded, hypothesis still mixes in the numbers and strings that it finds in the source of whatever
    modules are loaded by then: examples would differ with every change of the package, and with the tests run before.
    The suite shows what fails as drawn, since shrinking takes minutes; no check of how long drawing takes can fail it.
    """
    providers._get_local_constants = lambda: providers._local_constants  # empty, as nothing fills it
    common = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
    settings.register_profile(SUITE, common, derandomize=True, phases=[Phase.explicit, Phase.generate])
    settings.register_profile(EXPLORE, common, derandomize=False, phases=[Phase.generate, Phase.shrink])
    settings.load_profile(SUITE)
