"""Recognizes what `fit` was given."""

import types
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_free_adv.data.arrays import from_arrays
from keras_free_adv.data.live_dataset import LiveDataset
from keras_free_adv.data.minibatches import Minibatches
from keras_free_adv.data.py_dataset import from_py_dataset
from keras_free_adv.data.tf_dataset import from_dataset


def minibatches_of(
    x: Any,
    y: Any,
    sample_weight: Any,
    *,
    batch_size: int | None,
    steps_per_epoch: int | None,
    shuffle: bool | str,
    live: LiveDataset,
) -> Minibatches:
    """Returns the minibatches of arrays, tensors, a tf.data.Dataset or a PyDataset.

    Raises:
        TypeError, ValueError: the data cannot be replayed; the message says what to
            pass instead.
    """
    if isinstance(x, (tf.data.Dataset, keras.utils.PyDataset)):
        for name, value in (("y", y), ("sample_weight", sample_weight)):
            if value is not None:
                raise ValueError(
                    f"Argument `{name}` must be None when `x` is a dataset: it is part "
                    f"of the dataset's elements. Received: {name} of type "
                    f"{type(value).__name__}."
                )
        if isinstance(x, tf.data.Dataset):
            return from_dataset(x, live)
        return from_py_dataset(x, shuffle=bool(shuffle))
    if isinstance(x, (types.GeneratorType, Iterator)):
        raise TypeError(
            "Argument `x` must be data that can be read more than once. Received: a "
            f"one-shot {type(x).__name__}. Pass arrays, a keras.utils.PyDataset, or "
            "tf.data.Dataset.from_generator(function, ...), which can start it anew."
        )
    if hasattr(x, "__dataloader__") or type(x).__name__ == "DataLoader":
        raise TypeError(
            "Argument `x` must be arrays, a tf.data.Dataset or a "
            f"keras.utils.PyDataset. Received: {type(x).__module__}."
            f"{type(x).__name__}. Wrap it in a keras.utils.PyDataset."
        )
    data = (x, y) if sample_weight is None else (x, y, sample_weight)
    return from_arrays(
        data, batch_size=batch_size, steps_per_epoch=steps_per_epoch, shuffle=shuffle
    )
