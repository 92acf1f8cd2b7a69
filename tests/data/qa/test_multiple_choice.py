"""Questions with options are read in every published form; each option is one row."""

import json
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings, strategies

from adapler_jax.data.qa import multiple_choice, multiple_choice_files
from adapler_jax.data.qa.multiple_choice import (
    MultipleChoiceQuestion,
    build_multiple_choice_rows,
    stream_multiple_choice_rows,
)
from adapler_jax.data.qa.multiple_choice_files import stream_multiple_choice
from tests.data.vocabulary import build_core, build_roberta_core, words_of

WORDS = ("the", "film", "was", "good", "bad", "who", "is", "she", "man", "café")
FLAT = {
    "example_id": "1-0",
    "article": "é 🎬",
    "question": "Who?",
    "options": ["the man", "she"],
    "label": 1,
}
RACE = {
    "id": "high1.txt",
    "article": "The film\nwas good.",
    "questions": ["The film was _ .", "Who?"],
    "options": [["bad", "good", "A", "B"], ["she", "a man", "日本", ""]],
    "answers": ["B", "D"],
}
DREAM = [
    ["M: Who is she?", "W: A man."],
    [
        {"question": "Who?", "choice": ["she", "a man"], "answer": "a man"},
        {"question": "q", "choice": ["A", "B"], "answer": "A"},
    ],
    "5-510",
]
RACE_QUESTIONS = [
    MultipleChoiceQuestion(
        "high1.txt-0", "The film\nwas good.", "The film was _ .", ("bad", "good", "A", "B"), 1
    ),
    MultipleChoiceQuestion(
        "high1.txt-1", "The film\nwas good.", "Who?", ("she", "a man", "日本", ""), 3
    ),
]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def read(folder, item, split="train"):
    write(folder / f"{split}.jsonl", json.dumps(item) + "\n")
    return list(stream_multiple_choice(f"file:{folder}", split=split))


def ask(article, question, options, label=0, name="q"):
    return MultipleChoiceQuestion(name, article, question, tuple(options), label)


def test_lines_of_named_fields_are_questions(tmp_path):
    assert read(tmp_path, FLAT) == [
        MultipleChoiceQuestion("1-0", "é 🎬", "Who?", ("the man", "she"), 1)
    ]
    assert read(tmp_path, {**FLAT, "label": None, "answer": "A"})[0].label == 0
    assert read(tmp_path, {**FLAT, "label": None, "answer": "she"})[0].label == 1
    assert (
        read(tmp_path, {**FLAT, "options": ["3", "5"], "label": None, "answer": "5"})[0].label == 1
    )
    assert [
        read(tmp_path, {**FLAT, "label": label})[0].label for label in (1.0, "1", "1.0", "she")
    ] == [1] * 4
    assert (
        read(tmp_path, {**FLAT, "options": ["1", "0"], "label": "1"})[0].label == 0
    )  # the text of an option
    assert read(tmp_path, {**FLAT, "example_id": None, "id": 7}, "validation")[0].id == "7"
    (found,) = stream_multiple_choice(f"file:{tmp_path}/validation.jsonl", split="validation")
    assert found.id == "7"


@pytest.mark.parametrize("link", ["dev", "dev/high", "dev/high/1.txt"])
def test_links_out_of_the_folder_of_race_are_rejected(tmp_path, link):
    write(tmp_path / "away" / "high" / "1.txt", json.dumps(RACE))
    target = tmp_path / "away" / pathlib.Path(link).relative_to("dev")
    (tmp_path / "data" / link).parent.mkdir(parents=True)
    (tmp_path / "data" / link).symlink_to(target)
    with pytest.raises(ValueError, match="which is outside of"):
        list(stream_multiple_choice(f"file:{tmp_path / 'data'}", split="validation", level="high"))


