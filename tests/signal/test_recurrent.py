"""Recurrent modules, attention with all its options, and operations that give several tensors; no weight without a row
goes unmentioned."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from autoinit import plan
from autoinit.signal import InputSignal, measure, propagate
from autoinit.signal._recurrent import written_out
from autoinit.signal.batches import stream
from autoinit.signal.report import SignalRow

SEEDS, ERRORS = 10, 5.0
LENGTHS = torch.tensor([2, 5, 3])


def second(x: Tensor) -> float:
    return float(x.detach().double().square().mean())


def tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from tensors(each)


NETWORKS: dict[str, Callable[[], nn.RNNBase]] = {
    "lstm": lambda: nn.LSTM(4, 6),
    "lstm_everything": lambda: nn.LSTM(4, 6, 2, dropout=0.3, bidirectional=True),
    "lstm_projected": lambda: nn.LSTM(4, 6, 2, bias=False, proj_size=3, bidirectional=True),
    "gru": lambda: nn.GRU(4, 6, 3, dropout=0.3, batch_first=True),
    "gru_both_ways": lambda: nn.GRU(4, 6, bias=False, bidirectional=True),
    "rnn": lambda: nn.RNN(4, 6, 2, bidirectional=True),
    "rnn_relu": lambda: nn.RNN(4, 6, nonlinearity="relu", batch_first=True),
}
CELLS: dict[str, Callable[[], nn.RNNCellBase]] = {
    "lstm": lambda: nn.LSTMCell(4, 6),
    "gru": lambda: nn.GRUCell(4, 6, bias=False),
    "rnn": lambda: nn.RNNCell(4, 6),
    "rnn_relu": lambda: nn.RNNCell(4, 6, nonlinearity="relu"),
}


def state_of(module: Any, shape: tuple[int, ...]) -> Any:
    """A random state."""
    hidden = torch.randn(*shape, getattr(module, "proj_size", 0) or module.hidden_size)
    two = isinstance(module, (nn.LSTM, nn.LSTMCell))
    return (hidden, torch.randn(*shape, module.hidden_size)) if two else hidden


def assert_the_same(module: nn.Module, x: Any, state: Any) -> None:
    """Outputs, and the gradients of their sum of squares, with the same dropout."""
    found = []
    for forward in (module, written_out(module, lambda *_: None)):
        torch.manual_seed(0)
        made = list(tensors(forward(x, state)))
        torch.stack([each.square().sum() for each in made if each.is_floating_point()]).sum().backward()
        found.append([*made, *(each.grad.clone() for each in module.parameters() if each.grad is not None)])
        module.zero_grad()
    assert len(found[0]) == len(found[1]) > 0
    for theirs, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("kind", ["batch", "one", "packed"])
@pytest.mark.parametrize("name", NETWORKS)
def test_written_out_a_network_is_the_same(name: str, kind: str) -> None:
    torch.manual_seed(1)
    module = NETWORKS[name]()
    samples = 5 if module.batch_first and kind == "batch" else 3
    x: Any = torch.randn(5, 4) if kind == "one" else torch.randn(5, 3, 4)
    if kind == "packed":
        x = pack_padded_sequence(torch.randn(5, 3, 4), LENGTHS, enforce_sorted=False)
    count = module.num_layers * (1 + module.bidirectional)
    assert_the_same(module, x, None)
    assert_the_same(module, x, state_of(module, (count,) if kind == "one" else (count, samples)))


@pytest.mark.parametrize("shape", [(3,), ()])
@pytest.mark.parametrize("name", CELLS)
def test_written_out_a_cell_is_the_same(name: str, shape: tuple[int, ...]) -> None:
    module = CELLS[name]()
    assert_the_same(module, torch.randn(*shape, 4), None)
    assert_the_same(module, torch.randn(*shape, 4), state_of(module, shape))


class Reader(nn.Module):
    def __init__(self, leaf: nn.Module) -> None:
        super().__init__()
        self.leaf = leaf

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.leaf(x)[0]
        return made


def test_measured_rows_are_the_products_of_the_weights() -> None:
    """Of an LSTM whose outputs are its states; the bias belongs to the product, as in a linear layer."""
    torch.manual_seed(0)
    leaf, x = nn.LSTM(4, 6, batch_first=True), torch.randn(3, 5, 4)
    report = measure(Reader(leaf), x)
    states = leaf(x)[0][:, :-1]
    of_inputs = functional.linear(x, leaf.weight_ih_l0, leaf.bias_ih_l0)
    of_states = functional.linear(states, leaf.weight_hh_l0, leaf.bias_hh_l0)
    for name, made in (("ih", of_inputs), ("hh", of_states)):
        row = report[f"leaf.weight_{name}_l0"]
        assert row.q == pytest.approx(second(made), rel=1e-5)
        assert row.mean == pytest.approx(float(made.detach().mean()), rel=1e-4)
        pairs = torch.einsum("bti,csi->bcts", made, made).detach() / made.shape[-1]
        same = torch.eye(3, dtype=torch.bool)
        steps = torch.eye(made.shape[1], dtype=torch.bool)
        assert row.p == pytest.approx(float(pairs[same][:, ~steps].mean()), rel=1e-3, abs=1e-6)
        assert row.s == pytest.approx(float(pairs[~same][:, ~steps].mean()), rel=1e-3, abs=1e-6)


def test_measured_gradients_are_those_of_the_products() -> None:
    """Of a tanh network, written by hand."""
    torch.manual_seed(0)
    leaf, x = nn.RNN(4, 6, batch_first=True), torch.randn(3, 5, 4)
    report = measure(Reader(leaf), x, seed=2)
    state, of_inputs, of_states = torch.zeros(3, 6), [], []
    outputs = []
    for at in range(5):
        of_inputs.append(functional.linear(x[:, at], leaf.weight_ih_l0, leaf.bias_ih_l0))
        of_states.append(functional.linear(state, leaf.weight_hh_l0, leaf.bias_hh_l0))
        of_inputs[-1].retain_grad()
        of_states[-1].retain_grad()
        state = torch.tanh(of_inputs[-1] + of_states[-1])
        outputs.append(state)
    e = torch.empty(3, 5, 6).normal_(generator=stream(2))
    torch.stack(outputs, 1).backward(e)
    for name, made in (("ih", of_inputs), ("hh", of_states[1:])):
        wanted = sum(second(each.grad) for each in made if each.grad is not None) / len(made)
        assert report[f"leaf.weight_{name}_l0"].grad == pytest.approx(wanted, rel=1e-4)


class Stepping(nn.Module):
    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        state, made = None, []
        for step in x.unbind(1):
            state = self.cell(step, state)
            made.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(made, 1)


@pytest.mark.parametrize("name", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("look", [measure, propagate])
def test_a_cell_in_a_loop_has_the_rows_of_its_network(look: Any, name: str) -> None:
    """The same weights: a cell's uses are the steps of a network's."""
    torch.manual_seed(0)
    network = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[name](4, 6, batch_first=True)
    cell = {"lstm": nn.LSTMCell, "gru": nn.GRUCell, "rnn": nn.RNNCell}[name](4, 6)
    cell.load_state_dict({key.removesuffix("_l0"): value for key, value in network.state_dict().items()})
    x = torch.randn(3, 5, 4)
    steps, whole = look(Stepping(cell), x), look(Reader(network), x)
    for which in ("ih", "hh"):
        one, other = steps[f"cell.weight_{which}"], whole[f"leaf.weight_{which}_l0"]
        assert one.q == pytest.approx(other.q, rel=1e-4)
        assert one.grad == pytest.approx(other.grad, rel=1e-4 if look is measure else 1.0)


def compared(make: Callable[[], nn.Module], inputs: Any, names: list[str], field: str = "q") -> None:
    """Predictions and measurements, averaged over draws of the weights, agree within five standard errors."""
    found: dict[str, list[list[float]]] = {"measured": [], "predicted": []}
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        model = make()
        for report in (measure(model, inputs, seed=seed), propagate(model, inputs, seed=seed + 100)):
            found[report.kind].append([getattr(report[name], field) for name in names])
    measured, predicted = (torch.tensor(each).double() for each in found.values())
    error = ((measured.var(0) + predicted.var(0)) / SEEDS).sqrt()
    off = (measured.mean(0) - predicted.mean(0)).abs()
    assert bool((off <= ERRORS * error + 1e-6).all()), (measured.mean(0), predicted.mean(0), error)
    assert bool((error < 0.2 * measured.mean(0)).all()), (measured.mean(0), error)


class Between(nn.Module):
    def __init__(self, leaf: nn.Module, made: int) -> None:
        super().__init__()
        self.up, self.leaf, self.down = nn.Linear(32, 32), leaf, nn.Linear(made, 16)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.down(self.leaf(torch.relu(self.up(x)))[0])
        return made


@pytest.mark.parametrize("field", ["q", "grad"])
@pytest.mark.parametrize(
    ("make", "made"),
    [
        (lambda: nn.LSTM(32, 32, batch_first=True), 32),
        (lambda: nn.GRU(32, 32, 2, bidirectional=True, batch_first=True), 64),
    ],
    ids=["lstm", "gru"],
)
def test_predictions_are_what_is_measured(make: Callable[[], nn.Module], made: int, field: str) -> None:
    names = [f"leaf.{name}" for name, _ in make().named_parameters() if "weight" in name]
    compared(lambda: Between(make(), made), (8, 6, 32), ["up", *names, "down"], field)


def test_a_planned_network_on_meta_takes_the_plan_s_stds() -> None:
    with torch.device("meta"):
        model = Reader(nn.GRU(64, 64, batch_first=True))
    made = plan(model, (8, 6, 64))
    row = propagate(model, (8, 6, 64))["leaf.weight_ih_l0"]
    assert row.q == pytest.approx(64 * made["leaf.weight_ih_l0"].std ** 2, rel=0.1)


@pytest.mark.parametrize("look", [measure, propagate])
def test_a_parametrized_weight_counts_as_the_module_reads_it(look: Any) -> None:
    """A weight norm whose factors are tripled: nine times the second moment."""
    leaf = nn.utils.parametrizations.weight_norm(nn.GRU(4, 6, bias=False), "weight_ih_l0")
    (name,) = (each for each in plan(Reader(leaf), (5, 3, 4)) if "weight_ih" in each)
    before = look(Reader(leaf), (5, 3, 4))[name].q
    with torch.no_grad():
        leaf.parametrizations.weight_ih_l0.original0.mul_(3)
    assert look(Reader(leaf), (5, 3, 4))[name].q == pytest.approx(9 * before, rel=1e-4)


class Padded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.leaf = nn.LSTM(4, 6, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        packed: PackedSequence = pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
        made: Tensor = pad_packed_sequence(self.leaf(packed)[0])[0]
        return made


def test_packed_sequences_count_their_own_steps() -> None:
    torch.manual_seed(0)
    model, x = Padded(), torch.randn(5, 3, 4)
    of_inputs = functional.linear(
        pack_padded_sequence(x, LENGTHS, enforce_sorted=False).data, model.leaf.weight_ih_l0, model.leaf.bias_ih_l0
    )
    report = measure(model, x)
    assert report["leaf.weight_ih_l0"].q == pytest.approx(second(of_inputs), rel=1e-5)
    assert set(propagate(model, x)) == set(report) == set(plan(model, x))


@pytest.mark.parametrize("look", [measure, propagate])
def test_a_state_of_zeros_is_no_signal(look: Any) -> None:
    """Of one step without a state W_hh makes nothing; the report says so."""
    report = look(Reader(nn.GRU(4, 6)), (1, 3, 4))
    assert list(report) == ["leaf.weight_ih_l0"]
    assert "no row for leaf.weight_hh_l0: it meets no state but zeros" in report.notes


class Several(nn.Module):
    """An operation that gives several tensors, and what is made of them."""

    def __init__(self, take: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.take = nn.Linear(8, 12), take

    def forward(self, x: Tensor) -> Tensor:
        parts = [each for each in tensors(self.take(self.layer(x))) if each.is_floating_point()]
        return torch.stack([each.sum((0, -1)) for each in parts]).sum(0)


def found_in(report: Any, op: str) -> Any:
    (found,) = (each.row for each in report.operations if each.op == op)
    return found


@pytest.mark.parametrize("look", [measure, propagate])
@pytest.mark.parametrize(
    ("op", "take"),
    [
        ("chunk", lambda y: y.chunk(3, -1)),
        ("split", lambda y: y.split([4, 8], -1)),
        ("unbind", lambda y: y.unflatten(-1, (3, 4)).unbind(-2)),
    ],
)
def test_several_tensors_have_one_row_together(op: str, take: Callable[[Tensor], Any], look: Any) -> None:
    """Parts of a whole have together the moments, and the gradient, of the whole."""
    report = look(Several(take), torch.randn(6, 5, 8))
    row, whole = found_in(report, op), report["layer"]
    assert (row.q, row.mean) == (pytest.approx(whole.q, rel=1e-4), pytest.approx(whole.mean, rel=1e-3, abs=1e-6))
    assert row.grad == pytest.approx(whole.grad, rel=1e-4)
    if op == "split":
        assert (row.p, row.s) == (None, None)


def test_covariances_of_several_tensors_are_averaged_where_all_have_one_shape() -> None:
    """Chunks over samples keep features and positions; so do the averages."""
    torch.manual_seed(0)
    model, x = Several(lambda y: y.chunk(2, 1)), torch.randn(6, 4, 8)
    row = found_in(measure(model, x), "chunk")
    halves = model.layer(x).detach().chunk(2, 1)
    between = [float((half[:, 0] * half[:, 1]).mean()) for half in halves]
    assert row.p == pytest.approx(sum(between) / 2, rel=1e-3)


@pytest.mark.parametrize("look", [measure, propagate])
def test_integers_beside_a_signal_are_left_out(look: Any) -> None:
    model = Several(lambda y: y.topk(12, -1))
    report = look(model, torch.randn(6, 5, 8))
    assert found_in(report, "topk").q == pytest.approx(report["layer"].q, rel=1e-4)


class Attending(nn.Module):
    """Attention with options; big enough for averages to be sharp."""

    def __init__(self, options: dict[str, Any], **settings: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(48, 4, **{"batch_first": True, **settings})
        nn.init.normal_(self.attention.out_proj.weight, std=48**-0.5)
        if self.attention.bias_v is not None:
            nn.init.normal_(self.attention.bias_v, std=3.0)
        self.options = {name: value for name, value in options.items() if not isinstance(value, Tensor)}
        self.masks = [name for name, value in options.items() if isinstance(value, Tensor)]
        for name in self.masks:
            self.register_buffer(name, options[name])

    def forward(self, x: Tensor) -> Any:
        masks = {name: getattr(self, name) for name in self.masks}
        made, weights = self.attention(x, x, x, **self.options, **masks)
        return made if weights is None else (made, weights)


PADDING = torch.arange(8) >= torch.tensor([[2], [3], [8], [1]])
FAR = torch.full((8, 8), -math.inf).triu(1)
OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "padding": ({"key_padding_mask": PADDING, "need_weights": False}, {}),
    "padding_of_floats": ({"key_padding_mask": torch.zeros(4, 8).masked_fill(PADDING, -math.inf)}, {}),
    "both_masks": ({"key_padding_mask": PADDING, "attn_mask": FAR < 0}, {}),
    "causal": ({"attn_mask": FAR, "is_causal": True, "need_weights": False}, {}),
    "one_mask_for_each_head": ({"attn_mask": (FAR < 0).repeat(16, 1, 1)}, {}),
    "learned_key": ({"key_padding_mask": PADDING}, {"add_bias_kv": True}),
    "zero_key": ({"key_padding_mask": PADDING, "attn_mask": FAR < 0}, {"add_zero_attn": True}),
    "each_head_s_weights": ({"average_attn_weights": False}, {"add_zero_attn": True, "add_bias_kv": True}),
    "tokens_first": ({"key_padding_mask": PADDING.repeat(2, 1)}, {"batch_first": False}),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_attention_with_every_option(name: str) -> None:
    options, settings = OPTIONS[name]
    shape = (8, 8, 48) if name == "tokens_first" else (4, 8, 48)
    names = ["attention.in_proj_weight", "attention.out_proj"]
    compared(lambda: Attending(options, **settings), shape, names)


def test_weights_of_each_head_have_their_shape() -> None:
    """Softmax over the keys and two more: the weights' mean is one over their number."""
    options, settings = OPTIONS["each_head_s_weights"]
    for look in (measure, propagate):
        report = look(Attending(options, **settings), (4, 8, 48))
        assert report.outputs[1].mean == pytest.approx(1 / 10, rel=1e-4)


