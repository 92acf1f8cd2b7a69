"""Features are timed in every case and size of the command."""

import json
import types

import pytest

from benchmarks import features
from benchmarks.features import CASES, QUICK, made_up_questions, repeat


@pytest.mark.long
def test_features_of_a_source_are_timed_in_every_case_and_size(tmp_path):
    rows = repeat(made_up_questions()[:10], 10, "paragraphs")
    (tmp_path / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = types.SimpleNamespace(
        quick=True,
        source=f"file:{tmp_path}",
        split="",
        tokenizer="",
        json=str(tmp_path / "rows.json"),
    )
    rows = features.main(options)
    assert [(row["case"], row["num_questions"]) for row in rows] == [
        (case, size) for case in CASES for size in QUICK
    ]
    assert all(row["num_windows"] >= row["num_questions"] for row in rows)
    assert all(row["cpu_s"] > 0 and row["questions_per_s"] > 0 for row in rows)
    assert all(row["peak_mib"] >= row["base_mib"] > 10 for row in rows)
    assert json.loads((tmp_path / "rows.json").read_text())["rows"] == rows


def test_repeated_questions_share_their_texts_as_the_source_has_them():
    questions = made_up_questions()[:10]
    rows = {case: list(repeat(questions, 25, case)) for case in CASES}
    assert [len({row["context"] for row in rows[case]}) for case in CASES] == [5, 25]
    assert len({row["id"] for row in rows["distinct"]}) == 25
    for row in rows["distinct"]:
        (answer,) = row["answers"]
        assert row["context"].startswith(answer["text"], answer["answer_start"])
