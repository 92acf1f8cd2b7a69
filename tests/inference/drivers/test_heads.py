"""Heads that need every token, through all drivers.

Last states are in their slots, and protected tokens stay.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax import forward as full_width
from adapler_jax import heads
from adapler_jax.inference.engine import make_engine, prepare_inference_params
from adapler_jax.pruning import keep_all
from adapler_jax.pruning.base import soft_step
from adapler_jax.pruning.powerbert import powerbert, powerbert_search
from adapler_jax.pruning.trbert import trbert
from adapler_jax.types import MASK_BIAS, SamplingNoise, SiteInput
from tests.inference.drivers.engines import FAST
from tests.marks import mostly_long
from tests.tiny import CONFIG, PRUNER, make_batch, make_params

BUCKETS, TILES, BLOCK = (4, 12), (4, 16), 20
LENGTHS = (12, 7, 3, 1, 6)
RETENTION = (8, 5, 3, 2)
PRUNERS = {
    "adapler": PRUNER,
    "trbert": trbert(CONFIG, selector_dim=8),
    "powerbert": powerbert(CONFIG),
    "keep_all": keep_all(),
}
DROPPING = ("adapler", "trbert", "powerbert")
# Has all that heads can have: spans, several logits, and tokens that must stay where the batch
# marks any.
HOTPOT, FREE = heads.hotpot(2), heads.hotpot(2, protects=False)


@functools.cache
def engine(name, driver, head=HOTPOT):
    options = {"tiles": TILES, "block_tokens": BLOCK} if driver == "packed" else {}
    return make_engine(
        CONFIG,
        PRUNERS[name],
        buckets=BUCKETS,
        driver=driver,
        head=head,
        return_exit_hidden=True,
        **options,
    )


@functools.cache
def params_of(name):
    params = make_params(PRUNERS[name])
    if name == "powerbert":
        params["pruner"]["retention_N"] = jnp.array(RETENTION, jnp.float32)
    return params | {"head": HOTPOT.init(jax.random.key(5), CONFIG, 0)}


@pytest.mark.long
@pytest.mark.parametrize(
    ("driver", "name"),
    [("bucketed", "adapler"), ("packed", "powerbert"), ("bucketed", "keep_all")],
)
def test_layers_that_are_apart_give_every_token_its_state(driver, name):
    """No layer is run for [CLS] alone."""
    batch, params = with_sentences(), params_of(name)
    found, trace = engine(name, driver)(prepare_inference_params(params, CONFIG), batch)
    expected, expected_trace = engine(name, "masked")(params, batch)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), found, expected)
    np.testing.assert_allclose(trace.exit_hidden_BLD, expected_trace.exit_hidden_BLD, atol=1e-5)


def with_sentences(lengths=LENGTHS):
    """Sentences in slots 1 to 4 and 5 to 10, as much of them as the text has."""
    last_B = np.array(lengths)[:, None, None] - 1
    slot_BX2 = np.minimum(np.array([[[1, 4], [5, 10]]]), last_B)
    slot_BX2 = np.where(last_B >= np.array([[[1], [5]]]), slot_BX2, -1).astype(np.int32)
    return make_batch(lengths).replace(head_slots={"sentence_BX2": slot_BX2})


def without_sentences(lengths=LENGTHS):
    """Nothing is protected."""
    return make_batch(lengths).replace(
        head_slots={"sentence_BX2": np.full((len(lengths), 2, 2), -1, np.int32)}
    )


def assert_same(found, expected):
    for first, second in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5, rtol=0)


def rows(result, index):
    """Return the results of some rows of the batch."""
    logits, trace = jax.device_get(result)
    of_rows = {"last": trace.exit_hidden_BLD, **logits}
    sites = jax.tree.map(lambda leaf: leaf[:, index], trace.replace(exit_hidden_BLD=None))
    return jax.tree.map(lambda leaf: leaf[index], of_rows), sites


@pytest.mark.parametrize(
    ("name", "driver"),
    mostly_long(PRUNERS, FAST, quick=[("trbert", "bucketed"), ("powerbert", "packed")]),
)
def test_every_token_has_the_oracles_logits_and_last_state(name, driver):
    """Mixed lengths, the edges of the buckets, full texts and [CLS] alone."""
    for lengths in (LENGTHS, (3, 4, 5, 11, 12), (12,) * 5, (1,) * 5, (5, 4, 2, 1, 2)):
        batch, params = without_sentences(lengths), params_of(name)
        found, expected = (
            jax.device_get(engine(name, kind)(params, batch)) for kind in (driver, "masked")
        )
        assert_same(found, expected)
        span_BL2, exit_hidden_BLD = found[0]["span_BL2"], found[1].exit_hidden_BLD
        assert np.all(span_BL2[~batch.valid_BL] == MASK_BIAS) and np.all(
            np.abs(span_BL2[batch.valid_BL]) < 100
        )
        assert not np.any(exit_hidden_BLD[~batch.valid_BL]) and np.all(
            np.any(exit_hidden_BLD[batch.valid_BL], axis=-1)
        )


@pytest.mark.parametrize("driver", FAST)
def test_a_head_of_spans_alone_has_the_same_spans(driver):
    batch, params = make_batch(), params_of("trbert")
    batch = jax.tree.map(lambda leaf: np.concatenate([leaf, leaf[:1]]), batch)
    found_BL2, trace = engine("trbert", driver, heads.SPAN)(params, batch)
    unmarked = batch.replace(head_slots=without_sentences((1,) * 5).head_slots)
    expected, expected_trace = engine("trbert", "masked")(params, unmarked)
    assert_same((found_BL2, trace), (expected["span_BL2"], expected_trace))


@pytest.mark.parametrize("name", DROPPING)
def test_tokens_go_in_these_tests_and_keep_different_last_states(name):
    _, trace = engine(name, "masked")(params_of(name), without_sentences((12,) * 5))
    num_layers_BL = np.sum(trace.survival_NBL, axis=0)
    assert len(np.unique(num_layers_BL)) >= 3 and np.all(num_layers_BL[:, 0] == CONFIG.num_layers)


@pytest.mark.parametrize("driver", FAST)
@pytest.mark.parametrize("name", PRUNERS)
def test_batch_mates_never_matter(name, driver):
    """Rows have one result next to full texts and next to [CLS] alone."""
    params, together = (
        params_of(name),
        engine(name, driver)(params_of(name), without_sentences(LENGTHS)),
    )
    for mates, row in zip((12, 1, 12, 12, 1), range(5)):
        lengths = [length if index == row else mates for index, length in enumerate(LENGTHS)]
        found = engine(name, driver)(params, without_sentences(lengths))
        assert_same(rows(found, [row]), rows(together, [row]))


def test_each_row_equals_itself_alone():
    batch, params, run = with_sentences(), params_of("trbert"), engine("trbert", "packed")
    together = run(params, batch)
    for row in range(5):
        alone = run(params, jax.tree.map(lambda leaf, row=row: leaf[row : row + 1], batch))
        assert_same(rows(alone, [0]), rows(together, [row]))


@pytest.mark.long
def test_two_threads_give_the_answers_of_one():
    """Rows take their sentences along, and a dict of logits comes back in order."""
    batch, params = (
        with_sentences(np.random.default_rng(1).integers(1, 13, 20)),
        params_of("trbert"),
    )
    found = engine("trbert", "packed")(params, batch)
    assert {name: x.shape for name, x in found[0].items()} == {
        "span_BL2": (20, 12, 2),
        "type_B3": (20, 3),
        "support_BX2": (20, 2, 2),
    }
    assert all(isinstance(x, jax.Array) for x in found[0].values())
    for start in range(0, 20, 5):
        part = slice(start, start + 5)
        expected = engine("trbert", "masked")(
            params, jax.tree.map(lambda leaf, part=part: leaf[part], batch)
        )
        assert_same(rows(found, part), rows(expected, slice(None)))


def weights_of_ends(trace, batch):
    """Return the survival of sentence ends after each site, [N, tokens]."""
    row, *place = np.nonzero(batch.head_slots["sentence_BX2"] >= 0)
    return np.asarray(trace.survival_NBL)[:, row, batch.head_slots["sentence_BX2"][row, *place]]


@pytest.mark.parametrize("driver", ["masked", *FAST])
@pytest.mark.parametrize("name", DROPPING)
def test_tokens_that_the_head_reads_by_name_are_never_dropped(name, driver):
    batch, params = with_sentences(), params_of(name)
    found = logits, trace = engine(name, driver)(params, batch)
    assert np.all(weights_of_ends(trace, batch) == 1)
    unprotected = engine(name, driver)(params, without_sentences())[1]
    assert np.any(weights_of_ends(unprotected, batch) == 0)
    exists_BX = batch.head_slots["sentence_BX2"][..., 0] >= 0
    assert np.all((np.asarray(logits["support_BX2"])[..., 1] == MASK_BIAS) == ~exists_BX)
    assert_same(found, engine(name, "masked")(params, batch))


def test_they_may_go_where_the_head_lets_them_and_their_last_state_is_read():
    batch, params = with_sentences(), params_of("trbert")
    logits, trace = engine("trbert", "masked", FREE)(params, batch)
    assert np.any(weights_of_ends(trace, batch) == 0)
    expected = jax.jit(HOTPOT.apply, static_argnums=1)(
        params["head"], CONFIG, trace.exit_hidden_BLD, batch
    )
    assert_same(logits, expected)


@pytest.mark.parametrize("name", DROPPING)
def test_soft_removal_leaves_them_as_they_were(name):
    """At weight 1 in every layer, though the sentences' other tokens lose theirs."""
    batch, params, pruner = with_sentences(), params_of(name), PRUNERS[name]
    noise = (
        SamplingNoise(jax.random.uniform(jax.random.key(0), (4, *batch.valid_BL.shape)))
        if name == "trbert"
        else None
    )

    @jax.jit
    def run(params):
        return full_width.forward(
            params, CONFIG, pruner, batch, slope=jnp.float32(10.0), noise=noise, head=HOTPOT
        )

    _, trace = run(params)
    assert np.all(weights_of_ends(trace, batch) == 1)
    assert np.any(np.asarray(trace.survival_NBL)[:, batch.valid_BL] < 0.5)


