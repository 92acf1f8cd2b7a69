"""Options and candidates by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax.heads import candidates, choice
from adapler_jax.types import MASK_BIAS
from tests.heads.rows import batch_of
from tests.tiny import CONFIG

# Options

PAIRS = jnp.log(jnp.array([[1.0], [3.0], [2.0], [2.0]]))


def test_options_of_a_question_compete_and_other_questions_do_not():
    found = choice(2).loss_fn(PAIRS, batch_of([1] * 4, [0, 1, 1, 0]), 0.0)
    np.testing.assert_allclose(found, [math.log(4 / 3)] * 2 + [math.log(2)] * 2, rtol=1e-6)
    found = choice(4).loss_fn(PAIRS, batch_of([1] * 4, [0, 1, 0, 0]), 0.0)
    np.testing.assert_allclose(found, [math.log(8 / 3)] * 4, rtol=1e-6)


def test_a_teacher_of_options_by_hand():
    teacher = jnp.zeros((4, 1))
    found = choice(2).loss_fn(PAIRS, batch_of([1] * 4, [0, 1, 1, 0], teacher=teacher), 0.5)
    first = (math.log(4 / 3) + (math.log(4) + math.log(4 / 3)) / 2) / 2
    np.testing.assert_allclose(found, [first] * 2 + [math.log(2)] * 2, rtol=1e-6)


def test_a_question_is_right_where_its_best_option_is():
    assert choice(2).accuracy_fn(PAIRS, batch_of([1] * 4, [0, 1, 0, 1])).tolist() == [1, 1, 0, 0]
    assert choice(4).accuracy_fn(PAIRS, batch_of([1] * 4, [0, 1, 0, 0])).tolist() == [1] * 4


def test_gold_of_a_row_is_its_own_score():
    np.testing.assert_array_equal(choice(2).target_logit(PAIRS, batch_of([1] * 4)), PAIRS[:, 0])


# Candidates; a token's score is 3 times the first entry of its state, plus 1

SCORE = {"candidate": {"kernel": jnp.zeros((16, 1)).at[0].set(3.0), "bias": jnp.ones((1,))}}
STATES = (
    jnp.zeros((2, 4, 16)).at[:, :, 0].set(jnp.array([[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]]))
)
MARKERS = [[1, 3, -1], [2, -1, -1]]


def with_markers(labels, teacher=None):
    return batch_of([4, 4], labels, marker_BK=MARKERS, teacher=teacher)


def test_candidates_are_scored_by_the_states_at_their_markers():
    found = candidates(3).apply(SCORE, CONFIG, STATES, with_markers([0, 0]))
    assert found.tolist() == [[4.0, 10.0, MASK_BIAS], [19.0, MASK_BIAS, MASK_BIAS]]


def test_candidates_of_a_row_compete():
    logits_BK = jnp.where(
        jnp.array(MARKERS) >= 0, jnp.log(jnp.array([[1.0, 3.0, 9.0], [5.0, 9.0, 9.0]])), MASK_BIAS
    )
    head, batch = candidates(3), with_markers([1, 0])
    np.testing.assert_allclose(
        head.loss_fn(logits_BK, batch, 0.0), [math.log(4 / 3), 0.0], atol=1e-6
    )
    assert head.accuracy_fn(logits_BK, batch).tolist() == [1, 1]
    assert head.accuracy_fn(logits_BK, with_markers([0, 0])).tolist() == [0, 1]
    np.testing.assert_allclose(
        head.target_logit(logits_BK, batch), [math.log(3), math.log(5)], rtol=1e-6
    )


def test_a_teacher_of_candidates_by_hand_says_nothing_of_fillers():
    logits_BK = jnp.where(
        jnp.array(MARKERS) >= 0, jnp.log(jnp.array([[1.0, 3.0, 9.0], [5.0, 9.0, 9.0]])), MASK_BIAS
    )
    found = candidates(3).loss_fn(
        logits_BK, with_markers([1, 0], teacher=jnp.full((2, 3), 7.0)), 0.5
    )
    half = (math.log(4) + math.log(4 / 3)) / 2
    np.testing.assert_allclose(found, [(math.log(4 / 3) + half) / 2, 0.0], atol=1e-6)


def test_no_gradient_reaches_a_token_that_is_no_marker():
    head, batch = candidates(3), with_markers([1, 0])

    @jax.jit
    @jax.grad
    def gradient(state_BLD):
        return jnp.sum(head.target_logit(head.apply(SCORE, CONFIG, state_BLD, batch), batch))

    grad_BLD = gradient(STATES)
    assert np.argwhere(grad_BLD).tolist() == [[0, 3, 0], [1, 2, 0]]


def test_operations_are_those_of_all_candidates():
    assert candidates(3).flops(SCORE, CONFIG, np.array([4, 9])) == 3 * (2 * 16 + 1)
    assert candidates(3).logits_shape(CONFIG, 4, 0) == (3,) and choice(2).logits_shape(
        CONFIG, 4, 0
    ) == (1,)
