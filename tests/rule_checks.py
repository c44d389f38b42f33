"""Running one rule on a model, for the tests of rules."""

from __future__ import annotations

from typing import Any

from torch import nn

from autoinit.checking.findings import Finding
from autoinit.checking.rules.registry import rules
from autoinit.checking.subject import subject
from autoinit.tracing import trace


def findings(code: str, model: nn.Module, inputs: Any = None, provenance: Any = None) -> list[Finding]:
    """What a rule finds."""
    looked_at = subject(model, trace(model, inputs), name="model", provenance=provenance)
    return list(rules()[code].look(looked_at))


def only(code: str, model: nn.Module, inputs: Any = None, provenance: Any = None) -> Finding:
    """The one thing that a rule finds."""
    found = findings(code, model, inputs, provenance)
    assert len(found) == 1, [str(each) for each in found]
    assert found[0].code == code
    assert found[0].message.startswith(f"{found[0].layer}: ")
    return found[0]
