"""Similarities of pairs are scored by their order."""

import numpy as np
import pytest

from adapler_jax.evaluation.similarity_scoring import SimilarityScorer
from tests.heads.rows import batch_of

ANGLES = np.array([0, 10, 0, 50, 0, 90, 0, 20]) * np.pi / 180  # of four pairs, one is padding
VECTORS = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1) * np.arange(1, 9)[:, None]


def score(labels, metric="spearman"):
    """Score the first three pairs; rows of pair k have the ids 2k and 2k + 1."""
    batch = batch_of([1] * 8).replace(
        label_B=np.repeat(np.float32(labels), 2), example_id_B=np.array([4, 5, 2, 3, 0, 1, -1, -1])
    )
    scorer = SimilarityScorer(metric)
    scorer.add(VECTORS, batch, np.arange(8) < 6)
    return scorer


def test_the_score_is_of_cosines_of_real_pairs():
    scorer = score([0.9, 0.5, 0.1, 7.0])
    assert scorer.scores()["score"] == 1.0
    np.testing.assert_allclose(
        scorer.scores()["mse"], np.mean((np.cos(ANGLES[1:6:2]) - [0.9, 0.5, 0.1]) ** 2), rtol=1e-5
    )
    assert score([0.1, 0.5, 0.9, 7.0]).scores()["score"] == -1.0
    assert set(scorer.example_scores()) == {0, 1, 2}


def test_another_models_similarities_are_compared():
    scorer = score([0.9, 0.5, 0.1, 0.0])
    assert scorer.agreement(scorer) == {"kendall_tau": 1.0}
    assert scorer.difference_se(scorer) == 0.0


def test_metrics_of_orders_are_named():
    with pytest.raises(ValueError, match="'ndcg@10'; similarities .* by pearson or spearman"):
        SimilarityScorer("ndcg@10")
