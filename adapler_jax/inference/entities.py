"""Join the tags of tokens into entities, as transformers' pipeline for token classification does.

NumPy only.

Shape letters:

    T tokens of a text, without special tokens
    W units that have one tag each: tokens, or words
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer, decoders, models

from adapler_jax.data.tokenization.word_tokens import NO_TOKEN, first_tokens

NONE, SIMPLE, FIRST, AVERAGE, MAX = "none", "simple", "first", "average", "max"
AGGREGATIONS = (NONE, SIMPLE, FIRST, AVERAGE, MAX)
OUTSIDE = "O"  # tag of tokens that no entity has

Entity = dict[str, Any]


class TokenizedText(NamedTuple):
    """A text, or the words of a sentence with blanks between them, and its tokens."""

    text: str
    words: tuple[str, ...] | None  # of a sentence that was given as words
    token_L: np.ndarray  # int32, [CLS] first, cut to the model's length
    segment_L: np.ndarray  # int32
    first: int  # slot of the text's first token
    start_T: np.ndarray  # int64, first character of each token
    end_T: np.ndarray  # int64, the character after it
    is_cut: bool  # the text has more tokens

    @property
    def slots(self) -> slice:
        """Return the slots of the text's tokens."""
        return slice(self.first, self.first + len(self.start_T))


class _Units(NamedTuple):
    """Tokens or words with one tag each."""

    tag_W: np.ndarray  # int, index among the tags
    score_W: np.ndarray  # float32, its probability
    start_W: np.ndarray  # int64, characters [start, end) of the text
    end_W: np.ndarray
    text_of: Callable[[int], str]  # a unit's own text


