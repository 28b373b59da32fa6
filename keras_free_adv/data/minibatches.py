"""Minibatches that are addressed by number."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from keras_free_adv.distribution.padded_batch import WorkerSlice

# stream(seed, first): an endless dataset from minibatch number `first` on; both are
# int64 scalars, read when iteration starts.
Stream = Callable[[Any, Any], tf.data.Dataset]


@dataclass(frozen=True)
class Minibatches:
    """The data that `fit` trains on.

    Attributes:
        count: minibatches in one pass, or None if that is unknown or infinite.
        rows: examples in the largest minibatch; for a dataset, in the larger of the
            first two, because a shuffled one may begin with its short minibatch.
        stream: the endless stream, addressed by (seed, first minibatch).
        sample: one minibatch (x, y[, sample_weight]) as NumPy arrays, for checks
            before training; for arrays the whole data.
        slices: `slices(seed, first, worker_slice)` is the stream of one worker's
            slices, each with the size of its whole minibatch; None if the source can
            only make whole minibatches.
        second: as `sample`, the second minibatch of a dataset, or its only one; None
            for arrays.
    """

    count: int | None
    rows: int
    stream: Stream
    sample: tuple[Any, ...]
    slices: Callable[[Any, Any, WorkerSlice], tf.data.Dataset] | None = None
    second: tuple[Any, ...] | None = None
