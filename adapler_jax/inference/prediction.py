"""The answer for one text, as users of a saved model see it."""

import dataclasses
import math

import numpy as np

from adapler_jax.inference.words import Word, kept_texts


def plain(value):
    """Return a value in types that JSON has: arrays and tuples as lists, records as dicts, no NaN or infinity.

    Args:
      value: numbers, texts, NumPy arrays, and lists, tuples, dicts, dataclasses and named tuples of them. NaN and
        infinity become None.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return value


@dataclasses.dataclass(frozen=True)
class Prediction:
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
        return [list(texts) for texts in kept_texts(self.words, self.keep_NW)]

    def to_dict(self) -> dict:
        """Return all fields and `kept_words` in types that `json.dumps` takes."""
        return plain(self) | {"kept_words": self.kept_words}

    def unread(self, part: int) -> str:
        """What lies behind the last word read of a text that was cut: part 0, or 1 for the second of a pair."""
        if not self.is_cut:
            return ""
        end = max((word.end for word in self.words if word.part == part), default=0)
        return self.texts[part][end:].strip()
