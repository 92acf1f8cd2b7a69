"""Altered copies of training texts."""

import numpy as np

from adapler_jax.data.augment import augment
from adapler_jax.data.examples import Examples

TEXT = "one two three four five six seven eight nine ten"


def _examples(texts, pairs=None):
    return Examples(texts, pairs, np.arange(len(texts), dtype=np.int32) % 2, np.arange(len(texts), dtype=np.int32) * 3)


def test_copies_follow_the_examples_with_labels_of_their_sources_and_new_ids():
    examples = _examples([TEXT, "short text", ""])
    more = augment(examples, 2, seed=0)
    assert more.texts[:3] == examples.texts and len(more) == 9
    assert list(more.labels) == list(examples.labels) * 3
    assert list(more.example_ids) == [0, 3, 6, 7, 8, 9, 10, 11, 12]
    assert more.example_ids.dtype == np.int32 and more.labels.dtype == np.int32
    assert more.texts[5] == more.texts[8] == ""
    assert augment(examples, 0, seed=0).texts == examples.texts


def test_copies_are_made_of_words_of_the_texts_and_a_pure_function_of_the_seed():
    examples = _examples([TEXT + f" {row}" for row in range(50)])
    vocabulary = {word for text in examples.texts for word in text.split()}
    copies = augment(examples, 4, seed=1).texts[50:]
    assert {word for text in copies for word in text.split()} <= vocabulary
    assert all(copies)
    assert copies == augment(examples, 4, seed=1).texts[50:] != augment(examples, 4, seed=2).texts[50:]
    assert sum(text in examples.texts for text in copies) < 20
    lengths = [len(text.split()) for text in copies]
    assert 3 <= min(lengths) < 8 and 13 < max(lengths) <= 21


def test_both_texts_of_a_pair_are_altered_from_their_own_column():
    examples = _examples(["a b c d e f g h"] * 20, ["1 2 3 4 5 6 7 8"] * 20)
    more = augment(examples, 1, seed=0)
    first, second = (
        {word for text in column[20:] for word in text.split()} for column in (more.texts, more.text_pairs)
    )
    assert first == set("abcdefgh") and second == set("12345678")
    assert len(set(more.texts)) > 5 and len(set(more.text_pairs)) > 5


def test_texts_that_words_cannot_be_taken_from_pass():
    more = augment(_examples(["", " ", "電影很好看"]), 3, seed=0)
    assert set(more.texts[3:]) == {"", "電影很好看"}
