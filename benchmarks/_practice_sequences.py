"""Networks of sequences: GPT, an encoder, patches, a mixer, LSTM and GRU."""

from collections.abc import Iterator

import torch
from _practice_task import (
    Practice,
    adam,
    error,
    excerpts,
    few_images,
    seen,
    sources,
    stepped,
    supervised,
    unseen,
)  # fmt: skip
from torch import Tensor, nn
from torch.nn import functional as F

LENGTH = 32
"""Characters of an excerpt."""


class Attention(nn.Module):
    """Self-attention of four heads, queries, keys and values by one weight."""

    def __init__(self, width: int, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape (samples, places, width) of x."""
        heads = [each.unflatten(-1, (4, -1)).transpose(1, 2) for each in self.qkv(x).chunk(3, -1)]
        mixed = F.scaled_dot_product_attention(*heads, is_causal=self.causal)
        made: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return made


class Block(nn.Module):
    """A transformer's block, norms first."""

    def __init__(self, width: int, causal: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, causal)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape of x."""
        x = x + self.attention(self.norm1(x))
        made: Tensor = x + self.down(F.gelu(self.up(self.norm2(x))))
        return made


def written() -> tuple[Tensor, Tensor]:
    """The text: the first nine tenths of each module to train on, the rest to test on."""
    parts = [each.tensor_split([len(each) * 9 // 10]) for each in sources()[0]]
    return torch.cat([each for each, _ in parts]), torch.cat([each for _, each in parts])


class GPT(nn.Module):
    """Six blocks over characters and learnt positions (Radford et al. 2019), the head not tied."""

    def __init__(self, width: int = 32, blocks: int = 6) -> None:
        super().__init__()
        kinds = sources()[1]
        self.characters, self.positions = nn.Embedding(kinds, width), nn.Embedding(LENGTH, width)
        self.blocks = nn.Sequential(*(Block(width, causal=True) for _ in range(blocks)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, kinds, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (samples, places, kinds) of numbers of characters."""
        made = self.characters(x) + self.positions(torch.arange(x.shape[1]))
        logits: Tensor = self.head(self.norm(self.blocks(made)))
        return logits


def next_character(model: nn.Module, pieces: Tensor) -> Tensor:
    """Cross-entropy of the next character."""
    return F.cross_entropy(model(pieces[:, :-1]).flatten(0, 1), pieces[:, 1:].flatten())


def train_gpt(model: nn.Module, rate: float) -> Iterator[Tensor]:
    """Random excerpts."""
    stepping = adam(model, rate)
    while True:
        yield stepped(stepping, next_character(model, excerpts(written()[0], 12, LENGTH + 1)))


@torch.no_grad()
def judge_gpt(model: nn.Module) -> float:
    """On excerpts of the end of the text."""
    model.eval()
    return float(next_character(model, excerpts(written()[1], 256, LENGTH + 1, seed=0)))


class Encoder(nn.Module):
    """torch.nn's encoder as it is by default, norms last, over the rows of an image, a head over their mean."""

    def __init__(self, width: int = 48, layers: int = 4) -> None:
        super().__init__()
        self.embed, self.positions = nn.Linear(8, width), nn.Parameter(torch.randn(8, width))
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, "gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images (samples, 1, 8, 8)."""
        logits: Tensor = self.head(self.encoder(self.embed(x[:, 0]) + self.positions).mean(1))
        return logits


def patches(x: Tensor) -> Tensor:
    """Images (samples, 1, 8, 8) as 16 pieces of 2 x 2 pixels, (samples, 16, 4)."""
    return F.pixel_unshuffle(x, 2).flatten(2).transpose(1, 2)


class ViT(nn.Module):
    """Four blocks over patches, learnt positions and a class token (Dosovitskiy et al. 2021)."""

    def __init__(self, width: int = 48, blocks: int = 4) -> None:
        super().__init__()
        self.embed = nn.Linear(4, width)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 17, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, causal=False) for _ in range(blocks)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images (samples, 1, 8, 8)."""
        made = torch.cat([self.token.expand(len(x), -1, -1), self.embed(patches(x))], 1) + self.positions
        logits: Tensor = self.head(self.norm(self.blocks(made))[:, 0])
        return logits


class MixerBlock(nn.Module):
    """An MLP over places, then one over features, each after a norm (Tolstikhin et al. 2021)."""

    def __init__(self, places: int, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.places = nn.Sequential(nn.Linear(places, 32), nn.GELU(), nn.Linear(32, places))
        self.features = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape (samples, places, width) of x."""
        x = x + self.places(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        made: Tensor = x + self.features(self.norm2(x))
        return made


class Mixer(nn.Module):
    """Six blocks over patches."""

    def __init__(self, width: int = 48, blocks: int = 6) -> None:
        super().__init__()
        self.embed = nn.Linear(4, width)
        self.blocks = nn.Sequential(*(MixerBlock(16, width) for _ in range(blocks)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images (samples, 1, 8, 8)."""
        logits: Tensor = self.head(self.norm(self.blocks(self.embed(patches(x)))).mean(1))
        return logits


class Recurrent(nn.Module):
    """A recurrent network of two layers over an image, pieces of so many pixels a step, and a linear head."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU], piece: int, width: int = 64) -> None:
        super().__init__()
        self.piece = piece
        self.recurrent = kind(piece, width, num_layers=2, batch_first=True)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images (samples, 1, 8, 8)."""
        logits: Tensor = self.head(self.recurrent(x.flatten(1).unflatten(1, (-1, self.piece)))[0][:, -1])
        return logits


def recurrent_recipe(model: nn.Module) -> None:
    """Keras': Xavier for inputs, orthogonal for states, biases 0, those of an LSTM's forget gates 1."""
    for name, each in model.named_parameters():
        if each.dim() == 2:
            for piece in each.data.split(64) if "recurrent" in name else [each.data]:
                (nn.init.orthogonal_ if "weight_hh" in name else nn.init.xavier_uniform_)(piece)
        else:
            nn.init.zeros_(each)
            if "bias_ih" in name and len(each) == 4 * 64:
                nn.init.ones_(each.data[64:128])


KERAS = "Keras; Saxe et al. 2014, Jozefowicz et al. 2015"
SEQUENCES = {
    "gpt": Practice(
        "GPT on characters, 6 blocks", "cross-entropy", GPT, train_gpt, judge_gpt,
        lambda: excerpts(written()[0], 16, LENGTH, seed=7_919), (0.001, 0.003, 0.01, 0.03), 120, "gpt2",
        "Radford et al. 2019",
    ),
    "encoder": Practice(
        "Encoder transformer, norms last", "error", Encoder, supervised(seen), error(unseen), few_images,
        (0.0003, 0.001, 0.003), 100, "bert", "Devlin et al. 2019",
    ),
    "vit": Practice(
        "ViT-like, 4 blocks", "error", ViT, supervised(seen), error(unseen), few_images, (0.001, 0.003, 0.01), 150,
        "vit", "Touvron et al. 2021, timm",
    ),
    "mixer": Practice(
        "MLP-mixer, 6 blocks", "error", Mixer, supervised(seen), error(unseen), few_images,
        (0.0003, 0.001, 0.003), 100, "mixer", "Tolstikhin et al. 2021",
    ),
    "lstm": Practice(
        "LSTM, two layers", "error", lambda: Recurrent(nn.LSTM, 8), supervised(seen), error(unseen), few_images,
        (0.003, 0.01, 0.03), 200, recurrent_recipe, KERAS,
    ),
    "gru": Practice(
        "GRU, two layers, 32 steps", "error", lambda: Recurrent(nn.GRU, 2), supervised(seen), error(unseen),
        few_images, (0.003, 0.01, 0.03), 100, recurrent_recipe, KERAS,
    ),
}  # fmt: skip
