"""Lets `import torchvision` work beside a torch build that its compiled operators do not load in.

Where torchvision's shared library loads, it defines its operators. Where it does not, this module does: it declares
them all, computes the two that detection models need, and has torchvision believe that the library was loaded, so that
it registers gradients and shapes for them as it always does. Import it before torchvision.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    "_cuda_version() -> int",
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    f"roi_align({_ROI_SIZES}, int sampling_ratio, bool aligned) -> Tensor",
    "qroi_align(Tensor input, Tensor rois, float input_scale, int input_zero_point, float rois_scale, "
    "int rois_zero_point, float spatial_scale, SymInt pooled_height, SymInt pooled_width, int sampling_ratio, "
    "bool aligned) -> Tensor",
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


def _nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Indices of the boxes that overlap none of a higher score by more than the threshold, best first."""
    from torchvision.ops import box_iou

    left = scores.argsort(descending=True, stable=True)
    kept = []
    while len(left):
        kept.append(left[0])
        overlaps = box_iou(boxes[left[:1]], boxes[left[1:]])[0]
        left = left[1:][overlaps <= iou_threshold]
    return torch.stack(kept) if kept else left


def _roi_align(*arguments: Any) -> torch.Tensor:
    """torchvision's own version in Python, as written, not compiled."""
    import torchvision.ops.roi_align  # noqa: F401 - the function of that name hides the module

    hidden: Any = sys.modules["torchvision.ops.roi_align"]
    computed: torch.Tensor = hidden._roi_align.__wrapped__(*arguments)
    return computed


def _loading_all_but_its_own(load: Callable[[str], None]) -> Callable[[str], None]:
    def load_library(path: str) -> None:
        if not (Path(path).parent.name == "torchvision" and Path(path).name.startswith("_C")):
            load(path)

    return load_library


def _define() -> torch.library.Library:
    library = torch.library.Library("torchvision", "DEF")
    for schema in SCHEMAS:
        library.define(schema)
    library.impl("_cuda_version", lambda: -1, "CompositeExplicitAutograd")
    library.impl("nms", _nms, "CPU")
    library.impl("roi_align", _roi_align, "CPU")
    torch.ops.load_library = _loading_all_but_its_own(torch.ops.load_library)  # type: ignore[method-assign]
    return library


LIBRARY = None if _loads_its_own() else _define()
"""Kept for the life of the process: a `torch.library.Library` takes its operators with it."""
