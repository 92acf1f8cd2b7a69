"""Build graphs of a few nodes and run them in ONNX Runtime.

Names of inputs and outputs end in the shapes of their arrays.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
import onnxruntime

from adapler_jax.export.onnx.graph import OPSETS, Graph, Value

Build = Callable[[Graph], Sequence[Value]]  # the results, in the order of the outputs
Kinds = Mapping[str, type]  # name -> type of the numbers
Feeds = Mapping[str, np.ndarray]


def make_model(
    build: Build,
    inputs: Kinds,
    outputs: Kinds,
    *,
    optional: Mapping[str, tuple] | None = None,
    facts: Mapping[str, str] | None = None,
    opset: int = OPSETS[0],
    uses_contrib: bool = False,
    weight_bits: int | None = None,
) -> onnx.ModelProto:
    """Return a model of the nodes that a function adds; other arguments are as in `Graph`."""
    graph = Graph(uses_contrib=uses_contrib, weight_bits=weight_bits)
    for value, name in zip(build(graph), outputs, strict=True):
        graph.name_result(value, name)
    return graph.model(
        {name: (kind, axes_of(name)) for name, kind in inputs.items()},
        {name: (kind, axes_of(name)) for name, kind in outputs.items()},
        optional={} if optional is None else optional,
        opset=opset,
        facts={} if facts is None else facts,
    )


def axes_of(name: str) -> tuple[str, ...]:
    """Return an unknown size for each letter of an array's name."""
    letters = name.rpartition("_")[2]
    return tuple(f"{name}:{axis}" for axis in range(len(letters)))


def open_graph(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Return a session of a model."""
    source = model.SerializeToString()
    return onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])


def run_graph(build: Build, feeds: Feeds, outputs: Kinds, **options) -> list[np.ndarray]:
    """Return the results of nodes for some arrays; options are as in `make_model`."""
    inputs = {name: array.dtype.type for name, array in feeds.items()}
    return open_graph(make_model(build, inputs, outputs, **options)).run(None, dict(feeds))


def operators_of(model: onnx.ModelProto) -> list[str]:
    """Return the operators of a model, in order."""
    return [node.op_type for node in model.graph.node]
