"""A classifier's logits, whatever it returns.

A softmax or sigmoid at the end saturates in float32, and a saturated probability
has no gradient: an attack on it fails, and a weak model looks robust. So a final
softmax is looked through, and its input attacked.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_free_adv import validation

# Where the logits were found.
LOGITS = "logits"
PROBABILITIES = "probabilities"
SOFTMAX_INPUT = "softmax_input"
SIGMOID_INPUT = "sigmoid_input"

_TINY = 1e-30


@dataclass(frozen=True)
class LogitView:
    """How the logits of a model are obtained; decided once.

    Attributes:
        source: "logits" (the outputs are), "softmax_input" or "sigmoid_input" (the
            input of the final operation), or "probabilities" (their logarithm).
        classes: number of classes; one sigmoid unit counts as two.
        ignored: "Softmax" or "Sigmoid", if the model ends with one, and its outputs
            are taken for logits because the user says so; else None.
    """

    source: str
    classes: int
    ignored: str | None = None

    def __call__(self, outputs: Any) -> Any:
        """Logits `[B, classes]` in float32, from a model's outputs `[B, units]`."""
        if self.source in (SOFTMAX_INPUT, SIGMOID_INPUT):
            outputs, probabilities = _input_of_final(outputs)[1], outputs
            if outputs is None:  # run eagerly: there is no graph to look through
                return LogitView(PROBABILITIES, self.classes)(probabilities)
        elif self.source == PROBABILITIES:
            outputs = ops.maximum(ops.cast(outputs, "float32"), _TINY)
            if outputs.shape[-1] == 1:
                other = ops.log(ops.maximum(1.0 - outputs, _TINY))
                return ops.concatenate([other, ops.log(outputs)], axis=-1)
            return ops.log(outputs)
        logits = ops.cast(outputs, "float32")
        if logits.shape[-1] == 1:
            logits = ops.concatenate([ops.zeros_like(logits), logits], axis=-1)
        return logits


def call_in_inference_mode(model: Callable, images: Any) -> Any:
    """The model's outputs; batch norm and dropout as in `predict`."""
    return model(images, training=False)


def logit_view(
    model: keras.Model,
    from_logits: bool | str,
    images: Any,
    call: Callable[[Any, Any], Any] = call_in_inference_mode,
) -> LogitView:
    """Decides how to obtain the logits of `model`.

    Args:
        model: a classifier with one output `[B, units]`.
        from_logits: True (the outputs are logits), False (they are probabilities), or
            "auto": a final softmax is recognized; otherwise the outputs for `images`
            decide.
        images: a few images `[B, ...]`; inside a graph, a tensor without values.
        call: maps the model and images to its outputs.

    Raises:
        ValueError: the model has several outputs, or they are not `[B, units]`, or
            "auto" cannot decide.
    """
    spec = tf.TensorSpec((None,) + tuple(images.shape[1:]), tf.float32)
    found: dict[str, Any] = {}

    @tf.function(input_signature=[spec], autograph=False)
    def outputs_of(images: Any) -> Any:
        outputs = call(model, images)
        _check_outputs(outputs)
        found["operation"] = _input_of_final(outputs)[0]
        found["units"] = outputs.shape[-1]
        return outputs

    outputs_of.get_concrete_function()
    units = found["units"]
    classes = 2 if units == 1 else units
    recognized = {
        "Softmax": SOFTMAX_INPUT if units > 1 else None,
        "Sigmoid": SIGMOID_INPUT if units == 1 else None,
    }.get(found["operation"])
    if from_logits is True:
        return LogitView(LOGITS, classes, found["operation"] if recognized else None)
    if recognized:
        return LogitView(recognized, classes)
    if from_logits is False:
        return LogitView(PROBABILITIES, classes)
    if not isinstance(images, np.ndarray):
        raise ValueError(
            "Argument `from_logits` cannot be 'auto' inside a graph for a model "
            f"without a final softmax. Received: {model.name!r}. Pass True or False."
        )
    outputs = np.asarray(outputs_of(tf.constant(images, tf.float32)), "float32")
    if units == 1:
        return LogitView(_source_of_one_unit(model, outputs), classes)
    return LogitView(PROBABILITIES if _are_shares(outputs) else LOGITS, classes)


def check_from_logits(from_logits: Any) -> bool | str:
    """Returns `from_logits`, or raises if it is none of True, False and "auto"."""
    return validation.one_of("from_logits", from_logits, (True, False, "auto"))


def _are_shares(outputs: np.ndarray) -> bool:
    """Whether each row could be probabilities: between 0 and 1, with the sum 1."""
    if outputs.size == 0 or outputs.min() < 0 or outputs.max() > 1:
        return False
    return bool(np.allclose(outputs.sum(-1), 1.0, atol=outputs.shape[-1] * 1e-3))


def _source_of_one_unit(model: keras.Model, outputs: np.ndarray) -> str:
    """One number has no sum to be recognized by: ask the loss, or the user."""
    if outputs.size and (outputs.min() < 0 or outputs.max() > 1):
        return LOGITS
    said = getattr(getattr(model, "loss", None), "from_logits", None)
    if said is None:
        raise ValueError(
            "Argument `from_logits` cannot be 'auto' for this model: its one output "
            f"could be a probability or a logit. Received: {model.name!r}, with "
            "outputs between 0 and 1 and no sigmoid at its end. Pass "
            "from_logits=False for probabilities, True for logits."
        )
    return LOGITS if said else PROBABILITIES


def _check_outputs(outputs: Any) -> None:
    if not tf.is_tensor(outputs) or outputs.shape.rank != 2:
        shapes = tf.nest.map_structure(lambda t: t.shape, outputs)
        raise ValueError(
            "Argument `model` must be a classifier with one output of shape (batch, "
            f"classes). Received: outputs of shape {shapes}. For a model with several "
            "outputs build keras.Model(model.inputs, model.outputs[i])."
        )


def _input_of_final(outputs: Any) -> tuple[str | None, Any]:
    """The type and the input of the last operation, casts and copies aside."""
    if not hasattr(outputs, "op"):  # functions are run eagerly, to debug
        return None, None
    operation = outputs.op
    while operation.type in ("Identity", "Cast", "StopGradient"):
        if operation.type == "StopGradient":
            return None, None
        operation = operation.inputs[0].op
    if operation.type in ("Softmax", "Sigmoid"):
        return operation.type, operation.inputs[0]
    return None, None
