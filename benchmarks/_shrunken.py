"""Small versions of configurations: fewer layers, experts and words, so that real weights fit into memory."""

import re
from collections.abc import Mapping
from typing import Any

LAYERS, EXPERTS, WORDS = 2, 4, 4096

_COUNTS = re.compile(r"(^|_)(num|n)_.*(layers?|blocks?)$|^(n_layers?|depth|layers|num_layers)$|_layers$")
_EXPERTS = re.compile(r"^(num|n)_.*experts$|^(num|n)_experts")
_PER_TOKEN = re.compile(r"per_tok|top_?k|shared")


def shrunken(config: Any) -> Any:
    """The same configuration, smaller; parts of it too.

    Raises whatever the configuration's class raises for values that do not go together.
    """
    return type(config).from_dict(_shrunken(config.to_dict()))


def _shrunken(values: Mapping[str, Any]) -> dict[str, Any]:
    long = {value for name, value in values.items() if _is_count(name, value) and value > LAYERS}
    return {name: _one(name, value, long) for name, value in values.items()}


def _is_count(name: str, value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and bool(_COUNTS.search(name))


def _one(name: str, value: Any, long: set[int]) -> Any:
    if isinstance(value, Mapping):
        return _shrunken(value) if name.endswith("config") else value
    if _is_count(name, value):
        return min(value, LAYERS)
    if isinstance(value, int) and not isinstance(value, bool):
        if _EXPERTS.search(name) and not _PER_TOKEN.search(name):
            return min(value, EXPERTS)
        if name == "vocab_size":
            return min(value, WORDS)
        if name.endswith(("token_id", "token_index")):
            return value % WORDS
    if isinstance(value, list):
        if name == "depths":
            return [min(each, LAYERS) if isinstance(each, int) else each for each in value]
        if len(value) in long:  # one entry a layer
            return [value[0], value[-1]]
        if name.endswith("token_id"):
            return [each % WORDS if isinstance(each, int) else each for each in value]
    return value
