"""Rules about values that are alike: INI004 (inside a layer), INI005 (of several layers), and the chance of either."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from autoinit.checking.rules._chance import coincidence, grain, repetition
from autoinit.provenance import Origin
from autoinit.tracing.dataflow import SourceLine
from tests.shared.rule_checks import Record, filled, findings, frozen, mlp, only, put


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("value", [0.01, -3.0])
def test_ini004_names_a_constant_weight(value):
    model = mlp(8, 16, 4)
    nn.init.constant_(model[0].weight, value)
    finding = only("INI004", model)
    assert (finding.severity, finding.layer, finding.param) == ("error", "0", "0.weight")
    assert f"all 128 weights are {value:.3g}" in finding.message
    assert "the 16 outputs" in finding.message
    assert finding.expected_std == pytest.approx(math.sqrt(2 / 8))
    assert finding.actual_std == 0
    assert finding.fix == 'nn.init.kaiming_normal_(model[0].weight, nonlinearity="relu")'


def test_ini004_names_identical_filters():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3))
    put(model[2].weight, 5, model[2].weight[9].detach().clone())
    finding = only("INI004", model)
    assert (finding.layer, finding.severity) == ("2", "error")
    assert "outputs 5 and 9; 72 weights each" in finding.message
    assert finding.expected_std == pytest.approx(math.sqrt(2 / (72 + 144)))


def test_ini004_names_identical_filters_of_one_group_only():
    model = nn.Sequential(nn.Conv2d(8, 16, 3, groups=2), nn.ReLU(), nn.Conv2d(16, 4, 1))
    weight = model[0].weight
    put(weight, 9, weight[1].detach().clone())
    assert findings("INI004", model) == []
    put(weight, 2, weight[1].detach().clone())
    assert "outputs 1 and 2;" in only("INI004", model).message


def test_ini004_names_transposed_and_stacked_weights():
    model = nn.Sequential(nn.ConvTranspose2d(4, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1))
    put(model[0].weight, (slice(None), 2), model[0].weight[:, 0].detach().clone())
    assert "outputs 0 and 2; 36 weights each" in only("INI004", model).message

    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.Parameter(torch.randn(3, 16, 8))

        def forward(self, x):
            return torch.bmm(x, self.up).relu()

    model = Experts()
    put(model.up, (1, slice(None), 4), model.up[1, :, 7].detach().clone())
    finding = only("INI004", model, torch.randn(3, 5, 16))
    assert finding.layer == "up"
    assert "outputs 4 and 7;" in finding.message


def test_ini004_names_lstm_units_but_not_gates_that_are_alike():
    model = nn.LSTM(8, 16)
    with torch.no_grad():
        for gate in range(4):
            nn.init.eye_(model.weight_hh_l0[16 * gate : 16 * (gate + 1)])  # the same in each gate: IRNN's recipe
    assert findings("INI004", model, torch.randn(3, 2, 8)) == []
    put(model.weight_ih_l0, 3, model.weight_ih_l0[1].detach().clone())
    assert "outputs 1 and 3;" in only("INI004", model, torch.randn(3, 2, 8)).message


@pytest.mark.parametrize(
    "layer",
    [
        filled(nn.Conv2d(8, 8, 3), nn.init.zeros_),
        filled(nn.Conv2d(8, 8, 3), nn.init.dirac_),
        filled(nn.Conv2d(8, 8, 3, groups=8), nn.init.constant_, 1 / 9),
        filled(nn.ConvTranspose2d(8, 8, 3, groups=8), nn.init.constant_, 1 / 9),
        filled(nn.Conv2d(8, 1, 1), nn.init.constant_, 1 / 8),
        frozen(filled(nn.Conv2d(8, 8, 3), nn.init.constant_, 1 / 9)),
        nn.Conv2d(8, 64, 1).bfloat16().float(),
    ],
    ids=["zeros", "dirac", "depthwise", "transposed depthwise", "one output", "frozen", "was bfloat16"],
)
def test_ini004_passes_what_is_meant(layer):
    outputs = layer.out_channels
    assert findings("INI004", nn.Sequential(layer, nn.ReLU(), nn.Conv2d(outputs, 4, 1)), torch.randn(1, 8, 6, 6)) == []


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("width", [1, 2, 3])
def test_ini004_passes_equal_rows_that_chance_explains(seed, width):
    """4096 rows of 1 to 3 bfloat16 numbers, signs: equal rows are certain."""
    torch.manual_seed(seed)
    model = mlp(width, 4096, 2)
    model.bfloat16()
    assert findings("INI004", model, torch.zeros(1, width, dtype=torch.bfloat16)) == []
    model = mlp(4 * width, 4096, 2)
    with torch.no_grad():
        model[0].weight.sign_()
    assert findings("INI004", model) == []


def test_ini004_passes_icnr_before_pixel_shuffle_and_names_it_without():
    conv = nn.Conv2d(8, 16, 3)
    with torch.no_grad():  # Aitken et al. 2017: the r^2 = 4 filters that make one channel are equal
        conv.weight.copy_(nn.init.kaiming_normal_(torch.empty(4, 8, 3, 3)).repeat_interleave(4, 0))
    assert findings("INI004", nn.Sequential(conv, nn.PixelShuffle(2), nn.ReLU(), nn.Conv2d(4, 4, 1))) == []
    finding = only("INI004", nn.Sequential(conv, nn.ReLU(), nn.Conv2d(16, 4, 1)))
    assert "outputs 0 and 1" in finding.message


def test_ini004_passes_equal_rows_of_a_table_that_is_a_head_too():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(20, 16)

        def forward(self, tokens):
            return functional.linear(self.table(tokens), self.table.weight)

    model = Tied()
    put(model.table.weight, slice(15, 20), model.table.weight[:15].mean(0).detach())
    assert findings("INI004", model, torch.zeros(2, 3, dtype=torch.long)) == []


class Steps(nn.Module):
    """Mamba's dt_proj with dt_init="constant": all weights 4**-0.5, biases whose softplus goes from 0.001 to 0.1."""

    def __init__(self, spelling, biases=None):
        super().__init__()
        self.spelling = spelling
        self.down, self.dt, self.up = nn.Linear(64, 4), nn.Linear(4, 128), nn.Linear(128, 8)
        nn.init.constant_(self.dt.weight, 4**-0.5)
        if biases is None:
            biases = torch.logspace(-3, -1, 128).expm1().log()
        with torch.no_grad():
            self.dt.bias.copy_(biases)

    def forward(self, x):
        low, weight, bias = self.down(x), self.dt.weight, self.dt.bias
        match self.spelling:
            case "module":
                steps = self.dt(low)
            case "cast bias":
                steps = functional.linear(low, weight, bias.float())
            case "added":
                steps = functional.linear(low, weight) + bias
            case "transposed":
                steps = (weight @ low.t() + bias[..., None].float()).t()
        return self.up(functional.softplus(steps))


