"""A `keras.utils.PyDataset`, as minibatches, its items read in parallel."""

import concurrent.futures
import itertools
import multiprocessing
from collections import deque
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_free_adv.data.arrays import as_arrays
from keras_free_adv.data.minibatches import Minibatches
from keras_free_adv.data.structures import first_array, present, with_leaves
from keras_free_adv.dense_data import require_dense


def from_py_dataset(dataset: keras.utils.PyDataset, *, shuffle: bool) -> Minibatches:
    """Reads its items with its own number of workers, in an order from (seed, pass).

    Its `on_epoch_begin` and `on_epoch_end` are called around each pass, if it knows how
    long a pass is.
    """
    count = dataset.num_batches
    if count == 0:
        raise ValueError("Argument `x` is an empty PyDataset. Pass at least one batch.")
    first_two = [
        _standard_item(dataset[i]) for i in range(2 if count is None else min(count, 2))
    ]
    sample, second = first_two[0], first_two[-1]
    rows = max(len(first_array(each)) for each in first_two)
    # None, as for an optional input, does not go through the generator.
    signature = tuple(map(_common_spec, present(sample), present(second)))

    def arrays(seed: Any, first: Any) -> Iterator[tuple[Any, ...]]:
        for item in items(seed, first):
            leaves = tuple(present(item))
            _check_shapes(leaves, signature)
            yield leaves

    def items(seed: Any, first: Any) -> Iterator[tuple[Any, ...]]:
        first = int(first)
        if count is None:
            yield from map(_standard_item, _read_ahead(dataset, itertools.count(first)))
            return
        number, within = divmod(first, count)
        while True:
            order = np.arange(count)
            if shuffle:
                np.random.default_rng((int(seed), number)).shuffle(order)
            dataset.on_epoch_begin()
            indices = iter(order[within:].tolist())
            yield from map(_standard_item, _read_ahead(dataset, indices))
            dataset.on_epoch_end()
            number, within = number + 1, 0

    def stream(seed: Any, first: Any) -> tf.data.Dataset:
        return tf.data.Dataset.from_generator(
            arrays, args=(seed, first), output_signature=signature
        ).map(lambda *leaves: with_leaves(sample, leaves))

    return Minibatches(count, rows, stream, sample, second=second)


def _read_ahead(
    dataset: keras.utils.PyDataset, indices: Iterator[int]
) -> Iterator[Any]:
    """Reads items in order, `workers` at a time, `max_queue_size` ahead."""
    if dataset.workers <= 1 and not dataset.use_multiprocessing:
        for index in indices:
            yield dataset[index]
        return
    pool: concurrent.futures.Executor
    if dataset.use_multiprocessing:
        pool = concurrent.futures.ProcessPoolExecutor(
            max(dataset.workers, 1), mp_context=multiprocessing.get_context("spawn")
        )
    else:
        pool = concurrent.futures.ThreadPoolExecutor(dataset.workers)
    with pool:
        waiting: deque = deque()
        try:
            for index in indices:
                waiting.append(pool.submit(dataset.__getitem__, index))
                if len(waiting) >= max(dataset.max_queue_size, dataset.workers):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for item in waiting:
                item.cancel()


def _standard_item(item: Any) -> tuple[Any, ...]:
    if not isinstance(item, (tuple, list)) or len(item) not in (2, 3):
        raise ValueError(
            "Argument `x`, a PyDataset, must give (images, labels) or (images, labels, "
            f"sample_weight) for each index. Received: {type(item).__name__}. "
            "Training needs labels."
        )
    require_dense("x", item)
    return tuple(as_arrays(part) for part in item)


def _common_spec(one: np.ndarray, other: np.ndarray) -> tf.TensorSpec:
    """The spec of both arrays; a size in which they differ is left open."""
    shape = (None,) * one.ndim
    if one.ndim == other.ndim:
        same = zip(one.shape[1:], other.shape[1:], strict=True)
        shape = (None, *(a if a == b else None for a, b in same))
    return tf.TensorSpec(shape, one.dtype)


def _check_shapes(leaves: tuple[Any, ...], signature: tuple[Any, ...]) -> None:
    """Raises if the arrays of an item do not have the shapes of the first two items."""
    found = [leaf.shape for leaf in leaves]
    promised = [spec.shape for spec in signature]
    fits = len(found) == len(promised) and all(
        wanted.is_compatible_with(shape)
        for shape, wanted in zip(found, promised, strict=True)
    )
    if not fits:
        raise ValueError(
            "Argument `x`, a PyDataset, must give arrays of the same shapes each time, "
            f"but for the batch: {[tuple(shape) for shape in promised]}, as its first "
            f"two items. Received: {found}."
        )
