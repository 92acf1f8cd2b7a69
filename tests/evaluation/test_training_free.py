"""A fine-tuned model and unlabelled text give a faster model without a step of training."""

import jax
import numpy as np
import pytest

from adapler_jax.evaluation import training_free
from adapler_jax.evaluation.attribution import layer_saliency
from adapler_jax.evaluation.budgets import measure_texts
from adapler_jax.evaluation.models import evaluate_model, flops_of_examples
from adapler_jax.evaluation.passes import join_passes, run_batches
from adapler_jax.evaluation.training_free import (
    TRAINING_FREE,
    predicted_logit,
    prune_without_training,
    spread,
    vocabulary_saliency,
)
from adapler_jax.heads import CLASSIFICATION, SPAN, embedding, regression
from adapler_jax.pruning import keep_all
from adapler_jax.training.losses import input_saliency
from tests import tiny
from tests.evaluation.test_shares import make_batches
from tests.marks import mostly_long
from tests.tiny import CONFIG

PARAMS = tiny.make_params()


@pytest.mark.parametrize("method", mostly_long(TRAINING_FREE, quick=["attention"]))
def test_a_model_has_the_asked_speedup_and_its_own_weights(method):
    batches = make_batches()
    params, pruner = prune_without_training(PARAMS, CONFIG, batches, method=method, speedup=1.5)
    assert pruner.name == method
    found = evaluate_model(params, CONFIG, pruner, batches)
    assert found.flops_speedup == pytest.approx(1.5, rel=0.05)  # texts of at most 12 tokens
    for name in ("encoder", "head"):
        jax.tree.map(np.testing.assert_array_equal, params[name], PARAMS[name])


def test_the_profile_that_agrees_more_is_kept(monkeypatch):
    batches = make_batches()

    def classes_of(params, pruner):
        return measure_texts(params, CONFIG, pruner, batches).predicted_E

    found = {}
    for steepness in (1.0, 1.5):
        monkeypatch.setattr(training_free, "STEEPNESS", (steepness,))
        params, pruner = prune_without_training(
            PARAMS, CONFIG, batches, method="attention", speedup=2.0
        )
        found[steepness] = np.asarray(params["pruner"]["share_J"]), classes_of(params, pruner)
    full = classes_of(PARAMS, keep_all())
    best = max(found, key=lambda steepness: np.mean(found[steepness][1] == full))
    monkeypatch.setattr(training_free, "STEEPNESS", (1.0, 1.5))
    params, _ = prune_without_training(PARAMS, CONFIG, batches, method="attention", speedup=2.0)
    np.testing.assert_array_equal(params["pruner"]["share_J"], found[best][0])


def test_a_model_of_numbers_keeps_the_profile_with_the_nearest_numbers(monkeypatch):
    batches, head = make_batches(), regression()
    classifier = {name: leaf[..., :1] for name, leaf in PARAMS["head"]["classifier"].items()}
    full = PARAMS | {"head": PARAMS["head"] | {"classifier": classifier}}

    def numbers_of(params, pruner):
        run = run_batches(params, CONFIG, pruner, batches, head=head)
        return join_passes(run).logit_EC

    def share_of(steepness):
        monkeypatch.setattr(training_free, "STEEPNESS", steepness)
        options = {"method": "attention", "speedup": 2.0, "head": head}
        params, pruner = prune_without_training(full, CONFIG, batches, **options)
        error = np.mean((numbers_of(params, pruner) - numbers_of(full, keep_all())) ** 2)
        return error, np.asarray(params["pruner"]["share_J"])

    tried = [share_of((steepness,)) for steepness in (1.0, 1.5)]
    assert tried[0][0] != tried[1][0]
    found = share_of((1.0, 1.5))
    np.testing.assert_array_equal(found[1], min(tried, key=lambda one: one[0])[1])


def test_protected_tokens_count_in_the_speedup():
    batches, head = make_batches(), regression(protects_query=True)
    classifier = {name: leaf[..., :1] for name, leaf in PARAMS["head"]["classifier"].items()}
    full = PARAMS | {"head": PARAMS["head"] | {"classifier": classifier}}
    options = {"method": "attention", "speedup": 1.2, "head": head}
    params, pruner = prune_without_training(full, CONFIG, batches, **options)
    found = join_passes(run_batches(params, CONFIG, pruner, batches, head=head))
    spent = flops_of_examples(params, CONFIG, pruner, found.length_E, found.count_NE, head=head)
    assert spent[0].sum() / spent[1].sum() == pytest.approx(1.2, rel=0.05)
    protected_E = training_free.protected_counts(head, batches)
    assert np.all(found.count_NE[:-1] >= protected_E) and protected_E.min() >= 1
    assert training_free.protected_counts(regression(), batches) == 0
    with pytest.raises(ValueError, match="attention: 90x is out of reach"):
        prune_without_training(full, CONFIG, batches, **(options | {"speedup": 90.0}))


