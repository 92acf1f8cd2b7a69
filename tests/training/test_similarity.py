"""A model of vectors is trained from similarities, and made faster by its own vectors."""

import json
import shutil

import jax
import numpy as np
import pytest

from adapler_jax.data.classification.examples import Examples
from adapler_jax.heads import embedding
from adapler_jax.inference.embedder import Embedder
from adapler_jax.metrics.similarity import similarity_agreement
from adapler_jax.training.compress import compress
from adapler_jax.training.compress_vectors import as_texts, divide_vectors
from adapler_jax.training.evaluation import evaluate_workdir
from adapler_jax.training.run import run_all
from adapler_jax.training.similarity_task import as_rows, similarity_data
from adapler_jax.weights.pretrained import load_pretrained
from adapler_jax.weights.save import load_model, save_model
from tests.training.runs import OWN_FILES, SMALL, silent, write_splits
from tests.weights.test_sentence_modules import make_foreign

pytestmark = pytest.mark.long
WORDS = np.array(["a", "film", "films", "."])
COLUMNS = {"text": "first", "text_pair": "second", "label": "similarity"}
PROMPTS = {"prompts": {"query": "a good "}, "default_prompt_name": "query"}


def make_texts(num_texts=240, seed=0):
    """Return different texts, each with a good or a bad word."""
    rng, found = np.random.default_rng(seed), {}
    while len(found) < num_texts:
        words = rng.choice(WORDS, rng.integers(3, 9))
        words[rng.integers(len(words))] = str(rng.choice(["good", "bad"]))
        found[" ".join(words)] = None
    return list(found)


def make_rows(seed):
    """Return pairs whose similarity is 1 where both texts are good or both are bad, else -1."""
    texts = make_texts(seed=seed)
    return [
        dict(zip(COLUMNS.values(), (a, b, 1.0 if ("good" in a) == ("good" in b) else -1.0)))
        for a, b in zip(texts[::2], texts[1::2])
    ]


@pytest.fixture(scope="module", name="config_of")
def _config_of(make_config, tmp_path_factory):
    """Return a function that builds the config of a run on pairs of train, validation and test."""
    source = write_splits(tmp_path_factory.mktemp("pairs"), make_rows)

    def build(**changes):
        fields = OWN_FILES | {
            "task": "custom_similarity",
            "data__source": source,
            "data__columns": COLUMNS,
        }
        return make_config(**(fields | changes))

    return build


@pytest.fixture(scope="module", name="workdir")
def _workdir(config_of, tmp_path_factory):
    """A finished run."""
    workdir = tmp_path_factory.mktemp("similarity") / "run"
    run_all(config_of(), workdir, log=silent)
    return workdir


@pytest.fixture(scope="module", name="given")
def _given(workdir):
    """The directory of the fine-tuned model."""
    return workdir / "finetune" / "model"


def test_a_run_learns_similarities_and_is_evaluated_by_their_order(workdir):
    dense, *others = evaluate_workdir(workdir, log=silent, with_times=False)
    assert dense["metric"] == "spearman" and dense["test_score"] > 0.5
    assert [row["method"] for row in others] == ["adapler", "adapt-1.3x"]
    for row in others:
        assert -1 <= row["kendall_tau"] <= 1 and row["difference_se"] >= 0
    assert others[1]["flops_speedup"] == pytest.approx(1.3, rel=0.1)


def test_the_models_of_a_run_are_embedders(workdir, given):
    rows = make_rows(seed=2)
    for directory in (given, workdir / "adapt-1.3x" / "model"):
        model = Embedder.load(directory)
        vectors = model.encode([row["first"] for row in rows])
        others = model.encode([row["second"] for row in rows])
        found = np.sum(vectors * others, axis=1)
        is_equal = np.array([row["similarity"] for row in rows]) > 0
        assert found[is_equal].mean() > found[~is_equal].mean()


def test_a_model_of_vectors_is_made_faster_by_its_own_vectors(given, tmp_path):
    texts, notes, out = make_texts(), [], tmp_path / "out"
    assert compress(given, texts, out, options=SMALL, log=notes.append) is None
    assert notes[-1].startswith("kept: ")
    assert any("points of Spearman correlation of similarities over" in note for note in notes)
    assert any(", cosine 0." in note for note in notes)
    assert load_model(out / "model").pruner_name in ("attention", "vocabulary", "adapler")
    found, full = Embedder.load(out / "model"), Embedder.load(given)
    other = make_texts(seed=7)
    assert similarity_agreement(found.encode(other), full.encode(other)).mean() > 0.5
    rows = [json.loads(line) for line in (out / "texts" / "train.jsonl").read_text().splitlines()]
    # in one call, as the compression makes them: other batches round differently
    vectors = full.encode([row[name] for row in rows for name in ("text", "text_pair")])
    expected = np.sum(vectors[0::2] * vectors[1::2], axis=1)
    np.testing.assert_allclose([row["label"] for row in rows], expected, atol=1e-6)
    again = []
    compress(given, texts, out, options=SMALL, log=again.append)
    assert again[-1] == notes[-1] and not any(note.startswith("predicting ") for note in again)
    with pytest.raises(ValueError, match="has work on other texts"):
        compress(given, texts[:-2], out, options=SMALL, log=silent)


