"""Texts and budgets of the tests of calibrations."""

import numpy as np

WORDS = ("a", "film", "films", ".", "good", "bad")
BUDGETS = (0.4, 0.6, 0.8, 1.0)


def make_texts(num_texts, seed=0):
    """Return random texts of 3 to 13 words."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(3, 14))) for _ in range(num_texts)]
