"""Linear maps in float32 or in 8-bit integers.

A product of integers takes one scale for each output of the kernel, and one for all its inputs,
which the engine finds at run time. One large input then makes the steps of all others coarse. Two
things help: `spread` moves large columns of the input into the kernel, and `above` divides each
token by its largest entry.

Letters besides the key of `types.py`:

    I entries of a linear map's input        O entries of its output
"""

import numpy as np

from adapler_jax.export.onnx.graph import ABSENT, CONTRIB, Graph, Value
from adapler_jax.types import Params

SMALLEST_RANGE = 1e-8  # of numbers with one scale, so that a scale is never 0
LARGE_COLUMN = 4.0  # largest range over the median one, from which `spread` is used
SPREAD = 0.75  # share of an input's range that moves into the kernel, in powers; 0.5 is even


def linear(
    graph: Graph,
    name: str,
    params: Params,
    x_XI: Value,
    *,
    exact: bool = False,
    range_I: np.ndarray | None = None,
    above: float | None = None,
) -> Value:
    """Return x @ kernel + bias; `kernel` is (in, out), and the bias may be absent.

    Where the graph quantizes, the operands are integers.

    Args:
      graph: gets the nodes.
      name: of the linear map.
      params: its leaves.
      x_XI: float32.
      exact: never quantize, for scores in comparisons.
      range_I: largest absolute value of each input, for `spread`; None to leave the inputs.
      above: the lowest input, below 0, if each token gets a scale of its own; else None.
    """
    kernel_IO, bias = np.asarray(params["kernel"]), ABSENT
    if "bias" in params:
        bias = graph.weight(f"{name}.bias", params["bias"])
    if graph.weight_bits is None or exact:
        product_XO = graph.add("MatMul", x_XI, graph.weight(f"{name}.kernel", kernel_IO))
        return _plus(graph, product_XO, bias)
    if range_I is not None and np.max(range_I) >= LARGE_COLUMN * np.median(range_I):
        factor_I, kernel_IO = spread(range_I, kernel_IO)
        x_XI = graph.add("Mul", x_XI, graph.weight(f"{name}.factor", factor_I))
    if above is None:
        return _integer_product(graph, name, kernel_IO, x_XI, bias)
    # Absolute values would take longer than the largest value, and `above` bounds the others.
    size_X1 = graph.add("Max", graph.add("ReduceMax", x_XI, (-1,)), -above)
    unit_XI = graph.add("Div", x_XI, size_X1)
    product_XO = _integer_product(graph, name, kernel_IO, unit_XI, ABSENT)
    return _plus(graph, graph.add("Mul", product_XO, size_X1), bias)


def _plus(graph: Graph, x_XO: Value, bias: Value) -> Value:
    """Return the sum with a bias, which may be ABSENT."""
    return x_XO if bias == ABSENT else graph.add("Add", x_XO, bias)


def _integer_product(
    graph: Graph, name: str, kernel_IO: np.ndarray, x_XI: Value, bias: Value
) -> Value:
    """Return x @ kernel + bias with integers."""
    assert graph.weight_bits is not None
    quantized_IO, scale_O = quantize(kernel_IO, graph.weight_bits)
    return graph.add(
        "DynamicQuantizeMatMul",
        x_XI,
        graph.weight(f"{name}.kernel", quantized_IO),
        graph.weight(f"{name}.kernel_scale", scale_O),
        ABSENT,  # zero point: 0
        bias,
        domain=CONTRIB,
    )


def quantize(kernel_IO: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a kernel as integers, int8, and the scale of each output, float32 [O].

    q = round(w / s),   s = max_i |w_i| / (2^(bits - 1) - 1)
    """
    highest = 2 ** (bits - 1) - 1
    scale_O = np.maximum(np.max(np.abs(kernel_IO), axis=0), SMALLEST_RANGE) / highest
    return np.rint(kernel_IO / scale_O).astype(np.int8), scale_O.astype(np.float32)


def spread(range_I: np.ndarray, kernel_IO: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return factors of the inputs, float32 [I], and the kernel divided by them.

    f_i = w_i^(1 - SPREAD) / r_i^SPREAD,   r_i the range of input i,   w_i = max_o |w_io|

    Source: Xiao et al., "SmoothQuant", ICML 2023, equation 4; s = 1 / f.
    """
    range_I = np.maximum(range_I, SMALLEST_RANGE)
    weight_I = np.maximum(np.max(np.abs(kernel_IO), axis=1), SMALLEST_RANGE)
    factor_I = (weight_I ** (1.0 - SPREAD) / range_I**SPREAD).astype(np.float32)
    return factor_I, kernel_IO / factor_I[:, None]
