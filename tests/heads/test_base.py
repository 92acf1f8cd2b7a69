"""Claims that hold for every head."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax.heads import HEADS as FACTORIES
from adapler_jax.heads import make_head
from adapler_jax.heads.base import gather_states, slot_mask
from tests.heads.rows import HEADS, make_batch, make_params, make_states
from tests.tiny import CONFIG, NUM_CLASSES, assert_all_finite

EACH = pytest.mark.parametrize("name", HEADS)


@functools.cache
def reader(head):
    return jax.jit(lambda params, state, batch: head.apply(params, CONFIG, state, batch))


@functools.cache
def read(name, num_slots=6, params_seed=0):
    """Logits of the four rows, in NumPy."""
    head = HEADS[name]
    operands = make_params(head, params_seed), make_states(head, num_slots), make_batch(num_slots)
    return jax.device_get(reader(head)(*operands))


def teacher_of(name, num_slots=6):
    """Other logits, 0 on filler rows, as they come from the data side."""
    real_B = np.arange(4) < 2
    logits = read(name, num_slots, params_seed=1)
    return jax.tree.map(
        lambda x: np.where(real_B.reshape(-1, *[1] * (x.ndim - 1)), x, np.float32(0.0)), logits
    )


def test_every_head_of_the_library_is_tested_here():
    assert HEADS.keys() == FACTORIES.keys()


@EACH
def test_a_saved_head_is_found_again(name):
    assert make_head(name, **dict(HEADS[name].factory_kwargs)) is HEADS[name]


def test_an_unknown_head_is_refused():
    with pytest.raises(
        ValueError, match="unknown head 'spans'; there are classification, span, choice, candidates"
    ):
        make_head("spans")


@EACH
def test_logits_are_finite_and_have_the_shape_that_the_head_tells(name):
    logits = read(name)
    assert_all_finite(logits)
    assert jax.tree.map(lambda x: x.shape[1:], logits) == HEADS[name].logits_shape(
        CONFIG, 6, NUM_CLASSES
    )
    assert {x.dtype for x in jax.tree.leaves(logits)} == {jnp.dtype("float32")}


CHOICE_SHIFT = ("choice", "[0]['classifier']['bias']")  # one score an option


@EACH
def test_gradients_are_finite_with_fillers_and_rows_without_a_token(name):
    head = HEADS[name]
    batch = make_batch(teacher=teacher_of(name))

    def loss(params, state):
        loss_B = head.loss_fn(head.apply(params, CONFIG, state, batch), batch, 0.5)
        return jnp.sum(loss_B[:2]) + 0.0 * jnp.sum(loss_B), loss_B

    (_, loss_B), grads = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(
        make_params(head), make_states(head)
    )
    assert loss_B.shape == (4,) and loss_B.dtype == jnp.float32
    assert_all_finite((loss_B, grads))
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
        largest, where = np.max(np.abs(leaf)), jax.tree_util.keystr(path)
        # A bias that all logits of a softmax share has the gradient 0; what is computed of it is
        # rounding.
        is_shift = (
            where in ("[0]['span']['bias']", "[0]['candidate']['bias']")
            or (name, where) == CHOICE_SHIFT
        )
        assert largest < 1e-6 if is_shift else largest > 1e-3, where
    if head.needs_all_states:
        assert not np.any(grads[1][~batch.valid_BL])


@EACH
def test_padding_never_matters(name):
    head = HEADS[name]

    @jax.jit
    def judge(logits, batch):
        return (
            head.loss_fn(logits, batch, 0.5),
            head.target_logit(logits, batch),
            *([head.accuracy_fn(logits, batch)] if head.accuracy_fn else []),
        )

    def say(num_slots):
        """Return the head's results for the two texts."""
        batch = make_batch(num_slots, teacher_of(name, num_slots))
        return [x[:2] for x in judge(read(name, num_slots), batch)]

    for found, expected in zip(say(8), say(6)):
        assert found.shape == (2,)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@EACH
def test_types_and_ranks_are_never_promoted_implicitly(name):
    head, teacher = HEADS[name], teacher_of(name)
    batch = jax.tree.map(jnp.asarray, make_batch(teacher=teacher))

    def run(params, state, batch):
        logits = head.apply(params, CONFIG, state, batch)
        return (
            head.loss_fn(logits, batch, 0.5),
            head.target_logit(logits, batch),
            head.accuracy_fn and head.accuracy_fn(logits, batch),
            head.protected_tokens(batch),
        )

    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        jax.make_jaxpr(run)(make_params(head), make_states(head), batch)


@EACH
def test_operations_are_whole_numbers_of_each_text(name):
    head = HEADS[name]
    found = head.flops(make_params(head), CONFIG, np.array([1, 6]))
    assert np.all(np.asarray(found) > 0) and np.issubdtype(np.asarray(found).dtype, np.integer)


@EACH
def test_a_head_protects_what_it_reads_by_name_unless_told_otherwise(name):
    head = HEADS[name]
    slots = {"candidates": [[1, 3, 5], [2, 3], [], []], "hotpot": [[1, 2, 3, 5], [1, 3], [], []]}
    if name not in slots:
        assert head.protected_tokens(make_batch()) is None
        return
    assert [np.flatnonzero(row).tolist() for row in head.protected_tokens(make_batch())] == slots[
        name
    ]
    free = make_head(name, **(dict(head.factory_kwargs) | {"protects": False}))
    assert free.protected_tokens(make_batch()) is None and free.apply is head.apply


def test_slots_by_hand():
    slot_BX2 = jnp.array([[[0, 2], [-1, -1]], [[-1, 1], [1, 1]]])
    assert slot_mask(slot_BX2, 3).tolist() == [[True, False, True], [False, True, False]]
    state_BLD = jnp.arange(6.0).reshape(2, 3, 1)
    found = gather_states(state_BLD, slot_BX2[:, 0])
    np.testing.assert_array_equal(found, [[[0.0], [2.0]], [[3.0], [4.0]]])
