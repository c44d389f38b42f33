"""Where a model is built: in memory, or as shapes alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

import torch

Device = Callable[[], contextlib.AbstractContextManager[object]]
"""What stands around the building of a model."""

IN_MEMORY: Device = contextlib.nullcontext
ON_META: Device = partial(torch.device, "meta")
