"""Endless passes through the data, from any minibatch on."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def endless_passes(
    one_pass: Callable[[Any, Any], tf.data.Dataset], count: int, first: Any
) -> tf.data.Dataset:
    """Concatenates pass after pass, from minibatch number `first` on.

    Args:
        one_pass: `one_pass(p, i)` is pass number p, from its i-th minibatch on; both
            are int64 scalars (tensors).
        count: minibatches in one pass.
        first: number of the first minibatch, counted from the start of pass 0;
            an int64 scalar.

    Returns:
        An infinite dataset.
    """
    first = tf.cast(first, tf.int64)
    first_pass, within = first // count, first % count
    passes = tf.data.Dataset.range(first_pass, tf.int64.max)
    return passes.flat_map(
        lambda p: one_pass(p, tf.where(p == first_pass, within, tf.zeros_like(within)))
    )


def sharded_by_data(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Has many machines share the elements, not the files."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    return dataset.with_options(options)
