"""The table of operations: it is complete, every spelling means the same operation, and users can add to it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import autoinit
from autoinit.ops import REGISTRY
from autoinit.resolving import Reason, Resolution, resolve
from autoinit.tracing import trace
from tests.shared.small_nets import Between

WIDTH = 6


def resolved(function: Callable[[Tensor], Tensor], tier: Any) -> Resolution:
    inputs = torch.linspace(-1, 1, 4 * WIDTH).view(4, WIDTH)
    found = resolve(trace(Between(WIDTH, function), None if tier == "symbolic" else inputs, tier=tier))
    return {each.name: each for each in found}["before"]


tiers = pytest.mark.parametrize("tier", ["symbolic", "recorded"])


# Completeness.

NOT_IN_THE_TABLE: dict[str, str] = {
    **dict.fromkeys(
        ("Module", "Container", "Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict"),
        "containers: their contents are traced",
    ),
    **dict.fromkeys(("RNNBase", "RNNCellBase"), "abstract: their children are in the table"),
    "DataParallel": "a wrapper, seen through",
    **dict.fromkeys(
        ("Transformer", *(f"Transformer{kind}{part}" for kind in ("Encoder", "Decoder") for part in ("", "Layer"))),
        "built of others in Python: traced inside",
    ),
    "AdaptiveLogSoftmaxWithLoss": "built of linear layers in Python: traced inside",
    "LinearCrossEntropyLoss": "its forward calls F.linear_cross_entropy, which is in the table",
}  # fmt: skip

NOT_TENSOR_FUNCTIONS: dict[str, str] = {
    **dict.fromkeys(
        ("handle_torch_function", "has_torch_function", "has_torch_function_unary", "has_torch_function_variadic"),
        "torch's own dispatch",
    ),
    **dict.fromkeys(("boolean_dispatch", "assert_int_or_pair"), "helpers of the module that take no tensor"),
    **dict.fromkeys(("scaled_mm", "scaled_grouped_mm"), "of float8 and float4 numbers, which are not initialised"),
}


def module_classes() -> list[type[nn.Module]]:
    found = (getattr(nn, name) for name in dir(nn))
    return [each for each in found if isinstance(each, type) and issubclass(each, nn.Module)]


def public_functions() -> list[str]:
    names = (name for name in dir(F) if not name.startswith("_"))
    found = [(name, getattr(F, name)) for name in names]
    return [
        name
        for name, each in found
        if callable(each) and not isinstance(each, type) and getattr(each, "__module__", "") != "typing"
    ]


def test_every_module_of_torch_nn_is_in_the_table():
    missing = [
        kind.__name__
        for kind in module_classes()
        if not kind.__name__.startswith("Lazy")  # has no shape, and is refused
        and kind.__name__ not in NOT_IN_THE_TABLE
        and kind not in REGISTRY._modules
    ]
    assert missing == []


def test_the_exceptions_among_modules_are_needed():
    named = {kind.__name__: kind for kind in module_classes()}
    here = [name for name in NOT_IN_THE_TABLE if name in named]  # newer torch has more
    assert [name for name in here if named[name] in REGISTRY._modules] == []


def test_every_function_of_torch_nn_functional_is_in_the_table():
    missing = [
        name
        for name in public_functions()
        if name not in NOT_TENSOR_FUNCTIONS and REGISTRY.of_function(getattr(F, name)) is None
    ]
    assert missing == []


def test_the_exceptions_among_functions_are_needed():
    here = [name for name in NOT_TENSOR_FUNCTIONS if hasattr(F, name)]
    assert [name for name in here if REGISTRY.of_function(getattr(F, name)) is not None] == []


def test_every_nonlinearity_has_a_function():
    assert [
        name for name, spec in REGISTRY.specs.items() if spec.role.value == "nonlinearity" and not spec.function
    ] == []


def test_modules_and_functions_of_one_name_agree():
    """`nn.LeakyReLU` and `F.leaky_relu` are one entry; likewise every pair whose names differ only in spelling."""
    functions = {name.replace("_", "").lower(): name for name in public_functions()}
    different = [
        (kind.__name__, name)
        for kind, spec in REGISTRY._modules.items()
        if (name := functions.get(kind.__name__.lower())) is not None
        and REGISTRY.of_function(getattr(F, name)) is not spec
    ]
    assert different == []


# One nonlinearity, every spelling. Defaults as torch documents them; `other` is in the order of the positions.

Case = tuple[type[nn.Module], dict[str, float], dict[str, float]]

NONLINEARITIES: dict[str, Case] = {
    "relu": (nn.ReLU, {}, {}),
    "relu6": (nn.ReLU6, {}, {}),
    "leaky_relu": (nn.LeakyReLU, {"negative_slope": 0.01}, {"negative_slope": 0.2}),
    "rrelu": (nn.RReLU, {"lower": 1 / 8, "upper": 1 / 3}, {"lower": 0.1, "upper": 0.5}),
    "elu": (nn.ELU, {"alpha": 1.0}, {"alpha": 0.5}),
    "celu": (nn.CELU, {"alpha": 1.0}, {"alpha": 0.5}),
    "selu": (nn.SELU, {}, {}),
    "gelu": (nn.GELU, {}, {}),
    "silu": (nn.SiLU, {}, {}),
    "mish": (nn.Mish, {}, {}),
    "softplus": (nn.Softplus, {"beta": 1.0, "threshold": 20.0}, {"beta": 2.0, "threshold": 15.0}),
    "softsign": (nn.Softsign, {}, {}),
    "tanh": (nn.Tanh, {}, {}),
    "sigmoid": (nn.Sigmoid, {}, {}),
    "logsigmoid": (nn.LogSigmoid, {}, {}),
    "hardtanh": (nn.Hardtanh, {"min_val": -1.0, "max_val": 1.0}, {"min_val": -2.0, "max_val": 3.0}),
    "hardswish": (nn.Hardswish, {}, {}),
    "hardsigmoid": (nn.Hardsigmoid, {}, {}),
    "hardshrink": (nn.Hardshrink, {"lambd": 0.5}, {"lambd": 0.7}),
    "softshrink": (nn.Softshrink, {"lambd": 0.5}, {"lambd": 0.7}),
    "tanhshrink": (nn.Tanhshrink, {}, {}),
    "threshold": (nn.Threshold, {}, {"threshold": 0.1, "value": -0.3}),
}

NAMESPACES: dict[str, Any] = {"F": F, "torch": torch, "special": torch.special, "_nn": torch._C._nn}


def functional_forms(name: str) -> Iterator[tuple[str, Callable[..., Tensor]]]:
    """The function of every namespace that has it, the tensor method, and their in-place forms."""
    for form in (name, f"{name}_"):
        for space, holder in NAMESPACES.items():
            if hasattr(holder, form):
                yield f"{space}.{form}", getattr(holder, form)
        if hasattr(Tensor, form):
            yield f"Tensor.{form}", lambda x, *args, form=form, **kwargs: getattr(x, form)(*args, **kwargs)


def forms() -> Iterator[Any]:
    for name, (module, defaults, other) in NONLINEARITIES.items():
        if defaults or not other:
            yield pytest.param(lambda module=module: module(), name, defaults, id=f"{module.__name__}()")
        if "inplace" in inspect.signature(module).parameters:
            values = dict(zip(other, other.values(), strict=True))
            yield pytest.param(
                lambda module=module, values=values: module(**values, inplace=True), name, other or defaults,
                id=f"{module.__name__}(inplace=True)",
            )  # fmt: skip
        if other:
            values = tuple(other.values())
            yield pytest.param(
                lambda module=module, values=values: module(*values), name, other, id=f"{module.__name__}(positions)"
            )
            yield pytest.param(
                lambda module=module, other=other: module(**other), name, other, id=f"{module.__name__}(keywords)"
            )
        for spelled, function in functional_forms(name):
            if defaults or not other:
                yield pytest.param(lambda f=function: lambda x: f(x), name, defaults, id=spelled)
            if other:
                values = tuple(other.values())
                yield pytest.param(
                    lambda f=function, values=values: lambda x: f(x, *values), name, other, id=f"{spelled}(positions)"
                )
                yield pytest.param(
                    lambda f=function, other=other: lambda x: f(x, **other), name, other, id=f"{spelled}(keywords)"
                )
        if "inplace" in inspect.signature(module).parameters:
            yield pytest.param(
                lambda name=name, other=other: lambda x: getattr(F, name)(x, **other, inplace=True), name,
                other or defaults, id=f"F.{name}(inplace=True)",
            )  # fmt: skip


@tiers
@pytest.mark.parametrize(("make", "name", "params"), list(forms()))
def test_every_spelling_of_a_nonlinearity(
    make: Callable[[], Callable[[Tensor], Tensor]], name: str, params: dict[str, float], tier: str
):
    found = resolved(make(), tier)
    assert (found.nonlinearity, found.reason) == (name, Reason.ACTIVATION)
    assert dict(found.params) == pytest.approx(params)


def test_relu_in_place_by_position():
    assert resolved(lambda x: F.relu(x, True), "recorded").nonlinearity == "relu"


@tiers
@pytest.mark.parametrize(
    "function",
    [
        nn.GELU(approximate="tanh"),
        nn.GELU("tanh"),
        lambda x: F.gelu(x, approximate="tanh"),
        lambda x: torch._C._nn.gelu(x, approximate="tanh"),
    ],
    ids=["module", "position", "keyword", "_nn"],
)
def test_gelu_with_tanh(function: Callable[[Tensor], Tensor], tier: str):
    """E[phi^2] of the tanh form, by scipy.integrate.quad: 0.4252045, gain 1.5335687."""
    found = resolved(function, tier)
    assert found.nonlinearity == "gelu"
    assert found.ending.gain == pytest.approx(1.53357, abs=2e-4)


@tiers
@pytest.mark.parametrize(
    "function",
    [
        nn.Softmax(dim=-1),
        nn.Softmax(1),
        nn.LogSoftmax(dim=1),
        nn.Softmin(dim=1),
        lambda x: F.softmax(x, dim=-1),
        lambda x: F.softmax(x, 1),
        lambda x: F.log_softmax(x, dim=1),
        lambda x: F.softmin(x, dim=1),
        lambda x: F.gumbel_softmax(x, tau=0.5),
        lambda x: torch.softmax(x, 1),
        lambda x: torch.log_softmax(x, dim=-1),
        lambda x: torch.special.softmax(x, 1),
        lambda x: torch.special.log_softmax(x, 1),
        lambda x: x.softmax(1),
        lambda x: x.log_softmax(dim=1),
        lambda x: x.softmax(1).log(),
    ],
    ids=[*(f"module{number}" for number in range(4)), *(f"call{number}" for number in range(12))],
)
def test_softmax_in_every_spelling(function: Callable[[Tensor], Tensor], tier: str):
    found = resolved(function, tier)
    assert (found.nonlinearity, found.reason, found.ending.gain) == ("softmax", Reason.SOFTMAX, 1.0)


def exponentials_over_their_sum(x: Tensor) -> Tensor:
    powers = (x - x.amax(1, keepdim=True)).exp()
    return powers / powers.sum(1, keepdim=True)


@tiers
@pytest.mark.parametrize(
    "function",
    [
        lambda x: x - x.logsumexp(1, keepdim=True),
        lambda x: x.exp() / x.exp().sum(1, keepdim=True),
        exponentials_over_their_sum,
    ],
    ids=["log_softmax", "softmax", "stable_softmax"],
)
def test_softmax_written_out(function: Callable[[Tensor], Tensor], tier: str):
    found = resolved(function, tier)
    assert (found.nonlinearity, found.reason, found.ending.gain) == ("softmax", Reason.SOFTMAX, 1.0)


# Slopes that are learned or drawn.


@tiers
def test_prelu_by_default_has_slope_a_quarter(tier: str):
    found = resolved(nn.PReLU(), tier)
    assert (found.nonlinearity, dict(found.params)) == ("prelu", {"weight": 0.25})
    assert found.ending.gain == pytest.approx(math.sqrt(2 / (1 + 0.25**2)))


@tiers
@pytest.mark.parametrize("spelling", ["module", "F", "torch", "method"])
def test_prelu_reads_its_weight(spelling: str, tier: str):
    class Learned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before = nn.Linear(WIDTH, WIDTH)
            self.act = nn.PReLU(init=0.4)
            self.after = nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Tensor) -> Tensor:
            x = self.before(x)
            slope = self.act.weight
            if spelling == "module":
                x = self.act(x)
            elif spelling == "F":
                x = F.prelu(x, slope)
            elif spelling == "torch":
                x = torch.prelu(x, slope)
            else:
                x = x.prelu(slope)
            return self.after(x)

    found = resolve(trace(Learned(), None if tier == "symbolic" else (2, WIDTH), tier=tier))[0]
    assert (found.name, found.nonlinearity) == ("before", "prelu")
    assert found.params["weight"] == pytest.approx(0.4)
    assert found.ending.gain == pytest.approx(math.sqrt(2 / 1.16))


@tiers
def test_prelu_with_a_slope_for_each_channel(tier: str):
    """Averaged over channels, E[phi^2] = (1 + mean(a^2)) / 2, so the slope that stands for them is their rms."""
    act = nn.PReLU(WIDTH)
    with torch.no_grad():
        act.weight.copy_(torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4, -0.5]))
    found = resolved(act, tier)
    assert found.ending.gain == pytest.approx(math.sqrt(2 / (1 + 0.55 / 6)))


class Learned(nn.Module):
    """x + sin(a x)^2 / a with a learned a, one for all channels or one for each."""

    def __init__(self, alpha: list[float]) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(alpha))

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.alpha * x).sin() ** 2 / self.alpha


@tiers
@pytest.mark.usefixtures("own_ops")
@pytest.mark.parametrize(("values", "alpha"), [([0.5], 0.5), ([0.3, 0.4] * 3, math.sqrt((0.09 + 0.16) / 2))])
def test_a_users_module_with_a_learned_parameter(values: list[float], alpha: float, tier: str):
    """One number stands for several: their root mean square."""
    autoinit.register_op(
        "snake",
        autoinit.Role.NONLINEARITY,
        modules=Learned,
        signature="input, a=1.0",
        function=lambda x, a=1.0: x + (a * x).sin() ** 2 / a,
        attributes={"a": "alpha"},
    )
    found = resolved(Learned(values), tier)
    assert (found.nonlinearity, dict(found.params)) == ("snake", {"a": pytest.approx(alpha)})
    assert found.ending.gain == pytest.approx(1 / math.sqrt(snake_moment(alpha)), rel=1e-6)
    with torch.device("meta"):
        unknown = resolve(trace(Between(WIDTH, Learned(values)), (4, WIDTH)))[0]
    assert unknown.ending.note == "the value of function.alpha is not known: 1, the default, taken"
    assert dict(unknown.params) == {"a": 1.0}


def test_a_call_whose_values_are_a_plainer_function_bears_its_name():
    """threshold(x, 0, 0) is x above 0, else 0."""
    assert resolved(nn.Threshold(0.0, 0.0), "symbolic").nonlinearity == "relu"


def test_clipping_behind_an_activation_leaves_it_its_name():
    assert resolved(lambda x: x.sigmoid().clamp(0.1, 0.9), "symbolic").nonlinearity == "sigmoid"


def test_a_slope_of_one_number_keeps_its_sign():
    assert dict(resolved(nn.PReLU(init=-0.5), "symbolic").params) == {"weight": -0.5}


@tiers
def test_rrelu_takes_the_mean_of_the_squared_slope(tier: str):
    """a uniform in [0.1, 0.5]: E[a^2] = (0.5^3 - 0.1^3) / (3 * 0.4) = 0.31 / 3."""
    assert resolved(nn.RReLU(0.1, 0.5), tier).ending.gain == pytest.approx(math.sqrt(2 / (1 + 0.31 / 3)))


# ATen, by way of torch.export.


EXPORTED = {
    "relu": (nn.ReLU(), "relu", {}),
    "relu_": (nn.ReLU(inplace=True), "relu", {}),
    "leaky_relu": (nn.LeakyReLU(0.2), "leaky_relu", {"negative_slope": 0.2}),
    "elu": (nn.ELU(0.5), "elu", {"alpha": 0.5}),
    "hardtanh": (nn.Hardtanh(-2.0, 3.0), "hardtanh", {"min_val": -2.0, "max_val": 3.0}),
    "gelu": (nn.GELU(), "gelu", {}),
    "silu": (nn.SiLU(), "silu", {}),
    "swish": (lambda x: x * torch.sigmoid(x), "silu", {}),
    "softplus": (nn.Softplus(beta=2.0), "softplus", {"beta": 2.0, "threshold": 20.0}),
    "tanh": (torch.tanh, "tanh", {}),
    "clamp": (lambda x: x.clamp(min=0), "relu", {}),
    "prelu": (nn.PReLU(init=0.4), "prelu", {"weight": 0.4}),
}


class Chain(nn.Module):
    """A linear layer before each function, so that one export serves all."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({f"before_{name}": nn.Linear(WIDTH, WIDTH) for name in EXPORTED})
        self.modules_used = nn.ModuleDict(
            {name: each[0] for name, each in EXPORTED.items() if isinstance(each[0], nn.Module)}
        )

    def forward(self, x: Tensor) -> Tensor:
        for name, (function, *_) in EXPORTED.items():
            x = self.layers[f"before_{name}"](x)
            x = self.modules_used[name](x) if name in self.modules_used else function(x)
        return x


