"""Guesses that bring in as much of a model as they can, and what is said where little or nothing is reached."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoinit import Plan, TraceError, autoinit, check, plan, report
from autoinit.signal import measure
from autoinit.tracing import trace
from autoinit.tracing.attempts import FailedError, listed

einops = pytest.importorskip("einops.layers.torch")


class Clip(nn.Module):
    """Two towers, both optional; the text's length is that of the table of positions, 7."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = nn.Sequential(
            nn.Conv2d(3, 16, 8, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 12)
        )
        self.token_embedding = nn.Embedding(50, 16)
        self.positions = nn.Parameter(torch.randn(7, 16))
        self.mlp = nn.Linear(16, 16)
        self.text_projection = nn.Parameter(torch.randn(16, 12))

    def encode_text(self, text: Tensor) -> Tensor:
        x = torch.relu(self.mlp(self.token_embedding(text) + self.positions))
        return x[torch.arange(x.shape[0]), text.argmax(dim=-1)] @ self.text_projection

    def forward(self, image: Any = None, text: Any = None) -> Any:
        seen = self.visual(image) if image is not None else None
        read = self.encode_text(text) if text is not None else None
        return seen, read


class Coca(Clip):
    """The text is optional and brings in the decoder; a latent in the image's place leaves the image's tower out."""

    def __init__(self) -> None:
        super().__init__()
        self.cross, self.decoder = nn.Linear(12, 16), nn.Linear(16, 50)

    def forward(self, image: Any, text: Any = None, image_latent: Any = None, output_labels: bool = True) -> Any:
        latent = self.visual(image) if image_latent is None else image_latent
        if text is None:
            return {"image_features": latent}
        decoded = self.decoder(torch.relu(self.token_embedding(text) + self.cross(latent)[:, None]))
        return {"image": latent, "text": self.encode_text(text), "logits": decoded, "labels": text[:, 1:]}


class Conditioned(nn.Module):
    """A condition and a label that may be left out, under names that say nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.inp, self.cond, self.table, self.out = (
            nn.Linear(8, 16), nn.Linear(5, 16), nn.Embedding(10, 16), nn.Linear(16, 8),
        )  # fmt: skip

    def forward(self, x: Tensor, c: Any = None, y: Any = None) -> Tensor:
        h = self.inp(x)
        if c is not None:
            h = h + self.cond(c)
        if y is not None:
            h = h + self.table(y)
        return self.out(torch.relu(h))


@pytest.mark.parametrize("build", [Clip, Coca, Conditioned])
@pytest.mark.parametrize("tier", [None, "recorded"])
def test_optional_arguments_are_filled(build: Any, tier: Any):
    assert trace(build(), tier=tier).uncalled == ()


def test_the_towers_of_a_clip():
    """conv 3*8*8 = 192 before a ReLU: sqrt(2 / 192) = 0.102062; 16 -> 12 to the output: sqrt(2 / 28) = 0.267261."""
    made = plan(Clip())
    stds = {layer.param: layer.std for layer in made.layers}
    assert stds == {
        "visual.0.weight": pytest.approx(0.102062, abs=1e-6),
        "visual.4.weight": pytest.approx(0.267261, abs=1e-6),
        "mlp.weight": pytest.approx(0.353553, abs=1e-6),
        "text_projection": pytest.approx(0.267261, abs=1e-6),
    }


class Unreached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, first: Any = None, second: Any = None) -> Any:
        if not isinstance(first, dict) or "x" not in first:
            return torch.zeros(1)
        return self.b(torch.relu(self.a(first["x"])))


@pytest.mark.parametrize("example", [None, (2, 3)])
@pytest.mark.parametrize("use", [plan, autoinit, report])
def test_a_forward_that_reaches_no_weight_is_an_error(use: Any, example: Any):
    model = Unreached()
    before = model.a.weight.clone()
    says = r"reaches none of its 2 weights \(a\.weight, b\.weight\).*It takes \(first.*second.*\)\.\nNext: pass example"
    with pytest.raises(TraceError, match=says):
        use(model, example)
    assert torch.equal(model.a.weight, before)
    assert set(plan(model, ({"x": torch.zeros(2, 3)},))) == {"a", "b"}


class Sealed(nn.Module):
    """Reads an attribute that no tensor has."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, record: Any = None) -> Tensor | None:
        return None if record is None or record.kind != "told" else self.layer(record.told)


def test_what_is_read_without_any_input_is_said():
    with pytest.raises(TraceError, match=r"reaches none of its 1 weights \(layer\.weight\), without any input\. It"):
        plan(Sealed())


def test_a_model_without_weights_is_no_error():
    assert len(plan(nn.Sequential(nn.ReLU(), nn.Dropout()), (2, 3))) == 0


