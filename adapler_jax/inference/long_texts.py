"""Split texts that are longer than the model into overlapping windows, and merge their results.

Shape letters:

    M windows of a text
"""

from collections.abc import Iterator, Sequence

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.sources.text import replace_lone_surrogates
from adapler_jax.data.tokenization.pieces import Pieces, encode_all
from adapler_jax.data.tokenization.templates import Template, fill_template, read_template
from adapler_jax.inference.words import NO_WORD, Encoded, number_words

TRUNCATE = "truncate"
LONG_TEXT_MODES = (TRUNCATE, "mean", "max")  # for texts that are longer than the model


def check_no_windows(certified: bool, long_texts: str) -> None:
    """Raise ValueError where certified answers would come from windows of texts."""
    if certified:
        raise ValueError(
            f"long_texts is {long_texts}; certified answers are for texts that are cut"
        )


def check_long_texts(long_texts: str, stride: int | None) -> bool:
    """Return True if texts are split into windows.

    Args:
      long_texts: one of LONG_TEXT_MODES.
      stride: tokens between the starts of windows; None for the default.

    Raises:
      ValueError: an argument has another value, or there is a stride without windows.
    """
    if long_texts not in LONG_TEXT_MODES:
        raise ValueError(f"long_texts is {long_texts!r:.60}; expected {', '.join(LONG_TEXT_MODES)}")
    if stride is None:
        return long_texts != TRUNCATE
    if long_texts == TRUNCATE:
        raise ValueError(
            f"stride is {stride!r:.60}, but long_texts='truncate' has no windows; leave it out"
        )
    if not isinstance(stride, int) or isinstance(stride, bool) or stride < 1:
        raise ValueError(f"stride is {stride!r:.60}; expected a number of tokens of at least 1")
    return True


def merge_probs(prob_MC: np.ndarray, long_texts: str) -> np.ndarray:
    """Return the probabilities [C] of a text from the probabilities of its windows.

    Args:
      prob_MC: float, of each window.
      long_texts: "mean" for the mean over the windows, "max" for the most certain window.
    """
    if long_texts == "mean":
        return prob_MC.mean(axis=0)
    return prob_MC[np.argmax(prob_MC.max(axis=1))]


def encode_windows(
    core: Tokenizer,
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    *,
    max_length: int,
    stride: int | None,
    part: int | None = None,
) -> list[list[Encoded]]:
    """Tokenize whole texts, or pairs of texts, and split them into windows.

    Of a pair, the longer text is split, or a named one. Each window has the whole other text as
    well. If a shorter text has more tokens than half of the room, it is cut there, and `is_cut` is
    True. The text next to a named one is cut only where it fills the room.

    Args:
      core: from `load_core`.
      texts: first texts.
      pairs: second texts; None for single texts.
      max_length: tokens of a window, special tokens included.
      stride: tokens from the start of a window to the start of the next, at most the room for
        text; None for half of the room.
      part: of a pair that is split, 0 or 1; None for the longer one.

    Returns:
      One or more windows of each text. The last one ends with the text; each has all words.

    Raises:
      ValueError: max_length leaves no room for text.
    """
    template = read_template(core, pair=pairs is not None, is_strict=False)
    room = max_length - template.num_special
    if room < 1:
        raise ValueError(
            f"max_length {max_length} has no room for text next to {template.num_special} special "
            "tokens"
        )
    parts = [
        [replace_lone_surrogates(text) for text in part]
        for part in (texts, pairs)
        if part is not None
    ]
    pieces = [encode_all(core, part, with_offsets=True) for part in parts]
    examples = zip(zip(*parts, strict=True), zip(*pieces, strict=True), strict=True)
    return [
        list(_windows(template, found, tokens, room=room, stride=stride, part=part))
        for found, tokens in examples
    ]


def _windows(
    template: Template,
    texts: tuple[str, ...],
    pieces: tuple[Pieces, ...],
    *,
    room: int,
    stride: int | None,
    part: int | None,
) -> Iterator[Encoded]:
    """Yield the windows of one text or pair."""
    lengths = [len(part.ids) for part in pieces]
    longer = int(np.argmax(lengths)) if part is None else part
    num_shorter = 0
    if len(pieces) > 1:
        num_shorter = lengths[1 - longer]
        if num_shorter > room // 2 and (part is None or num_shorter >= room):
            num_shorter = room // 2
    space = room - num_shorter
    step = min(stride or max(1, space // 2), space)
    num_steps = max(0, -((space - lengths[longer]) // step))
    words, numbers = number_words(texts, pieces)
    is_cut = len(pieces) > 1 and num_shorter < lengths[1 - longer]
    for start in range(0, (num_steps + 1) * step, step):
        slices = [slice(0, num_shorter)] * len(pieces)
        slices[longer] = slice(start, start + space)
        ids = [part.ids[tokens] for part, tokens in zip(pieces, slices)]
        word_parts = [part[tokens] for part, tokens in zip(numbers, slices)]
        if len(pieces) == 1:
            ids.append(np.zeros(0, np.int32))
            word_parts.append(np.zeros(0, np.int32))
        first, second = word_parts
        before, between, after = (
            np.full(len(special), NO_WORD, np.int32)
            for special in (template.first, template.middle, template.last)
        )
        tokens, segments = fill_template(template, [(ids[0], ids[1])])
        yield Encoded(
            texts=texts,
            token_L=tokens[0],
            segment_L=segments[0].astype(np.int32),
            word_L=np.concatenate([before, first, between, second, after]),
            words=words,
            is_cut=is_cut,
        )
