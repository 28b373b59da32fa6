"""Evaluation data, streamed as NumPy minibatches of (images, labels)."""

import types
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_free_adv import validation
from keras_free_adv.dense_data import (
    require_dense,
    require_no_list_of_minibatches,
    require_one_array,
)

DEFAULT_BATCH_SIZE = 128

Batch = tuple[np.ndarray, np.ndarray]


class LabelledBatches:
    """Minibatches of (images, labels), in order, at most `max_examples` examples.

    Args:
        data: (images, labels) arrays or tensors, a tf.data.Dataset or PyDataset of
            minibatches (images, labels[, sample_weight]).
        batch_size: examples in a minibatch; None for a dataset's own, 128 of arrays.
        max_examples: stop after so many examples; None for all.
        value_range: lowest and highest pixel value, for the check of each batch.
    """

    def __init__(
        self,
        data: Any,
        *,
        batch_size: int | None,
        max_examples: int | None,
        value_range: tuple[float, float],
    ) -> None:
        if batch_size is not None:
            batch_size = validation.positive_integer("batch_size", batch_size)
        if max_examples is not None:
            max_examples = validation.positive_integer("max_examples", max_examples)
        self._batch_size = batch_size
        self._max_examples = max_examples
        self._value_range = value_range
        # Whether reading it again costs nothing and gives the same.
        self.in_memory = not isinstance(data, (tf.data.Dataset, keras.utils.PyDataset))
        self._read, examples = self._reader(data)
        known = [n for n in (examples, max_examples) if n is not None]
        # Examples in all, or None if that is not known before reading.
        self.examples = None if examples is None else min(known)

    def __iter__(self) -> Iterator[Batch]:
        left = self._max_examples
        size: tuple[int, ...] | None = None
        for images, labels in self._read():
            _check_batched(images, labels)
            if left is not None:
                images, labels = images[:left], labels[:left]
                left -= len(images)
            self._check(images, labels)
            size = _same_size(size, images)
            if len(images):
                # Resizing leaves pixels a little outside; an attack begins inside.
                yield np.clip(images.astype("float32"), *self._value_range), labels
            if left == 0:
                return

    def _check(self, images: np.ndarray, labels: np.ndarray) -> None:
        _check_batched(images, labels)
        validation.image_array("data", images)
        validation.pixels_in_range("data", images, self._value_range)
        if len(images) != len(labels):
            raise ValueError(
                "Argument `data` must hold as many labels as images. Received: "
                f"{len(images)} images and {len(labels)} labels."
            )

    def _reader(self, data: Any) -> tuple[Any, int | None]:
        require_dense("data", data)
        require_no_list_of_minibatches("data", data)
        if isinstance(data, tf.data.Dataset):
            cardinality = int(data.cardinality())
            if cardinality == tf.data.INFINITE_CARDINALITY and not self._max_examples:
                raise ValueError(
                    "Argument `data` must be finite. Received: an infinite dataset. "
                    "Pass max_examples=n, or data.take(n)."
                )
            _check_spec(data.element_spec)
            if self._batch_size:
                data = data.rebatch(self._batch_size)
            return lambda: (_pair(item) for item in data.as_numpy_iterator()), None
        if isinstance(data, keras.utils.PyDataset):
            count = data.num_batches
            if count is None:
                raise ValueError(
                    "Argument `data` must be finite. Received: a PyDataset of unknown "
                    "length. Give it a __len__."
                )
            return lambda: (_pair(data[i]) for i in range(count)), None
        if isinstance(data, (types.GeneratorType, Iterator)):
            raise TypeError(
                "Argument `data` must be (images, labels), a tf.data.Dataset or a "
                f"keras.utils.PyDataset. Received: a one-shot {type(data).__name__}."
            )
        images, labels = _pair(data)
        self._check(images, labels)
        size = self._batch_size or DEFAULT_BATCH_SIZE
        return (
            lambda: (
                (images[i : i + size], labels[i : i + size])
                for i in range(0, len(images), size)
            ),
            len(images),
        )


def _check_batched(images: Any, labels: Any) -> None:
    """Raises if images or labels (arrays, or their specs) have no batch axis."""
    if 0 in (len(images.shape), len(labels.shape)):
        raise ValueError(
            "Argument `data` must hold minibatches. Received: a single image of shape "
            f"{tuple(images.shape)} with a label of shape {tuple(labels.shape)}. Call "
            "dataset.batch(n)."
        )


def _same_size(size: tuple[int, ...] | None, images: np.ndarray) -> tuple[int, ...]:
    """The size of the images, or raises if it is not that of the ones before."""
    if size is not None and images.shape[1:] != size:
        raise ValueError(
            "Argument `data` must hold images of one size: those that an attack leaves "
            f"standing are packed together. Received: minibatches of sizes {size} and "
            f"{images.shape[1:]}. Resize or pad the images to one size, or evaluate "
            "those of each size by themselves."
        )
    return images.shape[1:]


def _check_spec(spec: Any) -> None:
    """The same of what a dataset says that it holds, before it is read."""
    if not isinstance(spec, (tuple, list)) or len(spec) < 2:
        return  # which reading it refuses
    unknown = tf.TensorShape(None)
    shapes = [getattr(part, "shape", unknown) for part in spec[:2]]
    if any(shape.rank is None for shape in shapes):
        return
    _check_batched(*spec[:2])
    images, labels = (shape[0] for shape in shapes)
    if None not in (images, labels) and images != labels:
        raise ValueError(
            "Argument `data` must hold minibatches, of as many labels as images. "
            f"Received: {images} images and {labels} labels in each. If these are one "
            "image and its one-hot label, call dataset.batch(n)."
        )


def _pair(item: Any) -> Batch:
    if not isinstance(item, (tuple, list)) or len(item) not in (2, 3):
        raise ValueError(
            "Argument `data` must be (images, labels), or a dataset of such pairs. "
            f"Received: {type(item).__name__}"
            + (f" of {len(item)} parts." if isinstance(item, (tuple, list)) else ".")
            + " Robustness is measured against true labels."
        )
    images, labels = item[:2]
    if isinstance(images, dict) or isinstance(labels, dict):
        raise TypeError(
            "Argument `data` must hold one array of images and one of labels. "
            "Received: a dict. For a model with several inputs or outputs evaluate "
            "keras.Model(image_input, one_output)."
        )
    require_dense("data", item)
    require_one_array("data", images)
    return np.asarray(images), np.asarray(labels)
