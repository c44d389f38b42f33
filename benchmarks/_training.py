"""Training plain networks on scikit-learn's digits, all seeds and learning rates of a setting at once."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from _methods import Task, initialise, rounded, spread
from _plain import ACTIVATIONS, Plain, activate
from _steps import Record
from torch.nn import functional as F

from autoinit.signal import InputSignal, propagate

DEPTHS = (10, 30, 60)
SEEDS = (0, 1, 2)
RATES = (0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01)
WIDTH, EPOCHS, BATCH, MOMENTUM = 64, 12, 16, 0.9
CALIBRATION = 128
"""Samples of the batch that LSUV and `data` get."""
REACHED = 0.9
HOPELESS = {3: 0.2, 6: 0.5}
"""The test accuracy below which a member is given up, by epoch."""
SETTINGS = tuple(f"{activation}_{depth}" for activation in ACTIVATIONS for depth in DEPTHS)
DEEPEST = tuple(f"{activation}_200" for activation in ACTIVATIONS)
SHALLOW = tuple(f"{activation}_{depth}" for activation in ("relu", "gelu", "tanh") for depth in (3, 5))
CONTRAST = ("contrast_relu_30", "contrast_gelu_30")
"""Half of the images with their contrast inverted, so that no linear function of the pixels tells the digits."""
REACHED_CONTRAST = 0.95
ADAM = tuple(f"adam_{activation}_30" for activation in ACTIVATIONS)
"""By Adam instead of SGD with momentum, at the same rates."""
BETAS, EPSILON = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class Digits:
    """1,797 images of 64 pixels, standardised as a whole: three quarters to train on, the others to test."""

    train: torch.Tensor
    train_labels: torch.Tensor
    test: torch.Tensor
    test_labels: torch.Tensor


def digits(*, contrast: bool = False) -> Digits:
    """Always the same. contrast: invert that of half of the images."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(pixels, dtype=torch.float32), torch.tensor(labels)
    x = (x - x.mean()) / x.std()
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(x), generator=generator)
    if contrast:
        x = x * (torch.randint(2, (len(x), 1), generator=generator) * 2 - 1)
    train, test = order.tensor_split([len(x) * 3 // 4])
    return Digits(x[train], y[train], x[test], y[test])


class Ensemble:
    """Fully connected `Plain` networks of one architecture, as batched products: member by member independent.

    adam: train them by Adam instead of SGD with momentum.
    """

    def __init__(self, members: Sequence[Plain], *, adam: bool = False) -> None:
        self.adam, self.steps = adam, 0
        self.activations = members[0].activations
        layers = zip(*([*each.hidden, each.head] for each in members), strict=True)
        self.weights, self.biases = [], []
        for same in layers:
            self.weights.append(torch.stack([each.weight.detach().t() for each in same]).requires_grad_())
            self.biases.append(torch.stack([each.bias.detach()[None] for each in same]).requires_grad_())
        self.speeds = [torch.zeros_like(each) for each in (*self.weights, *self.biases)]
        self.squares = [torch.zeros_like(each) for each in self.speeds] if adam else []

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, (members, samples, 10), of inputs (samples, 64)."""
        x = x.expand(len(self.weights[0]), *x.shape)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)
            if i < len(self.activations):
                x = activate(self.activations[i], x, -1)
        return x

    def keep(self, chosen: torch.Tensor) -> None:
        """Go on with these members only."""
        self.weights = [each.detach()[chosen].requires_grad_() for each in self.weights]
        self.biases = [each.detach()[chosen].requires_grad_() for each in self.biases]
        self.speeds = [each[chosen] for each in self.speeds]
        self.squares = [each[chosen] for each in self.squares]

    def accuracies(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Of each member."""
        with torch.no_grad():
            return (self(x).argmax(-1) == labels).float().mean(-1)

    def step(self, x: torch.Tensor, labels: torch.Tensor, rates: torch.Tensor) -> torch.Tensor:
        """One step, each member at its own rate; the losses before it."""
        parameters = [*self.weights, *self.biases]
        losses = self._losses(x, labels)
        grads = torch.autograd.grad(losses.sum(), parameters)
        (self._step_adam if self.adam else self._step_sgd)(parameters, grads, rates[:, None, None])
        return losses.detach()

    def _step_sgd(self, parameters: Sequence[torch.Tensor], grads: Sequence[torch.Tensor], rates: torch.Tensor) -> None:
        for each, speed, grad in zip(parameters, self.speeds, grads, strict=True):
            each.data.addcmul_(speed.mul_(MOMENTUM).add_(grad), rates, value=-1)

    def _step_adam(
        self, parameters: Sequence[torch.Tensor], grads: Sequence[torch.Tensor], rates: torch.Tensor
    ) -> None:
        self.steps += 1
        first, second = BETAS
        rates = rates / (1 - first**self.steps)
        unbiased = 1 - second**self.steps
        for each, speed, square, grad in zip(parameters, self.speeds, self.squares, grads, strict=True):
            speed.lerp_(grad, 1 - first)
            square.mul_(second).addcmul_(grad, grad, value=1 - second)
            each.data.addcmul_(speed / (square / unbiased).sqrt_().add_(EPSILON), rates, value=-1)

    def _losses(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of each member."""
        logits = self(x)
        repeated = labels.repeat(len(logits))
        return F.cross_entropy(logits.flatten(0, 1), repeated, reduction="none").view(len(logits), -1).mean(1)


def drawn(method: str, activation: str, depth: int, seed: int, data: Digits, *, adam: bool = False) -> Plain:
    """A network under one method."""
    torch.manual_seed(seed)
    model = Plain("mlp", activation, depth, WIDTH)
    initialise(method, model, data.train[:CALIBRATION], seed, Task(data.train, data.train_labels, adam=adam))
    return model


def train(
    ensemble: Ensemble, data: Digits, rates: torch.Tensor, seeds: torch.Tensor, epochs: int, goal: float = REACHED
) -> tuple[torch.Tensor, torch.Tensor]:
    """Train until one member of each seed has reached the goal on the test images, or the epochs are over.

    A member is given up when its loss is not finite, or at an epoch of `HOPELESS`.

    Args:
        ensemble: is trained.
        data: the digits.
        rates: of each member.
        seeds: of each member.
        epochs: at most.
        goal: a test accuracy.

    Returns:
        The best test accuracy of each member at the end of an epoch, and after how many epochs it reached, 0: did not.
    """
    best, reached = torch.zeros(len(rates)), torch.zeros(len(rates), dtype=torch.long)
    left = torch.arange(len(rates))
    generator = torch.Generator().manual_seed(0)
    for epoch in range(1, epochs + 1):
        for batch in torch.randperm(len(data.train), generator=generator).split(BATCH):
            losses = ensemble.step(data.train[batch], data.train_labels[batch], rates[left])
        accuracies = ensemble.accuracies(data.test, data.test_labels)
        best[left] = torch.maximum(best[left], accuracies)
        reached[left[accuracies >= goal]] = epoch
        going = (accuracies >= HOPELESS.get(epoch, 0)) & losses.isfinite()
        going &= ~torch.isin(seeds[left], seeds[reached > 0])
        ensemble.keep(going)
        left = left[going]
        if not len(left):
            break
    return best, reached


def trained(method: str, setting: str, seeds: Sequence[int] = SEEDS) -> Record:
    """One activation and depth under one method: test accuracies by seed and rate, and what propagation predicts."""
    activation, _, depth = setting.removeprefix("contrast_").removeprefix("adam_").rpartition("_")
    contrast, adam = setting in CONTRAST, setting in ADAM
    data = digits(contrast=contrast)
    goal = REACHED_CONTRAST if contrast else REACHED
    start = time.perf_counter()
    # What has vanished leaves numbers too small for full speed.
    torch.set_flush_denormal(True)
    try:
        models = [drawn(method, activation, int(depth), seed, data, adam=adam) for seed in seeds]
        initialised = time.perf_counter()
        ensemble = Ensemble([model for model in models for _ in RATES], adam=adam)
        rates, of_seed = torch.tensor(RATES).repeat(len(seeds)), torch.tensor(seeds).repeat_interleave(len(RATES))
        best, reached = train(ensemble, data, rates, of_seed, EPOCHS, goal)
    finally:
        torch.set_flush_denormal(False)
    best, reached = best.view(len(seeds), -1), reached.view(len(seeds), -1)
    accuracies = [[round(each, 4) for each in row] for row in best.tolist()]
    return {
        "library": method,
        "name": f"training:{setting}",
        "state": "done",
        "accuracies": dict(zip(map(str, seeds), accuracies, strict=True)),
        "epochs": dict(zip(map(str, seeds), reached.tolist(), strict=True)),
        "reached": int((reached > 0).any(1).sum()),
        "first_by_rate": (reached > 0).sum(0).tolist(),
        "predicted": predicted(models[0], data),
        "seconds": initialised - start,
        "training_seconds": time.perf_counter() - initialised,
    }


def predicted(model: Plain, data: Digits) -> Record:
    """What propagation says before any training, for the first seed's weights: why a setting trains or does not.

    gradients: second moments of the pre-activations' gradients, from the first layer to the last. collapse: the
    number of weights behind which two inputs look the same.
    """
    report = propagate(model, (data.train[:CALIBRATION],), inputs=input_signal(data.train))
    grads = [row.grad for row in report.values() if row.grad is not None]
    collapse = report.collapse
    return {
        "output": rounded(report.outputs[0].q),
        "gradients": [rounded(each) for each in grads],
        "spread": spread(grads),
        "collapse": collapse.depth if collapse is not None else None,
    }


def input_signal(x: torch.Tensor) -> InputSignal:
    """Second moment of images, and the covariance of two of them: any two digits have a margin in common."""
    q, samples = float(x.square().mean()), len(x)
    alike = (float(x.mean(0).square().mean()) * samples - q) / (samples - 1)
    return InputSignal(q, alike, alike)