def test_race_is_read_as_it_is_published(tmp_path):
    write(tmp_path / "dev/high/1.txt", json.dumps(RACE))
    write(tmp_path / "dev/middle/9.txt", json.dumps({**RACE, "id": "middle9.txt"}, indent=1))
    write(tmp_path / "train/high/1.txt", json.dumps({**RACE, "id": "other"}))
    source = f"file:{tmp_path}"
    assert list(stream_multiple_choice(source, split="validation", level="high")) == RACE_QUESTIONS
    names = [question.id for question in stream_multiple_choice(source, split="validation")]
    assert names == ["middle9.txt-0", "middle9.txt-1", "high1.txt-0", "high1.txt-1"]
    with pytest.raises(ValueError, match="RACE has the levels middle and high; found 'low'"):
        stream_multiple_choice(source, split="validation", level="low")
    with pytest.raises(ValueError, match=r"holds no .txt files of RACE"):
        stream_multiple_choice(source, split="train", level="middle")


def test_dream_is_read_as_it_is_published(tmp_path):
    write(tmp_path / "dev.json", json.dumps([DREAM, [*DREAM[:2], "5-511"]]))
    found = list(stream_multiple_choice(f"file:{tmp_path}", split="validation"))
    article = "M: Who is she?\nW: A man."
    assert found[0] == MultipleChoiceQuestion("5-510-0", article, "Who?", ("she", "a man"), 1)
    assert [question.id for question in found] == ["5-510-0", "5-510-1", "5-511-0", "5-511-1"]


def test_letters_are_indices_even_if_options_are_letters(tmp_path):
    swapped = {**RACE, "questions": ["q"], "options": [["B", "A"]], "answers": ["A"]}
    assert read(tmp_path, swapped)[0].label == 0
    dream = [["M: q"], [{"question": "q", "choice": ["B", "A"], "answer": "A"}], "1"]
    assert read(tmp_path, dream)[0].label == 1


def test_other_sources_are_tables(tmp_path, monkeypatch):
    write(tmp_path / "x/train.jsonl", json.dumps(RACE))
    tables = multiple_choice_files.load_source(f"file:{tmp_path}/x")
    monkeypatch.setattr(multiple_choice_files, "load_source", lambda source: tables)
    assert list(stream_multiple_choice("hf:race", split="train")) == RACE_QUESTIONS
    with pytest.raises(ValueError, match="hf:race has no split 'test'; there are train"):
        stream_multiple_choice("hf:race", split="test")


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (
            {**FLAT, "example_id": ""},
            "line 1 has no id; give it a unique text as 'example_id' or 'id'",
        ),
        ({**FLAT, "article": None}, "has None as article; expected a text"),
        ({**FLAT, "question": 3}, "has 3 as question; expected a text"),
        ({**FLAT, "options": ["a", 1]}, "has 1 as option; expected a text"),
        (
            {**FLAT, "options": ["a"]},
            "question '1-0' has ..a.. as options; expected a list of at least 2",
        ),
        (
            {**FLAT, "label": 2},
            "'1-0' has the answer 2, which is none of its 2 options; expected a number from 0 to 1",
        ),
        ({**FLAT, "label": -1}, "has the answer -1"),
        ({**FLAT, "label": True}, "has the answer True"),
        ({**FLAT, "label": "C"}, "has the answer 'C'"),
        (
            {**FLAT, "options": ["B", "A"], "label": None, "answer": "A"},
            "'A', a letter and the text of another option",
        ),
        (
            {**FLAT, "label": "he"},
            "has the answer 'he', which is none of its 2 options; expected the text of one",
        ),
        (
            {**RACE, "answers": ["B"]},
            "questions, options and answers are 2, 2, 1; expected lists of one length",
        ),
        ({**RACE, "answers": None}, "questions, options and answers are 2, 2, None"),
        ({**RACE, "answers": ["B", "d"]}, "question 'high1.txt-1' has the answer 'd'"),
        ([*DREAM[:2], None], "has no id"),
        (DREAM[:2], "expected .turns, questions, id. as DREAM has it"),
        ([["a"], ["b"], "1"], "question 0 is 'b'; expected question, choice and answer"),
        (
            [["a"], [{"question": "q", "choice": ["x", "y"], "answer": "z"}], "1"],
            "has the answer 'z'",
        ),
        ("text", "line 1 is str; expected an object with named fields"),
    ],
)
def test_what_is_no_question_is_explained(tmp_path, item, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, item)


