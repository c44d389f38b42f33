"""Deep networks without norms for images of 8 x 8 pixels: convolutional, residual, recurrent, an autoencoder."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Convolutional(nn.Module):
    """`depth` - 1 convolutions of 3 x 3, 32 wide, with ReLU, then a linear layer over the mean of positions."""

    def __init__(self, depth: int, width: int = 32) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(nn.Conv2d(width if i else 1, width, 3, padding=1) for i in range(depth - 1))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images (samples, 1, 8, 8)."""
        for layer in self.hidden:
            x = F.relu(layer(x))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


class VGG19(nn.Module):
    """VGG-19 (Simonyan & Zisserman 2015, table 1, E), an eighth as wide, pooled after three of its five stages only."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for stage, (width, convolutions) in enumerate(((8, 2), (16, 2), (32, 4), (64, 4), (64, 4))):
            for _ in range(convolutions):
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
                before = width
            if stage < 3:
                layers.append(nn.MaxPool2d(2))
        linear = [nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)]
        self.layers = nn.Sequential(*layers, nn.Flatten(), *linear)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images (samples, 1, 8, 8)."""
        logits: Tensor = self.layers(x)
        return logits


class Residual(nn.Module):
    """A residual network of 20 blocks of two convolutions without norms."""

    def __init__(self, blocks: int = 20, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.first = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(blocks))
        self.second = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(blocks))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images (samples, 1, 8, 8)."""
        x = self.stem(x)
        for first, second in zip(self.first, self.second, strict=True):
            x = x + second(F.relu(first(x)))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


class Autoencoder(nn.Module):
    """20 linear layers with ReLU between them, 64 wide but for the 16 units in the middle."""

    def __init__(self, depth: int = 20, width: int = 64, code: int = 16) -> None:
        super().__init__()
        widths = [width] * (depth + 1)
        widths[depth // 2] = code
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """The images again, (samples, 1, 8, 8)."""
        made = x.flatten(1)
        for layer in self.layers[:-1]:
            made = F.relu(layer(made))
        image: Tensor = self.layers[-1](made).view_as(x)
        return image


class Recurrent(nn.Module):
    """One recurrent matrix of 64 units unrolled over 50 steps; the image's rows come in at the first 8."""

    def __init__(self, steps: int = 50, width: int = 64) -> None:
        super().__init__()
        self.steps = steps
        self.into, self.over, self.head = nn.Linear(8, width), nn.Linear(width, width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images (samples, 1, 8, 8), a row a step."""
        state = torch.tanh(self.into(x[:, 0, 0]))
        for step in range(1, self.steps):
            state = self.over(state) + (self.into(x[:, 0, step]) if step < 8 else 0.0)
            state = torch.tanh(state)
        logits: Tensor = self.head(state)
        return logits


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "convolutional_10": lambda: Convolutional(10),
    "convolutional_30": lambda: Convolutional(30),
    "convolutional_60": lambda: Convolutional(60),
    "vgg_19": VGG19,
    "residual_20": Residual,
    "autoencoder_20": Autoencoder,
    "recurrent_50": Recurrent,
}
