"""Lets `import torchvision` work beside a torch build that its compiled operators do not load in.

torchvision registers gradients for its own operators when it is imported, and that needs their schemas. Where its
shared library loads, the library defines them; where it does not, this module does, without kernels. Import it
before torchvision. No model that the tests use calls one of these operators.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

_ROI_SIZES = "Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width"
_ROI_SHAPE = "SymInt batch_size, SymInt channels, SymInt height, SymInt width"
_ROI_GRAD = "Tensor grad, Tensor rois"
_DEFORM = (
    "Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, SymInt stride_h, SymInt stride_w, "
    "SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w, SymInt groups, SymInt offset_groups, "
    "bool use_mask"
)

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    f"roi_align({_ROI_SIZES}, int sampling_ratio, bool aligned) -> Tensor",
    f"_roi_align_backward({_ROI_GRAD}, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
    f"{_ROI_SHAPE}, int sampling_ratio, bool aligned) -> Tensor",
    f"roi_pool({_ROI_SIZES}) -> (Tensor, Tensor)",
    f"_roi_pool_backward({_ROI_GRAD}, Tensor argmax, float spatial_scale, SymInt pooled_height, "
    f"SymInt pooled_width, {_ROI_SHAPE}) -> Tensor",
    f"ps_roi_align({_ROI_SIZES}, int sampling_ratio) -> (Tensor, Tensor)",
    f"_ps_roi_align_backward({_ROI_GRAD}, Tensor channel_mapping, float spatial_scale, SymInt pooled_height, "
    f"SymInt pooled_width, int sampling_ratio, {_ROI_SHAPE}) -> Tensor",
    f"ps_roi_pool({_ROI_SIZES}) -> (Tensor, Tensor)",
    f"_ps_roi_pool_backward({_ROI_GRAD}, Tensor channel_mapping, float spatial_scale, SymInt pooled_height, "
    f"SymInt pooled_width, {_ROI_SHAPE}) -> Tensor",
    f"deform_conv2d({_DEFORM}) -> Tensor",
    f"_deform_conv2d_backward(Tensor grad, {_DEFORM}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)


def _loads(library: Path) -> bool:
    try:
        torch.ops.load_library(str(library))
    except OSError:
        return False
    return True


def _loads_its_own() -> bool:
    """Whether torchvision's compiled operators load beside this torch."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True
    return all(_loads(library) for library in Path(spec.origin).parent.glob("_C*.so"))


def _define() -> torch.library.Library:
    library = torch.library.Library("torchvision", "DEF")
    for schema in SCHEMAS:
        library.define(schema)
    return library


LIBRARY = None if _loads_its_own() else _define()
"""Kept for the life of the process: a `torch.library.Library` takes its operators with it."""
