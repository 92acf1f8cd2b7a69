"""Sentences with tags from CoNLL files, JSON and tables, and in tokens."""

import gzip
import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from adapler_jax.data.tagging.rows import tokenize_sentences
from adapler_jax.data.tagging.sentences import Sentences, describe, load_sentences
from adapler_jax.heads.token_classification import TAGS
from tests.data.vocabulary import build_core, words_of

CONLL = """-DOCSTART- -X- O

Ann NNP B-PER
Lee NNP I-PER
saw VBD O

York NNP B-LOC
"""
ROWS = [
    {"words": ["Ann", "Lee", "saw"], "tags": ["B-PER", "I-PER", "O"]},
    {"words": ["York"], "tags": ["B-LOC"]},
]
WORDS = [tuple(row["words"]) for row in ROWS]
WHOLE = {"split_fractions": {"validation": 0}}


def load(source, **options):
    return load_sentences("custom_tokens", source=f"file:{source}", **(WHOLE | options))


def write_json(path, rows):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@pytest.mark.parametrize("name", ["train.conll", "train.txt", "train.conll.gz"])
def test_a_conll_file_has_words_first_and_tags_last(tmp_path, name):
    content = CONLL.encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    data = load(path)
    assert data.splits["train"].words == WORDS
    assert data.splits["train"].tags == [tuple(row["tags"]) for row in ROWS]
    assert data.task.class_names == ("O", "B-LOC", "B-PER", "I-PER")


def test_tabs_may_divide_the_columns_and_words_may_have_blanks(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text("New York\tB-LOC\n.\tO\n \n\nAnn\tB-PER")
    assert load(path).splits["train"].words == [("New York", "."), ("Ann",)]


def test_a_folder_has_files_by_split_and_a_table_has_lists(tmp_path):
    for name in ("train.txt", "dev.conll"):
        (tmp_path / name).write_text(CONLL)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "test.parquet")
    data = load(tmp_path)
    assert list(data.splits) == ["train", "validation", "test"]
    assert all(part.words == WORDS for part in data.splits.values())
    assert describe(data)[0] == "data: 4 tags of words in 2 train, 2 validation, 2 test sentences"
    assert describe(data)[1] == "train: 4 words: B-PER 1, I-PER 1, O 1, B-LOC 1"


@pytest.mark.parametrize("is_old", [False, True])
def test_numbered_tags_have_the_names_that_a_file_of_the_hub_stores(tmp_path, is_old):
    names = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    label = {"names": names, "_type": "ClassLabel"}
    feature = [label] if is_old else {"feature": label, "_type": "List"}
    rows = [
        {"tokens": row["words"], "ner_tags": [names.index(tag) for tag in row["tags"]]}
        for row in ROWS
    ]
    facts = {"huggingface": json.dumps({"info": {"features": {"ner_tags": feature}}})}
    table = pyarrow.Table.from_pylist(rows).replace_schema_metadata(facts)
    pyarrow.parquet.write_table(table, tmp_path / "train.parquet")
    columns = {"words": "tokens", "tags": "ner_tags"}
    data = load(tmp_path / "train.parquet", columns=columns)
    assert data.splits["train"].tags == [tuple(row["tags"]) for row in ROWS]
    assert data.task.class_names == tuple(names)
    other = load(tmp_path / "train.parquet", columns=columns, class_names=names[::-1])
    assert other.task.class_names == tuple(names[::-1])
    bare = pyarrow.Table.from_pylist(rows)
    pyarrow.parquet.write_table(bare, tmp_path / "bare.parquet")
    with pytest.raises(ValueError, match="row 1 has 1 among its tags; expected texts: give the t"):
        load(tmp_path / "bare.parquet", columns=columns)


def test_columns_have_names_and_lists_may_be_texts_of_json(tmp_path):
    path = tmp_path / "a.csv"
    cells = [[json.dumps(row[key]).replace('"', '""') for key in row] for row in ROWS]
    path.write_text("tokens,ner\n" + "".join(f'"{words}","{tags}"\n' for words, tags in cells))
    data = load(path, columns={"words": "tokens", "tags": "ner"})
    assert data.splits["train"].words == WORDS


