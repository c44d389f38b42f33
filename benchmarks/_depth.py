"""Deep networks without norms, trained one after the other: convolutions, VGG, residual, autoencoder, recurrence."""

import statistics
import time
from collections.abc import Sequence

import torch
from _methods import TITLES, Task, initialise
from _networks import NETWORKS, Autoencoder
from _steps import Record
from _training import CALIBRATION, MOMENTUM, SEEDS, digits
from rich.table import Table
from torch import Tensor, nn

EPOCHS, BATCH = 5, 32
RATES = {"sgd": (0.0003, 0.001, 0.003, 0.01, 0.03), "adam": (0.0001, 0.0003, 0.001, 0.003, 0.01)}
RUNS = tuple(f"{name}_{optimizer}" for optimizer in RATES for name in NETWORKS)
DEEP = "Best test scores and learning rates"
HOPELESS = {2: 0.2}
"""The test accuracy below which a run is given up, by epoch."""


def deep_trained(method: str, run: str, seeds: Sequence[int] = SEEDS) -> Record:
    """One network and optimiser under one method: the first seed at every rate, the other seeds at the best of them.

    Scores are test accuracies, of an autoencoder the share of the test images' variance that it gives back; of a run
    the best at the end of an epoch counts.
    """
    name, _, optimizer = run.rpartition("_")
    start = time.perf_counter()
    spent, scores = 0.0, {}
    first, *others = seeds
    weights, seconds = started(method, name, optimizer, first)
    spent += seconds
    for rate in RATES[optimizer]:
        scores[rate] = trained(name, weights, optimizer, rate)
    rate = max(scores, key=lambda rate: max(scores[rate]))
    best = [max(scores[rate])]
    for seed in others:
        weights, seconds = started(method, name, optimizer, seed)
        spent += seconds
        best.append(max(trained(name, weights, optimizer, rate)))
    return {
        "library": method,
        "name": f"deep:{run}",
        "state": "done",
        "scores": {f"{rate:g}": found for rate, found in scores.items()},
        "rate": rate,
        "best": best,
        "seconds": spent,
        "training_seconds": time.perf_counter() - start - spent,
    }


def task(name: str, optimizer: str) -> tuple[Task, Task]:
    """What is learnt by a network, and what is tested."""
    data, adam = digits(), optimizer == "adam"
    train, test = (images.view(-1, 1, 8, 8) for images in (data.train, data.test))
    if NETWORKS[name] is Autoencoder:
        return Task(train, train, squared_error, adam), Task(test, test, squared_error, adam)
    return Task(train, data.train_labels, adam=adam), Task(test, data.test_labels, adam=adam)


def started(method: str, name: str, optimizer: str, seed: int) -> tuple[nn.Module, float]:
    """A network as a method starts it, and the seconds that the method took."""
    train, _ = task(name, optimizer)
    torch.manual_seed(seed)
    model = NETWORKS[name]()
    return model, initialise(method, model, train.inputs[:CALIBRATION], seed, train)


def trained(name: str, start: nn.Module, optimizer: str, rate: float) -> list[float]:
    """The score at the end of each epoch, from the weights of `start`, which stays as it is; 0 where it diverged."""
    train, test = task(name, optimizer)
    model = NETWORKS[name]()
    model.load_state_dict(start.state_dict())
    if optimizer == "adam":
        stepping: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), rate)
    else:
        stepping = torch.optim.SGD(model.parameters(), rate, momentum=MOMENTUM)
    generator = torch.Generator().manual_seed(0)
    found: list[float] = []
    # What has vanished leaves numbers too small for full speed.
    torch.set_flush_denormal(True)
    try:
        for epoch in range(1, EPOCHS + 1):
            for batch in torch.randperm(len(train.inputs), generator=generator).split(BATCH):
                stepping.zero_grad()
                loss = train.loss(model(train.inputs[batch]), train.targets[batch])
                if not bool(loss.isfinite()):
                    return [*found, 0.0]
                loss.backward()
                stepping.step()
            with torch.no_grad():
                found.append(round(score(model(test.inputs), test.targets), 4))
            if test.targets.dim() == 1 and found[-1] < HOPELESS.get(epoch, 0):
                break
    finally:
        torch.set_flush_denormal(False)
    return found


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Half the square summed over pixels, mean over images."""
    return (outputs - targets).square().sum() / (2 * len(targets))


def score(outputs: Tensor, targets: Tensor) -> float:
    """Accuracy, or of images the share of their variance over samples that is given back."""
    if targets.dim() == 1:
        return float((outputs.argmax(-1) == targets).float().mean())
    missed = (outputs - targets).square().sum() / (targets - targets.mean(0)).square().sum()
    return float((1 - missed).nan_to_num(0.0).clamp(min=0.0))


def deep_totals(records: Sequence[Record]) -> list[Record]:
    """For each network, optimiser and method the best rate, and mean and standard error over seeds there."""
    found = []
    for each in records:
        if each["name"].startswith("deep:") and each["state"] == "done":
            best = each["best"]
            found.append(
                {
                    "part": "deep",
                    "network": each["name"].removeprefix("deep:"),
                    "method": each["library"],
                    "rate": each["rate"],
                    "score": statistics.mean(best),
                    "worst": min(best),
                    "standard_error": statistics.stdev(best) / len(best) ** 0.5 if len(best) > 1 else None,
                    "seeds": len(best),
                    "seconds": each["seconds"] / len(best),
                }
            )
    return found


def deep_table(totals: Sequence[Record]) -> Table:
    """The same for people: a row a network, a column a method."""
    methods = list(dict.fromkeys(each["method"] for each in totals))
    shown = Table(title=DEEP)
    shown.add_column("")
    for method in methods:
        shown.add_column(TITLES[method], justify="right")
    for name in dict.fromkeys(each["network"] for each in totals):
        by_method = {each["method"]: each for each in totals if each["network"] == name}
        cells = (by_method.get(method) for method in methods)
        shown.add_row(name, *("" if each is None else _scored(each) for each in cells))
    return shown


def _scored(total: Record) -> str:
    error = total["standard_error"]
    return f"{total['score']:.3f}{'' if error is None else f' ± {error:.3f}'} ({total['rate']:g})"
