"""Random draws that follow from a key alone.

A draw is a pure function of its key: the same key gives the same numbers on any
device, in any batch, in any order.
"""

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

# Keys of different use are kept apart by a number of their own.
RANDOM_START = 1
SHUFFLE = 2
AUGMENT = 3
RANDOM_HEAD = 4


def key(*numbers: Any) -> tf.Tensor:
    """Folds whole numbers (or integer tensors) into one key `[2]`, one at a time."""
    folded = tf.zeros((2,), tf.int64)
    for number in numbers:
        folded = tf.random.experimental.stateless_fold_in(
            folded, tf.cast(number, tf.int64)
        )
    return folded


def keys_of_examples(seed: Any, example_ids: Any, restarts: Any) -> tf.Tensor:
    """One key for each example, `[B, 1]`, from (seed, example, restart).

    `restarts` is one number, or one an example, `[B]`.
    """
    ids = tf.cast(tf.reshape(example_ids, (-1, 1)), tf.int64)
    restarts = tf.cast(tf.reshape(restarts, (-1, 1)), tf.int64)
    return fold(fold(_mix(tf.constant(seed, tf.int64)), ids), restarts)


def fold(keys: tf.Tensor, numbers: Any) -> tf.Tensor:
    """Folds a whole number, or one an example `[B, 1]`, into keys `[B, 1]`."""
    return _mix(keys + (tf.cast(numbers, tf.int64) + 1) * _GOLDEN)


def uniform(keys: tf.Tensor, shape: Sequence[Any], dtype: Any) -> tf.Tensor:
    """Uniform numbers in [0, 1) of `shape` ([B, ...]).

    `keys` is `[2]` (from `key`) for one draw over the whole batch, or `[B, 1]` (from
    `keys_of_examples`) for one draw an example.
    """
    if keys.shape.rank == 1:
        return tf.random.stateless_uniform(shape, keys, dtype=dtype)
    return tf.reshape(_upper_uniform(_bits(keys, shape), dtype), shape)


def normal(keys: tf.Tensor, shape: Sequence[Any], dtype: Any) -> tf.Tensor:
    """Standard normal numbers of `shape`; `keys` as in `uniform`."""
    if keys.shape.rank == 1:
        return tf.random.stateless_normal(shape, keys, dtype=dtype)
    bits = _bits(keys, shape)
    # Box and Muller: a radius from the upper, an angle from the lower half.
    radius = tf.sqrt(-2.0 * tf.math.log1p(-_upper_uniform(bits, dtype)))
    angle = _upper_uniform(tf.bitwise.left_shift(bits, _int64(32)), dtype)
    return tf.reshape(radius * tf.cos(2.0 * math.pi * angle), shape)


def _bits(keys: tf.Tensor, shape: Sequence[Any]) -> tf.Tensor:
    """64 random bits for each number of an example, `[B, n]`, as int64."""
    counters = tf.range(1, math.prod(shape[1:]) + 1, dtype=tf.int64)
    return _mix(keys + counters * _GOLDEN)


def _upper_uniform(bits: tf.Tensor, dtype: Any) -> tf.Tensor:
    """The upper 24 bits, which a float32 holds exactly, as a number in [0, 1)."""
    return tf.cast(_shift_right(bits, 40), dtype) * 2.0**-24


def _mix(bits: tf.Tensor) -> tf.Tensor:
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014).

    TensorFlow's own counter-based generators take one key a call, and a call an
    example costs more than a small model; this takes a key an example.
    """
    bits = (bits ^ _shift_right(bits, 30)) * _int64(0xBF58476D1CE4E5B9)
    bits = (bits ^ _shift_right(bits, 27)) * _int64(0x94D049BB133111EB)
    return bits ^ _shift_right(bits, 31)


def _shift_right(bits: tf.Tensor, count: int) -> tf.Tensor:
    """A shift that fills with zeros; int64 is what every device can compute."""
    mask = _int64((1 << (64 - count)) - 1)
    return tf.bitwise.right_shift(bits, _int64(count)) & mask


def _int64(number: int) -> int:
    """The signed number of the same 64 bits."""
    return number - (1 << 64) if number >= 1 << 63 else number


_GOLDEN = _int64(0x9E3779B97F4A7C15)
