"""A prediction with the score of each token, and the layers that ran on each word.

Renders as HTML in notebooks.

Shape letters:

    W words of a text       X arrays of scores
"""

import dataclasses
import html

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.inference.prediction import Prediction
from adapler_jax.inference.rows import RowResult
from adapler_jax.inference.words import Encoded, Word, max_by_word
from adapler_jax.io.plain import Comparable, plain

_SHADE = "255, 176, 0"  # readable with dark and with light text


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Explanation(Comparable):
    """A prediction with its scores; a notebook displays it as the shaded text.

    Words are pooled from their pieces: a word enters a layer while one of its pieces does, and has
    their largest score. [CLS] and [SEP] are tokens and no words.
    """

    prediction: Prediction
    tokens: tuple[str, ...]  # in the tokenizer's spelling, [CLS] first
    word_L: np.ndarray  # int32, index into prediction.words; -1 for [CLS] and [SEP]
    keep_NL: np.ndarray  # bool: the token enters the layer
    # float32, the pruner's score; 0 after the token was dropped, and at layers without a site.
    score_NL: np.ndarray
    site_layers: tuple[int, ...]  # layers, from 0, at which the pruner scores and drops tokens

    @property
    def score_L(self) -> np.ndarray:
        """Return one score a token, float32: the mean over the layers with a site.

        The score of a dropped token is 0. For AdapLeR the sum is 1.
        """
        return self.score_NL[list(self.site_layers)].mean(axis=0)

    @property
    def score_NW(self) -> np.ndarray:
        """Return scores of the words, float32 [layers, words]."""
        return pool_words(self.score_NL, self.word_L, len(self.prediction.words))

    @property
    def score_W(self) -> np.ndarray:
        """Return one score a word, pooled from `score_L`."""
        return pool_words(self.score_L[None], self.word_L, len(self.prediction.words))[0]

    @property
    def layers_W(self) -> np.ndarray:
        """Return the number of layers that ran on each word, int [words].

        A layer counts in full, so not if a word was dropped before its feed-forward half
        (PoWER-BERT).
        """
        return self.prediction.keep_NW.sum(axis=0)

    def to_dict(self) -> dict:
        """Return all fields, scores and `layers_W` in types that `json.dumps` takes."""
        names = ("score_L", "score_NW", "score_W", "layers_W")
        found = plain(self) | {name: plain(getattr(self, name)) for name in names}
        return found | {"prediction": self.prediction.to_dict()}

    def __repr__(self) -> str:
        """Return the label and the counts, without arrays."""
        label = f"{self.prediction.label} ({self.prediction.probability:.0%})"
        num_words = len(self.prediction.words)
        return f"Explanation({label!r}, {num_words} words, {len(self.tokens)} tokens)"

    def to_html(self) -> str:
        """Return HTML as in notebooks: words are darker the more layers ran on them.

        Their scores are shown under the pointer.
        """
        prediction = self.prediction
        parts = " <b>|</b> ".join(self._shaded_part(part) for part in range(len(prediction.texts)))
        label = html.escape(f"{prediction.label} ({prediction.probability:.0%})")
        return f'<div style="line-height: 1.8"><b>{label}</b>: {parts}</div>'

    _repr_html_ = to_html

    def _shaded_part(self, part: int) -> str:
        """Return one text of the prediction as HTML, up to its last word."""
        text, layers_W, score_NW = self.prediction.texts[part], self.layers_W, self.score_NW
        end, shaded = 0, []
        for index, word in enumerate(self.prediction.words):
            if word.part == part:
                scores = score_NW[list(self.site_layers), index]
                shaded.append(html.escape(text[end : word.start]))
                shaded.append(self._shaded_word(word, int(layers_W[index]), scores))
                end = word.end
        if self.prediction.truncated_text(part):
            shaded.append(" &hellip;")
        return "".join(shaded)

    def _shaded_word(self, word: Word, num_run: int, scores: np.ndarray) -> str:
        """Return one word as HTML."""
        num_layers = len(self.keep_NL)
        values = " ".join(f"{score:.3f}" for score in scores)
        title = f"ran through {num_run} of {num_layers} layers; scores {values}"
        alpha = 0.8 * num_run / num_layers
        style = f"background: rgba({_SHADE}, {alpha:.2f})"
        return f'<span title="{title}" style="{style}">{html.escape(word.text)}</span>'


def make_explanation(
    prediction: Prediction,
    encoded: Encoded,
    result: RowResult,
    *,
    tokenizer: Tokenizer,
    site_layers: tuple[int, ...],
) -> Explanation:
    """Return the explanation of one text by a model that scores tokens.

    Args:
      prediction: for the text.
      encoded: its tokens.
      result: of the model.
      tokenizer: of the model.
      site_layers: layers, from 0, with a site.
    """
    assert result.score_NL is not None, "the model has sites, so it gives scores"
    score_NL = np.where(reached_layer(result.keep_NL), result.score_NL, 0.0)
    return Explanation(
        prediction=prediction,
        tokens=tuple(str(tokenizer.id_to_token(token)) for token in encoded.token_L.tolist()),
        word_L=encoded.word_L,
        keep_NL=result.keep_NL,
        score_NL=score_NL.astype(np.float32),
        site_layers=site_layers,
    )


def reached_layer(keep_NL: np.ndarray) -> np.ndarray:
    """Return True for tokens that the site of each layer scored, bool [layers, tokens]."""
    return np.concatenate([np.ones_like(keep_NL[:1]), keep_NL[:-1]])


def pool_words(score_XL: np.ndarray, word_L: np.ndarray, num_words: int) -> np.ndarray:
    """Return the largest score of the pieces of each word, float32 [X, W]; at least 0.

    Args:
      score_XL: scores of the tokens.
      word_L: int, the word of each token; -1 for none.
      num_words: W.
    """
    score_XW = np.zeros((len(score_XL), num_words), np.float32)
    for index, score_L in enumerate(score_XL):
        score_XW[index] = max_by_word(word_L, np.asarray(score_L), num_words)
    return score_XW
