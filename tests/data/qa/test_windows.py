"""Windows of questions hold every token of the text and the characters of each token."""

import dataclasses
import itertools
import re

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from adapler_jax.data.qa import windows as windows_module
from adapler_jax.data.qa.questions import Question
from adapler_jax.data.qa.windows import iter_windows, join_windows
from tests.data.qa.small_windows import CLS, LETTERS, SEP, SETTINGS, ask, cut, texts_of


def test_windows_begin_every_stride_and_the_last_ends_with_the_text(letters):
    windows = cut([ask("c d e f g h i")], letters)
    assert [row.tolist() for row in (windows.tokens[0], windows.tokens[1], windows.tokens[2])] == [
        [CLS, 5, 6, SEP, 7, 8, 9, 10, SEP],
        [CLS, 5, 6, SEP, 9, 10, 11, 12, SEP],
        [CLS, 5, 6, SEP, 11, 12, 13, SEP],
    ]
    assert windows.segments[2].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert windows.starts[1].tolist() == [4, 6, 8, 10] and windows.ends[2].tolist() == [9, 11, 13]
    assert (
        windows.context_first.tolist() == [4, 4, 4]
        and windows.question.tolist() == [0, 0, 0]
        and len(windows) == 3
    )


def test_arrays_have_the_promised_types(letters):
    windows = cut([ask("c d e f g h i", (0, 1))], letters)
    assert (
        windows.tokens.values.dtype
        == windows.starts.values.dtype
        == windows.ends.values.dtype
        == np.int32
    )
    assert (
        windows.context_first.dtype == windows.question.dtype == windows.span_RA2.dtype == np.int32
    )
    assert windows.segments.values.dtype == np.int8 and windows.tokens.offsets.dtype == np.int64


@pytest.mark.parametrize(
    ("count", "rows"), [(0, 1), (1, 1), (4, 1), (5, 2), (6, 2), (7, 3), (8, 3)]
)
def test_no_window_is_more_than_the_text_needs(letters, count, rows):
    assert len(cut([ask(" ".join("c" * count))], letters)) == rows


def test_a_stride_beyond_the_room_leaves_no_token_out(letters):
    windows = cut([ask("c d e f g h i")], letters, doc_stride=100)
    assert [row.tolist() for row in (windows.starts[0], windows.starts[1])] == [
        [0, 2, 4, 6],
        [8, 10, 12],
    ]


def test_an_empty_text_has_one_window_without_an_answer(letters):
    windows = cut([ask(""), ask(" \n\u200b"), ask("c", (0, 1))], letters)
    assert windows.tokens[0].tolist() == windows.tokens[1].tolist() == [CLS, 5, 6, SEP, SEP]
    assert windows.segments[0].tolist() == [0, 0, 0, 0, 1] and windows.starts.lengths.tolist() == [
        0,
        0,
        1,
    ]
    assert windows.question.tolist() == [0, 1, 2]
    assert windows.span_RA2.tolist() == [[[0, 0], [-1, -1]], [[0, 0], [-1, -1]], [[4, 4], [-1, -1]]]


def test_a_long_question_is_cut_and_a_short_one_leaves_its_room_to_the_text(letters):
    questions = [
        ask("f g h i j", question="a b c d e"),
        ask("f g h i j"),
        ask("f g h i j f", question=""),
    ]
    windows = cut(questions, letters)
    rows = [windows.tokens[row].tolist() for row in range(len(windows))]
    assert rows[0] == rows[2] == [CLS, 5, 6, SEP, 10, 11, 12, 13, SEP]
    assert rows[4] == [CLS, SEP, 10, 11, 12, 13, 14, 10, SEP]
    assert windows.question.tolist() == [0, 0, 1, 1, 2] and windows.context_first.tolist() == [
        4,
        4,
        4,
        4,
        2,
    ]


def test_half_characters_are_no_trouble(letters):
    windows = cut([ask("\ud83d c", (2, 3), question="\udd25")], letters)
    assert windows.tokens[0].tolist() == [CLS, SEP, 7, SEP] and windows.span_RA2[0, 0].tolist() == [
        2,
        2,
    ]