@pytest.fixture(scope="module")
def exported() -> dict[str, Resolution]:
    program = torch.export.export(Chain(), (torch.linspace(-1, 1, 2 * WIDTH).view(2, WIDTH),))
    dataflow = trace(program)
    assert dataflow.tier == "exported"
    assert dataflow.unsupported == ()
    return {each.name: each for each in resolve(dataflow)}


@pytest.mark.parametrize("key", EXPORTED)
def test_aten(exported: dict[str, Resolution], key: str):
    found = exported[f"layers.before_{key}"]
    assert (found.nonlinearity, found.reason) == (EXPORTED[key][1], Reason.ACTIVATION)
    assert dict(found.params) == pytest.approx(EXPORTED[key][2], rel=1e-5)


# Users' own operations.


@pytest.fixture
def own_ops() -> Iterator[None]:
    """Leaves the table as it was."""
    tables = ("specs", "_modules", "_functions", "_names")
    kept = {name: dict(getattr(REGISTRY, name)) for name in tables}
    yield
    for name, contents in kept.items():
        table = getattr(REGISTRY, name)
        table.clear()
        table.update(contents)


@pytest.mark.usefixtures("own_ops")
def test_a_name_is_registered_once():
    with pytest.raises(
        autoinit.RegistrationError, match=r"operation 'relu' is registered already, with role nonlinearity"
    ):
        autoinit.register_op("relu", "nonlinearity", function=torch.relu)


