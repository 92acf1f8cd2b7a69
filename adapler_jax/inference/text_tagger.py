"""Turn texts into entities, shared by the token classifiers with JAX and without. NumPy only."""

import abc
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.sources.text import replace_lone_surrogates
from adapler_jax.data.tokenization.text_rows import encode_rows
from adapler_jax.inference.entities import (
    AGGREGATIONS,
    SIMPLE,
    Entity,
    EntityJoiner,
    TokenizedText,
)
from adapler_jax.inference.texts import check_batch_size, check_iterable

Texts = Iterable[str] | Iterable[Sequence[str]]


class TextTagger(abc.ABC):
    """Methods of a token classifier. A subclass has these fields, and computes probabilities."""

    tokenizer: Tokenizer
    class_names: tuple[str, ...]  # the tags, in the order of the logits
    joiner: EntityJoiner
    max_length: int  # token slots of a text
    truncation_side: str  # that loses the tokens of long texts

    @abc.abstractmethod
    def tag_probs(
        self, rows: Sequence[TokenizedText], batch_size: int
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the number of each row and its probabilities, float32 [slots, tags], unordered."""

    def predict(
        self, texts: str | Texts, batch_size: int = 32, aggregation: str | None = None
    ) -> list:
        """Return the entities of texts, as transformers' pipeline "token-classification" does.

        Texts of similar length share a batch, and a result does not depend on its batch. Texts that
        are longer than the model are cut, and what was cut off has no entities. The rows of
        `encode` have `is_cut`.

        Args:
          texts: strings, or sentences that are lists of words. A single string has its own
            list.
          batch_size: texts in a batch.
          aggregation: how tokens become entities: "simple" joins adjacent tokens of one kind, and
            "none" joins nothing. With "first", "average" and "max" a word has one tag, by its first
            token, by the mean probabilities, or by its surest token. None is "simple" for strings,
            and for lists of words one tag a word, by its first token.

        Returns:
          A list of dicts for each text, in their order: `entity_group`, `score`, `word`, `start`
          and `end`, the characters of the text; the tag O is left out. With "none" there are
          `entity` and `index`, the token's slot. One tag a word has `entity`, which is None for a
          word without a token, as one that was cut off. The text of a list of words has a blank
          between them.

        Raises:
          TypeError: texts is no list, or an entry is neither a string nor a list of words.
          ValueError: an argument has another value.
        """
        check_batch_size(batch_size)
        check_aggregation(aggregation)
        is_single = isinstance(texts, str)
        rows = self.encode([texts] if isinstance(texts, str) else texts)
        found = self.predict_encoded(rows, batch_size, aggregation)
        return found[0] if is_single else found

    def predict_encoded(
        self, rows: Sequence[TokenizedText], batch_size: int, aggregation: str | None = None
    ) -> list[list[Entity]]:
        """Return the entities for the texts of `encode`; arguments as in `predict`."""
        found: list[list[Entity]] = [[] for _ in rows]
        for row, prob_LC in self.tag_probs(rows, batch_size):
            text, prob_TC = rows[row], prob_LC[rows[row].slots]
            if aggregation is None and text.words is not None:
                found[row] = self.joiner.word_tags(text, prob_TC)
            else:
                found[row] = self.joiner.entities(text, prob_TC, aggregation or SIMPLE)
        return found

    def encode(self, texts: Texts) -> list[TokenizedText]:
        """Tokenize texts or lists of words, cut to the model's length; a cut row has `is_cut`.

        Raises:
          TypeError: texts is no list, or an entry is neither a string nor a list of words.
        """
        return tokenize_texts(
            self.tokenizer,
            texts,
            max_length=self.max_length,
            truncation_side=self.truncation_side,
        )


def tokenize_texts(
    core: Tokenizer, texts: Texts, *, max_length: int, truncation_side: str = "right"
) -> list[TokenizedText]:
    """Tokenize strings, or lists of words with a blank between them, and keep the characters.

    Args:
      core: from `load_core`.
      texts: strings, or lists of words.
      max_length: tokens of a row, special tokens included.
      truncation_side: that loses the tokens of long texts.

    Raises:
      TypeError: as `split_words`.
    """
    strings, words = split_words(texts)
    rows = encode_rows(
        core,
        strings,
        max_length=max_length,
        truncation_side=truncation_side,
        with_offsets=True,
    )
    return [
        TokenizedText(
            text=string,
            words=None if words is None else words[row],
            token_L=rows.tokens[row],
            segment_L=rows.segments[row].astype(np.int32),
            first=len(rows.template.first),
            start_T=rows.parts[0][row].starts,
            end_T=rows.parts[0][row].ends,
            is_cut=rows.is_cut(row),
        )
        for row, string in enumerate(strings)
    ]


def split_words(texts: Texts) -> tuple[list[str], list[tuple[str, ...]] | None]:
    """Return strings without lone surrogates, and the words of each where words were given.

    Raises:
      TypeError: texts is no list, mixes strings and lists, or an entry is neither.
    """
    check_iterable(texts)
    found: list[str | tuple[str, ...]] = []
    for index, text in enumerate(texts):
        entry = _entry_of(text)
        if entry is None or (found and isinstance(entry, str) != isinstance(found[0], str)):
            raise TypeError(
                f"text {index} is {text!r:.60}, of type {type(text).__name__}; expected all "
                "strings, or all lists of words"
            )
        found.append(entry)
    if found and isinstance(found[0], tuple):
        words = [tuple(entry) for entry in found]
        return [" ".join(entry) for entry in words], words
    return [str(entry) for entry in found], None


def _entry_of(text) -> str | tuple[str, ...] | None:
    """Return a string, or a tuple of words; None for other types."""
    if isinstance(text, str):
        return replace_lone_surrogates(str(text))
    if not isinstance(text, list | tuple | np.ndarray):
        return None
    if not all(isinstance(word, str) for word in text):
        return None
    return tuple(replace_lone_surrogates(str(word)) for word in text)


def check_aggregation(aggregation: str | None) -> None:
    """Raise ValueError unless an aggregation is known, or None."""
    if aggregation is not None and aggregation not in AGGREGATIONS:
        raise ValueError(
            f"aggregation is {aggregation!r:.60}; expected one of {', '.join(AGGREGATIONS)}"
        )
