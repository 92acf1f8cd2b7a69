"""Read HotpotQA: questions over paragraphs, with the sentences that support the answer."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from adapler_jax.data.qa.json_questions import are_texts, stream_json_questions
from adapler_jax.data.sources.items import check_text
from adapler_jax.data.sources.values import as_integer
from adapler_jax.io.messages import shown
from adapler_jax.metrics.hotpot import SupportingFact


@dataclasses.dataclass(frozen=True)
class HotpotQuestion:
    """A question of HotpotQA.

    Attributes:
      id: name of the question.
      question: the question.
      answer: the answer, also yes or no.
      paragraphs: (title, sentences) in the order of the file.
      supporting_facts: the sentences that support the answer. Some published facts are in no
        paragraph.
      kind: bridge or comparison; empty if the file does not say.
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
      source: `file:PATH`, a published file (`hotpot_dev_distractor_v1.json`) or a folder with one
        file a split.
      split: train, validation or test.

    Raises:
      ValueError: there is no such file, or a field is missing or has another type; the item is
        named.
    """
    return stream_json_questions(source, split, _parse_question)


def _parse_question(item: Mapping, location: str) -> HotpotQuestion:
    """Convert one item."""
    name = check_text(item.get("_id", item.get("id")), "_id", location)
    where = f"{location}: question {shown(name)}"
    return HotpotQuestion(
        id=name,
        question=check_text(item.get("question"), "question", location),
        answer=check_text(item.get("answer"), "answer", location),
        paragraphs=_parse_paragraphs(item.get("context"), where),
        supporting_facts=_parse_facts(item.get("supporting_facts"), where),
        kind=check_text(item.get("type", ""), "type", location),
    )


def _parse_paragraphs(value: object, where: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Convert [[title, [sentences]]]."""
    pairs = _named_values(value)
    if pairs is None or not all(are_texts(sentences) for _, sentences in pairs):
        raise ValueError(f"{where} has {shown(value)} as context; expected [[title, [sentences]]]")
    return tuple((title, tuple(sentences)) for title, sentences in pairs)


def _parse_facts(value: object, where: str) -> tuple[SupportingFact, ...]:
    """Convert [[title, number of a sentence]]."""
    pairs = [(title, _sentence_number(number)) for title, number in _named_values(value) or ()]
    facts = [(title, number) for title, number in pairs if number is not None]
    if _named_values(value) is None or len(facts) < len(pairs):
        raise ValueError(
            f"{where} has {shown(value)} as supporting_facts; expected [[title, number]]"
        )
    return tuple(facts)


def _sentence_number(value: object) -> int | None:
    """Return a whole number as int; None for other values."""
    return as_integer(value) if isinstance(value, int | float) else None


def _named_values(value: object) -> list[tuple[str, Any]] | None:
    """Return the pairs of a list of [text, value]; None for other values."""
    if not isinstance(value, list):
        return None
    are_pairs = all(isinstance(item, list) and len(item) == 2 for item in value)
    if not are_pairs or not all(isinstance(name, str) for name, _ in value):
        return None
    return [(name, found) for name, found in value]
