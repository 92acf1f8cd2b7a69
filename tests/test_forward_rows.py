"""Neither padding nor the other rows of a batch change a row's results."""

import jax
import numpy as np
import pytest

from tests.tiny import NUM_SLOTS, assert_all_finite, assert_trees_near, make_batch, take_rows
from tests.tiny_forward import PARAMS, SLOPES, forward


def on_slots(result, num_slots):
    """Return the result with the first slots of the scores and weights."""
    logits_BC, trace = result
    return logits_BC, trace.replace(
        score_NBL=trace.score_NBL[..., :num_slots], survival_NBL=trace.survival_NBL[..., :num_slots]
    )


@SLOPES
def test_content_of_padding_never_matters(slope):
    found = forward(PARAMS, make_batch(padding=9), slope)
    assert_trees_near(found, forward(PARAMS, make_batch(), slope), atol=0)


@SLOPES
def test_width_of_padding_never_matters(slope):
    wide = forward(PARAMS, make_batch(num_slots=16), slope)
    assert not np.any(wide[1].survival_NBL[..., NUM_SLOTS:]) and not np.any(
        wide[1].score_NBL[..., NUM_SLOTS:]
    )
    assert_trees_near(on_slots(wide, NUM_SLOTS), forward(PARAMS, make_batch(), slope), atol=1e-5)


@SLOPES
def test_batch_mates_never_matter(slope):
    batch, other = make_batch(), make_batch((5, 12, 1, 9), seed=1)
    for row in range(4):
        mixed = jax.tree.map(
            lambda ours, theirs, row=row: np.where(
                np.arange(4).reshape((4,) + (1,) * (ours.ndim - 1)) == row, ours, theirs
            ),
            batch,
            other,
        )
        found = forward(PARAMS, mixed, slope)
        assert_trees_near(
            take_rows(found, row), take_rows(forward(PARAMS, batch, slope), row), atol=1e-6
        )


@SLOPES
def test_batch_equals_one_by_one(slope):
    batch = make_batch()
    together = forward(PARAMS, batch, slope)
    for row in range(4):
        alone = forward(
            PARAMS, jax.tree.map(lambda leaf, row=row: leaf[row : row + 1], batch), slope
        )
        assert_trees_near(alone, take_rows(together, slice(row, row + 1)), atol=1e-5)


@SLOPES
def test_filler_rows_are_harmless(slope):
    with_fillers = make_batch((12, 7), num_fillers=2)
    found, expected = (forward(PARAMS, batch, slope) for batch in (with_fillers, make_batch()))
    assert_trees_near(take_rows(found, [0, 1]), take_rows(expected, [0, 1]))
    assert_all_finite(found)


def with_an_empty_row():
    batch = make_batch()
    return batch.replace(valid_BL=batch.valid_BL & (np.arange(4) != 3)[:, None])


@pytest.mark.parametrize("slope", [10.0, None])
def test_a_row_without_any_token_gives_no_nan(slope):
    found = forward(PARAMS, with_an_empty_row(), slope)
    assert_all_finite(found)
    assert np.all(found[1].count_NB[:, 3] == 0)


@SLOPES
def test_a_row_without_any_token_does_not_change_the_others(slope):
    found, expected = (
        forward(PARAMS, batch, slope) for batch in (with_an_empty_row(), make_batch())
    )
    assert_trees_near(take_rows(found, [0, 1, 2]), take_rows(expected, [0, 1, 2]), atol=1e-6)