@pytest.mark.usefixtures("own_ops")
@pytest.mark.parametrize(
    ("spelling", "shown"),
    [
        ({"modules": nn.ReLU}, r"ReLU'>, given for operation 'mine', is a spelling of 'relu' already"),
        ({"functions": F.gelu}, r"given for operation 'mine', is a spelling of 'gelu' already"),
        ({"names": "tanh"}, r"given for operation 'mine', is a spelling of 'tanh' already"),
    ],
    ids=["module", "function", "name"],
)
def test_a_spelling_is_registered_once(spelling: dict[str, Any], shown: str):
    with pytest.raises(autoinit.RegistrationError, match=shown):
        autoinit.register_op("mine", "transparent", **spelling)
    assert "mine" not in REGISTRY.specs


@pytest.mark.usefixtures("own_ops")
def test_a_nonlinearity_needs_a_function():
    with pytest.raises(autoinit.RegistrationError, match=r"nonlinearity 'mine' needs function="):
        autoinit.register_op("mine", "nonlinearity")
    assert "mine" not in REGISTRY.specs


@pytest.mark.usefixtures("own_ops")
def test_a_signature_must_be_python():
    with pytest.raises(autoinit.RegistrationError, match=r"signature 'input, alpha=' is not a Python argument list"):
        autoinit.register_op("mine", "transparent", signature="input, alpha=")


