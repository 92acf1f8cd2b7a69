"""Make rows of HotpotQA's questions, with answer spans and supporting sentences.

Positions are of three kinds: *character*, in the context's text; *token*, among the context's
tokens; *slot*, in a row, where [CLS] is slot 0. Spans of tokens and slots are (first, last).

    R rows, one a question
    A answer spans of a row
    S sentences of a row
    2 first and last
"""

import bisect
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.batching.ragged import Ragged, ragged
from adapler_jax.data.qa.hotpot import HotpotQuestion
from adapler_jax.data.qa.hotpot_context import (
    Context,
    concatenate,
    encode_paragraphs,
    shuffle_paragraphs,
)
from adapler_jax.data.sources.chunks import at_least_one, in_chunks
from adapler_jax.data.sources.text import replace_lone_surrogates
from adapler_jax.data.tokenization.templates import (
    Template,
    fill_template,
    marker_ids,
    read_template,
    token_rows,
)
from adapler_jax.metrics.hotpot import SupportingFact

ANSWER_TYPES = ("span", "yes", "no")
TITLE_MARKERS = ("[unused1]", "[unused2]")  # before and after a title
_CHUNK = 64  # questions in one chunk of rows


@dataclasses.dataclass(frozen=True)
class HotpotRows:
    """Rows of questions: [CLS] question [SEP] paragraphs [SEP].

    A paragraph is its title between markers, and its sentences. Absent spans are -1.

    Attributes:
      tokens: int32 rows.
      segments: int8 rows of the same lengths: 0 up to the first [SEP], 1 after it.
      context_first: int32 [R], slot of the first context token.
      starts: int32 rows, as long as the row's part of the context: first character of each token.
        A marker has no characters: its start and end are equal.
      ends: int32 rows of the same lengths: the character after each token.
      contexts: titles and sentences in the order of the row, whole even if the row is cut.
      span_RA2: int32 [R, A, 2], slots of the answer in supporting sentences. All are -1 if the
        answer is yes or no, or if the row does not hold it.
      answer_type: int32 [R], index in ANSWER_TYPES.
      sentence_RS2: int32 [R, S, 2], slots of each sentence; a sentence that is cut ends with the
        row.
      supporting_RS: int32 [R, S], 1 for a supporting fact, 0 for another sentence.
      facts: (title, sentence index) of each row's sentences, as many as sentence_RS2 has.
      gold_facts: the supporting facts of each question, including those that the row lacks.
      answers: the answers.
      ids: names of the questions.
    """

    tokens: Ragged
    segments: Ragged
    context_first: np.ndarray
    starts: Ragged | None
    ends: Ragged | None
    contexts: list[str] | None
    span_RA2: np.ndarray
    answer_type: np.ndarray
    sentence_RS2: np.ndarray
    supporting_RS: np.ndarray
    facts: list[tuple[SupportingFact, ...]] | None
    gold_facts: list[tuple[SupportingFact, ...]]
    answers: list[str]
    ids: list[str]

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.tokens)

    def without_texts(self) -> "HotpotRows":
        """Return the rows without starts, ends, contexts and facts, which only scores need."""
        return dataclasses.replace(self, starts=None, ends=None, contexts=None, facts=None)


class _Limits(NamedTuple):
    """Sizes of rows."""

    max_length: int
    max_question_tokens: int
    max_sentences: int
    max_answers: int


class _Example(NamedTuple):
    """One question with its tokens and its context."""

    question: HotpotQuestion
    question_tokens: np.ndarray
    context: Context


def stream_hotpot_rows(
    questions: Iterable[HotpotQuestion],
    core: Tokenizer,
    *,
    max_length: int = 1024,
    max_question_tokens: int = 80,
    max_sentences: int = 80,
    max_answers: int = 8,
    markers: tuple[str, str] = TITLE_MARKERS,
    shuffle_seed: int | None = None,
) -> Iterator[HotpotRows]:
    """Tokenize questions into chunks of rows.

    Args:
      questions: questions of `stream_hotpot`.
      core: a tokenizer of `load_core`.
      max_length: tokens of a row, including special ones; longer contexts lose their end.
      max_question_tokens: longer questions lose their end.
      max_sentences: S; later sentences are in the row, but cannot be supporting facts.
      max_answers: A, the first spans of the answer.
      markers: tokens before and after a title.
      shuffle_seed: None keeps all paragraphs in their order, for evaluation. A seed is for
        training: a row has the paragraphs of supporting facts, and random others as long as whole
        ones fit, all shuffled. The shuffle depends on the seed and the number of the question.

    Yields:
      Rows of up to 64 questions; one chunk without rows if there are no questions.

    Raises:
      ValueError: the vocabulary lacks the markers, or max_length leaves no room for a context.

    Source: Ye et al., "TR-BERT", NAACL 2021, the released program.
    """
    template = read_template(core, pair=True)
    ids = marker_ids(core, markers)
    limits = _Limits(max_length, max_question_tokens, max_sentences, max_answers)
    if max_length <= template.num_special + max_question_tokens:
        raise ValueError(
            f"max_length {max_length} holds no context after {max_question_tokens} question "
            "tokens; raise it"
        )
    num_questions = itertools.count()
    for chunk in at_least_one(in_chunks(questions, _CHUNK)):
        examples = []
        texts = [question.question for question in chunk]
        for question, whole in zip(chunk, token_rows(core, texts)):
            tokens = whole[:max_question_tokens]
            paragraphs = encode_paragraphs(question, core)
            if shuffle_seed is not None:
                rng = np.random.default_rng([shuffle_seed, next(num_questions)])
                capacity = _context_capacity(template, limits, tokens)
                paragraphs = shuffle_paragraphs(question, paragraphs, capacity, rng)
            examples.append(_Example(question, tokens, concatenate(paragraphs, ids)))
        yield _make_rows(examples, template, limits)


