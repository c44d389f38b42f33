"""Truth tables: for each model, what every weight layer feeds, derived by hand from reading the architecture."""

from tests.truth.cases import Case
from tests.truth.fixture_tables import FIXTURE_CASES
from tests.truth.rows import Row, rows_of
from tests.truth.transformer_tables import TRANSFORMER_CASES
from tests.truth.vision_tables import VISION_CASES

CASES: tuple[Case, ...] = (*VISION_CASES, *TRANSFORMER_CASES, *FIXTURE_CASES)

__all__ = ["CASES", "Case", "Row", "rows_of"]