def test_robertas_frame_is_learned_from_the_tokenizer():
    vocab = {
        word: number for number, word in enumerate(("<s>", "<pad>", "</s>", "<unk>", *LETTERS))
    }
    core = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    windows = cut([ask("c d e f g", (4, 5))], core)
    assert windows.tokens[0].tolist() == [0, 4, 5, 2, 2, 6, 7, 8, 2]
    assert windows.tokens[1].tolist() == [0, 4, 5, 2, 2, 8, 9, 10, 2]
    assert not windows.segments.values.any() and windows.context_first.tolist() == [5, 5]
    assert windows.span_RA2[:, 0].tolist() == [[7, 7], [5, 5]]


def test_windows_are_those_of_the_tokenizers_own_pairs(letters):
    question = ask("c d e f", question="a b")
    pair = letters.encode(question.question, question.context)
    windows = cut([question], letters)
    assert windows.tokens[0].tolist() == pair.ids and windows.segments[0].tolist() == pair.type_ids


def test_truncation_of_an_earlier_caller_is_switched_off(letters):
    questions = [ask("c d e f g h i"), ask("d d e f g h i")]
    expected = cut(questions, letters)
    letters.enable_truncation(3)
    letters.enable_padding(length=12)
    np.testing.assert_array_equal(cut(questions, letters).tokens.values, expected.tokens.values)


def test_every_different_text_of_a_chunk_is_tokenized_once(scripts):
    class Counting:
        def __init__(self):
            self.seen = []

        def __getattr__(self, name):
            return getattr(scripts, name)

        def encode_batch(self, texts, **more):
            self.seen += texts
            return scripts.encode_batch(texts, **more)

    core = Counting()
    cut([ask("ex", question="x"), ask("ox", question="e"), ask("ex", question="e")], core)
    assert sorted(core.seen) == ["e", "ex", "ox", "x"]


def test_a_tokenizer_without_a_template_for_pairs_is_rejected(letters):
    bare = Tokenizer.from_str(letters.to_str())
    bare.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="$A $B", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    with pytest.raises(
        ValueError,
        match=r"makes \['a', 'b'\] of two texts; expected \[CLS\] text \[SEP\] text \[SEP\]",
    ):
        cut([ask("c")], bare)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"max_length": 5},
            "max_length 5 leaves no room for the text after 3 special tokens and max_question",
        ),
        ({"doc_stride": 0}, "doc_stride is 0; expected at least 1"),
        ({"max_question_tokens": 0}, "max_question_tokens is 0"),
        ({"max_answers": 0}, "max_answers is 0"),
    ],
)
def test_impossible_settings_are_rejected_before_a_question_is_read(letters, changes, message):
    def unread():
        raise AssertionError
        yield

    with pytest.raises(ValueError, match=message):
        iter_windows(unread(), letters, **SETTINGS | changes)


def test_one_slot_of_room_is_enough(letters):
    windows = cut([ask("c d e", (2, 3))], letters, max_length=6)
    assert windows.tokens.lengths.tolist() == [6] * 3 and texts_of(windows, "c d e") == [
        [],
        ["d"],
        [],
    ]


def test_a_text_of_100_000_words_costs_what_its_length_says(letters):
    context = "c d e f " * 25_000
    windows = cut([ask(context, (100_000, 100_001))] * 2, letters, max_length=384, doc_stride=128)
    assert len(windows) == 2 * 780 and windows.question.tolist() == [0] * 780 + [1] * 780
    assert windows.starts[779][-1] == 199_998 and windows.tokens.lengths.max() == 384
    assert [row for row in range(780) if windows.span_RA2[row, 0, 0]] == [388, 389, 390]


def test_chunks_do_not_change_the_windows(letters, monkeypatch):
    questions = [
        ask(" ".join(LETTERS[: number % 10]), *[(0, 1)][: number % 10]) for number in range(23)
    ]
    whole = cut(questions, letters)
    for limit, value in (("_CHUNK_QUESTIONS", 4), ("_CHUNK_CHARACTERS", 30)):
        with monkeypatch.context() as patch:
            patch.setattr(windows_module, limit, value)
            chunked = cut(iter(questions), letters)
        for field in dataclasses.fields(whole):
            first, second = getattr(whole, field.name), getattr(chunked, field.name)
            for name in ("values", "offsets") if hasattr(first, "offsets") else (None,):
                np.testing.assert_array_equal(
                    *(getattr(part, name) if name else part for part in (first, second))
                )


