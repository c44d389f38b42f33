"""Networks of vectors, graphs, points, fields and control."""

import functools
import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from _practice_task import Practice, adam, error, picture, seen, stepped, supervised, unseen
from torch import Tensor, nn
from torch.nn import functional as F


def mlp(depth: int, width: int = 128) -> nn.Sequential:
    """`depth` linear layers with ReLU between them, for images of digits."""
    hidden = [layer for i in range(depth - 1) for layer in (nn.Linear(width if i else 64, width), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, 10))


NODES, COMMUNITIES = 400, 5


@functools.cache
def network() -> tuple[Tensor, Tensor, Tensor]:
    """A stochastic block model: D^-1/2 (A + I) D^-1/2 of its adjacency A, noisy features (nodes, 16), communities."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(COMMUNITIES, (NODES,), generator=generator)
    same = labels[:, None] == labels
    upper = (torch.rand(NODES, NODES, generator=generator) < torch.where(same, 0.05, 0.01)).triu(1).float()
    adjacency = upper + upper.T + torch.eye(NODES)
    scale = adjacency.sum(1).rsqrt()
    centres = 0.5 * torch.randn(COMMUNITIES, 16, generator=generator)
    features = centres[labels] + torch.randn(NODES, 16, generator=generator)
    return scale[:, None] * adjacency * scale, features, labels


class GCN(nn.Module):
    """Three graph convolutions (Kipf & Welling 2017)."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.register_buffer("adjacency", network()[0])
        widths = (16, width, width, COMMUNITIES)
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of features (nodes, 16)."""
        for number, layer in enumerate(self.layers):
            x = self.adjacency @ layer(F.dropout(x, 0.2, self.training))
            x = F.relu(x) if number < 2 else x
        return x


def train_gcn(model: nn.Module, rate: float) -> Iterator[Tensor]:
    """All nodes of which the first 100 are labelled."""
    stepping, (_, features, labels) = adam(model, rate), network()
    while True:
        yield stepped(stepping, F.cross_entropy(model(features)[:100], labels[:100]))


@torch.no_grad()
def judge_gcn(model: nn.Module) -> float:
    """The share of the other nodes whose community is missed."""
    model.eval()
    _, features, labels = network()
    return float((model(features).argmax(-1) != labels)[100:].float().mean())


class PointNet(nn.Module):
    """An MLP for each point, the maximum over points, an MLP; batch norms (Qi et al. 2017, without its transforms)."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, 128)
        self.points = nn.Sequential(
            *(
                layer
                for before, width in pairwise(widths)
                for layer in (nn.Conv1d(before, width, 1), nn.BatchNorm1d(width), nn.ReLU())
            )
        )
        self.head = nn.Sequential(
            nn.Linear(128, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, len(SHAPES))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits of points (samples, 3, points)."""
        logits: Tensor = self.head(self.points(x).amax(-1))
        return logits


SHAPES = ("ball", "sphere", "cube", "surface of a cube", "cylinder", "cone")


@functools.cache
def clouds(test: bool) -> tuple[Tensor, Tensor]:
    """600 sets of 64 points of `SHAPES`, turned, stretched and with noise."""
    generator = torch.Generator().manual_seed(int(test))
    made = []
    for index in range(600):
        flat = torch.rand(64, 3, generator=generator) * 2 - 1
        way = F.normalize(torch.randn(64, 3, generator=generator), dim=-1)
        level = flat[:, 2:]
        disc = F.normalize(way[:, :2], dim=-1) * (flat[:, :1].abs().sqrt())
        shape = SHAPES[index % len(SHAPES)]
        points = {
            "ball": way * flat[:, :1].abs() ** (1 / 3),
            "sphere": way,
            "cube": flat,
            "surface of a cube": flat / flat.abs().amax(1, keepdim=True),
            "cylinder": torch.cat([disc, level], 1),
            "cone": torch.cat([disc * (1 - level) / 2, level], 1),
        }[shape]
        turn = torch.linalg.qr(torch.randn(3, 3, generator=generator))[0]
        stretch = 0.7 + 0.6 * torch.rand(3, generator=generator)
        made.append((points * stretch) @ turn + 0.05 * torch.randn(64, 3, generator=generator))
    return torch.stack(made).transpose(1, 2).contiguous(), torch.arange(600) % len(SHAPES)


class Sine(nn.Module):
    """sin(30 x)."""

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape of x."""
        return torch.sin(30 * x)


def siren(width: int = 64) -> nn.Sequential:
    """Three hidden layers (Sitzmann et al. 2020)."""
    layers = [layer for i in range(3) for layer in (nn.Linear(width if i else 2, width), Sine())]
    return nn.Sequential(*layers, nn.Linear(width, 1))


class Waves(nn.Module):
    """Sines and cosines of places at six frequencies (Mildenhall et al. 2020, eq. 4)."""

    def forward(self, x: Tensor) -> Tensor:
        """Of places (samples, 2) features (samples, 24)."""
        angles = (x[..., None] * (math.pi * 2.0 ** torch.arange(6))).flatten(1)
        return torch.cat([angles.sin(), angles.cos()], -1)


def field(width: int = 64) -> nn.Sequential:
    """Four hidden layers of ReLU over `Waves`, a sigmoid at the end, as NeRF's colour."""
    layers = [layer for i in range(4) for layer in (nn.Linear(width if i else 24, width), nn.ReLU())]
    return nn.Sequential(Waves(), *layers, nn.Linear(width, 1), nn.Sigmoid())


def places() -> Tensor:
    """Of all pixels of the picture, (pixels, 2), in [-1, 1]."""
    line = torch.linspace(-1, 1, 64)
    return torch.cartesian_prod(line, line)


def pixels() -> tuple[Tensor, Tensor]:
    """Places, and brightness in [-1, 1]."""
    return places(), picture().flatten()[:, None]


def shades() -> tuple[Tensor, Tensor]:
    """Places, and brightness in [0, 1]."""
    return places(), picture().flatten()[:, None] / 2 + 0.5


def few_places() -> Tensor:
    """A batch for LSUV."""
    return places()[torch.randperm(4096, generator=torch.Generator().manual_seed(0))[:256]]


class ActorCritic(nn.Module):
    """Policy and value, two hidden layers of tanh each, as in PPO's code for control (Huang et al. 2022)."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.actor, self.critic = (
            nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, n))
            for n in (2, 1)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the two actions and value of states (samples, 4)."""
        return self.actor(x), self.critic(x)[..., 0]


class CartPoles:
    """Many poles on carts, to be kept upright (Barto, Sutton & Anderson 1983; the constants of gymnasium's CartPole).

    A state is position, speed, angle, angular speed. A fall, or 200 steps, begin anew.
    """

    LONGEST = 200

    def __init__(self, count: int) -> None:
        self.state = torch.rand(count, 4) * 0.1 - 0.05
        self.age = torch.zeros(count)

    def step(self, right: Tensor) -> tuple[Tensor, Tensor]:
        """Push each cart; whether its pole has fallen, and whether its time is up."""
        x, speed, angle, turning = self.state.unbind(1)
        force = torch.where(right == 1, 10.0, -10.0)
        pushed = (force + 0.05 * turning.square() * angle.sin()) / 1.1
        turn = (9.8 * angle.sin() - angle.cos() * pushed) / (0.5 * (4 / 3 - 0.1 * angle.cos().square() / 1.1))
        push = pushed - 0.05 * turn * angle.cos() / 1.1
        self.state = torch.stack(
            [x + 0.02 * speed, speed + 0.02 * push, angle + 0.02 * turning, turning + 0.02 * turn], 1
        )
        self.age = self.age + 1
        fallen = (self.state[:, 0].abs() > 2.4) | (self.state[:, 2].abs() > 12 * math.pi / 180)
        late = self.age >= self.LONGEST
        again = (fallen | late)[:, None]
        self.state = torch.where(again, torch.rand_like(self.state) * 0.1 - 0.05, self.state)
        self.age = torch.where(again[:, 0], 0.0, self.age)
        return fallen, late


def train_control(model: nn.Module, rate: float) -> Iterator[Tensor]:
    """PPO (Schulman et al. 2017): 16 carts, 32 steps, four epochs over them; clip 0.2, GAE 0.95, discount 0.99."""
    stepping, carts = adam(model, rate), CartPoles(16)
    while True:
        states, actions, chances, values, ends = [], [], [], [], []
        with torch.no_grad():
            for _ in range(32):
                logits, value = model(carts.state)
                action = (torch.rand(16) < logits.softmax(-1)[:, 1]).long()
                states.append(carts.state)
                actions.append(action)
                chances.append(chance(logits, action))
                values.append(value)
                fallen, late = carts.step(action)
                ends.append((fallen | late).float())
            values.append(model(carts.state)[1])
            advantage, later = [], torch.zeros(16)
            for t in reversed(range(32)):
                going = 1 - ends[t]
                surprise = 1 + 0.99 * values[t + 1] * going - values[t]
                later = surprise + 0.99 * 0.95 * going * later
                advantage.insert(0, later)
        x, a, before, gained = (torch.cat(each) for each in (states, actions, chances, advantage))
        aim = gained + torch.cat(values[:-1])
        gained = (gained - gained.mean()) / (gained.std() + 1e-8)
        for _ in range(4):
            logits, value = model(x)
            ratio = (chance(logits, a) - before).exp()
            won = torch.minimum(ratio * gained, ratio.clamp(0.8, 1.2) * gained).mean()
            loss = stepped(stepping, 0.5 * (value - aim).square().mean() - won)
        yield loss


def chance(logits: Tensor, action: Tensor) -> Tensor:
    """Log-probability of the action that was taken."""
    return logits.log_softmax(-1).gather(1, action[:, None])[:, 0]


@torch.no_grad()
def judge_control(model: nn.Module) -> float:
    """The share of 200 steps that the poles of 128 carts do not stand, the policy's actions drawn."""
    torch.manual_seed(0)
    carts = CartPoles(128)
    standing = torch.ones(128, dtype=torch.bool)
    stood = torch.zeros(128)
    for _ in range(CartPoles.LONGEST):
        fallen, _ = carts.step((torch.rand(128) < model(carts.state)[0].softmax(-1)[:, 1]).long())
        standing &= ~fallen
        stood += standing
    return float(1 - stood.mean() / CartPoles.LONGEST)


XAVIER = "Xavier: Glorot & Bengio 2010"
OTHERS = {
    "mlp_3": Practice(
        "MLP, 3 layers", "error", lambda: mlp(3), supervised(seen), error(unseen), lambda: seen()[0][:64],
        (0.001, 0.003, 0.01), 200, None, "He: He et al. 2015",
    ),
    "mlp_8": Practice(
        "MLP, 8 layers", "error", lambda: mlp(8), supervised(seen), error(unseen), lambda: seen()[0][:64],
        (0.001, 0.003, 0.01), 200, None, "He: He et al. 2015",
    ),
    "graph": Practice(
        "GCN, 3 layers", "error", GCN, train_gcn, judge_gcn, lambda: network()[1], (0.003, 0.01, 0.03), 80, None,
        "Xavier: Kipf & Welling 2017",
    ),
    "points": Practice(
        "PointNet", "error", PointNet, supervised(lambda: clouds(test=False)), error(lambda: clouds(test=True)),
        lambda: clouds(test=False)[0][:64], (0.0003, 0.001, 0.003), 150, None, "Xavier: Qi et al. 2017",
    ),
    "siren": Practice(
        "SIREN of an image", "squared error", siren, supervised(pixels, F.mse_loss, batch=512),
        lambda model: float(F.mse_loss(model(places()), pixels()[1]).detach()), few_places, (0.0003, 0.001, 0.003),
        300, "siren", "Sitzmann et al. 2020",
    ),
    "field": Practice(
        "ReLU field of an image", "squared error", field, supervised(shades, F.mse_loss, batch=512),
        lambda model: float(F.mse_loss(model(places()), shades()[1]).detach()), few_places, (0.003, 0.01, 0.03), 300,
        None, "Xavier: Mildenhall et al. 2020",
    ),
    "actor_critic": Practice(
        "Actor-critic, PPO on CartPole", "time fallen", ActorCritic, train_control, judge_control,
        lambda: torch.rand(256, 4, generator=torch.Generator().manual_seed(7_919)) - 0.5,
        (0.001, 0.003, 0.01), 30, "rl", "Huang et al. 2022",
    ),
}  # fmt: skip
