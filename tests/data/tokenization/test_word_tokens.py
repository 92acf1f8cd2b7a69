"""The tokens of each word, by hand, in tokenizers with and without blanks in their tokens."""

import numpy as np

from adapler_jax.data.tokenization.word_tokens import first_tokens, words_of_tokens


def tokens_of(words, *spans):
    """Return the words of tokens with these characters, and the first tokens of the words."""
    start_T, end_T = np.array(spans or np.zeros((0, 2)), np.int64).T
    of_tokens = words_of_tokens(words, start_T, end_T).tolist()
    return of_tokens, first_tokens(words, start_T, end_T).tolist()


def test_a_token_with_the_blank_before_a_word_is_the_words():
    # "ab c d": ab, _c, _d
    assert tokens_of(["ab", "c", "d"], (0, 2), (2, 4), (4, 6)) == ([0, 1, 2], [0, 1, 2])


def test_a_blank_that_is_a_token_is_of_the_word_after_it():
    # "ab c": _a, b, _, c, as SentencePiece writes a word that it has only without the blank
    assert tokens_of(["ab", "c"], (0, 1), (1, 2), (2, 3), (3, 4)) == ([0, 0, 1, 1], [0, 2])
    # A blank inside a word is of this word.
    assert tokens_of(["a b", "c"], (0, 1), (1, 2), (2, 3), (4, 5)) == ([0, 0, 0, 1], [0, 3])


def test_words_without_tokens_and_empty_words_have_none():
    assert tokens_of(["ab", "?", "c"], (0, 2), (5, 6)) == ([0, 2], [0, -1, 1])
    # "a  b": a, _, _, b
    assert tokens_of(["a", "", "b"], (0, 1), (1, 2), (2, 3), (3, 4))[1] == [0, -1, 2]
    assert tokens_of(["a", "b"]) == ([], [-1, -1])
    assert tokens_of([]) == ([], [])
