"""Files of texts become files of answers, whole or not at all."""

import io
import json
import sys
import weakref

import pyarrow.parquet
import pytest

from adapler_jax.io.terminal import print_note
from adapler_jax.serving import bulk, predictors, streams
from adapler_jax.serving.pipeline import predict_windows
from adapler_jax.serving.prediction_files import OUTPUT_KINDS
from adapler_jax.serving.streams import Window
from tests.serving.outputs import NAMES, assert_answers, read_rows, read_table
from tests.serving.requests import run

TEXTS = [
    "good films",
    "",
    "a bad bad film . not good",
    "good " * 30,
    "日本 привет",
    'a "film"\tnot',
    "zzz",
    "  ",
]


@pytest.fixture(name="source")
def _source(tmp_path):
    return write_lines(tmp_path / "in.jsonl", TEXTS)


def write_lines(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.mark.long
def test_long_texts_are_read_whole_when_asked_for(tiny_classifier, classifier, tmp_path):
    texts = ["good " * 40 + "bad", "good"]
    source, output = write_lines(tmp_path / "long.jsonl", texts), tmp_path / "out.jsonl"
    assert run(tiny_classifier, source, output, long_texts="mean") == 2
    rows = read_rows(output)
    assert_answers(rows, classifier.predict(texts, long_texts="mean"))
    assert [row["is_cut"] for row in rows] == [False, False]
    with pytest.raises(ValueError, match="long_texts is 'whole'; expected truncate, mean, max"):
        run(tiny_classifier, source, long_texts="whole")


@pytest.mark.parametrize("kind", OUTPUT_KINDS)
def test_every_kind_of_output_holds_what_the_classifier_answers(
    tiny_classifier, classifier, source, tmp_path, kind
):
    output = tmp_path / f"out.{kind}"
    assert run(tiny_classifier, source, output) == len(TEXTS)
    rows = read_rows(output)
    assert tuple(rows[0]) == NAMES
    assert_answers(rows, classifier.predict(TEXTS))


@pytest.mark.parametrize("kind", OUTPUT_KINDS)
def test_kept_words_and_tokens_per_layer_are_written_on_request(
    tiny_classifier, classifier, source, tmp_path, kind
):
    output = tmp_path / f"out.{kind}"
    run(tiny_classifier, source, output, with_kept=True)
    rows, predictions = read_rows(output), classifier.predict(TEXTS)
    assert tuple(rows[0]) == (*NAMES, "kept_words", "tokens_per_layer")
    assert_answers(rows, predictions)
    kept = [prediction.kept_words[-1] for prediction in predictions]
    tokens = [list(prediction.num_tokens) for prediction in predictions]
    if kind in ("csv", "tsv"):
        kept, tokens = (
            [" ".join(words) for words in kept],
            [" ".join(map(str, counts)) for counts in tokens],
        )
    assert [row["kept_words"] for row in rows] == kept
    assert [row["tokens_per_layer"] for row in rows] == tokens


@pytest.mark.long
def test_rows_keep_their_order_over_windows(tiny_classifier, classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "WINDOW_ROWS", 5)
    texts = [
        " ".join(["good", "bad", "film"][number % 3 :] * (1 + number % 4)) for number in range(33)
    ]
    run(tiny_classifier, write_lines(tmp_path / "in.jsonl", texts), tmp_path / "out.csv")
    assert_answers(read_rows(tmp_path / "out.csv"), classifier.predict(texts))


def test_pairs_are_read_as_pairs(tiny_classifier, classifier, tmp_path):
    pairs = [("good film", "not bad"), ("", "a film"), ("bad", "")]
    (tmp_path / "in.tsv").write_text(
        "one\ttwo\n" + "".join(f"{one}\t{two}\n" for one, two in pairs)
    )
    run(tiny_classifier, tmp_path / "in.tsv", tmp_path / "out.jsonl", columns=["one", "two"])
    assert_answers(read_rows(tmp_path / "out.jsonl"), classifier.predict(pairs))


def test_text_lines_from_standard_input_give_tsv_on_standard_output(
    tiny_classifier, classifier, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("good films\n\n日本\n".encode())))
    assert run(tiny_classifier, "-") == 3
    captured = capsys.readouterr()
    assert_answers(read_table(captured.out), classifier.predict(["good films", "", "日本"]))
    assert captured.err == ""


