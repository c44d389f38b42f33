"""Hard cases: whole families of networks outside vision and language. What cannot be known is visible, and the layers
around it are as they should be.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoinit import plan
from tests.shared.written_nets import (
    UNRESOLVED,
    Layer,
    Many,
    Net,
    assert_planned,
    gelu,
    he,
    linear,
    mixed,
    normed,
    numbers,
    parted,
    relu,
    second_moment,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
    xavier,
)

WIDTH, HIDDEN, CLASSES = 6, 8, 3
HEAD = linear("output", HIDDEN, CLASSES)

# Graphs: five nodes, seven edges.

EDGES = torch.tensor([[0, 1, 2, 3, 4, 0, 2], [1, 2, 3, 4, 0, 2, 4]])
NODES = numbers(5, WIDTH)


def summed_by_index_add(h: Tensor, edges: Tensor) -> Tensor:
    return torch.zeros_like(h).index_add_(0, edges[1], h[edges[0]])


def summed_by_scatter(h: Tensor, edges: Tensor) -> Tensor:
    index = edges[1].unsqueeze(-1).expand(-1, h.shape[-1])
    return torch.zeros_like(h).scatter_add(0, index, h.index_select(0, edges[0]))


def summed_by_gather(h: Tensor, edges: Tensor) -> Tensor:
    index = edges[0].view(-1, 1).repeat(1, h.shape[1])
    return h.new_zeros(h.shape).scatter_add_(0, edges[1].view(-1, 1).expand_as(index), torch.gather(h, 0, index))


def averaged(h: Tensor, edges: Tensor) -> Tensor:
    degree = torch.bincount(edges[1], minlength=h.shape[0]).clamp(min=1).to(h.dtype)
    return summed_by_index_add(h, edges) / degree.unsqueeze(-1)


def highest_by_scatter_reduce(h: Tensor, edges: Tensor) -> Tensor:
    index = edges[1].unsqueeze(-1).expand(-1, h.shape[-1])
    return h.new_full(h.shape, -1e9).scatter_reduce(0, index, h[edges[0]], reduce="amax", include_self=False)


def highest_by_index_reduce(h: Tensor, edges: Tensor) -> Tensor:
    return torch.zeros_like(h).index_reduce_(0, edges[1], h[edges[0]], "amax")


def by_put(h: Tensor, edges: Tensor) -> Tensor:
    return torch.zeros_like(h).index_put((edges[1],), h[edges[0]], accumulate=True)


AGGREGATIONS = [
    summed_by_index_add,
    summed_by_scatter,
    summed_by_gather,
    averaged,
    highest_by_scatter_reduce,
    highest_by_index_reduce,
    by_put,
]


@pytest.mark.parametrize("aggregate", AGGREGATIONS, ids=lambda each: each.__name__)
def test_a_graph_convolution(aggregate: Callable[[Tensor, Tensor], Tensor]):
    """Linear, neighbours together, relu: gathering and scattering move rows, as pooling does."""

    def forward(net: Any, x: Tensor, edges: Tensor) -> Tensor:
        h = F.relu(aggregate(net.first(x), edges))
        return aggregate(net.last(h), edges).log_softmax(-1)

    model = Many(forward, first=nn.Linear(WIDTH, HIDDEN), last=nn.Linear(HIDDEN, CLASSES))
    made = assert_planned(model, (NODES, EDGES), {"first": relu(WIDTH), "last": softmax(HIDDEN, CLASSES)})
    assert made.unsupported == ()


def segments_by_reduce(h: Tensor, offsets: Tensor) -> Tensor:
    return torch.segment_reduce(h, "max", offsets=offsets, axis=0)


def test_a_maximum_of_segments():
    model = Many(
        lambda net, x, offsets: net.last(F.relu(segments_by_reduce(net.first(x), offsets))),
        first=nn.Linear(WIDTH, HIDDEN),
        last=nn.Linear(HIDDEN, CLASSES),
    )
    assert_planned(model, (NODES, torch.tensor([0, 2, 5])), {"first": relu(WIDTH), "last": HEAD})


def adjacency() -> Tensor:
    values = torch.full((EDGES.shape[1],), 0.5)
    return torch.sparse_coo_tensor(EDGES, values, (5, 5), check_invariants=True)


@pytest.mark.parametrize("multiply", [torch.sparse.mm, torch.mm, torch.matmul], ids=["sparse_mm", "mm", "matmul"])
@pytest.mark.parametrize("held", [True, False], ids=["buffer", "input"])
def test_a_sparse_adjacency(multiply: Callable[[Tensor, Tensor], Tensor], held: bool):
    """The adjacency says who is whose neighbour; it is no signal, so that the layer before it feeds the relu."""

    def forward(net: Any, x: Tensor, *given: Tensor) -> Tensor:
        matrix = given[0] if given else net.matrix
        return net.last(F.relu(multiply(matrix, net.first(x))))

    parts: dict[str, Any] = {"matrix": adjacency()} if held else {}
    model = Many(forward, first=nn.Linear(WIDTH, HIDDEN), last=nn.Linear(HIDDEN, CLASSES), **parts)
    assert_planned(model, (NODES,) if held else (NODES, adjacency()), {"first": relu(WIDTH), "last": HEAD})


def test_a_dense_adjacency_is_passed_where_it_is_an_input():
    """No weight made it: the layer feeds the relu, as beside a sparse one."""
    model = Many(
        lambda net, x, matrix: net.last(F.relu(matrix @ net.first(x))),
        first=nn.Linear(WIDTH, HIDDEN),
        last=nn.Linear(HIDDEN, CLASSES),
    )
    assert_planned(model, (NODES, adjacency().to_dense()), {"first": relu(WIDTH), "last": HEAD})


@pytest.mark.parametrize("inputs", [None, NODES], ids=["no_input", "input"])
def test_a_dense_adjacency_is_a_constant_where_it_is_a_buffer(inputs: Any):
    model = Net(
        lambda net, x: net.last(F.relu(net.matrix @ net.first(x))),
        matrix=torch.eye(5) / 2,
        first=nn.Linear(WIDTH, HIDDEN),
        last=nn.Linear(HIDDEN, CLASSES),
    )
    assert_planned(model, inputs, {"first": relu(WIDTH), "last": HEAD})


def test_graph_attention():
    """GAT: scores of both ends added before leaky_relu, a softmax over each node's edges by scattering."""

    def forward(net: Any, x: Tensor, edges: Tensor) -> Tensor:
        source, target = edges
        h = net.linear(x)
        scores = F.leaky_relu((h * net.left).sum(-1)[source] + (h * net.right).sum(-1)[target], 0.2)
        shares = (scores - scores.max()).exp()
        total = torch.zeros(x.shape[0]).index_add(0, target, shares)
        shares = shares / total[target]
        out = torch.zeros_like(h).index_add(0, target, h[source] * shares.unsqueeze(-1))
        return net.last(F.elu(out))

    model = Many(
        forward,
        linear=nn.Linear(WIDTH, HIDDEN, bias=False),
        left=nn.Parameter(torch.randn(1, HIDDEN)),
        right=nn.Parameter(torch.randn(1, HIDDEN)),
        last=nn.Linear(HIDDEN, CLASSES),
    )
    made = plan(model, (NODES, EDGES))
    assert (made["linear"].nonlinearity, made["linear"].status) == ("linear", "planned")
    assert made["linear"].std == pytest.approx(xavier(WIDTH, HIDDEN))
    assert made["last"].std == pytest.approx(HEAD.std)
    for name in ("left", "right"):  # each node's products with them are summed: one output of 8
        assert (made[name].reason, made[name].std) == ("add", pytest.approx(xavier(HIDDEN, 1)))


