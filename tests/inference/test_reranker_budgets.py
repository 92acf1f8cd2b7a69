"""A calibrated reranker takes any budget, and certifies the order of documents."""

import json
import shutil
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adapler_jax
from adapler_jax import onnx as runtime
from adapler_jax.data.batching.padding import pad_batch
from adapler_jax.evaluation.budget_latency import Latency
from adapler_jax.evaluation.calibrate import calibrate_model
from adapler_jax.evaluation.certificate import Promise
from adapler_jax.heads import CLASSIFICATION, MULTI_LABEL, regression
from adapler_jax.inference.calibration import CALIBRATION_FILE, read_calibration
from adapler_jax.inference.reranker import Regressor, Reranker
from adapler_jax.weights.save import save_model
from benchmarks.compilations import compilations
from tests import tiny
from tests.inference.calibrated import BUDGETS, WORDS
from tests.inference.test_reranker import DOCUMENTS, PAIRS, QUERY, save
from tests.serving.requests import predict_file

NUM_QUERIES = 40


def make_pairs(seed=0):
    """Return pairs of 40 queries, of 14 to 20 documents each."""
    rng = np.random.default_rng(seed)
    queries = {" ".join(rng.choice(WORDS, 4)) for _ in range(10 * NUM_QUERIES)}
    found = []
    for query in sorted(queries)[:NUM_QUERIES]:
        documents = {" ".join(rng.choice(WORDS, rng.integers(2, 9))) for _ in range(60)}
        found += [(query, text) for text in sorted(documents)[: rng.integers(14, 21)]]
    return found


def num_kept(model, pairs, budget):
    """Return the tokens that all layers run on."""
    tokens = model.encode_tokens(pairs)
    batch = pad_batch([row.token_L for row in tokens], [row.segment_L for row in tokens], length=16)
    batch = batch.replace(budget_B=np.full(len(tokens), budget, np.float32))
    return int(np.asarray(model.run(model.params, batch)[1].count_NB).sum())


@pytest.fixture(scope="module", name="certified")
def _certified(tmp_path_factory):
    """The directory of a certified reranker, and the notes of its calibration."""
    directory = save(tmp_path_factory.mktemp("calibrated") / "model", regression("sigmoid"))
    notes = []
    promise = Promise(0.2, min_shared=5)
    calibrate_model(directory, make_pairs(), budgets=BUDGETS, promise=promise, log=notes.append)
    return directory, notes


@pytest.fixture(scope="module", name="reranker")
def _reranker(certified):
    return Reranker.load(certified[0], driver="masked")


@pytest.mark.long
def test_other_queries_measure_the_orders(certified):
    found = read_calibration(certified[0], tiny.CONFIG.num_layers)
    assert found.queries["num_queries"] == 0.8 * NUM_QUERIES
    assert [row["budget"] for row in found.rows] == list(found.budgets)
    last = found.rows[-1]
    assert last["kendall_tau"] == last["top10_overlap"] == last["alike_queries"] == 1.0
    assert all(row["kendall_tau"] < 1.0 for row in found.rows[:-1])
    assert found.rows[0]["kept_share"] == pytest.approx(BUDGETS[0], abs=0.08)


def test_the_certificate_is_said_in_words_and_in_the_card(certified):
    directory, notes = certified
    found = read_calibration(directory, tiny.CONFIG.num_layers).certificate
    assert found["num_texts"] <= 0.8 * NUM_QUERIES and found["min_shared"] == 5
    assert found["num_left_out"] + found["num_texts"] == 0.8 * NUM_QUERIES
    (sentence,) = (note for note in notes if note.startswith("on queries like these"))
    assert "share at least 5 with the full model's for at least 80% of queries" in sentence
    card = (directory / "README.md").read_text()
    assert "`model.rank(query, documents, certified=True)` has a bound: on queries like" in card
    assert "| Kendall's tau | same top 10 | queries that share 5 of 10 |" in card


