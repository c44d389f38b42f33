"""Set-up that every test shares: torchvision's operators, before anything imports it, hypothesis, pytest's fixtures."""

import os

from tests.shared import profiles
from tests.shared import torchvision_ops as torchvision_ops

profiles.load()
for name in ("COLUMNS", "FORCE_COLOR"):  # of the shell that runs the tests: tables follow them
    os.environ.pop(name, None)

pytest_plugins = ("pytester",)