def test_no_questions_give_no_windows(letters):
    assert (
        list(
            iter_windows(
                [], letters, max_length=9, doc_stride=2, max_question_tokens=2, max_answers=1
            )
        )
        == []
    )
    with pytest.raises(ValueError, match="no windows to join; give at least one question"):
        join_windows([])


def with_marks(text, core):
    """Characters of each token, with the accents after it."""
    places = core.encode(text, add_special_tokens=False).offsets
    nexts = [start for start, _ in places[1:]] + [len(text)]
    return [
        (start, end + len(re.match("\u0301*", text[end : max(end, after)])[0]))
        for (start, end), after in zip(places, nexts)
    ]


def slow_windows(question, core, *, max_length, doc_stride, max_question_tokens, max_answers):
    """The rows of one question, token by token: (tokens, starts, ends, spans)."""
    places_of = with_marks(question.context, core)
    asked = core.encode(question.question, add_special_tokens=False).ids[:max_question_tokens]
    text = core.encode(question.context, add_special_tokens=False)
    room = max_length - 3 - len(asked)
    rows, start = [], 0
    while True:
        part = range(start, min(start + room, len(text.ids)))
        first = len(asked) + 2
        spans = []
        for begin, end in question.spans:
            tokens = [place for place, (s, e) in enumerate(places_of) if e > begin and s < end]
            if tokens and set(tokens) <= set(part):
                slots = (first + tokens[0] - start, first + tokens[-1] - start)
                spans += [] if slots in spans else [slots]
        tokens = [CLS, *asked, SEP, *(text.ids[place] for place in part), SEP]
        starts, ends = zip(*(places_of[place] for place in part), strict=True) if part else ((), ())
        rows.append((tokens, list(starts), list(ends), (spans or [(0, 0)])[:max_answers]))
        if part.stop == len(text.ids):
            return rows
        start += min(doc_stride, room)


TEXTS = strategies.text(alphabet="exoéÉ日本🎬. \n\u0301\u200d\x00z", max_size=40)


@strategies.composite
def asked_texts(draw):
    """A question with answers anywhere in its text."""
    context = draw(TEXTS)
    places = strategies.integers(0, max(len(context) - 1, 0))
    pairs = draw(strategies.lists(strategies.tuples(places, strategies.integers(1, 8)), max_size=4))
    spans = (
        [(start, min(start + length, len(context))) for start, length in pairs] if context else []
    )
    return Question("q", draw(TEXTS), context, (), tuple(spans))


@hypothesis.settings(deadline=None, max_examples=150)
@hypothesis.given(strategies.lists(asked_texts(), min_size=1, max_size=4), strategies.data())
def test_windows_are_those_made_token_by_token_and_cover_every_token(scripts, questions, data):
    asked = data.draw(strategies.integers(1, 5))
    settings = {
        "max_length": data.draw(strategies.integers(asked + 4, 20)),
        "doc_stride": data.draw(strategies.integers(1, 20)),
        "max_question_tokens": asked,
        "max_answers": data.draw(strategies.integers(1, 4)),
    }
    windows = cut(questions, scripts, **settings)
    expected = [slow_windows(question, scripts, **settings) for question in questions]
    assert windows.question.tolist() == [
        number for number, rows in enumerate(expected) for _ in rows
    ]
    for row, (tokens, starts, ends, spans) in enumerate(itertools.chain.from_iterable(expected)):
        assert windows.tokens[row].tolist() == tokens and len(tokens) <= settings["max_length"]
        assert windows.starts[row].tolist() == starts and windows.ends[row].tolist() == ends
        fillers = [(-1, -1)] * (settings["max_answers"] - len(spans))
        assert list(map(tuple, windows.span_RA2[row].tolist())) == spans + fillers
    for number, question in enumerate(questions):
        rows = np.flatnonzero(windows.question == number)
        covered = {
            pair
            for row in rows
            for pair in zip(windows.starts[row].tolist(), windows.ends[row].tolist())
        }
        assert covered == set(with_marks(question.context, scripts))
