"""Labels: class numbers, columns of them, or one-hot rows."""

from typing import Any

import numpy as np
from keras import ops


def class_numbers(labels: Any) -> Any:
    """Class numbers `[B]`, int32, from numbers `[B]`, `[B, 1]` or one-hot `[B, C]`."""
    if len(labels.shape) == 2:
        if labels.shape[-1] == 1:
            labels = ops.squeeze(labels, -1)
        else:
            labels = ops.argmax(labels, -1)
    return ops.cast(labels, "int32")


def check_classes(labels: np.ndarray, classes: int, name: str = "labels") -> None:
    """Raises if `labels` are neither class numbers nor one-hot rows of `classes`."""
    one_hot = labels.ndim == 2 and labels.shape[1] == classes
    numbers = labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1)
    if labels.dtype.kind not in "fiub" or not (one_hot or numbers):
        raise ValueError(
            f"Argument `{name}` must hold class numbers, shape (batch,), or one-hot "
            f"rows, shape (batch, {classes}). Received: shape {labels.shape}, dtype "
            f"{labels.dtype}."
        )
    if numbers and labels.size and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(
            f"Argument `{name}` must hold class numbers from 0 to {classes - 1}, the "
            f"model's classes. Received: numbers from {labels.min():g} to "
            f"{labels.max():g}."
        )
