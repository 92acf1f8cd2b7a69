"""A graph holds what was added, once, in models that are equal for equal calls."""

import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from adapler_jax.export.onnx.graph import CONTRIB, IR_VERSION, OPSETS, STANDARD, Graph
from adapler_jax.export.onnx.layers import activate, linear, norm
from adapler_jax.export.onnx.texts import lay_out, take, unpad
from tests.export.onnx_graphs import make_model, open_graph

X_BD = np.float32([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]])
INPUT, OUTPUT = {"x_BD": np.float32}, {"y_BD": np.float32}
SCALE = {"scale": (np.float32, ("scales",))}  # an optional input


def scale_by_input(graph):
    """y = scale x; the scale is 2 where it is not given."""
    return [graph.add("Mul", "x_BD", graph.weight("scale", np.float32([2.0])))]


def weights_after(add):
    """The arrays in a model, by name, after a function that adds to its graph."""
    graph = Graph(uses_contrib=False)
    add(graph)
    model = graph.model({}, {}, optional={}, opset=OPSETS[0], facts={})
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


# Constants and weights


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((3,), (np.int32(3), np.int64)),
        (((1, 2),), ([1, 2],)),
        ((np.nan, np.float32), (float("nan"), np.float32)),
        (([[0.5]], np.float32), (np.float64([[0.5]]), np.float32)),
    ],
)
def test_equal_constants_are_one(first, second):
    assert len(weights_after(lambda graph: [graph.constant(*first), graph.constant(*second)])) == 1


def test_constants_of_another_number_type_or_shape_are_others():
    graph = Graph(uses_contrib=False)
    kinds = [(1,), (2,), (1, np.float32), (1, np.bool_), ([1],), ([[1]],), ([1, 1],)]
    assert len({graph.constant(*kind) for kind in kinds}) == len(kinds)


@pytest.mark.parametrize(
    ("number", "dtype", "shape"),
    [
        (7, np.int64, ()),
        (True, np.bool_, ()),
        (0.5, np.float32, ()),
        (float("-inf"), np.float32, ()),
        ((1, -1), np.int64, (2,)),
    ],
)
def test_numbers_become_constants_of_their_type(number, dtype, shape):
    (array,) = weights_after(lambda graph: graph.add("Identity", number)).values()
    assert array.dtype == dtype and array.shape == shape
    np.testing.assert_array_equal(array, number)


def test_two_weights_of_a_name_are_an_error():
    graph = Graph(uses_contrib=False)
    assert graph.weight("layers.0.bias", X_BD) == "layers.0.bias"
    with pytest.raises(ValueError, match=r"two weights are called layers\.0\.bias"):
        graph.weight("layers.0.bias", X_BD)


@pytest.mark.parametrize(
    "array",
    [
        X_BD.T,
        X_BD[:, ::2],
        jnp.array([[1.5, -0.25]]),
        np.int8([[-127, 0], [63, 127]]),
        np.array([True, False]),
        np.float32([np.nan, np.inf]),
        np.zeros((0, 4), np.float32),
    ],
    ids=["transposed", "strided", "jax", "int8", "bool", "not finite", "empty"],
)
def test_weights_keep_their_numbers_types_and_shapes(array):
    found = weights_after(lambda graph: graph.weight("table", array))["table"]
    expected = np.asarray(array)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)


# Nodes, inputs and outputs


def test_every_result_has_a_name_of_its_own():
    graph = Graph(uses_contrib=False)
    names = [graph.add("Neg", "x_BD"), graph.add("Neg", "x_BD"), graph.weight("Neg", X_BD)]
    names += graph.add_many("Split", "x_BD", num_results=3, axis=-1, num_outputs=3)
    assert len(set(names)) == len(names) == 6


def test_outputs_have_their_names_types_and_order():
    def build(graph):
        is_high_BD = graph.add("Greater", "x_BD", 0.0)
        # One value is two outputs, and an input is an output.
        return [is_high_BD, "x_BD", is_high_BD]

    kinds = {"second_BD": np.bool_, "first_BD": np.float32, "again_BD": np.bool_}
    session = open_graph(make_model(build, INPUT, kinds))
    outputs = {output.name: output.type for output in session.get_outputs()}
    assert list(outputs) == list(kinds)
    assert list(outputs.values()) == ["tensor(bool)", "tensor(float)", "tensor(bool)"]
    (found_BD,) = session.run(["first_BD"], {"x_BD": X_BD})
    np.testing.assert_array_equal(found_BD, X_BD)


