"""Models that give numbers to texts or pairs: shared by the classes with JAX and without.

NumPy only.

Shape letters:

    C numbers of a text
    M texts of a call
"""

import abc
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.inference.speedups import Budget, spread_budget
from adapler_jax.inference.texts import check_batch_size
from adapler_jax.inference.words import Encoded, Tokens, encode_tokens, read_texts
from adapler_jax.metrics.classification import sigmoid

IDENTITY, SIGMOID = "identity", "sigmoid"
ACTIVATIONS = (IDENTITY, SIGMOID)  # of `heads.regression`
SCORE = "score"  # name of a single number

Rows = Sequence[Tokens] | Sequence[Encoded]
Texts = Iterable[str | tuple[str, str] | Mapping[str, str]]


class NumberModel(abc.ABC):
    """A model of numbers. A subclass has these fields, and computes logits of tokens."""

    tokenizer: Tokenizer
    activation: str  # from a logit to its number: identity or sigmoid
    output_names: tuple[str, ...]  # of the numbers of a text, in the order of the logits
    max_length: int  # token slots of a text or pair
    truncation_side: str  # that loses the tokens of long texts

    @abc.abstractmethod
    def outputs(self, rows: Rows, batch_size: int, budget: Budget = None) -> np.ndarray:
        """Return the logits of rows of tokens, float32 [rows, outputs], in batches."""

    @abc.abstractmethod
    def resolve(
        self, budget: Budget = None, speedup: float | None = None, *, certified: bool = False
    ) -> Budget:
        """Return the budget for arguments of `predict`; None for the model's own speed."""

    def encode_tokens(self, texts: Texts) -> list[Tokens]:
        """Tokenize texts or pairs, cut to the model's length.

        Raises:
          TypeError: texts is no list, or mixes strings and pairs.
        """
        return read_texts(self, encode_tokens, texts)

    def choose_activation(self, activation: str | None) -> str:
        """Return the activation of a request; None is the model's own.

        Raises:
          ValueError: there is no such activation.
        """
        activation = self.activation if activation is None else activation
        check_option("activation", activation, ACTIVATIONS)
        return activation


class TextScorer(NumberModel):
    """The method of a regressor."""

    def predict(
        self,
        texts: str | Texts,
        *,
        batch_size: int = 32,
        activation: str | None = None,
        budget: Budget = None,
        speedup: float | None = None,
    ) -> np.ndarray:
        """Return the numbers of texts, or of pairs of texts. Long texts are cut.

        Texts of similar length share a batch.

        Args:
          texts: strings, or pairs: tuples, lists, or dicts with text and text_pair. A single string
            has a single number, or one row of several numbers.
          batch_size: texts in a batch.
          activation: from a logit to its number, "identity" or "sigmoid"; None for the model's.
          budget: share of the tokens that a calibrated model keeps, a number in (0, 1] or one for
            each text. None for the trained thresholds. Another budget compiles nothing.
          speedup: FLOPs speedup on texts like the calibration's, in place of a budget.

        Returns:
          float32 [texts] for a model of one number, else [texts, outputs] in the order of
          `output_names`.

        Raises:
          TypeError: texts is no list, or mixes strings and pairs.
          ValueError: an argument has another value, or the model is not calibrated.
        """
        check_batch_size(batch_size)
        activation = self.choose_activation(activation)
        budget = self.resolve(budget, speedup)
        is_single = isinstance(texts, str)
        rows = self.encode_tokens([texts] if isinstance(texts, str) else texts)
        logit_MC = self.outputs(rows, batch_size, spread_budget(budget, len(rows)))
        number_MC = activate(logit_MC, activation)
        number_MX = number_MC[:, 0] if len(self.output_names) == 1 else number_MC
        return number_MX[0] if is_single else number_MX


def activate(logit_X: np.ndarray, activation: str) -> np.ndarray:
    """Return the numbers of logits, float32, as `heads.regression.apply_activation` does."""
    return sigmoid(logit_X) if activation == SIGMOID else logit_X


def check_option(name: str, value, known: Sequence[str]) -> None:
    """Raise ValueError where the value of an argument is unknown."""
    if value not in known:
        raise ValueError(f"{name} is {value!r:.60}; expected {' or '.join(known)}")


def check_one_output(output_names: Sequence[str], where) -> None:
    """Raise ValueError where a model has several numbers, which rank no documents.

    Args:
      output_names: of the numbers.
      where: directory or file of the model.
    """
    if len(output_names) > 1:
        raise ValueError(
            f"{where} gives {len(output_names)} numbers to a text, and a reranker has one score; "
            "load it with Regressor"
        )
