"""Build an ONNX graph: a call adds a node and returns the name of its result.

Names of values end in the shapes of their arrays, as in `types.py`.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper

Value = str  # the name of a node's result, of an input or of an initializer
Operand = Value | int | float | bool | tuple[int, ...]  # numbers become constants

STANDARD = ""  # domain of the operators of the ONNX specification
CONTRIB = "com.microsoft"  # domain of the operators that only ONNX Runtime has
CONTRIB_VERSION = 1
CONSTANT_TYPES = {"b": np.bool_, "f": np.float32, "i": np.int64}  # by the kind of a number
ABSENT = ""  # operand that a node does without
IR_VERSION = 10  # the first that all operators of OPSETS need; later ones shut out older engines
OPSETS = range(20, 24)  # Gelu is an operator from 20 on


class Graph:
    """The nodes and constants of a graph in the making."""

    def __init__(self, *, uses_contrib: bool, weight_bits: int | None = None) -> None:
        """Start without nodes.

        Args:
          uses_contrib: whether nodes may be of the domain CONTRIB.
          weight_bits: of the integers of the encoder's kernels; None for float32.
        """
        self.uses_contrib = uses_contrib
        self.weight_bits = weight_bits
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, np.ndarray] = {}
        self._constants: dict[tuple, Value] = {}
        self._uses: dict[str, int] = {}

    def weight(self, name: str, array) -> Value:
        """Add a named array of the model."""
        if name in self._weights:
            raise ValueError(f"two weights are called {name}")
        self._weights[name] = np.ascontiguousarray(array)
        return name

    def constant(self, value, dtype: type = np.int64) -> Value:
        """Return a constant; equal ones are one."""
        array: np.ndarray = np.asarray(value, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = self._new_name("constant")
            self._constants[key] = name
            self._weights[name] = array
        return self._constants[key]

    def add(self, operator: str, *operands: Operand, domain: str = STANDARD, **attributes) -> Value:
        """Add a node with one result, and return the result.

        Args:
          operator: its name in the domain.
          *operands: values, or numbers and tuples of them, of CONSTANT_TYPES.
          domain: of the operator.
          **attributes: of the node.
        """
        return self.add_many(operator, *operands, num_results=1, domain=domain, **attributes)[0]

    def add_many(
        self,
        operator: str,
        *operands: Operand,
        num_results: int,
        domain: str = STANDARD,
        **attributes,
    ) -> list[Value]:
        """Add a node with several results, and return them; arguments as in `add`."""
        name = self._new_name(operator)
        results = [f"{name}:{index}" for index in range(num_results)]
        inputs = [self._as_value(operand) for operand in operands]
        self._nodes.append(
            helper.make_node(operator, inputs, results, name=name, domain=domain, **attributes)
        )
        return results

    def name_result(self, value: Value, name: str) -> None:
        """Give a result the name of an output."""
        self._nodes.append(helper.make_node("Identity", [value], [name], name=f"output_{name}"))

    def model(
        self,
        inputs: Mapping[str, tuple],
        outputs: Mapping[str, tuple],
        *,
        optional: Mapping[str, tuple],
        opset: int,
        facts: Mapping[str, str],
    ) -> onnx.ModelProto:
        """Return the model.

        Args:
          inputs: {name: (NumPy type, axes)}, axes are numbers or names.
          outputs: as the inputs.
          optional: inputs with a default, which is the weight of that name.
          opset: version of the standard operators.
          facts: texts that engines show.
        """
        graph = helper.make_graph(
            self._nodes,
            "adapler_jax",
            [_value_info(name, *kind) for name, kind in {**inputs, **optional}.items()],
            [_value_info(name, *kind) for name, kind in outputs.items()],
        )
        model = helper.make_model(
            graph,
            opset_imports=[
                helper.make_opsetid(STANDARD, opset),
                *([helper.make_opsetid(CONTRIB, CONTRIB_VERSION)] if self.uses_contrib else []),
            ],
            ir_version=IR_VERSION,
            producer_name="adapler_jax",
        )
        helper.set_model_props(model, dict(facts))
        for name, array in self._weights.items():
            _set_tensor(model.graph.initializer.add(), name, array)
        return model

    def _as_value(self, operand: Operand) -> Value:
        """Return a value as it is, and a number as a constant."""
        if isinstance(operand, str):
            return operand
        kind = np.asarray(operand).dtype.kind
        return self.constant(operand, CONSTANT_TYPES[kind])

    def _new_name(self, stem: str) -> str:
        """Return an unused name."""
        self._uses[stem] = self._uses.get(stem, 0) + 1
        return f"{stem}_{self._uses[stem]}"


def _set_tensor(tensor: onnx.TensorProto, name: str, array: np.ndarray) -> None:
    """Fill a tensor of a graph in place: the helpers of onnx hold several copies of the weights."""
    tensor.name = name
    tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
    tensor.dims.extend(array.shape)
    tensor.raw_data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _value_info(name: str, dtype: type, axes: tuple) -> onnx.ValueInfoProto:
    """Return the declaration of an input or output."""
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), axes
    )