def test_the_table_is_the_mean_relative_saliency_of_each_entry():
    (batch,) = make_batches(num_batches=1)
    saliency_BL = np.asarray(layer_saliency(PARAMS, CONFIG, batch)[0][0], np.float64)
    relative = {}
    for row, valid_L in enumerate(batch.valid_BL):
        values = saliency_BL[row][valid_L]
        for token, value in zip(batch.token_BL[row][valid_L], values / values.mean()):
            relative.setdefault(int(token), []).append(value)
    mean = np.mean([np.mean(values) for values in relative.values()])
    found_V = vocabulary_saliency(PARAMS, CONFIG, [batch])
    for token in range(CONFIG.vocab_size):
        values = [*relative.get(token, []), mean]
        assert found_V[token] == pytest.approx(np.mean(values), rel=1e-4)


def test_padding_and_padding_examples_are_not_in_the_table():
    (batch,) = make_batches(num_batches=1)
    padded = batch.replace(
        example_id_B=np.where(np.arange(16) < 9, batch.example_id_B, -1).astype(np.int32)
    )
    alone = jax.tree.map(lambda leaf: leaf[:9], batch)
    np.testing.assert_allclose(
        vocabulary_saliency(PARAMS, CONFIG, [padded]),
        vocabulary_saliency(PARAMS, CONFIG, [alone]),
        rtol=1e-5,
    )


def test_saliency_of_the_predicted_class_equals_the_first_layer_of_the_explanation():
    (batch,) = make_batches(num_batches=1)
    found_BL, logits = input_saliency(PARAMS, CONFIG, batch, target=predicted_logit(CLASSIFICATION))
    expected_NBL, expected = layer_saliency(PARAMS, CONFIG, batch)
    np.testing.assert_allclose(found_BL, expected_NBL[0], atol=1e-5)
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_a_sample_spreads_over_the_batches():
    batches = make_batches(num_batches=9)
    found = spread(batches, 50)  # a third of 144 texts
    assert [id(batch) for batch in found] == [id(batches[index]) for index in (1, 4, 7)]
    assert len(spread(batches, 10_000)) == 9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "magic"}, "method is 'magic'; expected attention or vocabulary"),
        ({"batches": []}, "there is no text; method attention needs unlabelled text"),
        (
            {"head": SPAN},
            "is for classes, labels, scores and vectors of texts; this model has span",
        ),
        ({"speedup": 0.0}, "speedup is 0.0; expected a factor of 1 or more"),
        ({"speedup": 100.0}, "attention: 100x is out of reach"),
    ],
)
def test_wrong_requests_end_in_one_line(changes, message):
    options = {"batches": make_batches(), "method": "attention", "speedup": 2.0} | changes
    with pytest.raises(ValueError, match=message):
        prune_without_training(PARAMS, CONFIG, **options)


@pytest.mark.parametrize("method", TRAINING_FREE)
def test_a_model_of_vectors_is_pruned_with_the_operations_of_its_own_head(method):
    batches, head = make_batches(), embedding(dense_dim=6)
    params = PARAMS | {"head": head.init(jax.random.key(2), CONFIG, 0)}
    found, pruner = prune_without_training(
        params, CONFIG, batches, method=method, speedup=1.4, head=head
    )
    passes = run_batches(found, CONFIG, pruner, batches, head=head)
    joined = join_passes(passes)
    dense_E, pruned_E = flops_of_examples(
        found, CONFIG, pruner, joined.length_E, joined.count_NE, head=head
    )
    assert dense_E.sum() / pruned_E.sum() == pytest.approx(1.4, rel=0.05)
    assert joined.count_NE[-1].max() > 1  # the last layer runs on all tokens that are left


def test_vectors_are_compared_by_their_direction():
    full_EI = np.array([[1.0, 0.0], [0.0, 2.0]])
    assert training_free.distance(embedding(), 5.0 * full_EI, full_EI) == pytest.approx(0.0)
    turned_EI = np.array([[0.6, 0.8], [0.0, 1.0]])
    assert training_free.distance(embedding(), turned_EI, full_EI) == pytest.approx(0.2)


@pytest.mark.long
def test_the_vocabulary_of_a_model_of_vectors_has_the_saliency_of_their_length():
    batches, head = make_batches(), embedding()
    params = PARAMS | {"head": {}}
    found_V = vocabulary_saliency(params, CONFIG, batches, head=head)
    assert found_V.shape == (CONFIG.vocab_size,) and np.all(found_V > 0)
    by_class_V = vocabulary_saliency(PARAMS, CONFIG, batches)
    assert np.abs(found_V - by_class_V).max() > 1e-3
    first = batches[0]
    measured_BL, vectors = input_saliency(
        params, CONFIG, first, target=head.target_logit, head=head
    )
    assert np.all(measured_BL[first.valid_BL] > 0) and not np.any(measured_BL[~first.valid_BL])
    assert vectors.shape == (len(first.token_BL), CONFIG.hidden_dim)
