import dataclasses
import io

import numpy as np
import pytest

from adapler_jax.data.qa.questions import Question
from adapler_jax.inference.prediction import Prediction
from adapler_jax.inference.text_reader import QAPrediction
from adapler_jax.inference.words import Word, last_kept_words
from adapler_jax.io.messages import one_line
from adapler_jax.serving.highlight import (
    has_colour,
    highlight_answers,
    highlight_kept,
    highlight_predictions,
    print_predictions,
)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def make_prediction(texts, kept, *, num_read=100):
    """Words between blanks; `kept` names those that the only layer ran on."""
    words = []
    for part, text in enumerate(texts):
        offset = 0
        for word in text.split():
            start = text.index(word, offset)
            offset = start + len(word)
            words.append(Word(word, part, start, offset))
    words, is_cut = tuple(words[:num_read]), len(words) > num_read
    return Prediction(
        texts=texts,
        label="pos",
        probability=0.871,
        probabilities={"neg": 0.129, "pos": 0.871},
        words=words,
        keep_NW=np.array([[True] * len(words), [word.text in kept for word in words]]),
        num_tokens=(len(words) + 2, 3),
        is_cut=is_cut,
    )


def test_kept_words_stand_in_brackets():
    assert (
        highlight_kept(make_prediction(("a fine film , really",), {"fine", "really"}))
        == "a [fine] film , [really]"
    )


def test_neighbours_share_a_mark():
    assert (
        highlight_kept(make_prediction(("a  very good film",), {"very", "good"}))
        == "a  [very good] film"
    )


def test_other_layers_can_be_asked_for():
    assert highlight_kept(make_prediction(("a film",), set()), layer=0) == "[a film]"


def test_nothing_kept_is_the_text_itself():
    assert highlight_kept(make_prediction((" a film ",), set())) == "a film"
    assert highlight_kept(make_prediction(("",), set())) == ""


def test_what_was_not_read_is_cut():
    assert (
        highlight_kept(make_prediction(("a good film and more",), {"good"}, num_read=3))
        == "a [good] film ..."
    )


def test_pairs_are_told_apart():
    assert highlight_kept(make_prediction(("a b", "c d"), {"b", "c"})) == "a [b] | [c] d"


def test_colour_marks_the_same_words():
    marked = highlight_kept(make_prediction(("a fine film",), {"fine"}), colour=True)
    assert marked == "a \x1b[1;32mfine\x1b[0m film"


def test_texts_cannot_steer_the_terminal():
    assert one_line("a\x1b[2Jb\r\nc\u202ed\u200b") == "a [2Jb  c d "
    assert one_line("日本 é") == "日本 é"


def test_a_paragraph_a_prediction():
    prediction = make_prediction(("a fine film",), {"fine"})
    assert highlight_predictions([prediction] * 2) == "\n\n".join(
        ["pos (87%), tokens per layer 5 3:\na [fine] film"] * 2
    )


@pytest.mark.parametrize("refused", [True, False])
def test_colour_is_for_terminals_that_want_it(monkeypatch, refused):
    monkeypatch.setenv("NO_COLOR", "1" if refused else "")
    assert has_colour(Terminal()) is not refused
    assert not has_colour(io.StringIO())


def test_a_file_gets_brackets_and_a_terminal_colour(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    for stream, expected in ((io.StringIO(), "[fine]"), (Terminal(), "\x1b[1;32mfine")):
        print_predictions([make_prediction(("a fine film",), {"fine"})], stream=stream)
        assert expected in stream.getvalue()


def test_no_predictions_print_nothing(capsys):
    print_predictions([])
    assert capsys.readouterr().out == ""


def test_a_question_stands_over_its_answer_and_text():
    context = "a fine\x1b film"
    words = tuple(
        Word(text, 0, start, end)
        for text, start, end in (("a", 0, 1), ("fine", 2, 6), ("film", 8, 12))
    )
    reading = QAPrediction(
        question="how ?",
        context=context,
        text="fine",
        score=1.0,
        probability=0.9,
        start=2,
        end=6,
        answers=(),
        words=words,
        keep_NW=np.array([[True, True, True], [False, True, False]]),
        is_cut=False,
    )
    questions = [
        Question("1", "how ?", context, ("fine", "good"), ((2, 6),)),
        Question("2", "how ?", context, (), ()),
    ]
    pairs = [(questions[0], reading), (questions[1], dataclasses.replace(reading, text=""))]
    assert highlight_answers(pairs) == (
        "how ?\nfine (90%), accepted: fine / good\na [fine]  film\n\n"
        "how ?\nno answer (90%), accepted: no answer\na [fine]  film"
    )


@pytest.mark.parametrize(
    ("text", "num_tokens", "expected"),
    [
        ("a fine film", (5, 1), "a fine film (only [CLS] is left)"),
        ("a fine film", (5, 2), "a fine film (no word is left)"),
        ("  ", (2, 1), "(empty text)"),
    ],
)
def test_a_text_without_kept_words_says_so(text, num_tokens, expected):
    prediction = dataclasses.replace(make_prediction((text,), set()), num_tokens=num_tokens)
    assert highlight_predictions([prediction]).endswith(f":\n{expected}")


def test_a_last_layer_of_cls_alone_shows_the_words_before_it():
    prediction = make_prediction(("a fine film",), {"fine"})
    keep_NW = np.concatenate([prediction.keep_NW, np.zeros_like(prediction.keep_NW[:1])])
    num_tokens = (*prediction.num_tokens, 1)
    prediction = dataclasses.replace(prediction, keep_NW=keep_NW, num_tokens=num_tokens)
    layer = len(keep_NW) - 1
    assert highlight_predictions([prediction]).endswith(
        f":\na [fine] film (words of layer {layer}; then only [CLS] is left)"
    )
    assert last_kept_words(prediction) == ["fine"]
