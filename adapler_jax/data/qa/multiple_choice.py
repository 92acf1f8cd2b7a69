"""Make rows of multiple choice questions about articles: each option is one row.

R rows, one an option
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.batching.ragged import Ragged
from adapler_jax.data.sources.chunks import at_least_one, in_chunks
from adapler_jax.data.tokenization.templates import (
    Template,
    fill_template,
    join_chunks,
    read_template,
    token_rows,
)
from adapler_jax.io.messages import shown

# Questions in one chunk of rows. Questions of one article are adjacent, and a chunk tokenizes each
# article once.
_CHUNK = 256


@dataclasses.dataclass(frozen=True)
class MultipleChoiceQuestion:
    """A question about an article; label is the index of the correct option."""

    id: str
    article: str
    question: str
    options: tuple[str, ...]
    label: int


@dataclasses.dataclass(frozen=True)
class MultipleChoiceRows:
    """Rows of questions, one an option: [CLS] article [SEP] question option [SEP].

    Rows of a question are consecutive, in the order of its options.

    Attributes:
      tokens: int32 rows.
      segments: int8 rows of the same lengths: 0 up to the first [SEP], 1 after it.
      article_tokens: int32 [R], tokens of the article that the row holds.
      is_cut: bool [R], True if the article has more tokens.
      labels: int32 [R], 1 for the correct option of a question, 0 for others.
      question: int32 [R], index of the question.
      num_options: options of each question, 0 if there are no questions.
      ids: names of the questions.
    """

    tokens: Ragged
    segments: Ragged
    article_tokens: np.ndarray
    is_cut: np.ndarray
    labels: np.ndarray
    question: np.ndarray
    num_options: int
    ids: list[str]

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.tokens)


def check_counts(questions: Iterable[MultipleChoiceQuestion]) -> Iterator[MultipleChoiceQuestion]:
    """Yield the questions; raise ValueError if one has another number of options than the first."""
    expected = None
    for number, question in enumerate(questions, start=1):
        count = len(question.options)
        expected = count if expected is None else expected
        if count != expected:
            raise ValueError(
                f"question {number} ({shown(question.id)}) has {count} options; "
                f"expected {expected}, as question 1 has: leave it out, or train on data sets of "
                "one number of options"
            )
        yield question


def build_multiple_choice_rows(
    questions: Iterable[MultipleChoiceQuestion],
    core: Tokenizer,
    *,
    max_length: int,
    max_option_tokens: int = 128,
) -> MultipleChoiceRows:
    """Join all chunks of `stream_multiple_choice_rows`, which documents the arguments."""
    chunks = stream_multiple_choice_rows(
        questions, core, max_length=max_length, max_option_tokens=max_option_tokens
    )
    return join_chunks(list(chunks))


def stream_multiple_choice_rows(
    questions: Iterable[MultipleChoiceQuestion],
    core: Tokenizer,
    *,
    max_length: int,
    max_option_tokens: int = 128,
) -> Iterator[MultipleChoiceRows]:
    """Tokenize questions into chunks of rows; each chunk counts questions from 0.

    Args:
      questions: questions with equal numbers of options.
      core: a tokenizer of `load_core`.
      max_length: tokens of a row, including special ones. Articles lose their end so that the
        longest option of the question fits; all options of a question have the same article.
      max_option_tokens: tokens of question and option together; 128 for RACE. Longer ones lose
        their start, so that options stay different. A blank is between question and option, even
        if the question has a gap ("_").

    Yields:
      Rows of up to 256 questions; one chunk without rows if there are no questions.

    Raises:
      ValueError: max_length leaves no room for an article, or the numbers of options differ.

    Source: Ye et al., "TR-BERT", NAACL 2021, the released program for RACE.
    """
    template = read_template(core, pair=True)
    num_slots = max_length - template.num_special
    if not 0 < max_option_tokens < num_slots:
        raise ValueError(
            f"max_length {max_length} holds {template.num_special} special tokens and "
            f"max_option_tokens {max_option_tokens}, and no article; expected max_option_tokens "
            f"between 1 and {num_slots - 1}: change either"
        )
    for chunk in at_least_one(in_chunks(check_counts(questions), _CHUNK)):
        yield _make_rows(
            chunk, core, template, num_slots=num_slots, max_option_tokens=max_option_tokens
        )


def _make_rows(
    chunk: Sequence[MultipleChoiceQuestion],
    core: Tokenizer,
    template: Template,
    *,
    num_slots: int,
    max_option_tokens: int,
) -> MultipleChoiceRows:
    """Make the rows of a chunk; num_slots is for article, question and option together."""
    articles = list(dict.fromkeys(question.article for question in chunk))
    tokens_of = dict(zip(articles, token_rows(core, articles)))
    texts = [f"{question.question} {option}" for question in chunk for option in question.options]
    endings = [tokens[-max_option_tokens:] for tokens in token_rows(core, texts)]
    num_options = len(chunk[0].options) if chunk else 0
    pairs, is_cut, labels = [], [], []
    for number, question in enumerate(chunk):
        options = endings[number * num_options : (number + 1) * num_options]
        article = tokens_of[question.article]
        article_slots = num_slots - max(map(len, options))
        pairs += [(article[:article_slots], option) for option in options]
        is_cut += [len(article) > article_slots] * num_options
        labels += [index == question.label for index in range(num_options)]
    tokens, segments = fill_template(template, pairs)
    return MultipleChoiceRows(
        tokens=tokens,
        segments=segments,
        article_tokens=np.array([len(article) for article, _ in pairs], np.int32),
        is_cut=np.array(is_cut, bool),
        labels=np.array(labels, np.int32),
        question=np.repeat(np.arange(len(chunk), dtype=np.int32), num_options),
        num_options=num_options,
        ids=[question.id for question in chunk],
    )
