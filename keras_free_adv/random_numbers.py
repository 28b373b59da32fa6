"""Random draws that follow from a key alone.

A draw is a pure function of its key: the same key gives the same numbers on any
device, in any batch, in any order. `keras.random` has no draw with a key for each
example, so this file asks TensorFlow's counter-based generator for it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

# Keys of different use are kept apart by a number of their own.
RANDOM_START = 1
SHUFFLE = 2
AUGMENT = 3


def key(*numbers: Any) -> tf.Tensor:
    """Folds whole numbers (or integer tensors) into one key `[2]`, one at a time."""
    folded = tf.zeros((2,), tf.int64)
    for number in numbers:
        folded = tf.random.experimental.stateless_fold_in(
            folded, tf.cast(number, tf.int64)
        )
    return folded


def keys_of_examples(seed: Any, example_ids: Any, restart: Any) -> tf.Tensor:
    """Returns one key for each example, `[B, 2]`, from (seed, example, restart)."""
    base = key(RANDOM_START, seed, restart)
    ids = tf.cast(example_ids, tf.int64)
    return tf.stack([tf.fill(tf.shape(ids), base[0]) + ids, base[1] ^ ids], axis=1)


def uniform(keys: tf.Tensor, shape: Sequence[Any], dtype: Any) -> tf.Tensor:
    """Uniform numbers in [0, 1) of `shape` ([B, ...]).

    `keys` is `[2]` for one draw over the whole batch, or `[B, 2]` for one draw an
    example.
    """
    return _draw(tf.random.stateless_uniform, keys, shape, dtype)


def normal(keys: tf.Tensor, shape: Sequence[Any], dtype: Any) -> tf.Tensor:
    """Standard normal numbers of `shape`; `keys` as in `uniform`."""
    return _draw(tf.random.stateless_normal, keys, shape, dtype)


def _draw(
    draw: Callable[..., tf.Tensor], keys: tf.Tensor, shape: Sequence[Any], dtype: Any
) -> tf.Tensor:
    if keys.shape.rank == 1:
        return draw(shape, keys, dtype=dtype)
    return tf.map_fn(
        lambda example_key: draw(shape[1:], example_key, dtype=dtype),
        keys,
        fn_output_signature=tf.TensorSpec(shape[1:], dtype),
    )
