"""Score a head that gives every word a tag: entities, or the words themselves.

Shape letters:

    E sentences of a set
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from adapler_jax.evaluation.scoring import check_finite, check_same_texts
from adapler_jax.metrics.differences import number_difference_error
from adapler_jax.metrics.entities import (
    ENTITY_F1,
    OUTSIDE,
    WORD_ACCURACY,
    EntityCounts,
    add_counts,
    check_tag_metric,
    count_entities,
    entity_f1,
    word_accuracy,
)
from adapler_jax.types import Batch


@dataclasses.dataclass(frozen=True)
class _Scored:
    """The counts of a sentence."""

    entities: dict[str, EntityCounts]  # by kind
    words: dict[str, EntityCounts]  # by tag

    def row(self, metric: str) -> tuple[int, ...]:
        """Return what a metric adds up: counts of entities, or right words and words."""
        counts = self.entities if metric == ENTITY_F1 else self.words
        right, found, labelled = (sum(column) for column in _columns(counts))
        return (right, found, labelled) if metric == ENTITY_F1 else (right, labelled)


def _columns(counts: Mapping[str, EntityCounts]) -> list[tuple[int, ...]]:
    """Return the three columns of counts by name."""
    return list(zip(*counts.values())) or [(), (), ()]


class TagScorer:
    """Score the tags of words by a metric of `metrics.entities`."""

    def __init__(
        self,
        metric: str,
        *,
        class_names: Sequence[str],
        tags: Sequence[Sequence[str]],
        slots: Sequence[np.ndarray],
    ):
        """Set the metric, and what is right.

        Args:
          metric: one of METRICS.
          class_names: the tags, in the order of the logits.
          tags: that are right, of all words of each sentence, by example id.
          slots: of the first token of each of these words; -1 for a word that was cut off, whose
            tag is OUTSIDE, or wrong where there is no such tag.

        Raises:
          ValueError: there is no such metric.
        """
        check_tag_metric(metric)
        self._metric, self._class_names = metric, tuple(class_names)
        self._tags, self._slots = tags, slots
        self._found: dict[int, _Scored] = {}

    def add(self, logits: Any, batch: Batch, is_real_B: np.ndarray) -> None:
        """Add a batch; logits: [B, L, C]."""
        logits_BLC = np.asarray(logits)[is_real_B]
        check_finite(logits_BLC.reshape(len(logits_BLC), -1))
        best_BL = logits_BLC.argmax(axis=-1)
        for row, example_id in enumerate(np.asarray(batch.example_id_B)[is_real_B].tolist()):
            slot_W = self._slots[example_id]
            number_W = np.where(slot_W < 0, -1, best_BL[row, slot_W]).tolist()
            found = [OUTSIDE if tag < 0 else self._class_names[tag] for tag in number_W]
            right = self._tags[example_id]
            self._found[example_id] = _Scored(count_entities(found, right), _count(found, right))

    def _counts(self, metric: str) -> np.ndarray:
        """Return what a metric adds up, int64 [E, 2] or [E, 3], in the order of the ids."""
        return np.array([self._found[number].row(metric) for number in sorted(self._found)])

    def scores(self) -> dict[str, float]:
        """Return `score`, and of entities `word_accuracy`."""
        if self._metric == WORD_ACCURACY:
            return {"score": word_accuracy(self._counts(WORD_ACCURACY))}
        return {
            "score": entity_f1(self._counts(ENTITY_F1)),
            WORD_ACCURACY: word_accuracy(self._counts(WORD_ACCURACY)),
        }

    def example_scores(self) -> Mapping[int, float]:
        """Return the fraction of right words, by example id."""
        rows = {number: found.row(WORD_ACCURACY) for number, found in self._found.items()}
        return {number: right / max(1, words) for number, (right, words) in rows.items()}

    def difference_se(self, other: "TagScorer") -> float | None:
        """Return a bootstrap's paired standard error of the score's difference to another model's.

        It draws sentences.

        Raises:
          ValueError: the other model has other sentences.
        """
        check_same_texts(sorted(self._found), sorted(other._found))
        score = entity_f1 if self._metric == ENTITY_F1 else word_accuracy
        own, others = self._counts(self._metric), other._counts(self._metric)
        return number_difference_error(lambda counts, _: score(counts), own, own, others)

    def details(self) -> dict[str, Any]:
        """Return `classes`: name, precision, recall, f1 and support of each kind or tag."""
        is_entity = self._metric == ENTITY_F1
        parts = [found.entities if is_entity else found.words for found in self._found.values()]
        rows = [
            (name, counts.precision, counts.recall, counts.f1, counts.labelled)
            for name, counts in add_counts(parts).items()
        ]
        fields = ("name", "precision", "recall", "f1", "support")
        return {"classes": [dict(zip(fields, row, strict=True)) for row in rows]}


def _count(found: Sequence[str], right: Sequence[str]) -> dict[str, EntityCounts]:
    """Return the counts of the words of a sentence by tag."""
    return {
        tag: EntityCounts(
            sum(one == tag == other for one, other in zip(found, right, strict=True)),
            found.count(tag),
            list(right).count(tag),
        )
        for tag in sorted({*found, *right})
    }