STEPS = ["module", "cast bias", "added", "transposed"]


@pytest.mark.parametrize("spelling", STEPS)
def test_ini004_passes_a_constant_weight_beside_distinct_biases(spelling):
    """log(expm1(0.001)) = -6.9 to log(expm1(0.1)) = -2.25, in equal steps: 128 outputs, no two alike."""
    assert findings("INI004", Steps(spelling), torch.randn(6, 64)) == []


@pytest.mark.parametrize("spelling", STEPS)
@pytest.mark.parametrize(
    "biases", [torch.full((128,), -3.0), torch.linspace(-0.49, 0.49, 128)], ids=["one value", "torch's default"]
)
def test_ini004_names_a_constant_weight_beside_biases_that_nobody_set_apart(spelling, biases):
    """One value tells no outputs apart; torch's default is within 1 / sqrt(4) = 0.5, and a leftover."""
    finding = only("INI004", Steps(spelling, biases), torch.randn(6, 64))
    assert finding.layer == "dt"
    assert ("same number but for their biases, one feature" in finding.message) is (biases[0] != biases[1]).item()


@pytest.mark.parametrize(
    "behind",
    [nn.Identity(), nn.LogSoftmax(-1), nn.Sigmoid(), nn.Tanh()],
    ids=["logits", "log_softmax", "sigmoid", "tanh"],
)
def test_ini004_passes_a_constant_output_layer_and_names_it_inside(behind):
    """Outputs have targets of their own, so that the rows' gradients, (y_i - t_i) x, differ at the first step."""
    head = filled(nn.Linear(16, 10), nn.init.constant_, 0.01)
    assert findings("INI004", nn.Sequential(nn.Linear(8, 16), nn.ReLU(), head, behind)) == []
    inside = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), head, behind, nn.Linear(10, 2))
    assert only("INI004", inside).layer == "2"


