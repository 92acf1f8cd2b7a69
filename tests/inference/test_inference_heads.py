"""Heads that read every token, through all drivers: last states at their places, and tokens that must stay."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax import full_width, heads
from adapler_jax.inference.engine import make_engine
from adapler_jax.pruning import keep_all
from adapler_jax.pruning.base import soften_at
from adapler_jax.pruning.powerbert import powerbert, powerbert_search
from adapler_jax.pruning.trbert import trbert
from adapler_jax.types import MASK_BIAS, Draws, View
from tests.tiny import CONFIG, PRUNER, make_batch, make_params

BUCKETS, TILES, BLOCK = (2, 6, 12), (4, 16), 20
FAST = ("bucketed", "packed")
LENGTHS = (12, 7, 3, 1, 6)
RETENTION = (8, 5, 3, 2)
PRUNERS = {
    "adapler": PRUNER,
    "trbert": trbert(CONFIG, selector_dim=8),
    "powerbert": powerbert(CONFIG),
    "keep_all": keep_all(),
}
DROPPING = ("adapler", "trbert", "powerbert")
MARKED, FREE = heads.candidates(4), heads.candidates(4, protects=False)


@functools.cache
def engine(name, driver, head=heads.SPAN):
    options = {"tiles": TILES, "block_tokens": BLOCK} if driver == "packed" else {}
    return make_engine(CONFIG, PRUNERS[name], buckets=BUCKETS, driver=driver, head=head, with_last=True, **options)


@functools.cache
def params_of(name, head=heads.SPAN):
    params = make_params(PRUNERS[name])
    if name == "powerbert":
        params["pruner"]["retention_N"] = jnp.array(RETENTION, jnp.float32)
    return params | {"head": head.init(jax.random.key(5), CONFIG, 0)}


def with_markers(lengths=LENGTHS):
    """Candidates whose markers are at slots 1, 4, 7 and 10, where the text has them."""
    slot_BK = np.broadcast_to(np.array([1, 4, 7, 10], np.int32), (len(lengths), 4))
    return make_batch(lengths).replace(
        marks={"marker_BK": np.where(slot_BK < np.array(lengths)[:, None], slot_BK, np.int32(-1))}
    )


def assert_same(found, expected):
    for first, second in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5, rtol=0)


def rows(result, index):
    """The same answers for some rows of the batch."""
    logits, trace = jax.device_get(result)
    last_BLD, sites = trace.last_BLD, trace.replace(last_BLD=None)
    return logits[index], last_BLD[index], jax.tree.map(lambda leaf: leaf[:, index], sites)


@pytest.mark.parametrize("driver", FAST)
@pytest.mark.parametrize("name", PRUNERS)
def test_every_token_has_the_oracles_logits_and_last_state(name, driver):
    """Mixed lengths, the edges of the buckets, full texts and [CLS] alone."""
    for lengths in (LENGTHS, (2, 3, 6, 7, 12), (12,) * 5, (1,) * 5, (5, 2, 6, 1, 2)):
        batch, params = make_batch(lengths), params_of(name)
        (logits_BL2, trace), expected = engine(name, driver)(params, batch), engine(name, "masked")(params, batch)
        assert_same((logits_BL2, trace), expected)
        assert np.all(np.asarray(logits_BL2)[~batch.live_BL] == MASK_BIAS)
        assert np.all(np.abs(np.asarray(logits_BL2)[batch.live_BL]) < 100)
        assert not np.any(np.asarray(trace.last_BLD)[~batch.live_BL])


@pytest.mark.parametrize("name", DROPPING)
def test_tokens_go_in_these_tests_and_keep_different_last_states(name):
    _, trace = engine(name, "masked")(params_of(name), make_batch((12,) * 5))
    num_layers_BL = np.sum(trace.weight_NBL, axis=0)
    assert len(np.unique(num_layers_BL)) >= 3 and np.all(num_layers_BL[:, 0] == CONFIG.num_layers)


@pytest.mark.parametrize("driver", FAST)
@pytest.mark.parametrize("name", PRUNERS)
def test_batch_mates_never_matter(name, driver):
    """Beside full texts or [CLS] alone."""
    params, together = params_of(name), engine(name, driver)(params_of(name), make_batch(LENGTHS))
    for mates, row in zip((12, 1, 12, 12, 1), range(5)):
        lengths = [length if index == row else mates for index, length in enumerate(LENGTHS)]
        found = engine(name, driver)(params, make_batch(lengths))
        assert_same(rows(found, [row]), rows(together, [row]))


@pytest.mark.parametrize(("name", "driver"), [("trbert", "packed"), ("adapler", "bucketed")])
def test_each_row_equals_itself_alone(name, driver):
    batch, params = make_batch(LENGTHS), params_of(name)
    together = engine(name, driver)(params, batch)
    for row in range(5):
        alone = engine(name, driver)(params, jax.tree.map(lambda leaf, row=row: leaf[row : row + 1], batch))
        assert_same(rows(alone, [0]), rows(together, [row]))


def test_two_threads_give_the_answers_of_one():
    """With a head of marks, whose rows must go along."""
    lengths = np.random.default_rng(1).integers(1, 13, 17)
    batch, params = with_markers(lengths), params_of("trbert", MARKED)
    run = engine("trbert", "packed", MARKED)
    found, expected = run(params, batch), engine("trbert", "masked", MARKED)(params, batch)
    assert isinstance(found[0], np.ndarray) and found[0].shape == (17, 4)
    assert_same(found, expected)


def weights_of_markers(trace, batch):
    """What is left of each marker behind each site, [N, markers]."""
    row, place = np.nonzero(batch.marks["marker_BK"] >= 0)
    return np.asarray(trace.weight_NBL)[:, row, batch.marks["marker_BK"][row, place]]


@pytest.mark.parametrize("driver", ["masked", *FAST])
@pytest.mark.parametrize("name", DROPPING)
def test_markers_are_never_dropped(name, driver):
    batch, params = with_markers(), params_of(name, MARKED)
    logits_BK, trace = engine(name, driver, MARKED)(params, batch)
    assert np.all(weights_of_markers(trace, batch) == 1)
    assert np.sum(trace.count_NB[-1]) < np.sum(trace.count_NB[0])
    assert np.all((np.asarray(logits_BK) == MASK_BIAS) == (batch.marks["marker_BK"] < 0))
    assert_same((logits_BK, trace), engine(name, "masked", MARKED)(params, batch))


@pytest.mark.parametrize("name", DROPPING)
def test_markers_may_go_where_the_head_lets_them_and_are_scored_by_their_last_state(name):
    batch, params = with_markers(), params_of(name, FREE)
    logits_BK, trace = engine(name, "masked", FREE)(params, batch)
    assert np.any(weights_of_markers(trace, batch) == 0)
    expected_BK = MARKED.read(params["head"], CONFIG, trace.last_BLD, batch)
    np.testing.assert_allclose(logits_BK, expected_BK, atol=1e-6)
    fast_BK, _ = engine(name, "packed", FREE)(params, batch)
    np.testing.assert_allclose(fast_BK, expected_BK, atol=1e-5)


def test_sentences_of_a_dict_of_logits_go_through_a_fast_driver():
    head = heads.hotpot(2)
    sentence_BX2 = np.array(
        [[[1, 4], [5, 10]], [[2, 5], [-1, -1]], [[1, 2], [-1, -1]], [[-1, -1]] * 2, [[3, 3], [4, 5]]]
    )
    batch = make_batch(LENGTHS).replace(marks={"sentence_BX2": sentence_BX2.astype(np.int32)})
    params = params_of("trbert", head)
    found, expected = (engine("trbert", driver, head)(params, batch) for driver in ("packed", "masked"))
    assert found[0].keys() == {"span_BL2", "type_B3", "support_BX2"}
    assert_same(found, expected)
    assert np.all(np.asarray(found[1].weight_NBL)[:, 0, [1, 4, 5, 10]] == 1)


@pytest.mark.parametrize("name", DROPPING)
def test_soft_removal_leaves_markers_as_they_were(name):
    """At weight 1 in every layer, though others lose theirs."""
    batch, params, pruner = with_markers(), params_of(name, MARKED), PRUNERS[name]
    draws = Draws(jax.random.uniform(jax.random.key(0), (4, *batch.live_BL.shape))) if name == "trbert" else None

    @functools.partial(jax.jit, static_argnums=1)
    def run(params, head):
        return full_width.forward(
            params, CONFIG, pruner, batch, slope=jnp.float32(10.0), draws=draws, head=head
        )  # fmt: skip

    _, trace = run(params, MARKED)
    assert np.all(weights_of_markers(trace, batch) == 1)
    assert np.any(np.asarray(trace.weight_NBL)[:, batch.live_BL] < 0.5)
    assert np.any(weights_of_markers(run(params, FREE)[1], batch) < 0.5)


@pytest.mark.parametrize("name", [*DROPPING, "powerbert_search"])
def test_a_protected_token_leaves_a_soft_site_exactly_as_it_entered(name):
    """Of weight 0.7, with a score that would remove it; the search would scale its state."""
    pruner = powerbert_search(CONFIG, max_length=4) if name == "powerbert_search" else PRUNERS[name]
    site_params = jax.tree.map(lambda leaf: leaf[0], params_of(name)["pruner"] if name in PRUNERS else {})
    site_params |= {"powerbert": {"retention_N": jnp.float32(2.0)}}.get(name, {})
    site_params |= {"powerbert_search": {"rank_weight_NL": jnp.full((4,), 0.25)}}.get(name, {})
    protected_BL = jnp.array([[False, True, False, False]])
    view = View(
        reading_BL=jnp.array([[5.0, -9.0, 4.0, -9.0]]), live_BL=jnp.ones((1, 4), bool),
        weight_BL=jnp.array([[1.0, 0.7, 1.0, 0.7]]), draws=Draws(jnp.full((1, 4), 0.5)), protected_BL=protected_BL,
    )  # fmt: skip
    found = soften_at(pruner, site_params, pruner.sites[0].layer, view, jnp.float32(10.0))
    assert found.weight_BL[0, 1] == np.float32(0.7) and found.bias_BL[0, 1] == 0.0
    if name == "powerbert_search":
        assert found.scale_BL.tolist() == [[0.25, 1.0, 0.25, 0.25]]
    else:
        assert found.weight_BL[0, 3] < 0.1 and found.bias_BL[0, 3] < -1.0
