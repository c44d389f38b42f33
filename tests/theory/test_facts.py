"""What the table says of nonlinearities, and of the elementary functions among the operations, against their values.

Each fact is tried on a grid for several values of the parameters: it must hold for all where the table has it, and fail
for some where it has not.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
import torch

from autoinit.ops import REGISTRY, Role
from autoinit.theory.activations import ACTIVATIONS, NONLINEARITIES, SOFTMAXES, Fact, activation_called

Phi = Callable[[torch.Tensor], torch.Tensor]

PARAMS: dict[str, tuple[dict[str, float], ...]] = {
    "affine": ({"scale": 3.0, "shift": -2.0}, {"scale": 0.0, "shift": 20.0}),
    "leaky_relu": ({"negative_slope": 0.2}, {"negative_slope": -1.5}),
    "prelu": ({"weight": 0.25}, {"weight": -0.5}),
    "rrelu": ({"lower": 0.1, "upper": 0.3},),
    "elu": ({"alpha": 1.0}, {"alpha": 0.3}),
    "celu": ({"alpha": 1.0}, {"alpha": 2.5}),
    "softplus": ({"beta": 1.0}, {"beta": 3.0}),
    "threshold": ({"threshold": 0.3, "value": -20.0}, {"threshold": -1.0, "value": 0.7}),
    "hardtanh": ({"min_val": -1.0, "max_val": 1.0}, {"min_val": 0.5, "max_val": 3.0}),
    "sloped_hardsigmoid": ({"slope": 0.2}, {"slope": 0.5}),
    "hardshrink": ({"lambd": 0.5}, {"lambd": 1.5}),
    "softshrink": ({"lambd": 0.5}, {"lambd": 1.5}),
}
NEAR = torch.cat([torch.linspace(-6, 6, 2401, dtype=torch.float64), torch.tensor([1e-3, -1e-3], dtype=torch.float64)])
FAR = torch.logspace(-300, 30, 3301, dtype=torch.float64)
EVERYWHERE = torch.cat([NEAR, FAR, -FAR])


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-9, atol=1e-9, equal_nan=True)


def is_straight(phi: Phi) -> bool:
    x = torch.linspace(-6, 6, 241, dtype=torch.float64)
    return bool((phi(x).diff().diff().abs() < 1e-9).all())


def is_odd(phi: Phi) -> bool:
    return same(phi(-NEAR), -phi(NEAR))


def is_homogeneous(phi: Phi) -> bool:
    return all(same(phi(scale * NEAR), scale * phi(NEAR)) for scale in (0.1, 3.0, 7.7))


def is_homogeneous_near_zero(phi: Phi) -> bool:
    """Slopes on both sides, taken at two distances; finite, the same at both, and not both 0."""
    slopes = [phi(torch.tensor([-h, 0.0, h], dtype=torch.float64)) / h for h in (1e-5, 1e-7)]
    stable = torch.allclose(slopes[0], slopes[1], rtol=1e-3, atol=1e-3)
    return stable and float(slopes[1][1]) == 0 and float(slopes[1].abs().max()) > 1e-2


def is_bounded(phi: Phi) -> bool:
    """Where it has values. The bounds of the functions tried are all under 10."""
    return bool(phi(EVERYWHERE).nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf).abs().max() < 10)


def is_clipping(phi: Phi) -> bool:
    y = phi(NEAR)
    return same(y, NEAR.clamp(y.min(), y.max()))


def is_periodic(phi: Phi) -> bool:
    return same(phi(NEAR + 2 * torch.pi), phi(NEAR)) and not same(phi(NEAR + 1), phi(NEAR))


def is_share(phi: Phi) -> bool:
    values = phi(EVERYWHERE).nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf)
    return bool((values >= 0).all() and (values <= 1).all())


TRIALS: dict[Fact, Callable[[Phi], bool]] = {
    Fact.STRAIGHT: is_straight,
    Fact.ODD: is_odd,
    Fact.HOMOGENEOUS: is_homogeneous,
    Fact.HOMOGENEOUS_NEAR_ZERO: is_homogeneous_near_zero,
    Fact.BOUNDED: is_bounded,
    Fact.CLIPPING: is_clipping,
    Fact.PERIODIC: is_periodic,
    Fact.SHARE: is_share,
}


def functions() -> Iterator[tuple[str, Fact, list[Phi]]]:
    """Activations, and the operations of one operand and no arguments that are nonlinearities."""
    for name, each in ACTIVATIONS.items():
        yield name, each.facts, [each.bind(params) for params in PARAMS.get(name, ({},))]
    for name, spec in REGISTRY.specs.items():
        alone = [argument for argument, _ in spec.arguments] == ["input"] and spec.acts == "elementwise"
        if spec.role is Role.NONLINEARITY and alone and name not in NONLINEARITIES:
            assert spec.function is not None
            yield name, spec.facts, [spec.function]


FUNCTIONS = {name: (facts, tried) for name, facts, tried in functions()}


def test_every_fact_has_a_trial():
    assert set(TRIALS) == {fact for fact in Fact if fact}


def test_every_activation_with_parameters_is_tried_with_several():
    with_parameters = {name for name, each in ACTIVATIONS.items() if each.parameters}
    assert set(PARAMS) == with_parameters
    assert {name for name, tried in PARAMS.items() if len(tried) < 2} == {"rrelu"}


@pytest.mark.parametrize("name", [name for name, each in ACTIVATIONS.items() if each.spelling and each.parameters])
def test_defaults_are_those_of_the_modules_of_torch(name: str):
    """That of threshold has none."""
    kind, *_ = ACTIVATIONS[name].spelling.modules
    if name == "threshold":
        assert ACTIVATIONS[name].defaults == {}
    else:
        module = kind().double()
        made = {key: torch.as_tensor(getattr(module, key), dtype=torch.float64) for key in ACTIVATIONS[name].parameters}
        assert dict(ACTIVATIONS[name].defaults) == {key: float(value.detach()) for key, value in made.items()}


@pytest.mark.parametrize(
    ("called", "constants", "name"),
    [
        ("gelu", {"approximate": "tanh"}, "gelu_tanh"),
        ("gelu", {"approximate": "none"}, "gelu"),
        ("gelu", {}, "gelu"),
        ("silu", {"approximate": "tanh"}, "silu"),
        ("hardsigmoid", {}, "hardsigmoid"),
    ],
)
def test_a_call_is_the_variant_whose_constants_it_has(called: str, constants: dict[str, str], name: str):
    """A variant without constants, as the hard sigmoid of another slope, is no call of the function itself."""
    found = activation_called(called, constants)
    assert found is not None
    assert found.name == name


def test_a_call_of_no_activation_is_none():
    assert activation_called("matmul", {"approximate": "tanh"}) is None


def test_elementary_functions_are_among_those_tried():
    assert {"abs", "sin", "exp", "ndtr", "reciprocal"} < set(FUNCTIONS)


@pytest.mark.parametrize(("name", "fact"), list(itertools.product(FUNCTIONS, TRIALS)), ids=str)
def test_a_fact_is_claimed_where_it_holds(name: str, fact: Fact):
    facts, tried = FUNCTIONS[name]
    has_parameters = name in PARAMS
    holds = all(TRIALS[fact](phi) for phi in tried)
    assert (fact in facts) == (holds and (has_parameters or fact is not Fact.CLIPPING))


@pytest.mark.parametrize("name", SOFTMAXES)
def test_softmaxes_give_shares(name: str):
    """Along an axis, of logits from -300 to 300: softmax gives shares, its logarithm and logsumexp do not."""
    logits = 100 * torch.randn(64, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = SOFTMAXES[name].function(logits, dim=1)
    shares = bool((values >= 0).all() and (values <= 1).all())
    facts = SOFTMAXES[name].facts
    assert (Fact.SHARE in facts, Fact.BOUNDED in facts) == (shares, shares)


def test_facts_that_follow_from_others_are_there():
    """A share is bounded; what is homogeneous is so near zero."""
    for name, (facts, _) in FUNCTIONS.items():
        assert Fact.SHARE not in facts or Fact.BOUNDED in facts, name
        assert Fact.HOMOGENEOUS not in facts or Fact.HOMOGENEOUS_NEAR_ZERO in facts, name


def test_no_fact_is_none_of_the_facts():
    assert not Fact.NONE
    assert all((Fact.NONE | each) == each and not each & Fact.NONE for each in Fact)
