"""A two-layer classifier whose last layer, `head`, ends in many ways."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEATURES, HIDDEN, CLASSES = 8, 16, 5


class Classifier(nn.Module):
    """`end` is given the logits, and the module itself where it is registered as one."""

    def __init__(self, end: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.fc = nn.Linear(FEATURES, HIDDEN)
        self.head = nn.Linear(HIDDEN, CLASSES)
        self.end = end

    def forward(self, x: Tensor) -> object:
        return self.end(self.head(torch.relu(self.fc(x))))


class Trained(Classifier):
    """The loss is computed in forward; `end` is given the logits and the target."""

    def forward(self, x: Tensor, target: Tensor) -> object:
        return self.end(self.head(torch.relu(self.fc(x))), target)


SOFTMAX_ENDS: dict[str, Callable[[Tensor], object]] = {
    "softmax_module": nn.Softmax(dim=-1),
    "softmax_functional": lambda logits: F.softmax(logits, dim=-1),
    "softmax_torch": lambda logits: torch.softmax(logits, -1),
    "softmax_method": lambda logits: logits.softmax(-1),
    "softmax_of_temperature": lambda logits: F.softmax(logits / 0.7, dim=-1),
    "log_softmax_module": nn.LogSoftmax(dim=-1),
    "log_softmax_functional": lambda logits: F.log_softmax(logits, dim=-1),
    "log_softmax_torch": lambda logits: torch.log_softmax(logits, 1),
    "log_softmax_method": lambda logits: logits.log_softmax(dim=1),
}

OUTPUT_ENDS: dict[str, Callable[[Tensor], object]] = {
    "nothing": lambda logits: logits,
    "identity": nn.Identity(),
    "scaled": lambda logits: logits * 0.1,
    "tuple": lambda logits: (logits, logits.mean()),
    "dictionary": lambda logits: {"logits": logits, "prediction": logits.argmax(dim=-1)},
    "argmax": lambda logits: logits.argmax(dim=-1),
}

SIGMOID_ENDS: dict[str, Callable[[Tensor], object]] = {
    "sigmoid_module": nn.Sigmoid(),
    "sigmoid_functional": F.sigmoid,
    "sigmoid_torch": torch.sigmoid,
    "sigmoid_method": lambda logits: logits.sigmoid(),
}


class LogitsAndLoss(nn.Module):
    """Gives both, as transformers' models do."""

    def forward(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"loss": F.cross_entropy(logits.view(-1, CLASSES), target.view(-1)), "logits": logits}


SOFTMAX_LOSSES: dict[str, Callable[[Tensor, Tensor], object]] = {
    "cross_entropy_functional": F.cross_entropy,
    "cross_entropy_module": nn.CrossEntropyLoss(label_smoothing=0.1),
    "cross_entropy_and_logits": LogitsAndLoss(),
    "nll_of_log_softmax": lambda logits, target: F.nll_loss(F.log_softmax(logits, dim=-1), target),
}

LINEAR_LOSSES: dict[str, Callable[[Tensor, Tensor], object]] = {
    "bce_with_logits_functional": F.binary_cross_entropy_with_logits,
    "bce_with_logits_module": nn.BCEWithLogitsLoss(),
    "mse_functional": F.mse_loss,
    "mse_module": nn.MSELoss(),
}
