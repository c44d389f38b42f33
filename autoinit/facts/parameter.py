"""Facts: all that the graph tells of one parameter, or of some rows of it, as an immutable value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from autoinit.theory.layouts import Layout, size

Rows = tuple[tuple[int, int], ...]
Kind = Literal[
    "weight", "bias", "norm_gain", "norm_shift", "embedding", "position", "token", "bias_table", "layer_scale", "slope",
    "decay", "learned_input", "other",
]  # fmt: skip
Attention = Literal["", "query", "key", "value"]
LowRank = Literal["", "down", "up"]


@dataclass(frozen=True)
class Facts:
    """What the graph tells of a parameter, or of some output rows of a weight.

    A bias has the facts of the rows that it is added to, but for its kind, name and shape; where those part, it has
    facts for each part.

    Attributes:
        param: the parameter's name in `named_parameters()`.
        kind: what it is. `weight`: of a weight operation, a table that serves as head too included. `embedding`: rows
            looked up by what the model is given. `position`: a table that is added to a signal, or whose rows are
            looked up by numbers of places. `token`: joined to a signal as further places. `bias_table`: added to the
            logits of attention. `layer_scale`: multiplies a branch before it is added. `slope`: of PReLU.
            `decay`: how fast states decay, on a logarithmic scale: exp(-t exp(it)) of a signal t (Mamba's `A_log`).
            `learned_input`: what a weight operation takes in place of a signal (StyleGAN2's constant).
        shape: the parameter's.
        weight_shape: of the weight; of a bias that of the weight beside it.
        op: the operation that uses it.
        rows: half-open runs of output rows, of a bias of its elements; empty for all.
        layout: what the axes of the weight mean.
        fan_in, fan_out: true, of these rows (0 where there is no weight).
        reason, nonlinearity: what the rows feed and why it is that (see `Reason`).
        normalised: whether a norm takes the scale away, of what the rows give or of the weight itself.
        standardised: whether the weight itself is normalised before it is used.
        runtime_gain: what multiplies the weight, or what it takes, as the model runs: 1 / sqrt(fan_in) of an equalised
            learning rate; 0 where the weight's own norm divides it, or what it gives.
        is_style: whether what the rows give multiplies another weight, or the input of one that it demodulates.
        is_router: whether the rows choose among experts, or say how much each counts.
        branch: number, from 1, of the branch of a residual stream that it lies in; 0 outside.
        branches: how many branches that stream has.
        ends_branch: whether nothing with a weight follows it on that branch.
        branch_weights: weight operations on that branch.
        branch_attends: whether attention is on that branch.
        width: features of the residual stream; 0 outside, or where they are not known.
        last_on_branch: whether nothing with parameters follows it there.
        attention: what these rows give to attention.
        head_width: features of one head of it; 0 where there is none, or no shapes.
        gate: of a recurrent layer, what these rows give: an LSTM's `input`, `forget`, `cell` or `output`, a GRU's
            `reset`, `update` or `new`; `new` in a layer without gates.
        gates: of a weight whose rows make several gates of a layer that is written out: the rows of each, and its name.
        of_state: whether it is what a recurrent layer reads its own state by; of the biases of a gate that is written
            out, whether it is the last.
        low_rank: which factor of a low-rank addition to another weight it is (LoRA): `down` or `up`; empty for none.
        modulates: whether the weight gives both what signals are multiplied by and what is added to them (adaLN).
        tied: whether the weight is the table of an embedding too.
        reads_input: whether no weight comes before it.
        is_last: whether no weight comes behind it.
        order: of a token, how many tensors are joined before it.
        neutral: of a norm's gain or shift, the value that leaves the signal as it is: 0 also for a gain that is used
            as 1 + gain.
    """

    param: str
    kind: Kind
    shape: tuple[int, ...]
    weight_shape: tuple[int, ...] = ()
    op: str = ""
    rows: Rows = ()
    layout: Layout = field(default=Layout(""))
    fan_in: float = 0.0
    fan_out: float = 0.0
    reason: str = ""
    nonlinearity: str = ""
    normalised: bool = False
    standardised: bool = False
    runtime_gain: float = 1.0
    is_style: bool = False
    is_router: bool = False
    branch: int = 0
    branches: int = 0
    ends_branch: bool = False
    branch_weights: int = 0
    branch_attends: bool = False
    width: int = 0
    last_on_branch: bool = False
    attention: Attention = ""
    head_width: int = 0
    gate: str = ""
    gates: tuple[tuple[Rows, str], ...] = ()
    of_state: bool = False
    low_rank: LowRank = ""
    modulates: bool = False
    tied: bool = False
    reads_input: bool = False
    is_last: bool = False
    order: int = 0
    neutral: float = 0.0

    @property
    def is_weight(self) -> bool:
        """Whether it is the weight of an operation."""
        return self.kind == "weight"

    @property
    def is_conv(self) -> bool:
        """Whether it belongs to a convolution, transposed ones included."""
        return "k" in self.layout.axes

    @property
    def is_depthwise(self) -> bool:
        """Whether it is of a convolution that reads each channel by itself."""
        return self.is_conv and self.layout.groups > 1 and self.size("o" if self.layout.transposed else "i") == 1

    @property
    def is_head(self) -> bool:
        """Whether what it gives is the model's output, perhaps averaged with that of another head."""
        return bool(self.layout.axes and not self.is_router) and (
            self.reason in ("output", "softmax") or (self.is_last and not self.branch and self.attention == "")
        )

    @property
    def block(self) -> int:
        """Number, from 1, of the block of two branches that it lies in; 0 outside."""
        return (self.branch + 1) // 2

    @property
    def blocks(self) -> int:
        """Blocks of two branches in its stream; a last branch alone counts as one."""
        return (self.branches + 1) // 2

    @property
    def features(self) -> int:
        """Output features of a weight's rows; of any other parameter the size of its last axis."""
        if not self.layout.axes:
            return self.shape[-1] if self.shape else 1
        return sum(stop - start for start, stop in self.rows) or self.size("o")

    def size(self, letter: str) -> int:
        """Product of the sizes of the weight's axes of one letter: `o`, `i`, `k`, `b`."""
        return size(self.layout.axes, self.weight_shape, letter)
