"""Writing a plan: the only code that changes weights. All or nothing.

Everything that can be known to fail is checked before the first write. Then:

- Where all that is to be written takes at most `BACKUP_BYTES`, it is copied first, and any failure or interrupt puts
  every byte back.
- Larger models get no copy, so that writing costs little memory beyond the model's own. An interrupt then waits
  until the model is written. A failure that no check foresaw (the machine's, such as a lost device) raises
  ApplyError, which names the layers that were written, begun and not reached.
"""

from __future__ import annotations

import operator
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch

from autoinit import provenance
from autoinit.errors import ApplyError, ArgumentError, TrainedModelError
from autoinit.models import ModelView
from autoinit.plans.plan import Plan
from autoinit.tensors.measuring import WeightStats
from autoinit.tensors.process_state import tensors_on_cpu
from autoinit.writing import _filling as filling
from autoinit.writing import reparametrised
from autoinit.writing._preflight import Targets, WeightWrite, preflight
from autoinit.writing.trained import training_signs

BACKUP_BYTES = 64 * 2**20
"""Up to so many bytes of weights are copied before they are written."""


@dataclass(frozen=True)
class Written:
    """What `write` did.

    Attributes:
        before, after: statistics by layer name, of every layer in the plan whose weight has values, the effective
            weight where it is parametrised; the same in both for a layer that was not written. Empty without `measure`.
        seed: of the values.
        notes: weaker signs that the model was trained.
        seconds: checking, writing and measuring.
    """

    before: Mapping[str, WeightStats]
    after: Mapping[str, WeightStats]
    seed: int
    notes: tuple[str, ...] = ()
    seconds: float = 0.0


def write(
    plan: Plan, view: ModelView, seed: int | None = None, *, measure: bool = True, force: bool = False
) -> Written:
    """Gives every planned weight its values and sets the biases of planned layers to zero.

    Args:
        plan: layers with another status than `planned` are not touched.
        view: of the model that was planned, or of another with the same weights.
        seed: of the values, any integer. None takes one number from torch's default generator, and that is all that
            happens to torch's random state.
        measure: whether to tell the statistics before and after.
        force: whether to write a model that looks trained.

    Raises:
        ArgumentError: the seed is no integer.
        PlanError: the plan does not fit the model.
        TrainedModelError: the model looks trained.
        ApplyError: writing failed.
    """
    started = time.perf_counter()
    chosen = _integer(seed)
    with tensors_on_cpu():
        targets, evidence = preflight(plan, view), training_signs(view, plan)
    if evidence.strong and targets.touched and not force:
        raise TrainedModelError(
            f"{plan.model} looks trained, and writing would destroy its weights: {'; '.join(evidence.strong)}. "
            f"Nothing was written. Pass force=True to write all the same."
        )
    with tensors_on_cpu():
        base = int(torch.randint(2**63 - 1, (), dtype=torch.int64)) if chosen is None else chosen
        before, after = _Writing(view, targets, base, measure).run()
    return Written(before, after, base, evidence.weak, time.perf_counter() - started)


def measure(plan: Plan, view: ModelView) -> dict[str, WeightStats]:
    """Statistics by layer name of every layer in the plan whose weight has values. Changes nothing."""
    with tensors_on_cpu():
        return _measure(view, preflight(plan, view, writing=False).all)


def _integer(seed: int | None) -> int | None:
    try:
        return None if seed is None else operator.index(seed)
    except TypeError:
        raise ArgumentError(f"seed is {seed!r}, a {type(seed).__name__}. Expected an integer or None.") from None


def _measure(view: ModelView, writes: tuple[WeightWrite, ...]) -> dict[str, WeightStats]:
    plain = {each.layer.name: each.tensor for each in writes if each.stored.kind == "plain"}
    found = filling.measure_all(plain)
    for each in writes:
        if each.stored.kind != "plain":
            stats = reparametrised.effective_stats(view, each.stored)
            if stats is not None:
                found[each.layer.name] = stats
    return found


