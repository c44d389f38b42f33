"""What becomes of a signal at a weight: a Gaussian field where there is a rule, else drawn weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from autoinit.ops import Trait
from autoinit.signal._attention import is_attention, probing, row_in
from autoinit.signal._metering import Meter
from autoinit.signal._recurrent import NO_STATE, is_recurrent, written_out
from autoinit.signal.predicting._beyond_moments import before_windows, behind_inputs
from autoinit.signal.predicting._fewer_features import some
from autoinit.signal.predicting.fields import TINY
from autoinit.signal.predicting.linear_maps import SMALL, LinearMap, NoMapError, features_last, linear_map
from autoinit.signal.predicting.meanfield import drawn_output, unit_moment
from autoinit.signal.predicting.replaying import Runner
from autoinit.theory.layouts import size
from autoinit.tracing.dataflow import Dataflow, Op, ParamUse

Choose = Callable[[Op, ParamUse, torch.Tensor, LinearMap], None]
"""May set the std of a weight, given its input."""


class Weighing:
    """The rule for weight operations and embeddings.

    Attributes:
        choose: is asked before each use of a weight.
        fresh: whether equal ids of a guessed input are different tokens.
        fewer: the shapes of what is drawn of wide layers and tables, where it is not all.
    """

    def __init__(
        self,
        dataflow: Dataflow,
        samples: int,
        generator: torch.Generator,
        meter: Meter,
        choose: Choose,
        *,
        fresh: bool,
        fewer: Mapping[Op, tuple[int, ...]],
    ) -> None:
        self.samples, self.generator, self.meter, self.choose, self.fresh = samples, generator, meter, choose, fresh
        self.fewer = fewer
        self._fed, self._pooled = behind_inputs(dataflow), before_windows(dataflow)

    def __call__(self, op: Op, run: Runner) -> Any:
        """The operation's value."""
        if Trait.LOOKUP in op.traits:
            return self._embedding(op, run)
        if op.op == "multi_head_attention" and op.is_module:
            return self._attention(op, run) if is_attention(run.leaf(op)) else self._with_weights(op, run)
        uses = [use for use in op.params if use.layout is not None]
        if len(uses) == 1:
            try:
                return self._mapped(op, uses[0], run)
            except NoMapError as error:
                run.values.notes[f"{op.op}: run with drawn weights, since {error}"] = None
        return self._with_weights(op, run)

    def _mapped(self, op: Op, use: ParamUse, run: Runner) -> torch.Tensor:
        x = _input(op, run, fed=op in self._fed)
        if op.shape is None:
            raise NoMapError("the output's shape is not known")
        shape = self.fewer.get(op, op.shape)
        linear = linear_map(op, use, x, shape, self.samples, _padding_mode(op, run))
        linear = replace(linear, stands_in=_standing(op, x), stands_out=op.shape[-1] / shape[-1])
        if op not in self._pooled:
            linear = replace(linear, mixed=None)
        self.choose(op, use, x, linear)
        if run.values.has_pairs(use):
            return self._with_weights(op, run)  # type: ignore[no-any-return]
        sigma = self._sigma(op, use, run)
        if shape != op.shape and sigma.numel() == op.shape[-1]:
            sigma = some(sigma.flatten(), shape[-1], -1)
        features = linear.features_in()
        small = features == 1 or features * _window(use) <= SMALL or op not in self._fed
        if small and not use.transform and use.factor == 1.0:
            return self._drawn(op, x, linear, sigma, run)
        if _is_centred(op, use, run):
            x = _without_mean(x, linear)
        y = drawn_output(x, linear, over_rows(sigma, linear), shape, self.generator)
        bias = _bias(op, run)
        if bias is not None and shape != op.shape:
            bias = some(bias, shape[-1], -1)
        return y if bias is None else y + _aligned(bias, op).to(y.dtype)

    def _sigma(self, op: Op, use: ParamUse, run: Runner) -> torch.Tensor:
        """Root mean square of the weight as the operation reads it.

        What is done to it on its way counts by a factor where that is known; else it is done, to drawn weights.
        """
        operand = op.operands.get(use.slot)
        if use.factor or operand is None:
            return run.values.sigma(use)
        weight: torch.Tensor = run[operand].detach()
        return weight.float().square().mean().sqrt()

    def _drawn(self, op: Op, x: torch.Tensor, linear: LinearMap, sigma: torch.Tensor, run: Runner) -> torch.Tensor:
        """With weights, whose scale is then corrected to what it is on average."""
        bias = _bias(op, run)
        around: torch.Tensor | float = 0.0 if bias is None else _aligned(bias, op)
        y: torch.Tensor = self._with_weights(op, run) - around
        wanted, found = unit_moment(x, linear) * float(sigma.square().mean()), float(y.detach().square().mean())
        made = (y * math.sqrt(wanted / found) if found > TINY else y) + around
        return made.requires_grad_() if made.is_leaf else made

    def _with_weights(self, op: Op, run: Runner) -> Any:
        """The operation itself, its weights drawn."""
        if not op.is_module:
            return run.call(op)
        if is_recurrent(run.leaf(op)):
            return self._recurrent(op, run)
        return run.call(op, run.values.of_module(op))

    def _recurrent(self, op: Op, run: Runner) -> Any:
        """A recurrent module with drawn weights; the meter sees what each of them makes."""
        names = {use.slot: use.name for use in op.params}

        def seen(slot: str, made: Sequence[torch.Tensor]) -> None:
            self.meter.see_steps(names[slot], made, NO_STATE)

        x = run[op.operands["input"]] if "input" in op.operands else None
        for use in op.params:
            if use.layout is not None and isinstance(x, torch.Tensor) and x.dim() > 1:
                rows = next(size for size, axis in zip(use.shape, use.layout.axes, strict=True) if axis == "o")
                self.choose(op, use, x, features_last(x.shape, rows, self.samples))
        module = run.leaf(op)
        module.__dict__["forward"] = lambda *args, **kwargs: written_out(module, seen)(*args, **kwargs)
        return run.call(op, run.values.of_module(op))

    def _embedding(self, op: Op, run: Runner) -> torch.Tensor:
        ids = run.arguments(op)[0][0]
        table = next((use for each in (op, *op.operands.values()) for use in each.params), None)
        if table is None or not isinstance(ids, torch.Tensor):
            return run.call(op)  # type: ignore[no-any-return]
        fresh = self.fresh and ids.numel() > 1 and bool((ids == ids.flatten()[0]).all()) and _from_input(op)
        made = run.values.table(table, ids, fresh=fresh)
        if op in self.fewer:
            made = made[..., : self.fewer[op][-1]].contiguous()
        return made.requires_grad_() if made.is_leaf else made

    def _attention(self, op: Op, run: Runner) -> Any:
        """`nn.MultiheadAttention`, each of its projections a field of its own; all else is torch's."""
        module: Any = run.leaf(op)
        uses = {_inside(use): use for use in op.params}
        weights = {name: use for name, use in uses.items() if use.layout is not None}
        batches: list[int] = []

        def probe(_linear: Any, args: tuple[Any, ...]) -> torch.Tensor:
            x, weight, bias = (*args, None)[:3]
            use, row = _viewed(weight, {module.get_parameter(name): use for name, use in weights.items()})
            if x.dim() == 3:  # tokens, batch, features; the last one has tokens * batch rows
                batches.append(x.shape[1])
            x = x.reshape(-1, batches[0], x.shape[-1])
            x = x.transpose(0, 1) if module.batch_first else x
            made = []
            for start in range(0, len(weight), module.embed_dim):
                part = self._projected(op, use, x, module.embed_dim, (row + start) // module.embed_dim, run)
                made.append(part if bias is None else part + bias[start : start + module.embed_dim])
                self.meter.see_layer(use.name, made[-1], -1)
            whole = torch.cat(made, -1)
            whole = whole.transpose(0, 1).contiguous() if module.batch_first else whole
            return whole if args[0].dim() == 3 else whole.reshape(-1, len(weight))

        module.__dict__["forward"] = probing(module, probe)
        return run.call(op, {name: run.values.parameter(use.name) for name, use in uses.items() if use.layout is None})

    def _projected(self, op: Op, use: ParamUse, x: torch.Tensor, features: int, part: int, run: Runner) -> torch.Tensor:
        linear = features_last(x.shape, features, self.samples)
        self.choose(op, use, x, linear)
        sigma = run.values.sigma(use)
        if sigma.numel() > features:
            sigma = sigma[part * features : (part + 1) * features]
        return drawn_output(x, linear, over_rows(sigma, linear), (*x.shape[:-1], features), self.generator)


CENTRED = 1e-3
"""A weight whose outputs' weights sum to less than this share of what independent ones would is centred."""


def _is_centred(op: Op, use: ParamUse, run: Runner) -> bool:
    """Whether a weight's rows have mean zero exactly, as standardised ones do: they do not see what inputs share."""
    operand = op.operands.get(use.slot)
    if use.factor != 0 or operand is None or use.layout is None or not use.layout.axes.startswith("oi"):
        return False
    rows = run[operand].detach().float().flatten(1)
    return bool(rows.sum(1).square().mean() < CENTRED * rows.square().sum(1).mean())


def _without_mean(x: torch.Tensor, linear: LinearMap) -> torch.Tensor:
    """Less the mean over features and positions of each sample, which stands for that of each window."""
    view = x.reshape(linear.opened)
    centred: torch.Tensor = view - view.mean(dim=linear.into.of("ct"), keepdim=True)
    return centred.reshape(x.shape)


def over_rows(sigma: torch.Tensor, linear: LinearMap) -> torch.Tensor:
    """Stds of output features in a shape that broadcasts over the output's view."""
    if sigma.numel() == 1:
        return sigma.reshape(())
    sizes = list(zip(linear.made, linear.out.letters, strict=True))
    for letters in ("gc", "c"):
        shape = [size if letter in letters else 1 for size, letter in sizes]
        if math.prod(shape) == sigma.numel():
            return sigma.reshape(shape)
    return sigma.square().mean().sqrt()


def _input(op: Op, run: Runner, *, fed: bool) -> torch.Tensor:
    signals = [each for slot, each in op.operands.items() if each.signal and slot != "bias"]
    if not fed and "input" in op.operands:
        signals = [op.operands["input"]]
    if len(signals) != 1:
        raise NoMapError(f"it has {len(signals)} inputs")
    x = run[signals[0]]
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        raise NoMapError("its input is no tensor of floats")
    return x


def _padding_mode(op: Op, run: Runner) -> str:
    """Of a convolution's module: the function that it calls has only zeros."""
    module = run.values.view.submodule(op.module) if op.is_module else None
    return getattr(module, "padding_mode", "zeros")


def _standing(op: Op, x: torch.Tensor) -> float:
    """How many features of an operation's input each that is drawn stands for."""
    whole = op.operands["input"].shape if op.op == "linear" and "input" in op.operands else None
    return whole[-1] / x.shape[-1] if whole else 1.0


def _window(use: ParamUse) -> int:
    return size(use.layout.axes, use.shape, "k") if use.layout is not None else 1


def _bias(op: Op, run: Runner) -> torch.Tensor | None:
    """The bias where there is one that is not zero."""
    if op.is_module:
        bias = next((run.values.parameter(use.name) for use in op.params if use.slot == "bias"), None)
    else:
        bias = run[op.operands["bias"]] if "bias" in op.operands else None
        beta = op.constants.get("beta", 1)
        if isinstance(bias, torch.Tensor) and beta != 1:
            bias = bias * beta
    return bias if isinstance(bias, torch.Tensor) and bool(bias.any()) else None


def _aligned(bias: torch.Tensor, op: Op) -> torch.Tensor:
    """A bias of features in the shape that adds to an output."""
    if bias.dim() == 1 and op.op.startswith("conv") and op.shape is not None:
        return bias.reshape(-1, *[1] * (len(op.shape) - 2))
    return bias


def _from_input(op: Op) -> bool:
    """Whether an embedding's ids come from the model's input."""
    waiting, seen = [op.operands[slot] for slot in ("input",) if slot in op.operands], set()
    while waiting:
        here = waiting.pop()
        if here.op == "input":
            return True
        if here not in seen:
            seen.add(here)
            waiting += here.operands.values()
    return False


def _inside(use: ParamUse) -> str:
    """The name that a parameter of `nn.MultiheadAttention` has in it."""
    return use.slot.replace("out_proj_", "out_proj.")


def _viewed(part: torch.Tensor, uses: Mapping[torch.Tensor, ParamUse]) -> tuple[ParamUse, int]:
    """The weight of which a tensor is some of the rows, and the first of them."""
    rows = ((use, row_in(part, whole)) for whole, use in uses.items())
    return next((use, row) for use, row in rows if row is not None)
