"""Altered copies of training texts, for a student that learns from a teacher's soft labels.

Source: the idea of TinyBERT (Jiao et al., Findings of EMNLP 2020), which enlarges small tasks before it distils; there
words are replaced by a language model, here by words of the training texts.
"""

from collections.abc import Sequence

import numpy as np

from adapler_jax.data.examples import Examples

JOIN_SHARE = 1 / 3  # of copies that go on as another text from somewhere on
CROP_SHARE = 1 / 4  # of copies that are cut to 40-80% of their words
MAX_CHANGE = 0.2  # the share of words left out, and of words replaced, is drawn up to this for each copy
MIN_WORDS = 7  # shorter texts are neither joined nor cut


def augment(examples: Examples, num_copies: int, *, seed: int) -> Examples:
    """The examples, followed by `num_copies` altered copies of each.

    A copy may be joined with another text or cut, then some words are left out and some replaced by words drawn from
    all texts. It keeps the label of its source, which may no longer be true of it: learn from a teacher's labels. Words
    are what spaces part, so that a text without spaces changes little. Both texts of a pair are altered, apart.

    Args: num_copies: 0 or more. seed: decides all that is drawn.
    Returns examples whose first rows are the given ones; copies have new ids above all of those.
    """
    rng = np.random.default_rng(seed)
    first_id = int(examples.example_ids.max()) + 1
    num_new = num_copies * len(examples)
    pairs = examples.text_pairs
    return Examples(
        texts=[*examples.texts, *_altered(examples.texts, num_copies, rng)],
        text_pairs=None if pairs is None else [*pairs, *_altered(pairs, num_copies, rng)],
        labels=np.tile(examples.labels, 1 + num_copies),
        example_ids=np.concatenate([examples.example_ids, np.arange(first_id, first_id + num_new, dtype=np.int32)]),
    )


def _altered(texts: Sequence[str], num_copies: int, rng: np.random.Generator) -> list[str]:
    """`num_copies` copies of all texts, one round after another."""
    words_of = [text.split() for text in texts]
    vocabulary = [word for words in words_of for word in words]
    return [" ".join(_alter(words, words_of, vocabulary, rng)) for _ in range(num_copies) for words in words_of]


def _alter(words: list[str], words_of: list[list[str]], vocabulary: list[str], rng: np.random.Generator) -> list[str]:
    kind = rng.random()
    if len(words) >= MIN_WORDS and kind < JOIN_SHARE:
        other = words_of[rng.integers(len(words_of))]
        words = words[: rng.integers(2, len(words))] + other[rng.integers(max(1, len(other) - 2)) :]
    elif len(words) >= MIN_WORDS and kind < JOIN_SHARE + CROP_SHARE:
        length = max(4, int(len(words) * rng.uniform(0.4, 0.8)))
        start = rng.integers(len(words) - length + 1)
        words = words[start : start + length]
    leave_out, replace = rng.uniform(0.0, MAX_CHANGE, 2)
    words = [word for word in words if rng.random() >= leave_out] or words
    return [vocabulary[rng.integers(len(vocabulary))] if rng.random() < replace else word for word in words]
