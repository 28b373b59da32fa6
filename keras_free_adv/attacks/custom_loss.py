"""A `keras.losses.Loss` of the user's as what an attack maximizes."""

from typing import Any

import keras
import numpy as np
from keras import ops


def loss_of_each(loss: keras.losses.Loss, labels: Any, outputs: Any) -> Any:
    """The user's loss, `[B]`, float32, from labels and outputs as they are.

    Raises:
        ValueError: it is one number for the whole batch.
    """
    values = ops.convert_to_tensor(loss.call(labels, outputs))
    if values.shape == ():
        raise ValueError(
            "Argument `loss` must give one number an example: its `call` must return "
            f"shape (batch,). Received: {loss.name!r}, whose `call` returns a scalar. "
            "Take the mean over the last axis only; Keras reduces the batch itself."
        )
    values = ops.mean(ops.reshape(values, (ops.shape(values)[0], -1)), axis=-1)
    return ops.cast(values, "float32")


def check_shapes_belong(loss: keras.losses.Loss, labels: Any, units: int) -> None:
    """Raises if the loss spreads the one label of an example over all its outputs.

    A loss that compares entry by entry takes a label `[B, 1]` for each of `[B, C]`
    outputs, without a word, and the attack climbs something else than was meant. It
    is known by its answer: labels repeated for each output give the same. A loss that
    looks a class number up, such as the sparse cross-entropy, refuses those.

    Args:
        loss: the loss.
        labels: anything of the labels' shape and dtype.
        units: outputs of the model for an example.
    """
    one_each = len(labels.shape) == 1 or tuple(labels.shape[1:]) == (1,)
    if not one_each or units == 1:
        return
    # As many examples as outputs, for which labels `[B]` do not fail either.
    given = (np.arange(units) % 2).reshape(units, *labels.shape[1:])
    repeated = np.broadcast_to(given, (units, units))
    outputs = np.linspace(0.2, 0.7, units**2, dtype="float32").reshape(units, units)
    outputs = ops.convert_to_tensor(outputs)
    dtype = keras.backend.standardize_dtype(labels.dtype)
    try:
        one, other = (
            ops.convert_to_numpy(loss.call(ops.cast(tried, dtype), outputs))
            for tried in (given, repeated)
        )
    except Exception:  # whatever a loss raises that cannot be asked so
        return
    # One number for all examples is refused by itself.
    if one.shape and one.shape == other.shape and np.allclose(one, other):
        raise ValueError(
            "Argument `loss` must fit the labels. Received: "
            f"{loss.name!r}, which compares the one label of an example with each of "
            f"{units} outputs. Pass one-hot rows, shape (batch, {units}), or a loss of "
            "class numbers such as keras.losses.SparseCategoricalCrossentropy."
        )