def test_ini004_names_a_constant_weight_of_a_last_lstm():
    """The state goes back through weight_hh: its units are not told apart by targets alone."""
    model = nn.LSTM(8, 16)
    nn.init.constant_(model.weight_hh_l0, 0.01)
    assert only("INI004", model, torch.randn(3, 2, 8)).param == "weight_hh_l0"


class Noisy(nn.Module):
    """NoisyLinear (Fortunato et al. 2018): weight mu + sigma * eps."""

    def __init__(self, spelling, eps):
        super().__init__()
        self.spelling = spelling
        self.mu, self.sigma = (nn.Parameter(torch.full((16, 16), value)) for value in (0.1, 0.125))
        self.out = nn.Linear(16, 4)
        self.register_buffer("eps", eps)

    def forward(self, x):
        match self.spelling:
            case "buffer":
                weight = self.mu + self.sigma * self.eps
            case "drawn":
                weight = self.mu + self.sigma * torch.randn_like(self.mu)
            case "factored":
                weight = self.sigma * torch.outer(self.eps[:, 0], self.eps[0]) + self.mu
            case "transposed":
                return self.out((x @ (self.mu + self.sigma * self.eps).t()).relu())
        return self.out(functional.linear(x, weight).relu())


@pytest.mark.parametrize("spelling", ["buffer", "drawn", "factored", "transposed"])
def test_ini004_looks_at_the_weight_in_use(spelling):
    """0.1 + 0.125 eps with independent eps: no two rows alike, although every row of mu is."""
    model, x, state = Noisy(spelling, torch.randn(16, 16)), torch.randn(5, 16), torch.get_rng_state()
    assert findings("INI004", model, x) == []
    assert torch.equal(state, torch.get_rng_state())
    assert bool((model.mu == 0.1).all())


@pytest.mark.parametrize("spelling", ["buffer", "transposed"])
def test_ini004_names_a_weight_in_use_that_is_constant(spelling):
    """0.1 + 0.125 eps with one eps throughout is one number. Then with one per input: each output has the same row."""
    for eps in (torch.full((16, 16), 0.3), torch.randn(1, 16).repeat(16, 1)):
        found = findings("INI004", Noisy(spelling, eps), torch.randn(5, 16))
        assert "mu" in [each.layer for each in found]


def test_ini004_passes_equal_rows_that_noise_tells_apart():
    model = Noisy("buffer", torch.randn(16, 16))
    nn.init.normal_(model.mu)
    put(model.mu, 5, model.mu[9].detach().clone())
    assert findings("INI004", model, torch.randn(5, 16)) == []
    model.eps.zero_()
    assert "outputs 5 and 9" in next(each.message for each in findings("INI004", model, torch.randn(5, 16)))


def test_ini005_names_the_clones_of_a_transformer_encoder():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
    found = findings("INI005", model, torch.randn(2, 5, 16))
    assert [each.layer for each in found] == [
        "layers.1.self_attn.in_proj_weight",
        "layers.1.self_attn.out_proj",
        "layers.1.linear1",
        "layers.1.linear2",
    ]
    assert {each.severity for each in found} == {"error"}
    assert found[2].param == "layers.1.linear1.weight"
    assert (
        "bit-identical to layers.0.linear1, and so is layers.2.linear1 (3 weights of shape (32, 16))"
        in found[2].message
    )
    assert found[2].fix == 'autoinit(model, only=["layers.1.linear1", "layers.2.linear1"])'
    assert found[2].expected_std == pytest.approx(math.sqrt(2 / 16))


class Members(nn.Module):
    """An ensemble: the mean of several heads."""

    def __init__(self, heads):
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, x):
        return sum(head(x) for head in self.heads)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_ini005_names_ensemble_members(dtype):
    head = mlp(32, 16, 8).to(dtype)
    model = Members([copy.deepcopy(head) for _ in range(6)])
    found = findings("INI005", model, torch.zeros(2, 32, dtype=dtype))
    assert [each.layer for each in found] == ["heads.1.0", "heads.1.2"]
    assert "heads.2.0, heads.3.0, heads.4.0 and 1 more (6 weights" in found[0].message