def test_another_number_of_options_is_named(tmp_path):
    more = {**FLAT, "example_id": "9", "options": ["a", "b", "c"]}
    write(tmp_path / "train.jsonl", "\n".join(map(json.dumps, [FLAT, FLAT, more])))
    found = stream_multiple_choice(f"file:{tmp_path}", split="train")
    assert next(found) == next(found)
    message = r"question 3 \('9'\) has 3 options; expected 2, as question 1 has: leave it out"
    with pytest.raises(ValueError, match=message):
        next(found)
    with pytest.raises(ValueError, match="question 2"):
        build_multiple_choice_rows(
            [ask("", "", "ab"), ask("", "", "abc")], build_core(), max_length=8, max_option_tokens=2
        )


def test_rows_are_article_question_and_option():
    core = build_core(WORDS)
    questions = [
        ask("The film was good.", "Was _ good?", ["film", "the man"], 1, "x"),
        ask("é 🎬", "", ["", "café"]),
    ]
    rows = build_multiple_choice_rows(questions, core, max_length=32, max_option_tokens=8)
    article, asked = (
        ["[CLS]", "the", "film", "was", "good", ".", "[SEP]"],
        ["was", "_", "good", "?"],
    )
    assert [words_of(core, rows.tokens[row]) for row in range(4)] == [
        [*article, *asked, "film", "[SEP]"],
        [*article, *asked, "the", "man", "[SEP]"],
        ["[CLS]", "é", "🎬", "[SEP]", "[SEP]"],
        ["[CLS]", "é", "🎬", "[SEP]", "café", "[SEP]"],
    ]
    assert rows.segments[0].tolist() == [0] * 7 + [1] * 6 and rows.segments[2].tolist() == [
        0,
        0,
        0,
        0,
        1,
    ]
    assert rows.labels.tolist() == [0, 1, 1, 0] and rows.question.tolist() == [0, 0, 1, 1]
    assert (rows.num_options, rows.ids, len(rows)) == (2, ["x", "q"], 4)
    kinds = [rows.tokens.values, rows.segments.values, rows.labels, rows.question]
    assert [array.dtype for array in kinds] == [np.int32, np.int8, np.int32, np.int32]


def test_the_article_makes_room_for_the_longest_option():
    core = build_core(WORDS)
    rows = build_multiple_choice_rows(
        [ask("the film was good . she is bad", "who", ["man", "the film was"])],
        core,
        max_length=12,
        max_option_tokens=5,
    )
    article = ["[CLS]", "the", "film", "was", "good", ".", "[SEP]"]
    assert words_of(core, rows.tokens[0]) == [*article, "who", "man", "[SEP]"]
    assert words_of(core, rows.tokens[1]) == [*article, "who", "the", "film", "was", "[SEP]"]
    assert rows.tokens.lengths.tolist() == [10, 12]


def test_a_long_question_loses_its_beginning_so_that_options_differ():
    core = build_core(WORDS)
    rows = build_multiple_choice_rows(
        [ask("the", "who is the man", ["good", "bad"])], core, max_length=8, max_option_tokens=3
    )
    assert [words_of(core, rows.tokens[row])[-4:-1] for row in range(2)] == [
        ["the", "man", "good"],
        ["the", "man", "bad"],
    ]


def test_robertas_form_has_two_ends_in_the_middle_and_one_segment():
    core = build_roberta_core()
    rows = build_multiple_choice_rows(
        [ask("a", "b", ["c", "d"])], core, max_length=12, max_option_tokens=4
    )
    assert words_of(core, rows.tokens[1]) == ["<s>", "a", "</s>", "</s>", "b", "Ġ", "d", "</s>"]
    assert not rows.segments.values.any()


