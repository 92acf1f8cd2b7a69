"""Linear maps equal products, and integers are within their rounding.

Letters besides the key of `types.py`:

    I entries of a linear map's input
    O entries of a linear map's output
"""

import numpy as np
import pytest

from adapler_jax.export.onnx.linear import SPREAD, linear, quantize, spread
from tests.export.onnx_graphs import make_model, open_graph, operators_of

NUM_TOKENS, NUM_INPUTS, NUM_OUTPUTS = 16, 24, 40
INTEGERS = {"uses_contrib": True, "weight_bits": 8}


def random_array(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


KERNEL_IO = random_array(NUM_INPUTS, NUM_OUTPUTS, seed=3)
BIAS_O = random_array(NUM_OUTPUTS, seed=4)
X_TI = random_array(NUM_TOKENS, NUM_INPUTS)


def run_linear(x_TI=X_TI, *, exact=False, range_I=None, above=None, **options):
    """The product of the inputs and its operators."""

    def build(graph):
        params = {"kernel": KERNEL_IO, "bias": BIAS_O}
        how = {"exact": exact, "range_I": range_I, "above": above}
        return [linear(graph, "dense", params, "x_TI", **how)]

    model = make_model(build, {"x_TI": np.float32}, {"y_TO": np.float32}, **options)
    return open_graph(model).run(None, {"x_TI": x_TI})[0], operators_of(model)


def error_TO(x_TI, **options):
    """The absolute error of a product of 8-bit integers."""
    return np.abs(run_linear(x_TI, **INTEGERS, **options)[0] - (x_TI @ KERNEL_IO + BIAS_O))


def test_linear_equals_a_product():
    expected_TO = X_TI @ KERNEL_IO + BIAS_O
    np.testing.assert_allclose(run_linear()[0], expected_TO, rtol=0, atol=1e-5)


def test_a_quantized_product_is_within_its_rounding():
    # Seven bits, since pairs of products of eight overflow on older processors.
    found_TO, operators = run_linear(uses_contrib=True, weight_bits=7)
    assert "DynamicQuantizeMatMul" in operators and "MatMul" not in operators
    scale_O = np.abs(KERNEL_IO).max(axis=0) / 63
    step = (X_TI.max() - X_TI.min()) / 255  # of the inputs, whose zero is rounded too
    error_TO = np.abs(found_TO - (X_TI @ KERNEL_IO + BIAS_O))
    bound_TO = (
        np.abs(X_TI).sum(axis=1, keepdims=True) * scale_O / 2
        + step * np.abs(KERNEL_IO).sum(axis=0)
        + step * scale_O * NUM_INPUTS / 2
    )
    assert np.all(error_TO <= bound_TO) and 1e-4 < error_TO.mean() < 0.1


def test_exact_products_are_never_quantized():
    how = {"range_I": np.ones(NUM_INPUTS), "above": -0.1}
    found_TO, operators = run_linear(exact=True, **how, **INTEGERS)
    assert operators == ["MatMul", "Add", "Identity"]
    np.testing.assert_array_equal(found_TO, run_linear()[0])
    assert run_linear(**how)[1] == operators


def test_a_large_column_does_not_make_the_others_coarse():
    x_TI = X_TI.copy()
    x_TI[:, 5] *= 100.0
    range_I = np.abs(x_TI).max(axis=0)
    assert error_TO(x_TI, range_I=range_I).mean() < error_TO(x_TI).mean() / 5


@pytest.mark.parametrize("size", [1e4, 0.0])
def test_each_token_may_have_a_scale_of_its_own(size):
    x_TI = np.maximum(X_TI, -0.1)
    others = np.arange(NUM_TOKENS) != 3
    alone = error_TO(x_TI, above=-0.1)[others].mean()
    x_TI[3] *= size
    assert error_TO(x_TI, above=-0.1)[others].mean() < 1.5 * alone
    if size:
        assert error_TO(x_TI)[others].mean() > 20 * alone


def test_spreading_changes_no_product():
    range_I = np.geomspace(1e-3, 1e3, NUM_INPUTS).astype(np.float32)
    factor_I, kernel_IO = spread(range_I, KERNEL_IO)
    weight_I = np.abs(KERNEL_IO).max(axis=1)
    np.testing.assert_allclose(factor_I, weight_I ** (1 - SPREAD) / range_I**SPREAD, rtol=1e-5)
    np.testing.assert_allclose((X_TI * factor_I) @ kernel_IO, X_TI @ KERNEL_IO, atol=1e-3)
    # Inputs that are always 0, and rows of the kernel that are.
    factor_I, kernel_IO = spread(
        np.zeros(NUM_INPUTS), KERNEL_IO * (np.arange(NUM_INPUTS) > 3)[:, None]
    )
    assert np.all(np.isfinite(factor_I)) and np.all(np.isfinite(kernel_IO))


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(("bits", "highest"), [(7, 63), (8, 127)])
def test_quantized_kernels_are_within_half_a_step(bits, highest, sign):
    kernel_IO = random_array(200, 3, seed=bits) * np.float32([1.0, 1e-4, 30.0])
    kernel_IO[5] = sign * 1.25 * np.abs(kernel_IO).max(axis=0)
    quantized_IO, scale_O = quantize(kernel_IO, bits)
    assert quantized_IO.dtype == np.int8 and scale_O.dtype == np.float32
    np.testing.assert_allclose(scale_O, np.abs(kernel_IO).max(axis=0) / highest, rtol=1e-6)
    error_IO = np.abs(quantized_IO * scale_O - kernel_IO)
    assert np.all(error_IO <= 0.5001 * scale_O)
    assert quantized_IO[5].tolist() == [sign * highest] * 3
    assert np.abs(quantized_IO.astype(int)).max() == highest


def test_outputs_without_weights_have_finite_scales():
    quantized_IO, scale_O = quantize(np.float32([[0.0, 1e-30], [0.0, 0.0], [0.0, -1e-30]]), 8)
    assert not quantized_IO.any() and np.all(np.isfinite(scale_O)) and np.all(scale_O > 0.0)
