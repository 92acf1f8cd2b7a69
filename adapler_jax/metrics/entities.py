"""Score entities: a found one counts if its kind and both of its ends are right.

The rules are seqeval's and CoNLL's, for tags with the prefixes B, I, E, S, or L, M, U. A tag
without a prefix continues an entity of its kind. A prefix alone is a tag where there is one kind.

Shape letters:

    E sentences of a set
"""

import collections
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

OUTSIDE = "O"  # tag of words that no entity has
BEGIN, INSIDE, END, SINGLE = "B", "I", "E", "S"
# Of BIOES, BILOU and BMES, with the meaning in BIOES.
PREFIXES = {
    **{prefix: prefix for prefix in (BEGIN, INSIDE, END, SINGLE)},
    **{"L": END, "M": INSIDE, "U": SINGLE},
}
ONLY_KIND = "_"  # of tags that are a prefix alone
ENTITY_F1, WORD_ACCURACY = "entity_f1", "word_accuracy"
METRICS = (ENTITY_F1, WORD_ACCURACY)


class Entity(NamedTuple):
    """An entity of a sentence."""

    kind: str
    first: int  # word
    last: int  # word, inclusive


class EntityCounts(NamedTuple):
    """Counts of entities, and the scores of them."""

    right: int
    found: int
    labelled: int

    @property
    def f1(self) -> float:
        """Return 2 right / (found + labelled), 0 without entities."""
        return 2 * self.right / max(1, self.found + self.labelled)

    @property
    def precision(self) -> float:
        """Return the fraction of found entities that are right."""
        return self.right / max(1, self.found)

    @property
    def recall(self) -> float:
        """Return the fraction of labelled entities that are found."""
        return self.right / max(1, self.labelled)


def split_tag(tag: str) -> tuple[str, str]:
    """Return the prefix, one of BIOES, and the kind of a tag other than OUTSIDE."""
    prefix, _, kind = tag.partition("-")
    return (PREFIXES[prefix], kind or ONLY_KIND) if prefix in PREFIXES else (INSIDE, tag)


def has_entities(tags: Sequence[str]) -> bool:
    """Return whether tags are of entities: one is OUTSIDE, or a prefix and a kind.

    Else they are of all words. A letter alone can be a part of speech.
    """
    return any(tag == OUTSIDE or ("-" in tag and split_tag(tag)[1] != tag) for tag in tags)


def find_entities(tags: Sequence[str]) -> Iterator[Entity]:
    """Yield the entities of a sentence, in their order."""
    kind, first, is_closed = "", 0, True
    for word, tag in enumerate([*tags, OUTSIDE]):
        prefix, own = ("", "") if tag == OUTSIDE else split_tag(tag)
        begins = bool(prefix) and (
            prefix in (BEGIN, SINGLE) or is_closed or not kind or own != kind
        )
        if kind and (begins or not prefix):
            yield Entity(kind, first, word - 1)
        if begins:
            first = word
        kind, is_closed = own, prefix in (END, SINGLE)


def count_entities(found: Sequence[str], labelled: Sequence[str]) -> dict[str, EntityCounts]:
    """Return the counts of a sentence by kind.

    Args:
      found: tags by a model.
      labelled: tags that are right, as many.
    """
    found_set, right_set = set(find_entities(found)), set(find_entities(labelled))
    counts = [
        collections.Counter(entity.kind for entity in entities)
        for entities in (found_set & right_set, found_set, right_set)
    ]
    kinds = sorted(counts[1] | counts[2])
    return {kind: EntityCounts(*(count[kind] for count in counts)) for kind in kinds}


def add_counts(parts: Sequence[Mapping[str, EntityCounts]]) -> dict[str, EntityCounts]:
    """Return the sums of counts by kind, in the order of the kinds."""
    totals: dict[str, list[int]] = {}
    for part in parts:
        for kind, counts in part.items():
            total = totals.setdefault(kind, [0, 0, 0])
            for index, count in enumerate(counts):
                total[index] += count
    return {kind: EntityCounts(*totals[kind]) for kind in sorted(totals)}


def entity_f1(count_E3: np.ndarray) -> float:
    """Return F1 over all entities of all sentences, by their right, found, labelled entities."""
    right, found, labelled = np.asarray(count_E3).sum(axis=0).tolist()
    return EntityCounts(right, found, labelled).f1


def word_accuracy(count_E2: np.ndarray) -> float:
    """Return the fraction of right words, by the right words and the words of each sentence."""
    right, words = np.asarray(count_E2).sum(axis=0).tolist()
    return right / max(1, words)


def check_tag_metric(metric: str) -> None:
    """Raise ValueError if there is no such metric of tags."""
    if metric not in METRICS:
        raise ValueError(
            f"config.data.metric is {metric!r:.60}; for tags of words there are "
            f"{' and '.join(METRICS)}"
        )
