"""The rule that keeps a share of every text, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax.pruning.budgets import with_calibration
from adapler_jax.pruning.shares import check_shares, keep_share, soft_share
from adapler_jax.types import MASK_BIAS, SiteInput

SCORES = [[0.1, 0.9, 0.3, 0.3, 0.8], [0.1, 0.2, 0.9, 0.0, 0.0]]
REMAINING = [[True] * 5, [True, True, True, False, False]]


def make_site(**fields):
    remaining_BL = jnp.array(REMAINING)
    return SiteInput(jnp.float32(SCORES), remaining_BL, remaining_BL.astype(jnp.float32), **fields)


def kept(params, **fields):
    selection = keep_share(params, jnp.int32(0), make_site(**fields))
    return [np.flatnonzero(row).tolist() for row in np.asarray(selection.keep_BL)]


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (1.0, [[0, 1, 2, 3, 4], [0, 1, 2]]),
        (0.6, [[0, 1, 4], [0, 2]]),  # 3 of 5, and 2 of 3 by rounding up
        (0.8, [[0, 1, 2, 4], [0, 1, 2]]),  # of equal scores the earlier one
        (0.0, [[0], [0]]),
    ],
)
def test_cls_and_the_highest_scores_stay(share, expected):
    assert kept({"share_J": jnp.float32(share)}) == expected


def test_each_text_has_the_share_of_its_budget():
    params = {"share_J": jnp.float32(0.6)}
    calibrated = with_calibration(params, (0.5, 1.0), [[0.2, 1.0]])
    site_params = {name: leaf[0] if leaf.ndim else leaf for name, leaf in calibrated.items()}
    assert kept(site_params, budget_B=jnp.float32([0.5, 1.0])) == [[0], [0, 1, 2]]
    assert kept(site_params, budget_B=jnp.float32([0.75, jnp.nan])) == [[0, 1, 4], [0, 2]]


def test_the_soft_form_masks_what_the_hard_one_drops():
    found = soft_share({"share_J": jnp.float32(0.6)}, jnp.int32(0), make_site(), jnp.float32(1.0))
    np.testing.assert_array_equal(found.survival_BL[0], [1.0, 1.0, 0.0, 0.0, 1.0])
    np.testing.assert_array_equal(found.bias_BL[0], [0.0, 0.0, MASK_BIAS, MASK_BIAS, 0.0])


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_out_of_range_names_its_source(share):
    check_shares({"share_J": jnp.float32([0.0, 1.0])}, "model")
    check_shares({}, "model")
    with pytest.raises(ValueError, match=r"^model: shares are .*; expected 0 to 1"):
        check_shares({"share_J": jnp.float32([0.5, share])}, "model")