def test_validation_is_split_off_and_train_is_drawn(tmp_path):
    path = write_json(tmp_path / "a.jsonl", ROWS * 10)
    data = load(path, split_fractions={"validation": 0.1}, num_train_examples=5)
    assert {name: len(part) for name, part in data.splits.items()} == {"train": 5, "validation": 2}
    assert any("5 of 18 sentences drawn" in note for note in data.notes)


def test_the_tags_of_a_model_are_taken_if_they_include_the_datas(tmp_path):
    path = write_json(tmp_path / "a.jsonl", ROWS)
    own = ("I-PER", "O", "MISC", "B-PER", "B-LOC")
    assert load(path, own_names=own).task.class_names == own
    assert load(path, own_names=own[1:]).task.class_names == ("O", "B-LOC", "B-PER", "I-PER")


def test_the_first_token_of_a_word_has_its_tag():
    core = build_core(["ann"])
    sentences = Sentences(
        [("Ann", "Lee", "!!"), ("ab", "c")], [("B", "I", "O"), ("O", "B")], "here"
    )
    rows = tokenize_sentences(sentences, core, ("O", "B", "I"), max_length=6)
    assert words_of(core, rows.tokenized.tokens[0]) == ["[CLS]", "ann", "l", "##e", "##e", "[SEP]"]
    found_BL = rows.tokenized.head_slots[TAGS]
    np.testing.assert_array_equal(found_BL, [[-1, 1, 2, -1, -1, -1], [-1, 0, -1, 1, -1, -1]])
    assert [slot_W.tolist() for slot_W in rows.slots] == [[1, 2, -1], [1, 3]]
    assert rows.num_lost == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"words": "Ann Lee", "tags": ["O"]}, "row 2 has 'Ann Lee' as words; expected a list: spl"),
        ({"words": ["Ann", 3], "tags": ["O", "O"]}, "row 2 has 3 among its words; expected texts"),
        ({"words": ["Ann"], "tags": [7]}, "row 2 has 7 among its tags; expected texts: give the"),
        ({"words": ["Ann"], "tags": None}, "row 2 has None as tags; expected a list"),
        (
            {"words": ["Ann"], "tags": ["O", "O"]},
            "row 2 has 1 words and 2 tags; expected a tag for",
        ),
        ({"words": 5, "tags": 7}, "row 2 has 5 as words; expected a list"),
        ({"words": ["Ann"], "tags": [""]}, "row 2 has '' among its tags; expected texts: give"),
        ({"words": [], "tags": []}, "row 2 has no words; config.data.skip_incomplete=True leaves"),
    ],
)
def test_wrong_rows_are_named(tmp_path, row, message):
    with pytest.raises(ValueError, match=message):
        load(write_json(tmp_path / "a.jsonl", [ROWS[0], row]))


def test_rows_without_words_are_left_out_on_request(tmp_path):
    path = write_json(tmp_path / "a.jsonl", [*ROWS, {"words": [], "tags": []}, {"words": None}])
    data = load(path, skip_incomplete=True)
    assert len(data.splits["train"]) == 2 and "2 of 4 rows are left out" in data.notes[0]
    path = write_json(tmp_path / "b.jsonl", [{"words": None}, {"words": ["a"], "tags": [1]}])
    with pytest.raises(ValueError, match="row 2 has 1 among its tags"):
        load(path, skip_incomplete=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"columns": {"words": "text"}},
            r"has no 'text'; there are words, tags; name both with --",
        ),
        ({"columns": {"text": "words"}}, "unknown column role 'text'; .*known: words, tags"),
        ({"class_names": ("O", "B-PER")}, "the word 'Lee' of 'Ann Lee saw': unknown tag 'I-PER'"),
    ],
)
def test_wrong_options_are_named(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        load(write_json(tmp_path / "a.jsonl", ROWS), **options)


def test_a_tag_that_train_lacks_is_named(tmp_path):
    write_json(tmp_path / "train.jsonl", ROWS)
    write_json(tmp_path / "validation.jsonl", [{"words": ["a"], "tags": ["B-ORG"]}])
    with pytest.raises(ValueError, match=r"validation.jsonl: the word 'a' of 'a': unknown tag 'B"):
        load(tmp_path)
