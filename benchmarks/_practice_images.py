"""Networks of images: VGG, ResNet, U-Net, autoencoder, VAE, a DCGAN pair, a detector."""

import functools
import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from _practice_task import (
    Practice,
    adam,
    error,
    few_images,
    ink,
    mean_loss,
    outputs,
    seen,
    sgd,
    stepped,
    supervised,
    unseen,
)  # fmt: skip
from torch import Tensor, nn
from torch.nn import functional as F


class VGG(nn.Module):
    """Ten 3 x 3 convolutions in three stages, then two linear layers."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for stage, (width, count) in enumerate(((16, 3), (32, 3), (64, 4))):
            for _ in range(count):
                layers.append(nn.Conv2d(before, width, 3, padding=1))
                layers += [nn.BatchNorm2d(width)] * norm
                layers.append(nn.ReLU())
                before = width
            if stage < 2:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Linear(256, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images (samples, 1, 8, 8)."""
        logits: Tensor = self.classifier(self.features(x).flatten(1))
        return logits


class Block(nn.Module):
    """A residual block: relu(x + norm(conv(relu(norm(conv(x))))))."""

    def __init__(self, width: int, norm: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=not norm)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=not norm)
        self.norm1, self.norm2 = (nn.BatchNorm2d(width) if norm else nn.Identity() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape of x."""
        made = F.relu(self.norm1(self.conv1(x)))
        return F.relu(x + self.norm2(self.conv2(made)))


class ResNet(nn.Module):
    """A stem, 12 blocks, the second half at half the resolution, and a linear head."""

    def __init__(self, norm: bool, blocks: int = 12, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1, bias=not norm)
        self.norm = nn.BatchNorm2d(width) if norm else nn.Identity()
        self.first = nn.Sequential(*(Block(width, norm) for _ in range(blocks // 2)))
        self.second = nn.Sequential(*(Block(width, norm) for _ in range(blocks - blocks // 2)))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images (samples, 1, 8, 8)."""
        x = self.first(F.relu(self.norm(self.stem(x))))
        x = self.second(F.avg_pool2d(x, 2))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


class Double(nn.Sequential):
    """Two convolutions with ReLU."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__(
            nn.Conv2d(before, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU()
        )


class UNet(nn.Module):
    """Three resolutions, joined by concatenation (Ronneberger et al. 2015)."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.down1, self.down2 = Double(1, width), Double(width, 2 * width)
        self.middle = Double(2 * width, 4 * width)
        self.up2, self.up1 = (nn.ConvTranspose2d(2 * each, each, 2, 2) for each in (2 * width, width))
        self.join2, self.join1 = Double(4 * width, 2 * width), Double(2 * width, width)
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Images (samples, 1, 8, 8) of images."""
        fine = self.down1(x)
        coarse = self.down2(F.max_pool2d(fine, 2))
        made = self.middle(F.max_pool2d(coarse, 2))
        made = self.join2(torch.cat([self.up2(made), coarse], 1))
        made = self.join1(torch.cat([self.up1(made), fine], 1))
        image: Tensor = self.head(made)
        return image


@functools.cache
def noisy(test: bool) -> tuple[Tensor, Tensor]:
    """Images with noise of std 1 / 2, and without."""
    clean = (unseen() if test else seen())[0]
    generator = torch.Generator().manual_seed(int(test))
    return clean + 0.5 * torch.randn(clean.shape, generator=generator), clean


class Autoencoder(nn.Module):
    """Linear layers 64-128-64-8-64-128-64 with ReLU."""

    def __init__(self) -> None:
        super().__init__()
        widths = (64, 128, 64, 8, 64, 128, 64)
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """Images (samples, 64) of images."""
        for number, layer in enumerate(self.layers):
            x = layer(x) if number in (2, 5) else F.relu(layer(x))
        return x


class VAE(nn.Module):
    """Encoder and decoder of two hidden layers, 8 latent variables (Kingma & Welling 2014)."""

    def __init__(self, latent: int = 8) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
        self.mean, self.log_variance = nn.Linear(64, latent), nn.Linear(64, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, 64), nn.ReLU(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The pixels, and mean and log-variance of the latent variables."""
        made = self.encoder(x)
        mean, log_variance = self.mean(made), self.log_variance(made)
        drawn = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        return self.decoder(drawn), mean, log_variance


def bound(made: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
    """The negative evidence bound but for a constant, nats an image: pixels are Gaussian of variance 1."""
    pixels, mean, log_variance = made
    reconstruction = 0.5 * (pixels - x).square().sum()
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
    return (reconstruction + divergence) / len(x)


def train_vae(model: nn.Module, rate: float) -> Iterator[Tensor]:
    """Random batches of images."""
    stepping, pixels = adam(model, rate), seen()[0].flatten(1)
    while True:
        x = pixels[torch.randint(len(pixels), (64,))]
        yield stepped(stepping, bound(model(x), x))


@torch.no_grad()
def judge_vae(model: nn.Module) -> float:
    """The bound on unseen images."""
    torch.manual_seed(0)
    pixels = unseen()[0].flatten(1)
    return float(bound(model(pixels), pixels))


class GAN(nn.Module):
    """A DCGAN pair (Radford et al. 2016) for images of 8 x 8 pixels; as one module, the pair of what `forward` runs."""

    def __init__(self, latent: int = 16, width: int = 16) -> None:
        super().__init__()
        self.generator = nn.Sequential(
            nn.ConvTranspose2d(latent, 4 * width, 2, bias=False), nn.BatchNorm2d(4 * width), nn.ReLU(),
            nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.ConvTranspose2d(2 * width, 1, 4, 2, 1, bias=False), nn.Tanh(),
        )  # fmt: skip
        self.discriminator = nn.Sequential(
            nn.Conv2d(1, 2 * width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 4, 2, 1, bias=False), nn.BatchNorm2d(4 * width), nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, 1, 2, bias=False),
        )  # fmt: skip

    def forward(self, z: Tensor) -> Tensor:
        """Logits of generated images."""
        logits: Tensor = self.discriminator(self.generator(z))
        return logits


def latents(count: int) -> Tensor:
    """Inputs of the generator."""
    return torch.randn(count, 16, 1, 1)


def train_gan(model: nn.Module, rate: float) -> Iterator[Tensor]:
    """The discriminator and the generator in turn; betas of the paper."""
    generator, discriminator = model.get_submodule("generator"), model.get_submodule("discriminator")
    of_g, of_d = (torch.optim.Adam(each.parameters(), rate, (0.5, 0.999)) for each in (generator, discriminator))
    real = ink()[0].view(-1, 1, 8, 8) * 2 - 1
    while True:
        fake = generator(latents(64))
        told = discriminator(real[torch.randint(len(real), (64,))])
        value = F.softplus(-told).mean() + F.softplus(discriminator(fake.detach())).mean()
        yield stepped(of_d, value)
        stepped(of_g, F.softplus(-discriminator(fake)).mean())


@torch.no_grad()
def judge_gan(model: nn.Module) -> float:
    """Frechet's distance of pixels between generated and unseen images: of Gaussians of their means and covariances."""
    model.eval()
    torch.manual_seed(0)
    made = model.get_submodule("generator")(latents(1000)).flatten(1).double()
    real = (ink()[1] * 2 - 1).double()
    first, second = torch.cov(made.T), torch.cov(real.T)
    shared = torch.linalg.eigvals(first @ second).real.clamp(min=0).sqrt().sum()
    return float((made.mean(0) - real.mean(0)).square().sum() + first.trace() + second.trace() - 2 * shared)


class Detector(nn.Module):
    """A convolutional trunk and a tower as RetinaNet's (Lin et al. 2017), a logit for each place of the grid."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1), nn.ReLU(),
        )  # fmt: skip
        tower = [layer for _ in range(3) for layer in (nn.Conv2d(width, width, 3, padding=1), nn.ReLU())]
        self.tower = nn.Sequential(*tower, nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (samples, 1, 12, 12) of images (samples, 1, 24, 24)."""
        logits: Tensor = self.tower(self.trunk(x))
        return logits


@functools.cache
def scenes(test: bool) -> tuple[Tensor, Tensor]:
    """Images with a cross or two among rings and noise, and a 1 at each place of a cross: 1 in 100."""
    generator = torch.Generator().manual_seed(int(test))
    count = 512
    cross = torch.tensor([[1.0, 0, 1], [0, 1, 0], [1, 0, 1]])
    ring = torch.tensor([[1.0, 1, 1], [1, 0, 1], [1, 1, 1]]) * 5 / 8
    x = 0.4 * torch.randn(count, 1, 24, 24, generator=generator)
    y = torch.zeros(count, 1, 12, 12)
    for number in range(count):
        places = torch.randint(11, (5, 2), generator=generator).tolist()
        crosses = int(torch.randint(1, 3, (), generator=generator))
        for index, (row, column) in enumerate(places):
            x[number, 0, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3] += cross if index < crosses else ring
        for row, column in places[:crosses]:
            y[number, 0, row, column] = 1
    return x, y


def focal(logits: Tensor, targets: Tensor) -> Tensor:
    """Focal loss (Lin et al. 2017, eq. 5), alpha 0.25, gamma 2, over the number of positives."""
    wrong = torch.where(targets == 1, 1 - logits.sigmoid(), logits.sigmoid())
    weight = torch.where(targets == 1, 0.25, 0.75) * wrong.square()
    each = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (weight * each).sum() / targets.sum()


def judge_detector(model: nn.Module) -> float:
    """1 - average precision over all places of unseen images."""
    x, y = scenes(test=True)
    found = y.flatten()[outputs(model, x).flatten().argsort(descending=True)]
    precision = found.cumsum(0) / torch.arange(1, len(found) + 1)
    return 1 - float((precision * found).sum() / found.sum())


def retinanet(model: nn.Module) -> None:
    """The tower N(0, 0.01^2), its last bias such that a place holds an object with probability 0.01.

    The trunk, which the paper takes from a trained ResNet, starts as a ResNet does.
    """
    for part, write in (
        ("trunk", nn.init.kaiming_normal_),
        ("tower", lambda weight: nn.init.normal_(weight, std=0.01)),
    ):
        layers = [each for each in model.get_submodule(part).modules() if isinstance(each, nn.Conv2d)]
        for each in layers:
            write(each.weight)
            nn.init.zeros_(each.bias)
    nn.init.constant_(layers[-1].bias, -math.log((1 - 0.01) / 0.01))


IMAGES = {
    "vgg": Practice(
        "VGG-like, 10 convolutions, no norm", "error", lambda: VGG(norm=False), supervised(seen, optimizer=sgd),
        error(unseen), few_images, (0.003, 0.01, 0.03, 0.1), 200, "vgg", "torchvision's vgg.py",
    ),
    "vgg_bn": Practice(
        "VGG-like, batch norm", "error", lambda: VGG(norm=True), supervised(seen, optimizer=sgd),
        error(unseen), few_images, (0.003, 0.01, 0.03, 0.1), 100, "vgg", "torchvision's vgg.py",
    ),
    "resnet": Practice(
        "ResNet, 12 blocks, no norm", "error", lambda: ResNet(norm=False), supervised(seen, optimizer=sgd),
        error(unseen), few_images, (0.001, 0.003, 0.01, 0.03, 0.1), 100, "fixup", "Zhang et al. 2019",
    ),
    "resnet_bn": Practice(
        "ResNet, 12 blocks, batch norm", "error", lambda: ResNet(norm=True), supervised(seen, optimizer=sgd),
        error(unseen), few_images, (0.003, 0.01, 0.03, 0.1), 80, "resnet", "He et al. 2015, torchvision's resnet.py",
    ),
    "unet": Practice(
        "U-Net, denoising", "squared error", UNet, supervised(lambda: noisy(test=False), F.mse_loss),
        mean_loss(lambda: noisy(test=True), F.mse_loss), lambda: noisy(test=False)[0][:64], (0.003, 0.01, 0.03), 150,
        "unet", "Ronneberger et al. 2015",
    ),
    "autoencoder": Practice(
        "Autoencoder, 6 layers", "squared error", Autoencoder,
        supervised(lambda: (seen()[0].flatten(1),) * 2, F.mse_loss),
        mean_loss(lambda: (unseen()[0].flatten(1),) * 2, F.mse_loss), lambda: few_images().flatten(1),
        (0.001, 0.003, 0.01), 300, None, "Xavier: Glorot & Bengio 2010",
    ),
    "vae": Practice(
        "VAE", "nats", VAE, train_vae, judge_vae, lambda: few_images().flatten(1), (0.001, 0.003, 0.01), 300,
        "normal(0.01)", "Kingma & Welling 2014, section 5",
    ),
    "dcgan": Practice(
        "DCGAN pair", "Frechet distance", GAN, train_gan, judge_gan,
        lambda: torch.randn(64, 16, 1, 1, generator=torch.Generator().manual_seed(7_919)),
        (0.0003, 0.001, 0.003, 0.01), 120, "dcgan", "Radford et al. 2016",
    ),
    "detector": Practice(
        "Detector's head, 1 positive in 100", "1 - average precision", Detector,
        supervised(lambda: scenes(test=False), focal, batch=16), judge_detector, lambda: scenes(test=False)[0][:64],
        (0.003, 0.01, 0.03), 150, retinanet, "Lin et al. 2017, section 4.1",
    ),
}  # fmt: skip
