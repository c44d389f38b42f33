"""Forwards of a shadow that leave the process, and what the shadow shares with the original, as they were."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.modules.module as torch_modules
import torch.utils._device

from autoinit.tensors.process_state import alone
from autoinit.tracing._keeping import Kept
from autoinit.tracing.shadow import Shadow

_GLOBAL_HOOKS = (
    "_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks", "_global_backward_pre_hooks",
)  # fmt: skip


@contextmanager
def undisturbed(shadow: Shadow) -> Iterator[None]:
    """Run the block, which calls the shadow's forward, so that nothing outside of the shadow changes.

    Hooks that a user has registered for all modules are left out, as those of single modules are. What forward
    switches on for the whole process is switched back, and what it writes to classes, and to objects that could not be
    copied, is undone. Other threads that run models in the meantime do so without their global hooks.

    Raises:
        TraceError: something was written that cannot be undone.
    """
    with alone(), _without_global_hooks():
        kept = Kept(shadow)
        switches = _positions()
        try:
            yield
        finally:
            _switch_back(switches)
            kept.restore()


@contextmanager
def _without_global_hooks() -> Iterator[None]:
    """The same dictionaries, emptied, so that handles which users hold go on working."""
    held = {name: getattr(torch_modules, name) for name in _GLOBAL_HOOKS}
    before = {name: dict(hooks) for name, hooks in held.items()}
    for hooks in held.values():
        hooks.clear()
    try:
        yield
    finally:
        for name, hooks in held.items():
            added = dict(hooks)
            hooks.clear()
            hooks.update(before[name] | added)


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _set_deterministic(held: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(held[0], warn_only=held[1])


def _autocast() -> dict[str, tuple[bool, torch.dtype]]:
    kinds = ("cpu", "cuda", "xpu", "mps") if torch.cuda.is_available() else ("cpu", "cuda", "xpu")
    found = {}
    for kind in kinds:
        with contextlib.suppress(RuntimeError):
            found[kind] = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
    return found


def _set_autocast(held: dict[str, tuple[bool, torch.dtype]]) -> None:
    for kind, (enabled, dtype) in held.items():
        torch.set_autocast_enabled(kind, enabled)
        torch.set_autocast_dtype(kind, dtype)


def _default_device() -> tuple[dict[str, Any], torch.device | None]:
    return dict(vars(torch._GLOBAL_DEVICE_CONTEXT)), torch.utils._device.CURRENT_DEVICE


def _set_default_device(held: tuple[dict[str, Any], torch.device | None]) -> None:
    """Put back what `torch.set_default_device` sets beside a function mode; itself it may lose modes, in torch 2.9."""
    context = vars(torch._GLOBAL_DEVICE_CONTEXT)
    context.clear()
    context.update(held[0])
    torch.utils._device.CURRENT_DEVICE = held[1]


def _set_inference_mode(held: bool) -> None:
    torch.inference_mode(held).__enter__()


def _set_environment(held: dict[str, str]) -> None:
    for name in os.environ.keys() - held.keys():
        del os.environ[name]
    os.environ.update({name: value for name, value in held.items() if os.environ.get(name) != value})


def _set_collecting(held: bool) -> None:
    (gc.enable if held else gc.disable)()


def _flag(owner: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], object]]:
    return lambda: getattr(owner, name), lambda held: setattr(owner, name, held)


def _stack(kind: str, *which: None) -> tuple[Callable[[], Any], Callable[[Any], object]]:
    """The modes that are entered: torch keeps a stack of those of functions, and one of those of dispatch.

    which: of the second, None for those that users enter.
    """
    count, pop = getattr(torch._C, f"_len_torch_{kind}_stack"), getattr(torch._C, f"_pop_torch_{kind}_stack")
    at, push = getattr(torch._C, f"_get_{kind}_stack_at"), getattr(torch._C, f"_push_on_torch_{kind}_stack")

    def get() -> list[Any]:
        return [at(number) for number in range(count())]

    def put(held: list[Any]) -> None:
        entered = get()  # held on to meanwhile: torch 2.9 fails where it pops a mode that nobody else holds
        for mode in reversed([each for each in entered if each not in held]):
            with contextlib.suppress(Exception):
                mode.__exit__(None, None, None)
        for _ in get():
            pop(*which)
        for mode in held:
            push(mode)

    return get, put


_SWITCHES: tuple[tuple[Callable[[], Any], Callable[[Any], object]], ...] = (
    (_deterministic, _set_deterministic),
    _flag(torch.utils.deterministic, "fill_uninitialized_memory"),
    (_autocast, _set_autocast),
    (torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled),
    _stack("function"),
    _stack("dispatch", None),
    (_default_device, _set_default_device),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.is_inference_mode_enabled, _set_inference_mode),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.is_anomaly_enabled, torch.set_anomaly_enabled),
    _flag(torch.backends.cudnn, "enabled"),
    _flag(torch.backends.cudnn, "benchmark"),
    _flag(torch.backends.cudnn, "deterministic"),
    _flag(torch.backends.cudnn, "allow_tf32"),
    _flag(torch.backends.cuda.matmul, "allow_tf32"),
    (torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.enable_flash_sdp),
    (torch.backends.cuda.mem_efficient_sdp_enabled, torch.backends.cuda.enable_mem_efficient_sdp),
    (torch.backends.cuda.math_sdp_enabled, torch.backends.cuda.enable_math_sdp),
    (np.geterr, lambda held: np.seterr(**held)),
    (lambda: dict(os.environ), _set_environment),
    (gc.isenabled, _set_collecting),
)
"""How each is read, and set."""


def _positions() -> list[Any]:
    return [_read(get) for get, _ in _SWITCHES]


def _read(get: Callable[[], Any]) -> Any:
    try:
        return get()
    except RuntimeError:  # torch refuses to tell where its older and its newer way to say it are mixed
        return None


def _switch_back(positions: list[Any]) -> None:
    for (get, put), held in zip(_SWITCHES, positions, strict=True):
        if _read(get) != held:
            put(held)
