"""TriviaQA's questions come with each of their documents, which stay inside their folder."""

import json

import pytest

from adapler_jax.data.qa.questions import Question, ReadStats, find_answers
from tests.data.qa.published import lines, read


def test_triviaqas_files_give_a_question_a_document(tmp_path):
    answers = {
        "Value": "London",
        "Aliases": ["Londres", "Lon-don"],
        "NormalizedAliases": ["londres"],
    }
    pages = [{"Filename": "Ada.txt"}, {"Filename": "gone.txt"}, {"Title": "no file"}]
    rows = [
        {"QuestionId": "tc_1", "Question": "Where?", "Answer": answers, "EntityPages": pages},
        {"QuestionId": "tc_2", "Question": "Where?", "SearchResults": [{"Filename": "1/1.txt"}]},
    ]
    for name, text in (
        ("wikipedia/Ada.txt", "Ada in LONDON,\nnot in Londonderry"),
        ("web/1/1.txt", ""),
    ):
        (tmp_path / "evidence" / name).parent.mkdir(parents=True)
        (tmp_path / "evidence" / name).write_text(text, encoding="utf-8")
    (tmp_path / "qa").mkdir()
    path, stats = tmp_path / "qa" / "wikipedia-train.json", ReadStats()
    content = json.dumps({"Data": rows, "Domain": "Wikipedia", "Version": 1.0}, indent=4)
    aliases = ("Londres", "Lon-don", "London")
    assert read(path, content, skip_mismatched=True, stats=stats) == [
        Question(
            "tc_1--Ada.txt", "Where?", "Ada in LONDON,\nnot in Londonderry", aliases, ((7, 13),)
        ),
        Question("tc_2--1/1.txt", "Where?", "", (), ()),
    ]
    assert (stats.num_questions, stats.num_skipped) == (2, 1) and "gone.txt" in stats.first_skipped
    with pytest.raises(ValueError, match=r"item 1 \(id tc_1--gone.txt\): there is no document"):
        read(path, content)


@pytest.mark.parametrize(
    "name",
    [
        "../../../outside.txt",
        "/etc/hostname",
        "link.txt",
        "folder/../../../../outside.txt",
        "..",
        "a\0b",
        3,
        "",
    ],
)
def test_documents_outside_of_their_folder_are_rejected(tmp_path, name):
    (tmp_path / "evidence" / "web").mkdir(parents=True)
    (tmp_path / "outside.txt").write_text("secret")
    (tmp_path / "evidence" / "web" / "link.txt").symlink_to(tmp_path / "outside.txt")
    (tmp_path / "qa").mkdir()
    row = {
        "QuestionId": "q",
        "Question": "?",
        "Answer": {"Aliases": ["secret"]},
        "SearchResults": [{"Filename": name}],
    }
    with pytest.raises(
        ValueError,
        match=r"train.json: item 1, SearchResults 1 names the file .*(outside of|expected)",
    ):
        read(tmp_path / "qa" / "train.json", json.dumps({"Data": [row]}), skip_mismatched=True)


def test_a_folder_of_documents_that_is_a_link_out_is_rejected(tmp_path):
    (tmp_path / "evidence").mkdir()
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / "1.txt").write_text("secret")
    (tmp_path / "evidence" / "web").symlink_to(tmp_path / "away")
    row = {"QuestionId": "q", "Question": "?", "Answer": {"Aliases": ["secret"]}}
    row["SearchResults"] = [{"Filename": "1.txt"}]
    (tmp_path / "qa").mkdir()
    with pytest.raises(ValueError, match="names the file 'web', which is outside of"):
        read(tmp_path / "qa" / "train.json", json.dumps({"Data": [row]}), skip_mismatched=True)


def test_aliases_are_found_as_whole_words_the_longest_first():
    text = "New  York City, new york; Newyork. NEW\nYORK? C++ (USA) usa"
    found = find_answers(
        text, ["New York", "New York City", "C++", "(USA)", "usa", " ", "New York"]
    )
    assert [text[start:end] for start, end in found] == [
        "New  York City",
        "new york",
        "NEW\nYORK",
        "C++",
        "(USA)",
        "usa",
    ]
    assert find_answers("text", []) == find_answers("text", [" "]) == []


def test_a_document_that_triviaqa_has_in_several_files_is_one_question(tmp_path):
    (tmp_path / "evidence/wikipedia").mkdir(parents=True)
    (tmp_path / "evidence/wikipedia/Ada.txt").write_text("in London")
    (tmp_path / "qa").mkdir()
    row = {"Question": "Where?", "QuestionId": "tc_1", "Answer": {"Value": "London", "Aliases": []}}
    row |= {"EntityPages": [{"Filename": "Ada.txt"}]}
    (question,) = read(tmp_path / "qa/train.jsonl", lines(row, row))
    assert (question.id, question.answers) == ("tc_1--Ada.txt", ("London",))
    flat = {"id": "1", "question": "Where?", "context": "in London", "aliases": ["London"]}
    with pytest.raises(ValueError, match=r"questions 1 and 2, .* have one id"):
        read(tmp_path / "flat.jsonl", lines(flat, flat | {"context": "in Paris"}))
