"""Arrays and tensors, as minibatches that follow from (seed, number) alone."""

from typing import Any

import numpy as np
import tensorflow as tf
from keras import tree

from keras_free_adv.data import keys
from keras_free_adv.data.minibatches import Minibatches
from keras_free_adv.data.passes import endless_passes


def as_arrays(data: Any) -> Any:
    """Returns a structure of array-likes as NumPy arrays, its lists as tuples."""

    def to_array(leaf: Any) -> np.ndarray:
        try:
            array = np.asarray(leaf)
        except (TypeError, ValueError) as error:
            raise _not_an_array(leaf) from error
        if array.ndim == 0:
            raise _not_an_array(leaf)
        return array

    return tree.map_structure(to_array, tree.lists_to_tuples(data), none_is_leaf=False)


def split_arrays(data: tuple[Any, ...], share: float) -> tuple[Any, Any]:
    """Splits off the last `share` of the examples, as Keras' validation_split does."""
    data = as_arrays(data)
    size = _common_length(data)
    at = int(size * (1.0 - share))
    if at in (0, size):
        raise ValueError(
            "Argument `validation_split` must leave examples on both sides. Received: "
            f"validation_split={share} with {size} examples."
        )
    first = tree.map_structure(lambda a: a[:at], data, none_is_leaf=False)
    last = tree.map_structure(lambda a: a[at:], data, none_is_leaf=False)
    return first, last


def from_arrays(
    data: tuple[Any, ...],
    *,
    batch_size: int | None,
    steps_per_epoch: int | None,
    shuffle: bool | str,
) -> Minibatches:
    """Draws one permutation for each pass, from (seed, pass)."""
    data = as_arrays(data)
    size = _common_length(data)
    if batch_size is None:
        batch_size = -(-size // steps_per_epoch) if steps_per_epoch else 32
    batch_size = min(batch_size, size)
    count = -(-size // batch_size)
    # Converted here, not in the stream: a graph holds them by reference, however large.
    with tf.device("CPU:0"):
        tensors = tree.map_structure(tf.convert_to_tensor, data, none_is_leaf=False)

    def stream(seed: Any, first: Any) -> tf.data.Dataset:
        def indices_of(number: Any, order: Any, i: Any) -> Any:
            chosen = order[i * batch_size : tf.minimum((i + 1) * batch_size, size)]
            if shuffle != "batch":
                return chosen
            order_key = keys.key(keys.SHUFFLE, seed, number, i)
            return tf.random.experimental.stateless_shuffle(chosen, order_key)

        def one_pass(number: Any, within: Any) -> tf.data.Dataset:
            order = tf.range(size, dtype=tf.int64)
            if shuffle and shuffle != "batch":
                order_key = keys.key(keys.SHUFFLE, seed, number)
                order = tf.random.experimental.stateless_shuffle(order, order_key)
            steps = tf.data.Dataset.range(within, count)
            return steps.map(lambda i: indices_of(number, order, i))

        def gather(indices: Any) -> Any:
            return tree.map_structure(
                lambda t: tf.gather(t, indices), tensors, none_is_leaf=False
            )

        return endless_passes(one_pass, count, first).map(
            gather, num_parallel_calls=tf.data.AUTOTUNE
        )

    return Minibatches(count, batch_size, stream, data)


def _common_length(data: tuple[Any, ...]) -> int:
    sizes = {len(a) for a in tree.flatten(data) if a is not None}
    if len(sizes) != 1:
        shapes = tree.map_structure(lambda a: a.shape, data, none_is_leaf=False)
        raise ValueError(
            "Arguments `x`, `y` and `sample_weight` must hold the same number of "
            f"examples. Received shapes: {shapes}."
        )
    size = sizes.pop()
    if size == 0:
        raise ValueError("Argument `x` is empty. Pass at least one example.")
    return size


def _not_an_array(leaf: Any) -> TypeError:
    return TypeError(
        "Arguments `x` and `y` must be arrays, tensors, a tf.data.Dataset or a "
        f"keras.utils.PyDataset. Received: {type(leaf).__name__}."
    )
