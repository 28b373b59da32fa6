"""Passes through the encoded examples of a set, shuffled by a seed."""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_free_adv.data import keys
from keras_free_adv.datasets.sources import Source

# A training split of up to so many bytes is read once, kept as it is stored, and
# shuffled whole; a larger one is read again for each pass, and shuffled in windows.
KEPT_BYTES = 2**30
SHUFFLE_WINDOW = 10_000

# Maps the number of a pass, and i, to the pass from its i-th minibatch on.
Passes = Callable[[Any, Any], tf.data.Dataset]


def encoded_passes(
    source: Source, batch_size: int, drop_remainder: bool, seed: int | None
) -> Passes:
    """Makes passes of encoded minibatches, shuffled if there is a seed.

    The order follows from the seed and the number of the pass. `Dataset.shuffle` is no
    use here: it takes no seed that is only known in the graph.
    """

    def batched(examples: tf.data.Dataset, within: Any) -> tf.data.Dataset:
        # Skipped before anything is decoded.
        return examples.batch(batch_size, drop_remainder=drop_remainder).skip(within)

    def permutation(length: Any, number: Any, window: Any) -> Any:
        key = keys.key(keys.SHUFFLE, seed, number, window)
        return tf.random.experimental.stateless_shuffle(tf.range(length), key)

    @functools.cache
    def all_examples() -> tuple[Any, ...]:
        with tf.init_scope(), tf.device("CPU:0"):
            return next(iter(source.examples.batch(source.size)))

    def in_order(number: Any, within: Any) -> tf.data.Dataset:
        return batched(source.examples, within)

    def shuffled_whole(number: Any, within: Any) -> tf.data.Dataset:
        parts = all_examples()
        order = tf.data.Dataset.from_tensor_slices(permutation(source.size, number, 0))
        return batched(order, within).map(
            lambda chunk: tuple(tf.gather(part, chunk) for part in parts)
        )

    def shuffled_in_windows(number: Any, within: Any) -> tf.data.Dataset:
        def one_window(window: Any, parts: Any) -> tf.data.Dataset:
            order = permutation(tf.shape(parts[1])[0], number, window)
            return tf.data.Dataset.from_tensor_slices(
                tuple(tf.gather(part, order) for part in parts)
            )

        windows = source.examples.batch(SHUFFLE_WINDOW).enumerate()
        return batched(windows.flat_map(one_window), within)

    if seed is None:
        return in_order
    return shuffled_whole if source.stored_bytes <= KEPT_BYTES else shuffled_in_windows
