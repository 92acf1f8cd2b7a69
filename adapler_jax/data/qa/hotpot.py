"""HotpotQA: questions over several paragraphs with the sentences that the answer rests on, from its files."""

import dataclasses
from collections.abc import Iterator, Mapping

from adapler_jax.data.sources.items import check_text, open_items, split_file
from adapler_jax.data.sources.values import as_integer
from adapler_jax.io.messages import shown
from adapler_jax.metrics.hotpot import SupportingFact


@dataclasses.dataclass(frozen=True)
class HotpotQuestion:
    """A question of HotpotQA.

    Attributes:
      paragraphs: (title, sentences), as given.
      supporting_facts: the sentences that the answer rests on. As published, some lie in no paragraph.
      kind: bridge or comparison; empty where it is not told.
    """

    id: str
    question: str
    answer: str
    paragraphs: tuple[tuple[str, tuple[str, ...]], ...]
    supporting_facts: tuple[SupportingFact, ...]
    kind: str


def stream_hotpot(source: str, *, split: str) -> Iterator[HotpotQuestion]:
    """Read the questions of a split of HotpotQA, in the order of its file.

    Args:
      source: `file:PATH`, a published file (`hotpot_dev_distractor_v1.json`) or a folder of one file a split.
      split: train, validation or test.

    Raises:
      ValueError: nothing is there, or a field is missing or of another kind; the item is named.
    """
    path = split_file(source.removeprefix("file:"), split, (".json", ".jsonl"))
    return (_question(item, place) for place, item in open_items(path))


def _question(item, place: str) -> HotpotQuestion:
    """Check one item."""
    if not isinstance(item, Mapping):
        raise ValueError(f"{place} is {type(item).__name__}; expected an object with named fields")
    name = check_text(item.get("_id", item.get("id")), "_id", place)
    paragraphs, facts = item.get("context"), item.get("supporting_facts")
    if not _are_pairs(paragraphs, list) or not all(
        isinstance(text, str) for _, texts in paragraphs for text in texts
    ):
        raise ValueError(
            f"{place}: question {shown(name)} has {shown(paragraphs)} as context; expected [[title, [sentences]]]"
        )
    if not _are_pairs(facts, int | float) or any(as_integer(number) is None for _, number in facts):
        raise ValueError(
            f"{place}: question {shown(name)} has {shown(facts)} as supporting_facts; expected [[title, number]]"
        )
    return HotpotQuestion(
        id=name,
        question=check_text(item.get("question"), "question", place),
        answer=check_text(item.get("answer"), "answer", place),
        paragraphs=tuple((title, tuple(sentences)) for title, sentences in paragraphs),
        supporting_facts=tuple((title, as_integer(number)) for title, number in facts),
        kind=check_text(item.get("type", ""), "type", place),
    )


def _are_pairs(values, kind) -> bool:
    """Whether this is a list of [text, something of a kind]."""
    pairs = isinstance(values, list) and all(
        isinstance(value, list) and len(value) == 2 for value in values
    )
    return pairs and all(
        isinstance(name, str) and isinstance(value, kind) for name, value in values
    )
