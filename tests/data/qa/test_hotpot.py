"""HotpotQA's questions, by hand: paragraphs, spans of answers and supporting sentences."""

import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies
from tokenizers import normalizers

from adapler_jax.data.qa import hotpot_rows
from adapler_jax.data.qa.hotpot import HotpotQuestion, stream_hotpot
from adapler_jax.data.qa.hotpot_context import choose_paragraphs
from adapler_jax.data.qa.hotpot_rows import (
    ANSWER_TYPES,
    find_answer,
    stream_hotpot_rows,
)
from adapler_jax.data.tokenization.templates import join_chunks
from tests.data.vocabulary import build_core, build_roberta_core, words_of

WORDS = ("who", "made", "film", "she", "did", "was", "ada", "café", "the")
ITEM = {
    "_id": "5a8",
    "question": "Who made film a?",
    "answer": "Ada",
    "supporting_facts": [["Film A", 0], ["Ada", 1], ["Ada", 9], ["Other", 0]],
    "context": [
        ["Film A", ["Ada made it.", " She did. "]],
        ["Ada", ["🎬", "Ada was ada."]],
        ["é", []],
    ],
    "type": "bridge",
}
QUESTION = HotpotQuestion(
    "5a8",
    "Who made film a?",
    "Ada",
    (("Film A", ("Ada made it.", " She did. ")), ("Ada", ("🎬", "Ada was ada.")), ("é", ())),
    (("Film A", 0), ("Ada", 1), ("Ada", 9), ("Other", 0)),
    "bridge",
)
LIMITS = {"max_length": 64, "max_question_tokens": 5, "max_sentences": 5, "max_answers": 3}


def build_rows(questions, core, **limits):
    return join_chunks(list(stream_hotpot_rows(questions, core, **limits)))


def read(folder, item):
    (folder / "hotpot_train_v1.1.json").write_text(json.dumps([item]), encoding="utf-8")
    return list(stream_hotpot(f"file:{folder}", split="train"))


def answer_texts(rows, row):
    """The texts of the spans of a row, through the character offsets of their tokens."""
    found = []
    for first, last in rows.span_RA2[row]:
        if first >= 0:
            start, end = first - rows.context_first[row], last - rows.context_first[row]
            found.append(rows.contexts[row][rows.starts[row][start] : rows.ends[row][end]])
    return found


def test_the_published_form_is_read(tmp_path):
    assert read(tmp_path, ITEM) == [QUESTION]
    path = tmp_path / "hotpot_train_v1.1.json"
    assert list(stream_hotpot(f"file:{path}", split="train")) == [QUESTION]
    untold = {name: value for name, value in ITEM.items() if name != "type"}
    assert read(tmp_path, untold)[0].kind == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_id": None}, "item 1 has None as _id; expected a text"),
        ({"question": 3}, "item 1 has 3 as question"),
        ({"answer": None}, "item 1 has None as answer"),
        (
            {"context": [["A", "text"]]},
            r"'5a8' has .* as context; expected \[\[title, \[sentences\]\]\]",
        ),
        ({"context": [["A", [1]]]}, "as context"),
        ({"context": None}, "has None as context"),
        (
            {"supporting_facts": [["A", "0"]]},
            r"as supporting_facts; expected \[\[title, number\]\]",
        ),
        ({"supporting_facts": [["A"]]}, "as supporting_facts"),
    ],
)
def test_what_is_no_question_is_explained(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, {**ITEM, **change})


def test_an_item_without_names_is_explained(tmp_path):
    with pytest.raises(ValueError, match="item 1 is list; expected an object with named fields"):
        read(tmp_path, [])


def test_every_field_of_a_row():
    core = build_core(WORDS)
    rows = build_rows([QUESTION], core, **LIMITS)
    assert (
        words_of(core, rows.tokens[0])
        == (
            "[CLS] who made film a ? [SEP] [unused1] film a [unused2] ada made i ##t . she did . "
            "[unused1] ada [unused2] 🎬 ada was ada . [unused1] é [unused2] [SEP]"
        ).split()
    )
    assert rows.segments[0].tolist() == [0] * 7 + [1] * 24 and rows.context_first.tolist() == [7]
    text = "Film A\nAda made it. She did. \nAda\n🎬 Ada was ada.\né"
    assert rows.contexts == [text]
    spans = [text[start:end] for start, end in zip(rows.starts[0], rows.ends[0])]
    assert spans == (
        ["", "Film", "A", "", "Ada", "made", "i", "t", ".", "She", "did", "."]
        + ["", "Ada", "", "🎬", "Ada", "was", "ada", ".", "", "é", ""]
    )
    assert rows.span_RA2.tolist() == [[[11, 11], [23, 23], [-1, -1]]] and answer_texts(rows, 0) == [
        "Ada",
        "Ada",
    ]
    assert rows.answer_type.tolist() == [0]
    assert rows.sentence_RS2.tolist() == [[[11, 15], [16, 18], [22, 22], [23, 26], [-1, -1]]]
    assert rows.supporting_RS.tolist() == [[1, 0, 0, 1, -1]]
    assert rows.facts == [(("Film A", 0), ("Film A", 1), ("Ada", 0), ("Ada", 1))]
    assert (
        rows.gold_facts == [QUESTION.supporting_facts]
        and rows.answers == ["Ada"]
        and rows.ids == ["5a8"]
    )
    for array in (
        rows.context_first,
        rows.span_RA2,
        rows.answer_type,
        rows.sentence_RS2,
        rows.supporting_RS,
    ):
        assert array.dtype == np.int32
    assert (
        rows.starts.values.dtype == rows.tokens.values.dtype == np.int32
        and rows.segments.values.dtype == np.int8
    )


