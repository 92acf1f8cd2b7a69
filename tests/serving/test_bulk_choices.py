"""Tables of questions with options become tables of chosen options."""

import csv
import json

import jax
import pytest

from adapler_jax import heads
from adapler_jax.inference.multiple_choice import MultipleChoice
from adapler_jax.serving.choice_columns import CHOICES
from adapler_jax.serving.prediction_files import OUTPUT_KINDS
from adapler_jax.weights.save import save_model
from tests import tiny
from tests.data.conftest import build_tokenizer
from tests.serving.outputs import read_rows
from tests.serving.requests import predict_file

pytestmark = pytest.mark.long

QUESTIONS = [
    ("film", "a film .", ["good", "bad"]),
    ("a", "good film " * 20, ["bad", "good", "a film"]),
    ("zzz", "", ["good", "bad"]),
]


@pytest.fixture(name="model", scope="module")
def _model(tmp_path_factory):
    head = heads.choice(num_options=2)
    params = tiny.make_params() | {"head": head.init(jax.random.key(0), tiny.CONFIG, 0)}
    return save_model(
        tmp_path_factory.mktemp("choice") / "model",
        params,
        tiny.CONFIG,
        pruner_name="adapler",
        head=head,
        max_length=16,
        tokenizer=build_tokenizer(),
        extra={"qa": {"max_option_tokens": 4}},
    )


@pytest.fixture(name="chosen", scope="module")
def _chosen(model):
    """Return the model's own predictions; files use the same model, which compiles once."""
    chooser, patch = MultipleChoice.load(model), pytest.MonkeyPatch()
    patch.setattr(MultipleChoice, "load", lambda *_, **options: chooser)
    yield chooser.choose_all(QUESTIONS, batch_size=4)
    patch.undo()


def json_file(tmp_path, options="options", article="article"):
    path = tmp_path / "in.jsonl"
    rows = (
        {"id": index, "question": asked, article: text, options: texts}
        for index, (asked, text, texts) in enumerate(QUESTIONS)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def predict(model, source, output, **options):
    return predict_file(model, source=str(source), output=str(output), batch_size=4, **options)


@pytest.mark.parametrize("kind", OUTPUT_KINDS)
def test_every_kind_of_output_holds_what_the_chooser_chooses(model, chosen, tmp_path, kind):
    output = tmp_path / f"out.{kind}"
    assert predict(model, json_file(tmp_path), output, with_kept=True, copy=("id",)) == 3
    for row, expected in zip(read_rows(output), chosen, strict=True):
        names = ["answer", "option", "probability", "probabilities", "is_cut", "kept_words", "id"]
        assert list(row) == names
        assert (row["answer"], int(row["option"])) == (expected.text, expected.label)
        probs, words = row["probabilities"], row["kept_words"]
        probs = list(map(float, probs.split())) if isinstance(probs, str) else probs
        assert probs == pytest.approx(expected.probabilities, abs=1e-6)
        assert float(row["probability"]) == pytest.approx(max(expected.probabilities), abs=1e-6)
        assert row["is_cut"] in ((True, "true") if expected.is_cut else (False, "false"))
        assert (words if isinstance(words, list) else words.split()) == list(
            expected.kept_words[-1]
        )


def test_options_may_be_columns_and_the_article_a_context(model, chosen, tmp_path):
    with (tmp_path / "in.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["option_a", "question", "option_b", "context", "option_c"])
        table.writerows(
            [*texts[:1], asked, texts[1], text, *([*texts, ""][2:3])]
            for asked, text, texts in QUESTIONS
        )
    predict(model, tmp_path / "in.csv", tmp_path / "out.csv")
    assert [row["answer"] for row in read_rows(tmp_path / "out.csv")] == [
        one.text for one in chosen
    ]
    columns = ["question", "context", "option_a", "option_b"]
    predict(model, tmp_path / "in.csv", tmp_path / "two.csv", columns=columns)
    assert [row["answer"] for row in read_rows(tmp_path / "two.csv")][::2] == [
        one.text for one in chosen
    ][::2]


def test_choices_are_explained_on_standard_output(model, chosen, tmp_path, capsys):
    predict(model, json_file(tmp_path), "-", explain=True)
    paragraphs = capsys.readouterr().out.strip().split("\n\n")
    assert len(paragraphs) == 3 and paragraphs[0].startswith(f"film\n{chosen[0].text} (")


FORMS = {
    "options": (("question", "article", "options"), {"options": ["x", "y"]}),
    "choices": (
        ("question", "context", "choices"),
        {"choices": {"text": ["x", "y"], "label": ["A", "B"]}},
    ),
    "json": (("question", "article", "options"), {"options": '["x", "y"]'}),
    "endings": (("question", "article", "ending0", "ending1"), {"ending0": "x", "ending1": "y"}),
    "letters": (
        ("question", "article", "Option A", "Option B"),
        {"Option A": "x", "Option B": "y"},
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_options(form):
    expected, options = FORMS[form]
    row = {expected[1]: "text", "question": "asked"} | options
    names = CHOICES.pick(tuple(row), (), (), "in.csv")
    assert names == expected
    assert CHOICES.read(row, names, "in.csv: row 1") == ("asked", "text", ["x", "y"])


@pytest.mark.parametrize(
    "options", [None, "x", ["x"], ["x", 3], {"label": ["A"]}, "[1, 2]", "[" * 100_000]
)
def test_what_are_no_options_is_named(options):
    row = {"question": "asked", "article": "text", "options": options}
    with pytest.raises(
        ValueError, match=r"in.csv: row 1 has .* as options; expected two options or more"
    ) as caught:
        CHOICES.read(row, tuple(row), "in.csv: row 1")
    assert len(str(caught.value)) < 300
    with pytest.raises(ValueError, match="row 1 has None as 'article'; expected a text"):
        CHOICES.read(row | {"article": None}, tuple(row), "in.csv: row 1")


def test_columns_that_make_no_question_are_named():
    with pytest.raises(
        ValueError, match="found question, text, option_a; name them with --column=QUESTION,ARTICLE"
    ):
        CHOICES.pick(("question", "text", "option_a"), (), (), "in.csv")
    with pytest.raises(ValueError, match="unknown column 'b'"):
        CHOICES.pick(("question", "text", "a"), ("question", "text", "a", "b"), (), "in.csv")


def test_flags_of_other_models_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match="has no classes to decide between; leave out --threshold"):
        predict(model, json_file(tmp_path), "-", threshold=0.5)
    with pytest.raises(ValueError, match="columns question, article and options"):
        predict(model, "-", "-")
    with pytest.raises(
        ValueError, match="--column names question; expected question, article, and a column"
    ):
        predict(model, json_file(tmp_path), "-", columns=["question"])
