"""Images, videos, and grids of their patches."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch

from autoinit.tracing.guessing._request import BATCH, Made, Request, numbers

_NEAR = ("vision", "visual", "image", "pixel", "video", "vit", "patch", "backbone")
_GRID = 12  # patches along each side of an image that is given as patches: so that 2, 3 and 4 can be merged
_SIDE = 224
_COLOURS = 3
_MOST_CHANNELS = 16
_FRAMES = 8
_CONVS = ("conv2d", "conv3d")


def pixels(request: Request, name: str) -> Made:
    """(batch, channels, height, width), with frames before the channels, or already cut into patches."""
    if any(each.endswith("grid_thw") for each in request.subject.arguments):
        return _patches(request)
    if "spatial_shapes" in request.subject.arguments or "pixel_position_ids" in request.subject.arguments:
        return _padded_patches(request)
    if "target_sizes" in request.subject.arguments:
        return _strip(request)
    channels, (height, width) = _channels(request), _sides(request, _near(request, name))
    if channels is None:
        return ()
    image = (BATCH, channels, height, width)
    frames = request.settings.number("num_frames", "frames_per_clip", "tubelet_size")
    count = request.settings.number("num_frames", "frames_per_clip") or _FRAMES
    film = (BATCH, count, channels, height, width)
    pair, crops = ((BATCH, count, channels, height, width) for count in (2, 3))
    if name.endswith("videos") or (frames and not name.endswith("images")):
        return (film, image)
    other = (4 * height, 4 * width) if height == width else (min(height, width),) * 2
    large_pair = (BATCH, 2, channels, *other)
    tiles = (BATCH, 1, request.settings.number("max_num_tiles") or 1, channels, height, width)
    return (image, (BATCH, channels, *other), pair, crops, (BATCH, channels, count, height, width), large_pair, tiles)


def _channels(request: Request) -> int | None:
    """Of an image: what the first convolution takes, unless that is no image but features."""
    conv = request.subject.first(_CONVS, _NEAR)
    said = request.settings.number("num_channels", "in_channels", "in_chans", "num_input_channels", near=_NEAR)
    if conv is None:
        return said
    return int(conv.in_channels) if conv.in_channels <= _MOST_CHANNELS else said or _COLOURS


def _near(request: Request, name: str) -> tuple[str, ...]:
    """Words in the paths of the parts that an argument is for: what stands before `pixel_values`, if any has it."""
    prefix = name.split("pixel_values")[0].strip("_")
    return (prefix,) if prefix and any(prefix in path for path, _ in request.settings.parts) else _NEAR


def _sides(request: Request, near: Sequence[str] = _NEAR) -> tuple[int, int]:
    """Height and width that the configuration names; those that a wrapped model declares."""
    said = request.settings.numbers("image_size", "img_size", "input_size", "resolution", "max_img_size", near=near)
    if not said:
        declared = (getattr(module, "pretrained_cfg", None) for module in request.subject.model.modules())
        sizes = [each.get("input_size") for each in declared if isinstance(each, dict)]
        said = tuple(sizes[0][-2:]) if sizes and sizes[0] else ()
    if not said and request.subject.sides:
        return request.subject.sides[0]
    if len(said) >= 2:
        return said[-2], said[-1]
    return (said[0], said[0]) if said else (_SIDE, _SIDE)


def _first_patch_layer(request: Request) -> Any:
    return request.subject.first(("conv2d", "conv3d", "linear"), _NEAR)


def _patch_width(request: Request) -> int | None:
    """How many numbers a patch has."""
    layer = _first_patch_layer(request)
    if layer is None:
        return None
    return int(layer.in_features) if hasattr(layer, "in_features") else layer.in_channels * prod(layer.kernel_size)


def _patches(request: Request) -> Made:
    """The patches of all images in one row; or as small images, one for each patch."""
    width, layer = _patch_width(request), _first_patch_layer(request)
    if width is None:
        return ()
    count = BATCH * _GRID * _GRID
    alternatives: list[tuple[int, ...]] = [(count, width)]
    if not hasattr(layer, "in_features"):
        alternatives.append((count, layer.in_channels, *layer.kernel_size))
    patch, merged = (request.settings.number(name, near=_NEAR) for name in ("patch_size", "spatial_merge_size"))
    if patch and merged and width % patch**2 == 0:  # a square of merged patches at a time, colours last
        alternatives.append((count, merged * patch, merged * patch, width // patch**2))
    return alternatives


def _strip(request: Request) -> Made:
    """The patches of all images side by side, as one long image."""
    conv = request.subject.first(("conv2d",), _NEAR)
    if conv is None:
        return ()
    height, width = conv.kernel_size
    return ((1, conv.in_channels, height, width * BATCH * _GRID * _GRID),)


def _padded_patches(request: Request) -> Made:
    width = _patch_width(request)
    return () if width is None else ((BATCH, _GRID * _GRID, width),)


def numbered_patches(request: Request, _name: str) -> Made:
    """(batch, patches, 2 + numbers of a patch): each after its row and column, which count from 1."""
    width = _patch_width(request)
    if width is None:
        return ()
    places = torch.cartesian_prod(torch.arange(_GRID), torch.arange(_GRID)) + 1
    patches = torch.cat([places, numbers((_GRID * _GRID, width), request.subject.dtype)], dim=1)
    return (patches.expand(BATCH, -1, -1).clone(),)


def one_for_each_image(request: Request, _name: str) -> Made:
    """(batch, images) of ones."""
    return (torch.ones(_images(request)[:2], dtype=torch.int64),)


def tiles_of_images(request: Request, _name: str) -> Made:
    """(batch, images, tiles) of ones: there are as many tiles as there may be."""
    return (torch.ones(_images(request), dtype=torch.int64),)


def _images(request: Request) -> tuple[int, ...]:
    """(batch, images, tiles)."""
    pixels = request.given.get("pixel_values")
    return tuple(pixels.shape[:3]) if isinstance(pixels, torch.Tensor) and pixels.dim() == 6 else (BATCH, 1, 1)


def grids(_request: Request, name: str) -> Made:
    """Frames, rows and columns of patches of each image."""
    if name.endswith("_hw"):
        return (torch.tensor([[_GRID, _GRID]] * BATCH),)
    sizes = [[1, _GRID, _GRID]] * BATCH
    return (torch.tensor(sizes), sizes)


def shapes_of_grids(_request: Request, _name: str) -> Made:
    """Rows and columns of patches of each image."""
    return (torch.tensor([[_GRID, _GRID]] * BATCH),)


def patch_positions(_request: Request, _name: str) -> Made:
    """Column and row of each patch of each image."""
    places = torch.cartesian_prod(torch.arange(_GRID), torch.arange(_GRID))
    return (places.expand(BATCH, -1, -1).clone(),)


def image_sizes(request: Request, _name: str) -> Made:
    """Height and width of each image."""
    return (torch.tensor([_sides(request)] * BATCH),)
