"""Inputs guessed from the names of arguments, from configurations, and from what failures say."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoinit.errors import ArgumentError, TraceError
from autoinit.tracing.guessing import guessed_inputs
from autoinit.tracing.guessing._resizing import repairing
from autoinit.tracing.inputs import Inputs
from autoinit.tracing.tiers import trace

WIDTH = 6


def first(model: nn.Module) -> dict[str, Any]:
    """The keyword arguments of the first guess, tensors as their shapes."""
    guess = next(guessed_inputs(model))
    return shapes(guess.kwargs)


def shapes(values: Any) -> dict[str, Any]:
    return {name: tuple(value.shape) if isinstance(value, Tensor) else value for name, value in values.items()}


def config(**settings: Any) -> SimpleNamespace:
    return SimpleNamespace(**settings)


class Configured(nn.Module):
    """A model with a configuration and a layer of each kind that is asked for; forward comes from the case."""

    def __init__(self, settings: SimpleNamespace, **layers: nn.Module) -> None:
        super().__init__()
        self.config = settings
        for name, layer in layers.items():
            setattr(self, name, layer)


# One argument at a time: the shapes follow from the configuration, or from the layer that takes the argument.


class Tokens(Configured):
    def forward(self, input_ids: Any = None) -> Any: ...


class Pixels(Configured):
    def forward(self, pixel_values: Any) -> Any: ...


class Videos(Configured):
    def forward(self, pixel_values_videos: Any) -> Any: ...


class Features(Configured):
    def forward(self, input_features: Any, input_features_mask: Any) -> Any: ...


class Waves(Configured):
    def forward(self, input_values: Any) -> Any: ...


class Patches(Configured):
    def forward(self, hidden_states: Any, grid_thw: Any) -> Any: ...


class Series(Configured):
    def forward(self, past_values: Any) -> Any: ...


class Boxes(Configured):
    def forward(self, input_ids: Any = None, bbox: Any = None, attention_mask: Any = None) -> Any: ...


class Queries(Configured):
    def forward(self, query_embeds: Any, encoder_hidden_states: Any) -> Any: ...


class Encoded(Configured):
    def forward(self, hidden_states: Any) -> Any: ...


class Seen(Configured):
    def forward(self, input_ids: Any = None, visual_feats: Any = None, visual_pos: Any = None) -> Any: ...


class Spoken(Configured):
    def forward(self, input_ids: Any = None, lang_ids: Any = None) -> Any: ...


class Padded(Configured):
    def forward(self, pixel_values: Any, pixel_attention_mask: Any, spatial_shapes: Any) -> Any: ...


class Decisions(Configured):
    def forward(self, states: Any = None, actions: Any = None, rewards: Any = None, timesteps: Any = None) -> Any: ...


ARGUMENTS: dict[str, tuple[nn.Module, dict[str, Any]]] = {
    "tokens": (Tokens(config(vocab_size=9), embed=nn.Embedding(9, WIDTH)), {"input_ids": (2, 8)}),
    "image": (
        Pixels(config(vision_config=config(image_size=48)), conv=nn.Conv2d(3, WIDTH, 4)),
        {"pixel_values": (2, 3, 48, 48)},
    ),
    "image_of_two_sides": (
        Pixels(config(image_size=[32, 64]), conv=nn.Conv2d(1, WIDTH, 4)),
        {"pixel_values": (2, 1, 32, 64)},
    ),
    "frames_of_images": (
        Pixels(config(image_size=32, num_frames=4), conv=nn.Conv3d(3, WIDTH, (2, 4, 4))),
        {"pixel_values": (2, 4, 3, 32, 32)},
    ),
    "video": (
        Videos({"image_size": 32, "num_frames": 4}, conv=nn.Conv3d(3, WIDTH, (2, 4, 4))),
        {"pixel_values_videos": (2, 4, 3, 32, 32)},
    ),
    "mel_over_time": (
        Features(config(num_mel_bins=80, max_source_positions=50), conv=nn.Conv1d(80, WIDTH, 3)),
        {"input_features": (2, 80, 100), "input_features_mask": (2, 100)},
    ),
    "mel_features": (
        Features(config(num_mel_bins=80), audio=nn.Linear(80, WIDTH)),
        {"input_features": (2, 400, 80), "input_features_mask": (2, 400)},
    ),
    "wave": (Waves(config(), conv=nn.Conv1d(1, WIDTH, 10)), {"input_values": (2, 15360)}),
    "wave_of_a_codec": (
        Waves(config(audio_channels=2, codebook_size=8), conv=nn.Conv1d(2, WIDTH, 7)),
        {"input_values": (2, 2, 15360)},
    ),
    "patches": (
        Patches(config(), patch_embed=nn.Conv3d(3, WIDTH, (2, 4, 4), stride=(2, 4, 4))),
        {"hidden_states": (2 * 144, 3 * 2 * 4 * 4), "grid_thw": (2, 3)},
    ),
    "series": (
        Series(config(context_length=20, num_input_channels=3), linear=nn.Linear(20, WIDTH)),
        {"past_values": (2, 20, 3)},
    ),
    "boxes": (
        Boxes(config(vocab_size=9), embed=nn.Embedding(9, WIDTH)),
        {"input_ids": (2, 8), "bbox": (2, 8, 4)},
    ),
    "two_widths": (
        Queries(config(hidden_size=WIDTH, encoder_hidden_size=10), query=nn.Linear(WIDTH, WIDTH)),
        {"query_embeds": (2, 8, WIDTH), "encoder_hidden_states": (2, 8, 10)},
    ),
    "wave_of_an_encoder": (Encoded(config(), stem=nn.Conv1d(1, WIDTH, 7)), {"hidden_states": (2, 1, 15360)}),
    "boxes_seen": (
        Seen(config(vocab_size=9, visual_feat_dim=12, visual_pos_dim=4), embed=nn.Embedding(9, WIDTH)),
        {"input_ids": (2, 8), "visual_feats": (2, 8, 12), "visual_pos": (2, 8, 4)},
    ),
    "language": (
        Spoken(config(vocab_size=9, languages=["en_XX"]), embed=nn.Embedding(9, WIDTH)),
        {"input_ids": (2, 8), "lang_ids": (2,)},
    ),
    "one_language": (Spoken(config(vocab_size=9), embed=nn.Embedding(9, WIDTH)), {"input_ids": (2, 8)}),
    "padded_patches": (
        Padded(config(), patch_embedding=nn.Linear(48, WIDTH)),
        {"pixel_values": (2, 144, 48), "pixel_attention_mask": (2, 144), "spatial_shapes": (2, 2)},
    ),
    "decisions": (
        Decisions(config(state_dim=5, act_dim=3), embed_state=nn.Linear(5, WIDTH)),
        {"states": (2, 8, 5), "actions": (2, 8, 3), "rewards": (2, 8, 1), "timesteps": (2, 8)},
    ),
}


@pytest.mark.parametrize("key", ARGUMENTS)
def test_arguments_by_name(key: str):
    model, expected = ARGUMENTS[key]
    assert first(model) == expected


def test_tokens_are_ordinary_words_of_the_vocabulary():
    model = Tokens(config(vocab_size=9, pad_token_id=4, eos_token_id=0), embed=nn.Embedding(9, WIDTH))
    ids = next(guessed_inputs(model)).kwargs["input_ids"]
    assert ids.dtype == torch.int64
    assert set(ids.flatten().tolist()) <= {1, 2, 3, 5, 6, 7, 8}


def test_a_grid_counts_the_patches():
    kwargs = next(guessed_inputs(Patches(config(), patch_embed=nn.Linear(12, WIDTH)))).kwargs
    assert int(kwargs["grid_thw"].prod(dim=1).sum()) == len(kwargs["hidden_states"])


def test_very_large_images_have_no_values():
    model = Videos(config(image_size=1024, num_frames=16), conv=nn.Conv3d(3, WIDTH, 2))
    video = next(guessed_inputs(model)).kwargs["pixel_values_videos"]
    assert video.is_meta
    assert tuple(video.shape) == (2, 16, 3, 1024, 1024)


def test_the_configuration_of_the_right_part_counts():
    settings = config(text_config=config(image_size=7), vision_config=config(image_size=24), image_size=9)
    assert first(Pixels(settings, conv=nn.Conv2d(3, WIDTH, 4))) == {"pixel_values": (2, 3, 24, 24)}


# Whole calls.


class TwoTowers(Configured):
    """An image and a text, either of which may be left out; placeholders must be as many as the image's features."""

    def forward(self, input_ids: Any = None, pixel_values: Any = None, image_sizes: Any = None) -> Any:
        words = self.text(input_ids)
        if pixel_values is not None:
            image = self.project(self.vision(pixel_values).flatten(2).transpose(1, 2))
            found = int((input_ids == self.config.image_token_id).sum())
            if found != image.shape[0] * image.shape[1]:
                raise ValueError(
                    f"Image features and image tokens do not match, tokens: {found}, "
                    f"features: {image.shape[0] * image.shape[1]}"
                )
            words = torch.cat([words, image], dim=1)
        return self.head(torch.relu(words))


