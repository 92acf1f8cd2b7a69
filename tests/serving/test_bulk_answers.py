"""Tables of questions become tables of answers."""

import json
import re

import jax
import pytest

from adapler_jax import heads
from adapler_jax.inference.question_answerer import QuestionAnswerer
from adapler_jax.serving.prediction_files import OUTPUT_KINDS
from adapler_jax.weights.save import save_model
from tests import tiny
from tests.data.conftest import build_tokenizer
from tests.serving.outputs import read_rows
from tests.serving.requests import predict_file

pytestmark = pytest.mark.long

PAIRS = [
    ("film", "a good film ."),
    ("a", "bad film . " * 20),
    ("good", ""),
    ("zzz", "日本 a\tfilm"),
]
LIMITS = {
    "doc_stride": 4,
    "max_question_tokens": 3,
    "max_answer_tokens": 4,
    "n_best_size": 3,
    "score_options_independently": False,
}


def save(directory, *, no_answer_threshold):
    params = tiny.make_params() | {"head": heads.SPAN.init(jax.random.key(3), tiny.CONFIG, 0)}
    return save_model(
        directory,
        params,
        tiny.CONFIG,
        head=heads.SPAN,
        pruner_name="adapler",
        max_length=16,
        tokenizer=build_tokenizer(),
        extra={"qa": LIMITS, "no_answer_threshold": no_answer_threshold},
    )


@pytest.fixture(name="model", scope="module")
def _model(tmp_path_factory):
    return save(tmp_path_factory.mktemp("span") / "model", no_answer_threshold=0.0)


@pytest.fixture(name="source")
def _source(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text(
        "".join(
            json.dumps({"id": "x", "question": asked, "context": text}) + "\n"
            for asked, text in PAIRS
        )
    )
    return str(path)


@pytest.mark.parametrize("kind", OUTPUT_KINDS)
def test_every_kind_of_output_holds_what_the_reader_answers(model, source, tmp_path, kind):
    output = tmp_path / f"out.{kind}"
    assert predict_file(model, source=source, output=str(output), with_kept=True, batch_size=4) == 4
    readings = QuestionAnswerer.load(model).answer_all(PAIRS, batch_size=4)
    for row, reading in zip(read_rows(output), readings, strict=True):
        assert json.loads(json.dumps(reading.to_dict(), allow_nan=False)) == reading.to_dict()
        assert (
            len(reading.to_dict()["answers"]) == len(reading.answers)
            and reading.to_dict()["text"] == reading.text
        )
        assert list(row) == ["answer", "start", "end", "score", "probability", "kept_words"]
        assert (int(row["start"]), int(row["end"])) == (reading.start, reading.end)
        assert re.sub(r"\s", " ", row["answer"]) == re.sub(r"\s", " ", reading.text)
        assert float(row["score"]) == pytest.approx(reading.score, abs=1e-5)
        words = (
            row["kept_words"] if isinstance(row["kept_words"], list) else row["kept_words"].split()
        )
        assert words == list(reading.kept_words[-1])


def test_answers_are_explained_on_standard_output(model, source, capsys):
    notes = []
    predict_file(model, source=source, explain=True, batch_size=4, log=notes.append)
    assert notes == ["words that the last layer ran on are highlighted in [brackets]"]
    paragraphs = capsys.readouterr().out.strip().split("\n\n")
    assert (
        len(paragraphs) == 4
        and paragraphs[0].startswith("film\n")
        and "accepted" not in paragraphs[0]
    )


def test_answers_are_given_where_none_is_preferred_when_asked_for(source, tmp_path):
    model = save(tmp_path / "model", no_answer_threshold=-1e9)
    answers = {}
    for always in (False, True):
        output = tmp_path / f"{always}.csv"
        predict_file(model, source=source, output=str(output), always_answers=always)
        answers[always] = [row["answer"] for row in read_rows(output)]
    assert answers[False] == ["", "", "", ""]
    assert [bool(answer) for answer in answers[True]] == [
        True,
        True,
        False,
        True,
    ]  # the third text is empty


def test_a_model_of_classes_has_no_answers_to_ask_for(tiny_classifier, source):
    with pytest.raises(ValueError, match="answers no questions; leave out --always_answers"):
        predict_file(tiny_classifier, source=source, always_answers=True)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "in.txt",
            "film\n",
            "answers questions, which text lines do not have; give a table with the columns",
        ),
        (
            "in.csv",
            "question,text\na,b\n",
            "unknown column 'context'.*name their columns with --column",
        ),
        ("in.jsonl", '{"question": "a", "context": null}\n', "line 1"),
    ],
)
def test_what_holds_no_questions_is_refused_and_leaves_no_output(
    model, tmp_path, name, content, message
):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        predict_file(model, source=str(tmp_path / name), output=str(tmp_path / "out.csv"))
    assert not (tmp_path / "out.csv").exists()
