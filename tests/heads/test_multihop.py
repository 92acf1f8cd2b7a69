"""HotpotQA's three outputs by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax.heads import SPAN, hotpot
from adapler_jax.heads.multihop import highest_state
from adapler_jax.types import MASK_BIAS
from tests.heads.rows import batch_of, make_batch, make_params, make_states
from tests.tiny import CONFIG

HEAD = hotpot(2)
losses = jax.jit(HEAD.loss_fn, static_argnums=2)
gold, correct = jax.jit(HEAD.target_logit), jax.jit(HEAD.accuracy_fn)
LOGITS = {
    "span_BL2": jnp.log(jnp.array([[[1.0, 1.0], [2.0, 1.0], [1.0, 6.0]]])),
    "type_B3": jnp.log(jnp.array([[2.0, 1.0, 1.0]])),
    "support_BX2": jnp.log(jnp.array([[[1.0, 3.0], [1.0, 1.0]]])),
}
SPAN_LOSS = (math.log(2) + math.log(4 / 3)) / 2
SUPPORT_LOSS = (math.log(4 / 3) + math.log(2)) / 2


def with_answer(label=0, span=(1, 2), support=(1, 0), teacher=None):
    sentences = [[0, 1] if of >= 0 else [-1, -1] for of in support]
    return batch_of(
        [3],
        [label],
        span_BA2=[[span]],
        support_BX=[support],
        sentence_BX2=[sentences],
        teacher=teacher,
    )


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({}, SPAN_LOSS + math.log(2) + SUPPORT_LOSS),
        ({"label": 1, "span": (-1, -1)}, math.log(4) + SUPPORT_LOSS),
        ({"support": (1, -1)}, SPAN_LOSS + math.log(2) + math.log(4 / 3)),
        ({"support": (0, -1)}, SPAN_LOSS + math.log(2) + math.log(4)),
        ({"support": (-1, -1)}, SPAN_LOSS + math.log(2)),
    ],
)
def test_losses_of_span_type_and_sentences_are_added(answer, expected):
    np.testing.assert_allclose(losses(LOGITS, with_answer(**answer), 0.0), [expected], rtol=1e-6)


def test_a_teacher_replaces_each_of_the_three():
    teacher = {
        "span_BL2": jnp.zeros((1, 3, 2)),
        "type_B3": jnp.zeros((1, 3)),
        "support_BX2": jnp.zeros((1, 2, 2)),
    }
    span = (math.log(4) * 2 / 3 + math.log(2) / 3 + math.log(8) * 2 / 3 + math.log(4 / 3) / 3) / 2
    kind = math.log(2) / 3 + math.log(4) * 2 / 3
    support = ((math.log(4) + math.log(4 / 3)) / 2 + math.log(2)) / 2
    hard = SPAN_LOSS + math.log(2) + SUPPORT_LOSS
    for coef in (0.25, 1.0):
        found = losses(LOGITS, with_answer(teacher=teacher), coef)
        np.testing.assert_allclose(
            found, [(1 - coef) * hard + coef * (span + kind + support)], rtol=1e-6
        )
    found = losses(LOGITS, with_answer(span=(-1, -1), teacher=teacher), 1.0)
    np.testing.assert_allclose(found, [kind + support], rtol=1e-6)


def test_gold_by_hand():
    support = (math.log(3) + 0.0) / 2
    found = gold(LOGITS, with_answer())
    np.testing.assert_allclose(
        found, [math.log(2) + math.log(6) + math.log(2) + support], rtol=1e-6
    )
    np.testing.assert_allclose(
        gold(LOGITS, with_answer(label=1, span=(-1, -1))), [support], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ({}, 1),
        ({"span": (1, 1)}, 0),
        ({"label": 1}, 0),
        ({"span": (-1, -1)}, 0),
        ({"support": (0, 1)}, 1),
    ],
)
def test_an_answer_is_right_by_its_type_and_where_it_is_one_by_its_span(answer, right):
    assert correct(LOGITS, with_answer(**answer)).tolist() == [right]


def test_yes_is_right_whatever_the_span():
    logits = LOGITS | {"type_B3": jnp.array([[0.0, 1.0, 0.0]])}
    assert correct(logits, with_answer(label=1, span=(-1, -1))).tolist() == [1]


def test_the_highest_state_does_not_see_padding():
    state_BLD = jnp.array([[[1.0, -5.0], [-2.0, -3.0], [9.0, 9.0]], [[9.0, 9.0]] * 3])
    valid_BL = jnp.array([[True, True, False], [False] * 3])
    assert highest_state(state_BLD, valid_BL).tolist() == [[1.0, -3.0], [0.0, 0.0]]


def test_a_sentence_is_read_by_the_states_at_its_ends():
    """Row 0, sentence 1 from slot 3 to 5, in NumPy; a sentence that does not exist supports
    nothing."""
    params, state_BLD = make_params(HEAD), make_states(HEAD)
    logits = jax.jit(HEAD.apply, static_argnums=1)(params, CONFIG, state_BLD, make_batch())
    hidden, support = params["sentence_hidden"], params["sentence_support"]
    inner = np.concatenate([state_BLD[0, 3], state_BLD[0, 5]]) @ np.asarray(hidden["kernel"])
    inner = np.array([x / 2 * (1 + math.erf(x / math.sqrt(2))) for x in inner])
    np.testing.assert_allclose(
        logits["support_BX2"][0, 1], inner @ np.asarray(support["kernel"]), atol=1e-5
    )
    assert logits["support_BX2"][1, 1].tolist() == [0.0, MASK_BIAS]
    expected = SPAN.apply({"span": params["span"]}, CONFIG, state_BLD, make_batch())
    np.testing.assert_allclose(logits["span_BL2"], expected, atol=1e-5)


def test_a_row_without_a_span_teaches_the_span_nothing():
    batch = with_answer(label=1, span=(-1, -1))
    grads = jax.grad(lambda logits: losses(logits, batch, 0.0)[0])(LOGITS)
    assert not np.any(grads["span_BL2"]) and np.all(grads["type_B3"] != 0)


def test_operations_by_hand():
    """Each token: two outputs of 16 entries, a maximum of 16; once: three types, two sentences."""
    sentence = (2 * 32 * 16 + 16) + 5 * 16 + (2 * 16 * 2 + 2)
    expected = 5 * (2 * 16 * 2 + 2 + 16) + (2 * 16 * 3 + 3) + 2 * sentence
    assert HEAD.flops({}, CONFIG, np.array([5])).tolist() == [expected]