def two_towers() -> TwoTowers:
    settings = config(image_size=12, vocab_size=20, image_token_id=19)
    return TwoTowers(
        settings,
        vision=nn.Conv2d(3, WIDTH, 4, stride=4),
        project=nn.Linear(WIDTH, WIDTH),
        text=nn.Embedding(20, WIDTH),
        head=nn.Linear(WIDTH, 2),
    )


def test_placeholders_are_as_many_as_a_failure_says():
    dataflow = trace(two_towers())
    assert dataflow.uncalled == ()
    # 12 pixels in patches of 4: 9 features for each of two images, and 8 ordinary tokens in each row.
    assert "input (2, 17), (2, 3, 12, 12) guessed from argument names" in dataflow.notes


def test_features_may_be_counted_number_by_number():
    guess = next(guessed_inputs(two_towers()))
    said = ValueError(f"Image features and image tokens do not match, tokens: 0, features: {18 * 400 * WIDTH}")
    repaired = guess.after(said)
    assert repaired is not None
    assert int((repaired.kwargs["input_ids"] == 19).sum()) == 18 * 400


def test_a_failure_that_says_nothing_ends_the_repairs():
    assert next(guessed_inputs(two_towers())).after(ValueError("no")) is None


class Forgetful(Configured):
    """Asks for what its signature calls optional."""

    def forward(
        self, input_ids: Any = None, token_type_ids: Any = None, use_cache: bool = True, pixel_mask: Any = None
    ) -> Any:
        if token_type_ids is None:
            raise ValueError("You have to specify token_type_ids")
        if use_cache:
            raise RuntimeError("no layer of this model has a cache")
        return self.head(self.text(input_ids) + self.kinds(token_type_ids))


