"""Texts that are longer than a model reads at once -> windows that overlap, and one answer from all of them."""

from collections.abc import Iterator, Sequence

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.sources.text import replace_lone_surrogates
from adapler_jax.data.tokenization.pieces import Pieces, encode_all
from adapler_jax.data.tokenization.templates import Template, fill_template, read_template
from adapler_jax.inference.words import Encoded, Word, words_of

TRUNCATE = "truncate"
LONG_TEXT_MODES = (TRUNCATE, "mean", "max")  # what becomes of texts that are too long


def check_long_texts(long_texts: str, stride: int | None) -> bool:
    """Whether texts are read in windows. Raises ValueError on another value than LONG_TEXT_MODES, or a stride that is none."""
    if long_texts not in LONG_TEXT_MODES:
        raise ValueError(f"long_texts is {long_texts!r:.60}; expected {', '.join(LONG_TEXT_MODES)}")
    if stride is not None and long_texts == TRUNCATE:
        raise ValueError(
            f"stride is {stride!r:.60}, but long_texts='truncate' has no windows; leave it out"
        )
    if stride is not None and (
        not isinstance(stride, int) or isinstance(stride, bool) or stride < 1
    ):
        raise ValueError(f"stride is {stride!r:.60}; expected a number of tokens of at least 1")
    return long_texts != TRUNCATE


def merge_probs(probs_RC: np.ndarray, how: str) -> np.ndarray:
    """Probabilities [C] of a text from those of its windows: the mean, or those of the window that is surest."""
    return probs_RC.mean(axis=0) if how == "mean" else probs_RC[np.argmax(probs_RC.max(axis=1))]


def encode_windows(
    core: Tokenizer,
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    *,
    max_length: int,
    stride: int | None,
) -> list[list[Encoded]]:
    """Tokenizes texts, or pairs of texts, whole, and lays windows over them.

    Args: core: as `load_core` gives it. max_length: tokens of a window, special ones included. stride: tokens from the
    start of a window to the start of the next, at most the room for text; None for half of the room.

    Returns the windows of every text, at least one, the last ends with the text; all have the words of the whole text.
    Of a pair the longer text is laid out in windows, beside the whole of the shorter one; where that has more tokens
    than half of the room, it is cut there, and `is_cut` says so.

    Raises ValueError where max_length leaves no room for text.
    """
    template = read_template(core, pair=pairs is not None, is_strict=False)
    room = max_length - template.num_special
    if room < 1:
        raise ValueError(
            f"max_length {max_length} has no room for text next to {template.num_special} special tokens"
        )
    parts = [
        [replace_lone_surrogates(text) for text in part]
        for part in (texts, pairs)
        if part is not None
    ]
    pieces = [encode_all(core, part, with_offsets=True) for part in parts]
    return [
        list(_windows(template, found, tokens, room=room, stride=stride))
        for found, tokens in zip(zip(*parts, strict=True), zip(*pieces, strict=True), strict=True)
    ]


def _windows(
    template: Template,
    texts: tuple[str, ...],
    pieces: tuple[Pieces, ...],
    *,
    room: int,
    stride: int | None,
) -> Iterator[Encoded]:
    """The windows of one text or pair."""
    lengths = [len(part.ids) for part in pieces]
    moving = int(np.argmax(lengths))
    kept = min(min(lengths), room // 2) if len(pieces) > 1 else 0  # of the shorter text
    space = room - kept
    step = min(stride or max(1, space // 2), space)
    words, word_T = _all_words(texts, pieces)
    is_cut = len(pieces) > 1 and kept < min(lengths)
    for number in range(1 + max(0, -((space - lengths[moving]) // step))):
        slices = [slice(0, kept)] * len(pieces)
        slices[moving] = slice(number * step, number * step + space)
        ids = [part.ids[where] for part, where in zip(pieces, slices)]
        places = [part[where] for part, where in zip(word_T, slices)]
        ids, places = (part + [np.zeros(0, np.int32)] * (2 - len(part)) for part in (ids, places))
        tokens, segments = fill_template(template, [tuple(ids)])
        nothing = [np.full(len(special), -1, np.int32) for special in template[:3]]
        yield Encoded(
            texts=texts,
            token_L=tokens[0],
            segment_L=segments[0].astype(np.int32),
            word_L=np.concatenate([nothing[0], places[0], nothing[1], places[1], nothing[2]]),
            words=words,
            is_cut=is_cut,
        )


def _all_words(
    texts: tuple[str, ...], pieces: tuple[Pieces, ...]
) -> tuple[tuple[Word, ...], list[np.ndarray]]:
    """The words of both texts, and the word of every token of each."""
    words, word_T = (), []
    for part, (text, found) in enumerate(zip(texts, pieces)):
        more, word_P = words_of(text, found, part)
        word_T.append(np.where(word_P < 0, -1, word_P + len(words)).astype(np.int32))
        words += more
    return words, word_T
