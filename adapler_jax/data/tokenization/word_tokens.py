"""Find the tokens of each word, in a text that is its words with a blank between them.

Shape letters:

    W words of a text               T tokens of a text, without special tokens
    U words that have a token
"""

from collections.abc import Sequence

import numpy as np

NO_TOKEN = -1  # of a word that was cut off, or that has no token


def words_of_tokens(words: Sequence[str], start_T: np.ndarray, end_T: np.ndarray) -> np.ndarray:
    """Return the index of the word of each token, int64 [T].

    A token belongs to the word of its last character: in some tokenizers the blank before a word is
    a part of its first token. A token that is this blank alone belongs to the word too.

    Args:
      words: of the text.
      start_T: first character of each token.
      end_T: the character after its last one.
    """
    length_W = np.array([len(word) for word in words], np.int64)
    start_W = np.cumsum(length_W + 1) - (length_W + 1)
    last_T = np.maximum(end_T - 1, start_T)
    is_blank_T = (start_T == last_T) & np.isin(start_T, start_W[1:] - 1)
    return np.searchsorted(start_W, last_T + is_blank_T, side="right") - 1


def first_tokens(words: Sequence[str], start_T: np.ndarray, end_T: np.ndarray) -> np.ndarray:
    """Return the first token of each word, int64 [W]; NO_TOKEN for a word without one, or empty."""
    first_W = np.full(len(words), NO_TOKEN, np.int64)
    word_U, token_U = np.unique(words_of_tokens(words, start_T, end_T), return_index=True)
    first_W[word_U] = token_U
    return np.where([len(word) > 0 for word in words], first_W, NO_TOKEN)
