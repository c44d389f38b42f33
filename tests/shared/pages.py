"""What an HTML page holds, read without a browser."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any


def document_of(page: str) -> Any:
    """The JSON document that a page draws."""
    return json.loads(page.partition('id="data">')[2].partition("</script>")[0])


def without_layout(page: str) -> str:
    """A page without the library that lays its graph out."""
    return page.replace(_layout(), "")


@cache
def _layout() -> str:
    return files("autoinit.reporting.pages").joinpath("elk.bundled.js").read_text(encoding="utf-8")