@pytest.mark.usefixtures("own_ops")
def test_replace_takes_over():
    autoinit.register_op("relu", "transparent", names="relu", modules=nn.ReLU, replace=True)
    assert resolved(nn.ReLU(), "symbolic").reason is Reason.WEIGHT


@pytest.mark.usefixtures("own_ops")
def test_an_unknown_role_is_refused():
    with pytest.raises(ValueError, match="role='activation': expected one of 'weight', 'nonlinearity'"):
        autoinit.register_op("mine", "activation")


class Snake(nn.Module):
    """x + sin(a x)^2 / a, in a way that a trace with proxies cannot follow."""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        return x * self.alpha if bool((x > 3).all()) else x + (self.alpha * x).sin() ** 2 / self.alpha


def snake_moment(a: float) -> float:
    """E[(z + sin(az)^2 / a)^2] = 1 + E[sin(az)^4] / a^2, sin^4 = (3 - 4 cos 2t + cos 4t) / 8."""
    fourth = (3 - 4 * math.exp(-2 * a * a) + math.exp(-8 * a * a)) / 8
    return 1 + fourth / a**2


@tiers
@pytest.mark.usefixtures("own_ops")
def test_a_users_module(tier: str):
    autoinit.register_op(
        "snake",
        autoinit.Role.NONLINEARITY,
        modules=Snake,
        signature="input, alpha=1.0",
        function=lambda x, alpha=1.0: x + (alpha * x).sin() ** 2 / alpha,
    )
    found = resolved(Snake(0.5), tier)
    assert (found.nonlinearity, found.reason) == ("snake", Reason.ACTIVATION)
    assert found.ending.gain == pytest.approx(1 / math.sqrt(snake_moment(0.5)), rel=1e-6)
    assert dict(found.params) == {"alpha": 0.5}
    assert autoinit.gain("snake", alpha=0.5) == pytest.approx(1 / math.sqrt(snake_moment(0.5)), rel=1e-6)


