"""Activations, and elementwise functions that become one on the walk. Their formulas live in `theory.activations`."""

from __future__ import annotations

import torch
from torch import nn

from autoinit.ops.registry import Acts, register_op
from autoinit.ops.roles import Role
from autoinit.theory.activations import ACTIVATIONS


def _activation(
    name: str,
    *modules: type[nn.Module],
    names: tuple[str, ...] = (),
    signature: str = "",
    bounds: bool = False,
) -> None:
    register_op(
        name,
        Role.NONLINEARITY,
        modules=modules,
        names=(name, *names),
        signature=signature or "input",
        function=ACTIVATIONS[name].function,
        bounds=bounds,
    )


_activation("relu", nn.ReLU, signature="input, inplace=False")
_activation("relu6", nn.ReLU6, signature="input, inplace=False")
_activation("leaky_relu", nn.LeakyReLU, signature="input, negative_slope=0.01, inplace=False")
_activation("prelu", nn.PReLU, names=("_prelu_kernel",), signature="input, weight")
_activation(
    "rrelu",
    nn.RReLU,
    names=("rrelu_with_noise",),
    signature="input, lower=0.125, upper=0.3333333333333333, training=False, inplace=False",
)
_activation("elu", nn.ELU, signature="input, alpha=1.0, inplace=False")
_activation("celu", nn.CELU, signature="input, alpha=1.0, inplace=False")
_activation("selu", nn.SELU, signature="input, inplace=False")
_activation("gelu", nn.GELU, signature="input, approximate='none'")
_activation("silu", nn.SiLU, signature="input, inplace=False")
_activation("mish", nn.Mish, signature="input, inplace=False")
_activation("softplus", nn.Softplus, signature="input, beta=1.0, threshold=20.0")
_activation("softsign", nn.Softsign)
_activation("tanh", nn.Tanh)
_activation("sigmoid", nn.Sigmoid, names=("expit",))
_activation("logsigmoid", nn.LogSigmoid, names=("log_sigmoid", "log_sigmoid_forward"))
_activation("hardtanh", nn.Hardtanh, signature="input, min_val=-1.0, max_val=1.0, inplace=False", bounds=True)
_activation("hardswish", nn.Hardswish, signature="input, inplace=False")
_activation("hardsigmoid", nn.Hardsigmoid, signature="input, inplace=False")
_activation("hardshrink", nn.Hardshrink, signature="input, lambd=0.5")
_activation("softshrink", nn.Softshrink, signature="input, lambd=0.5")
_activation("tanhshrink", nn.Tanhshrink)
_activation("threshold", nn.Threshold, signature="input, threshold, value, inplace=False")

register_op(
    "softmax",
    Role.NONLINEARITY,
    modules=(nn.Softmax, nn.Softmax2d, nn.Softmin),
    names=("softmax", "_softmax", "softmin", "_safe_softmax"),
    signature="input, dim=None",
    function=torch.softmax,
    acts=Acts.MIXING,
)
register_op(
    "log_softmax",
    Role.NONLINEARITY,
    modules=nn.LogSoftmax,
    names=("log_softmax", "_log_softmax"),
    signature="input, dim=None",
    function=torch.log_softmax,
    acts=Acts.MIXING,
)
register_op(
    "gumbel_softmax",
    Role.NONLINEARITY,
    names="gumbel_softmax",
    signature="logits, tau=1.0, hard=False, eps=1e-10, dim=-1",
    function=torch.softmax,
    acts=Acts.MIXING,
)
register_op(
    "logsumexp",
    Role.NONLINEARITY,
    names="logsumexp",
    signature="input, dim=None, keepdim=False",
    function=torch.logsumexp,
    acts=Acts.REDUCING,
)

for _name, _spellings, _signature in (
    ("clamp", "clamp clip", "input, min=None, max=None"),
    ("clamp_min", "clamp_min", "input, min=None"),
    ("clamp_max", "clamp_max", "input, max=None"),
):
    register_op(_name, Role.NONLINEARITY, names=_spellings.split(), signature=_signature,
                function=getattr(torch, _name), bounds=True)  # fmt: skip
register_op("pow", Role.NONLINEARITY, names=("pow", "float_power", "__pow__"), signature="input, exponent",
            function=torch.pow)  # fmt: skip
register_op(
    "rpow", Role.NONLINEARITY, names="__rpow__", signature="input, exponent", function=lambda x, exponent: exponent**x
)
register_op("reciprocal", Role.NONLINEARITY, names="reciprocal", function=torch.reciprocal)
register_op(
    "rdiv",
    Role.NONLINEARITY,
    names=("__rdiv__", "__rtruediv__"),
    signature="input, other",
    function=lambda x, other: other / x,
)

for _name, _also in {
    "exp": (),
    "exp2": (),
    "expm1": (),
    "log": (),
    "log2": (),
    "log10": (),
    "log1p": (),
    "sqrt": (),
    "rsqrt": (),
    "square": (),
    "abs": ("absolute", "__abs__", "abs"),
    "sin": (),
    "cos": (),
    "tan": (),
    "asin": ("arcsin",),
    "acos": ("arccos",),
    "atan": ("arctan",),
    "sinh": (),
    "cosh": (),
    "asinh": ("arcsinh",),
    "acosh": ("arccosh",),
    "atanh": ("arctanh",),
    "erf": (),
    "erfc": (),
    "erfinv": (),
    "sinc": (),
    "frac": (),
    "logit": (),
    "nan_to_num": (),
    "ndtr": (),
    "log_ndtr": (),
}.items():
    _function = getattr(torch, _name, None) or getattr(torch.special, _name)
    register_op(_name, Role.NONLINEARITY, names=(_name, *_also), function=_function)