class Little(nn.Module):
    """A third of it is reached on a tensor: 1 of 3 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.left, self.right = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor, extra: Any = None) -> Tensor:
        return self.used(x) if extra is None else self.right(self.left(extra["x"]))


def test_less_than_half_is_the_first_thing_that_is_said():
    done = autoinit(Little(), (2, 3), seed=0, verbose=False)
    says = "forward reaches only 1 of 3 weights; not planned, and not written by apply: left.weight, right.weight. Pass"
    assert done.plan.warnings[0].startswith(says)
    lines = [line for line in str(done).splitlines() if line.strip()]
    assert lines[0].startswith("autoinit")
    assert "Warning: forward reaches only 1 of 3 weights" in " ".join(lines[1:2])
    assert "**Warning: forward reaches only 1 of 3 weights" in done.to_markdown()


def test_half_or_more_is_told_below():
    """Two of three are reached: used and, with them, one more."""

    class Most(Little):
        def forward(self, x: Tensor, extra: Any = None) -> Tensor:
            return self.right(torch.relu(self.used(x)))

    assert plan(Most(), (2, 3)).warnings == ()


def test_a_warning_stands_in_every_form():
    model = Little()
    says = "forward reaches only 1 of 3 weights"
    assert json.loads(report(model, (2, 3)).to_json())["warnings"][0].startswith(says)
    made = plan(model, (2, 3))
    assert json.loads(made.to_json())["warnings"] == list(made.warnings)
    assert Plan.from_json(made.to_json()) == made
    assert check(model, (2, 3)).notes[0].startswith(says)


# Arguments that may be left out, and whose names say nothing, of forwards that ask for values: no proxy gets through.


class TwoSided(nn.Module):
    """`left` is for a linear layer, `right` for images; the signs of the first decide the way."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.last = nn.Linear(8, 16), nn.Conv2d(3, 16, 3), nn.Linear(16, 4)

    def forward(self, left: Any = None, right: Any = None) -> Tensor:
        h = torch.zeros(1, 16)
        if left is not None:
            h = h + self.a(left) if left.sum() > 0 else h - self.a(left)
        if right is not None:
            h = h + self.b(right).mean((2, 3))
        return self.last(torch.relu(h))


class Switched(nn.Module):
    """A keyword, and a switch that brings in another layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.b, self.c, self.last = (
            nn.Embedding(9, 16),
            nn.Linear(12, 16),
            nn.Linear(16, 16),
            nn.Linear(16, 2),
        )

    def forward(self, x: Tensor, *, u: Tensor | None = None, refine: bool = False, names: str = "") -> Tensor:
        h = self.table(x).mean(1)
        if u is not None and u.max() > -99:
            h = h + self.b(u)
        return self.last(torch.relu(self.c(h)) if refine else h)


class Gated(nn.Module):
    """Two more signals, the second only beside the first."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.g, self.last = nn.Linear(8, 16), nn.Linear(24, 16), nn.Linear(5, 16), nn.Linear(16, 2)

    def forward(self, alpha: Tensor, beta: Any = None, gamma: Any = None) -> Tensor:
        h = self.q(alpha)
        if beta is not None:
            h = h * torch.sigmoid(self.k(beta))
            h = h + self.g(gamma) if gamma is not None and bool(gamma.mean() < 9) else h
        return self.last(h)


class Named(nn.Module):
    """The argument's name is in the module's; both layers take tensors of one rank."""

    def __init__(self) -> None:
        super().__init__()
        self.encode_foo, self.encode_bar = nn.Linear(8, 8), nn.Linear(6, 8)

    def forward(self, foo: Any = None, bar: Any = None) -> dict[str, Tensor]:
        found = {}
        if foo is not None and foo.std() >= 0:
            found["foo"] = torch.tanh(self.encode_foo(foo))
        if bar is not None and bar.std() >= 0:
            found["bar"] = torch.relu(self.encode_bar(bar))
        return found


UNNAMED: dict[type[nn.Module], set[str]] = {
    TwoSided: {"a", "b", "last"},
    Switched: {"b", "c", "last"},
    Gated: {"q", "k", "g", "last"},
    Named: {"encode_foo", "encode_bar"},
}


@pytest.mark.parametrize("kind", UNNAMED)
def test_arguments_without_a_telling_name_are_filled(kind: type[nn.Module]):
    """All weights are reached, by the layers that the first guess left uncalled; the note says which were filled."""
    made = plan(kind())
    assert set(made) == UNNAMED[kind]
    assert made.tier == "recorded"
    assert "filled" in made.notes[0]


@pytest.mark.parametrize("kind", UNNAMED)
def test_the_guess_of_the_plan_is_the_one_that_is_run(kind: type[nn.Module]):
    """What the plan was made on reaches all layers; so do `measure` and the one forward of method="data"."""
    model = kind()
    assert set(measure(model, backward=False)) == UNNAMED[kind]
    made = plan(model, method="data")
    assert {name for name, layer in made.items() if "not reached" not in layer.note} == UNNAMED[kind]


