"""Two peers that tune the norms of the weights before training, written from their papers.

MetaInit: Dauphin & Schoenholz, "MetaInit: Initializing learning by learning to initialize", NeurIPS 2019.
GradInit: Zhu et al., "GradInit: Learning to Initialize Neural Networks for Stable and Efficient Training", NeurIPS
2021, arXiv 2102.08098.

Both change the scale of each weight, never its direction, and leave biases alone. Rates and steps are the papers' for
networks without norms, but for MetaInit's 500 steps: each costs several of training, which is 210 to 1,020 steps here.
It gets 100, in which a norm can move by 100; in trials 500 were worse after 10 layers, and 30 trained after neither.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

Loss = Callable[[Tensor, Tensor], Tensor]

SAMPLES = 64
META_STEPS, META_RATE, META_MOMENTUM, META_EPSILON = 100, 0.1, 0.9, 1e-5
GRAD_STEPS, GRAD_RATE, SMALLEST_FACTOR, STEEPEST = 390, 0.01, 0.01, 1.0
FIRST_STEP = {False: 0.1, True: 0.001}
"""GradInit's eta, the size of the step that training is to begin with: of SGD and of Adam."""
ALLOWED_DECREASE = 0.1
"""GradInit's eta * gamma: what the first step changes the loss by, to first order, where the gradient is largest."""


def gradient_quotient(loss: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """MetaInit's eq. (1): how much a gradient step changes the gradient itself, 0 where the loss is linear.

    GQ = 1 / N * || (g - H g) / (g + e) - 1 ||_1, with g the gradient, H the Hessian, N the number of parameters, and e
    of g's sign, `META_EPSILON` large.
    """
    grads = torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True)
    half_square = torch.stack([grad.square().sum() for grad in grads]).sum() / 2
    products = torch.autograd.grad(half_square, parameters, create_graph=True, materialize_grads=True)
    total = loss.new_zeros(())
    for grad, product in zip(grads, products, strict=True):
        away_from_zero = torch.where(grad >= 0, META_EPSILON, -META_EPSILON)
        total = total + ((grad - product) / (grad + away_from_zero) - 1).abs().sum()
    return total / sum(each.numel() for each in parameters)


def metainit(model: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss, seed: int, steps: int = META_STEPS) -> None:
    """Tune the norm of each weight so that the gradient quotient falls: signs of its gradient, with momentum.

    It sees no data: inputs are N(0, 1), targets are drawn at random. It stops early where the quotient is not finite.

    Args:
        model: changed in place.
        inputs: (samples, ...); only the shape is used.
        targets: to draw from.
        loss: of outputs and targets.
        seed: of what is drawn.
        steps: of tuning.
    """
    generator = torch.Generator().manual_seed(seed)
    parameters = list(model.parameters())
    weights = [each for each in parameters if each.dim() > 1]
    speeds = [torch.zeros(()) for _ in weights]
    for _ in range(steps):
        x = torch.randn((SAMPLES, *inputs.shape[1:]), generator=generator)
        chosen = targets[torch.randint(len(targets), (SAMPLES,), generator=generator)]
        quotient = gradient_quotient(loss(model(x), chosen), parameters)
        if not bool(quotient.isfinite()):
            return
        grads = torch.autograd.grad(quotient, weights, materialize_grads=True)
        for weight, grad, speed in zip(weights, grads, speeds, strict=True):
            along = (weight.detach() * grad).sum()
            if not bool(along.isfinite()):
                return
            norm = weight.detach().norm()
            speed.mul_(META_MOMENTUM).sub_(META_RATE * along.sign())
            weight.data.mul_((norm + speed) / norm)


def gradinit(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    loss: Loss,
    seed: int,
    *,
    adam: bool = False,
    steps: int = GRAD_STEPS,
) -> None:
    """Tune a factor on each weight so that the loss after one step of training is least (Algorithm 1).

    The step is `FIRST_STEP` times g / ||g||_2 for SGD, as in the authors' settings, sign(g) for Adam. It is held fixed
    when the factors' gradient is taken, and its loss is that of a batch of which half is new. Where ||g||, the 2-norm
    for SGD, the 1-norm for Adam, is above gamma = 0.1 / eta, the factors follow its gradient down instead. They start
    at 1 and stay above 0.01; both gradients are clipped to 1 and go to an Adam of their own. It stops early where
    ||g|| is not finite.

    Args:
        model: changed in place.
        inputs: (samples, ...) to train on.
        targets: of them.
        loss: of outputs and targets.
        seed: of the batches.
        adam: training will be by Adam.
        steps: of tuning.
    """
    generator = torch.Generator().manual_seed(seed)
    first_step = FIRST_STEP[adam]
    start = {name: each.detach() for name, each in model.named_parameters()}
    names = [name for name, each in start.items() if each.dim() > 1]
    factors = torch.ones(len(names), requires_grad=True)
    falling, holding = (torch.optim.Adam([factors], GRAD_RATE) for _ in range(2))
    for _ in range(steps):
        first, second, third = torch.randint(len(inputs), (3, SAMPLES // 2), generator=generator)
        batch, other = torch.cat([first, second]), torch.cat([first, third])
        current = start | {name: start[name] * factor for name, factor in zip(names, factors.unbind(), strict=True)}
        current = {
            name: each if each.requires_grad else each.clone().requires_grad_() for name, each in current.items()
        }
        value = loss(functional_call(model, current, (inputs[batch],)), targets[batch])
        grads = torch.autograd.grad(value, list(current.values()), create_graph=True, materialize_grads=True)
        size = _size(grads, adam=adam)
        if not bool(size.isfinite()):
            break
        if float(size.detach()) > ALLOWED_DECREASE / first_step:
            objective, optimizer = size, holding
        else:
            steepest = [each.detach().sign() if adam else (each / size).detach() for each in grads]
            moved = {name: each - first_step * way for (name, each), way in zip(current.items(), steepest, strict=True)}
            objective = loss(functional_call(model, moved, (inputs[other],)), targets[other])
            optimizer = falling
        (grad,) = torch.autograd.grad(objective, [factors])
        if not bool(grad.isfinite().all()):
            break
        factors.grad = grad.clamp(-STEEPEST, STEEPEST)
        optimizer.step()
        factors.data.clamp_(min=SMALLEST_FACTOR)
    for name, factor in zip(names, factors.detach(), strict=True):
        model.get_parameter(name).data.mul_(factor)


def _size(grads: Sequence[Tensor], *, adam: bool) -> Tensor:
    """||g||_1 for Adam, ||g||_2 for SGD: what a step along the steepest way changes the loss by, per size of step."""
    if adam:
        return torch.stack([each.abs().sum() for each in grads]).sum()
    return torch.stack([each.square().sum() for each in grads]).sum().sqrt()
