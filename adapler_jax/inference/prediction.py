"""The answer for one text, as users of a saved model see it."""

import dataclasses

import numpy as np

from adapler_jax.inference.words import Word, kept_words_of
from adapler_jax.io.plain import Comparable, plain


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction(Comparable):
    """The answer for one text or pair."""

    texts: tuple[str, ...]  # the text, or the two of a pair
    label: str
    probability: float  # of the label
    probabilities: dict[str, float]  # by label
    words: tuple[Word, ...]  # all words that the model read
    keep_NW: np.ndarray  # bool [layers, words]: a piece of the word is there when the layer runs
    num_tokens: tuple[int, ...]  # tokens that each layer ran on, [CLS] and [SEP] included
    is_cut: bool = False  # whether a text goes on behind what the model's length let it read

    @property
    def kept_words(self) -> list[list[str]]:
        """The words that each layer ran on, in their order."""
        return [list(texts) for texts in kept_words_of(self.words, self.keep_NW)]

    def to_dict(self) -> dict:
        """Return all fields and `kept_words` in types that `json.dumps` takes."""
        return plain(self) | {"kept_words": self.kept_words}

    def truncated_text(self, part: int) -> str:
        """What lies behind the last word read of a text that was cut: part 0, or 1 for the second of a pair."""
        if not self.is_cut:
            return ""
        end = max((word.end for word in self.words if word.part == part), default=0)
        return self.texts[part][end:].strip()
