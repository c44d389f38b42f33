"""A library of models is a function and a row: specs, the help of commands and errors have it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.contributing.copying import Copy
from tests.contributing.guide import promised

TABLE, BUILDERS = "autoinit/loading/kinds.py", "autoinit/loading/_libraries.py"
BUILDER = '''def zoo(name: str, arguments: Mapping[str, Any], trust: bool, device: Device) -> nn.Module:
    """`zoo.make(name, **arguments)`."""
    return _built(f"zoo:{name}", lambda: _import("zoo", "zoo").make(name, **arguments), device)


def transformers('''
USED = """
    import json
    from pathlib import Path
    from tests.contributing.within import command

    Path("zoo.py").write_text(
        "from torch import nn\\ndef make(name, width=8):\\n    return nn.Linear({'small': 4}[name], width)\\n"
    )
    from autoinit.errors import LoadError
    from autoinit.loading import load
    try:
        load("tiger")
    except LoadError as error:
        refused = str(error)
    shown = json.loads(command("report", "zoo:small", "--arg", "width=6", "--format", "json"))
    helped = [command(each, "--help") for each in ("report", "check", "apply", "signal", "scaling")]
    print(json.dumps([shown["layers"][0]["shape"], refused, *helped]))
"""


def test_a_library_is_a_function_and_a_row(tmp_path: Path) -> None:
    """`nn.Linear(4, 6)` has a weight of 6 x 4."""
    copy = Copy(tmp_path)
    copy.edit(BUILDERS, "def transformers(", BUILDER)
    copy.edit(TABLE, '    "hf": ', '    "zoo": Library("ANIMAL", "autoinit.loading._libraries:zoo"),\n    "hf": ')
    shape, refused, *helped = json.loads(copy.run(USED))
    assert shape == [6, 4]
    assert refused.endswith(
        "a model is one of FILE.pt, FILE.pth, FILE.pt2, PACKAGE.MODULE:FACTORY, FILE.py:FACTORY, timm:NAME, "
        "torchvision:NAME, zoo:ANIMAL, hf:DIRECTORY_OR_MODEL_TYPE"
    )
    assert [each.count("zoo:ANIMAL") for each in helped] == [1] * 5
    assert promised("library of models", copy.touched)
