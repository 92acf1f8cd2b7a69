"""HotpotQA's questions to rows: paragraphs laid out behind a question, places of answers and supporting sentences.

Shapes: R rows (one a question), A answer spans, S sentences.
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
from adapler_jax.data.sources.chunks import at_least_one, in_chunks
from adapler_jax.data.sources.text import replace_lone_surrogates
from adapler_jax.data.tokenization.offsets import align_spans
from adapler_jax.data.tokenization.templates import (
    Template,
    fill_template,
    join_chunks,
    marker_ids,
    read_template,
    token_rows,
)
from adapler_jax.metrics.hotpot import SupportingFact

ANSWER_TYPES = ("span", "yes", "no")
TITLE_MARKERS = ("[unused1]", "[unused2]")  # before and behind a title
_CHUNK = 64  # questions in one chunk of rows


@dataclasses.dataclass(frozen=True)
class HotpotRows:
    """One row a question: [CLS] question [SEP], of each paragraph its title between markers and its sentences, [SEP].

    Slots are places of tokens in the row, first and last inclusive; -1 fills what is not there.

    Attributes:
      tokens: int32 rows.
      segments: int8 rows of the same lengths: 0 up to the first [SEP], 1 behind it.
      context_first: int32 [rows], slot of the first token behind the first [SEP].
      starts, ends: int32, rows as long as the tokens from there up to the last [SEP]: their characters in the context;
        markers have none, so start and end are the same.
      contexts: titles and sentences in the order of the row, whole also where the row is cut.
      span_RA2: int32 [rows, A, 2], slots of the answer in supporting sentences. All -1 where the answer is yes or no,
        or is not found in what the row holds.
      answer_type: int32 [rows], index into ANSWER_TYPES.
      sentence_RS2: int32 [rows, S, 2], slots of each sentence; a sentence that is cut ends with the row.
      supporting_RS: int32 [rows, S], 1 for a supporting fact, 0 for another sentence.
      facts: of each row the (title, sentence index) of its sentences, as many as sentence_RS2 has.
      gold_facts: of each row the supporting facts, also those that the row lacks.
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
        """What training reads: None for starts, ends, contexts and facts, which only scores need."""
        return dataclasses.replace(self, starts=None, ends=None, contexts=None, facts=None)


class _Context(NamedTuple):
    """Paragraphs laid out: places of tokens count from the first of them."""

    text: str
    tokens: list[int]
    starts: list[int]
    ends: list[int]
    facts: list[SupportingFact]  # of every sentence that has a token
    bounds: list[tuple[int, int]]  # its first and last token
    characters: list[tuple[int, int]]  # its place in the text


