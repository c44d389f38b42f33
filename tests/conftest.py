"""Set-up that every test shares: torchvision's operators, before anything imports it, hypothesis, terminal, chance."""

import os
import random

import numpy as np
import pytest
import torch

from tests.shared import profiles
from tests.shared import torchvision_ops as torchvision_ops

profiles.load()

pytest_plugins = ("pytester",)

TOLD_OF_THE_TERMINAL = (
    "AUTOINIT_DEBUG", "COLORTERM", "COLUMNS", "FORCE_COLOR", "GITHUB_WORKSPACE", "JUPYTER_COLUMNS", "JUPYTER_LINES",
    "LINES", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE",
)  # fmt: skip
for name in TOLD_OF_THE_TERMINAL:
    os.environ.pop(name, None)
os.environ["TERM"] = "xterm"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Every test, and what its fixtures make, draws the same numbers whichever tests ran before it."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
