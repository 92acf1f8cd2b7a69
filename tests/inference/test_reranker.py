"""A saved reranker gives scores and orders."""

import dataclasses
import functools
import pickle
import shutil
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

import adapler_jax
from adapler_jax import onnx as runtime
from adapler_jax.data.batching.padding import pad_batch
from adapler_jax.heads import CLASSIFICATION, regression
from adapler_jax.inference import number_models
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.reranker import Reranker
from adapler_jax.weights.save import save_model
from benchmarks.compilations import compilations
from tests import tiny
from tests.data.conftest import build_tokenizer
from tests.marks import mostly_long

QUERY = "a good film"
DOCUMENTS = ["bad", "a film .", "", "good good film " * 20, "good bad film", "bad"]
PAIRS = [(QUERY, text) for text in DOCUMENTS]


def save(directory, head, num_outputs=1, *, num_segments=2, pruner=None, **changes):
    """Save the tiny model with some of its outputs, and with another pruner's parameters."""
    params, config = tiny.make_params(), dataclasses.replace(tiny.CONFIG, num_segments=num_segments)
    embeddings = params["encoder"]["embeddings"]
    embeddings["segment"] = embeddings["segment"][:num_segments]
    classifier = {
        name: leaf[..., :num_outputs] for name, leaf in params["head"]["classifier"].items()
    }
    options = {"pruner_name": "adapler", "max_length": 16, "tokenizer": build_tokenizer()}
    options |= changes
    if options["pruner_name"] != "adapler":
        params["pruner"] = pruner or {}
    return save_model(
        directory,
        params | {"head": params["head"] | {"classifier": classifier}},
        config,
        head=head,
        **options,
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Directories of a model of logits, and of one of shares."""
    root = tmp_path_factory.mktemp("rerankers")
    for activation in ("identity", "sigmoid"):
        save(root / activation, regression(activation))
    return root


@pytest.fixture(scope="module")
def load(models):
    """Load a model once for each driver."""

    @functools.cache
    def load(activation="identity", driver="masked"):
        return Reranker.load(models / activation, driver=driver)

    return load


def test_a_score_depends_on_its_pair_alone(load):
    scores = load().predict(PAIRS)
    assert scores.shape == (6,) and scores.dtype == np.float32 and np.ptp(scores) > 1e-3
    assert scores[0] == scores[5]
    alone = [load().predict([pair])[0] for pair in PAIRS]
    np.testing.assert_allclose(scores, alone, atol=1e-6)
    np.testing.assert_allclose(scores[::-1], load().predict(PAIRS[::-1], batch_size=2), atol=1e-6)


def test_a_sigmoid_is_the_models_own_or_the_callers(load):
    logits, shares = load().predict(PAIRS), load("sigmoid").predict(PAIRS)
    np.testing.assert_allclose(shares, 1 / (1 + np.exp(-logits)), rtol=1e-5)
    np.testing.assert_allclose(load().predict(PAIRS, activation="sigmoid"), shares, rtol=1e-6)
    np.testing.assert_array_equal(load("sigmoid").predict(PAIRS, activation="identity"), logits)


@pytest.mark.parametrize("driver", mostly_long(["bucketed", "packed"], quick=["bucketed"]))
def test_every_driver_gives_the_same_scores(load, driver):
    expected = load().predict(PAIRS)
    np.testing.assert_allclose(load(driver=driver).predict(PAIRS), expected, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("method", ["adapler", "attention"])
def test_a_protected_query_stays_in_every_driver(tmp_path, method):
    head = regression(protects_query=True)
    changes = {"pruner_name": method}
    if method == "attention":
        changes["pruner"] = {"share_J": jnp.full((tiny.CONFIG.num_layers,), 0.3)}
    directory = save(tmp_path / "m", head, **changes)
    plain = Reranker.load(save(tmp_path / "plain", regression(), **changes), driver="masked")
    expected = Reranker.load(directory, driver="masked").predict(PAIRS)
    assert np.abs(plain.predict(PAIRS) - expected).max() > 1e-4
    for driver in ("bucketed", "packed"):
        model = Reranker.load(directory, driver=driver)
        tokens = model.encode_tokens(PAIRS)
        batch = pad_batch(
            [row.token_L for row in tokens], [row.segment_L for row in tokens], length=16
        )
        found_B1, trace = model.run(model.params, batch)
        np.testing.assert_allclose(found_B1[:, 0], expected, atol=1e-5)
        keep_NBL = np.asarray(trace.survival_NBL[:-1]) > 0  # the last layer computes [CLS] alone
        is_query_BL = batch.valid_BL & (batch.segment_BL == 0)
        assert keep_NBL[:, is_query_BL].all() and not keep_NBL[:, batch.valid_BL].all()


def test_only_models_with_segments_protect_queries(tmp_path):
    with pytest.raises(ValueError, match="protects_query is set, but this model has no segments"):
        save(tmp_path / "m", regression(protects_query=True), num_segments=1)
    directory = save(tmp_path / "m", regression(protects_query=True))
    with pytest.raises(ValueError, match="protects its query's tokens, which ONNX files do not"):
        adapler_jax.export_onnx(directory)
    assert not (directory / "modeling_adapler.py").exists()


def test_documents_are_sorted_by_their_scores(load):
    scores = load().predict(PAIRS)
    ranked = load().rank(QUERY, DOCUMENTS)
    assert [row["corpus_id"] for row in ranked] == np.argsort(-scores, kind="stable").tolist()
    assert [row["score"] for row in ranked] == sorted(scores.tolist(), reverse=True)
    assert {tuple(row) for row in ranked} == {("corpus_id", "score")}
    assert all(type(row["corpus_id"]) is int and type(row["score"]) is float for row in ranked)
    first = load().rank(QUERY, np.array(DOCUMENTS), 2, True)
    assert [row["text"] for row in first] == [DOCUMENTS[row["corpus_id"]] for row in ranked[:2]]
    assert load().rank(QUERY, DOCUMENTS, top_k=99) == ranked
    ids = [row["corpus_id"] for row in ranked]
    assert ids.index(0) == ids.index(5) - 1  # equal documents keep their order


def test_an_order_does_not_depend_on_the_other_documents(load):
    ranked = load().rank(QUERY, DOCUMENTS)
    some = load().rank(QUERY, DOCUMENTS[1:5])
    expected = [row["corpus_id"] - 1 for row in ranked if 1 <= row["corpus_id"] < 5]
    assert [row["corpus_id"] for row in some] == expected


def test_a_long_document_is_as_good_as_its_best_window(load):
    document = "good good film . " + "bad " * 11
    cut, best = (
        load().predict([(QUERY, document), (QUERY, "bad")], long_documents=mode)
        for mode in ("truncate", "best_window")
    )
    # of 16 slots 3 are special and 3 are the query's, windows of 10 words overlap by 5
    words = document.split()
    windows = [" ".join(words[start : start + 10]) for start in (0, 5, 10)]
    scores = load().predict([(QUERY, window) for window in windows])
    np.testing.assert_allclose(best[0], scores.max(), atol=1e-6)
    np.testing.assert_allclose(cut[0], scores[0], atol=1e-6)
    np.testing.assert_allclose(best[1], cut[1], atol=1e-6)
    assert best[0] > cut[0] + 1e-4


def test_scores_near_zero_keep_their_order():
    logits = np.linspace(-40.0, -10.0, 2001, dtype=np.float32)
    found = number_models.activate(logits, "sigmoid")
    assert len(np.unique(found)) == 2001 and found.dtype == np.float32
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits.astype(np.float64))), rtol=1e-6)


def test_an_order_is_of_logits_where_scores_are_equal(load):
    bias = {"bias": jnp.asarray([60.0])}
    head = load("sigmoid").params["head"]
    classifier = head["classifier"] | bias
    params = load("sigmoid").params | {"head": head | {"classifier": classifier}}
    model = dataclasses.replace(load("sigmoid"), params=params)
    found = model.rank(QUERY, DOCUMENTS)
    assert {row["score"] for row in found} == {1.0}
    expected = model.rank(QUERY, DOCUMENTS, activation="identity")
    assert [row["corpus_id"] for row in found] == [row["corpus_id"] for row in expected]


def test_windows_are_of_the_document_even_where_the_query_is_longer(load):
    query, document = "good " * 8, "bad good film a film . bad"
    (found,) = load().predict([(query, document)], long_documents="best_window")
    words = document.split()
    # of 16 slots 3 are special and 8 are the query's: windows of 5 words overlap by 3
    windows = [" ".join(words[start : start + 5]) for start in (0, 2)]
    expected = load().predict([(query, window) for window in windows]).max()
    assert found == pytest.approx(expected, abs=1e-6)


def test_one_pair_has_one_score(load):
    expected = load().predict(PAIRS[1:2])[0]
    assert load().predict((QUERY, "a film .")) == load().predict([QUERY, "a film ."]) == expected
    one = {"text": QUERY, "text_pair": "a film ."}
    assert load().predict([one]) == load().predict(one) == expected
    assert load().predict(np.array([QUERY, "a film ."])) == expected
    assert load().predict([]).shape == (0,)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda model: model.predict(["a", "b", "c"]), TypeError, "text 0 is 'a'; expected pairs"),
        (lambda model: model.predict([("a", "b"), "c"]), TypeError, "text 1 is 'c'"),
        (lambda model: model.predict([("a", None)]), TypeError, r"text 0 is \('a', None\)"),
        (lambda model: model.predict(PAIRS, activation="tanh"), ValueError, "activation is 'tanh'"),
        (
            lambda model: model.predict(PAIRS, long_documents="mean"),
            ValueError,
            "long_documents is 'mean'; expected truncate or best_window",
        ),
        (lambda model: model.predict(PAIRS, batch_size=0), ValueError, "batch_size is 0"),
        (lambda model: model.rank(QUERY, []), ValueError, "there are no documents"),
        (lambda model: model.rank(QUERY, "bad"), TypeError, "expected a list of strings"),
        (lambda model: model.rank(QUERY, {"bad"}), TypeError, "expected a list of strings"),
        (lambda model: model.rank(QUERY, {"text": "bad"}), TypeError, "expected a list of strings"),
        (lambda model: model.rank(QUERY, ["bad", 3]), TypeError, "document 1 is 3"),
        (lambda model: model.rank(None, ["bad"]), TypeError, "query is None"),
        (lambda model: model.rank(QUERY, ["bad"], 0), ValueError, "top_k is 0"),
        (lambda model: model.rank(QUERY, ["bad"], True), ValueError, "top_k is True"),
        (
            lambda model: model.rank("good " * 13, ["bad"]),
            ValueError,
            "the query has 13 tokens; this model takes 13 of a query and a document together",
        ),
    ],
)
def test_wrong_input_is_named(load, call, error, message):
    with pytest.raises(error, match=message):
        call(load())


def test_a_model_of_another_kind_is_named(models, tmp_path):
    classifier = save(tmp_path / "classes", CLASSIFICATION, 3, class_names=("a", "b", "c"))
    with pytest.raises(ValueError, match="'classification', which gives no score .* Classifier"):
        Reranker.load(classifier)
    with pytest.raises(ValueError, match="head 'regression'.* load it with Reranker"):
        Classifier.load(models / "sigmoid")


def test_no_program_is_compiled_after_the_warm_up(load):
    model = load()
    model.warm_up(4)
    with compilations() as found:
        model.rank(QUERY, DOCUMENTS, batch_size=4)
    assert found == []


def test_names_and_scores_of_activations_are_the_heads():
    head_module = sys.modules["adapler_jax.heads.regression"]  # the function has its name
    assert number_models.ACTIVATIONS == head_module.ACTIVATIONS
    logits = np.array([-1e4, -2.0, 0.0, 3.0, 1e4], np.float32)
    for name in number_models.ACTIVATIONS:
        expected = head_module.apply_activation(logits, name)
        np.testing.assert_allclose(number_models.activate(logits, name), expected, atol=1e-7)


def test_an_exported_file_ranks_as_the_library_does_without_jax(load, models, tmp_path):
    directory = tmp_path / "model"
    shutil.copytree(models / "sigmoid", directory)
    adapler_jax.export_onnx(directory)
    exported = runtime.Reranker.load(directory, num_threads=1)
    for mode in ("truncate", "best_window"):
        expected = load("sigmoid").predict(PAIRS, long_documents=mode)
        found = exported.predict(PAIRS, batch_size=4, long_documents=mode)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    ranked = load("sigmoid").rank(QUERY, DOCUMENTS, 3, True)
    for found, expected in zip(exported.rank(QUERY, DOCUMENTS, 3, True), ranked, strict=True):
        assert found["text"] == expected["text"]
        assert found["score"] == pytest.approx(expected["score"], abs=1e-5)
    program = (
        "import sys; from adapler_jax.onnx import Reranker\n"
        f"print(Reranker.load({str(directory)!r}).predict([('a film', 'bad')]).shape)\n"
        "assert not {'jax', 'torch', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert done.stdout == "(1,)\n", done.stderr
    with pytest.raises(ValueError, match="does not classify texts; load it with Reranker"):
        runtime.Classifier.load(directory)


def test_an_exported_classifier_is_no_reranker(tmp_path):
    directory = save(tmp_path / "m", CLASSIFICATION, 3, class_names=("a", "b", "c"))
    adapler_jax.export_onnx(directory)
    with pytest.raises(ValueError, match="gives no scores to texts; load it with Classifier"):
        runtime.Reranker.load(directory)


def test_a_reranker_is_sent_to_another_process(load):
    copy = pickle.loads(pickle.dumps(load()))
    np.testing.assert_array_equal(copy.predict(PAIRS), load().predict(PAIRS))