def test_less_budget_keeps_fewer_tokens(reranker, certified, tmp_path):
    pairs = make_pairs(seed=1)[:32]
    counts = [num_kept(reranker, pairs, budget) for budget in (0.45, 0.7, 1.0)]
    assert counts == sorted(set(counts))
    shutil.copytree(certified[0], tmp_path / "plain")
    (tmp_path / "plain" / CALIBRATION_FILE).unlink()
    plain = Reranker.load(tmp_path / "plain", driver="masked")
    np.testing.assert_allclose(reranker.predict(pairs), plain.predict(pairs), atol=1e-6)
    with pytest.raises(ValueError, match="no calibration.*adapler calibrate"):
        plain.predict(pairs, budget=0.5)


def test_each_pair_may_have_its_own_budget(reranker):
    budgets = [0.4, 1.0] * 3
    mixed = reranker.predict(PAIRS, budget=budgets)
    for budget in (0.4, 1.0):
        alone = reranker.predict(PAIRS, budget=budget)
        is_same = np.array(budgets) == budget
        np.testing.assert_allclose(mixed[is_same], alone[is_same], atol=1e-6)
    assert np.abs(mixed - reranker.predict(PAIRS, budget=1.0)).max() > 1e-4
    ranked = reranker.rank(QUERY, DOCUMENTS, budget=budgets)
    assert [row["score"] for row in ranked] == pytest.approx(sorted(mixed.tolist(), reverse=True))
    windows = reranker.predict(PAIRS, budget=budgets, long_documents="best_window")
    is_short = np.arange(len(PAIRS)) != 3
    np.testing.assert_allclose(windows[is_short], mixed[is_short], atol=1e-6)


def test_queries_unlike_the_calibrations_are_noticed(certified):
    reranker = Reranker.load(certified[0], driver="masked")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reranker.predict(make_pairs(), budget=0.6, batch_size=128)
        reranker.predict([(f"{QUERY} {n}", "good good good") for n in range(150)])
        # The calibration has cut pairs, so that windows are not compared with it.
        windows = {"long_documents": "best_window", "batch_size": 128}
        reranker.predict([(f"good {n}", "good " * 30) for n in range(150)], budget=0.6, **windows)
    others = [(f"{'good ' * 9}{n}", "good good good") for n in range(150)]
    with pytest.warns(UserWarning, match="queries so far are unlike the calibration's: their mean"):
        reranker.predict(others, budget=0.6, batch_size=128)


def test_a_regressor_takes_the_same_budgets(certified, reranker):
    regressor = Regressor.load(certified[0], driver="masked")
    for options in ({"budget": 0.4}, {"budget": [0.4, 1.0] * 3}, {"speedup": 1.2}):
        expected = reranker.predict(PAIRS, **options)
        np.testing.assert_array_equal(regressor.predict(PAIRS, **options), expected)


def test_a_speedup_and_a_certificate_are_budgets(reranker):
    rows, certificate = reranker.calibration.rows, reranker.calibration.certificate
    asked = (rows[0]["flops_speedup"] + rows[1]["flops_speedup"]) / 2
    budget = reranker.calibration.budget_for(asked)
    for options, expected in (
        ({"speedup": asked}, budget),
        ({"certified": True}, certificate["budget"]),
    ):
        np.testing.assert_array_equal(
            reranker.predict(PAIRS, **options), reranker.predict(PAIRS, budget=expected)
        )
        assert reranker.rank(QUERY, DOCUMENTS, **options) == reranker.rank(
            QUERY, DOCUMENTS, budget=expected
        )