@pytest.mark.parametrize(
    ("answer", "kind"), [("yes", 1), ("No", 2), ("no one", 0), ("noanswer", 0)]
)
def test_yes_and_no_are_no_spans(answer, kind):
    facts = (("A", 0),)
    question = HotpotQuestion("1", "q", answer, (("A", ("yes no one",)),), facts, "")
    rows = build_rows([question], build_core(), **LIMITS)
    assert ANSWER_TYPES[rows.answer_type[0]] == {1: "yes", 2: "no", 0: "span"}[kind]
    assert answer_texts(rows, 0) == (["no one"] if answer == "no one" else [])


def test_a_row_is_cut_with_its_sentences_and_answers():
    core = build_core(WORDS)
    cut = build_rows([QUESTION], core, **LIMITS | {"max_length": 18, "max_question_tokens": 3})
    assert words_of(core, cut.tokens[0]) == (
        "[CLS] who made film [SEP] [unused1] film a [unused2] ada made i ##t . she did ."
        " [SEP]".split()
    )
    cut = build_rows([QUESTION], core, **LIMITS | {"max_length": 24, "max_question_tokens": 5})
    assert (
        words_of(core, cut.tokens[0])[-4:] == ["ada", "[unused2]", "🎬", "[SEP]"]
        and len(cut.tokens[0]) == 24
    )
    assert cut.sentence_RS2[0].tolist() == [[11, 15], [16, 18], [22, 22], [-1, -1], [-1, -1]]
    assert cut.supporting_RS[0].tolist() == [1, 0, 0, -1, -1] and len(cut.facts[0]) == 3
    assert cut.span_RA2[0].tolist() == [[11, 11], [-1, -1], [-1, -1]]
    inside = build_rows([QUESTION], core, **LIMITS | {"max_length": 14})
    assert inside.sentence_RS2[0, 0].tolist() == [11, 12] and inside.supporting_RS[0].tolist() == [
        1,
        -1,
        -1,
        -1,
        -1,
    ]
    assert inside.tokens.lengths.tolist() == [14] and inside.starts.lengths.tolist() == [6]


def test_sentences_and_answers_are_counted_off():
    rows = build_rows(
        [QUESTION], build_core(WORDS), **LIMITS | {"max_sentences": 2, "max_answers": 1}
    )
    assert rows.sentence_RS2.tolist() == [[[11, 15], [16, 18]]] and rows.facts[0] == (
        ("Film A", 0),
        ("Film A", 1),
    )
    assert rows.supporting_RS.tolist() == [[1, 0]] and rows.span_RA2.tolist() == [[[11, 11]]]
    assert rows.tokens.lengths.tolist() == [31]


def test_an_answer_that_is_cut_off_is_no_span():
    question = HotpotQuestion("1", "q", "b c", (("A", ("a b c",)),), (("A", 0),), "")
    for length, found in ((12, ["b c"]), (10, ["b c"]), (9, []), (8, [])):
        rows = build_rows(
            [question], build_core(), **LIMITS | {"max_length": length, "max_question_tokens": 1}
        )
        assert answer_texts(rows, 0) == found


@pytest.mark.parametrize(
    ("sentence", "answer", "found"),
    [
        ("ada, adams and Ada", "ada", ["ada"]),
        ("adams", "ada", ["ada"]),
        ("a café é.", "é", ["é"]),
        ("a cafe\u0301 b", "cafe\u0301", ["cafe\u0301"]),
        ("日本日", "日", ["日", "日"]),
        ("x 🎬🎬 y", "🎬🎬", ["🎬🎬"]),
        ("a b", "", []),
        ("a b", " b ", ["b"]),
        ("a b", "c", []),
    ],
)
def test_answers_of_every_script_survive(sentence, answer, found):
    question = HotpotQuestion("1", "q", answer, (("🎬 é", ("日", sentence)),), (("🎬 é", 1),), "")
    assert answer_texts(build_rows([question], build_core(), **LIMITS), 0) == found


def test_accents_that_the_tokenizer_takes_off_are_in_the_answer():
    core = build_core()
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    question = HotpotQuestion(
        "1", "q", "cafe\u0301", (("e\u0301", ("a cafe\u0301 b",)),), (("e\u0301", 0),), ""
    )
    assert answer_texts(build_rows([question], core, **LIMITS), 0) == ["cafe\u0301"]


