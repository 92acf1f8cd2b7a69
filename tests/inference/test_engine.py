"""The engine returns JAX arrays for every batch size, also if two threads run it."""

import jax
import numpy as np
import pytest

from adapler_jax.inference.engine import MIN_SPLIT, make_engine, prepare_inference_params
from adapler_jax.pruning import adapler
from tests import tiny


@pytest.mark.parametrize("num_texts", [3, MIN_SPLIT, MIN_SPLIT + 1])
def test_results_are_jax_arrays_at_every_batch_size(num_texts):
    pruner = adapler(tiny.CONFIG)
    params = prepare_inference_params(tiny.make_params(), tiny.CONFIG)
    rows = np.arange(num_texts) % 3
    batch = jax.tree.map(lambda leaf: leaf[rows], tiny.make_batch((5, 9, 12)))
    run = make_engine(tiny.CONFIG, pruner, driver="packed", return_exit_hidden=True)
    results = run(params, batch)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(results))
    one_program = run.program(*batch.token_BL.shape)
    expected = one_program(params, batch)
    assert jax.tree.structure(results) == jax.tree.structure(expected)
    for found, wanted in zip(jax.tree.leaves(results), jax.tree.leaves(expected)):
        assert found.shape == wanted.shape and found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted, atol=1e-5)