def test_an_optional_input_has_its_weight_as_default():
    session = open_graph(make_model(scale_by_input, INPUT, OUTPUT))
    assert session.get_overridable_initializers() == []
    session = open_graph(make_model(scale_by_input, INPUT, OUTPUT, optional=SCALE))
    assert [found.name for found in session.get_inputs()] == ["x_BD"]
    (found,) = session.get_overridable_initializers()
    assert (found.name, found.type, found.shape) == ("scale", "tensor(float)", ["scales"])
    for feeds, factor in [({}, 2.0), ({"scale": np.float32([1.0, 0.0, -3.0])}, [1.0, 0.0, -3.0])]:
        (found_BD,) = session.run(None, {"x_BD": X_BD} | feeds)
        np.testing.assert_array_equal(found_BD, X_BD * np.float32(factor))


# Models


@pytest.mark.parametrize("opset", OPSETS)
def test_a_model_has_the_version_of_the_standard_operators(opset):
    model = make_model(scale_by_input, INPUT, OUTPUT, opset=opset)
    assert [(found.domain, found.version) for found in model.opset_import] == [(STANDARD, opset)]
    assert model.ir_version == IR_VERSION and model.producer_name == "adapler_jax"


def test_only_a_graph_that_uses_them_has_operators_of_onnx_runtime():
    def build(graph):
        return [graph.add("FastGelu", graph.add("Neg", "x_BD"), domain=CONTRIB)]

    model = make_model(build, INPUT, OUTPUT, uses_contrib=True)
    assert {found.domain: found.version for found in model.opset_import} == {
        STANDARD: 20,
        CONTRIB: 1,
    }
    assert [node.domain for node in model.graph.node] == [STANDARD, CONTRIB, STANDARD]
    assert open_graph(model).run(None, {"x_BD": X_BD})[0].shape == X_BD.shape
    # The standard operators have no node of this name, and the domain is not in the model.
    with pytest.raises(onnx.checker.ValidationError, match="com.microsoft"):
        onnx.checker.check_model(make_model(build, INPUT, OUTPUT))


def test_facts_are_metadata_of_a_model():
    facts = {"pruner": "adapler", "adapler_jax": '{"class_names": ["né", "pos"]}', "empty": ""}
    model = make_model(scale_by_input, INPUT, OUTPUT, facts=facts)
    assert open_graph(model).get_modelmeta().custom_metadata_map == facts


def ragged_layer(graph):
    """Padding, a linear map, an activation and a norm of the tokens under a mask."""
    rng = np.random.default_rng(0)
    texts = lay_out(graph, "mask_BX")
    padded_BRD = take(graph, "x_TD", texts.index_BR)
    tokens_TD = unpad(graph, texts, graph.add("Reshape", padded_BRD, (-1, 3)))
    dense = {"kernel": rng.normal(size=(3, 3)), "bias": rng.normal(size=3)}
    dense = {name: leaf.astype(np.float32) for name, leaf in dense.items()}
    inner_TD = activate(graph, "gelu", linear(graph, "dense", dense, tokens_TD))
    ones = {"scale": np.ones(3, np.float32), "bias": np.zeros(3, np.float32)}
    return [norm(graph, "norm", ones, inner_TD, epsilon=1e-12)]


def make_ragged_layer(**options):
    inputs = {"mask_BX": np.bool_, "x_TD": np.float32}
    facts = {"b": "1", "a": "2"}
    return make_model(ragged_layer, inputs, {"y_TD": np.float32}, facts=facts, **options)


@pytest.mark.parametrize("opset", OPSETS)
def test_standard_operators_pass_the_checker_and_agree_in_every_opset(opset):
    model = make_ragged_layer(opset=opset)
    onnx.checker.check_model(model, full_check=True)
    feeds = {
        "mask_BX": np.array([[True, True], [True, False]]),
        "x_TD": np.eye(3, dtype=np.float32),
    }
    (found_TD,) = open_graph(model).run(None, feeds)
    (first_TD,) = open_graph(make_ragged_layer()).run(None, feeds)
    np.testing.assert_array_equal(found_TD, first_TD)
    np.testing.assert_allclose(found_TD.mean(axis=1), np.zeros(3), atol=1e-6)


def test_equal_calls_give_equal_bytes():
    first, second = (make_ragged_layer().SerializeToString() for _ in range(2))
    assert first == second and len(first) > 500
    assert make_ragged_layer(opset=OPSETS[-1]).SerializeToString() != first
