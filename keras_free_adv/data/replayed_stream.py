"""The stream that an adversarial model trains on."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from keras import tree

from keras_free_adv.data.bad_minibatches import BadMinibatches
from keras_free_adv.data.minibatches import Minibatches
from keras_free_adv.data.passes import sharded_by_data
from keras_free_adv.data.replay import replay
from keras_free_adv.data.structures import first_array
from keras_free_adv.distribution.padded_batch import (
    PaddedBatch,
    WorkerSlice,
    filled_up,
)


def replayed_stream(
    source: Minibatches,
    replays: int,
    begins_at: Callable[[], tuple[int, int]],
    room: int | None,
    bad: BadMinibatches,
    replicas: int = 1,
) -> tf.data.Dataset:
    """The stream that `fit` reads: each minibatch `replays` times.

    Args:
        source: the minibatches.
        replays: m.
        begins_at: returns (seed, number of the next update); called when iteration
            starts, so that it sees a backup restored after the dataset was made.
        room: examples in the largest minibatch that can be trained on; None for any.
        bad: records the minibatches that are not finite.
        replicas: how many share each minibatch.

    Returns:
        An infinite dataset; element u of the run is minibatch u // replays, as a
        `PaddedBatch` when there are several replicas.
    """

    def fits(*minibatch: Any) -> Any:
        rows = tf.shape(first_array(minibatch[0]))[0]
        message = (
            f"Argument `x`: a minibatch has more than the {room} examples for which "
            "the perturbation was made, from the first two minibatches. Batch the data "
            "with a fixed size (dataset.batch(n)); only the last may be shorter."
        )
        with tf.control_dependencies(
            [tf.debugging.assert_less_equal(rows, room, message)]
        ):
            return tree.map_structure(tf.identity, minibatch, none_is_leaf=False)

    def minibatches(seed: Any, first: Any) -> tf.data.Dataset:
        stream = bad.watching(source.stream(seed, first), first)
        if room is not None:
            stream = stream.map(fits)
        return filled_up(stream, source.rows, replicas) if replicas > 1 else stream

    stream = _replayed_from(begins_at, replays, minibatches)
    return sharded_by_data(stream).prefetch(tf.data.AUTOTUNE)


def replayed_slices(
    source: Minibatches,
    replays: int,
    begins_at: Callable[[], tuple[int, int]],
    bad: BadMinibatches,
    worker_slice: WorkerSlice,
    strategy: Any,
) -> Any:
    """As `replayed_stream`, for a worker that makes only its slice of each minibatch.

    Args:
        source: the minibatches, with `slices`.
        replays: m.
        begins_at: see `replayed_stream`.
        bad: see `replayed_stream`.
        worker_slice: the slice of this worker.
        strategy: the strategy in force.

    Returns:
        A `tf.distribute.DistributedDataset` of `PaddedBatch`.
    """
    replicas_here = worker_slice.replicas // worker_slice.workers

    def minibatches(seed: Any, first: Any) -> tf.data.Dataset:
        slices = source.slices(seed, first, worker_slice)  # type: ignore[misc]
        watched = bad.watching(slices, first, lambda element: element[0])
        return watched.map(worker_slice.share)

    def for_each_replica(share: PaddedBatch) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices(
            tree.map_structure(
                lambda t: tf.reshape(t, [replicas_here, -1, *t.shape[1:]]), share
            )
        )

    def of_this_worker(_: Any) -> tf.data.Dataset:
        stream = _replayed_from(begins_at, replays, minibatches)
        return stream.flat_map(for_each_replica).prefetch(tf.data.AUTOTUNE)

    return strategy.distribute_datasets_from_function(of_this_worker)


def _replayed_from(
    begins_at: Callable[[], tuple[int, int]],
    replays: int,
    minibatches: Callable[[Any, Any], tf.data.Dataset],
) -> tf.data.Dataset:
    """Repeats each of `minibatches(seed, first)`, from `begins_at()` on."""

    def position_now() -> tuple[np.int64, np.int64]:
        seed, update = begins_at()
        return np.int64(seed), np.int64(update)

    def from_place(_: Any) -> tf.data.Dataset:
        seed, update = tf.numpy_function(position_now, [], [tf.int64, tf.int64])
        seed, update = tf.ensure_shape(seed, ()), tf.ensure_shape(update, ())
        stream = minibatches(seed, update // replays)
        return stream.apply(replay(replays)).skip(update % replays)

    return tf.data.Dataset.from_tensors(0).flat_map(from_place)
