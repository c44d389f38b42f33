"""Numbers of tokens, and what goes along with them."""

from __future__ import annotations

import torch

from autoinit.tracing.guessing._request import BATCH, LENGTH, Made, Request

_LARGEST = 50
_TYPES = ("image", "video", "audio")


_TEXT = ("text", "language", "decoder", "encoder", "thinker")


def width(request: Request) -> int | None:
    """How many numbers a token's embedding has."""
    embedding = request.subject.first(("embedding",), near=_TEXT)
    return int(embedding.embedding_dim) if embedding is not None else None


def token_ids(request: Request, name: str) -> Made:
    """(batch, tokens) of ordinary tokens, after the placeholders that the model asks for; or of several codebooks."""
    embedding = request.subject.first(("embedding",), near=_words(name))
    vocabulary = request.settings.number("vocab_size", "n_vocab", "num_embeddings", near=_words(name))
    held = embedding.num_embeddings if embedding is not None else None
    largest = min(each for each in (vocabulary, held, _LARGEST) if each is not None)
    if vocabulary is None and held is None:
        return ()
    used = dict(request.settings.named("token_id", "token_index", "_idx"))
    ordinary = [each for each in range(largest) if each not in used.values()] or [0]
    after = [ordinary[position % len(ordinary)] for position in range(3, 3 + LENGTH)]
    if name == "input_ids" and request.special:
        return (torch.tensor([_placeholders(request, row, used) + after for row in range(BATCH)]),)
    plain = torch.tensor([after, after[1:] + after[:1]])
    codebooks = request.settings.number("num_codebooks", "n_codebooks", "num_quantizers")
    several = (codebooks, codebooks + 1) if codebooks else ()  # of sound alone, or of a text and of sound
    return (plain, *(plain[:, :, None].expand(BATCH, LENGTH, count).clone() for count in several))


def of_task(request: Request, _name: str) -> Made:
    """(batch, tokens of a task's name)."""
    length = request.settings.number("task_seq_len")
    return (torch.ones(BATCH, length, dtype=torch.int64),) if length else ()


def _words(name: str) -> tuple[str, ...]:
    prefix = name.removesuffix("input_ids").strip("_")
    return (prefix,) if prefix else _TEXT


def _placeholders(request: Request, row: int, used: dict[str, int]) -> list[int]:
    """A row's share of the placeholder tokens, between the tokens that mark their start and end."""
    found: list[int] = []
    for word, count in request.special.items():
        token = placeholder(request, word)
        share = count // BATCH if row else count - count // BATCH * (BATCH - 1)
        marks = ("vision" if word in ("image", "video") else word, word)
        start = next((used[f"{mark}_start_token_id"] for mark in marks if f"{mark}_start_token_id" in used), None)
        end = next((used[f"{mark}_end_token_id"] for mark in marks if f"{mark}_end_token_id" in used), None)
        if token is not None:
            found += [each for each in (start, *[token] * share, end) if each is not None]
    return found


def placeholder(request: Request, word: str) -> int | None:
    """The token that stands for a piece of an image, say: the configuration names it, or the word is its number."""
    if word.isdigit():
        return int(word)
    endings = (f"{word}_token_id", f"{word}_token_index", f"{word}_token", f"{word}_pad_token_id", f"{word}_patch_id")
    ids = dict(request.settings.named(*endings))
    return next((value for name, value in ids.items() if name in endings), next(iter(ids.values()), None))


def token_types(request: Request, _name: str) -> Made:
    """Zeros for text; for placeholders the number of their kind."""
    ids = request.given.get("input_ids")
    if not isinstance(ids, torch.Tensor):
        return (torch.zeros(BATCH, LENGTH, dtype=torch.int64),)
    types = torch.zeros_like(ids)
    for number, word in enumerate(_TYPES, start=1):
        token = placeholder(request, word)
        if token is not None:
            types[ids == token] = number
    return (types,)


def like_tokens(request: Request, _name: str) -> Made:
    """Zeros of the tokens' shape."""
    return (torch.zeros(_shape(request), dtype=torch.int64),)


def _shape(request: Request) -> tuple[int, int]:
    ids = request.given.get("input_ids")
    return (ids.shape[0], ids.shape[1]) if isinstance(ids, torch.Tensor) else (BATCH, LENGTH)


def positions(request: Request, _name: str) -> Made:
    """0, 1, 2, ... along each row."""
    rows, columns = _shape(request)
    return (torch.arange(columns).expand(rows, columns).clone(),)


def mentions(request: Request, _name: str) -> Made:
    """(batch, entities, 1): each entity is one token."""
    return (positions(request, "")[0][:, :, None],)


def boxes(request: Request, _name: str) -> Made:
    """(batch, tokens, 4): a box for each token, all the same."""
    return (torch.tensor([0, 0, 10, 10]).expand(*_shape(request), 4).clone(),)
