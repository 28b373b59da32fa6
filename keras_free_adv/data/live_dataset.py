"""A tf.data pipeline that one `fit` after another continues to read."""

import collections
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from keras_free_adv.data.structures import present, spec_of, with_leaves


class LiveDataset:
    """The iterator of a user's tf.data pipeline, kept from `fit` to `fit`.

    A shuffled pipeline cannot be entered in the middle, so its iterator is kept, with
    the minibatches that were fetched ahead and not yet trained on. Another process
    begins the passes that were made without reading them: if every shuffle has a seed,
    and nothing else is random, it continues with the same minibatches.

    Args:
        training_on: returns the number of the minibatch in training; none before it
            will be fetched again.
    """

    def __init__(self, training_on: Callable[[], int]) -> None:
        self._training_on = training_on
        # An abandoned stream may still be fetching when the next one begins.
        self._lock = threading.Lock()
        self._dataset: tf.data.Dataset | None = None
        self._iterator: Iterator[Any] = iter(())
        self._count = 0
        self._next = 0
        self._passes_begun = 0
        self._fetched: dict[int, list[tf.Tensor]] = {}
        self._sampled: tf.data.Dataset | None = None
        self._sample: list[Any] = []

    def first_two(self, dataset: tf.data.Dataset) -> list[Any]:
        """The first two minibatches of a dataset, as tensors.

        They are read once for all calls of `fit`: each reading begins the dataset's
        shuffles anew, and so changes the order of the passes that follow.
        """
        if dataset is not self._sampled:
            self._sampled, self._sample = dataset, list(dataset.take(2))
        return self._sample

    def stream(self, dataset: tf.data.Dataset, first: Any) -> tf.data.Dataset:
        """The endless stream of the dataset's minibatches, from number `first` on."""
        structure = spec_of(dataset)
        specs = present(structure)

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
            return with_leaves(structure, parts)

        first = tf.ensure_shape(tf.numpy_function(begin, [first], tf.int64), ())
        return tf.data.Dataset.range(first, tf.int64.max).map(minibatch)

    def _enter(self, dataset: tf.data.Dataset, first: int) -> None:
        if dataset is not self._dataset:
            self._dataset, self._fetched = dataset, {}
            self._count = int(dataset.cardinality())
            self._next, self._passes_begun = 0, 0
        oldest = min(self._fetched, default=self._next)
        if self._passes_begun == 0 or not oldest <= first <= self._next:
            self._go_to(dataset, first)
        self._fetched = {k: v for k, v in self._fetched.items() if k >= first}

    def _go_to(self, dataset: tf.data.Dataset, first: int) -> None:
        """Moves the iterator to minibatch `first`."""
        known = self._count > 0
        number, within = divmod(first, self._count) if known else (0, 0)
        behind = first - self._next
        if behind < 0 or number >= self._passes_begun:
            # A shuffle draws from its seed each time it begins: after as many begun
            # passes as in an uninterrupted run, the order is the same.
            for _ in range(number - self._passes_begun):
                iter(dataset)
            if known:
                rest = dataset.skip(within).concatenate(dataset.repeat())
            else:  # the end of a pass is only known once it is read
                rest = dataset.repeat().skip(first)
            self._iterator = iter(rest)
            self._passes_begun = number + 1
        else:
            collections.deque(itertools.islice(self._iterator, behind), maxlen=0)
        self._next, self._fetched = first, {}

    def _fetch(self, number: int) -> list[tf.Tensor]:
        while self._next <= number:
            self._fetched[self._next] = present(next(self._iterator))
            if self._count > 0:
                begun = self._next // self._count + 1
                self._passes_begun = max(self._passes_begun, begun)
            self._next += 1
        wanted = self._fetched[number]
        needed = min(self._training_on(), number)
        self._fetched = {k: v for k, v in self._fetched.items() if k >= needed}
        return wanted