def test_message_passing_with_an_update():
    """MPNN: messages from both ends and the edge, summed, into a GRU cell; the sum of all nodes is read out."""

    def forward(net: Any, x: Tensor, edges: Tensor, kinds: Tensor) -> Tensor:
        h = torch.tanh(net.embed(x))
        for _ in range(2):
            message = F.silu(net.message(torch.cat([h[edges[0]], h[edges[1]], kinds], -1)))
            h = net.update(torch.zeros_like(h).index_add_(0, edges[1], message), h)
        return net.last(h.sum(0))

    reset_update = [(HIDDEN, sigmoid(HIDDEN, HIDDEN))] * 2
    of_message = parted(mixed(sigmoid(HIDDEN, HIDDEN)), *reset_update, (HIDDEN, tanh(HIDDEN, HIDDEN)))
    of_state = parted(mixed(sigmoid(HIDDEN, HIDDEN)), *reset_update, (HIDDEN, linear("gate", HIDDEN, HIDDEN)))
    model = Many(
        forward,
        embed=nn.Linear(WIDTH, HIDDEN),
        message=nn.Linear(2 * HIDDEN + 2, HIDDEN),
        update=nn.GRUCell(HIDDEN, HIDDEN),
        last=nn.Linear(HIDDEN, CLASSES),
    )
    expected = {
        "embed": tanh(WIDTH, HIDDEN),
        "message": silu(2 * HIDDEN + 2),
        "update.weight_ih": of_message,
        "update.weight_hh": of_state,
        "last": HEAD,
    }
    assert_planned(model, (NODES, EDGES, numbers(7, 2)), expected)


# Point clouds.


@pytest.mark.parametrize("by_distance", [False, True], ids=["cdist", "inner_products"])
def test_edge_convolution(by_distance: bool):
    """DGCNN: the nearest points in the space of the features, [x, neighbour - x], a shared MLP, the maximum of the
    neighbours. The search ranks, and carries no signal.
    """

    def neighbours(x: Tensor) -> Tensor:
        if by_distance:
            inner, square = x @ x.transpose(1, 2), x.pow(2).sum(-1)
            return (2 * inner - square.unsqueeze(1) - square.unsqueeze(2)).topk(3, dim=-1).indices
        return torch.cdist(x, x).topk(3, dim=-1, largest=False)[1]

    def forward(net: Any, x: Tensor) -> Tensor:
        x = net.embed(x)
        index = neighbours(x)
        near = torch.stack([cloud[rows] for cloud, rows in zip(x, index, strict=True)])
        centre = x.unsqueeze(2).expand_as(near)
        edge = net.second(F.relu(net.first(torch.cat([centre, near - centre], -1))))
        return net.head(edge.max(2).values.amax(1))

    model = Net(
        forward,
        embed=nn.Linear(3, WIDTH),
        first=nn.Linear(2 * WIDTH, HIDDEN),
        second=nn.Linear(HIDDEN, HIDDEN),
        head=nn.Linear(HIDDEN, CLASSES),
    )
    expected = {
        "embed": linear("add", 3, WIDTH),  # the subtraction, and as rows of the first layer's input
        "first": relu(2 * WIDTH),
        "second": linear("weight", HIDDEN, HIDDEN),
        "head": HEAD,
    }
    made = assert_planned(model, (numbers(2, 6, 3),), expected)
    assert made.unsupported == ()


