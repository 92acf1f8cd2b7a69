"""Agreement of vectors by hand."""

import numpy as np
import pytest

from adapler_jax.metrics.similarity import (
    GROUP_PAIRS,
    NUM_GROUPS,
    cosines,
    random_pairs,
    similarity_agreement,
)


def make_vectors(seed=0, num_texts=30):
    """Random vectors."""
    return np.random.default_rng(seed).normal(size=(num_texts, 5))


def test_cosines_by_hand():
    found = cosines(np.array([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0]]), np.array([[4.0, 3.0]] * 3))
    np.testing.assert_allclose(found, [24 / 25, 4 / 5, 0.0])


def test_pairs_are_of_different_texts_and_equal_in_every_call():
    pair_GM2 = random_pairs(3)
    assert pair_GM2.shape == (NUM_GROUPS, GROUP_PAIRS, 2)
    assert np.all(pair_GM2[..., 0] != pair_GM2[..., 1]) and set(pair_GM2.ravel()) == {0, 1, 2}
    np.testing.assert_array_equal(pair_GM2, random_pairs(3))
    with pytest.raises(ValueError, match="there are 1 texts; similarities need at least 2"):
        random_pairs(1)


def test_lengths_and_rotations_keep_every_similarity():
    full_EI = make_vectors()
    turn_II = np.linalg.qr(make_vectors(seed=1, num_texts=5))[0]
    found_EI = (full_EI @ turn_II) * np.linspace(0.1, 9.0, len(full_EI))[:, None]
    np.testing.assert_allclose(similarity_agreement(found_EI, full_EI), 1.0)


def test_noise_lowers_the_agreement_and_other_vectors_have_none():
    full_EI, noise_EI = make_vectors(), make_vectors(seed=2)
    means = [similarity_agreement(full_EI + x * noise_EI, full_EI).mean() for x in (0.1, 0.5, 1.0)]
    assert 1.0 > means[0] > means[1] > means[2] > 0.3
    assert abs(similarity_agreement(noise_EI, full_EI).mean()) < 0.2
