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
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch

from autoinit import provenance
from autoinit.errors import ApplyError, TrainedModelError, words_of
from autoinit.errors.arguments import refusal
from autoinit.models import ModelView
from autoinit.plans.how import How
from autoinit.plans.plan import Plan, Report
from autoinit.tensors.measuring import Moments, WeightStats, weight_moments
from autoinit.tensors.process_state import tensors_on_cpu
from autoinit.tensors.sharding import is_sharded
from autoinit.writing import _filling as filling
from autoinit.writing import reparametrised
from autoinit.writing._preflight import Targets, WeightWrite, preflight
from autoinit.writing._undoing import Held, Undo
from autoinit.writing.agreeing import PartMoments, Processes, Word, request, require_agreement, signs_of
from autoinit.writing.pieces import Pieces
from autoinit.writing.trained import TrainingSigns, training_signs

BACKUP_BYTES = 32 * 2**20
"""Up to so many bytes of weights are copied before they are written."""


@dataclass(frozen=True)
class Written:
    """What `write` did.

    Attributes:
        before, after: statistics by layer name, of every layer in the plan whose weight has values, the effective
            weight where it is parametrised; the same in both for a layer that was not written. Empty without `measure`.
        seed: of the values.
        notes: weaker signs that the model was trained, and what was done beside.
        reset: names of what has its values from its module's own method.
        seconds: checking, writing and measuring.
    """

    before: Mapping[str, WeightStats]
    after: Mapping[str, WeightStats]
    seed: int
    notes: tuple[str, ...] = ()
    reset: tuple[str, ...] = ()
    seconds: float = 0.0


def applied(plan: Plan, view: ModelView, seed: int | None, how: How) -> Report:
    """Writes a plan, and reports it. As `Plan.apply`, of a model that was looked at already."""
    done = write(plan, view, seed, how)
    others = tuple(each for each in plan.others if each.name not in done.reset)
    noted = replace(plan, notes=(*plan.notes, *done.notes), others=others)
    return Report(noted, done.before, done.after, done.seed, plan.seconds + done.seconds)


def write(plan: Plan, view: ModelView, seed: int | None = None, how: How | None = None) -> Written:
    """Gives every planned weight its values and sets the biases of planned layers to zero.

    Where the model is parted among processes, each writes the pieces that it holds, and all raise or none.

    Args:
        plan: layers with another status than `planned` are not touched.
        view: of the model that was planned, or of another with the same weights.
        seed: of the values, any integer. None takes one number from torch's default generator, and that is all that
            happens to torch's random state.
        how: how it is written.

    Raises:
        ArgumentError: the seed is no integer, or an argument has no meaning.
        PlanError: the plan does not fit the model.
        TrainedModelError: the model looks trained.
        ApplyError: writing failed.
    """
    started = time.perf_counter()
    how = How() if how is None else how
    pieces = Pieces(view, how.layout)
    together = Processes.of(pieces, partial=how.partial) if seed is None or how.measure else None
    targets, signs, base = _agreed(plan, view, pieces, seed, how, together)
    with tensors_on_cpu():
        try:
            done = _Writing(view, targets, base, how.measure).run()
        except BaseException:
            if together is not None and how.measure:
                together.moments([layer.name for layer in plan.layers], None)
            raise
        before, after = _of_all(plan, targets, *done, together if how.measure else None)
    notes = signs.weak
    if targets.left:
        notes += (
            f"without values of its own: {_listed(list(targets.left))} (rest='reset' finds no way to reset them)",
        )
    if targets.strange:
        notes += (
            f"not in the plan, and reset by their modules: {_listed(list(targets.strange))}. `to_empty` makes two of a "
            f"tied weight: tie them again, before they are written.",
        )
    reset = tuple(name for each in targets.resets for name in each.pieces)
    if reset:
        named = ", ".join((*reset[:4], *(["..."] if len(reset) > 4 else [])))
        notes += (f"reset by their modules' own methods: {len(reset)} ({named})",)
    return Written(_stats(before), _stats(after), base, notes, reset, time.perf_counter() - started)


def _agreed(
    plan: Plan, view: ModelView, pieces: Pieces, seed: int | None, how: How, together: Processes | None
) -> tuple[Targets, TrainingSigns, int]:
    """What is to be written here, the signs of training anywhere, and the seed.

    Raises:
        AutoinitError: something does not fit, here or in another process.
        TrainedModelError: the model looks trained.
    """
    targets, signs, found = None, TrainingSigns(), None
    chosen = None
    try:
        chosen = _integer(seed)
        with tensors_on_cpu():
            targets = preflight(plan, view, pieces, partial=how.partial, reset=how.rest == "reset")
            signs = training_signs(view, plan, pieces, reset=how.rest == "reset")
    except Exception as error:  # whatever it is, the other processes must hear of it
        if together is None:
            raise
        found = error
    base = _next_seed(torch.default_generator.clone_state()) if chosen is None else chosen
    if together is not None:
        words = together.words(Word.of(base, request(plan, chosen, how.alike), signs, found))
        if found is not None:
            raise found
        require_agreement(words)
        signs, base = signs_of(words), int(words[0].seed)
    assert targets is not None
    if signs.strong and targets.touched and not how.force:
        raise TrainedModelError(
            f"{plan.model} looks trained, and writing would destroy its weights: {'; '.join(signs.strong)}. "
            f"Nothing was written. Pass force=True to write all the same{_anyway(how, signs)}."
        )
    if chosen is None:
        _next_seed(torch.default_generator)
    return targets, signs, base