class Sequences(nn.Module):
    """Tokens or vectors, a module that reads them with the samples on one axis or the other, and a layer after it."""

    def __init__(self, batch_first: bool, kind: str, *, moved: bool = False, width: int = 16) -> None:
        super().__init__()
        self.up, self.moved = nn.Linear(width, width), moved
        leaf: Any = {"gru": nn.GRU, "attention": nn.MultiheadAttention, "encoder": nn.TransformerEncoderLayer}[kind]
        more = {"gru": (width,), "attention": (4,), "encoder": (4, 32, 0.0)}[kind]
        self.leaf, self.down, self.kind = leaf(width, *more, batch_first=batch_first), nn.Linear(width, 8), kind

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.up(x))
        x = x.transpose(0, 1) if self.moved else x
        made = self.leaf(x, x, x) if self.kind == "attention" else self.leaf(x)
        down: Tensor = self.down(made if isinstance(made, Tensor) else made[0])
        return down


@pytest.mark.parametrize("steps", [3, 5, 6])
@pytest.mark.parametrize("kind", ["gru", "attention", "encoder"])
def test_samples_are_the_second_axis_where_a_module_reads_steps_first(kind: str, steps: int) -> None:
    """The same model has the same rows, whichever axis its samples are on."""
    torch.manual_seed(0)
    models = [Sequences(first, kind, moved=moved) for first, moved in ((True, False), (False, False), (False, True))]
    for model in models[1:]:
        model.load_state_dict(models[0].state_dict())
    x = torch.randn(3, steps, 16) + torch.randn(3, 1, 16)
    plain, other, moved = (
        measure(model, inputs) for model, inputs in zip(models, (x, x.transpose(0, 1), x), strict=True)
    )
    up = plain["up"]
    assert up.p is not None
    assert up.s is not None
    assert up.p > 1.5 * up.s
    for name, row in plain.items():
        assert_alike(other[name], row)
        if name == "up" or steps == 5:  # six steps could be two for each of three samples
            assert_alike(moved[name], row)


