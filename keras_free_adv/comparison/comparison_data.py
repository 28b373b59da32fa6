"""The data of a comparison: for `fit`, its checksum, and what is looked at."""

import zlib
from typing import Any

import keras
import numpy as np

from keras_free_adv.data.labelled_batches import LabelledBatches
from keras_free_adv.user_warnings import warn_user

LOOKED_AT = 200  # examples under attack after each epoch


def fit_arguments(train: Any, batch_size: int) -> dict[str, Any]:
    """What `fit` takes.

    Raises:
        ValueError: not a pair.
    """
    if isinstance(train, (tuple, list)):
        if len(train) != 2:
            raise ValueError(
                "Argument `train` must be (images, labels). Received: "
                f"{len(train)} parts."
            )
        return {"x": train[0], "y": train[1], "batch_size": batch_size}
    return {"x": train}


def checksum(train: Any) -> int | None:
    """Of arrays; what a dataset holds is not known before it is read."""
    if not isinstance(train, (tuple, list)):
        return None
    found = 0
    for part in train:
        found = zlib.crc32(np.ascontiguousarray(part).data, found)
    return found


def first_examples(test: Any, value_range: tuple[float, float]) -> tuple[Any, Any]:
    """The first test examples, as arrays."""
    batches = LabelledBatches(
        test, batch_size=None, max_examples=LOOKED_AT, value_range=value_range
    )
    images, labels = zip(*batches, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def warn_of_missing_classes(labels: np.ndarray, network: keras.Model) -> None:
    """Warns if the first test examples are of a few classes only."""
    shape = getattr(network, "output_shape", None)
    classes = shape[-1] if isinstance(shape, tuple) and len(shape) == 2 else 1
    numbers = labels.argmax(-1) if labels.ndim > 1 and labels.shape[-1] > 1 else labels
    found = len(np.unique(numbers))
    if len(labels) >= classes and found <= classes / 2:
        warn_user(
            f"The first {len(labels)} examples of `test` are of {found} of {classes} "
            "classes, and the first ones are attacked. Shuffle them once, with a seed."
        )