def test_a_switch_that_reaches_nothing_stays_as_it_is():
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(8, 4), nn.Linear(8, 4)

        def forward(self, x: Tensor, loud: bool = False) -> Tensor:
            return self.used(x) * (2 if loud or x.sum() > 0 else 1)

    made = plan(Plain())
    assert set(made) == {"used"}
    assert made.notes[0] == "input (2, 8) guessed from used"


# What a model tells of its input.


def patches(pattern: str, **lengths: int) -> nn.Module:
    return einops.Rearrange(pattern, **lengths)


class Patched(nn.Module):
    """As vit-pytorch: patches by einops, a linear map, a table of positions that has no attribute to say its size."""

    def __init__(self, cut: nn.Module, width: int, tokens: int, extra: int = 0) -> None:
        super().__init__()
        self.embed = nn.Sequential(cut, nn.LayerNorm(width), nn.Linear(width, 16))
        self.extra = nn.Parameter(torch.randn(extra, 16)) if extra else None
        self.pos_embedding = nn.Parameter(torch.randn(1, tokens + extra, 16))
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        if self.extra is not None:
            x = torch.cat([self.extra.expand(x.shape[0], -1, -1), x], dim=1)
        return self.head((x + self.pos_embedding).mean(1))


IMAGE = "b c (h p1) (w p2) -> b (h w) (p1 p2 c)"


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (Patched(patches(IMAGE, p1=16, p2=16), 3 * 256, 64), (2, 3, 128, 128)),
        (Patched(patches(IMAGE, p1=16, p2=16), 256, 24, extra=1), (2, 1, 64, 96)),
        (Patched(patches("b (c) (h p1) (w p2) -> b (h w) (c p1 p2)", p1=4, p2=8), 5 * 32, 9), (2, 5, 12, 24)),
        (Patched(patches("b c (n p) -> b n (p c)", p=8), 8 * 6, 11), (2, 6, 88)),
        (
            Patched(patches("b c (f pf) (h p1) (w p2) -> b (f h w) (p1 p2 pf c)", p1=4, p2=4, pf=2), 96, 8),
            (2, 3, 4, 8, 8),
        ),
    ],
    ids=["square", "grey with a class token", "five channels", "series", "film"],
)
def test_an_einops_pattern_tells_the_shape(model: nn.Module, shape: tuple[int, ...]):
    """Patches times the table's tokens along each axis; channels from the width of the next layer."""
    dataflow = trace(model)
    assert dataflow.uncalled == ()
    assert dataflow.by_name["arg0"].shape == shape


class Strided(nn.Module):
    """As many vision transformers: patches by a convolution, a table for images of one size."""

    def __init__(self, tokens: int, side: Any = None, attribute: str = "image_size") -> None:
        super().__init__()
        if side is not None:
            setattr(self, attribute, side)
        self.patch = nn.Conv2d(3, 16, 16, 16)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.pos_embed = nn.Parameter(torch.randn(1, tokens, 16))
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)
        return self.head((x + self.pos_embed)[:, 0])


@pytest.mark.parametrize("attribute", ["image_size", "img_size", "input_resolution"])
def test_a_declared_size_is_taken(attribute: str):
    """A 48 x 80 image has 3 * 5 patches and a class token: 16."""
    dataflow = trace(Strided(16, (48, 80), attribute), tier="recorded")
    assert dataflow.by_name["arg0"].shape == (2, 3, 48, 80)


def test_a_table_of_positions_tells_the_size():
    """10 * 10 patches of 16 and a class token: an image of 160."""
    dataflow = trace(Strided(101), tier="recorded")
    assert dataflow.by_name["arg0"].shape == (2, 3, 160, 160)


# What is said where nothing works.


class Fails(nn.Module):
    """Fails in another way each time; a long reason and a short one come again and again."""

    times = 0

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Any) -> Any:
        raise RuntimeError(f"reason {tuple(x.shape)}" if isinstance(x, Tensor) else "short")


def test_reasons_come_once_each_the_shortest_first_in_at_most_ten_lines():
    with pytest.raises(TraceError, match="Fails could not be traced") as caught:
        trace(Fails())
    lines = str(caught.value).splitlines()
    reasons = [line.partition("RuntimeError")[2] for line in lines[1:-1]]
    assert len(lines) <= 10
    assert len(set(reasons)) == len(reasons)
    told = [line for line in lines[1:-1] if "RuntimeError" in line]
    assert [len(line) for line in told] == sorted(len(line) for line in told)
    assert told[0].endswith("short (2 ways tried)")
    assert lines[-1].startswith("Next: pass example_inputs=")


def test_many_reasons_are_counted():
    """12 reasons, of 1 to 12 letters: the first seven in lines of their own, 5 more."""
    failures = [FailedError("symbolic", ValueError("x" * length)) for length in range(12, 0, -1)]
    lines = listed([*failures, *failures]).splitlines()[1:]
    assert [line.count("x") for line in lines[:-1]] == [1, 2, 3, 4, 5, 6, 7]
    assert lines[-1] == "  and 5 more reasons"