def assert_alike(found: SignalRow, wanted: SignalRow) -> None:
    assert (found.q, found.mean) == (pytest.approx(wanted.q, rel=1e-4), pytest.approx(wanted.mean, abs=1e-5))
    assert found.p == pytest.approx(wanted.p, rel=1e-3, abs=1e-5)
    assert found.s == pytest.approx(wanted.s, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("steps", [3, 5, 6])
@pytest.mark.parametrize("kind", ["gru", "attention", "encoder"])
def test_positions_and_samples_of_inputs_that_come_steps_first(kind: str, steps: int) -> None:
    """Covariances that an `InputSignal` gives to positions arrive at positions."""
    model = Sequences(False, kind, width=256)
    nn.init.zeros_(model.up.bias)
    row = propagate(model, (steps, 3, 256), inputs=InputSignal(p=0.8, s=0.1), backward=False)["up"]
    assert row.p is not None
    assert row.s is not None
    assert row.p / row.q == pytest.approx(0.8, abs=0.03)
    assert row.s / row.q == pytest.approx(0.1, abs=0.03)


def functional_attention(self: Any, x: Tensor) -> Tensor:
    inside = self.inside
    made, _ = functional.multi_head_attention_forward(
        x, x, x, 16, 4, inside.in_proj_weight, inside.in_proj_bias, None, None, False, 0.0,
        inside.out_proj.weight, inside.out_proj.bias,
    )  # fmt: skip
    return made


def functional_lstm(self: Any, x: Tensor) -> Tensor:
    zeros = x.new_zeros(1, x.shape[1], 16)
    return torch.lstm(x, (zeros, zeros), list(self.inside.parameters()), True, 1, 0.0, True, False, False)[0]


class Written(nn.Module):
    """A forward that uses a module's weights, not the module."""

    def __init__(self, inside: nn.Module, run: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.inside, self.run = inside, run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
@pytest.mark.parametrize("look", [measure, propagate])
@pytest.mark.parametrize(
    ("make", "inputs", "rowless"),
    [
        (lambda: Between(nn.LSTM(32, 16, 2, proj_size=8), 8), (5, 3, 32), 0),
        (lambda: Between(nn.RNN(32, 16, bidirectional=True), 32), (5, 3, 32), 0),
        (lambda: Stepping(nn.LSTMCell(8, 16)), (3, 5, 8), 0),
        (Padded, (5, 3, 4), 0),
        (lambda: Reader(nn.LSTM(8, 16)), (1, 3, 8), 1),
        (lambda: nn.Transformer(16, 2, 1, 1, 32), (torch.randn(5, 3, 16), torch.randn(4, 3, 16)), 0),
        (lambda: nn.MultiheadAttention(16, 4), tuple(torch.randn(3, 5, 3, 16)), 0),
        (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(32, 4)), (2, 3, 4, 4), 0),
        (lambda: Written(nn.MultiheadAttention(16, 4), functional_attention), (5, 3, 16), 2),
        (lambda: Written(nn.LSTM(8, 16), functional_lstm), (5, 3, 8), 2),
    ],
    ids=["lstm", "rnn", "cell", "packed", "step", "transformer", "attention", "conv", "functional_attention",
         "functional_lstm"],
)  # fmt: skip
def test_every_planned_weight_has_a_row_or_is_named_in_a_note(
    make: Callable[[], nn.Module], inputs: Any, rowless: int, look: Any
) -> None:
    torch.manual_seed(0)
    model = make()
    report = look(model, inputs)
    missing = [name for name in plan(model, inputs) if name not in report]
    assert len(missing) == rowless
    notes = [note for note in report.notes if note.startswith("no row for ")]
    for name in missing:
        assert sum(name in note.removeprefix("no row for ").split(":")[0].split(", ") for note in notes) == 1
    assert bool(notes) == bool(missing)
