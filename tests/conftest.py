"""Set-up that every test shares: torchvision's operators, before anything imports it, hypothesis, pytest's fixtures."""

from tests import profiles
from tests import torchvision_ops as torchvision_ops

profiles.load()

pytest_plugins = ("pytester",)
