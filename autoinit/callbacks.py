"""`InitializationCheck`: the check at the start of a training run, alone or as a callback of a training framework."""

from __future__ import annotations

import importlib
import inspect
import sys
from typing import TYPE_CHECKING, Any

from torch import nn

from autoinit.checking.checker import check
from autoinit.checking.findings import CheckResult, Severity
from autoinit.errors import ArgumentError, InitializationError, PlanError
from autoinit.errors.arguments import refusal, require, shown
from autoinit.models import Model, ModelView
from autoinit.testing import CheckOptions, complaint
from autoinit.tracing.exported import is_exported

if TYPE_CHECKING:
    from typing_extensions import Unpack


_LIGHTNING = ("lightning.pytorch", "pytorch_lightning")


class InitializationCheck:
    """Stops a training run, before its first step, whose model does not start well.

        InitializationCheck()(model)                                             # in a training loop of one's own
        Trainer(callbacks=[InitializationCheck().lightning()])                   # Lightning
        Trainer(model, args, callbacks=[InitializationCheck().transformers()])   # transformers

    For models that are trained from scratch: pretrained weights are not held to how weights start.
    """

    def __init__(
        self,
        example_inputs: Any = None,
        *,
        fail_level: str = "error",
        submodule: str = "",
        allow_empty: bool = False,
        **options: Unpack[CheckOptions],
    ) -> None:
        """Note what to check; models come later.

        Args:
            example_inputs: as in `autoinit.check`; none takes a Lightning module's `example_input_array`.
            fail_level: the mildest severity that stops the run: `error`, `warning` or `info`.
            submodule: path of the part to check, for a model that has no forward of its own; the whole by default.
            allow_empty: accept a model in which there is nothing to check.
            **options: the other options of `autoinit.check`.

        Raises:
            ArgumentError: there is no such severity.
            TypeError: `autoinit.check` has no such option.
        """
        inspect.signature(check).bind(None, **options)
        require("submodule", submodule, str, "the path of a module")
        require("allow_empty", allow_empty, bool, "True or False")
        self.example_inputs = example_inputs
        self.fail_level = Severity.of(fail_level)
        self.submodule = submodule
        self.allow_empty = allow_empty
        self.options = options

    def __call__(self, model: Model) -> CheckResult:
        """Check a model.

        Raises:
            InitializationError: it has findings at or above the fail level, or there is nothing to check in it.
            TraceError: it could not be traced.
            ArgumentError: it is no model, or has no such submodule.
        """
        if not isinstance(model, nn.Module) and not is_exported(model):
            raise refusal("model", model, "a module, or an ExportedProgram")
        part = self._part(model)
        declared = getattr(part, "example_input_array", None)
        inputs = self.example_inputs if self.example_inputs is not None else declared
        options: CheckOptions = {"name": self._name(model), **self.options}
        result = check(part, inputs, fail_level=self.fail_level, **options)
        said = complaint(part, result, allow_empty=self.allow_empty)
        if said:
            raise InitializationError(said)
        return result

    def lightning(self) -> Any:
        """A `lightning.pytorch.Callback` that checks in `on_fit_start`, unless the fit goes on from earlier steps.

        Every process of a distributed run checks: they hold the same weights and stop together, where a failure of one
        alone would leave the others waiting for it. Parameters must be whole: for sharded ones (FSDP, DeepSpeed) call
        the check itself before the strategy gets the model.

        Raises:
            ArgumentError: Lightning is not installed.
        """

        def on_fit_start(_callback: object, trainer: Any, pl_module: nn.Module) -> None:
            if trainer.ckpt_path is None and trainer.global_step == 0:
                self(pl_module)

        loaded_first = sorted(_LIGHTNING, key=lambda name: name not in sys.modules)
        base = _framework(loaded_first, "lightning").Callback
        return _callback(base, {"on_fit_start": on_fit_start}, (InitializationCheck.lightning, (self,)))

    def transformers(self) -> Any:
        """A `transformers.TrainerCallback` that checks in `on_train_begin`, unless the run resumes.

        Every process of a distributed run checks, as with `lightning`.

        Raises:
            ArgumentError: transformers is not installed.
        """

        def on_train_begin(
            _callback: object, _args: Any, state: Any, _control: Any, *, model: nn.Module, **_more: Any
        ) -> None:
            if state.global_step == 0:
                self(model)

        base = _framework(["transformers"], "transformers").TrainerCallback
        return _callback(base, {"on_train_begin": on_train_begin}, (InitializationCheck.transformers, (self,)))

    def _name(self, model: Model) -> str:
        """What findings call the part: empty, for the class of the model, where it is the whole."""
        return f"{ModelView.of(model).class_name}.{self.submodule}" if self.submodule else ""

    def _part(self, model: Model) -> Model:
        if not self.submodule:
            return model
        view = ModelView.of(model)
        if not view.has_modules:
            raise ArgumentError(f"submodule={self.submodule!r}: an exported program has no modules; leave it out")
        try:
            return view.submodule(self.submodule)
        except PlanError as error:
            has = ", ".join(name for name, _ in view.module.named_children()) or "none"
            raise ArgumentError(
                f"submodule={shown(self.submodule)}: {view.class_name} has no such module; its children are {has}"
            ) from error


def _framework(names: list[str], package: str) -> Any:
    """The first of these modules that is installed."""
    for name in names:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise
    raise ArgumentError(f"{package} is not installed: pip install {package}")


def _callback(base: type, hooks: dict[str, Any], made_by: tuple[Any, tuple[InitializationCheck]]) -> Any:
    """An instance of a framework's callback class with these hooks, pickled as the call that made it."""
    return type("InitializationCallback", (base,), {**hooks, "__reduce__": lambda _callback: made_by})()