@pytest.mark.long
def test_standard_input_may_be_a_table(tiny_classifier, classifier, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "stdin", io.TextIOWrapper(io.BytesIO(b'text,n\n"good, ""films""\n",1\n'))
    )
    run(tiny_classifier, "-", kind="csv")
    assert_answers(read_table(capsys.readouterr().out), classifier.predict(['good, "films"\n']))


@pytest.mark.parametrize("kind", OUTPUT_KINDS)
def test_no_rows_give_a_header_or_an_empty_file_and_a_note(tiny_classifier, tmp_path, kind):
    (tmp_path / "in.txt").write_text("")
    output, notes = tmp_path / f"out.{kind}", []
    assert run(tiny_classifier, tmp_path / "in.txt", output, log=notes.append) == 0
    assert notes == [f"{tmp_path / 'in.txt'} has no rows"]
    assert read_rows(output) == []
    if kind == "parquet":
        assert tuple(pyarrow.parquet.read_schema(output).names) == NAMES
    elif kind != "jsonl":
        assert output.read_text() == ("," if kind == "csv" else "\t").join(NAMES) + "\n"


def test_an_output_that_is_there_is_replaced_on_request_only(tiny_classifier, source, tmp_path):
    output = tmp_path / "out.csv"
    output.write_text("mine")
    with pytest.raises(ValueError, match=r"out.csv exists; give another --output, or --overwrite"):
        run(tiny_classifier, source, output)
    assert output.read_text() == "mine"
    run(tiny_classifier, source, output, overwrite=True)
    assert len(read_rows(output)) == len(TEXTS)


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, SystemExit(143), OSError(28, "No space left")]
)
def test_an_interrupted_run_leaves_what_was_there(
    tiny_classifier, source, tmp_path, monkeypatch, error
):
    def fail(*_, **__):
        raise error

    output = tmp_path / "out.csv"
    output.write_text("mine")
    monkeypatch.setattr(streams, "WINDOW_ROWS", 3)
    monkeypatch.setattr(predictors, "columns_of_probs", fail)
    with pytest.raises(error if isinstance(error, type) else type(error)):
        run(tiny_classifier, source, output, overwrite=True)
    assert output.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.csv"]


