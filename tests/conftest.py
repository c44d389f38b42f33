"""Set-up that every test shares: torchvision's operators, before anything imports it, and pytest's own fixtures."""

from tests.shared import torchvision_ops as torchvision_ops

pytest_plugins = ("pytester",)
