"""Labels as they are given: class numbers, one-hot rows, or rows of several labels."""

from typing import Any

import numpy as np
from keras import ops

# Shares of classes, as mixup makes them, may miss the sum 1 by their rounding.
SUM_TOLERANCE = 1e-3


def class_numbers(labels: Any) -> Any:
    """Class numbers `[B]`, int32, from numbers `[B]`, `[B, 1]` or rows `[B, C]`.

    Of a row the largest entry counts. Numbers that are not whole, such as 0.05 and
    0.95 for a smoothed 0 and 1, are taken for the nearest class.
    """
    if len(labels.shape) == 2:
        if labels.shape[-1] == 1:
            labels = ops.squeeze(labels, -1)
        else:
            labels = ops.argmax(labels, -1)
    if "float" in str(labels.dtype):
        labels = ops.floor(labels + 0.5)
    return ops.cast(labels, "int32")


def label_rows(labels: Any) -> Any:
    """Rows of labels `[B, L]`, int32, 1 above one half and else 0."""
    if len(labels.shape) == 1:
        labels = ops.expand_dims(labels, -1)
    return ops.cast(ops.greater(ops.cast(labels, "float32"), 0.5), "int32")


def are_rows(labels: Any, units: int) -> bool:
    """Whether labels are rows with an entry for each of several outputs."""
    return units > 1 and len(labels.shape) == 2 and labels.shape[-1] == units


def are_one_hot(rows: np.ndarray) -> bool:
    """Whether each row `[B, C]` has one entry 1, and else zeros."""
    return bool(np.isin(rows, (0, 1)).all() and (rows.sum(-1) == 1).all())


def are_shares(rows: np.ndarray) -> bool:
    """Whether each row `[B, C]` is between 0 and 1 with the sum 1."""
    rows = np.asarray(rows, "float64")
    return _in_unit_range(rows) and bool(
        np.allclose(rows.sum(-1), 1.0, atol=SUM_TOLERANCE)
    )


def check_classes(labels: np.ndarray, classes: int, name: str = "labels") -> None:
    """Raises if `labels` are neither class numbers nor rows of shares of `classes`."""
    rows = labels.ndim == 2 and labels.shape[1] == classes
    numbers = labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1)
    if not _are_numbers(labels) or not (rows or numbers):
        raise ValueError(
            f"Argument `{name}` must hold class numbers, shape (batch,), or one-hot "
            f"rows, shape (batch, {classes}). Received: shape {labels.shape}, dtype "
            f"{labels.dtype}."
        )
    if rows and not numbers:
        _check_shares(labels, name)
    elif labels.size:
        _check_numbers(labels, classes, name)


def check_label_rows(labels: np.ndarray, count: int, name: str = "labels") -> None:
    """Raises if `labels` are not rows `[B, count]` of numbers between 0 and 1."""
    fits = labels.shape[1:] == (count,) or (count == 1 and labels.ndim == 1)
    if not _are_numbers(labels) or not fits or not _in_unit_range(labels):
        within = ""
        if _are_numbers(labels) and labels.size:
            within = f", numbers from {labels.min():g} to {labels.max():g}"
        raise ValueError(
            f"Argument `{name}` must hold a row for each example, shape (batch, "
            f"{count}), 1 where a label is there and else 0: the model predicts "
            f"{count} labels at once. Received: shape {labels.shape}, dtype "
            f"{labels.dtype}{within}. If it predicts one of {count} classes pass "
            "predicts='class'."
        )


def _check_shares(rows: np.ndarray, name: str) -> None:
    if are_shares(rows):
        return
    sums = np.asarray(rows, "float64").sum(-1)
    wrong = int(np.argmax(np.abs(sums - 1.0)))
    raise ValueError(
        f"Argument `{name}` must hold one-hot rows, or shares of the classes between 0 "
        f"and 1 with the sum 1. Received: rows from {rows.min():g} to {rows.max():g}, "
        f"the one at {wrong} with the sum {sums[wrong]:g}. If the model predicts "
        "several labels at once pass predicts='labels'."
    )


def _check_numbers(numbers: np.ndarray, classes: int, name: str) -> None:
    if not (numbers.min() >= 0 and numbers.max() < classes):
        raise ValueError(
            f"Argument `{name}` must hold class numbers from 0 to {classes - 1}, the "
            f"model's classes. Received: numbers from {numbers.min():g} to "
            f"{numbers.max():g}."
        )
    # Of two classes, a smoothed number still says which it means.
    broken = np.asarray(numbers, "float64") % 1 != 0
    if broken.any() and (classes > 2 or numbers.max() > 1):
        raise ValueError(
            f"Argument `{name}` must hold whole class numbers. Received: "
            f"{np.asarray(numbers)[broken].flat[0]:g}. Pass the classes that are "
            "meant, or rows with a share for each class."
        )


def _are_numbers(labels: np.ndarray) -> bool:
    return labels.dtype.kind in "fiub" or "float" in labels.dtype.name


def _in_unit_range(values: np.ndarray) -> bool:
    return not values.size or bool(values.min() >= 0 and values.max() <= 1)