@pytest.mark.parametrize("inputs", [None, (2, 3, 10)], ids=["no_input", "input"])
def test_pointnet(inputs: Any):
    """The transform net makes a matrix, plus the identity, that the points are multiplied by, and the next weight."""

    def forward(net: Any, x: Tensor) -> Tensor:
        t = F.relu(net.norm(net.t_conv(x))).max(2)[0]
        matrix = net.t_fc(t).view(-1, 3, 3) + torch.eye(3)
        x = torch.bmm(x.transpose(2, 1), matrix).transpose(2, 1)
        return net.head(torch.max(F.relu(net.conv(x)), 2)[0])

    model = Net(
        forward,
        t_conv=nn.Conv1d(3, HIDDEN, 1),
        norm=nn.BatchNorm1d(HIDDEN),
        t_fc=nn.Linear(HIDDEN, 9),
        conv=nn.Conv1d(3, HIDDEN, 1),
        head=nn.Linear(HIDDEN, CLASSES),
    )
    expected = {
        "t_conv": normed(relu(3)),
        "t_fc": linear("weight", HIDDEN, 9),
        "conv": relu(3),
        "head": HEAD,
    }
    assert_planned(model, inputs, expected)


@pytest.mark.parametrize("inputs", [None, (2, 5, WIDTH)], ids=["no_input", "input"])
@pytest.mark.parametrize("pool", ["sum", "mean", "amax"])
def test_deep_sets(pool: str, inputs: Any):
    model = Net(
        lambda net, x: net.rho(getattr(net.phi(x), pool)(1)),
        phi=nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.ELU(), nn.Linear(HIDDEN, HIDDEN)),
        rho=nn.Sequential(nn.Linear(HIDDEN, HIDDEN), nn.ELU(), nn.Linear(HIDDEN, CLASSES)),
    )
    elu = second_moment(lambda z: z if z > 0 else math.expm1(z), 0.0)
    expected = {
        "phi.0": he("elu", elu, WIDTH, alpha=1.0),
        "phi.2": linear("weight", HIDDEN, HIDDEN),
        "rho.0": he("elu", elu, HIDDEN, alpha=1.0),
        "rho.2": HEAD,
    }
    assert_planned(model, inputs, expected)


# Attention to learned latents.


@pytest.mark.parametrize("inputs", [None, (2, 7, WIDTH)], ids=["no_input", "input"])
def test_perceiver(inputs: Any):
    """Learned latents ask, the input answers; then a feed-forward on the latents."""

    def forward(net: Any, x: Tensor) -> Tensor:
        latents = net.latents.expand(x.shape[0], -1, -1)
        q, (k, v) = net.q(net.norm(latents)), net.kv(x).chunk(2, -1)
        z = latents + net.o(F.scaled_dot_product_attention(q, k, v))
        z = z + net.down(F.gelu(net.up(z)))
        return net.head(z.mean(1))

    square = linear("attention", WIDTH, WIDTH)
    model = Net(
        forward,
        latents=nn.Parameter(torch.randn(1, 4, WIDTH)),
        norm=nn.LayerNorm(WIDTH),
        q=nn.Linear(WIDTH, WIDTH),
        kv=nn.Linear(WIDTH, 2 * WIDTH),
        o=nn.Linear(WIDTH, WIDTH),
        up=nn.Linear(WIDTH, HIDDEN),
        down=nn.Linear(HIDDEN, WIDTH),
        head=nn.Linear(WIDTH, CLASSES),
    )
    expected = {
        "q": square,
        "kv": parted(square, (WIDTH, square), (WIDTH, square)),
        "o": linear("weight", WIDTH, WIDTH),  # the latents are a parameter, so that their sum with it passes
        "up": gelu(WIDTH),
        "down": linear("add", HIDDEN, WIDTH),
        "head": linear("output", WIDTH, CLASSES),
    }
    made = assert_planned(model, inputs, expected)
    assert [each.kind for each in made.others if each.name == "latents"] == ["other"]


def test_hopfield_memory():
    """Stored patterns are asked and answer: softmax on the way in, the output on the way out. One weight, two uses."""
    model = Net(
        lambda net, x: (0.5 * net.query(x) @ net.patterns.T).softmax(-1) @ net.patterns,
        query=nn.Linear(WIDTH, HIDDEN),
        patterns=nn.Parameter(torch.randn(10, HIDDEN)),
    )
    made = plan(model, (2, WIDTH))
    assert (made["query"].reason, made["query"].std) == ("weight", pytest.approx(xavier(WIDTH, HIDDEN)))
    assert {(each.nonlinearity, each.reason) for each in made["patterns"].alternatives} == {
        ("softmax", "softmax"),
        ("linear", "output"),
    }
    assert len(made["patterns"].uses) == 2


