"""A tf.data pipeline that is read on from `fit` to `fit`."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from keras import tree


class LiveDataset:
    """A user's tf.data pipeline, being read, from `fit` to `fit`.

    Its shuffling cannot be entered in the middle, so its iterator is kept, with the
    minibatches that were fetched ahead and not yet trained on.

    Args:
        training_on: returns the number of the minibatch in training; none before it
            will be asked for again.
    """

    def __init__(self, training_on: Callable[[], int]) -> None:
        self._training_on = training_on
        # A stream that was left may still be fetching when the next one begins.
        self._lock = threading.Lock()
        self._dataset: tf.data.Dataset | None = None
        self._iterator: Iterator[Any] = iter(())
        self._next = 0
        self._fetched: dict[int, list[tf.Tensor]] = {}

    def stream(self, dataset: tf.data.Dataset, first: Any) -> tf.data.Dataset:
        """Minibatches of `dataset`, passed through without end, from `first` on."""
        specs = tree.flatten(dataset.element_spec)

        def begin(first: Any) -> np.int64:
            with self._lock:
                self._enter(dataset, int(first))
            return np.int64(first)

        def fetch(number: Any) -> list[tf.Tensor]:
            with self._lock:
                return self._fetch(int(number))

        def minibatch(number: Any) -> Any:
            parts = tf.py_function(fetch, [number], [spec.dtype for spec in specs])
            for part, spec in zip(parts, specs, strict=True):
                part.set_shape(spec.shape)
            return tree.pack_sequence_as(dataset.element_spec, list(parts))

        first = tf.ensure_shape(tf.numpy_function(begin, [first], tf.int64), ())
        return tf.data.Dataset.range(first, tf.int64.max).map(minibatch)

    def _enter(self, dataset: tf.data.Dataset, first: int) -> None:
        oldest = min(self._fetched, default=self._next)
        if dataset is not self._dataset or not oldest <= first <= self._next:
            self._dataset = dataset
            count = int(dataset.cardinality())
            if count > 0:
                passes = dataset.skip(first % count).concatenate(dataset.repeat())
            else:
                passes = dataset.repeat().skip(first)
            self._iterator = iter(passes)
            self._next, self._fetched = first, {}
        self._fetched = {k: v for k, v in self._fetched.items() if k >= first}

    def _fetch(self, number: int) -> list[tf.Tensor]:
        while self._next <= number:
            self._fetched[self._next] = tree.flatten(next(self._iterator))
            self._next += 1
        wanted = self._fetched[number]
        needed = min(self._training_on(), number)
        self._fetched = {k: v for k, v in self._fetched.items() if k >= needed}
        return wanted
