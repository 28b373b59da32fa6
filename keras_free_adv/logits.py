"""Where a model's logits are, whatever it returns.

A softmax or sigmoid at the end saturates in float32, and a saturated probability
has no gradient: an attack on it fails, and a weak model looks robust. So a final
softmax or sigmoid is looked through, and its input attacked.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_free_adv import backends
from keras_free_adv.backends.final_operation import (
    AFFINE,
    ModelOutputs,
)

# Where the logits were found.
LOGITS = "logits"
PROBABILITIES = "probabilities"
SOFTMAX_INPUT = "softmax_input"
SIGMOID_INPUT = "sigmoid_input"

Call = Callable[[Any, Any], Any]


def call_in_inference_mode(model: Callable, images: Any) -> Any:
    """The model's outputs; batch norm and dropout as in `predict`."""
    return model(images, training=False)


def outputs_in_inference_mode(model: keras.Model, images: Any) -> ModelOutputs:
    """The same, with the input of the final softmax or sigmoid."""
    return backends.look_through(model, lambda: call_in_inference_mode(model, images))


@dataclass(frozen=True)
class Outputs:
    """The outputs of a model for a few images.

    Attributes:
        units: numbers in a row.
        operation: the type of the final operation; see `ModelOutputs`.
        values: `[B, units]`, float32; None inside a graph, where there are none.
    """

    units: int
    operation: str | None
    values: np.ndarray | None

    @property
    def are_unbounded(self) -> bool:
        """Whether the last layer has no activation."""
        return self.operation == AFFINE

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
    found: dict[str, Any] = {}
    model_of = weakref.ref(model)

    def observed(images: Any) -> Any:
        seen = backends.look_through(model, lambda: call(model_of(), images))
        _check_outputs(seen.values)
        found["operation"] = seen.operation
        found["units"] = seen.values.shape[-1]
        return seen.values

    compiled = backends.compiled(observed, model_of)
    if backends.is_symbolic(images):
        compiled.trace(images)
        return Outputs(values=None, **found)
    values = compiled(ops.cast(images, "float32"))
    return Outputs(values=ops.convert_to_numpy(ops.cast(values, "float32")), **found)


def _check_outputs(outputs: Any) -> None:
    if tree.is_nested(outputs) or len(outputs.shape) != 2:
        shapes = tree.map_structure(lambda t: tuple(t.shape), outputs)
        raise ValueError(
            "Argument `model` must be a classifier with one output of shape (batch, "
            f"classes). Received: outputs of shape {shapes}. For a model with several "
            "outputs build keras.Model(model.inputs, model.outputs[i])."
        )