class EntityJoiner:
    """Join the tags of a model's tokens into entities.

    Attributes:
      class_names: the tags, in the order of the logits.
    """

    def __init__(self, core: Tokenizer, class_names: Sequence[str], unknown: str | None):
        """Take the tokenizer, the tags, and the token of unknown words."""
        self.class_names = tuple(class_names)
        self._core, self._decoder = core, decoder_of(core)
        self._unknown_id = None if unknown is None else core.token_to_id(unknown)
        # The pieces of a word show by this prefix; tokenizers of bytes have none.
        self._has_prefix = bool(getattr(core.model, "continuing_subword_prefix", None))
        # B-PER and I-PER are of one kind. Any other name is a kind of its own.
        kinds = [name[2:] if name[:2] in ("B-", "I-") else name for name in self.class_names]
        self._kind_C = np.array([kinds.index(kind) for kind in kinds])
        self._begins_C = np.array([name.startswith("B-") for name in self.class_names])
        self._group_names = [name.split("-", 1)[-1] for name in self.class_names]

    def entities(self, row: TokenizedText, prob_TC: np.ndarray, aggregation: str) -> list[Entity]:
        """Return the entities of a text, in their order.

        Args:
          row: the text.
          prob_TC: float32, the probabilities of the tags of each token.
          aggregation: one of AGGREGATIONS.
        """
        tokens = self._tokens(row, prob_TC)
        if aggregation == NONE:
            return self._single_tokens(row, tokens)
        is_of_tokens = aggregation == SIMPLE
        return self._join(tokens if is_of_tokens else self._words(row, prob_TC, aggregation))

    def word_tags(self, row: TokenizedText, prob_TC: np.ndarray) -> list[Entity]:
        """Return one tag for each given word, by its first token.

        The entity of a word without a token is None: the word was cut off, or is empty.
        """
        assert row.words is not None
        first_W = first_tokens(row.words, row.start_T, row.end_T)
        found, start = [], 0
        for word, token in zip(row.words, first_W.tolist()):
            entity, score = None, 0.0
            if token != NO_TOKEN:
                prob_C = prob_TC[token]
                entity, score = self.class_names[prob_C.argmax()], float(prob_C.max())
            end = start + len(word)
            found.append({"entity": entity, "score": score, "word": word})
            found[-1] |= {"start": start, "end": end}
            start = end + 1
        return found

    def _tokens(self, row: TokenizedText, prob_TC: np.ndarray) -> _Units:
        """Return the tokens of a text as units."""
        ids = row.token_L[row.slots].tolist()

        def text_of(index: int) -> str:
            """Return a token of the vocabulary; of an unknown word, its characters."""
            if ids[index] == self._unknown_id:
                return row.text[row.start_T[index] : row.end_T[index]]
            return self._core.id_to_token(ids[index]) or ""

        return _Units(
            prob_TC.argmax(axis=-1), prob_TC.max(axis=-1, initial=0.0), *_spans(row), text_of
        )

    def _words(self, row: TokenizedText, prob_TC: np.ndarray, aggregation: str) -> _Units:
        """Return the words of a text as units, with their tags by an aggregation."""
        tokens = self._tokens(row, prob_TC)
        first_W = np.flatnonzero(~self._is_piece(row, tokens.text_of))
        if not len(first_W):
            return tokens
        edges = [*first_W.tolist(), len(row.start_T)]
        if aggregation == FIRST:
            prob_WC = prob_TC[first_W]
        elif aggregation == MAX:
            best = [
                start + int(np.argmax(tokens.score_W[start:end]))
                for start, end in itertools.pairwise(edges)
            ]
            prob_WC = prob_TC[best]
        else:
            prob_WC = np.add.reduceat(prob_TC, first_W, axis=0) / np.diff(edges)[:, None]

        def text_of(index: int) -> str:
            """Return a word."""
            return self._decode(map(tokens.text_of, range(edges[index], edges[index + 1])))

        return _Units(
            prob_WC.argmax(axis=-1),
            prob_WC.max(axis=-1),
            row.start_T[first_W],
            row.end_T[np.array(edges[1:]) - 1],
            text_of,
        )

    def _is_piece(self, row: TokenizedText, text_of: Callable[[int], str]) -> np.ndarray:
        """Return which tokens continue the word of the token before, bool [T].

        A piece with a prefix is longer than its characters. For other tokenizers, a word begins
        after a blank. Both rules are the pipeline's.
        """
        ids = row.token_L[row.slots].tolist()
        found = []
        for index, (start, end) in enumerate(zip(row.start_T.tolist(), row.end_T.tolist())):
            if ids[index] == self._unknown_id or index == 0:
                is_piece = False
            elif self._has_prefix:
                is_piece = len(text_of(index)) != end - start
            else:
                is_piece = start > 0 and " " not in row.text[start - 1 : start + 1]
            found.append(is_piece)
        return np.array(found, bool)

    def _single_tokens(self, row: TokenizedText, tokens: _Units) -> list[Entity]:
        """Return the tokens that have another tag than OUTSIDE."""
        found = []
        for index, tag in enumerate(tokens.tag_W.tolist()):
            if self.class_names[tag] == OUTSIDE:
                continue
            found.append(
                {
                    "entity": self.class_names[tag],
                    "score": float(tokens.score_W[index]),
                    "index": row.first + index,
                    "word": tokens.text_of(index),
                    "start": int(tokens.start_W[index]),
                    "end": int(tokens.end_W[index]),
                }
            )
        return found

    def _join(self, units: _Units) -> list[Entity]:
        """Join adjacent units of one kind, but for a unit that begins an entity."""
        if not len(units.tag_W):
            return []
        kind_W = self._kind_C[units.tag_W]
        is_first_W = self._begins_C[units.tag_W]
        is_first_W[0] = True
        is_first_W[1:] |= kind_W[1:] != kind_W[:-1]
        edges = [*np.flatnonzero(is_first_W).tolist(), len(kind_W)]
        found = []
        for start, end in itertools.pairwise(edges):
            name = self._group_names[units.tag_W[start]]
            if name == OUTSIDE:
                continue
            found.append(
                {
                    "entity_group": name,
                    "score": float(np.mean(units.score_W[start:end])),
                    "word": self._decode(map(units.text_of, range(start, end))),
                    "start": int(units.start_W[start]),
                    "end": int(units.end_W[end - 1]),
                }
            )
        return found

    def _decode(self, tokens) -> str:
        """Return the text of some tokens."""
        texts = list(tokens)
        return " ".join(texts) if self._decoder is None else self._decoder.decode(texts)


def decoder_of(core: Tokenizer) -> decoders.Decoder | None:
    """Return what joins tokens to a text: the tokenizer's own, or the usual one of its kind."""
    if core.decoder is not None:
        return core.decoder
    if isinstance(core.model, models.WordPiece):
        return decoders.WordPiece(prefix=core.model.continuing_subword_prefix)
    state = b"" if core.pre_tokenizer is None else core.pre_tokenizer.__getstate__()
    if b'"ByteLevel"' in state:
        return decoders.ByteLevel()
    return decoders.Metaspace() if b'"Metaspace"' in state else None


def _spans(row: TokenizedText) -> tuple[np.ndarray, np.ndarray]:
    """Return the characters of each token."""
    return row.start_T, row.end_T
