"""What a user's training data must be, checked before the first update."""

from typing import Any

import keras
import numpy as np
from keras import tree

from keras_free_adv import validation
from keras_free_adv.user_warnings import warn_user

SPARSE = "sparse_categorical_crossentropy"
ONE_HOT = "categorical_crossentropy"


def check_fit_arguments(
    x: Any,
    *,
    epochs: Any,
    initial_epoch: Any,
    batch_size: Any,
    steps_per_epoch: Any,
    validation_split: Any,
    class_weight: Any,
    sample_weight: Any,
) -> None:
    """Raises if the arguments of `fit`, apart from the data itself, are wrong."""
    validation.positive_integer("epochs", epochs)
    validation.whole_number("initial_epoch", initial_epoch)
    for name, value in (
        ("batch_size", batch_size),
        ("steps_per_epoch", steps_per_epoch),
    ):
        if value is not None:
            validation.positive_integer(name, value)
    is_dataset = hasattr(x, "element_spec") or isinstance(x, keras.utils.PyDataset)
    if validation_split:
        share = validation.finite_number("validation_split", validation_split)
        if not 0 < share < 1:
            raise ValueError(
                "Argument `validation_split` must be a number between 0 and 1. "
                f"Received: validation_split={validation_split!r}."
            )
        if is_dataset:
            raise ValueError(
                f"Argument `validation_split` needs arrays. Received: "
                f"{type(x).__name__}. Split the dataset (take and skip), and pass "
                "`validation_data`."
            )
    if class_weight is not None:
        _check_class_weight(class_weight)
    if class_weight is not None and sample_weight is not None:
        raise ValueError(
            "Arguments `class_weight` and `sample_weight` cannot be given together. "
            "Multiply the class weights into `sample_weight`."
        )


def _check_class_weight(class_weight: Any) -> None:
    if not isinstance(class_weight, dict) or not class_weight:
        raise ValueError(
            "Argument `class_weight` must be a dict of class number to weight, such as "
            f"{{0: 1.0, 1: 2.5}}. Received: class_weight={class_weight!r}."
        )
    for label, weight in class_weight.items():
        if not isinstance(label, (int, np.integer)):
            raise ValueError(
                "Argument `class_weight` must have class numbers as keys. "
                f"Received: the key {label!r}."
            )
        validation.finite_number(f"class_weight[{label}]", weight)


def check_images(images: Any, value_range: tuple[float, float], model: Any) -> None:
    """Raises if `images` are not numeric images on the scale of `value_range`."""
    images = validation.image_array("x", images)
    validation.pixels_in_range("x", images, value_range)
    low, high = value_range
    if images.size and high - low >= 100 and images.max() <= low + 1.5:
        warn_user(
            f"The images reach from {images.min():g} to {images.max():g}, but "
            f"`value_range` is ({low:g}, {high:g}): epsilon on that scale would hide "
            "them. If they are scaled to [0, 1], pass value_range=(0, 1) and "
            "epsilon=8 / 255."
        )
    expected = _static_shape(getattr(model, "inputs", None))
    if expected is not None and not _fits(images.shape, expected):
        raise ValueError(
            f"Argument `x` must have the shape of the model's input, {expected}. "
            f"Received: shape {images.shape}."
        )


def check_finite(name: str, values: Any) -> None:
    """Raises if labels or sample weights, in any structure, are not finite."""
    for array in tree.flatten(values):
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
            continue
        inner = tuple(range(1, array.ndim))
        bad = np.flatnonzero(~np.isfinite(np.atleast_1d(array)).all(axis=inner))
        if bad.size:
            raise ValueError(
                f"Argument `{name}` must be finite. Received NaN or infinite values for"
                f" {bad.size} of {len(array)} examples, the first at {bad[0]}. Leave "
                "those examples out, or mend them."
            )


def check_labels(labels: Any, model: keras.Model, loss: Any) -> None:
    """Raises if `labels` do not fit a single-output classifier and its loss."""
    if labels is None:
        raise ValueError(
            "Argument `y` must be given: adversarial training follows the loss of the "
            "true labels. Received: y=None. Pass labels, or a dataset of "
            "(images, labels)."
        )
    kind = _kind_of(loss)
    if not isinstance(labels, np.ndarray) or kind is None:
        return
    if labels.dtype.kind not in "fiub":
        raise TypeError(
            "Argument `y` must hold numbers: class numbers or one-hot rows. Received "
            f"dtype {labels.dtype}. Number the classes, for example with "
            "np.unique(y, return_inverse=True)[1]."
        )
    outputs = getattr(model, "output_shape", None)
    classes = outputs[-1] if isinstance(outputs, tuple) and len(outputs) == 2 else None
    sparse_shape = labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1)
    if kind == SPARSE and classes is not None:
        if not sparse_shape:
            raise ValueError(
                f"Argument `y` must hold one class number an example, shape "
                f"({len(labels)},), for the loss {SPARSE!r}. Received: shape "
                f"{labels.shape}. For one-hot labels compile with loss={ONE_HOT!r}."
            )
        ignored = getattr(loss, "ignore_class", None)
        if ignored is not None:
            labels = labels[labels != ignored]
        if labels.size and not (labels.min() >= 0 and labels.max() < classes):
            raise ValueError(
                f"Argument `y` must hold class numbers from 0 to {classes - 1}: the "
                f"model has {classes} outputs. Received: numbers from "
                f"{labels.min():g} to {labels.max():g}."
            )
    if kind == ONE_HOT and classes is not None and labels.shape[1:] != (classes,):
        raise ValueError(
            f"Argument `y` must hold one-hot rows, shape ({len(labels)}, {classes}), "
            f"for the loss {ONE_HOT!r}. Received: shape {labels.shape}. For class "
            f"numbers compile with loss={SPARSE!r}."
        )


def _kind_of(loss: Any) -> str | None:
    if isinstance(loss, keras.losses.SparseCategoricalCrossentropy) or loss == SPARSE:
        return SPARSE
    if isinstance(loss, keras.losses.CategoricalCrossentropy) or loss == ONE_HOT:
        return ONE_HOT
    return None


def _static_shape(inputs: Any) -> tuple[Any, ...] | None:
    if not isinstance(inputs, list) or len(inputs) != 1:
        return None
    return tuple(inputs[0].shape)


def _fits(shape: tuple[int, ...], expected: tuple[Any, ...]) -> bool:
    if len(shape) != len(expected):
        # Keras itself adds or drops a last axis of size one.
        longer, shorter = sorted((shape, expected), key=len, reverse=True)
        if len(longer) != len(shorter) + 1 or longer[-1] != 1:
            return False
        shape, expected = shape[: len(shorter)], expected[: len(shorter)]
    return all(
        e is None or s == e for s, e in zip(shape[1:], expected[1:], strict=True)
    )
