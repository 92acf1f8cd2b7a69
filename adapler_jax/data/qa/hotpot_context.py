"""Concatenate the paragraphs of a HotpotQA question into one context.

Positions are of two kinds: *character*, in the context's text; *token*, among the context's tokens.
"""

import bisect
import dataclasses
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Encoding, Tokenizer

from adapler_jax.data.qa.hotpot import HotpotQuestion
from adapler_jax.data.sources.text import replace_lone_surrogates
from adapler_jax.data.tokenization.offsets import align_spans
from adapler_jax.metrics.hotpot import SupportingFact


class Paragraph(NamedTuple):
    """A paragraph and its tokens; the title is piece 0, sentence i is piece i + 1."""

    title: str
    texts: list[str]
    encodings: list[Encoding]


class Sentence(NamedTuple):
    """A sentence in a context."""

    fact: SupportingFact
    first_token: int
    last_token: int
    start: int  # character
    end: int  # character after it


@dataclasses.dataclass
class Context:
    """Concatenated paragraphs of one question.

    Attributes:
      text: titles and sentences.
      tokens: token ids.
      starts: first character of each token.
      ends: character after each token.
      sentences: every sentence that has a token.
    """

    text: str = ""
    tokens: list[int] = dataclasses.field(default_factory=list)
    starts: list[int] = dataclasses.field(default_factory=list)
    ends: list[int] = dataclasses.field(default_factory=list)
    sentences: list[Sentence] = dataclasses.field(default_factory=list)

    def cut(self, num_tokens: int, max_sentences: int) -> "Context":
        """Return the first tokens of the context, with the sentences that still have a token."""
        sentences = [
            sentence._replace(last_token=min(sentence.last_token, num_tokens - 1))
            for sentence in self.sentences
            if sentence.first_token < num_tokens
        ]
        return Context(
            text=self.text,
            tokens=self.tokens[:num_tokens],
            starts=self.starts[:num_tokens],
            ends=self.ends[:num_tokens],
            sentences=sentences[:max_sentences],
        )


def encode_paragraphs(question: HotpotQuestion, core: Tokenizer) -> list[Paragraph]:
    """Tokenize titles and sentences."""
    texts = [
        [replace_lone_surrogates(text) for text in (title, *sentences)]
        for title, sentences in question.paragraphs
    ]
    flat = list(itertools.chain.from_iterable(texts))
    encodings = iter(core.encode_batch(flat, add_special_tokens=False))
    return [
        Paragraph(title, pieces, list(itertools.islice(encodings, len(pieces))))
        for (title, _), pieces in zip(question.paragraphs, texts)
    ]


def shuffle_paragraphs(
    question: HotpotQuestion,
    paragraphs: list[Paragraph],
    capacity: int,
    rng: np.random.Generator,
) -> list[Paragraph]:
    """Choose and order the paragraphs of a training row."""
    gold_titles = {title for title, _ in question.supporting_facts}
    is_gold = [paragraph.title in gold_titles for paragraph in paragraphs]
    # Two markers per paragraph.
    lengths = [2 + sum(map(len, paragraph.encodings)) for paragraph in paragraphs]
    order = choose_paragraphs(lengths, is_gold, capacity, rng=rng)
    return [paragraphs[index] for index in order]


def choose_paragraphs(
    lengths: Sequence[int], is_gold: Sequence[bool], capacity: int, *, rng: np.random.Generator
) -> list[int]:
    """Return the indices of all gold paragraphs and of random others, in random order.

    Others are taken until one does not fit.

    Args:
      lengths: tokens of each paragraph.
      is_gold: True for paragraphs with a supporting fact.
      capacity: tokens for all paragraphs.
      rng: random generator.
    """
    order = rng.permutation(len(lengths)).tolist()
    free = capacity - sum(length for length, gold in zip(lengths, is_gold) if gold)
    others = [index for index in order if not is_gold[index]]
    ends = list(itertools.accumulate(lengths[index] for index in others))
    chosen = set(others[: bisect.bisect_right(ends, free)])
    return [index for index in order if is_gold[index] or index in chosen]


def concatenate(paragraphs: Sequence[Paragraph], marker_ids: Sequence[int]) -> Context:
    """Concatenate titles, between markers, and sentences."""
    context = Context()
    for title, texts, encodings in paragraphs:
        _append(context, texts[0], encodings[0], is_new_line=True, markers=marker_ids)
        for number, (text, encoding) in enumerate(zip(texts[1:], encodings[1:])):
            num_tokens = len(context.tokens)
            start = _append(context, text, encoding, is_new_line=number == 0)
            last = len(context.tokens) - 1
            if last >= num_tokens:
                sentence = Sentence((title, number), num_tokens, last, start, len(context.text))
                context.sentences.append(sentence)
    return context


def _separator(text: str, following: str, *, is_new_line: bool) -> str:
    """Return the characters between a text and the next one: a line break, or a blank if needed."""
    if is_new_line:
        return "\n" if text else ""
    has_blank = text[-1:].isspace() or following[:1].isspace()
    return "" if has_blank else " "


def _append(
    context: Context,
    text: str,
    encoding: Encoding,
    *,
    is_new_line: bool,
    markers: Sequence[int] = (),
) -> int:
    """Append a title or sentence and its tokens; return its first character."""
    context.text += _separator(context.text, text, is_new_line=is_new_line)
    base = len(context.text)
    context.text += text
    starts, ends = np.array(encoding.offsets, np.int64).reshape(-1, 2).T.copy()
    align_spans(text, starts, ends)
    tokens, first, last = encoding.ids, starts.tolist(), ends.tolist()
    if markers:
        tokens = [markers[0], *tokens, markers[1]]
        first, last = [0, *first, len(text)], [0, *last, len(text)]
    context.tokens += tokens
    context.starts += [base + offset for offset in first]
    context.ends += [base + offset for offset in last]
    return base