def build_hotpot_rows(questions: Iterable[HotpotQuestion], core: Tokenizer, **limits) -> HotpotRows:
    """Tokenize questions into rows; all chunks of `stream_hotpot_rows`, whose arguments these are, at once."""
    return join_chunks(list(stream_hotpot_rows(questions, core, **limits)))


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
      questions: of `stream_hotpot`.
      core: from `load_core`.
      max_length: tokens of a row, special ones included; the context loses its end.
      max_question_tokens: the question loses its end.
      max_sentences: S; sentences past it are read, but can be no supporting fact.
      max_answers: A, the first so many places of the answer.
      markers: tokens before and behind a title.
      shuffle_seed: for training: the paragraphs of the supporting facts are put in, then others in random order as long
        as whole ones fit, and all are shuffled. It depends on the seed and the number of the question. None for
        evaluation: the paragraphs as given.

    Yields:
      Rows of up to 64 questions; of none where there are none.

    Raises:
      ValueError: the vocabulary lacks the markers, or max_length leaves no room for a context.

    Source: Ye et al., "TR-BERT", NAACL 2021, the released program.
    """
    template = read_template(core, pair=True)
    ids = marker_ids(core, markers)
    if max_length <= template.num_special + max_question_tokens:
        raise ValueError(
            f"max_length {max_length} holds no context beside {max_question_tokens} question tokens; raise it"
        )
    room = max_length - template.num_special
    count = itertools.count()
    for chunk in at_least_one(in_chunks(questions, _CHUNK)):
        asked = [
            row[:max_question_tokens]
            for row in token_rows(core, [question.question for question in chunk])
        ]
        keys = [None if shuffle_seed is None else [shuffle_seed, next(count)] for _ in chunk]
        contexts = [
            _lay_out(question, core, ids, room - len(tokens), key)
            for question, tokens, key in zip(chunk, asked, keys)
        ]
        yield _build_chunk(chunk, asked, contexts, template, room, (max_sentences, max_answers))


def _lay_out(
    question: HotpotQuestion, core: Tokenizer, ids: list[int], room: int, key: list[int] | None
) -> _Context:
    """Tokenize the paragraphs, choose and order them where there is a random key, and put them end to end."""
    texts = [
        [replace_lone_surrogates(text) for text in (title, *sentences)]
        for title, sentences in question.paragraphs
    ]
    found = iter(
        core.encode_batch([text for part in texts for text in part], add_special_tokens=False)
    )
    encoded = [[next(found) for _ in part] for part in texts]
    order = range(len(texts))
    if key is not None:
        gold = {title for title, _ in question.supporting_facts}
        is_gold = [title in gold for title, _ in question.paragraphs]
        lengths = [2 + sum(map(len, part)) for part in encoded]
        order = choose_paragraphs(lengths, is_gold, room, np.random.default_rng(key))
    return _put_together(
        [(question.paragraphs[place][0], texts[place], encoded[place]) for place in order], ids
    )


def choose_paragraphs(
    lengths: Sequence[int], is_gold: Sequence[bool], room: int, rng: np.random.Generator
) -> list[int]:
    """All gold paragraphs and, in random order until one does not fit, the others; the chosen ones in random order."""
    order = rng.permutation(len(lengths)).tolist()
    left = room - sum(length for length, gold in zip(lengths, is_gold) if gold)
    others = [place for place in order if not is_gold[place]]
    ends = list(itertools.accumulate(lengths[place] for place in others))
    taken = set(others[: bisect.bisect_right(ends, left)])
    return [place for place in order if is_gold[place] or place in taken]


def _put_together(paragraphs: Sequence[tuple], ids: list[int]) -> _Context:
    """Lay titles, between the marker tokens, and sentences end to end; blanks part what no blank parts."""
    context = _Context("", [], [], [], [], [], [])
    text = ""
    for title, texts, encodings in paragraphs:
        for number, (piece, encoding) in enumerate(zip(texts, encodings), start=-1):
            if number < 1:
                text += "\n" if text else ""
            elif not (text[-1:].isspace() or piece[:1].isspace()):
                text += " "
            base, first = len(text), len(context.tokens)
            text += piece
            starts, ends = np.array(encoding.offsets, np.int64).reshape(-1, 2).T.copy()
            align_spans(piece, starts, ends)
            starts, ends, tokens = starts.tolist(), ends.tolist(), encoding.ids
            if number < 0:
                starts, ends = [0, *starts, len(piece)], [0, *ends, len(piece)]
                tokens = [ids[0], *tokens, ids[1]]
            context.tokens.extend(tokens)
            context.starts.extend(base + start for start in starts)
            context.ends.extend(base + end for end in ends)
            if number >= 0 and tokens:
                context.facts.append((title, number))
                context.bounds.append((first, len(context.tokens) - 1))
                context.characters.append((base, len(text)))
    return context._replace(text=text)


def _cut(context: _Context, room: int, max_sentences: int) -> _Context:
    """The context up to so many tokens, and the sentences of which a token is left."""
    bounds = [(first, min(last, room - 1)) for first, last in context.bounds if first < room][
        :max_sentences
    ]
    names = {
        "facts": context.facts[: len(bounds)],
        "bounds": bounds,
        "characters": context.characters[: len(bounds)],
    }
    tokens = {name: getattr(context, name)[:room] for name in ("tokens", "starts", "ends")}
    return context._replace(**names, **tokens)


def answer_type(answer: str) -> int:
    """Index into ANSWER_TYPES."""
    text = answer.strip().lower()
    return ANSWER_TYPES.index(text) if text in ANSWER_TYPES[1:] else 0


def _answer_spans(question: HotpotQuestion, context: _Context, room: int) -> list[tuple[int, int]]:
    """Tokens, first and last, of the answer in the supporting sentences, in order, those among the first `room` tokens.

    Where the answer stands as whole words, other places do not count. None for yes and no.
    """
    if answer_type(question.answer):
        return []
    wanted = set(question.supporting_facts)
    places = []
    for fact, (start, end) in zip(context.facts, context.characters):
        if fact in wanted:
            places += find_answer(
                context.text, replace_lone_surrogates(question.answer).strip(), start, end
            )
    if any(is_whole for *_, is_whole in places):
        places = [place for place in places if place[2]]
    spans = [
        (bisect.bisect_right(context.ends, start), bisect.bisect_left(context.starts, end) - 1)
        for start, end, _ in places
    ]
    return [(first, last) for first, last in spans if first <= last < room]


def find_answer(text: str, answer: str, start: int, end: int) -> list[tuple[int, int, bool]]:
    """Characters (start, end) of an answer in a part of a text, and whether no letter or digit goes on at its sides."""
    found = []
    place = text.find(answer, start, end) if answer else -1
    while place >= 0:
        behind = place + len(answer)
        sides = text[max(start, place - 1) : place], text[behind : min(end, behind + 1)]
        found.append((place, behind, not any(side.isalnum() for side in sides)))
        place = text.find(answer, behind, end)
    return found


def _padded(rows: list[list], shape: tuple[int, ...]) -> np.ndarray:
    """Rows of different lengths as int32 [rows, *shape], cut and filled with -1."""
    array = np.full((len(rows), *shape), -1, np.int32)
    for row, values in zip(array, rows):
        values = values[: shape[0]]
        if values:
            row[: len(values)] = values
    return array


def _build_chunk(
    chunk, asked, contexts: list[_Context], template: Template, room: int, limits: tuple[int, int]
):
    """Rows of some questions; room: tokens of question and context together; limits: sentences, answers."""
    max_sentences, max_answers = limits
    rooms = [room - len(tokens) for tokens in asked]
    spans = [_answer_spans(*row) for row in zip(chunk, contexts, rooms)]
    contexts = [_cut(context, left, max_sentences) for context, left in zip(contexts, rooms)]
    tokens, segments = fill_template(
        template, zip(asked, [np.array(context.tokens, np.int32) for context in contexts])
    )
    firsts = np.array(
        [len(template.first) + len(tokens) + len(template.middle) for tokens in asked], np.int32
    )
    gold = [set(question.supporting_facts) for question in chunk]
    is_gold = [
        [fact in wanted for fact in context.facts] for context, wanted in zip(contexts, gold)
    ]
    return HotpotRows(
        tokens=tokens,
        segments=segments,
        context_first=firsts,
        starts=ragged([np.array(context.starts, np.int32) for context in contexts], np.int32),
        ends=ragged([np.array(context.ends, np.int32) for context in contexts], np.int32),
        contexts=[context.text for context in contexts],
        span_RA2=_to_slots(_padded(spans, (max_answers, 2)), firsts),
        answer_type=np.array([answer_type(question.answer) for question in chunk], np.int32),
        sentence_RS2=_to_slots(
            _padded([context.bounds for context in contexts], (max_sentences, 2)), firsts
        ),
        supporting_RS=_padded(is_gold, (max_sentences,)),
        facts=[tuple(context.facts) for context in contexts],
        gold_facts=[question.supporting_facts for question in chunk],
        answers=[question.answer for question in chunk],
        ids=[question.id for question in chunk],
    )


def _to_slots(place_RX2: np.ndarray, firsts: np.ndarray) -> np.ndarray:
    """Places in a context as slots of the row; -1 stays."""
    return np.where(place_RX2 < 0, place_RX2, place_RX2 + firsts[:, None, None])
