"""A small network of linear layers and ReLU, at torch's default and as it should start."""

from torch import nn

WIDTH = 256


def build():
    """Both layers that feed a ReLU stand at torch's default."""
    return nn.Sequential(
        nn.Linear(WIDTH, WIDTH),
        nn.ReLU(),
        nn.Linear(WIDTH, WIDTH),
        nn.ReLU(),
        nn.Linear(WIDTH, 10),
    )


def build_well():
    model = build()
    for layer in (model[0], model[2]):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.xavier_normal_(model[4].weight)
    for layer in (model[0], model[2], model[4]):
        nn.init.zeros_(layer.bias)
    return model