def _anyway(how: How, signs: TrainingSigns) -> str:
    if how.rest != "reset" or signs.certain:
        return ""
    return (
        ": right where the model comes from `to_empty`, for nothing has written these weights since they were allocated"
    )


def _next_seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**63 - 1, (), dtype=torch.int64, generator=generator, device="cpu"))


def _of_all(
    plan: Plan,
    targets: Targets,
    before: Mapping[str, Moments],
    after: Mapping[str, Moments],
    together: Processes | None,
) -> tuple[Mapping[str, Moments], Mapping[str, Moments]]:
    """The moments of whole weights, from those of the pieces that are here."""
    if together is None:
        return before, after
    parts = {
        each.layer.name: PartMoments(each.piece.region, before.get(each.layer.name), after.get(each.layer.name))
        for each in targets.all
    }
    found = together.moments([layer.name for layer in plan.layers], parts)
    return (
        {name: each for name, (each, _) in found.items() if each is not None},
        {name: each for name, (_, each) in found.items() if each is not None},
    )


def _stats(moments: Mapping[str, Moments]) -> dict[str, WeightStats]:
    return {name: each.stats() for name, each in moments.items()}


def measure(plan: Plan, view: ModelView) -> dict[str, WeightStats]:
    """Statistics by layer name of every layer in the plan whose weight has values. Changes nothing.

    Where the model is parted among processes and has values, all must call it.
    """
    pieces = Pieces(view)
    with tensors_on_cpu():
        targets = preflight(plan, view, pieces, writing=False)
        found = _measure(view, targets.all)
        has_values = not all(each.is_meta for each in view.held.values())
        together = Processes.of(pieces, partial=False) if has_values else None
        return _stats(_of_all(plan, targets, found, {}, together)[0])


def _integer(seed: int | None) -> int | None:
    try:
        return None if seed is None else operator.index(seed)
    except TypeError:
        raise refusal("seed", seed, "an integer or None") from None


def _measure(view: ModelView, writes: tuple[WeightWrite, ...]) -> dict[str, Moments]:
    real = [each for each in writes if each.stored.kind == "plain" and not each.tensor.is_complex()]
    plain = {each.layer.name: each.tensor for each in real}
    found = filling.measure_all(plain)
    for each in writes:
        if each.stored.kind != "plain":
            weight = reparametrised.effective_weight(view, each.stored)
            if weight is not None:
                found[each.layer.name] = weight_moments(weight)
    return found


@dataclass
class _Writing:
    """One run of `write` after its checks."""

    view: ModelView
    targets: Targets
    seed: int
    measure: bool
    undo: Undo = field(init=False)

    def run(self) -> tuple[dict[str, Moments], dict[str, Moments]]:
        inverted = self._inverted
        jobs = [each.job(self.seed, self.measure) for each in self.targets.writes if each.layer.name not in inverted]
        jobs += [each.job(self.seed) for each in self.targets.rest]
        self.undo = Undo(sum(each.nbytes for each in self.targets.touched) <= BACKUP_BYTES)
        stop = threading.Event()
        held = Held(stop if self.undo.enabled else None)
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
        self, jobs: list[filling.Job], stop: threading.Event, held: Held
    ) -> tuple[dict[str, Moments], dict[str, Moments]]:
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
    ) -> tuple[dict[str, Moments], dict[str, Moments]]:
        inline = {job.name for job in jobs if job.inline}
        apart = tuple(each for each in self.targets.all if each.layer.name not in inline) if self.measure else ()
        before = _measure(self.view, apart)
        self._invert()
        for reset in self.targets.resets:
            reset.write(self.seed)
        padded = [each.piece.row(row) for each in self.targets.writes for row in each.padding]
        padded += [each.piece.row(row) for each in self.targets.rest for row in each.padding]
        padding = [(row, torch.zeros_like(row) if self.targets.blank else row.clone()) for row in padded]
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
        for tensor in filter(is_sharded, self.view.held.values()):
            torch.autograd.graph.increment_version(tensor)
        for each in self.targets.writes:
            plan = each.layer
            provenance.written(each.tensor, "autoinit", {"distribution": plan.distribution, "std": plan.std})
        for rest in self.targets.rest:
            chosen = {"distribution": rest.plan.distribution, "std": rest.plan.std, "mean": rest.plan.mean}
            provenance.written(rest.tensor, "autoinit", chosen)
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

    def _ordered(self, stats: Mapping[str, Moments]) -> dict[str, Moments]:
        return {each.layer.name: stats[each.layer.name] for each in self.targets.all if each.layer.name in stats}

    def _account(self, error: BaseException, progress: filling.Progress) -> str:
        failure = f"{type(error).__name__}: {words_of(error)}"
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
