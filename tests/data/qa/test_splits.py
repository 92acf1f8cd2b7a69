"""HotpotQA and WikiHop as tasks: their files to splits of rows."""

import json

import numpy as np
import pytest

from adapler_jax.data.qa.tasks import QA_TASKS, load_qa_task, resolve_sources
from tests.data.vocabulary import build_core, words_of

QA_CONFIG = {
    "max_question_tokens": 4,
    "max_sentences": 20,
    "max_answers": 2,
    "max_candidates": 3,
    "max_packed_questions": 2,
    "skip_mismatched": False,
    "num_validation_examples": 0,
}
CORE = build_core()


def hotpot(number):
    names = "abcdefgh"
    context = [[name, [f"{name} x", "y"]] for name in names]
    return {
        "_id": str(number),
        "question": f"q {number}",
        "answer": "h x",
        "supporting_facts": [["h", 0], ["g", 1]],
        "context": context,
        "type": "bridge",
    }


def wikihop(number):
    return {
        "id": str(number),
        "query": f"q {number}",
        "answer": "b",
        "candidates": ["a", "b"],
        "supports": ["c d e f g h i j k"],
    }


def write(folder, item, counts):
    folder.mkdir(exist_ok=True)
    for name, count in counts.items():
        (folder / f"{name}.json").write_text(json.dumps([item(number) for number in range(count)]))
    return f"file:{folder}"


def load(name, source, **changes):
    settings = {"max_length": 32, "qa_config": QA_CONFIG, "source": source} | changes
    return load_qa_task(name, CORE, **settings)


def test_published_hotpotqa_is_trained_chosen_and_reported_on_different_questions(tmp_path):
    source = write(tmp_path, hotpot, {"hotpot_train_v1.1": 40, "hotpot_dev_distractor_v1": 3})
    data = load("hotpotqa", source, split_fractions={"validation": 0.3})
    train, validation, test = (data.splits[name].rows for name in ("train", "validation", "test"))
    assert (
        len(train) + len(validation) == 40
        and not set(train.ids) & set(validation.ids)
        and 4 < len(validation) < 20
    )
    assert (
        data.notes
        == (f"validation: 0.3 of train's questions, by seed 0: {len(validation)} questions",)
        and len(test) == 3
    )
    whole = load("hotpotqa", source, split_fractions={}).splits["train"]
    assert len(whole.rows) == 40


def test_gold_paragraphs_are_in_every_training_row_and_others_stay_as_given(tmp_path):
    source = write(tmp_path, hotpot, {"train": 3, "dev": 3})
    data = load("hotpotqa", source, sources={"validation": f"file:{tmp_path / 'dev.json'}"})
    train, validation = data.splits["train"].rows, data.splits["validation"].rows
    assert (train.span_RA2[:, 0] >= 0).all() and (train.supporting_RS == 1).any(axis=1).all()
    assert (validation.span_RA2 == -1).all() and (validation.supporting_RS != 1).all()
    assert [facts[0] for facts in validation.facts] == [("a", 0)] * 3
    assert (
        train.contexts is None
        and train.starts is None
        and validation.contexts[0].startswith("a\na x y")
    )
    again = load("hotpotqa", source, split_fractions={"validation": 0.3}).splits["train"].rows
    other = load("hotpotqa", source, split_seed=1, split_fractions={}).splits["train"].rows
    assert len(again) <= 3 and not np.array_equal(other.tokens.values, train.tokens.values)


def test_rows_of_hotpotqa_have_the_slots_of_their_head(tmp_path):
    split = load("hotpotqa", write(tmp_path, hotpot, {"train": 2}), split_fractions={}).splits[
        "train"
    ]
    tokenized = split.tokenized()
    assert {name: marks.shape for name, marks in tokenized.head_slots.items()} == {
        "span_BA2": (2, 2, 2),
        "sentence_BX2": (2, 20, 2),
        "support_BX": (2, 20),
    }
    assert tokenized.labels.tolist() == [0, 0] and tokenized.example_ids.tolist() == [0, 1]
    assert all(marks.dtype == np.int32 for marks in tokenized.head_slots.values())


def test_rows_of_wikihop_have_their_markers_and_are_no_group(tmp_path):
    source = write(tmp_path, wikihop, {"train": 2, "train.masked": 1, "dev": 1})
    data = load("wikihop", source, max_length=14, split_fractions={})
    tokenized = data.splits["train"].tokenized()
    assert data.splits["train"].rows.question.tolist() == [0, 0, 1, 1] and tokenized.group == 1
    assert tokenized.labels.tolist() == [1] * 4 and tokenized.example_ids.tolist() == [0, 1, 2, 3]
    for row, slot_K in enumerate(tokenized.head_slots["marker_BK"]):
        assert [words_of(CORE, tokenized.tokens[row])[slot] for slot in slot_K[:2]] == [
            "[unused1]"
        ] * 2
        assert slot_K[2] == -1
    assert set(data.splits) == {"train", "test"}


def test_a_file_given_for_a_split_is_read_whatever_split_its_name_says(tmp_path):
    write(
        tmp_path,
        hotpot,
        {"hotpot_train_v1.1": 1, "hotpot_dev_distractor_v1": 1, "hotpot_dev_fullwiki_v1": 1},
    )
    task, dev = QA_TASKS["hotpotqa"], f"file:{tmp_path / 'hotpot_dev_fullwiki_v1.json'}"
    found = resolve_sources(task, f"file:{tmp_path}", {"test": dev})
    assert found == {"train": (f"file:{tmp_path}", "train"), "test": (dev, "validation")}
    with pytest.raises(ValueError, match="expected one validation file: name the file itself"):
        load("hotpotqa", f"file:{tmp_path}", split_fractions={})
    assert (
        len(
            load("hotpotqa", f"file:{tmp_path}", split_fractions={}, sources={"test": dev})
            .splits["test"]
            .rows
        )
        == 1
    )


def test_a_split_that_receives_no_question_is_reported(tmp_path):
    source = write(tmp_path, hotpot, {"train": 2, "dev": 1})
    with pytest.raises(
        ValueError,
        match=r"split validation received no texts of train .fractions: validation 1e-09.; give",
    ):
        load("hotpotqa", source, split_fractions={"validation": 1e-9})


@pytest.mark.parametrize("name", ["hotpotqa", "wikihop"])
def test_a_missing_folder_is_reported(tmp_path, name):
    with pytest.raises(
        ValueError, match=r"no file or folder .*none'; give file:PATH with an existing path"
    ):
        load(name, f"file:{tmp_path / 'none'}")
