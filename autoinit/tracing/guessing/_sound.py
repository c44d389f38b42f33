"""Sound: waves, and features of short frames."""

from __future__ import annotations

import torch

from autoinit.tracing.guessing._request import BATCH, LENGTH, Made, Request

_NEAR = ("audio", "speech", "sound", "acoustic", "feature")
_MELS = (
    "num_mel_bins", "n_mels", "num_mels", "mel_bins", "n_mel_channels", "input_feat_per_channel", "input_feat_size",
    "feature_projection_input_dim", "feature_size", "input_dim", "decoder_mel_bins", "input_channels", "input_size",
)  # fmt: skip
_FRAMES = 400
_FEATURES = 128
SAMPLES = 15360  # a multiple of the usual lengths of a frame: 240, 256, 320, 480, 512, 1920


def features(request: Request, _name: str) -> Made:
    """(batch, frames, features), or with the features before the frames where a convolution over time comes first."""
    kind = request.subject.first_kind(("conv1d", "conv2d", "linear"), _NEAR)
    bins, frames = width(request), _frames(request)
    over_time, over_features = (BATCH, bins, frames), (BATCH, frames, bins)
    one_channel = (BATCH, 1, frames, bins)
    if kind == "conv1d" and request.subject.first((kind,), _NEAR).in_channels == bins:
        return (over_time, over_features, one_channel)
    return (over_features, over_time, one_channel)


def width(request: Request) -> int:
    """How many features a frame has: what the first weight takes, if the configuration names that or nothing else."""
    first = request.subject.first(("conv1d", "conv2d", "linear"), _NEAR)
    taken = getattr(first, "in_features", getattr(first, "in_channels", None))
    named = [number for name in _MELS if (number := request.settings.number(name, near=_NEAR)) is not None]
    if taken in named or (taken is not None and taken > 1 and not named):
        return int(taken)
    return named[0] if named else _FEATURES


def _frames(request: Request) -> int:
    positions = request.settings.number("max_source_positions", near=_NEAR)
    if positions is not None:
        return 2 * positions
    return request.settings.number("nb_max_frames", near=_NEAR) or _FRAMES


def waves(request: Request, _name: str) -> Made:
    """(batch, samples), or with a channel; or features, where the configuration counts mel bins."""
    mels = request.settings.number("num_mel_bins", near=_NEAR)
    frames = request.settings.number("max_length", near=_NEAR)
    if mels and frames and request.subject.first_kind(("conv1d", "conv2d", "linear"), _NEAR) == "conv2d":
        return ((BATCH, frames, mels),)
    channels = request.settings.number("audio_channels", "num_channels", near=_NEAR) or 1
    flat, with_channel = (BATCH, SAMPLES), (BATCH, channels, SAMPLES)
    codec = request.settings.number("codebook_size", "audio_channels", "hop_length", "upsampling_ratios")
    forms = [with_channel, flat] if codec else [flat, with_channel]
    hidden = request.settings.number("hidden_size")
    return [*forms, (BATCH, LENGTH, hidden)] if hidden else forms  # what a first layer of its own would give


def ends(_request: Request, _name: str) -> Made:
    """(batch, 1): where each row's only sound ends."""
    return (torch.full((BATCH, 1), SAMPLES),)