def test_what_a_failure_names_is_given():
    model = Forgetful(
        config(vocab_size=9), text=nn.Embedding(9, WIDTH), kinds=nn.Embedding(2, WIDTH), head=nn.Linear(WIDTH, 2)
    )
    dataflow = trace(model)
    assert dataflow.uncalled == ()
    assert any("guessed from argument names" in note for note in dataflow.notes)


class Several(Configured):
    """Several images for each sample."""

    def forward(self, pixel_values: Any) -> Any:
        batch, count, *size = pixel_values.shape
        if count != 2:
            raise ValueError("two images are compared")
        return self.conv(pixel_values.reshape(batch * count, *size))


def test_other_forms_of_an_argument_follow():
    dataflow = trace(Several(config(image_size=16), conv=nn.Conv2d(3, WIDTH, 4)))
    assert "input (2, 2, 3, 16, 16) guessed from argument names" in dataflow.notes


def test_text_alone_where_the_other_part_cannot_be_called():
    model = two_towers()
    model.config.image_token_id = None
    dataflow = trace(model)
    assert "input (2, 8) guessed from argument names" in dataflow.notes
    assert {each for each in dataflow.uncalled if each.endswith("weight")} == {"vision.weight", "project.weight"}


def test_guesses_are_few():
    model = Queries(config(hidden_size=WIDTH), conv=nn.Conv2d(3, 4, 3), lin=nn.Linear(5, 6), embed=nn.Embedding(9, 4))
    assert len(list(guessed_inputs(model))) <= 18


class NoForward(Configured):
    pass


def test_a_model_without_a_forward_is_tried_once():
    model = NoForward(config(), lin=nn.Linear(3, 3))
    assert len(list(guessed_inputs(model))) == 1
    with pytest.raises(TraceError, match='missing the required "forward" function'):
        trace(model)


