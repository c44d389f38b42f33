"""Predicted against measured signals; see `_predictions.py`, whose arguments these are.

python benchmarks/signal.py --models 'torchvision:resnet*' --init ours --json signal.json
"""

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path

if __name__ == "signal":
    # A script in this folder, or a library for it, has asked for the standard library's module of that name.
    spec = PathFinder.find_spec(
        "signal", [each for each in sys.path if Path(each or ".").resolve() != Path(__file__).parent]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules["signal"] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules["signal"])
elif __name__ == "__main__":
    from _predictions import main

    sys.exit(main())