def test_energy_head():
    """E = |x|^2 / 2 - logsumexp(beta W x): the weight's answers feed a logsumexp."""
    model = Net(
        lambda net, x: 0.5 * (y := F.silu(net.body(x))).pow(2).sum(-1) - torch.logsumexp(2 * net.memory(y), -1) / 2,
        body=nn.Linear(WIDTH, HIDDEN),
        memory=nn.Linear(HIDDEN, 10, bias=False),
    )
    made = assert_planned(model, (2, WIDTH), {"body": silu(WIDTH), "memory": softmax(HIDDEN, 10)})
    assert made.unsupported == ()


# State spaces.


class S4D(nn.Module):
    """A diagonal state space (Gu et al. 2022): its kernel is made of parameters alone and applied by FFT."""

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        self.log_dt = nn.Parameter(torch.full((width,), -3.0))
        self.c = nn.Parameter(torch.view_as_real(torch.randn(width, states, dtype=torch.cfloat)))
        self.log_a_real = nn.Parameter(torch.log(0.5 * torch.ones(width, states)))
        self.a_imag = nn.Parameter(math.pi * torch.arange(states).float().repeat(width, 1))
        self.d = nn.Parameter(torch.randn(width))
        self.output = nn.Conv1d(width, 2 * width, 1)

    def kernel(self, length: int) -> Tensor:
        dt, c = torch.exp(self.log_dt), torch.view_as_complex(self.c)
        a = -torch.exp(self.log_a_real) + 1j * self.a_imag
        dta = a * dt.unsqueeze(-1)
        power = dta.unsqueeze(-1) * torch.arange(length)
        return 2 * torch.einsum("hn,hnl->hl", c * (torch.exp(dta) - 1.0) / a, torch.exp(power)).real

    def forward(self, u: Tensor) -> Tensor:
        length = u.shape[-1]
        k = torch.fft.rfft(self.kernel(length), n=2 * length)
        y = torch.fft.irfft(torch.fft.rfft(u, n=2 * length) * k, n=2 * length)[..., :length]
        return F.glu(self.output(F.gelu(y + u * self.d.unsqueeze(-1))), dim=1)


def test_a_diagonal_state_space():
    """The kernel's parameters are no weights of sums: they stay. What leaves the layer is gated and added."""

    def forward(net: Any, x: Tensor) -> Tensor:
        x = net.encoder(x).transpose(1, 2)
        return net.head((x + net.ssm(x)).mean(-1))

    model = Net(forward, encoder=nn.Linear(3, WIDTH), ssm=S4D(WIDTH, 4), head=nn.Linear(WIDTH, CLASSES))
    made = plan(model, (2, 16, 3))
    assert sorted(made) == ["encoder", "head", "ssm.output"]
    output = made["ssm.output"]
    gate, opened = linear("gate", WIDTH, WIDTH), sigmoid(WIDTH, WIDTH)
    assert [(part.rows, part.reason, part.std) for part in output.slices] == [
        (((0, WIDTH),), "gate", pytest.approx(gate.std)),
        (((WIDTH, 2 * WIDTH),), "activation", pytest.approx(opened.std)),
    ]
    assert made["head"].std == pytest.approx(xavier(WIDTH, CLASSES))
    # Both ways from the encoder, through the kernel and past it, meet in a sum.
    assert (made["encoder"].nonlinearity, made["encoder"].std) == ("linear", pytest.approx(xavier(3, WIDTH)))
    kept = {each.name for each in made.others}
    assert kept >= {"ssm.c", "ssm.log_a_real", "ssm.a_imag", "ssm.log_dt", "ssm.d"}


def test_a_selective_scan():
    """Mamba's block, its scan a loop: step sizes feed softplus, B and C are multiplied, the gate feeds silu."""
    inner, states, rank = 8, 4, 2

    def forward(net: Any, u: Tensor) -> Tensor:
        x, z = net.in_proj(u).chunk(2, -1)
        x = F.silu(net.conv(F.pad(x.transpose(1, 2), (2, 0)))).transpose(1, 2)
        dt, b, c = net.x_proj(x).split([rank, states, states], -1)
        dt = F.softplus(net.dt_proj(dt))
        a = -torch.exp(net.a_log)
        h = torch.zeros(u.shape[0], inner, states)
        ys = []
        for step in range(u.shape[1]):
            decay = torch.exp(dt[:, step].unsqueeze(-1) * a)
            h = decay * h + (dt[:, step] * x[:, step]).unsqueeze(-1) * b[:, step].unsqueeze(1)
            ys.append((h * c[:, step].unsqueeze(1)).sum(-1))
        y = torch.stack(ys, 1) + x * net.d
        return u + net.out_proj(y * F.silu(z))

    model = Net(
        forward,
        in_proj=nn.Linear(WIDTH, 2 * inner, bias=False),
        conv=nn.Conv1d(inner, inner, 3, groups=inner),
        x_proj=nn.Linear(inner, rank + 2 * states, bias=False),
        dt_proj=nn.Linear(rank, inner),
        a_log=nn.Parameter(torch.log(torch.arange(1.0, states + 1)).repeat(inner, 1)),
        d=nn.Parameter(torch.ones(inner)),
        out_proj=nn.Linear(inner, WIDTH, bias=False),
    )
    x_rows, z_rows = linear("weight", WIDTH, inner), silu(WIDTH)
    product = linear("gate", inner, states)
    expected = {
        "in_proj": parted(mixed(silu(WIDTH)), (inner, x_rows), (inner, z_rows)),
        "conv": silu(3),
        "x_proj": parted(linear("weight", inner, rank), (rank, linear("weight", inner, rank)), (states, product),
                         (states, product)),
        "dt_proj": softplus(rank),
        "out_proj": linear("add", inner, WIDTH),
    }  # fmt: skip
    made = assert_planned(model, (2, 3, WIDTH), expected)
    assert {each.name for each in made.others} >= {"a_log", "d"}


