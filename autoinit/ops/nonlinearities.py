"""Activations, as `theory.activations` has them, and elementwise functions that become one on the walk."""

from __future__ import annotations

import torch

from autoinit.ops.registry import register_op
from autoinit.ops.roles import Role
from autoinit.theory.activations import NONLINEARITIES, Fact

for _each in NONLINEARITIES.values():
    if _each.spelling is not None:
        register_op(
            _each.name,
            Role.NONLINEARITY,
            modules=_each.spelling.modules,
            functions=_each.spelling.functions,
            names=(_each.name, *_each.spelling.names),
            signature=_each.signature,
            function=_each.function,
            acts=_each.acts,
            facts=_each.facts,
            attributes=_each.spelling.attributes,
        )

for _name, _spellings, _signature in (
    ("clamp", "clamp clip", "input, min=None, max=None"),
    ("clamp_min", "clamp_min", "input, min=None"),
    ("clamp_max", "clamp_max", "input, max=None"),
):
    register_op(_name, Role.NONLINEARITY, names=_spellings.split(), signature=_signature,
                function=getattr(torch, _name), facts=Fact.CLIPPING)  # fmt: skip
register_op("pow", Role.NONLINEARITY, names=("pow", "float_power", "__pow__"), signature="input, exponent",
            function=torch.pow)  # fmt: skip
register_op(
    "rpow", Role.NONLINEARITY, names="__rpow__", signature="input, exponent", function=lambda x, exponent: exponent**x
)
register_op("reciprocal", Role.NONLINEARITY, names="reciprocal", function=torch.reciprocal, facts=Fact.ODD)
register_op(
    "rdiv",
    Role.NONLINEARITY,
    names=("__rdiv__", "__rtruediv__"),
    signature="input, other",
    function=lambda x, other: other / x,
)

_SMALL = Fact.HOMOGENEOUS_NEAR_ZERO
for _name, _also, _facts in (
    ("exp", (), Fact.NONE),
    ("exp2", (), Fact.NONE),
    ("expm1", (), _SMALL),
    ("log", (), Fact.NONE),
    ("log2", (), Fact.NONE),
    ("log10", (), Fact.NONE),
    ("log1p", (), _SMALL),
    ("sqrt", (), Fact.NONE),
    ("rsqrt", (), Fact.NONE),
    ("square", (), Fact.NONE),
    ("abs", ("absolute", "__abs__"), _SMALL | Fact.HOMOGENEOUS),
    ("angle", (), Fact.BOUNDED),
    ("sin", (), _SMALL | Fact.ODD | Fact.BOUNDED | Fact.PERIODIC),
    ("cos", (), Fact.BOUNDED | Fact.PERIODIC),
    ("tan", (), _SMALL | Fact.ODD | Fact.PERIODIC),
    ("asin", ("arcsin",), _SMALL | Fact.ODD | Fact.BOUNDED),
    ("acos", ("arccos",), Fact.BOUNDED),
    ("atan", ("arctan",), _SMALL | Fact.ODD | Fact.BOUNDED),
    ("sinh", (), _SMALL | Fact.ODD),
    ("cosh", (), Fact.NONE),
    ("asinh", ("arcsinh",), _SMALL | Fact.ODD),
    ("acosh", ("arccosh",), Fact.NONE),
    ("atanh", ("arctanh",), _SMALL | Fact.ODD),
    ("erf", (), _SMALL | Fact.ODD | Fact.BOUNDED),
    ("erfc", (), Fact.BOUNDED),
    ("erfinv", (), _SMALL | Fact.ODD),
    ("sinc", (), Fact.BOUNDED),
    ("frac", (), _SMALL | Fact.ODD | Fact.BOUNDED),
    ("logit", (), Fact.NONE),
    ("nan_to_num", (), _SMALL | Fact.ODD | Fact.HOMOGENEOUS | Fact.STRAIGHT),
    ("ndtr", (), Fact.BOUNDED | Fact.SHARE),
    ("log_ndtr", (), Fact.NONE),
    ("ndtri", (), Fact.NONE),
    ("erfcx", (), Fact.NONE),
    ("entr", (), Fact.NONE),
    ("lgamma", ("gammaln",), Fact.NONE),
    ("digamma", ("psi",), Fact.NONE),
    ("i0", (), Fact.NONE),
    ("i0e", (), Fact.BOUNDED | Fact.SHARE),
    ("i1", (), _SMALL | Fact.ODD),
    ("i1e", (), _SMALL | Fact.ODD | Fact.BOUNDED),
):
    register_op(
        _name,
        Role.NONLINEARITY,
        names=(_name, *_also),
        function=getattr(torch, _name, None) or getattr(torch.special, _name),
        facts=_facts,
    )
