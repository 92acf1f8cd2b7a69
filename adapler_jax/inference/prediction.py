"""The prediction for one text.

Shape letters:

    W words of a text
"""

import dataclasses

import numpy as np

from adapler_jax.inference.words import Word, kept_words_of
from adapler_jax.io.plain import Comparable, plain


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction(Comparable):
    """The prediction for one text or pair."""

    texts: tuple[str, ...]  # the text, or the two of a pair
    label: str
    probability: float  # of the label
    probabilities: dict[str, float]  # by label
    words: tuple[Word, ...]  # all words that the model takes
    keep_NW: np.ndarray  # bool [layers, words]: a piece of the word enters the layer
    num_tokens: tuple[int, ...]  # that each layer ran on, [CLS] and [SEP] included
    is_cut: bool = False  # a text has more tokens than the model takes

    @property
    def kept_words(self) -> list[list[str]]:
        """Return the words that each layer ran on, in their order."""
        return [list(texts) for texts in kept_words_of(self.words, self.keep_NW)]

    def to_dict(self) -> dict:
        """Return all fields and `kept_words` in types that `json.dumps` takes."""
        return plain(self) | {"kept_words": self.kept_words}

    def truncated_text(self, part: int) -> str:
        """Return the end of a text that was cut off; empty if the text fits.

        Args:
          part: 0, or 1 for the second text of a pair.
        """
        if not self.is_cut:
            return ""
        end = max((word.end for word in self.words if word.part == part), default=0)
        return self.texts[part][end:].strip()