# Functions on edges, of frequencies, of coordinates.


class KanLayer(nn.Module):
    """efficient-kan's layer: silu and B-splines of each input, each with a matrix of its own, added."""

    def __init__(self, width: int, out: int, einsum: bool, order: int = 2, cells: int = 3) -> None:
        super().__init__()
        self.order, self.einsum = order, einsum
        knots = (torch.arange(-order, cells + order + 1) * (2 / cells) - 1).expand(width, -1).contiguous()
        self.register_buffer("grid", knots)
        self.base = nn.Parameter(torch.randn(out, width))
        self.spline = nn.Parameter(torch.randn(out, width, cells + order))

    def bases(self, x: Tensor) -> Tensor:
        x, grid = x.unsqueeze(-1), self.grid
        bases = ((x >= grid[:, :-1]) & (x < grid[:, 1:])).to(x.dtype)
        for k in range(1, self.order + 1):
            left = (x - grid[:, : -(k + 1)]) / (grid[:, k:-1] - grid[:, : -(k + 1)]) * bases[:, :, :-1]
            right = (grid[:, k + 1 :] - x) / (grid[:, k + 1 :] - grid[:, 1:-k]) * bases[:, :, 1:]
            bases = left + right
        return bases

    def forward(self, x: Tensor) -> Tensor:
        bases = self.bases(x)
        if self.einsum:
            return F.linear(F.silu(x), self.base) + torch.einsum("bik,oik->bo", bases, self.spline)
        return F.linear(F.silu(x), self.base) + F.linear(bases.flatten(1), self.spline.view(self.spline.shape[0], -1))


@pytest.mark.parametrize(
    "einsum",
    [False, True],
    ids=["flattened", "einsum"],
)
def test_a_network_of_splines(einsum: bool):
    """KAN: both matrices of a layer feed the sum; the spline's sums run over inputs and basis functions."""
    model = nn.Sequential(KanLayer(4, 6, einsum), KanLayer(6, 3, einsum))
    expected = {
        "0.base": linear("add", 4, 6),
        "0.spline": linear("add", 4 * 5, 6),
        "1.base": linear("add", 6, 3),
        "1.spline": linear("add", 6 * 5, 3),
    }
    assert_planned(model, (numbers(2, 4),), expected)


def test_a_layer_before_splines():
    """A linear layer feeds silu and the splines: the named one stands, and it is called mixed."""
    model = nn.Sequential(nn.Linear(3, 4), KanLayer(4, 6, False))
    made = plan(model, (2, 3))
    assert (made["0"].status, made["0"].reason) in {("planned", "mixed"), ("unresolved", "unresolved")}
    assert len(made["0"].alternatives) > 1
    assert made["1.base"].std == pytest.approx(xavier(4, 6))


@pytest.mark.parametrize("held", ["buffer", "parameter"])
def test_fourier_features(held: str):
    """sin and cos of a fixed random matrix (Tancik et al. 2020): no layer as a buffer, one that is left alone as a
    frozen parameter.
    """

    def forward(net: Any, x: Tensor) -> Tensor:
        phase = 2 * math.pi * x @ net.frequencies
        return net.last(F.relu(net.first(torch.cat([phase.sin(), phase.cos()], -1))))

    matrix = torch.randn(3, 4)
    model = Net(
        forward,
        frequencies=matrix if held == "buffer" else nn.Parameter(matrix, requires_grad=False),
        first=nn.Linear(8, HIDDEN),
        last=nn.Linear(HIDDEN, CLASSES),
    )
    expected = {"first": relu(8), "last": HEAD}
    sine = (1 - math.exp(-2)) / 2
    if held == "parameter":
        made = plan(model, (2, 3))
        frozen = made["frequencies"]
        assert (frozen.status, frozen.reason) == ("skipped", "mixed")
        gains = sorted(each.nonlinearity for each in frozen.alternatives)
        assert gains == ["cos", "sin"]
        assert sine < 0.5
        assert [made[name].std for name in expected] == pytest.approx([each.std for each in expected.values()])
    else:
        assert_planned(model, (2, 3), expected)


@pytest.mark.parametrize("inputs", [None, (4, 3)], ids=["no_input", "input"])
def test_sines_of_a_frequency(inputs: Any):
    """SIREN, sin(30 W x): 30 W x is to have variance 1, so that W gets the gain of sin over 30,
    E[sin^2] = (1 - e^-2) / 2.
    """
    model = Net(
        lambda net, x: net.last(torch.sin(30 * net.second(torch.sin(30 * net.first(x))))),
        first=nn.Linear(3, HIDDEN),
        second=nn.Linear(HIDDEN, HIDDEN),
        last=nn.Linear(HIDDEN, CLASSES),
    )
    moment = (1 - math.exp(-2)) / 2 * 30**2
    assert_planned(model, inputs, {"first": he("sin", moment, 3), "second": he("sin", moment, HIDDEN), "last": HEAD})


