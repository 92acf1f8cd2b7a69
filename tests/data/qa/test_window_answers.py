"""Answers are at the slots of the tokens that hold them, in every script."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tests.data.conftest import build_tokenizer
from tests.data.qa.small_windows import SPECIAL, ask, cut, texts_of


def test_an_answer_counts_only_in_windows_that_hold_it_whole(letters):
    context = "c d e f g h i"
    windows = cut(
        [ask(context, (6, 9))], letters
    )  # f g: tokens 3 and 4, over the border of the first window
    assert texts_of(windows, context) == [[], ["f g"], []]
    assert windows.span_RA2[:, 0].tolist() == [[0, 0], [5, 6], [0, 0]]
    windows = cut([ask(context, (8, 9))], letters)  # g in two windows
    assert texts_of(windows, context) == [[], ["g"], ["g"]]


def test_an_answer_longer_than_a_window_is_in_none(letters):
    windows = cut([ask("c d e f g h i", (0, 9))], letters)
    assert windows.span_RA2[:, 0].tolist() == [[0, 0]] * 3 and (windows.span_RA2[:, 1] == -1).all()


def test_equal_answers_count_once_and_the_first_ones_are_kept(letters):
    context = "c d c d"
    question = ask(context, (4, 5), (0, 1), (4, 5), (2, 3))
    assert texts_of(cut([question], letters, max_answers=4), context) == [["c", "c", "d"]]
    windows = cut([question], letters)
    assert windows.span_RA2.tolist() == [[[6, 6], [4, 4]]]


def test_spans_that_differ_by_characters_without_tokens_are_one(letters):
    windows = cut([ask("c  d", (0, 1), (0, 2), (0, 3))], letters)
    assert windows.span_RA2.tolist() == [[[4, 4], [-1, -1]]]


def test_a_span_without_a_token_is_no_answer(letters):
    assert (
        cut([ask("c   d", (2, 3)), ask("c   ", (1, 4)), ask("", (0, 0))], letters)
        .span_RA2[:, 0]
        .tolist()
        == [[0, 0]] * 3
    )


def test_unanswerable_questions_alone_have_windows_that_say_so(letters):
    windows = cut([ask("c d e f g"), ask("c")], letters)
    assert windows.span_RA2.tolist() == [[[0, 0], [-1, -1]]] * 3


def test_an_answer_inside_of_a_token_is_widened_to_the_token(scripts):
    pieces = build_tokenizer((*SPECIAL, "don", "'", "t")).backend_tokenizer
    assert texts_of(cut([ask("Don't", (0, 2), question="")], pieces), "Don't") == [["Don"]]
    assert texts_of(cut([ask("xoz ex", (0, 2), question="")], scripts), "xoz ex") == [
        ["xoz"]
    ]  # an unknown word
    assert texts_of(cut([ask("ex\u0301o", (0, 2), question="")], scripts), "ex\u0301o") == [
        ["ex\u0301"]
    ]


@pytest.mark.parametrize(
    ("context", "answer"),
    [
        ("xo éxé o", "éxé"),
        (
            "xo e\u0301xe\u0301 o",
            "e\u0301xe\u0301",
        ),  # combining accents, which the tokenizer takes off
        ("xo e\u0301xe\u0301", "xe\u0301"),
        ("🎬 xo 🎬 ex", "🎬 ex"),
        ("🎬🎬xo", "xo"),
        ("日本日本", "本日"),
        ("x日本o", "本o"),
        ("👩\u200d👩\u200d👧 ex", "ex"),  # a family, joined of five characters
        ("EX. Ö", "Ö"),
        ("\ufeffex o", "o"),
        ("x\x00o e", "e"),
    ],
)
def test_answers_in_all_scripts_come_back_as_they_were(scripts, context, answer):
    start = context.rindex(answer)
    windows = cut([ask(context, (start, start + len(answer)), question="")], scripts)
    found = [text for texts in texts_of(windows, context) for text in texts]
    assert answer in found
    assert set(found) == {answer}


@pytest.mark.parametrize(
    ("context", "answer"),
    [("a cat, 🎬 naïve", "🎬 naïve"), ("日本 a", "本"), ("e\u0301 cat", "e\u0301")],
)
def test_answers_come_back_from_tokens_of_bytes(context, answer):
    """Several tokens may share a character, and a token may have the space before its word."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    vocab = {
        word: number
        for number, word in enumerate(("<s>", "<pad>", "</s>", "<unk>", *alphabet, "ca", "Ġca"))
    }
    core = Tokenizer(models.BPE(vocab, [("c", "a"), ("Ġ", "ca")], unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    start = context.index(answer)
    windows = cut(
        [ask(context, (start, start + len(answer)))], core, max_length=40, max_question_tokens=3
    )
    assert texts_of(windows, context) == [[answer]]