@pytest.mark.long
def test_budgets_compile_nothing_after_a_warm_up(certified):
    reranker = Reranker.load(certified[0], driver="packed")
    reranker.warm_up(2)
    with compilations() as compiled:
        for budget in (None, 1.0, 0.7, 0.5):
            reranker.rank(QUERY, DOCUMENTS, batch_size=2, budget=budget)
    assert compiled == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 1.5}, "budget is 1.5; expected 0.4 to 1"),
        ({"budget": [0.5]}, "1 budgets for 6 pairs; give one for each"),
        ({"budget": [0.5], "long_documents": "best_window"}, "1 budgets for 6 pairs"),
        ({"speedup": 99.0}, "speedup is 99; this model has speedups from 1 to"),
        ({"budget": 0.5, "speedup": 2.0}, "both given; give one"),
        ({"budget": 0.5, "certified": True}, "certified is given with a budget"),
    ],
)
def test_a_budget_that_there_is_not_is_named(reranker, options, message):
    with pytest.raises(ValueError, match=message):
        reranker.predict(PAIRS, **options)
    with pytest.raises(ValueError, match=message):
        reranker.rank(QUERY, DOCUMENTS, **options)


@pytest.mark.long
def test_a_file_of_pairs_is_scored_at_a_budget(certified, reranker, tmp_path):
    source = tmp_path / "pairs.jsonl"
    rows = [dict(zip(("query", "document"), pair)) for pair in PAIRS]
    source.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    for number, options in enumerate(({"budget": 0.4}, {"certified": True}, {"speedup": 1.2})):
        path = tmp_path / f"{number}.jsonl"
        predict_file(certified[0], source=str(source), output=str(path), **options)
        found = [json.loads(line)["score"] for line in path.read_text().splitlines()]
        np.testing.assert_allclose(found, reranker.predict(PAIRS, **options), atol=1e-6)


def test_an_exported_file_takes_budgets(certified, reranker, tmp_path):
    directory = tmp_path / "model"
    shutil.copytree(certified[0], directory)
    adapler_jax.export_onnx(directory)
    exported = runtime.Reranker.load(directory, num_threads=1)
    for options in ({}, {"budget": 0.4}, {"budget": [0.4, 1.0] * 3}, {"speedup": 1.2}):
        found = exported.predict(PAIRS, **options)
        np.testing.assert_allclose(found, reranker.predict(PAIRS, **options), atol=1e-5)
    with pytest.raises(ValueError, match="a certificate is of the library's model"):
        exported.predict(PAIRS, certified=True)
    with pytest.raises(ValueError, match="budget is 0.1; expected 0.4 to 1"):
        exported.rank(QUERY, DOCUMENTS, budget=0.1)
    with pytest.raises(ValueError, match="1 budgets for 6 pairs"):
        exported.rank(QUERY, DOCUMENTS, budget=[0.5])


@pytest.mark.long
def test_a_protected_query_counts_among_the_kept_tokens(tmp_path):
    head = regression(protects_query=True)
    for name in ("adapler", "attention"):
        pruner = {"share_J": np.full(tiny.CONFIG.num_layers, 0.6, np.float32)}
        directory = save(tmp_path / name, head, pruner_name=name, pruner=pruner)
        found = calibrate_model(directory, make_pairs(), budgets=(0.6, 0.8, 1.0))
        asked, kept = zip(*[(row["budget"], row["kept_share"]) for row in found.rows])
        assert kept == pytest.approx(asked, abs=0.05), name