def test_radiance_field():
    """NeRF: a skip by concatenation, a density by relu, a colour by sigmoid from features and directions."""

    def forward(net: Any, x: Tensor) -> Tensor:
        position, direction = x[..., :3], x[..., 3:]
        h = position
        for number, layer in enumerate(net.layers):
            h = F.relu(layer(h))
            if number == 1:
                h = torch.cat([position, h], -1)
        density = F.relu(net.density(h))
        h = torch.cat([net.features(h), direction], -1)
        return torch.cat([torch.sigmoid(net.colour(F.relu(net.view(h)))), density], -1)

    model = Net(
        forward,
        layers=nn.ModuleList([nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(11, 8)]),
        density=nn.Linear(8, 1),
        features=nn.Linear(8, 8),
        view=nn.Linear(10, 4),
        colour=nn.Linear(4, 3),
    )
    expected = {
        "layers.0": relu(3),
        "layers.1": relu(8),
        "layers.2": relu(11),
        "density": relu(8),
        "features": linear("weight", 8, 8),
        "view": relu(10),
        "colour": sigmoid(4, 3),
    }
    assert_planned(model, (4, 5), expected)


# Networks that make weights, densities, codes.


@pytest.mark.parametrize("spelling", ["linear", "bmm", "conv"])
def test_hypernetwork(spelling: str):
    """One network's output is the other's weight. Beside an input, which no weight made, it is passed, as is a layer
    beside an adjacency matrix: tanh."""

    def forward(net: Any, x: Tensor, code: Tensor) -> Tensor:
        made = net.make(F.relu(net.hyper(code)))
        if spelling == "linear":
            x = F.linear(x, made.view(HIDDEN, WIDTH))
        elif spelling == "bmm":
            x = torch.bmm(x.unsqueeze(1), made.view(1, WIDTH, HIDDEN).expand(x.shape[0], -1, -1)).squeeze(1)
        else:
            x = F.conv1d(x.unsqueeze(-1), made.view(HIDDEN, WIDTH, 1)).squeeze(-1)
        return net.last(torch.tanh(x))

    model = Many(forward, hyper=nn.Linear(2, 4), make=nn.Linear(4, HIDDEN * WIDTH), last=nn.Linear(HIDDEN, CLASSES))
    expected = {"hyper": relu(2), "make": tanh(4, HIDDEN * WIDTH), "last": HEAD}
    assert_planned(model, (numbers(2, WIDTH), numbers(1, 2)), expected)


@pytest.mark.parametrize("spelling", ["linear", "matmul", "einsum"])
def test_a_made_weight_of_a_made_signal(spelling: str):
    """Both factors come from weights: neither is passed."""

    def forward(net: Any, x: Tensor, code: Tensor) -> Tensor:
        made, x = net.make(code).view(HIDDEN, WIDTH), net.first(x)
        products = {
            "linear": lambda: F.linear(x, made),
            "matmul": lambda: x @ made.T,
            "einsum": lambda: torch.einsum("bi,oi->bo", x, made),
        }
        return net.last(torch.tanh(products[spelling]()))

    model = Many(forward, make=nn.Linear(2, HIDDEN * WIDTH), first=nn.Linear(3, WIDTH), last=nn.Linear(HIDDEN, CLASSES))
    expected = {
        "make": linear("attention", 2, HIDDEN * WIDTH),
        "first": linear("attention", 3, WIDTH),
        "last": HEAD,
    }
    assert_planned(model, (numbers(2, 3), numbers(1, 2)), expected)


@pytest.mark.parametrize("bounded", [True, False], ids=["tanh", "exp"])
def test_affine_coupling(bounded: bool):
    """RealNVP: y2 = x2 exp(s) + t. Rows of s feed tanh (or exp and, past it, the log-determinant), rows of t a sum."""

    def forward(net: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        x1, x2 = x.chunk(2, -1)
        s, t = net.last(F.relu(net.first(x1))).chunk(2, -1)
        if bounded:
            s = torch.tanh(s)
        return torch.cat([x1, x2 * torch.exp(s) + t], -1), s.sum(-1)

    half = WIDTH // 2
    model = Net(forward, first=nn.Linear(half, HIDDEN), last=nn.Linear(HIDDEN, WIDTH))
    made = plan(model, (4, WIDTH))
    assert made["first"].std == pytest.approx(relu(half).std)
    scale, shift = made["last"].slices
    assert (shift.rows, shift.reason, shift.std) == (((half, WIDTH),), "add", pytest.approx(xavier(HIDDEN, half)))
    if bounded:
        assert (scale.nonlinearity, scale.std) == ("tanh", pytest.approx(xavier(HIDDEN, half, 5 / 3)))
    else:  # E[exp(z)^2] = e^2
        assert (scale.nonlinearity, scale.reason) == ("exp", "mixed")
        assert scale.std == pytest.approx(math.exp(-1) / math.sqrt(HIDDEN))


def squared_distances(z: Tensor, codes: Tensor) -> Tensor:
    return z.pow(2).sum(-1, keepdim=True) - 2 * z @ codes.t() + codes.pow(2).sum(-1)


def one_hot(nearest: Tensor, codes: Tensor) -> Tensor:
    return F.one_hot(nearest, codes.shape[0]).to(codes.dtype) @ codes


def scattered(nearest: Tensor, codes: Tensor) -> Tensor:
    marks = torch.zeros(nearest.shape[0], codes.shape[0]).scatter_(1, nearest[:, None], 1)
    return torch.einsum("nk,kd->nd", marks, codes)


def compared(nearest: Tensor, codes: Tensor) -> Tensor:
    return torch.mm((nearest[:, None] == torch.arange(codes.shape[0])).float(), codes)


TAKEN: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "embedding": lambda table, nearest: table(nearest),
    "indexed": lambda table, nearest: table[nearest],
    "one_hot": lambda table, nearest: one_hot(nearest, table.weight),
    "scattered": lambda codes, nearest: scattered(nearest, codes),
    "compared": lambda table, nearest: compared(nearest, table.weight),
}


