"""NaN states, masks with gaps and empty rows give no confident results.

They do not change another text's results.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax import forward as full_width
from adapler_jax import heads
from adapler_jax.heads import CLASSIFICATION
from adapler_jax.inference.drivers import bucketed
from adapler_jax.inference.engine import make_engine
from adapler_jax.pruning import keep_all, powerbert, trbert
from adapler_jax.pruning.base import hard_step
from adapler_jax.types import Site, SiteInput, TokenFeatures
from tests import tiny
from tests.marks import mostly_long
from tests.tiny import CONFIG, PRUNER, make_batch, make_params, with_pruner_params

TRBERT = trbert(CONFIG, selector_dim=8)
MODELS = {
    "adapler": (PRUNER, make_params()),
    "trbert": (TRBERT, make_params(TRBERT)),
    "powerbert": (
        powerbert(CONFIG),
        with_pruner_params(
            make_params(powerbert(CONFIG)), retention_N=np.array([9.0, 6.0, 6.0, 2.0], np.float32)
        ),
    ),
    "keep_all": (keep_all(), make_params(keep_all())),
}
CASES = [
    ("adapler", "masked"),
    ("adapler", "bucketed"),
    ("adapler", "packed"),
    ("trbert", "bucketed"),
    ("trbert", "packed"),
    ("powerbert", "bucketed"),
    ("powerbert", "packed"),
    ("keep_all", "packed"),
    ("keep_all", "bucketed"),
]
BATCH = make_batch((12, 7, 3, 1, 9))
LOST = 1  # the row with a token that no other row has


@functools.cache
def engine(name, driver):
    return make_engine(CONFIG, MODELS[name][0], driver=driver, buckets=(4, 8, 12))


def with_token(params, value):
    """Return parameters with another embedding of one token in the row LOST."""
    others = {int(token) for row in (0, 2, 3, 4) for token in BATCH.token_BL[row]}
    token = next(int(token) for token in BATCH.token_BL[LOST, 2:7] if int(token) not in others)
    embeddings = params["encoder"]["embeddings"]
    embeddings = embeddings | {"token": embeddings["token"].at[token].set(value)}
    return params | {"encoder": params["encoder"] | {"embeddings": embeddings}}


@pytest.mark.parametrize(
    ("name", "driver"),
    mostly_long(
        CASES, quick=[("adapler", "masked"), ("trbert", "bucketed"), ("powerbert", "packed")]
    ),
)
def test_a_text_with_a_lost_state_has_no_answer_and_the_others_have_theirs(name, driver):
    params, run = MODELS[name][1], engine(name, driver)
    expected = np.array(run(params, BATCH)[0])
    assert np.all(np.isfinite(expected))
    for value in (np.nan, np.inf, -np.inf):
        found = np.asarray(run(with_token(params, value), BATCH)[0])
        assert np.all(np.isnan(found[LOST]))
        np.testing.assert_allclose(
            np.delete(found, LOST, 0), np.delete(expected, LOST, 0), atol=1e-6
        )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_rule_drops_tokens_of_a_text_with_a_reading_that_is_no_number(value):
    valid_BL = jnp.array([[True, True, True, False]] * 2)
    token_logit_BL = jnp.array([[0.0, -9.0, value, 0.0], [0.0, -9.0, 1.0, value]])
    view = SiteInput(token_logit_BL, valid_BL, valid_BL.astype(jnp.float32))
    for pruner, params in ((PRUNER, {"threshold_N": jnp.float32(0.9)}), (TRBERT, {})):
        keep_BL = hard_step(
            pruner._replace(sites=(Site(0, "before_attention"),)), params, jnp.int32(0), view
        ).keep_BL
        assert keep_BL.tolist()[0] == [True, True, True, False]
        assert keep_BL.tolist()[1][:2] == [True, False] and not keep_BL[1, 3]


def gap(batch, row, slot):
    """The batch with a mask that leaves out one slot of a row."""
    valid_BL = batch.valid_BL.copy()
    valid_BL[row, slot] = False
    return batch.replace(valid_BL=valid_BL)


@pytest.mark.parametrize("driver", ["masked", "bucketed", "packed"])
@pytest.mark.parametrize(("row", "slot"), [(0, 5), (2, 0), (4, 7)])
def test_a_mask_with_a_gap_is_refused_by_every_driver(driver, row, slot):
    with pytest.raises(
        ValueError, match=f"row {row} of the batch has a gap in its mask valid_BL; move the tokens"
    ):
        engine("adapler", driver)(MODELS["adapler"][1], gap(BATCH, row, slot))
    with pytest.raises(ValueError, match="has a gap"):
        engine("keep_all", driver)(MODELS["keep_all"][1], jax.device_put(gap(BATCH, row, slot)))


def test_the_bucketed_driver_by_itself_gives_no_answer_to_a_row_with_a_gap():
    run = jax.jit(
        lambda params, batch: bucketed.forward(params, CONFIG, PRUNER, batch, buckets=(4, 8, 12))[0]
    )
    found = run(MODELS["adapler"][1], gap(BATCH, 1, 3))
    assert np.isnan(found).any(axis=1).tolist() == [False, True, False, False, False]


@pytest.mark.parametrize(("name", "driver"), CASES)
def test_a_row_without_tokens_has_logits_of_zero(name, driver):
    empty = BATCH.replace(valid_BL=BATCH.valid_BL & (np.arange(5) != 2)[:, None])
    logits_BC, _ = engine(name, driver)(MODELS[name][1], empty)
    assert not np.any(logits_BC[2]) and np.all(np.any(np.delete(logits_BC, 2, 0), axis=1))


def test_logits_in_a_dict_are_zero_in_rows_without_tokens():
    logits = {"span_BL2": jnp.ones((2, 3, 2)), "type_B3": jnp.ones((2, 3))}
    found = heads.zero_empty_rows(logits, jnp.array([True, False]))
    assert all(np.all(x[0] == 1) and not np.any(x[1]) for x in found.values())


@pytest.mark.long
@pytest.mark.parametrize("pruner", [PRUNER, keep_all()], ids=["adapler", "keep_all"])
def test_rows_without_a_token_give_no_gradient(pruner):
    """A filler's row, and one that counts as an example."""

    @jax.jit
    def gradient(params, batch):
        def total(params):
            logits_BC, trace = full_width.forward(
                params, CONFIG, pruner, batch, slope=jnp.float32(10.0)
            )
            terms = pruner.loss_terms(params["pruner"], trace, batch)
            return jnp.sum(CLASSIFICATION.loss_fn(logits_BC, batch, 0.0)) + 3.0 * sum(
                terms.values()
            )

        return jax.grad(total)(params)

    params, batch = make_params(pruner), make_batch((12, 7, 3, 0))
    ids_B = np.array([0, 1, 2, -1], np.int32)
    filler = gradient(params, batch.replace(example_id_B=ids_B))
    real = gradient(params, batch)
    expected = gradient(params, jax.tree.map(lambda leaf: leaf[:3], batch))
    tiny.assert_all_finite((filler, real))
    tiny.assert_trees_near(filler, expected, atol=1e-5)
    if not pruner.sites:  # the terms of a pruner are means over the examples, and there is one more
        tiny.assert_trees_near(real, expected, atol=1e-5)


def exact_products(function, *args):
    """How many products of a function have the highest precision, and how many there are."""
    products = re.findall(
        r"dot_general\[(.*?)\n\s*\]", str(jax.make_jaxpr(function)(*args)), re.DOTALL
    )
    return sum("precision=(Precision.HIGHEST" in product for product in products), len(products)


@pytest.mark.parametrize("pruner", [PRUNER, TRBERT], ids=["adapler", "trbert"])
def test_scores_are_products_of_full_precision_whatever_the_operands_of_the_encoder(pruner):
    params = make_params(pruner)
    first = jax.tree.map(lambda leaf: leaf[0], params["pruner"])
    assert exact_products(pruner.score, first, TokenFeatures(jnp.zeros((2, 3, 16)))) == (2, 2)
    run = make_engine(CONFIG, pruner, driver="masked", dtype="bfloat16")
    num_exact, num_products = exact_products(run.program(5, 12), params, BATCH)
    assert num_exact == 2 < num_products