def test_a_plain_encoder_is_compressed_with_a_pooling_and_keeps_it(tiny_files, tmp_path):
    options = SMALL._replace(train=False, pooling="cls", speedup=1.05)
    plain = make_foreign(shutil.copytree(tiny_files / "model", tmp_path / "plain"))
    compress(plain, make_texts(), tmp_path / "a", options=options, log=silent)
    found = load_model(tmp_path / "a" / "model")
    assert found.head is embedding("cls", normalizes=False)
    with pytest.raises(ValueError, match="work with pooling cls, not mean"):
        other = options._replace(pooling="mean")
        compress(plain, make_texts(), tmp_path / "a", options=other, log=silent)
    with pytest.raises(ValueError, match="names its own; leave it out"):
        compress(tmp_path / "a" / "model", make_texts(), tmp_path / "b", options=options, log=print)


@pytest.fixture(scope="module", name="prompted")
def _prompted(tiny_files, tmp_path_factory):
    """The directory of a model with a default prompt."""
    head = embedding("cls", dense_dim=5)
    loaded = load_pretrained(tiny_files / "model", jax.random.key(0), head=head)
    return save_model(
        tmp_path_factory.mktemp("prompted") / "model",
        loaded.params | {"pruner": {}},
        loaded.config,
        head=head,
        max_length=16,
        tokenizer=tiny_files / "model",
        extra=PROMPTS,
    )


def test_a_default_prompt_stays_and_is_before_every_text(config_of, prompted, tmp_path):
    task = similarity_data(config_of(model=str(prompted)), prompted, ("validation",))
    assert task.head is embedding("cls", dense_dim=5) and task.group == 2
    assert {name: task.extra[name] for name in PROMPTS} == PROMPTS
    first = Embedder.load(prompted).encode_tokens([make_rows(1)[0]["first"]])[0].token_L
    np.testing.assert_array_equal(task.splits["validation"].tokens[0], first)
    options = SMALL._replace(train=False, speedup=1.05)
    compress(prompted, make_texts(), tmp_path / "out", options=options, log=silent)
    assert Embedder.load(tmp_path / "out" / "model").default_prompt_name == "query"


def test_a_pair_is_two_neighbouring_rows():
    label_E, ids = np.array([0.5, -1.0], np.float32), np.array([3, 0], np.int32)
    rows = as_rows(Examples(["a", "b"], ["c", "d"], label_E, ids), "p ")
    assert rows.texts == ["p a", "p c", "p b", "p d"] and rows.text_pairs is None
    assert rows.labels.tolist() == [0.5, 0.5, -1.0, -1.0]
    assert rows.example_ids.tolist() == [6, 7, 0, 1] and rows.example_ids.dtype == np.int32


def test_texts_are_trained_on_or_compare_models():
    texts = as_texts([("a", "b"), "c", "a", " ", ("d", "")])
    assert texts == ["a", "b", "c", "d"]
    given = [f"text {number}" for number in range(105)]
    parts = divide_vectors(given, ["more", "text 3"])
    train, judged = parts["train"], parts["validation"]
    assert len(judged) == 20 and len(train) == 86 and "more" in train
    assert not set(train) & set(judged) and set(train) | set(judged) == {*given, "more"}
    with pytest.raises(ValueError, match="there are 99 different texts; .* at least 100"):
        divide_vectors(given[:99])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__metric": "accuracy"}, "'accuracy'; similarities of pairs are scored by pearson"),
        ({"data__activation": "sigmoid"}, "activation is given, but task 'custom_similarity'"),
        ({"data__class_names": ("a", "b")}, "class_names is given, but task 'custom_similarity'"),
        (
            {"data__columns": COLUMNS | {"label": "second"}},
            r"row 1 has the label '.*'; expected a number",
        ),
        (
            {"data__columns": {"text": "first", "label": "similarity"}},
            "task 'custom_similarity' has single texts, and similarities are of pairs",
        ),
    ],
)
def test_wrong_fields_are_named(config_of, tiny_files, changes, message):
    with pytest.raises(ValueError, match=message):
        similarity_data(config_of(**changes), tiny_files / "model", ("train",))


@pytest.mark.parametrize(
    ("label", "message"),
    [("5", "the split train has the similarity 5; .* from -1 to 1"), ("NaN", "label nan|'NaN'")],
)
def test_labels_that_are_no_cosines_are_named(config_of, tiny_files, tmp_path, label, message):
    rows = [
        f'{{"first": "a {number}", "second": "film", "similarity": {label}}}\n'
        for number in range(20)
    ]
    (tmp_path / "train.jsonl").write_text("".join(rows))
    config = config_of(data__source=f"file:{tmp_path}", data__split_fractions={"validation": 5})
    with pytest.raises(ValueError, match=message):
        similarity_data(config, tiny_files / "model", ("train",))


def test_a_pooling_is_of_plain_encoders(config_of, given, tiny_files):
    config = config_of(data__pooling="cls")
    found = similarity_data(config, tiny_files / "model", ("validation",))
    assert found.head is embedding("cls")
    with pytest.raises(ValueError, match="config.data.pooling is 'cls', and .* names its own"):
        similarity_data(config, given, ("validation",))


@pytest.mark.parametrize("field", [{"labels": ["a"]}, {"protects_query": True}])
def test_options_of_other_models_are_named(given, tmp_path, field):
    options = SMALL._replace(**field)
    with pytest.raises(ValueError, match="is for classes and scores, and the model returns vecto"):
        compress(given, make_texts(), tmp_path / "out", options=options, log=silent)
