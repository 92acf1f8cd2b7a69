"""What a model made of one text, token by token: scores, and how far each word came. Shows itself in notebooks."""

import dataclasses
import html

import numpy as np

from adapler_jax.inference.prediction import Prediction
from adapler_jax.io.plain import Comparable, plain

_SHADE = "255, 176, 0"  # readable behind dark and behind light text


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Explanation(Comparable):
    """A prediction with the scores behind it; in a notebook it displays as the text, shaded.

    Words are pooled from their pieces: a word is there while one of its pieces is, and has the largest of their scores.
    [CLS] and [SEP] are tokens and no words.
    """

    prediction: Prediction
    tokens: tuple[str, ...]  # as the tokenizer writes them, [CLS] first
    word_L: np.ndarray  # int32, index into prediction.words; -1 for [CLS] and [SEP]
    keep_NL: np.ndarray  # bool [layers, tokens]: the token is there when the layer runs
    # float32 [layers, tokens]: the pruner's score, by which it dropped or kept; 0 once gone, or without a site
    score_NL: np.ndarray
    site_layers: tuple[int, ...]  # layers, numbers from 0, at which the pruner scores and drops

    @property
    def score_L(self) -> np.ndarray:
        """One score a token, float32: the mean over the layers with a site, 0 once the token is gone. The sum is 1 for
        AdapLeR."""
        return self.score_NL[list(self.site_layers)].mean(axis=0)

    @property
    def score_NW(self) -> np.ndarray:
        """Scores of the words, float32 [layers, words]."""
        return pool_words(self.score_NL, self.word_L, len(self.prediction.words))

    @property
    def score_W(self) -> np.ndarray:
        """One score a word, pooled from `score_L`."""
        return pool_words(self.score_L[None], self.word_L, len(self.prediction.words))[0]

    @property
    def layers_W(self) -> np.ndarray:
        """Layers that ran on each word, int [words]: 0 where it left before the first, all where it stayed.

        Layers before the feed-forward half of which a word left (PoWER-BERT) do not count.
        """
        return self.prediction.keep_NW.sum(axis=0)

    def to_dict(self) -> dict:
        """Return all fields, `score_L`, `score_NW`, `score_W` and `layers_W` in types that `json.dumps` takes."""
        names = ("score_L", "score_NW", "score_W", "layers_W")
        found = plain(self) | {name: plain(getattr(self, name)) for name in names}
        return found | {"prediction": self.prediction.to_dict()}

    def __repr__(self) -> str:
        """Without the arrays."""
        label = f"{self.prediction.label} ({self.prediction.probability:.0%})"
        return (
            f"Explanation({label!r}, {len(self.prediction.words)} words, {len(self.tokens)} tokens)"
        )

    def to_html(self) -> str:
        """HTML, as in notebooks: the text, each word the darker the more layers ran on it; scores under the pointer."""
        prediction = self.prediction
        parts = " <b>|</b> ".join(self._shaded(part) for part in range(len(prediction.texts)))
        label = html.escape(f"{prediction.label} ({prediction.probability:.0%})")
        return f'<div style="line-height: 1.8"><b>{label}</b>: {parts}</div>'

    _repr_html_ = to_html

    def _shaded(self, part: int) -> str:
        """One text of the prediction as HTML, up to the last word that was read."""
        text, layers_W, score_NW = self.prediction.texts[part], self.layers_W, self.score_NW
        num_layers, done, shaded = len(self.keep_NL), 0, []
        for place, word in enumerate(self.prediction.words):
            if word.part == part:
                scores = " ".join(
                    f"{score:.3f}" for score in score_NW[list(self.site_layers), place]
                )
                title = f"ran through {layers_W[place]} of {num_layers} layers; scores {scores}"
                alpha = 0.8 * layers_W[place] / num_layers
                shaded += [
                    html.escape(text[done : word.start]),
                    f'<span title="{title}" style="background: rgba({_SHADE}, {alpha:.2f})">{html.escape(word.text)}'
                    "</span>",
                ]
                done = word.end
        return "".join(shaded) + (" &hellip;" if self.prediction.truncated_text(part) else "")


def reached_layer(keep_NL):
    """Which tokens were still there when the site of each layer scored them, bool [layers, tokens]."""
    return np.concatenate([np.ones_like(keep_NL[:1]), keep_NL[:-1]])


def pool_words(score_XL, word_L, num_words: int) -> np.ndarray:
    """The largest score of the pieces of each word, [X, W]; 0 for a word of negative scores only.

    Args: score_XL: of the tokens. word_L: int, the word of each token; -1 for none.
    """
    score_XW = np.zeros((len(score_XL), num_words), np.float32)
    pieces = np.flatnonzero(word_L >= 0)
    np.maximum.at(score_XW, (slice(None), word_L[pieces]), score_XL[:, pieces])
    return score_XW
