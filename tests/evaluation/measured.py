"""Measurements of texts that no model ran on."""

import numpy as np

from adapler_jax.evaluation.budgets import Measured
from adapler_jax.evaluation.escalation import MeasuredTexts


def measured(predicted, margins, cost):
    """Return the measurement of texts whose dense pass costs 100."""
    num_texts = len(predicted)
    return Measured(
        kept_share=cost / 100,
        predicted_E=np.array(predicted, np.int32),
        share_E=np.full(num_texts, cost / 100),
        margin_E=np.array(margins, float),
        difference_E=np.array(margins, float),
        dense_E=np.full(num_texts, 100),
        pruned_E=np.full(num_texts, cost),
    )


def make_texts(num_texts, seed, *, rate=0.2):
    """Return texts whose errors at a budget have small margins."""
    rng = np.random.default_rng(seed)
    rows = {1.0: measured(np.zeros(num_texts), np.ones(num_texts), 100)}
    for budget in (0.2, 0.5):
        margin_E = rng.uniform(size=num_texts)
        is_wrong_E = (margin_E < rate) & (rng.uniform(size=num_texts) < 1.0 - budget)
        rows[budget] = measured(is_wrong_E, margin_E, round(100 * budget))
    return MeasuredTexts(rows, full_E=np.zeros(num_texts))