@torch.library.custom_op("autoinit_tests::twice_relu", mutates_args=())
def twice_relu(x: Tensor, floor: float = 0.0) -> Tensor:
    return 2 * x.clamp(min=floor)


@twice_relu.register_fake
def _(x: Tensor, floor: float = 0.0) -> Tensor:
    return torch.empty_like(x)


@pytest.mark.parametrize("tier", ["symbolic", "recorded", "exported"])
@pytest.mark.parametrize("given", ["functions", "names"])
@pytest.mark.usefixtures("own_ops")
def test_a_custom_operator(given: str, tier: str):
    """E[(2 relu(z))^2] = 2, gain sqrt(1/2)."""
    spelling: dict[str, Any] = (
        {"functions": torch.ops.autoinit_tests.twice_relu}
        if given == "functions"
        else {"names": "autoinit_tests::twice_relu"}
    )
    autoinit.register_op(
        "twice_relu", "nonlinearity", signature="input, floor=0.0", **spelling,
        function=lambda x, floor=0.0: 2 * x.clamp(min=floor),
    )  # fmt: skip
    found = resolved(lambda x: torch.ops.autoinit_tests.twice_relu(x), tier)
    assert (found.nonlinearity, found.reason) == ("twice_relu", Reason.ACTIVATION)
    assert found.ending.gain == pytest.approx(math.sqrt(0.5))


