"""Spans by hand; tokens weigh 1, 2, 1 as the first and 1, 1, 6 as the last of the answer."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax.heads import SPAN
from adapler_jax.types import MASK_BIAS
from tests.heads.rows import batch_of, make_batch, make_params, make_states
from tests.tiny import CONFIG

LOGITS = jnp.log(jnp.array([[[1.0, 1.0], [2.0, 1.0], [1.0, 6.0]]]))  # [1, 3, 2]
TEACHER = jnp.log(jnp.array([[[1.0, 2.0], [1.0, 1.0], [2.0, 1.0]]]))
losses = jax.jit(SPAN.loss_fn, static_argnums=2)
FIRST, LAST = math.log(2), math.log(4 / 3)  # losses of token 1 as the first, of token 2 as the last


def with_spans(*spans, teacher=None):
    return batch_of([3], span_BA2=[spans], teacher=teacher)


def test_one_answer_is_the_mean_of_both_cross_entropies():
    np.testing.assert_allclose(
        losses(LOGITS, with_spans((1, 2)), 0.0), [(FIRST + LAST) / 2], rtol=1e-6
    )


def test_no_answer_is_the_span_of_cls():
    np.testing.assert_allclose(
        losses(LOGITS, with_spans((0, 0)), 0.0), [(math.log(4) + math.log(8)) / 2], rtol=1e-6
    )


def test_probabilities_of_several_answers_are_summed():
    """Firsts 0 and 1: 3/4; lasts 1 and 2: 7/8."""
    expected = (math.log(4 / 3) + math.log(8 / 7)) / 2
    np.testing.assert_allclose(
        losses(LOGITS, with_spans((0, 1), (1, 2)), 0.0), [expected], rtol=1e-6
    )


def test_an_answer_given_twice_and_fillers_count_once():
    found = losses(LOGITS, with_spans((1, 2), (1, 2), (-1, -1)), 0.0)
    np.testing.assert_array_equal(found, losses(LOGITS, with_spans((1, 2)), 0.0))
    shared_last = losses(LOGITS, with_spans((1, 2), (0, 2)), 0.0)
    np.testing.assert_allclose(shared_last, [(math.log(4 / 3) + LAST) / 2], rtol=1e-6)


def test_the_teachers_soft_labels_by_hand():
    first = math.log(4) / 4 + math.log(2) / 4 + math.log(4) / 2
    last = math.log(8) / 2 + math.log(8) / 4 + math.log(4 / 3) / 4
    soft, hard = (first + last) / 2, (FIRST + LAST) / 2
    for coef in (0.25, 1.0):
        found = losses(LOGITS, with_spans((1, 2), teacher=TEACHER), coef)
        np.testing.assert_allclose(found, [(1 - coef) * hard + coef * soft], rtol=1e-6)


def test_what_a_teacher_says_of_padding_is_not_learnt():
    """The table of teachers holds 0 there."""
    wide = jnp.pad(LOGITS, ((0, 0), (0, 2), (0, 0)), constant_values=MASK_BIAS)
    batch = batch_of(
        [3], num_slots=5, span_BA2=[[(1, 2)]], teacher=jnp.pad(TEACHER, ((0, 0), (0, 2), (0, 0)))
    )
    expected = losses(LOGITS, with_spans((1, 2), teacher=TEACHER), 0.5)
    np.testing.assert_allclose(losses(wide, batch, 0.5), expected, rtol=1e-6)


@pytest.mark.parametrize("distil_coef", [0.0, 0.5])
def test_a_filler_row_has_a_finite_loss_that_teaches_nothing_by_its_labels(distil_coef):
    batch = with_spans((-1, -1), teacher=TEACHER)
    loss, grad = jax.value_and_grad(lambda logits: losses(logits, batch, distil_coef)[0])(LOGITS)
    assert np.isfinite(loss)
    if distil_coef == 0.0:
        assert not np.any(grad)


def test_padding_is_never_an_answer():
    logits_BL2 = SPAN.apply(make_params(SPAN), CONFIG, make_states(SPAN, 8), make_batch(8))
    valid_BL = make_batch(8).valid_BL
    assert np.all(logits_BL2[~valid_BL] == MASK_BIAS) and np.all(np.abs(logits_BL2[valid_BL]) < 100)
    assert np.all(np.argmax(logits_BL2[:3], axis=1) < np.array([[6], [4], [1]]))


def test_gold_is_the_logits_of_the_first_answers_ends():
    np.testing.assert_allclose(
        SPAN.target_logit(LOGITS, with_spans((1, 2), (0, 0))),
        [math.log(2) + math.log(6)],
        rtol=1e-6,
    )


@pytest.mark.parametrize(
    ("spans", "right"), [([(1, 2)], 1), ([(0, 0), (1, 2)], 1), ([(1, 1)], 0), ([(-1, -1)], 0)]
)
def test_an_answer_is_right_where_both_likeliest_ends_are_accepted(spans, right):
    found = SPAN.accuracy_fn(LOGITS, with_spans(*spans))
    assert found.tolist() == [right] and found.dtype == jnp.float32


def test_operations_by_hand():
    """Two products and two sums of 16 entries for each of 5 tokens."""
    assert SPAN.flops({}, CONFIG, np.array([5])).tolist() == [5 * (2 * 16 * 2 + 2)]
