"""Operations whose output does not continue their operands' signal: makers, look-ups, comparisons, losses, sizes."""

from __future__ import annotations

import operator

import torch
from torch import nn

from autoinit.ops.registry import Acts, register_op
from autoinit.ops.roles import Role, Trait

register_op(
    "embedding",
    Role.SOURCE,
    modules=(nn.Embedding, nn.EmbeddingBag),
    names=("embedding", "embedding_bag", "_embedding_bag"),
    signature="input, weight",
    carries=True,
    traits=Trait.LOOKUP,
)
register_op(
    "constant",
    Role.SOURCE,
    names=("zeros", "ones", "full", "empty", "arange", "linspace", "logspace", "eye", "zeros_like", "ones_like",
           "full_like", "empty_like", "new", "new_zeros", "new_ones", "new_full", "new_empty", "new_tensor", "range",
           "scalar_tensor", "tril_indices", "triu_indices", "empty_strided", "new_empty_strided", "hann_window",
           "hamming_window", "fill", "zero", "_efficientzerotensor", "affine_grid", "from_numpy", "empty_permuted",
           "finfo", "iinfo", "fftfreq", "rfftfreq", "blackman_window"),
    carries=False,
)  # fmt: skip
register_op(
    "random",
    Role.SOURCE,
    names=("rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "bernoulli",
           "multinomial", "uniform", "exponential", "poisson", "geometric", "log_normal", "cauchy",
           "random", "_standard_gamma", "binomial"),
    carries=False,
)  # fmt: skip
register_op(
    "normal",
    Role.TRANSPARENT,
    names="normal",
    signature="input=0.0, std=1.0",
    acts=Acts.ELEMENTWISE,
    traits=Trait.NEUTRAL,
    function=lambda input, **_: input,  # around which it draws
    variant=lambda bound: None if hasattr(bound.get("input", bound.get("mean")), "op") else "random",
)
register_op("gradient", Role.SOURCE, functions=torch.autograd.grad, signature="outputs, inputs", carries=True)
register_op(
    "comparison",
    Role.SINK,
    names=("gt", "ge", "lt", "le", "eq", "ne", "greater", "greater_equal", "less", "less_equal", "not_equal",
           "__gt__", "__ge__", "__lt__", "__le__", "__eq__", "__ne__", "isnan", "isinf", "isfinite", "isposinf",
           "isneginf", "allclose", "isclose", "equal", "sign", "sgn", "signbit", "heaviside"),
    signature="input, other=None",
    acts=Acts.ELEMENTWISE,
    carries=False,
    traits=Trait.RANKING,
)  # fmt: skip
register_op(
    "logical",
    Role.SINK,
    functions=operator.inv,  # the name is a matrix's inverse as well
    names=("logical_and", "logical_or", "logical_not", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_not",
           "bitwise_xor", "__and__", "__or__", "__xor__", "__invert__", "__rand__", "__ror__", "and_", "or_", "invert",
           "xor", "__lshift__", "__rshift__", "bitwise_left_shift", "bitwise_right_shift", "lshift", "rshift",
           "__iand__", "__ior__", "iand", "ior"),
    signature="input, other=None",
    acts=Acts.ELEMENTWISE,
    carries=False,
)  # fmt: skip
register_op(
    "rounding",
    Role.SINK,
    names=("round", "floor", "ceil", "trunc", "fix", "floor_divide", "floordiv", "__floordiv__", "__rfloordiv__",
           "fmod", "remainder", "mod", "__mod__", "__rmod__"),
    signature="input, other=None",
    acts=Acts.ELEMENTWISE,
    carries=False,
    traits=Trait.RANKING,
)  # fmt: skip
register_op(
    "index",
    Role.SINK,
    names=("indices", "argmax", "argmin", "argsort", "nonzero", "argwhere", "bucketize", "searchsorted", "unique",
           "unique_consecutive", "one_hot", "bincount", "histc", "count_nonzero", "any", "all", "histogram",
           "torchvision::nms"),
    carries=False,
    traits=Trait.RANKING,
)  # fmt: skip
register_op(
    "size",
    Role.SINK,
    names=("size", "shape", "dim", "ndim", "ndimension", "numel", "nelement", "stride", "dtype", "device", "is_cuda",
           "layout", "is_contiguous", "is_floating_point", "is_complex", "grad", "grad_fn", "itemsize",
           "element_size", "storage_offset", "data_ptr", "get_device", "untyped_storage", "is_nested", "is_sparse",
           "is_quantized", "is_meta", "is_leaf", "_version", "names", "__len__", "len", "sym_size", "sym_numel",
           "sym_stride", "item", "tolist", "numpy", "__bool__", "__float__", "__int__", "__index__",
           "_local_scalar_dense", "is_mkldnn", "output_nr", "result_type", "promote_types", "can_cast", "is_tensor",
           "__format__", "__repr__",
           "__str__", "broadcast_shapes", "is_grad_enabled", "is_autocast_enabled", "_is_view", "is_inference",
           "get_default_dtype", "device_of", "backward", "__array__", "nbytes", "is_same_size", "is_pinned",
           "__contains__", "__hash__", "is_conj", "is_neg", "is_signed", "is_shared"),
    carries=False,
)  # fmt: skip
register_op(
    "assertion",
    Role.SINK,
    names=("_assert", "_assert_async", "_assert_scalar", "_check", "_check_is_size", "_is_all_true", "_is_any_true",
           "register_hook", "record_stream"),
    carries=False,
)  # fmt: skip
register_op(
    "softmax_loss",
    Role.SINK,
    modules=(nn.CrossEntropyLoss,),
    names=("cross_entropy", "cross_entropy_loss"),
    signature="input, target, weight=None",
    carries=True,
    steered_by=("target", "weight"),
)
register_op(
    "loss",
    Role.SINK,
    modules=(nn.BCELoss, nn.BCEWithLogitsLoss, nn.CTCLoss, nn.CosineEmbeddingLoss, nn.GaussianNLLLoss,
             nn.HingeEmbeddingLoss, nn.HuberLoss, nn.KLDivLoss, nn.L1Loss, nn.MSELoss, nn.MarginRankingLoss,
             nn.MultiLabelMarginLoss, nn.MultiLabelSoftMarginLoss, nn.MultiMarginLoss, nn.NLLLoss, nn.NLLLoss2d,
             nn.PoissonNLLLoss, nn.SmoothL1Loss, nn.SoftMarginLoss, nn.TripletMarginLoss,
             nn.TripletMarginWithDistanceLoss),
    names=("binary_cross_entropy", "binary_cross_entropy_with_logits", "ctc_loss", "cosine_embedding_loss",
           "gaussian_nll_loss", "hinge_embedding_loss", "huber_loss", "kl_div", "l1_loss", "mse_loss",
           "margin_ranking_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss", "multi_margin_loss",
           "nll_loss", "nll_loss_nd", "poisson_nll_loss", "smooth_l1_loss", "soft_margin_loss", "triplet_margin_loss",
           "triplet_margin_with_distance_loss"),
    signature="input, target",
    carries=True,
)  # fmt: skip