@pytest.mark.parametrize(
    "spelling", [twice_relu, torch.ops.autoinit_tests.twice_relu.default], ids=["object", "overload"]
)
@pytest.mark.usefixtures("own_ops")
def test_other_forms_of_a_custom_operator(spelling: Any):
    autoinit.register_op("twice_relu", "nonlinearity", functions=spelling, function=lambda x: 2 * x.relu())
    assert resolved(twice_relu, "recorded").nonlinearity == "twice_relu"


def test_a_custom_operator_that_is_not_registered_is_unresolved():
    model = Between(WIDTH, lambda x: torch.ops.autoinit_tests.twice_relu(x))
    dataflow = trace(model, (2, WIDTH))
    assert ["twice_relu" in each.op for each in dataflow.unsupported] == [True]
    found = {each.name: each for each in resolve(dataflow)}["before"]
    assert found.reason is Reason.UNRESOLVED
    assert "register_op" in found.ending.note


@pytest.mark.usefixtures("own_ops")
def test_a_transparent_torch_function():
    """`torch.cov` is not a function of a layer that networks use, so the table does not have it."""
    assert REGISTRY.of_function(torch.cov) is None
    assert resolved(lambda x: torch.cov(x.T), "symbolic").reason is Reason.UNRESOLVED
    autoinit.register_op("cov", "transparent", names="cov")
    assert resolved(lambda x: torch.cov(x.T), "symbolic").reason is Reason.WEIGHT
    assert resolved(lambda x: x.T.cov(), "symbolic").reason is Reason.WEIGHT


