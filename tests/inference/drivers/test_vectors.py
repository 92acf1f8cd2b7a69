"""The mean of the tokens that are left, through all drivers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax import forward as full_width
from adapler_jax.heads import embedding
from adapler_jax.inference.engine import make_engine, prepare_inference_params
from adapler_jax.pruning import keep_all
from adapler_jax.pruning.attention import attention
from adapler_jax.pruning.powerbert import powerbert
from tests.inference.drivers.engines import FAST
from tests.tiny import CONFIG, PRUNER, make_batch, make_params

PRUNERS = {
    "adapler": PRUNER,
    "powerbert": powerbert(CONFIG),
    "attention": attention(CONFIG),
    "keep_all": keep_all(),
}
HEAD = embedding(dense_dim=6)


@functools.cache
def params_of(name):
    params = make_params(PRUNERS[name])
    if name == "powerbert":
        params["pruner"]["retention_N"] = jnp.array((8, 5, 3, 2), jnp.float32)
    if name == "attention":
        params["pruner"]["share_J"] = jnp.full(len(PRUNERS[name].sites), 0.7)
    return params | {"head": HEAD.init(jax.random.key(3), CONFIG, 0)}


def run(name, driver, batch, **options):
    engine = make_engine(CONFIG, PRUNERS[name], driver=driver, head=HEAD, **options)
    return jax.device_get(engine(params_of(name), batch))


@pytest.mark.parametrize("name", PRUNERS)
def test_the_reference_takes_the_mean_of_the_states_of_kept_tokens(name):
    batch = make_batch()
    found, trace = run(name, "masked", batch, return_exit_hidden=True)
    left_BL = batch.valid_BL if trace.survival_NBL is None else trace.survival_NBL[-1] > 0
    assert name == "keep_all" or not np.array_equal(left_BL, batch.valid_BL)
    dense = params_of(name)["head"]["dense"]
    for row, left_L in enumerate(left_BL):
        mean_D = trace.exit_hidden_BLD[row][left_L].mean(axis=0)
        expected = np.tanh(mean_D @ dense["kernel"] + dense["bias"])
        np.testing.assert_allclose(found[row], expected, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize(("name", "driver"), list(zip(PRUNERS, (*FAST, *FAST))))
def test_every_driver_has_the_references_vectors(name, driver):
    batch = make_batch((12, 7, 3, 1, 6))
    expected = run(name, "masked", batch)[0]
    engine = make_engine(CONFIG, PRUNERS[name], driver=driver, head=HEAD)
    apart = prepare_inference_params(params_of(name), CONFIG)
    np.testing.assert_allclose(engine(apart, batch)[0], expected, atol=1e-5)


@pytest.mark.long
def test_a_steep_soft_removal_has_the_hard_vectors_and_thresholds_have_gradients():
    batch, params = make_batch(), params_of("adapler")

    def vectors(pruner_params, slope):
        tree = params | {"pruner": pruner_params}
        return full_width.forward(tree, CONFIG, PRUNER, batch, slope=slope, head=HEAD)[0]

    hard = run("adapler", "masked", batch)[0]
    steep = jax.jit(vectors)(params["pruner"], jnp.float32(1e7))
    np.testing.assert_allclose(steep, hard, atol=1e-4)
    grad = jax.grad(lambda p: jnp.sum(vectors(p, jnp.float32(10.0)) ** 2))(params["pruner"])
    assert all(np.any(leaf) for leaf in jax.tree.leaves(grad["threshold_N"]))
