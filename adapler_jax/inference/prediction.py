"""The prediction for one text.

Shape letters:

    W words of a text
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from adapler_jax.inference.words import Encoded, Word, kept_words_of
from adapler_jax.io.plain import Comparable, plain


class TextPrediction(Comparable):
    """The words of a prediction for one text or pair. A subclass has these fields."""

    texts: tuple[str, ...]  # the text, or the two of a pair
    words: tuple[Word, ...]  # all words that the model takes
    keep_NW: np.ndarray  # bool [layers, words]: a piece of the word enters the layer
    num_tokens: tuple[int, ...]  # that each layer ran on, [CLS] and [SEP] included
    is_cut: bool  # a text has more tokens than the model takes

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


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction(TextPrediction):
    """The prediction for one text or pair."""

    texts: tuple[str, ...]  # the text, or the two of a pair
    label: str
    probability: float  # of the label
    probabilities: dict[str, float]  # by label
    words: tuple[Word, ...] = dataclasses.field(repr=False)  # all words that the model takes
    # bool [layers, words]: a piece of the word enters the layer
    keep_NW: np.ndarray = dataclasses.field(repr=False)
    num_tokens: tuple[int, ...]  # that each layer ran on, [CLS] and [SEP] included, in all runs
    is_cut: bool = False  # a text has more tokens than the model takes
    is_escalated: bool = False  # it ran again, since its margin was small


@dataclasses.dataclass(frozen=True, eq=False)
class MultiLabelPrediction(TextPrediction):
    """The labels of one text or pair; there may be none."""

    texts: tuple[str, ...]  # the text, or the two of a pair
    labels: tuple[str, ...]  # whose probability is at least their threshold
    probabilities: dict[str, float]  # by label; each is a yes or no of its own
    words: tuple[Word, ...] = dataclasses.field(repr=False)  # all words that the model takes
    # bool [layers, words]: a piece of the word enters the layer
    keep_NW: np.ndarray = dataclasses.field(repr=False)
    num_tokens: tuple[int, ...]  # that each layer ran on, [CLS] and [SEP] included
    is_cut: bool = False  # a text has more tokens than the model takes


def make_prediction(
    windows: Sequence[Encoded],
    prob_C: np.ndarray,
    runs: Sequence[np.ndarray],
    class_names: Sequence[str],
    *,
    number: int,
    earlier_N: np.ndarray | None = None,
) -> Prediction:
    """Return the prediction for one text.

    Args:
      windows: of the text; one, unless it is longer than the model.
      prob_C: float32.
      runs: bool [layers, L] of each window: the token enters the layer.
      class_names: in the order of the probabilities.
      number: of the predicted class.
      earlier_N: tokens of an earlier run; None for a text that ran once.
    """
    shown = shown_fields(windows, runs)
    if earlier_N is not None:
        shown["num_tokens"] = tuple((np.array(shown["num_tokens"]) + earlier_N).tolist())
    return Prediction(
        label=class_names[number],
        probability=float(prob_C[number]),
        probabilities=dict(zip(class_names, prob_C.tolist())),
        is_escalated=earlier_N is not None,
        **shown,
    )


def shown_fields(windows: Sequence[Encoded], runs: Sequence[np.ndarray]) -> dict[str, Any]:
    """Return the fields of a prediction on its words and tokens.

    A word enters a layer while one of its pieces does.

    Args:
      windows: of the text; one, unless it is longer than the model.
      runs: bool [layers, L] of each window: the token enters the layer.
    """
    example, num_layers = windows[0], len(runs[0])
    keep_NW = np.zeros((num_layers, len(example.words)), bool)
    for window, keep_NL in zip(windows, runs):
        layers, slots = np.nonzero(keep_NL & (window.word_L >= 0))
        keep_NW[layers, window.word_L[slots]] = True
    count_N = np.sum([keep_NL.sum(axis=-1) for keep_NL in runs], axis=0)
    return {
        "texts": example.texts,
        "words": example.words,
        "keep_NW": keep_NW,
        "num_tokens": tuple(count_N.tolist()),
        "is_cut": example.is_cut,
    }