@pytest.mark.parametrize(
    ("max_length", "max_option_tokens"), [(128, 128), (131, 128), (8, 0), (2, 1)]
)
def test_lengths_without_room_for_an_article_are_rejected(max_length, max_option_tokens):
    with pytest.raises(
        ValueError, match="and no article; expected max_option_tokens between 1 and"
    ):
        build_multiple_choice_rows(
            [], build_core(), max_length=max_length, max_option_tokens=max_option_tokens
        )


def test_no_questions_are_no_rows():
    rows = build_multiple_choice_rows([], build_core(), max_length=512)
    assert (len(rows), rows.num_options, rows.ids) == (0, 0, []) and rows.labels.dtype == np.int32


def test_chunks_change_no_row_and_an_article_is_tokenized_once(monkeypatch):
    core = build_core(WORDS)
    questions = [
        ask(f"the film {number // 3}", f"who {number}", "ab", number % 2, str(number))
        for number in range(7)
    ]
    whole = build_multiple_choice_rows(questions, core, max_length=24, max_option_tokens=12)
    seen, original = [], multiple_choice.token_rows
    monkeypatch.setattr(
        multiple_choice,
        "token_rows",
        lambda core, texts: seen.append(len(texts)) or original(core, texts),
    )
    monkeypatch.setattr(multiple_choice, "_CHUNK", 3)
    chunked = build_multiple_choice_rows(questions, core, max_length=24, max_option_tokens=12)
    assert seen == [1, 6, 1, 6, 1, 2]
    for name in ("labels", "question"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(chunked, name))
    for name in ("tokens", "segments"):
        np.testing.assert_array_equal(getattr(whole, name).values, getattr(chunked, name).values)
        np.testing.assert_array_equal(getattr(whole, name).offsets, getattr(chunked, name).offsets)
    assert chunked.ids == whole.ids == [str(number) for number in range(7)]
    parts = list(
        stream_multiple_choice_rows(iter(questions), core, max_length=24, max_option_tokens=12)
    )
    assert [part.question.tolist()[-1] for part in parts] == [2, 2, 0]


TEXTS = strategies.text(alphabet="ab é🎬\u0301日\ud83c.?\n", max_size=20)
SETS = strategies.integers(2, 4).flatmap(
    lambda count: strategies.lists(
        strategies.builds(
            MultipleChoiceQuestion,
            id=strategies.just("q"),
            article=TEXTS,
            question=TEXTS,
            options=strategies.lists(TEXTS, min_size=count, max_size=count).map(tuple),
            label=strategies.integers(0, count - 1),
        ),
        min_size=1,
        max_size=3,
    )
)


@settings(deadline=None, max_examples=80)
@given(
    questions=SETS,
    max_length=strategies.integers(12, 40),
    max_option_tokens=strategies.integers(1, 8),
)
def test_rows_hold_every_option_and_a_beginning_of_the_article(
    questions, max_length, max_option_tokens
):
    core = build_core()
    rows = build_multiple_choice_rows(
        questions, core, max_length=max_length, max_option_tokens=max_option_tokens
    )
    num_options = rows.num_options
    assert len(rows) == num_options * len(questions) and rows.tokens.lengths.max() <= max_length
    assert rows.labels.reshape(-1, num_options).sum(1).tolist() == [1] * len(questions)
    for number, question in enumerate(questions):
        articles = set()
        for place, option in enumerate(question.options):
            row = rows.tokens[number * num_options + place].tolist()
            segments = rows.segments[number * num_options + place]
            first, second = row[: int((segments == 0).sum())], row[int((segments == 0).sum()) :]
            whole, wanted = multiple_choice.token_rows(
                core, [question.article, f"{question.question} {option}"]
            )
            assert second == [*wanted[-max_option_tokens:], 3] and (first[0], first[-1]) == (2, 3)
            assert first[1:-1] == whole[: len(first) - 2].tolist()
            articles.add(tuple(first))
        assert len(articles) == 1
        widest = rows.tokens.lengths[number * num_options : (number + 1) * num_options].max()
        assert widest == max_length or len(first) - 2 == len(whole)