def test_the_failure_says_which_forms_of_inputs_there_are():
    class Stubborn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = nn.Linear(3, 3)

        def forward(self, thing: Any) -> Any:
            raise RuntimeError("never")

    forms = "pass example_inputs=... (a tensor, a tuple of arguments, a dict of keyword arguments"
    with pytest.raises(TraceError, match=re.escape(forms)):
        trace(Stubborn())


# Models without a configuration.


class Diffusion(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.config = {"context_dim": 10}
        self.stem, self.time = nn.Conv2d(4, WIDTH, 3, padding=1), nn.Linear(1, WIDTH)
        self.query, self.key = nn.Linear(WIDTH, WIDTH), nn.Linear(10, WIDTH)

    def forward(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        if t.shape != (len(x),):
            raise ValueError("a time for each sample")
        hidden = self.stem(x) + self.time(t[:, None].to(x.dtype))[:, :, None, None]
        return self.query(hidden.flatten(2).transpose(1, 2)) @ self.key(context).transpose(1, 2)


class GraphNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin, self.out = nn.Linear(5, WIDTH), nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        if edge_index.shape[0] != 2:
            raise ValueError("pairs of nodes")
        source, target = edge_index
        hidden = self.lin(x)
        return self.out(torch.relu(torch.zeros_like(hidden).index_add_(0, target, hidden[source])))


class Named(nn.Module):
    """The arguments are named as the parts that take them."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, WIDTH), nn.Linear(5, WIDTH)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        if not isinstance(left, Tensor) or isinstance(left, torch.fx.Proxy):
            raise TypeError("a tensor is wanted")
        return torch.relu(self.left(left)) + self.right(right)


class Sequences(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(7, WIDTH, batch_first=True), nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        hidden, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return self.out(hidden)


class Stereo(nn.Module):
    """Two arguments of the same kind."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, WIDTH, 3)

    def forward(self, image1: Tensor, image2: Tensor) -> Tensor:
        if image1.shape != image2.shape or not image1.dim():
            raise ValueError("two images alike")
        return self.conv(image1) - self.conv(image2)


class Generator(nn.Module):
    """Noise and a label for each sample, joined."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.net = nn.Embedding(10, 5), nn.Linear(16 + 5, 3)

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        return self.net(torch.cat([noise, self.embed(labels)], 1))


class Critic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(17 + 6, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))

    def forward(self, observation: Tensor, move: Tensor) -> Tensor:
        return self.net(torch.cat([observation, move], -1))


class Table(nn.Module):
    """Categories and numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.ModuleList([nn.Embedding(size, 4) for size in (10, 7)])
        self.norm, self.net = nn.BatchNorm1d(5), nn.Linear(2 * 4 + 5, 1)

    def forward(self, categories: Tensor, amounts: Tensor) -> Tensor:
        embedded = [embed(categories[:, column]) for column, embed in enumerate(self.embed)]
        return self.net(torch.cat([*embedded, self.norm(amounts)], 1))


class Captions(nn.Module):
    """An image and a text."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.embed, self.net = nn.Conv2d(3, 4, 3), nn.Embedding(9, 4), nn.Linear(8, 2)

    def forward(self, picture: Tensor, words: Tensor) -> Tensor:
        return self.net(torch.cat([self.conv(picture).mean((2, 3)), self.embed(words).mean(1)], 1))


class CrossAttention(nn.Module):
    """A width of its own for what is looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.attention = nn.MultiheadAttention(8, 2, kdim=12, vdim=12, batch_first=True)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        query = torch.relu(self.stem(x)).flatten(2).transpose(1, 2)
        return self.attention(query, context, context)[0]


class Translator(nn.Module):
    """Two texts and their masks."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(11, 8), nn.Embedding(12, 8)
        self.both = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)

    def forward(
        self, src: Tensor, tgt: Tensor, src_mask: Tensor, tgt_mask: Tensor, src_key_padding_mask: Tensor
    ) -> Tensor:
        padded = src_key_padding_mask
        return self.both(self.source(src), self.target(tgt), src_mask, tgt_mask, src_key_padding_mask=padded)


class Lengths(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn = nn.Embedding(9, 4), nn.LSTM(4, WIDTH, batch_first=True)

    def forward(self, text: Tensor, text_lengths: Tensor) -> Tensor:
        rows = nn.utils.rnn.pack_padded_sequence(
            self.embed(text), text_lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        return self.rnn(rows)[1][0]


class Frames(nn.Module):
    """Made for images of one size."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.Sequential(nn.Conv2d(4, 8, 8, 4), nn.ReLU(), nn.Conv2d(8, 8, 4, 2), nn.Conv2d(8, 8, 3, 1))
        self.head = nn.Linear(8 * 7 * 7, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.convs(x / 255).flatten(1))


SEVERAL = [
    Diffusion,
    GraphNet,
    Named,
    Sequences,
    Stereo,
    Generator,
    Critic,
    Table,
    Captions,
    CrossAttention,
    Translator,
]


@pytest.mark.parametrize("build", [*SEVERAL, Lengths, Frames])
def test_models_of_several_arguments_without_an_example(build: type[nn.Module]):
    dataflow = trace(build(), tier="recorded")
    assert dataflow.uncalled == ()


# Sizes that do not go together: a failure says which, and the argument that has the one gets the other.

SIZES = {
    "linear": ("mat1 and mat2 shapes cannot be multiplied (16x6 and 10x3)", (2, 8, 6), (2, 8, 10)),
    "linear_on_meta": ("a and b must have same reduction dim, but got [16, 6] X [10, 3].", (2, 8, 6), (2, 8, 10)),
    "norm": ("Given normalized_shape=[10], expected input with shape [*, 10], but got input of size[2, 8, 6]",
             (2, 8, 6), (2, 8, 10)),
    "channels": ("expected input[2, 3, 9, 9] to have 4 channels, but got 3 channels instead",
                 (2, 3, 9, 9), (2, 4, 9, 9)),
    "recurrent": ("input.size(-1) must be equal to input_size. Expected 7, got 5", (2, 8, 5), (2, 8, 7)),
    "attention": ("was expecting embedding dimension of 16, but got 12", (2, 8, 12), (2, 8, 16)),
    "batch_norm": ("running_mean should contain 8 elements not 5", (2, 8), (2, 5)),
    "sum": ("The size of tensor a (9) must match the size of tensor b (20) at non-singleton dimension 1",
            (2, 9, 4), (2, 20, 4)),
    "concatenation": ("Sizes of tensors must match except in dimension 1. Expected size 20 but got size 9 for tensor "
                      "number 1 in the list.", (2, 9, 4), (2, 20, 4)),
    "broadcast": ("shape mismatch: Mismatch is between arg 0 with shape (2, 8, 6) and arg 1 with shape (10,).",
                  (2, 8, 6), (2, 8, 10)),
    "einsum": ("einsum(): subscript i has size 10 for operand 1 which does not broadcast with previously seen size 6",
               (2, 8, 6), (2, 8, 10)),
    "bmm": ("Expected size for first two dimensions of batch2 tensor to be: [2, 10] but got: [2, 6].",
            (2, 6, 4), (2, 10, 4)),
    "samples": ("shape '[2, 1, 7, 5]' is invalid for input of size 35", (2, 3, 4), (1, 3, 4)),
    "join": ("a and b must have same reduction dim, but got [2, 14] X [9, 3].", (2, 8), (2, 3)),
}  # fmt: skip


@pytest.mark.parametrize("key", SIZES)
def test_sizes_that_a_failure_names(key: str):
    text, size, expected = SIZES[key]
    again = repairing(Inputs((torch.ones(size),)), ("x",)).after(RuntimeError(text))
    assert again is not None
    assert tuple(again.args[0].shape) == expected


def test_texts_may_be_made_longer_too():
    text = torch.arange(8).expand(2, -1)
    said = "The size of tensor a (20) must match the size of tensor b (8) at non-singleton dimension 1"
    again = repairing(Inputs((), {"tokens": text}), ()).after(RuntimeError(said))
    assert again is not None
    assert again.kwargs["tokens"].tolist() == [[*range(8), *range(8), *range(4)]] * 2


def test_the_same_change_is_made_once():
    said = RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x6 and 10x3)")
    again = repairing(Inputs((torch.ones(2, 6),)), ("x",)).after(said)
    assert again is not None
    assert again.after(said) is None


def test_a_failure_that_names_no_size_changes_none():
    assert repairing(Inputs((torch.ones(2, 6),)), ("x",)).after(RuntimeError("(2, 6)")) is None


class Tiled(Configured):
    """Images in tiles: six axes, and a number for each image."""

    def forward(self, input_ids: Any = None, pixel_values: Any = None, aspect_ratio_ids: Any = None) -> Any:
        words = self.text(input_ids)
        if pixel_values is not None:
            if aspect_ratio_ids is None:
                raise ValueError("`aspect_ratio_ids` must be provided if `pixel_values` is provided")
            batch, images, tiles, colours, height, width = pixel_values.shape
            seen = self.vision(pixel_values.reshape(batch * images * tiles, colours, height, width)).mean((2, 3))
            words = words + seen.reshape(batch, -1, WIDTH).mean(1)[:, None] + self.kinds(aspect_ratio_ids)
        return self.head(words)


def test_axes_that_a_failure_counts():
    model = Tiled(
        config(vocab_size=9, image_size=8, max_num_tiles=4),
        text=nn.Embedding(9, WIDTH),
        vision=nn.Conv2d(3, WIDTH, 4),
        kinds=nn.Embedding(3, WIDTH),
        head=nn.Linear(WIDTH, 2),
    )
    dataflow = trace(model)
    assert dataflow.uncalled == ()
    assert "input (2, 8), (2, 1, 4, 3, 8, 8), (2, 1) guessed from argument names" in dataflow.notes


def test_models_that_fail_are_tried_in_few_ways_again():
    runs = []

    class Hopeless(Configured):
        def forward(self, pixel_values: Any) -> Any:
            if not isinstance(pixel_values, torch.fx.Proxy):
                runs.append((pixel_values.device.type, self.training))
            raise RuntimeError("never")

    with pytest.raises(TraceError, match="never"):
        trace(Hopeless(config(image_size=8), conv=nn.Conv2d(3, WIDTH, 4), lin=nn.Linear(3, 3)))
    assert runs.count(("meta", False)) == 4
    assert runs.count(("cpu", True)) == runs.count(("cpu", False)) == 1


# Models of a library.

LIBRARY = {
    "bros": ("input_ids", "bbox"),
    "audio-spectrogram-transformer": ("input_values",),
    "blip_2_qformer": ("query_embeds",),  # and encoder_hidden_states, after the first failure
    "siglip2_vision_model": ("pixel_values", "pixel_attention_mask", "spatial_shapes"),
    "decision_transformer": ("states",),
    "vilt": ("input_ids", "pixel_values"),
    "whisper": ("input_features", "decoder_input_ids"),
    "patchtst": ("past_values",),
    "lxmert": ("input_ids", "visual_feats", "visual_pos"),
    "kosmos-2.5": ("input_ids", "flattened_patches"),
    "muse_glimmer_assistant": ("noise_embeds", "context_hidden_states"),  # of two widths, after a failure
    "inkling2_vision": ("pixel_values", "image_grid_thw"),
}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the installed transformers needs it")
@pytest.mark.parametrize("name", LIBRARY)
def test_models_of_a_library(name: str):
    pytest.importorskip("tests.shared.torchvision_ops")
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(transformers.CONFIG_MAPPING[name]())
    dataflow = trace(model)
    assert any("guessed from argument names" in note for note in dataflow.notes)
    guess = next(guessed_inputs(model))
    assert set(LIBRARY[name]) <= set(guess.kwargs)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the installed transformers needs it")
def test_hooks_that_a_library_puts_on_its_own_modules_take_part():
    """Its backbones collect feature maps by forward hooks of the package that the modules' classes are of."""
    pytest.importorskip("tests.shared.torchvision_ops")
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(transformers.CONFIG_MAPPING["pp_ocrv6_tiny_rec"]())
    called: list[str] = []
    model.register_forward_hook(lambda *_: called.append("a user's own"))
    assert not trace(model).uncalled
    assert called == []


def test_an_input_that_memory_does_not_hold_is_refused_in_one_line():
    """2^60 numbers of four bytes."""
    with pytest.raises(ArgumentError, match=r"shape \(1, 1152921504606846976\) takes 4,611,686,018,427,387,904 bytes"):
        trace(nn.Linear(2, 2), (1, 2**60))
