import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax import flops, heads, model_flops
from adapler_jax import forward as full_width
from adapler_jax.evaluation.models import compare_speed, evaluate_model
from adapler_jax.evaluation.scoring import ClassScorer
from adapler_jax.pruning import adapler, keep_all
from adapler_jax.types import PADDING_EXAMPLE_ID, Batch, EncoderConfig
from tests import plain_bert as encoder
from tests.counts import pruned_flops

CONFIG = EncoderConfig(
    num_layers=4, num_heads=4, hidden_dim=16, ffn_dim=32, vocab_size=50, num_positions=24
)
PRUNER = adapler(CONFIG, predictor_dim=8)
BUCKETS = (4, 12)
HEAD = flops.pooled_flops(CONFIG, 2)
SIZES = {"sites": PRUNER.sites, "predictor_dim": 8, "head": HEAD}


@functools.cache
def make_params(pruner_name):
    encoder_key, head_key, pruner_key = jax.random.split(jax.random.key(1), 3)
    pruner_params = {}
    if pruner_name == "adapler":
        pruner_params = PRUNER.init(pruner_key, CONFIG)
        for name in ("hidden", "score"):
            pruner_params[name]["kernel"] = pruner_params[name]["kernel"] * 14.0
        pruner_params["threshold_N"] = jnp.full((4,), 0.8, jnp.float32)
    return {
        "encoder": encoder.init_encoder(encoder_key, CONFIG),
        "head": heads.init_classifier(head_key, CONFIG, 2),
        "pruner": pruner_params,
    }


def make_batches():
    """Two batches of three rows; the last row of the second is a filler."""
    generator = np.random.default_rng(0)
    for lengths, ids in (([3, 12, 7], [2, 0, 1]), ([9, 4, 1], [3, 4, PADDING_EXAMPLE_ID])):
        valid_BL = np.arange(12) < np.array(lengths)[:, None]
        yield Batch(
            token_BL=(generator.integers(1, 50, (3, 12)) * valid_BL).astype(np.int32),
            segment_BL=np.zeros((3, 12), np.int32),
            valid_BL=valid_BL,
            label_B=np.array([0, 1, 0], np.int32),
            example_id_B=np.array(ids, np.int32),
        )


@pytest.fixture(scope="module", name="evaluation")
def _evaluation():
    return evaluate("bucketed")


def evaluate(driver):
    """The evaluation, with the predictions and labels of its scorer."""
    scorer = ClassScorer()
    found = evaluate_model(
        make_params("adapler"),
        CONFIG,
        PRUNER,
        make_batches(),
        scorer=scorer,
        buckets=BUCKETS,
        driver=driver,
    )
    return types.SimpleNamespace(
        **{name: getattr(found, name) for name in (*found.__dataclass_fields__, "score")},
        predicted_E=scorer.predicted_E,
        label_E=scorer.label_E,
    )


def test_padding_examples_do_not_count(evaluation):
    assert evaluation.example_id_E.tolist() == [2, 0, 1, 3, 4]
    assert evaluation.length_E.tolist() == [3, 12, 7, 9, 4]
    assert evaluation.count_NE.shape == (4, 5)


def test_the_score_compares_predictions_with_labels(evaluation):
    assert evaluation.label_E.tolist() == [0, 1, 0, 0, 1]
    assert evaluation.score == np.mean(evaluation.predicted_E == evaluation.label_E)


@pytest.mark.long
def test_nll_is_the_loss_of_the_true_labels(evaluation):
    total = 0.0
    for batch in make_batches():
        logits_BC, _ = full_width.forward(make_params("adapler"), CONFIG, PRUNER, batch, slope=None)
        log_prob_BC = np.asarray(logits_BC - jax.nn.logsumexp(logits_BC, axis=-1, keepdims=True))
        total -= sum(
            log_prob_BC[row, batch.label_B[row]]
            for row in range(3)
            if batch.example_id_B[row] != PADDING_EXAMPLE_ID
        )
    assert evaluation.nll == pytest.approx(total / 5, rel=1e-5)


def test_the_speedup_follows_from_the_counts(evaluation):
    options = {"head": HEAD, "reads_first": True}
    dense_E = model_flops.dense_flops(CONFIG, evaluation.length_E, **options)
    pruned_E = pruned_flops(
        CONFIG, evaluation.length_E, evaluation.count_NE, **SIZES | {"reads_first": True}
    )
    assert evaluation.flops_speedup == dense_E.sum() / pruned_E.sum() > 1
    np.testing.assert_allclose(evaluation.kept_tokens, evaluation.count_NE.mean(axis=1))


def test_drivers_agree(evaluation):
    other = evaluate("masked")
    np.testing.assert_array_equal(other.predicted_E, evaluation.predicted_E)
    np.testing.assert_array_equal(other.count_NE, evaluation.count_NE)
    # The reference computes all tokens in the last layer, the dense model [CLS] alone.
    assert other.executed_flops_speedup < 1.0 < evaluation.executed_flops_speedup


def test_plain_bert_saves_nothing():
    dense = evaluate_model(
        make_params("keep_all"),
        CONFIG,
        keep_all(),
        make_batches(),
        scorer=ClassScorer("f1"),
        driver="bucketed",
    )
    assert dense.flops_speedup == dense.executed_flops_speedup == 1.0
    np.testing.assert_array_equal(dense.count_NE, np.tile(dense.length_E, (4, 1)))


@pytest.mark.long
@pytest.mark.parametrize("driver", ["packed", "auto"])
def test_drivers_of_any_name_score_alike(evaluation, driver):
    found = evaluate(driver)
    np.testing.assert_array_equal(found.predicted_E, evaluation.predicted_E)
    assert found.flops_speedup == evaluation.flops_speedup
    assert found.executed_flops_speedup > 1.0


def test_no_batches_and_unknown_metrics_are_rejected():
    with pytest.raises(ValueError, match="no batches"):
        evaluate_model(make_params("keep_all"), CONFIG, keep_all(), [])
    with pytest.raises(ValueError, match="unknown metric 'bleu'; there are accuracy, f1"):
        ClassScorer("bleu")


@pytest.mark.long
@pytest.mark.parametrize("driver", ["bucketed", "packed"])
def test_comparison_times_both_models_on_the_same_batches(driver):
    comparison = compare_speed(
        make_params("adapler"),
        make_params("keep_all"),
        CONFIG,
        PRUNER,
        list(make_batches()),
        repeats=3,
        buckets=BUCKETS,
        driver=driver,
    )
    assert len(comparison.dense.seconds) == len(comparison.pruned.seconds) == 3
    assert comparison.wall_speedup > 0 and comparison.executed_flops_speedup > 1
    assert comparison.driver == driver


def test_padding_is_what_dense_bert_would_save_alone():
    batches, params = list(make_batches()), make_params("keep_all")
    found = compare_speed(params, params, CONFIG, keep_all(), batches, repeats=1)
    lengths = np.concatenate(
        [b.valid_BL.sum(-1)[b.example_id_B != PADDING_EXAMPLE_ID] for b in batches]
    )
    true = model_flops.dense_flops(CONFIG, lengths, head=HEAD, reads_first=True).sum()
    padded = sum(
        len(b.token_BL)
        * int(model_flops.dense_flops(CONFIG, b.token_BL.shape[1], head=HEAD, reads_first=True))
        for b in batches
    )
    assert found.padding_speedup == pytest.approx(padded / true) and found.padding_speedup > 1.0
    assert found.executed_flops_speedup == 1.0
