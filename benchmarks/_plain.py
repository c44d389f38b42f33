"""Plain networks without normalisation or shortcuts: what depth does to a signal shows in them undamped."""

import torch
from torch import nn
from torch.nn import functional as F

PIXELS, CLASSES = 64, 10
"""Of scikit-learn's digits: 8 x 8 pixels."""
MIXED = ("relu", "tanh", "gelu", "leaky_relu", "silu", "selu")
ACTIVATIONS = ("relu", "leaky_relu", "tanh", "gelu", "silu", "selu", "gated", "mixed")
"""LeakyReLU has slope 0.2. `gated` is a * sigmoid(b), a and b by one weight. `mixed` takes those of `MIXED` in turn."""


def activate(name: str, x: torch.Tensor, axis: int) -> torch.Tensor:
    """One activation.

    Args:
        name: one of `ACTIVATIONS` but `mixed`.
        x: any tensor.
        axis: of the features; `gated` halves it.
    """
    if name == "gated":
        return F.glu(x, axis)
    if name == "leaky_relu":
        return F.leaky_relu(x, 0.2)
    made: torch.Tensor = {"relu": F.relu, "tanh": torch.tanh, "gelu": F.gelu, "silu": F.silu, "selu": F.selu}[name](x)
    return made


class Plain(nn.Module):
    """`depth` weights with an activation between each two, at torch's own initialisation.

    Inputs have shape (samples, 64), or (samples, 1, 8, 8) for a convolutional one: 3 x 3 convolutions with zero
    padding, then the mean over positions and a linear layer.

    activations: name by name, `depth` - 1 of them.
    """

    def __init__(self, kind: str, activation: str, depth: int, width: int) -> None:
        super().__init__()
        cycle = MIXED if activation == "mixed" else (activation,)
        self.activations = tuple(cycle[i % len(cycle)] for i in range(depth - 1))
        made = width * 2 if activation == "gated" else width
        if kind == "cnn":
            hidden: list[nn.Module] = [nn.Conv2d(width if i else 1, made, 3, padding=1) for i in range(depth - 1)]
        else:
            hidden = [nn.Linear(width if i else PIXELS, made) for i in range(depth - 1)]
        self.hidden = nn.ModuleList(hidden)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, (samples, 10)."""
        for layer, activation in zip(self.hidden, self.activations, strict=True):
            x = activate(activation, layer(x), 1)
        if x.dim() == 4:
            x = x.mean((2, 3))
        logits: torch.Tensor = self.head(x)
        return logits


WIDTHS = {"mlp": 128, "cnn": 32}
_DEPTHS = {
    "mlp": {
        "relu": (10, 200), "leaky_relu": (60,), "tanh": (30, 200), "gelu": (100,), "silu": (30,), "selu": (200,),
        "gated": (60,), "mixed": (100,),
    },
    "cnn": {
        "relu": (60,), "leaky_relu": (30, 200), "tanh": (100,), "gelu": (10, 30), "silu": (60,), "selu": (100,),
        "gated": (30,), "mixed": (200,),
    },
}  # fmt: skip
NETS = {
    f"{kind}_{activation}_{depth}": (kind, activation, depth)
    for kind, by_activation in _DEPTHS.items()
    for activation, depths in by_activation.items()
    for depth in depths
}
"""Twenty, 10 to 200 weights deep: kind, activation and depth by name."""


def plain(name: str) -> Plain:
    """One of `NETS`."""
    kind, activation, depth = NETS[name]
    return Plain(kind, activation, depth, WIDTHS[kind])


def plain_shape(name: str) -> tuple[int, ...]:
    """Of one sample for one of `NETS`."""
    return (PIXELS,) if NETS[name][0] == "mlp" else (1, 8, 8)