def test_an_answer_is_whole_if_no_letter_is_next_to_it():
    assert find_answer("ab b b1 (b)", "b", 0, 11) == [
        (1, 2, False),
        (3, 4, True),
        (5, 6, False),
        (9, 10, True),
    ]
    assert find_answer("ab b", "b", 1, 4) == [(1, 2, True), (3, 4, True)]


def test_gold_paragraphs_are_always_chosen():
    def choose(capacity, seed=0):
        return choose_paragraphs(
            [5, 4, 5, 4, 5], [0, 1, 0, 1, 0], capacity, rng=np.random.default_rng(seed)
        )

    assert sorted(choose(0)) == sorted(choose(12)) == [1, 3]
    assert sorted(choose(23)) == [0, 1, 2, 3, 4]
    found = {tuple(choose(18, seed)) for seed in range(60)}
    assert all({1, 3} < set(order) and len(order) == 4 for order in found) and len(found) > 20
    assert choose_paragraphs([], [], 5, rng=np.random.default_rng(0)) == []


def test_training_shuffles_by_its_seed_and_keeps_the_facts():
    core = build_core(WORDS)
    names = "bcdefghijk"
    paragraphs = tuple((name, (f"{name} made film", "she did")) for name in names)
    question = HotpotQuestion("1", "q", "k", paragraphs, (("k", 0), ("c", 1)), "")
    limits = LIMITS | {"max_length": 40, "max_question_tokens": 1, "max_sentences": 80}
    orders = set()
    for seed in range(8):
        rows = build_rows([question], core, **limits, shuffle_seed=seed)
        again = build_rows([question], core, **limits, shuffle_seed=seed)
        np.testing.assert_array_equal(rows.tokens.values, again.tokens.values)
        assert answer_texts(rows, 0) == ["k"] and (rows.supporting_RS[0] == 1).sum() == 2
        assert len(rows.facts[0]) == 8 and rows.tokens.lengths[0] <= 40
        orders.add(rows.facts[0])
    assert len(orders) == 8
    two = build_rows([question, question], core, **limits, shuffle_seed=0)
    assert two.facts[0] != two.facts[1]


def test_markers_must_be_in_the_vocabulary_and_others_may_be_named():
    with pytest.raises(ValueError, match=r"the vocabulary has no '\[unused1\]'"):
        build_rows([QUESTION], build_roberta_core(), **LIMITS)
    core = build_roberta_core()
    core.add_special_tokens(["<title>", "</title>"])
    rows = build_rows(
        [QUESTION], core, **LIMITS | {"max_length": 99}, markers=("<title>", "</title>")
    )
    assert answer_texts(rows, 0) == ["Ada", "Ada"] and "🎬" in rows.contexts[0]


def test_lengths_without_room_for_a_context_are_rejected():
    with pytest.raises(
        ValueError, match="max_length 83 holds no context after 80 question tokens; raise it"
    ):
        build_rows([], build_core(), max_length=83)


def test_no_questions_are_no_rows():
    rows = build_rows([], build_core())
    assert (
        len(rows) == 0
        and rows.span_RA2.shape == (0, 8, 2)
        and rows.sentence_RS2.shape == (0, 80, 2)
    )


TEXTS = strategies.text(alphabet="ab é🎬\u0301日\ud83c.\n", max_size=12)
PARAGRAPHS = strategies.lists(
    strategies.tuples(TEXTS, strategies.lists(TEXTS, max_size=3).map(tuple)), max_size=4
).map(tuple)


@settings(deadline=None, max_examples=80)
@given(
    paragraphs=PARAGRAPHS,
    answer=TEXTS,
    seed=strategies.none() | strategies.integers(0, 9),
    length=strategies.integers(10, 60),
    chunk=strategies.integers(1, 3),
)
def test_rows_never_exceed_their_length_and_hold_every_slot(
    paragraphs, answer, seed, length, chunk
):
    facts = tuple((title, 0) for title, sentences in paragraphs if sentences)[:2]
    questions = [
        HotpotQuestion(str(number), "who a", answer, paragraphs, facts, "") for number in range(4)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hotpot_rows, "_CHUNK", chunk)
        rows = build_rows(
            questions, build_core(), max_length=length, max_question_tokens=6, shuffle_seed=seed
        )
    assert rows.ids == ["0", "1", "2", "3"] and rows.tokens.lengths.max() <= length
    for row in range(4):
        first, last = rows.context_first[row], len(rows.tokens[row]) - 1
        assert len(rows.starts[row]) == len(rows.ends[row]) == last - first
        assert (rows.starts[row] <= rows.ends[row]).all() and (
            rows.ends[row] <= len(rows.contexts[row])
        ).all()
        bounds = rows.sentence_RS2[row][: len(rows.facts[row])]
        assert (
            (first <= bounds).all()
            and (bounds < last).all()
            and (bounds[:, 0] <= bounds[:, 1]).all()
        )
        assert (rows.sentence_RS2[row][len(bounds) :] == -1).all()
        assert (rows.supporting_RS[row] >= 0).sum() == len(bounds)
        assert (
            (rows.span_RA2[row] == -1)
            | ((rows.span_RA2[row] >= first) & (rows.span_RA2[row] < last))
        ).all()