@dataclass
class _Writing:
    """One run of `write` after its checks."""

    view: ModelView
    targets: Targets
    seed: int
    measure: bool
    undo: _Undo = field(init=False)

    def run(self) -> tuple[dict[str, WeightStats], dict[str, WeightStats]]:
        inverted = self._inverted
        jobs = [each.job(self.seed, self.measure) for each in self.targets.writes if each.layer.name not in inverted]
        jobs += [each.job(self.seed) for each in self.targets.rest]
        self.undo = _Undo(sum(each.nbytes for each in self.targets.touched) <= BACKUP_BYTES)
        stop = threading.Event()
        held = _Held(stop if self.undo.enabled else None)
        try:
            try:
                held.hold()
                return self._all_or_nothing(jobs, stop, held)
            finally:
                held.release()
        finally:  # once more, where another handler has raised in the middle of it
            held.release()
            held.deliver()

    def _all_or_nothing(
        self, jobs: list[filling.Job], stop: threading.Event, held: _Held
    ) -> tuple[dict[str, WeightStats], dict[str, WeightStats]]:
        progress = filling.Progress({job.name: len(job.draw.pieces) for job in jobs})
        try:
            self._back_up()
            written = self._write(jobs, progress, stop)
            if held.received and self.undo.enabled:
                raise KeyboardInterrupt
            return written
        except BaseException as error:
            try:
                self.undo.restore()
            except BaseException:  # of another handler, in the middle of it
                self.undo.restore()
                raise
            if held.received or not isinstance(error, Exception):
                raise
            raise ApplyError(self._account(error, progress)) from error

    @property
    def _inverted(self) -> set[str]:
        """The layers whose parametrization is inverted."""
        return {each.layer.name for each in self.targets.writes if each.stored.kind == "parametrized"}

    def _back_up(self) -> None:
        for tensor in self.targets.touched:
            self.undo.tensor(tensor)
        for each in self.targets.writes:
            for module, name in reparametrised.buffers(self.view, each.stored):
                self.undo.buffer(module, name)
            if each.stored.hooked:
                self.undo.attribute(*reparametrised.owner(self.view, each.stored))

    def _write(
        self, jobs: list[filling.Job], progress: filling.Progress, stop: threading.Event
    ) -> tuple[dict[str, WeightStats], dict[str, WeightStats]]:
        inline = {job.name for job in jobs if job.inline}
        apart = tuple(each for each in self.targets.all if each.layer.name not in inline) if self.measure else ()
        before = _measure(self.view, apart)
        self._invert()
        padded = [each.tensor[row] for each in self.targets.writes for row in each.padding]
        padded += [each.tensor[row] for each in self.targets.rest for row in each.padding]
        padding = [(row, row.clone()) for row in padded]
        first, then = filling.fill_all(jobs, progress=progress, stop=stop)
        for row, kept in padding:
            row.copy_(kept)
        for each in self.targets.writes:
            if each.stored.kind in ("weight_norm", "spectral_norm"):
                reparametrised.refresh(self.view, each.stored)
        for bias in self.targets.biases:
            bias.zero_()
        for tensor in self.targets.touched:
            torch.autograd.graph.increment_version(tensor)
        for each in self.targets.writes:
            plan = each.layer
            provenance.written(each.tensor, "autoinit", {"distribution": plan.distribution, "std": plan.std})
        for rest in self.targets.rest:
            told = {"distribution": rest.plan.distribution, "std": rest.plan.std, "mean": rest.plan.mean}
            provenance.written(rest.tensor, "autoinit", told)
        written = {each.layer.name for each in self.targets.writes}
        again = _measure(self.view, tuple(each for each in apart if each.layer.name in written))
        return self._ordered(before | first), self._ordered(before | first | then | again)

    def _invert(self) -> None:
        """Writes the weights whose parametrization must be inverted. First, for they are the ones that can refuse."""
        for each in self.targets.writes:
            if each.stored.kind != "parametrized":
                continue
            originals = [self.view.parameters[name].detach() for name in each.stored.written]
            values = reparametrised.inverse(self.view, each.stored, each.draw(self.seed), originals[0])
            for original, value in zip(originals, values, strict=True):
                original.copy_(value)

    def _ordered(self, stats: Mapping[str, WeightStats]) -> dict[str, WeightStats]:
        return {each.layer.name: stats[each.layer.name] for each in self.targets.all if each.layer.name in stats}

    def _account(self, error: BaseException, progress: filling.Progress) -> str:
        failure = f"{type(error).__name__}: {error}"
        if self.undo.enabled:
            return f"Writing failed ({failure}). Every weight is as it was."
        complete, partial = progress.complete, progress.partial
        inverted = self._inverted
        begun = {*complete, *partial, *inverted}
        untouched = [each.layer.name for each in self.targets.writes if each.layer.name not in begun]
        return (
            f"Writing failed ({failure}). The weights take more than {BACKUP_BYTES // 2**20} MB, so there was no "
            f"copy to put back. Written: {_listed(complete)}. Begun: {_listed(partial)}. Parametrised, perhaps "
            f"written: {_listed(sorted(inverted))}. Not reached: {_listed(untouched)}. Biases may keep their old "
            f"values. Write again, or load the model again."
        )


def _listed(names: list[str]) -> str:
    return ", ".join(names) if names else "none"


class _Undo:
    """Copies of what is about to be written, and the way back. Does nothing unless enabled."""

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self._tensors: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._buffers: list[tuple[torch.nn.Module, str, torch.Tensor | None]] = []
        self._attributes: list[tuple[torch.nn.Module, str, Any]] = []

    def tensor(self, tensor: torch.Tensor) -> None:
        if self.enabled:
            self._tensors.append((tensor, tensor.detach().clone()))

    def buffer(self, module: torch.nn.Module, name: str) -> None:
        old = module._buffers[name]
        self._buffers.append((module, name, old))
        if old is not None:
            self.tensor(old)

    def attribute(self, module: torch.nn.Module, name: str) -> None:
        self._attributes.append((module, name, getattr(module, name)))

    def restore(self) -> None:
        if not self.enabled:
            return
        for module, name, buffer in self._buffers:
            module._buffers[name] = buffer
        for tensor, copy in self._tensors:
            tensor.detach().copy_(copy)
        for module, name, value in self._attributes:
            setattr(module, name, value)


class _Held:
    """Ctrl-C (SIGINT) held back while a model is written, and gradients switched off. Both can be released twice.

    Python delivers it to the main thread alone; elsewhere none is held.

    Attributes:
        received: whether one came.
        stop: set then.
    """

    def __init__(self, stop: threading.Event | None) -> None:
        self._stop = stop
        self._gradients = torch.is_grad_enabled()
        self._previous = signal.getsignal(signal.SIGINT)
        main = threading.current_thread() is threading.main_thread()
        self._holds = main and callable(self._previous)
        self._received: list[tuple[int, FrameType | None]] = []

    @property
    def received(self) -> bool:
        return bool(self._received)

    def hold(self) -> None:
        if self._holds:
            signal.signal(signal.SIGINT, self._note)
        torch.set_grad_enabled(False)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received.append((number, frame))
        if self._stop is not None:
            self._stop.set()

    def release(self) -> None:
        if self._holds:
            signal.signal(signal.SIGINT, self._previous)
        torch.set_grad_enabled(self._gradients)

    def deliver(self) -> None:
        """Let the first interrupt that was held back take effect."""
        if self._received and callable(self._previous):
            self._previous(*self._received[0])