@pytest.mark.parametrize(
    ("function", "name", "role"),
    [
        (torch.sparse.mm, "sparse_mm", "product"),
        (torch.linalg.solve_triangular, "solve", "product"),
        (torch.linalg.solve, "solve", "product"),
        (torch.autograd.grad, "gradient", "source"),
        (torch.segment_reduce, "segment_reduce", "transparent"),
        (torch._VF._pack_padded_sequence, "pack", "transparent"),
        (torch._VF._pad_packed_sequence, "pack", "transparent"),
        (torch._nested_view_from_jagged, "nested", "transparent"),
        (torch._nested_get_values, "nested", "transparent"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_functions_outside_the_usual_namespaces(function: Callable[..., Any], name: str, role: str):
    """Their flow through a model is tested with the hard cases of graphs, packed and nested sequences."""
    spec = REGISTRY.of_function(function)
    assert spec is not None
    assert (spec.name, str(spec.role)) == (name, role)


@tiers
@pytest.mark.usefixtures("own_ops")
def test_a_users_weight_operation(tier: str):
    """A layer whose weight is (in, out): fans are found by its layout, and the layer before it feeds a weight."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = nn.Parameter(torch.randn(WIDTH, 3))

        def forward(self, x: Tensor) -> Tensor:
            return (x @ self.kernel) * 3

    autoinit.register_op(
        "scaled",
        "weight",
        modules=Scaled,
        signature="input",
        weights=lambda _: (autoinit.ops.WeightSlot("kernel", lambda *_: autoinit.Layout("io")),),
    )
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), Scaled(), nn.ReLU())
    found = {each.name: each for each in resolve(trace(model, None if tier == "symbolic" else (2, WIDTH), tier=tier))}
    assert found["0"].reason is Reason.WEIGHT
    assert (found["1.kernel"].nonlinearity, found["1.kernel"].layout.axes) == ("relu", "io")