@pytest.mark.parametrize("measure", [squared_distances, torch.cdist], ids=["written_out", "cdist"])
@pytest.mark.parametrize("taken", TAKEN)
def test_vector_quantisation(measure: Callable[[Tensor, Tensor], Tensor], taken: str):
    """VQ-VAE: the nearest code by distance, and the straight-through sum. Distances only rank: the encoder feeds the
    sum, the decoder is as ever, and the codes are no layer.
    """

    def forward(net: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        z = net.encode(x)
        nearest = measure(z, getattr(net.codes, "weight", net.codes)).argmin(-1)
        q = TAKEN[taken](net.codes, nearest)
        loss = F.mse_loss(q, z.detach()) + 0.25 * F.mse_loss(z, q.detach())
        q = z + (q - z).detach()
        return net.out(F.relu(net.decode(q))), loss

    plain = taken in ("indexed", "scattered")
    codes: Any = nn.Parameter(torch.randn(10, HIDDEN)) if plain else nn.Embedding(10, HIDDEN)
    model = Net(
        forward,
        encode=nn.Linear(WIDTH, HIDDEN),
        codes=codes,
        decode=nn.Linear(HIDDEN, HIDDEN),
        out=nn.Linear(HIDDEN, WIDTH),
    )
    made = plan(model, (4, WIDTH))
    assert made["decode"].std == pytest.approx(relu(HIDDEN).std)
    assert made["out"].std == pytest.approx(xavier(HIDDEN, WIDTH))
    assert made["encode"].nonlinearity == "linear"
    assert made["encode"].std == pytest.approx(xavier(WIDTH, HIDDEN))
    assert {name for name, layer in made.items() if layer.status == "planned"} == {"encode", "decode", "out"}


@pytest.mark.parametrize("inputs", [None, (4, WIDTH)], ids=["no_input", "input"])
def test_finite_scalar_quantisation(inputs: Any):
    """FSQ: tanh, rounded with the gradient of the identity. The rounded difference carries no signal."""

    def forward(net: Any, x: Tensor) -> Tensor:
        z = torch.tanh(net.encode(x)) * 2
        return net.decode(z + (z.round() - z).detach())

    model = Net(forward, encode=nn.Linear(WIDTH, HIDDEN), decode=nn.Linear(HIDDEN, WIDTH))
    assert_planned(model, inputs, {"encode": tanh(WIDTH, HIDDEN), "decode": linear("output", HIDDEN, WIDTH)})


# Heads of other kinds.


@pytest.mark.parametrize("spelling", ["normalize", "division"])
def test_contrastive_towers(spelling: str):
    """CLIP: both towers are normalised and multiplied; the temperature is a parameter."""

    def unit(x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) if spelling == "normalize" else x / x.norm(dim=-1, keepdim=True)

    def forward(net: Any, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        logits = net.scale.exp() * unit(net.image(image)) @ unit(net.text(text)).t()
        return logits, logits.t()

    model = Many(
        forward,
        image=nn.Linear(WIDTH, HIDDEN, bias=False),
        text=nn.Linear(5, HIDDEN, bias=False),
        scale=nn.Parameter(torch.tensor(2.66)),
    )
    expected = {
        "image": normed(linear("attention", WIDTH, HIDDEN)),
        "text": normed(linear("attention", 5, HIDDEN)),
    }
    assert_planned(model, (numbers(4, WIDTH), numbers(4, 5)), expected)


def test_contrast_within_a_batch():
    """SimCLR's loss: similarities of all pairs, the diagonal masked, cross entropy."""

    def forward(net: Any, x: Tensor) -> Tensor:
        z = F.normalize(net.second(F.relu(net.first(x))), dim=-1)
        scores = (z @ z.t()) / 0.1
        scores = scores.masked_fill(torch.eye(4, dtype=torch.bool), -1e9)
        return F.cross_entropy(scores, torch.tensor([1, 0, 3, 2]))

    model = Net(forward, first=nn.Linear(WIDTH, HIDDEN), second=nn.Linear(HIDDEN, 5))
    assert_planned(model, (4, WIDTH), {"first": relu(WIDTH), "second": normed(linear("attention", HIDDEN, 5))})


def test_a_predictor_and_a_stopped_gradient():
    """SimSiam: the projection feeds the predictor and, stopped, the similarity; the predictor the similarity."""

    def forward(net: Any, x: Tensor, y: Tensor) -> Tensor:
        a, b = net.project(x), net.project(y)
        first = F.cosine_similarity(net.out(F.relu(net.predict(a))), b.detach(), dim=-1).mean()
        return -(first + F.cosine_similarity(net.out(F.relu(net.predict(b))), a.detach(), dim=-1).mean())

    model = Many(forward, project=nn.Linear(WIDTH, HIDDEN), predict=nn.Linear(HIDDEN, 4), out=nn.Linear(4, HIDDEN))
    made = plan(model, (numbers(4, WIDTH), numbers(4, WIDTH)))
    assert made["predict"].std == pytest.approx(relu(HIDDEN).std)
    assert (made["out"].reason, made["out"].std) == ("attention", pytest.approx(xavier(4, HIDDEN)))
    assert (made["project"].nonlinearity, made["project"].std) == ("linear", pytest.approx(xavier(WIDTH, HIDDEN)))


@pytest.mark.parametrize("fused", [False, True], ids=["three", "fused"])
def test_mixture_density_head(fused: bool):
    """Shares by softmax, means as they are, spreads by exp: E[exp(z)^2] = e^2."""
    parts = 4

    def forward(net: Any, x: Tensor) -> tuple[Tensor, ...]:
        h = torch.tanh(net.body(x))
        share, mean, spread = net.head(h).chunk(3, -1) if fused else (net.share(h), net.mean(h), net.spread(h))
        return share.softmax(-1), mean, spread.exp()

    rows = softmax(HIDDEN, parts), linear("output", HIDDEN, parts), he("exp", math.exp(2), HIDDEN)
    if fused:
        heads: dict[str, Any] = {"head": nn.Linear(HIDDEN, 3 * parts)}
        expected = {"head": parted(mixed(he("exp", math.exp(2), HIDDEN)), *((parts, row) for row in rows))}
    else:
        heads = {name: nn.Linear(HIDDEN, parts) for name in ("share", "mean", "spread")}
        expected = dict(zip(heads, rows, strict=True))
    model = Net(forward, body=nn.Linear(WIDTH, HIDDEN), **heads)
    assert_planned(model, (4, WIDTH), {"body": tanh(WIDTH, HIDDEN), **expected})


@pytest.mark.parametrize("until", ["count", "difference"])
def test_deep_equilibrium(until: str):
    """z = tanh(W z + U x) until it stands still: both feed the sum, however long the loop runs."""

    def forward(net: Any, x: Tensor) -> Tensor:
        z, fed = torch.zeros(x.shape[0], HIDDEN), net.u(x)
        for _ in range(20):
            new = torch.tanh(net.w(z) + fed)
            done = until == "difference" and bool((new - z).norm() < 1e-3)
            z = new
            if done:
                break
        return net.last(z)

    model = Net(forward, u=nn.Linear(WIDTH, HIDDEN), w=nn.Linear(HIDDEN, HIDDEN), last=nn.Linear(HIDDEN, CLASSES))
    with torch.no_grad():
        model.w.weight.mul_(0.5)
    expected = {"u": linear("add", WIDTH, HIDDEN), "w": linear("add", HIDDEN, HIDDEN), "last": HEAD}
    assert_planned(model, (4, WIDTH), expected)


def test_a_variational_code():
    """mu + exp(log_variance / 2) noise: rows of mu feed the sum, rows of the logarithm exp."""

    def forward(net: Any, x: Tensor) -> Tensor:
        mean, logarithm = net.encode(x).chunk(2, -1)
        z = mean + torch.exp(0.5 * logarithm) * torch.randn_like(mean)
        return net.decode(z)

    model = Net(forward, encode=nn.Linear(WIDTH, 8), decode=nn.Linear(4, WIDTH))
    made = plan(model, (4, WIDTH))
    mean, logarithm = made["encode"].slices
    assert (mean.reason, mean.std) == ("add", pytest.approx(xavier(WIDTH, 4)))
    assert (logarithm.nonlinearity, logarithm.reason) == ("exp", "activation")
    assert made["decode"].std == pytest.approx(xavier(4, WIDTH))


def test_an_unknown_part_leaves_its_neighbours_right():
    """A matrix function that no table knows, between two layers of a graph network."""

    def forward(net: Any, x: Tensor) -> Tensor:
        h = torch.tanh(net.first(x))
        mixed_in = torch.matrix_exp(net.second(h).view(-1, 4, 4)).flatten(1)
        return net.last(F.relu(net.third(mixed_in)))

    model = Net(
        forward,
        first=nn.Linear(WIDTH, HIDDEN),
        second=nn.Linear(HIDDEN, 16),
        third=nn.Linear(16, HIDDEN),
        last=nn.Linear(HIDDEN, CLASSES),
    )
    expected: dict[str, Layer] = {
        "first": tanh(WIDTH, HIDDEN),
        "second": UNRESOLVED,
        "third": relu(16),
        "last": HEAD,
    }
    made = assert_planned(model, (2, WIDTH), expected)
    assert "matrix_exp" in made["second"].note
