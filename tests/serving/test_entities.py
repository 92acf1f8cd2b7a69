"""Files of texts, or of words, become files of entities."""

import csv
import json

import pyarrow.parquet
import pytest

from adapler_jax.heads import TOKEN_CLASSIFICATION
from adapler_jax.inference.token_classifier import TokenClassifier
from adapler_jax.serving.bulk import PredictRequest, predict_file
from adapler_jax.serving.predictors import ModelSettings
from tests.export.onnx_models import save_tiny

TEXTS = ["w1 w2 w3", "", "w5 w6 " * 20, "w7 w8"]
TAGS = ("O", "B-PER", "I-PER", "LOC")


@pytest.fixture(scope="module", name="model")
def _model(tmp_path_factory):
    """The directory of a model of tags."""
    directory = tmp_path_factory.mktemp("entities") / "model"
    options = {"class_names": TAGS, "max_length": 12}
    return save_tiny(directory, "keep_all", head=TOKEN_CLASSIFICATION, **options)


@pytest.fixture(scope="module", name="tagger")
def _tagger(model):
    return TokenClassifier.load(model)


def write(path, rows):
    """Write rows as JSON lines."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


def predict(model, source, output, **settings):
    """Predict a file, and return the number of rows."""
    settings = ModelSettings(batch_size=3, **settings)
    return predict_file(PredictRequest(model, source=source, output=str(output), settings=settings))


def without_scores(entities):
    """Return entities of whole numbers and names."""
    return [{key: entity[key] for key in entity if key != "score"} for entity in entities]


def assert_entities(found, expected):
    """Equal but for the digits of scores."""
    assert list(map(without_scores, found)) == list(map(without_scores, expected))
    for ours, theirs in zip(found, expected):
        scores = [entity["score"] for entity in theirs]
        assert [entity["score"] for entity in ours] == pytest.approx(scores, abs=1e-6)


@pytest.mark.parametrize("aggregation", [None, "none", "average"])
def test_each_row_has_the_entities_of_its_text(model, tagger, tmp_path, aggregation):
    source, output = write(tmp_path / "in.jsonl", [{"text": text} for text in TEXTS]), "out.jsonl"
    assert predict(model, source, tmp_path / output, aggregation=aggregation) == len(TEXTS)
    rows = [json.loads(line) for line in (tmp_path / output).read_text().splitlines()]
    expected = tagger.predict(TEXTS, aggregation=aggregation)
    assert any(expected)
    assert_entities([row["entities"] for row in rows], expected)
    assert [row["is_cut"] for row in rows] == [False, False, True, False]


def test_tables_have_entities_in_json(model, tagger, tmp_path):
    source = tmp_path / "in.csv"
    source.write_text("text\n" + "".join(f'"{text}"\n' for text in TEXTS))
    expected = tagger.predict(TEXTS)
    predict(model, str(source), tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        found = [json.loads(row["entities"]) for row in csv.DictReader(file)]
    assert_entities(found, expected)
    predict(model, str(source), tmp_path / "out.parquet")
    column = pyarrow.parquet.read_table(tmp_path / "out.parquet").column("entities").to_pylist()
    assert_entities(list(map(json.loads, column)), expected)


def test_words_have_one_tag_each_and_texts_may_be_between_them(model, tagger, tmp_path):
    words = [["w1", "w2"], ["w3"]]
    source = write(tmp_path / "in.jsonl", [{"words": entry} for entry in [*words, "w4 w5"]])
    predict(model, source, tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    expected = [*tagger.predict(words), tagger.predict("w4 w5")]
    assert_entities([row["entities"] for row in rows], expected)


@pytest.mark.parametrize(
    ("row", "fields", "message"),
    [
        ({"words": ["a", 3]}, {}, "line 1 has the word 3 in 'words'; expected texts"),
        ({"text": 3}, {}, "line 1 has 3 as 'text'; expected a text"),
        ({"text": "a"}, {"columns": ["text", "b"]}, "expected one column, since each text has its"),
        ({"text": "a"}, {"explain": True}, "gives entities without words; leave out --kept and"),
        ({"text": "a"}, {"settings": ModelSettings(threshold=0.5)}, "no classes to decide between"),
    ],
)
def test_wrong_rows_and_options_are_named(model, tmp_path, row, fields, message):
    source = write(tmp_path / "in.jsonl", [row, row])
    request = PredictRequest(model, source=source, output=str(tmp_path / "out.csv"), **fields)
    with pytest.raises(ValueError, match=message):
        predict_file(request)


def test_a_conll_file_and_a_single_line_have_words(model, tagger, tmp_path):
    (tmp_path / "in.conll").write_text("w1 O\nw2 LOC\n\nw3 O\n")
    predict(model, str(tmp_path / "in.conll"), tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert_entities([row["entities"] for row in rows], tagger.predict([["w1", "w2"], ["w3"]]))
    predict(model, write(tmp_path / "in.jsonl", [{"words": ["w1", "w2"]}]), tmp_path / "one.jsonl")
    (row,) = [json.loads(line) for line in (tmp_path / "one.jsonl").read_text().splitlines()]
    assert [tag["word"] for tag in row["entities"]] == ["w1", "w2"]


def test_other_models_take_no_aggregation(tmp_path):
    model = save_tiny(tmp_path / "model", "keep_all", max_length=12)
    source = write(tmp_path / "in.jsonl", [{"text": "a"}])
    with pytest.raises(ValueError, match="gives no tags to tokens; leave out --aggregation"):
        predict(model, source, tmp_path / "out.csv", aggregation="first")


def test_a_folder_of_transformers_is_predicted_with(model, tagger, tmp_path):
    """Without our part of config.json the folder is theirs."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for path in model.iterdir():
        (theirs / path.name).write_bytes(path.read_bytes())
    raw = json.loads((model / "config.json").read_text())
    del raw["adapler_jax"]
    (theirs / "config.json").write_text(json.dumps(raw))
    source = write(tmp_path / "in.jsonl", [{"text": text} for text in TEXTS])
    predict(theirs, source, tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert_entities([row["entities"] for row in rows], tagger.predict(TEXTS))
