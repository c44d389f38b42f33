"""Set-up that every test shares: torchvision's operators, before anything imports it, hypothesis, random numbers."""

import os
import random

import numpy as np
import pytest
import torch

from tests.shared import profiles
from tests.shared import torchvision_ops as torchvision_ops

profiles.load()
for name in ("COLUMNS", "FORCE_COLOR"):  # of the shell that runs the tests: tables follow them
    os.environ.pop(name, None)

pytest_plugins = ("pytester",)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Every test, and what its fixtures make, draws the same numbers whichever tests ran before it."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
