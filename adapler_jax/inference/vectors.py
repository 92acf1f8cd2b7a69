"""Turn texts into vectors, shared by the embedders with JAX and without. NumPy only.

Shape letters:

    I entries of a vector
    M texts of a call
"""

import abc
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.inference.texts import check_batch_size, split_pairs
from adapler_jax.inference.words import Tokens, encode_tokens

COSINE, DOT = "cosine", "dot"  # of `weights.sentence_modules`, which imports JAX
MIN_NORM = 1e-12  # of a vector that is divided by its length, as in `heads.embedding`


class TextEncoder(abc.ABC):
    """Methods of an embedder. A subclass has these fields, and computes vectors of tokens."""

    tokenizer: Tokenizer
    dim: int  # entries of a vector
    normalizes: bool  # the model's own vectors have length 1
    prompts: Mapping[str, str]  # texts that are put before a text, by name
    default_prompt_name: str | None
    similarity_fn_name: str  # cosine or dot
    max_length: int  # token slots of a text
    truncation_side: str  # that loses the tokens of long texts

    @abc.abstractmethod
    def vectors(self, rows: Sequence[Tokens], batch_size: int) -> np.ndarray:
        """Return the vectors of rows of tokens before they are normalised, float32 [rows, I]."""

    def encode(
        self,
        sentences,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        *,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
    ) -> np.ndarray:
        """Return the vectors of texts.

        Texts of similar length share a batch, and a vector does not depend on its batch. Texts that
        are longer than the model are cut.

        Args:
          sentences: a list, array or generator of strings. A single string has a single vector.
          prompt_name: of the saved prompt that is put before each text; None for the model's
            default, which most models lack.
          prompt: a text that is put before each text, in place of a saved one.
          batch_size: texts in a batch.
          normalize_embeddings: return vectors of length 1 from a model that does not normalise
            them itself, or after `truncate_dim`.
          truncate_dim: return the first entries alone, for models that were trained for this.

        Returns:
          Vectors, float32 [texts, entries], in the order of the texts; [entries] for one string.

        Raises:
          TypeError: an entry is no string.
          ValueError: an argument has another value.
        """
        check_batch_size(batch_size)
        check_dim(truncate_dim, self.dim)
        is_single = isinstance(sentences, str)
        prompt = self._prompt(prompt_name, prompt)
        rows = self._tokenize([sentences] if is_single else sentences, prompt)
        vector_MI = self.encode_rows(rows, batch_size)[:, :truncate_dim]
        if normalize_embeddings:
            vector_MI = normalize(vector_MI)
        return vector_MI[0] if is_single else vector_MI

    def encode_rows(self, rows: Sequence[Tokens], batch_size: int) -> np.ndarray:
        """Return the vectors of rows of `encode_tokens`, normalised where the model does so."""
        vector_MI = self.vectors(rows, batch_size)
        return normalize(vector_MI) if self.normalizes else vector_MI

    def encode_tokens(self, sentences) -> list[Tokens]:
        """Tokenize texts, after the default prompt, cut to the model's length.

        Raises:
          TypeError: an entry is no string.
        """
        return self._tokenize(sentences, self._prompt(None, None))

    def _tokenize(self, sentences, prompt: str) -> list[Tokens]:
        """Tokenize texts with a prompt before each.

        Raises:
          TypeError: an entry is no string.
        """
        texts, seconds = split_pairs(sentences)
        if seconds is not None:
            raise TypeError("text 0 is a pair; expected single strings, each with its own vector")
        return encode_tokens(
            self.tokenizer,
            [prompt + text for text in texts],
            None,
            max_length=self.max_length,
            truncation_side=self.truncation_side,
        )

    def _prompt(self, name: str | None, prompt: str | None) -> str:
        """Return the text that is put before each text.

        Raises:
          TypeError: a prompt is no string.
          ValueError: there is no prompt of this name, or name and prompt are given.
        """
        if prompt is not None:
            if not isinstance(prompt, str):
                raise TypeError(f"prompt is {prompt!r:.60}; expected a string")
            if name is not None:
                raise ValueError("prompt and prompt_name are both given; give one")
            return prompt
        name = self.default_prompt_name if name is None else name
        if name is None:
            return ""
        if name not in self.prompts:
            known = ", ".join(self.prompts) or "none"
            raise ValueError(f"prompt_name is {name!r:.60}; the model has {known}")
        return self.prompts[name]

    def similarity(self, vectors, others) -> np.ndarray:
        """Return the similarity of each vector with each other one, float32 [vectors, others].

        It is the cosine, or the dot product where the model names it.

        Args:
          vectors: of `encode`, [M, I] or [I].
          others: vectors of as many entries.

        Raises:
          ValueError: the vectors have other shapes.
        """
        first_MI, other_MI = np.atleast_2d(vectors), np.atleast_2d(others)
        if first_MI.ndim > 2 or other_MI.ndim > 2 or first_MI.shape[1] != other_MI.shape[1]:
            raise ValueError(
                f"vectors have the shapes {np.shape(vectors)} and {np.shape(others)}; expected "
                "as many entries in both"
            )
        if self.similarity_fn_name == DOT:
            return np.asarray(first_MI @ other_MI.T, np.float32)
        return normalize(first_MI) @ normalize(other_MI).T


def normalize(vector_MI: np.ndarray) -> np.ndarray:
    """Return vectors of length 1, float32; a vector of zeros stays as it is."""
    length_M1 = np.linalg.norm(vector_MI, axis=-1, keepdims=True)
    return np.asarray(vector_MI / np.maximum(length_M1, MIN_NORM), np.float32)


def check_dim(truncate_dim: Any, dim: int) -> None:
    """Raise ValueError unless a number of entries is None or one of a vector's."""
    is_count = isinstance(truncate_dim, int | np.integer) and not isinstance(truncate_dim, bool)
    if truncate_dim is not None and not (is_count and 1 <= truncate_dim <= dim):
        raise ValueError(
            f"truncate_dim is {truncate_dim!r:.60}; expected None or a whole number from 1 to {dim}"
        )