def _context_capacity(template: Template, limits: _Limits, question_tokens: np.ndarray) -> int:
    """Return the number of context tokens that a row holds."""
    return limits.max_length - template.num_special - len(question_tokens)


def answer_type(answer: str) -> int:
    """Return the index in ANSWER_TYPES."""
    text = answer.strip().lower()
    return ANSWER_TYPES.index(text) if text in ANSWER_TYPES[1:] else 0


def _answer_spans(example: _Example, num_tokens: int) -> list[tuple[int, int]]:
    """Return the token spans of the answer in supporting sentences, within the first num_tokens.

    If the answer occurs as whole words, other occurrences are left out. Yes and no have no span.
    """
    question, context = example.question, example.context
    if answer_type(question.answer):
        return []
    answer = replace_lone_surrogates(question.answer).strip()
    gold = set(question.supporting_facts)
    found = []
    for sentence in context.sentences:
        if sentence.fact in gold:
            found += find_answer(context.text, answer, sentence.start, sentence.end)
    if any(is_whole for *_, is_whole in found):
        found = [occurrence for occurrence in found if occurrence[2]]
    spans = []
    for start, end, _ in found:
        first = bisect.bisect_right(context.ends, start)
        last = bisect.bisect_left(context.starts, end) - 1
        if first <= last < num_tokens:
            spans.append((first, last))
    return spans


def find_answer(text: str, answer: str, start: int, end: int) -> list[tuple[int, int, bool]]:
    """Find an answer in the characters [start, end) of a text.

    Returns:
      (start, end, is_whole) of each occurrence; is_whole is True if no letter or digit is next
      to it.
    """
    found = []
    first = text.find(answer, start, end) if answer else -1
    while first >= 0:
        after = first + len(answer)
        neighbours = text[max(start, first - 1) : first], text[after : min(end, after + 1)]
        found.append((first, after, not any(side.isalnum() for side in neighbours)))
        first = text.find(answer, after, end)
    return found


def _make_rows(examples: Sequence[_Example], template: Template, limits: _Limits) -> HotpotRows:
    """Make the rows of a chunk."""
    capacities = [
        _context_capacity(template, limits, example.question_tokens) for example in examples
    ]
    spans = [_answer_spans(*pair) for pair in zip(examples, capacities)]
    contexts = [
        example.context.cut(capacity, limits.max_sentences)
        for example, capacity in zip(examples, capacities)
    ]
    questions = [example.question for example in examples]
    question_tokens = [example.question_tokens for example in examples]
    context_tokens = [np.array(context.tokens, np.int32) for context in contexts]
    tokens, segments = fill_template(template, zip(question_tokens, context_tokens))
    num_special = len(template.first) + len(template.middle)
    first_R = np.array([num_special + len(tokens) for tokens in question_tokens], np.int32)
    bounds = [
        [(sentence.first_token, sentence.last_token) for sentence in context.sentences]
        for context in contexts
    ]
    return HotpotRows(
        tokens=tokens,
        segments=segments,
        context_first=first_R,
        starts=ragged([np.array(context.starts, np.int32) for context in contexts], np.int32),
        ends=ragged([np.array(context.ends, np.int32) for context in contexts], np.int32),
        contexts=[context.text for context in contexts],
        span_RA2=_to_slots(_pad(spans, (limits.max_answers, 2)), first_R),
        answer_type=np.array([answer_type(question.answer) for question in questions], np.int32),
        sentence_RS2=_to_slots(_pad(bounds, (limits.max_sentences, 2)), first_R),
        supporting_RS=_pad(_supporting(questions, contexts), (limits.max_sentences,)),
        facts=[tuple(sentence.fact for sentence in context.sentences) for context in contexts],
        gold_facts=[question.supporting_facts for question in questions],
        answers=[question.answer for question in questions],
        ids=[question.id for question in questions],
    )


def _supporting(
    questions: Sequence[HotpotQuestion], contexts: Sequence[Context]
) -> list[list[bool]]:
    """Return True for each sentence that is a supporting fact, by question."""
    found = []
    for question, context in zip(questions, contexts):
        gold = set(question.supporting_facts)
        found.append([sentence.fact in gold for sentence in context.sentences])
    return found


def _pad(rows: Sequence[Sequence], shape: tuple[int, ...]) -> np.ndarray:
    """Return rows of different lengths as int32 [R, *shape], cut and filled with -1."""
    array = np.full((len(rows), *shape), -1, np.int32)
    for target, values in zip(array, rows):
        count = min(len(values), shape[0])
        if count:
            target[:count] = values[:count]
    return array


def _to_slots(token_RX2: np.ndarray, first_R: np.ndarray) -> np.ndarray:
    """Convert spans of context tokens to slots; -1 stays.

    Args:
      token_RX2: int32 [R, A, 2] or [R, S, 2].
      first_R: int32, slot of the first context token.
    """
    return np.where(token_RX2 < 0, token_RX2, token_RX2 + first_R[:, None, None])