@pytest.mark.long
def test_orders_are_compared_with_the_full_model_of_a_reference(certified, tmp_path):
    full = save(tmp_path / "full", regression("sigmoid"), pruner_name="keep_all")
    options = {"budgets": (0.5, 1.0), "reference": full}
    model = shutil.copytree(certified[0], tmp_path / "model")
    found = calibrate_model(model, make_pairs(), **options, latency=Latency(1e9))
    assert found.rows[-1]["kendall_tau"] == pytest.approx(1.0, abs=0.01)
    assert found.certificate is None and all(row["milliseconds"] > 0 for row in found.rows)
    classifier = save(tmp_path / "classes", CLASSIFICATION, 3, class_names=("a", "b", "c"))
    with pytest.raises(ValueError, match=r"head of the full model .*: classification; of this mod"):
        calibrate_model(certified[0], make_pairs(), budgets=(0.5, 1.0), reference=classifier)


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        (["a film"] * 200, {}, "text 0 is 'a film'; expected pairs"),
        ([("a", str(n)) for n in range(200)], {}, "the pairs have 1 queries, and 0 of them"),
        (None, {"labels": [1.0] * 900}, "labels are for classifiers, and the model is a reranker"),
        (None, {"promise": Promise(0.3, escalates_to="own")}, "a reranker runs no pair again"),
        (None, {"promise": Promise(0.01)}, "queries of 12 documents or more cannot prove a rate"),
        (None, {"promise": Promise(1.5)}, "the rate of a promise is 1.5"),
        (None, {"budgets": (0.3, 0.5)}, "expected rising numbers above 0, the last 1"),
    ],
)
def test_a_calibration_that_cannot_be_made_is_named(certified, texts, options, message):
    before = (certified[0] / CALIBRATION_FILE).read_text()
    with pytest.raises(ValueError, match=message):
        calibrate_model(certified[0], texts or make_pairs(), **options)
    assert (certified[0] / CALIBRATION_FILE).read_text() == before


def test_models_of_other_heads_are_named_before_texts_are_divided(tmp_path):
    directory = save(tmp_path / "labels", MULTI_LABEL, 3, class_names=("a", "b", "c"))
    with pytest.raises(ValueError, match="a classifier.* MultiLabelClassifier"):
        calibrate_model(directory, ["a film"])


def test_a_certificate_is_of_cut_pairs(reranker):
    options = {"certified": True, "long_documents": "best_window"}
    with pytest.raises(ValueError, match="the certificate is of cut pairs: take 'truncate'"):
        reranker.predict(PAIRS, **options)
    with pytest.raises(ValueError, match="the certificate is of cut pairs: take 'truncate'"):
        reranker.rank(QUERY, DOCUMENTS, **options)


@pytest.mark.parametrize("budget", ["abc", True, [[0.6] * 6], None, float("nan")])
def test_a_budget_that_is_no_number_is_named(reranker, budget):
    if budget is None:
        with pytest.raises(ValueError, match="speedup is '2'; expected a number"):
            reranker.predict(PAIRS, speedup="2")
        return
    with pytest.raises(ValueError, match="budget is .*; expected .* to 1, the share of tokens"):
        reranker.predict(PAIRS, budget=budget)


@pytest.mark.long
def test_a_model_of_equal_scores_is_not_calibrated(tmp_path):
    directory = save(tmp_path / "model", regression())
    saved = adapler_jax.load_model(directory)
    head = jax.tree.map(jnp.zeros_like, saved.params["head"])
    constant = save_model(
        tmp_path / "constant",
        saved.params | {"head": head},
        saved.config,
        head=saved.head,
        pruner_name="adapler",
        max_length=16,
        tokenizer=directory,
    )
    with pytest.raises(ValueError, match="gives all of .* pairs the score 0, so there is no order"):
        calibrate_model(constant, make_pairs(), budgets=BUDGETS, log=lambda note: None)


def test_queries_of_one_document_prove_nothing(tmp_path):
    directory = save(tmp_path / "model", regression())
    rng = np.random.default_rng(1)
    pairs = {(" ".join(rng.choice(WORDS, 4)), " ".join(rng.choice(WORDS, 5))) for _ in range(150)}
    found = calibrate_model(directory, sorted(pairs), budgets=BUDGETS, log=lambda note: None)
    assert found.queries["num_evidence"] == 0 and found.queries["num_queries"] > 80
    assert all(-1 <= row["kendall_tau"] <= 1 for row in found.rows)
    assert not any("top10_overlap" in row or "alike_queries" in row for row in found.rows)