@pytest.mark.parametrize("name", [*DROPPING, "powerbert_search"])
def test_a_protected_token_leaves_a_soft_site_exactly_as_it_entered(name):
    """Of weight 0.7, with a score that would remove it; the search would scale its state."""
    pruner = powerbert_search(CONFIG, max_length=4) if name == "powerbert_search" else PRUNERS[name]
    site_params = jax.tree.map(
        lambda leaf: leaf[0], params_of(name)["pruner"] if name in PRUNERS else {}
    )
    site_params |= {"powerbert": {"retention_N": jnp.float32(2.0)}}.get(name, {})
    site_params |= {"powerbert_search": {"rank_weight_NL": jnp.full((4,), 0.25)}}.get(name, {})
    protected_BL = jnp.array([[False, True, False, False]])
    view = SiteInput(
        token_logit_BL=jnp.array([[5.0, -9.0, 4.0, -9.0]]),
        remaining_BL=jnp.ones((1, 4), bool),
        survival_BL=jnp.array([[1.0, 0.7, 1.0, 0.7]]),
        noise=SamplingNoise(jnp.full((1, 4), 0.5)),
        protected_BL=protected_BL,
    )
    soften = jax.jit(
        lambda *operands: soft_step(pruner, operands[0], pruner.sites[0].layer, *operands[1:])
    )
    found = soften(site_params, view, jnp.float32(10.0))
    assert found.survival_BL[0, 1] == np.float32(0.7) and found.bias_BL[0, 1] == 0.0
    if name == "powerbert_search":
        assert found.scale_BL.tolist() == [[0.25, 1.0, 0.25, 0.25]]
    else:
        assert found.survival_BL[0, 3] < 0.1 and found.bias_BL[0, 3] < -1.0
