"""Where a model's logits are, whatever it returns.

A softmax or sigmoid at the end saturates in float32, and a saturated probability
has no gradient: an attack on it fails, and a weak model looks robust. So a final
softmax or sigmoid is looked through, and its input attacked.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# Where the logits were found.
LOGITS = "logits"
PROBABILITIES = "probabilities"
SOFTMAX_INPUT = "softmax_input"
SIGMOID_INPUT = "sigmoid_input"

SOFTMAX = "Softmax"
SIGMOID = "Sigmoid"
# What ends a layer without an activation: its outputs have no bounds.
_AFFINE = ("BiasAdd", "AddV2", "Add", "MatMul", "BatchMatMulV2", "Einsum")

Call = Callable[[Any, Any], Any]


def call_in_inference_mode(model: Callable, images: Any) -> Any:
    """The model's outputs; batch norm and dropout as in `predict`."""
    return model(images, training=False)


@dataclass(frozen=True)
class Outputs:
    """The outputs of a model for a few images.

    Attributes:
        units: numbers in a row.
        operation: the type of the last operation, casts and copies aside; "Softmax",
            "Sigmoid", ..., or None where it cannot be seen.
        values: `[B, units]`, float32; None inside a graph, where there are none.
    """

    units: int
    operation: str | None
    values: np.ndarray | None

    @property
    def are_unbounded(self) -> bool:
        """Whether the last layer has no activation."""
        return self.operation in _AFFINE

    @property
    def in_unit_range(self) -> bool:
        """Whether all are between 0 and 1."""
        values = self.values
        if values is None or not values.size:
            return False
        return bool(values.min() >= 0 and values.max() <= 1)

    @property
    def are_shares(self) -> bool:
        """Whether each row could be probabilities of classes: its sum is 1."""
        if self.values is None or not self.in_unit_range:
            return False
        sums = self.values.sum(-1)
        return bool(np.allclose(sums, 1.0, atol=self.units * 1e-3))


def outputs_of(model: keras.Model, images: Any, call: Call) -> Outputs:
    """Traces a model, and calls it if the images have values.

    Args:
        model: a model with one output `[B, units]`.
        images: a few images `[B, ...]`; inside a graph, a tensor without values.
        call: maps the model and images to its outputs.

    Raises:
        ValueError: the model has several outputs, or they are not `[B, units]`.
    """
    spec = tf.TensorSpec((None,) + tuple(images.shape[1:]), tf.float32)
    found: dict[str, Any] = {}

    @tf.function(input_signature=[spec], autograph=False)
    def graph(images: Any) -> Any:
        outputs = call(model, images)
        _check_outputs(outputs)
        found["operation"] = input_of_final(outputs)[0]
        found["units"] = outputs.shape[-1]
        return outputs

    graph.get_concrete_function()
    values = None
    if isinstance(images, np.ndarray):
        values = np.asarray(graph(tf.constant(images, tf.float32)), "float32")
    return Outputs(values=values, **found)


def input_of_final(outputs: Any) -> tuple[str | None, Any]:
    """The type and the input of the last operation, casts and copies aside."""
    if not hasattr(outputs, "op"):  # functions are run eagerly, to debug
        return None, None
    operation = outputs.op
    while operation.type in ("Identity", "Cast", "StopGradient"):
        if operation.type == "StopGradient":
            return None, None
        operation = operation.inputs[0].op
    looked_through = operation.type in (SOFTMAX, SIGMOID)
    return operation.type, operation.inputs[0] if looked_through else None


def _check_outputs(outputs: Any) -> None:
    if not tf.is_tensor(outputs) or outputs.shape.rank != 2:
        shapes = tf.nest.map_structure(lambda t: t.shape, outputs)
        raise ValueError(
            "Argument `model` must be a classifier with one output of shape (batch, "
            f"classes). Received: outputs of shape {shapes}. For a model with several "
            "outputs build keras.Model(model.inputs, model.outputs[i])."
        )
