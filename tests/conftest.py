"""Set-up that every test shares: torchvision's operators are defined before anything imports torchvision."""

from tests import torchvision_ops as torchvision_ops
