"""Fast drivers give the masked driver's answers, whatever the padding and the other texts."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapler_jax import forward as full_width
from adapler_jax import heads
from adapler_jax.inference.drivers import bucketed, dense, masked, packed
from adapler_jax.inference.drivers.bucket_tokens import (
    BucketState,
    apply_pruner,
    gather_tokens,
    trace_of,
)
from adapler_jax.inference.engine import prepare_inference_params
from adapler_jax.types import Selection
from tests import plain_bert as encoder
from tests.inference.drivers.engines import (
    CONFIG,
    FAST,
    NUM_SLOTS,
    PRUNER,
    PRUNERS,
    apart,
    assert_same,
    engine,
    make_batch,
    params_of,
)
from tests.marks import mostly_long
from tests.tiny import take_rows

QUICK = [
    ("adapler", "bucketed"),
    ("powerbert", "packed"),
]


@pytest.mark.parametrize(("name", "driver"), mostly_long(PRUNERS, FAST, quick=QUICK))
@pytest.mark.parametrize(
    "lengths", [[24, 7, 3, 1, 13], [24] * 5, [1] * 5, [0, 2, 1, 0, 2], [23, 24, 16, 17, 15]]
)
def test_fast_drivers_equal_the_oracle(name, lengths, driver):
    batch = make_batch(lengths)
    expected = engine(name, "masked")(params_of(name), batch)
    assert_same(engine(name, driver)(apart(name), batch), expected)


@pytest.mark.parametrize("driver", mostly_long(FAST, quick=["packed"]))
def test_every_token_has_its_last_state_at_its_place(driver):
    """Dropped tokens too; padding has zeros. (The heads' tests have more pruners.)"""
    name = "some layers"
    batch, params = make_batch([24, 7, 3, 1, 13]), params_of(name)
    found, expected = (
        engine(name, kind, return_exit_hidden=True)(params, batch)[1].exit_hidden_BLD
        for kind in (driver, "masked")
    )
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
    assert not np.any(found[~batch.valid_BL]) and np.all(np.any(found[batch.valid_BL], axis=-1))
    assert engine(name, driver)(params, batch)[1].exit_hidden_BLD is None


def test_oracle_takes_the_state_behind_the_last_layer_that_ran_on_a_token():
    params, batch = params_of("adapler"), make_batch([24, 7, 3, 1, 13])
    start_BLD = encoder.embed(
        params["encoder"]["embeddings"], CONFIG, batch.token_BL, batch.segment_BL
    )
    _, trace, hidden_NBLD = full_width.forward_layers(
        params,
        CONFIG,
        PRUNER,
        start_BLD,
        batch.valid_BL,
        slope=None,
        key=None,
        dtype=jnp.float32,
        collect_hidden=True,
        return_exit_hidden=True,
    )
    state_MBLD = np.concatenate([start_BLD[None], hidden_NBLD])
    num_layers_BL = np.sum(trace.survival_NBL, axis=0).astype(int)
    assert len(set(num_layers_BL[batch.valid_BL].tolist())) > 2
    for row, slot in zip(*np.nonzero(batch.valid_BL)):
        np.testing.assert_array_equal(
            trace.exit_hidden_BLD[row, slot], state_MBLD[num_layers_BL[row, slot], row, slot]
        )
    assert not np.any(trace.exit_hidden_BLD[~batch.valid_BL])


@pytest.mark.long
@pytest.mark.parametrize("driver", FAST)
@pytest.mark.parametrize("name", ["adapler", "keep_all"])
def test_weights_laid_out_for_speed_give_the_same_answers(name, driver):
    params, batch = params_of(name), make_batch([24, 7, 3, 1, 13])
    found = engine(name, driver)(prepare_inference_params(params, CONFIG), batch)
    assert_same(found, engine(name, "masked")(params, batch))


@pytest.mark.parametrize("driver", mostly_long(FAST, quick=["bucketed"]))
def test_tokens_go_at_every_layer_of_these_tests(driver):
    _, trace = engine("adapler", driver)(params_of("adapler"), make_batch([24] * 5))
    totals_N = np.sum(trace.count_NB, axis=1)
    assert np.all(np.diff(totals_N) < 0) and totals_N[0] < 24 * 5 and totals_N[-1] > 5


@pytest.mark.long
def test_keep_all_is_plain_bert():
    params, batch = params_of("keep_all"), make_batch([24, 9])
    hidden_BLD = encoder.encode(
        params["encoder"], CONFIG, batch.token_BL, batch.segment_BL, batch.valid_BL
    )
    expected_BC = heads.classify(params["head"], CONFIG, hidden_BLD[:, 0])
    for driver in (*FAST, "masked"):
        logits_BC, trace = engine("keep_all", driver)(params, batch)
        np.testing.assert_allclose(logits_BC, expected_BC, atol=1e-5, rtol=0)
        assert trace.count_NB is None


@pytest.mark.parametrize("num_rows", [1, 2, 3, 5, 7])
def test_chunks_do_not_change_the_answer(num_rows):
    arrays = jnp.arange(5.0), jnp.arange(10.0).reshape(5, 2)

    def add(row_B, x_BD):
        assert row_B.shape[0] <= num_rows
        return row_B[:, None] + x_BD

    found = dense.in_chunks(add, arrays, num_rows=num_rows)
    np.testing.assert_array_equal(found, arrays[0][:, None] + arrays[1])


@pytest.mark.parametrize("driver", FAST)
def test_nothing_dropped_is_plain_bert(driver):
    params = params_of("adapler")
    params = params | {"pruner": params["pruner"] | {"threshold_N": jnp.zeros((4,), jnp.float32)}}
    batch = make_batch([24, 9, 1, 2, 3])
    found_BC, _ = engine("adapler", driver)(params, batch)
    expected_BC, _ = engine("keep_all", "masked")(params | {"pruner": {}}, batch)
    np.testing.assert_allclose(found_BC, expected_BC, atol=1e-5, rtol=0)


@pytest.mark.parametrize("driver", FAST)
def test_batch_mates_never_matter(driver):
    lengths, params = [24, 7, 3, 1, 13], params_of("adapler")
    together = engine("adapler", driver)(params, make_batch(lengths))
    for row in range(len(lengths)):
        batch = jax.tree.map(lambda leaf: leaf[row : row + 1], make_batch(lengths))
        assert_same(
            engine("adapler", driver)(params, batch), take_rows(together, slice(row, row + 1))
        )


@pytest.mark.parametrize("driver", FAST)
def test_padding_never_matters(driver):
    lengths, params = [7, 3, 8, 1, 5], params_of("adapler")
    wide = engine("adapler", driver)(params, make_batch(lengths, num_slots=24, padding=9))
    logits_BC, trace = engine("adapler", driver)(params, make_batch(lengths, num_slots=8))
    np.testing.assert_allclose(wide[0], logits_BC, atol=1e-5, rtol=0)
    np.testing.assert_array_equal(wide[1].count_NB, trace.count_NB)
    np.testing.assert_array_equal(wide[1].survival_NBL[..., :8], trace.survival_NBL)
    assert not np.any(wide[1].survival_NBL[..., 8:])


@pytest.mark.parametrize("driver", FAST)
def test_cls_survives_and_counts_never_grow(driver):
    _, trace = engine("adapler", driver)(params_of("adapler"), make_batch([24, 7, 3, 1, 13]))
    assert np.all(trace.survival_NBL[:, :, 0] == 1)
    assert np.all(np.diff(trace.count_NB, axis=0) <= 0)
    assert np.all(np.diff(trace.survival_NBL, axis=0) <= 0)
    np.testing.assert_array_equal(trace.count_NB, np.sum(trace.survival_NBL, axis=-1))


@pytest.mark.parametrize("driver", mostly_long(FAST, quick=["bucketed"]))
def test_bfloat16_stays_near_float32(driver):
    params, batch = params_of("adapler", 0.3), make_batch([24, 7, 3, 1, 13])
    found = engine("adapler", driver, "bfloat16")(params, batch)
    expected = engine("adapler", "masked", "bfloat16")(params, batch)
    exact, _ = engine("adapler", "masked")(params, batch)
    assert found[0].dtype == jnp.float32
    np.testing.assert_allclose(found[0], expected[0], atol=2e-3)
    np.testing.assert_allclose(found[0], exact, atol=2e-2)


def test_weights_that_are_not_numbers_do_not_go_unseen():
    params = params_of("keep_all")
    broken = params | {"head": jax.tree.map(lambda leaf: leaf * np.nan, params["head"])}
    logits_BC, _ = engine("keep_all", "bucketed")(broken, make_batch([4]))
    assert np.all(np.isnan(logits_BC))


@pytest.mark.parametrize("driver", mostly_long(FAST, quick=["packed"]))
def test_large_batches_and_rows_without_a_token(driver):
    """Two of 257 rows are empty, and the other rows have their own results."""
    lengths = np.random.default_rng(0).integers(1, 9, 257)
    params, batch = params_of("adapler"), make_batch(lengths, num_slots=8)
    valid_BL = batch.valid_BL.copy()
    valid_BL[[3, 200]] = False
    batch = batch.replace(valid_BL=valid_BL)
    found, expected = (engine("adapler", kind)(params, batch) for kind in (driver, "masked"))
    full = np.delete(np.arange(257), [3, 200])
    assert_same(take_rows(found, full), take_rows(expected, full))


@pytest.mark.parametrize("driver", mostly_long(FAST, quick=["packed"]))
@settings(max_examples=12, deadline=None)
@given(
    lengths=st.lists(st.integers(0, NUM_SLOTS), min_size=5, max_size=5).filter(any),
    seed=st.integers(0, 1000),
    threshold=st.sampled_from([0.1, 0.4, 0.7, 0.9, 1.0]),
)
def test_fast_drivers_equal_the_oracle_for_any_batch(lengths, seed, threshold, driver):
    params, batch = params_of("adapler"), make_batch(lengths, seed=seed)
    params = params | {
        "pruner": params["pruner"] | {"threshold_N": jnp.full((4,), threshold, jnp.float32)}
    }
    full = np.flatnonzero(lengths)
    found, expected = (
        take_rows(engine("adapler", kind)(params, batch), full) for kind in (driver, "masked")
    )
    assert_same(found, expected)


@pytest.mark.parametrize("driver", mostly_long(FAST, quick=["bucketed"]))
@settings(max_examples=12, deadline=None)
@given(
    lengths=st.lists(st.integers(0, NUM_SLOTS), min_size=5, max_size=5).filter(any),
    seed=st.integers(0, 1000),
    retention=st.lists(st.integers(1, NUM_SLOTS + 2), min_size=4, max_size=4).map(
        lambda x: sorted(x, reverse=True)
    ),
)
def test_fast_drivers_retain_as_the_oracle_for_any_batch(lengths, seed, retention, driver):
    params, batch = params_of("powerbert"), make_batch(lengths, seed=seed)
    params = params | {"pruner": {"retention_N": jnp.array(retention, jnp.float32)}}
    full = np.flatnonzero(lengths)
    found, expected = (
        take_rows(engine("powerbert", kind)(params, batch), full) for kind in (driver, "masked")
    )
    assert_same(found, expected)
    retention[-1] = retention[-2]  # the last layer keeps all tokens as keys of [CLS]
    np.testing.assert_array_equal(
        found[1].count_NB, np.minimum(np.array(lengths)[full], np.array(retention)[:, None])
    )


@pytest.mark.long
def test_types_are_never_promoted_implicitly():
    batch = make_batch([5, 3])
    with jax.numpy_dtype_promotion("strict"):
        for driver, name in itertools.product(
            (bucketed, packed, masked), ("adapler", "some layers", "powerbert")
        ):
            run = functools.partial(driver.forward, config=CONFIG, pruner=PRUNERS[name])
            jax.make_jaxpr(lambda params, batch, run=run: run(params, batch=batch))(
                params_of(name), batch
            )


def test_drivers_add_no_rank_promotion():
    """Around a layer that does nothing, so that only the driver's own arithmetic is looked at."""
    batch = jax.tree.map(jnp.asarray, make_batch([5, 3]))
    state = BucketState(
        hidden_BLD=jnp.zeros((2, 24, 16)),
        buffer_slot_BL=jnp.zeros((2, 24), jnp.int32),
        token_index_BL=jnp.zeros((2, 24), jnp.int32),
        count_B=jnp.ones((2,), jnp.int32),
        exit_hidden_BLD=None,
        protected_BL=batch.valid_BL,
    )
    pruner = PRUNER._replace(
        score=lambda params, features: features.state_XD[..., 0],
        hard=lambda params, index, view: Selection(view.survival_BL, view.remaining_BL),
    )
    with jax.numpy_rank_promotion("raise"):
        kept, record = apply_pruner(
            pruner,
            {},
            0,
            token_logit_BR=state.hidden_BLD[..., 0],
            token_index_BR=state.token_index_BL,
            is_filled_BR=batch.valid_BL,
            length=24,
            protected_BL=state.protected_BL,
        )
        trace_of(jax.tree.map(lambda leaf: leaf[None], record))
        gather_tokens(state.hidden_BLD, kept[0])