def test_ini005_names_identical_experts_of_a_stacked_weight():
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.Parameter(torch.randn(4, 16, 8))

        def forward(self, x):
            return torch.bmm(x, self.up).relu()

    model, x = Experts(), torch.randn(4, 5, 16)
    assert findings("INI005", model, x) == []
    put(model.up, 3, model.up[1].detach().clone())
    finding = only("INI005", model, x)
    assert (finding.layer, finding.severity) == ("up", "error")
    assert "copies 1, 3 of the 4 in up" in finding.message
    put(model.up, slice(None), model.up[:1].detach().clone())
    assert "copies 0, 1, 2 and 1 more of the 4" in only("INI005", model, x).message
    assert findings("INI004", model, x) == []


@pytest.mark.parametrize("function", ["copy_", "load_state_dict"])
def test_ini005_names_a_recorded_copy_as_information(function):
    head = nn.Linear(32, 16)
    model = Members([head, copy.deepcopy(head)])
    line = SourceLine("net.py", 3, "build")
    finding = only("INI005", model, provenance=Record([(model.heads[1].weight, Origin(function, source=line))]))
    assert (finding.severity, finding.layer, finding.location) == ("info", "heads.1", line)
    assert f"{function} wrote it" in finding.message


def twice(layer):
    return Members([layer, copy.deepcopy(layer)])


def with_frozen_copy(layer):
    return Members([layer, frozen(copy.deepcopy(layer))])


def hadamard():
    matrix = torch.ones(1, 1)
    for _ in range(5):
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix / math.sqrt(32)


def cosines():
    steps = torch.arange(32.0)
    return torch.cos(math.pi / 32 * (steps + 0.5) * steps[:, None])


@pytest.mark.parametrize(
    "model",
    [
        Members([nn.Linear(32, 32), nn.Linear(32, 32)]),
        Members([shared := nn.Linear(32, 32), shared]),
        with_frozen_copy(nn.Linear(32, 32)),
        twice(filled(nn.Linear(32, 32), nn.init.zeros_)),
        twice(filled(nn.Linear(32, 32), nn.init.constant_, 0.1)),
        twice(filled(nn.Linear(32, 32), nn.init.eye_)),
        twice(filled(nn.Linear(32, 32), lambda weight: weight.copy_(hadamard()))),
        twice(filled(nn.Linear(32, 32), lambda weight: weight.copy_(cosines()))),
        twice(nn.Linear(1, 2)),
    ],
    ids=["drawn apart", "shared", "frozen", "zeros", "constant", "identity", "hadamard", "cosines", "tiny"],
)
def test_ini005_passes_what_is_meant(model):
    assert findings("INI005", model) == []


def test_ini005_passes_parameters_that_share_their_memory():
    model = Members([nn.Linear(32, 32), nn.Linear(32, 32)])
    model.heads[1].weight = nn.Parameter(model.heads[0].weight.detach())
    assert findings("INI005", model) == []


def test_ini005_passes_interpolation_kernels():
    ramp = torch.tensor([0.25, 0.75, 0.75, 0.25])
    kernel = torch.outer(ramp, ramp)
    up = nn.ConvTranspose2d(4, 4, 4, stride=2)
    with torch.no_grad():
        up.weight.zero_()
        for channel in range(4):
            up.weight[channel, channel] = kernel
    assert findings("INI005", twice(up)) == []


def test_chance_of_equal_draws_is_bounded_by_the_precision():
    """Pairs of draws in bfloat16 are equal less often than its precision, 2^-7; the shares are counted."""
    for draw in (torch.randn(4000), torch.rand(4000) * 2 - 1):
        rounded = draw.bfloat16()
        assert grain(rounded) == 2**-7
        assert 2**-13 < repetition(rounded) < 2**-7
        assert grain(rounded.float()) == 2**-7
        assert grain(draw) == 2**-23


def test_repetition_counts_equal_pairs():
    assert repetition(torch.tensor([1.0, 2.0, 1.0, 1.0])) == pytest.approx(3 / 6)  # three of six pairs
    assert repetition(torch.tensor([1.0, 2.0, 3.0])) == 0
    assert repetition(torch.tensor([1.0])) == 0


def test_coincidence_is_the_expected_number_of_equal_pairs():
    row = torch.randn(3, dtype=torch.float64).bfloat16()
    assert coincidence(row, 10) == pytest.approx(10 * 2.0 ** (-7 * 3))
    assert coincidence(torch.ones(5), 10) == 1.0
    assert coincidence(row, 0) == 0.0
