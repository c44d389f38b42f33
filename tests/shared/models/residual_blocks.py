"""The residual block `conv2(lrelu(conv1(x))) + x`, slope 0.2, in many spellings that compute the same."""

from __future__ import annotations

import operator
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS, HIDDEN = 4, 6


class Block(nn.Module):
    """The block in its plain form; subclasses spell the activation, the branch or the addition differently."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(CHANNELS, HIDDEN, 3, padding=1)
        self.conv2 = nn.Conv2d(HIDDEN, CHANNELS, 3, padding=1)
        self.act = nn.LeakyReLU(0.2)

    def activate(self, out: Tensor) -> Tensor:
        return self.act(out)

    def join(self, out: Tensor, x: Tensor) -> Tensor:
        return out + x

    def forward(self, x: Tensor) -> Tensor:
        return self.join(self.conv2(self.activate(self.conv1(x))), x)


class Activated(Block):
    """The activation is a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        del self.act

    def activate(self, out: Tensor) -> Tensor:
        return self.function(out)


class Joined(Block):
    """The addition is a function."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def join(self, out: Tensor, x: Tensor) -> Tensor:
        return self.function(out, x)


class InPlaceModuleDropped(Block):
    def __init__(self) -> None:
        super().__init__()
        self.act = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(x)
        self.act(out)
        return self.conv2(out) + x


class InPlaceFunctionDropped(Block):
    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(x)
        F.leaky_relu_(out, 0.2)
        return self.conv2(out) + x


class AugmentedAssignment(Block):
    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(x)
        out = self.act(out)
        out = self.conv2(out)
        out += x
        return out


class AddDropped(Block):
    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.act(self.conv1(x)))
        out.add_(x)
        return out


class WeightsAlone(nn.Module):
    """No convolution module: parameters and `F.conv2d`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Parameter(torch.randn(HIDDEN, CHANNELS, 3, 3))
        self.conv2 = nn.Parameter(torch.randn(CHANNELS, HIDDEN, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.leaky_relu(F.conv2d(x, self.conv1, padding=1), 0.2), self.conv2, padding=1) + x


class ModulesWeights(Block):
    """The modules hold the weights; `F.conv2d` uses them."""

    def forward(self, x: Tensor) -> Tensor:
        out = self.act(F.conv2d(x, self.conv1.weight, self.conv1.bias, padding=1))
        return F.conv2d(out, weight=self.conv2.weight, bias=self.conv2.bias, stride=1, padding=1) + x


class InSequential(nn.Module):
    """The branch is a Sequential; the layers are `branch.0` and `branch.2`."""

    def __init__(self) -> None:
        super().__init__()
        block = Block()
        self.branch = nn.Sequential(block.conv1, block.act, block.conv2)

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x) + x


class Quantizable(Block):
    """The addition that quantization-aware models use."""

    def __init__(self) -> None:
        super().__init__()
        self.skip_add = torch.ao.nn.quantized.FloatFunctional()

    def join(self, out: Tensor, x: Tensor) -> Tensor:
        return self.skip_add.add(out, x)


class Slope(nn.LeakyReLU):
    """A subclass of torch's module that changes nothing."""


class OwnClasses(Block):
    """A block, a convolution and an activation of the user's own classes."""

    class Convolution(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = self.Convolution(CHANNELS, HIDDEN, 3, padding=1)
        self.act = Slope(0.2)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).clone()


class SharedActivation(nn.Module):
    """Two blocks and one activation module; the layers are `first.conv1`, ..., `second.conv2`."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Block(), Block()
        self.second.act = self.first.act

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


class SharedBlock(nn.Module):
    """One block called twice; the layers are `block.conv1` and `block.conv2`."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Block()

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.block(x))


def by_clamping(out: Tensor) -> Tensor:
    return out.clamp(min=0) + 0.2 * out.clamp(max=0)


def by_where(out: Tensor) -> Tensor:
    return torch.where(out > 0, out, 0.2 * out)


def by_maximum(out: Tensor) -> Tensor:
    return torch.maximum(out, 0.2 * out)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "functional_positional": lambda out: F.leaky_relu(out, 0.2),
    "functional_keyword": lambda out: F.leaky_relu(out, negative_slope=0.2),
    "functional_inplace_argument": lambda out: F.leaky_relu(out, 0.2, True),
    "functional_underscore": lambda out: F.leaky_relu_(out, 0.2),
    "aten": lambda out: torch.ops.aten.leaky_relu(out, 0.2),
    "where": by_where,
    "maximum": by_maximum,
    "clamp_parts": by_clamping,
}

ADDITIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "torch_add": lambda out, x: torch.add(out, x),
    "torch_add_alpha": lambda out, x: torch.add(x, out, alpha=1),
    "method_add": lambda out, x: out.add(x),
    "method_add_inplace": lambda out, x: out.add_(x),
    "operator_add": operator.add,
    "operator_iadd": operator.iadd,
    "builtin_sum": lambda out, x: sum([out, x]),
    "subtraction": lambda out, x: x - out,
}

CLASSES: dict[str, type[nn.Module]] = {
    "plain": Block,
    "inplace_module_dropped": InPlaceModuleDropped,
    "inplace_function_dropped": InPlaceFunctionDropped,
    "augmented_assignment": AugmentedAssignment,
    "add_dropped": AddDropped,
    "weights_alone": WeightsAlone,
    "modules_weights": ModulesWeights,
    "sequential": InSequential,
    "float_functional": Quantizable,
    "own_classes": OwnClasses,
    "shared_activation": SharedActivation,
    "shared_block": SharedBlock,
}

WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "data_parallel": nn.DataParallel,
    "compiled": torch.compile,
    "graph_module": torch.fx.symbolic_trace,
}

LAYERS: dict[str, list[tuple[str, str]]] = {
    "sequential": [("branch.0", "branch.2")],
    "shared_activation": [("first.conv1", "first.conv2"), ("second.conv1", "second.conv2")],
    "shared_block": [("block.conv1", "block.conv2")],
}
"""Names of (first, second) convolution where they are not `conv1` and `conv2`."""


def build(spelling: str) -> nn.Module:
    """The block in this spelling."""
    if spelling in ACTIVATIONS:
        return Activated(ACTIVATIONS[spelling])
    if spelling in ADDITIONS:
        return Joined(ADDITIONS[spelling])
    if spelling in WRAPPERS:
        return WRAPPERS[spelling](Block())
    return CLASSES[spelling]()


SPELLINGS = (*CLASSES, *ACTIVATIONS, *ADDITIONS, *WRAPPERS)
