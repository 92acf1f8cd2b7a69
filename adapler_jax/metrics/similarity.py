"""Compare the vectors of two models on the same texts: similarities of pairs, and directions.

Shape letters:

    E texts
    I entries of a vector
    G groups of pairs
    M pairs of a group
"""

import numpy as np

from adapler_jax.metrics.classification import spearman

NUM_GROUPS, GROUP_PAIRS = 50, 400  # of random pairs
SEED = 0  # of the pairs, which are equal for all models of a set of texts


def unit_vectors(vector_EI: np.ndarray) -> np.ndarray:
    """Return vectors of length 1, float64; a vector of zeros stays as it is."""
    vector_EI = np.asarray(vector_EI, np.float64)
    length_E1 = np.linalg.norm(vector_EI, axis=-1, keepdims=True)
    return vector_EI / np.where(length_E1 > 0, length_E1, 1.0)


def cosines(first_EI: np.ndarray, second_EI: np.ndarray) -> np.ndarray:
    """Return the cosine of each vector with the other one of its row, float64 [E]."""
    return np.sum(unit_vectors(first_EI) * unit_vectors(second_EI), axis=-1)


def random_pairs(num_texts: int) -> np.ndarray:
    """Return pairs of different texts, int64 [G, M, 2], equal in every call.

    Raises:
      ValueError: there is no pair.
    """
    if num_texts < 2:
        raise ValueError(f"there are {num_texts} texts; similarities need at least 2")
    rng = np.random.default_rng(SEED)
    first_GM = rng.integers(num_texts, size=(NUM_GROUPS, GROUP_PAIRS))
    step_GM = rng.integers(1, num_texts, size=first_GM.shape)
    return np.stack([first_GM, (first_GM + step_GM) % num_texts], axis=-1)


def similarity_agreement(vector_EI: np.ndarray, full_EI: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation of both models' similarities in each group, float64 [G].

    The groups are of `random_pairs`, so their mean is the correlation over random pairs of texts,
    and their spread its error.

    Args:
      vector_EI: vectors of a model.
      full_EI: vectors of the full model.
    """
    pair_GM2 = random_pairs(len(full_EI))
    found_GM, full_GM = (
        np.sum(unit_EI[pair_GM2[..., 0]] * unit_EI[pair_GM2[..., 1]], axis=-1)
        for unit_EI in (unit_vectors(vector_EI), unit_vectors(full_EI))
    )
    return np.array([spearman(found_M, full_M) for found_M, full_M in zip(found_GM, full_GM)])
