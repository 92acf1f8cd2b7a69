"""PoWER-BERT's counts for a target speedup."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapler_jax.evaluation.models import true_speedup
from adapler_jax.heads import CLASSIFICATION
from adapler_jax.pruning.powerbert import powerbert
from adapler_jax.training.retention import (
    counts_for_speedup,
    counts_of_first,
    make_speedup_of,
    ranks_by_weight,
)
from tests import tiny

NUM_LAYERS, NUM_RANKS = tiny.CONFIG.num_layers, 20
PRUNER = powerbert(tiny.CONFIG)
PARAMS = tiny.make_params(PRUNER)
WEIGHTS = st.lists(
    st.lists(st.sampled_from([0.0, 0.3, 0.5, 0.98, 1.0]), min_size=NUM_RANKS, max_size=NUM_RANKS),
    min_size=NUM_LAYERS,
    max_size=NUM_LAYERS,
)
LENGTHS = st.lists(st.integers(2, NUM_RANKS), min_size=1, max_size=12).map(np.array)


def speedup_function(length_E):
    return make_speedup_of(PARAMS, tiny.CONFIG, PRUNER, length_E, head=CLASSIFICATION)


@given(WEIGHTS, LENGTHS, st.floats(1.0, 4.0))
def test_counts_never_grow_and_meet_the_target_within_one_count(weights, length_E, target):
    speedup_of = speedup_function(length_E)
    counts = counts_for_speedup(weights, target, speedup_of)
    assert len(counts) == NUM_LAYERS and all(1 <= count <= NUM_RANKS for count in counts)
    assert list(counts) == sorted(counts, reverse=True)
    one_more = [min(count + 1, NUM_RANKS) for count in counts]
    if max(counts) > 1:
        assert speedup_of(counts) >= target
    assert speedup_of(one_more) < target or counts == tuple(one_more) or max(counts) == 1


@given(LENGTHS, st.lists(st.integers(1, NUM_RANKS), min_size=NUM_LAYERS, max_size=NUM_LAYERS))
def test_the_speedup_of_counts_is_what_evaluation_reports(length_E, counts):
    counts = sorted(counts, reverse=True)
    count_NE = np.minimum(np.array(counts)[:, None], length_E)
    expected = true_speedup(PARAMS, tiny.CONFIG, PRUNER, length_E, count_NE)
    assert speedup_function(length_E)(counts) == pytest.approx(expected, rel=1e-12)


def test_equal_weights_drop_late_layers_and_late_ranks_first():
    order = ranks_by_weight(np.ones((2, 4)))
    assert counts_of_first(order, 4, (2, 4)) == (3, 1)
    assert counts_of_first(order, 7, (2, 4)) == (4, 3)
    assert order[-1] == 7 and order[0] == 0


def test_a_learned_weight_decides_before_its_place():
    weights = [[1.0, 1.0, 0.9, 0.2], [1.0, 0.8, 0.7, 0.1]]
    assert counts_of_first(ranks_by_weight(weights), 6, (2, 4)) == (3, 3)
    assert counts_of_first(ranks_by_weight(weights), 7, (2, 4)) == (4, 3)


def test_a_target_out_of_reach_gives_counts_of_one():
    speedup_of = speedup_function(np.array([8, 12]))
    assert (
        counts_for_speedup(np.ones((NUM_LAYERS, NUM_RANKS)), 1e3, speedup_of) == (1,) * NUM_LAYERS
    )
