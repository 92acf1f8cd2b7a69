"""The protocol of a predictor, and predictors whose results are of tokens: vectors, entities."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from adapler_jax.inference.embedder import Embedder
from adapler_jax.inference.entities import Entity
from adapler_jax.inference.token_classifier import TokenClassifier
from adapler_jax.serving.prediction_files import ENTITY_COLUMNS, VECTOR_COLUMNS, Columns, Objects

DIGITS = 8  # of a score, the precision of float32


class Predicted(NamedTuple):
    """The predictions for a window of rows."""

    columns: Columns
    highlighted: str = ""  # texts with highlighted words; empty if not requested


class Predictor(Protocol):
    """Predict windows of rows; bulk prediction needs nothing else of a model."""

    @property
    def column_names(self) -> tuple[str, ...]:
        """Return the output columns, in their order."""
        ...

    def encode(self, texts: list) -> Sequence[Any]:
        """Prepare the rows of a window; runs in a thread while the model predicts another."""
        ...

    def predict(self, encoded: Sequence[Any]) -> Predicted:
        """Return the predictions for prepared rows, one for each row in their order."""
        ...


class VectorPredictor:
    """Return vectors of texts; tokens are made ahead of the model."""

    column_names = VECTOR_COLUMNS

    def __init__(self, embedder: Embedder, *, batch_size: int = 32):
        """Take a loaded embedder and its batch size."""
        self._embedder, self._batch_size = embedder, batch_size

    def encode(self, texts: list) -> Sequence[Any]:
        """Tokenize texts."""
        return self._embedder.encode_tokens(texts)

    def predict(self, encoded: Sequence[Any]) -> Predicted:
        """Return vectors."""
        vector_NI = self._embedder.encode_rows(encoded, self._batch_size)
        vectors = [[rounded(value) for value in row] for row in vector_NI.tolist()]
        columns = vectors, [tokens.is_cut for tokens in encoded]
        return Predicted(dict(zip(VECTOR_COLUMNS, columns, strict=True)))


class EntityPredictor:
    """Return the entities of texts, or the tags of words; tokens are made ahead of the model."""

    column_names = ENTITY_COLUMNS

    def __init__(self, tagger: TokenClassifier, batch_size: int, aggregation: str | None):
        """Take a loaded model, its batch size, and how tokens become entities."""
        self._tagger, self._batch_size, self._aggregation = tagger, batch_size, aggregation

    def encode(self, texts: list) -> Sequence[Any]:
        """Tokenize texts and lists of words."""
        if len({isinstance(text, str) for text in texts}) == 1:
            return self._tagger.encode(texts)
        return [row for text in texts for row in self._tagger.encode([text])]

    def predict(self, encoded: Sequence[Any]) -> Predicted:
        """Return entities, with the digits of float32 in their scores."""
        found = self._tagger.predict_encoded(encoded, self._batch_size, self._aggregation)
        entities = [Objects(map(_rounded_entity, row)) for row in found]
        columns = entities, [row.is_cut for row in encoded]
        return Predicted(dict(zip(ENTITY_COLUMNS, columns, strict=True)))


def rounded(value: float) -> float:
    """Return a number with the digits of float32."""
    return float(f"{value:.{DIGITS}g}")


def _rounded_entity(entity: Entity) -> Entity:
    """Return an entity with a rounded score."""
    return entity | {"score": rounded(entity["score"])}
