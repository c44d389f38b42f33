"""Set-up that every test shares: torchvision's operators, before anything imports it, hypothesis, pytest's fixtures."""

from tests.shared import profiles
from tests.shared import torchvision_ops as torchvision_ops

profiles.load()

pytest_plugins = ("pytester",)
