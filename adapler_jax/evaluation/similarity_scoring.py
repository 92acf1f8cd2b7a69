"""Score vectors by the similarities of pairs of texts with a number each.

Shape letters:

    I entries of a vector
"""

from typing import Any

import numpy as np

from adapler_jax.evaluation.number_scoring import NumberScorer
from adapler_jax.heads.regression import IDENTITY
from adapler_jax.metrics.ranking import CORRELATIONS
from adapler_jax.metrics.similarity import cosines
from adapler_jax.types import Batch


class SimilarityScorer(NumberScorer):
    """Score the cosines of pairs, whose two texts are neighbouring rows with one label."""

    def __init__(self, metric: str):
        """Set the metric.

        Args:
          metric: one of CORRELATIONS.

        Raises:
          ValueError: there is no such metric.
        """
        check_similarity_metric(metric)
        super().__init__(metric, activation=IDENTITY, group_E=np.zeros(0, np.int64))

    def add(self, logits: Any, batch: Batch, is_real_B: np.ndarray) -> None:
        """Add a batch; logits: vectors [B, I], and example ids 2k and 2k + 1 of pair k."""
        vector_BI = np.asarray(logits)
        cosine_B = cosines(vector_BI[0::2], vector_BI[1::2]).astype(np.float32)
        pairs = batch.replace(
            label_B=np.asarray(batch.label_B)[0::2],
            example_id_B=np.asarray(batch.example_id_B)[0::2] // 2,
        )
        super().add(cosine_B[:, None], pairs, is_real_B[0::2])


def check_similarity_metric(metric: str) -> None:
    """Raise ValueError unless a metric is a correlation."""
    if metric not in CORRELATIONS:
        raise ValueError(
            f"config.data.metric is {metric!r:.60}; similarities of pairs are scored by "
            f"{' or '.join(CORRELATIONS)}"
        )