def test_a_bad_line_in_a_later_window_leaves_no_output(
    tiny_classifier, source, tmp_path, monkeypatch
):
    monkeypatch.setattr(streams, "WINDOW_ROWS", 3)
    with source.open("a") as file:
        file.write("{bad\n")
    with pytest.raises(ValueError, match=f"line {len(TEXTS) + 1} is not JSON"):
        run(tiny_classifier, source, tmp_path / "out.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize("explain", [False, True])
def test_windows_before_a_bad_line_are_answered(
    tiny_classifier, tmp_path, monkeypatch, capsys, explain
):
    monkeypatch.setattr(streams, "WINDOW_ROWS", 3)
    source = write_lines(tmp_path / "in.jsonl", ["good"] * 6)
    with source.open("a") as file:
        file.write("{bad\n")
    with pytest.raises(ValueError, match="line 7 is not JSON"):
        run(tiny_classifier, source, explain=explain)
    out = capsys.readouterr().out
    assert out.count("tokens per layer") == 6 if explain else len(read_table(out)) == 6


@pytest.mark.long
def test_a_note_counts_the_rows(tiny_classifier, tmp_path):
    notes = []
    for texts in (["good"], ["good", "bad"]):
        source = write_lines(tmp_path / "in.jsonl", texts)
        run(tiny_classifier, source, tmp_path / "out.csv", overwrite=True, log=notes.append)
    assert notes == [f"1 row in {tmp_path}/out.csv", f"2 rows in {tmp_path}/out.csv"]


def test_closed_standard_streams_are_missed_where_they_are_needed_only(
    tiny_classifier, source, tmp_path, monkeypatch
):
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    assert run(tiny_classifier, source, tmp_path / "out.csv", log=print_note) == len(TEXTS)
    assert len(read_rows(tmp_path / "out.csv")) == len(TEXTS)
    with pytest.raises(ValueError, match="standard input is closed; give a file"):
        run(tiny_classifier, "-", tmp_path / "more.csv")
    for options in ({}, {"output": tmp_path / "more.csv", "explain": True}):
        with pytest.raises(
            ValueError, match="standard output is closed; give --output=FILE, without --explain"
        ):
            run(tiny_classifier, source, **options)


def test_notes_go_nowhere_where_standard_error_is_closed(monkeypatch, capsys):
    print_note("seen")
    monkeypatch.setattr(sys, "stderr", None)
    print_note("not seen")
    monkeypatch.undo()
    assert capsys.readouterr() == ("", "seen\n")


def test_mistakes_in_the_input_are_told_before_the_model_is_loaded(
    tiny_classifier, source, monkeypatch
):
    monkeypatch.setattr(predictors.Classifier, "load", None)
    with pytest.raises(ValueError, match="unknown column 'review'"):
        run(tiny_classifier, source, columns=["review"])
    with pytest.raises(ValueError, match="text lines have no columns"):
        run(tiny_classifier, "-", columns=["text"])
    with pytest.raises(ValueError, match="expected one column of texts, or two"):
        run(tiny_classifier, source, columns=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"nowhere.txt does not exist; give a file, or -"):
        run(tiny_classifier, "nowhere.txt")
    with pytest.raises(ValueError, match="is a folder"):
        run(tiny_classifier, source.parent, kind="txt")


class Row(str):
    """A text that can be watched."""


@pytest.mark.parametrize("with_words", [False, True])
def test_rows_in_memory_do_not_grow_with_the_input(classifier, with_words):
    alive, counts = weakref.WeakSet(), []

    def windows():
        for start in range(0, 80, 4):
            texts = [Row(f"good film {number}") for number in range(start, start + 4)]
            alive.update(texts)
            yield Window(texts, None)

    def write(columns):
        counts.append(len(alive))

    shown = predictors.Shown(with_kept=with_words)
    predictor = predictors.ClassPredictor(classifier, batch_size=4, shown=shown)

    assert predict_windows(predictor, windows(), write) == 80
    assert len(counts) == 20 and max(counts) <= 3 * 4


def test_explained_texts_take_the_place_of_rows(tiny_classifier, classifier, source, capsys):
    run(tiny_classifier, source, explain=True)
    text = capsys.readouterr().out
    for prediction in classifier.predict(TEXTS):
        assert f"{prediction.label} ({prediction.probability:.0%}), tokens per layer" in text
    assert "probability_" not in text and "[" in text


def test_explained_texts_stand_beside_an_output(
    tiny_classifier, source, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(bulk, "has_colour", lambda _: True)
    run(tiny_classifier, source, tmp_path / "out.csv", explain=True)
    assert "\x1b[1;32m" in capsys.readouterr().out
    assert tuple(read_rows(tmp_path / "out.csv")[0]) == NAMES


def test_texts_cannot_steer_the_terminal(tiny_classifier, tmp_path, capsys):
    source = write_lines(tmp_path / "in.jsonl", ["good\x1b[2J film\x07", "\x1b]0;bad\x07"])
    run(tiny_classifier, source, with_kept=True)
    run(tiny_classifier, source, explain=True)
    assert not {"\x1b", "\x07"} & set(capsys.readouterr().out)
