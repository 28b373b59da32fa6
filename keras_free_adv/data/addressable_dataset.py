"""tf.data pipelines that can be entered at any minibatch."""

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_free_adv.data.passes import endless_passes, sharded_by_data
from keras_free_adv.distribution.padded_batch import WorkerSlice


class Entry(NamedTuple):
    """How to enter the endless stream of a dataset.

    Attributes:
        minibatches_from: `minibatches_from(first)` begins at minibatch number `first`.
        slices_from: `slices_from(first, worker_slice)` yields one worker's slices,
            each with the size of its whole minibatch.
    """

    minibatches_from: Callable[[Any], tf.data.Dataset]
    slices_from: Callable[[Any, WorkerSlice], tf.data.Dataset]


# A transformation on top (`map`, `take`) is another dataset, and has no entry.
_entries: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def addressable_dataset(
    one_pass: Callable[[Any, Any], tf.data.Dataset],
    slices_of_pass: Callable[[Any, Any, WorkerSlice], tf.data.Dataset],
    count: int,
) -> tf.data.Dataset:
    """Makes a dataset of one pass, another one for each iteration, and its entry.

    Args:
        one_pass: `one_pass(p, i)` is pass number p, from its i-th minibatch on.
        slices_of_pass: the same for one worker, see `Entry.slices_from`.
        count: minibatches in one pass.
    """
    passes_begun = iter(range(2**62))
    this_pass = tf.data.Dataset.from_tensors(0).map(
        lambda _: tf.ensure_shape(
            tf.numpy_function(lambda: np.int64(next(passes_begun)), [], tf.int64), ()
        )
    )
    dataset = this_pass.flat_map(lambda p: one_pass(p, tf.zeros((), tf.int64)))
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))

    def read_ahead(stream: tf.data.Dataset) -> tf.data.Dataset:
        return sharded_by_data(stream).prefetch(tf.data.AUTOTUNE)

    dataset = read_ahead(dataset)
    _entries[dataset] = Entry(
        lambda first: read_ahead(endless_passes(one_pass, count, first)),
        lambda first, worker_slice: read_ahead(
            endless_passes(
                lambda p, i: slices_of_pass(p, i, worker_slice), count, first
            )
        ),
    )
    return dataset


def entry_of(dataset: tf.data.Dataset) -> Entry | None:
    """The entry of a dataset, or None if it must be read from its beginning."""
    return _entries.get(dataset)


def minibatches_from(dataset: tf.data.Dataset, first: Any) -> tf.data.Dataset:
    """The endless stream of an addressable dataset, from minibatch `first` on."""
    return _entries[dataset].minibatches_from(first)
